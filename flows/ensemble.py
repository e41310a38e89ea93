"""An ensemble grows night by night: the champion's members and tonight's, assembled and published."""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.held_out import HeldOut
from flows.policy.growth import combine, grow, member_number
from flows.publish import publish
from flows.records import RunKey
from flows.run import RunContext
from mnist_core.errors import MnistError
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

    What this run assembled already on the same champion, or became champion with, is reused.

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
    before = registry.members_of(champion)
    held_out = {name: registry.held_out(name) for name in dict.fromkeys([*before, *tonight])}
    growth = grow(before, tonight, held_out, run.settings.members)
    for note in growth.notes:
        log.info("%s", note)
    seconds = [registry.need_version(name).seconds for name in tonight]
    facts = {
        "members": list(growth.members),
        "base": champion,
        "seconds": {step: round(sum(each[step] for each in seconds), 3) for step in ("read", "train")},
    }
    return _publish(run, growth.members, [held_out[name] for name in growth.members], facts)


def _members_of_night(run: RunContext) -> list[str]:
    """Return the versions of the members that this run trained.

    Raises:
        MissingMemberError: one is not in the store any more.
    """
    versions = [run.registry.version_of(key) for key in trained_keys(run.key)]
    found = [version for version in versions if version is not None]
    if len(found) < len(versions):
        raise MissingMemberError(
            f"a member that night {run.key.night} trained was pruned from the store", "run this again"
        )
    return found


def _publish(
    run: RunContext, members: tuple[str, ...], held_out: list[HeldOut], facts: Mapping[str, object]
) -> str:
    """Publish the ensemble of these members.

    The temperature is fitted to the mean of the members that held a row out; the mean of all members is a
    little less sure.
    """
    import numpy as np

    from mnist_core import calibrate, read_train
    from mnist_core.models.ensemble.net import Ensemble

    together, agreement = combine(held_out)
    temperature = calibrate(together.probabilities, together.labels, run.data.spec)
    scaled = together.probabilities.astype(np.float64) ** (1 / temperature)
    calibrated = replace(together, probabilities=(scaled / scaled.sum(1, keepdims=True)).astype(np.float32))
    net = Ensemble([_load(run, name) for name in members], temperature)
    digits = read_train(run.data.train_csv, run.data.spec, rows=run.data.spec.train_rows)
    pixels = digits.pixels[together.rows]
    return publish(run, net, calibrated, pixels, {**facts, "agreement": agreement}, learner=False)


def _load(run: RunContext, version: str) -> "Network":
    from mnist_core import load

    with tempfile.TemporaryDirectory() as scratch:
        run.registry.fetch(version, Path(scratch), "manifest.json", "weights.safetensors")
        return load(Path(scratch))[0]
