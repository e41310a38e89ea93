"""An ensemble grows night by night: the champion's members and tonight's, assembled and published."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows import held_out
from flows.held_out import HeldOut
from flows.policy.growth import Growth, combine, grow, member_number
from flows.publish import publish
from flows.records import RunKey, VersionEntry
from flows.run import RunContext
from flows.scratch import scratch_folder
from flows.store.lists import DamagedObjectError
from mnist_core.errors import MnistError
from mnist_core.manifest import MANIFEST, WEIGHTS
from mnist_core.models.base import find

if TYPE_CHECKING:
    from mnist_core.models.network import Network

log = logging.getLogger("mnist")


class MissingMemberError(MnistError):
    """A member that this night trained is not in the store any more."""

    retryable = True


def trained_keys(run: RunKey) -> list[RunKey]:
    """Return what is trained for a run: its own key, or those of the night's members of an ensemble."""
    count = find(run.model).members(run.preset)
    if not count or run.member is not None:
        return [run]
    return [run.with_member(number) for number in range(1, count + 1)]


def number_of(run: RunContext) -> int | None:
    """Return which member of the champion's ensemble a run trains, from 0; None for a single network."""
    if run.key.member is None:
        return None
    return member_number(
        run.key.member,
        run.key.night,
        size=len(run.registry.members_of(run.registry.champion()[1])),
        limit=run.settings.members,
        per_night=find(run.key.model).members(run.key.preset),
    )


@task(name="assemble", cache_policy=NO_CACHE, persist_result=False)
def assemble(run: RunContext, champion: str | None) -> str:
    """Assemble tonight's members with the champion's, and publish the ensemble.

    What this run assembled already on the same champion, or became champion with, is reused. A member that
    cannot be read any more does not keep the others from predicting: the gate decides on the whole.

    Args:
        run: whose members are published.
        champion: the version to grow; from a single network, or from None, an ensemble starts from scratch.

    Returns:
        The version's name.
    """
    registry = run.registry
    last = registry.assembled(run.key)
    made = None if last is None else registry.version(last)
    if made is not None and (made.base == champion or registry.was_champion(made.version)):
        return made.version
    tonight = _members_of_night(run)
    growth, members = _grow(run, registry.members_of(champion), tonight)
    for note in growth.notes:
        log.info("%s", note)
    facts = {
        "members": list(growth.members),
        "base": champion,
        "seconds": {
            step: round(sum(entry.seconds[step] for entry in tonight), 3) for step in ("read", "train")
        },
    }
    return _publish(run, members, facts)


@dataclass(frozen=True, eq=False)
class _Member:
    """A member that could be read: its held-out predictions and its network."""

    held_out: HeldOut
    net: "Network"


def _grow(
    run: RunContext, before: Sequence[str], tonight: Sequence[VersionEntry]
) -> tuple[Growth, list[_Member]]:
    """Choose the members and read them; one that is missing or damaged in the store is left out.

    Raises:
        DamagedObjectError: none is left.
    """
    entries = {name: entry for name in before if (entry := run.registry.version(name)) is not None}
    for name in set(before) - set(entries):
        log.warning("member %s is left out of the ensemble: it is not in the store any more", name)
    entries |= {entry.version: entry for entry in tonight}
    new = [entry.version for entry in tonight]
    folds = {name: entry.fold for name, entry in entries.items()}
    read: dict[str, _Member] = {}
    while True:
        growth = grow([name for name in before if name in entries], new, folds, run.settings.members)
        unread = next((name for name in growth.members if name not in read), None)
        if unread is None:
            return growth, [read[name] for name in growth.members]
        try:
            read[unread] = _read(run, entries[unread])
        except DamagedObjectError as error:
            log.warning("member %s is left out of the ensemble: %s", unread, error.problem)
            del entries[unread]
            new = [name for name in new if name != unread]
            if not entries:
                raise


def _read(run: RunContext, version: VersionEntry) -> _Member:
    from mnist_core import load

    read = HeldOut.from_bytes(run.registry.read(version, held_out.FILE))
    with scratch_folder(run.settings.home) as scratch:
        for name in (MANIFEST, WEIGHTS):
            (scratch / name).write_bytes(run.registry.read(version, name))
        return _Member(read, load(scratch)[0])


def _members_of_night(run: RunContext) -> list[VersionEntry]:
    """Return the members that this run trained.

    Raises:
        MissingMemberError: one is not in the store any more.
    """
    names = [run.registry.version_of(key) for key in trained_keys(run.key)]
    entries = [None if name is None else run.registry.version(name) for name in names]
    found = [entry for entry in entries if entry is not None]
    if len(found) < len(names):
        raise MissingMemberError(
            f"a member that night {run.key.night} trained was pruned from the store", "run this again"
        )
    return found


def _publish(run: RunContext, members: list[_Member], facts: Mapping[str, object]) -> str:
    """Publish the ensemble of these members.

    The temperature is fitted to the mean of the members that held a row out; the mean of all members is a
    little less sure.
    """
    import numpy as np

    from mnist_core import calibrate, read_train
    from mnist_core.models.ensemble.net import Ensemble

    together, agreement = combine([member.held_out for member in members])
    temperature = calibrate(together.probabilities, together.labels, run.data.spec)
    scaled = together.probabilities.astype(np.float64) ** (1 / temperature)
    calibrated = replace(together, probabilities=(scaled / scaled.sum(1, keepdims=True)).astype(np.float32))
    net = Ensemble([member.net for member in members], temperature)
    digits = read_train(run.data.train_csv, run.data.spec, rows=run.data.spec.train_rows)
    pixels = digits.pixels[together.rows]
    return publish(run, net, calibrated, pixels, {**facts, "agreement": agreement}, learner=False)
