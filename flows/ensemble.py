"""An ensemble grows night by night: the champion's members and tonight's, put together and published."""

import logging
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.held_out import HeldOut
from flows.kaggle.download import Data
from flows.publish import publish
from flows.records import RunKey
from flows.registry import Registry
from mnist_core.errors import MnistError

log = logging.getLogger("mnist")
FOLDS = 5


class MissingMemberError(MnistError):
    """A member of tonight is not in the store any more."""

    retryable = True


def parts(run: RunKey) -> list[RunKey]:
    """What is trained for a night: the run itself, or each of tonight's members of an ensemble."""
    if run.model != "ensemble" or run.member is not None:
        return [run]
    from mnist_core.models import ensemble

    count = ensemble.PRESETS[run.preset].members
    return [run.with_member(number) for number in range(1, count + 1)]


def number_of(run: RunKey, registry: Registry, limit: int) -> int | None:
    """Which member of an ensemble this is, from 0; None of a single network.

    The number tells the fold that it leaves out, the remainder by `FOLDS`, and its recipe
    (`ensemble.member`). Members are numbered on from the champion's. An ensemble that is full grows no more,
    so there the night's date goes on counting: every fold has its turn to be replaced.
    """
    if run.member is None:
        return None
    before = len(registry.members_of(registry.champion()[1]))
    if before >= limit:
        before = date.fromisoformat(run.night).toordinal() * len(
            parts(run.model_copy(update={"member": None}))
        )
    return before + run.member - 1


@task(name="assemble", cache_policy=NO_CACHE, persist_result=False)
def assemble(run: RunKey, champion: str | None, data: Data, registry: Registry, limit: int) -> str:
    """Put tonight's members together with the champion's, and publish the ensemble.

    The temperature is fitted to what held-out rows get: the mean of the members that left them out. The mean
    of all is a little less sure.

    What these members made already on this champion, or became champion with, is adopted.

    Args:
        run: the night's, whose members are published.
        champion: the version to grow; where it is a single network, or None, tonight's members begin anew.
        limit: most members.

    Returns:
        The version's name.
    """
    last = registry.assembled(run)
    made = None if last is None else registry.version(last)
    if last is not None and made is not None and (made.base == champion or registry.was_champion(last)):
        return last
    before = list(registry.members_of(champion))
    tonight = [name for part in parts(run) if (name := registry.version_of(part)) is not None]
    if len(tonight) < len(parts(run)):
        raise MissingMemberError(
            f"a member of night {run.night} is gone from the store, pruned; run it again"
        )
    held_out = {name: registry.held_out(name) for name in dict.fromkeys([*before, *tonight])}
    members = grow(before, tonight, held_out, limit)
    return _publish(run, champion, members, tonight, held_out, data, registry)


def grow(before: list[str], tonight: list[str], held_out: dict[str, HeldOut], limit: int) -> list[str]:
    """Choose the members: tonight's come on top of those before, up to the limit.

    Beyond it a new one takes the place of the one of its own fold without which the ensemble makes fewest
    errors on that fold's rows, and only where they are not more than with the old one.
    """
    members = list(before)
    for name in tonight:
        if name in members:
            continue
        if len(members) < limit:
            members.append(name)
            continue
        rows = set(held_out[name].rows.tolist())
        fold = [old for old in members if set(held_out[old].rows.tolist()) == rows]
        if not fold:
            log.info("%s stays out: no member of the full ensemble left out its fold", name)
            continue
        least, old = min((_errors([*(set(fold) - {old}), name], held_out), old) for old in fold)
        errors = _errors(fold, held_out)
        if least <= errors:
            log.info("%s takes the place of %s: %d errors on its fold, not %d", name, old, least, errors)
            members[members.index(old)] = name
        else:
            log.info("%s stays out: %d errors on its fold instead of %d", name, least, errors)
    return members


def _errors(fold: list[str], held_out: dict[str, HeldOut]) -> int:
    """The errors that members of one fold make together on its rows."""
    together = combine([held_out[name] for name in sorted(fold)])[0]
    return int((together.probabilities.argmax(1) != together.labels).sum())


def combine(members: list[HeldOut]) -> tuple[HeldOut, float | None]:
    """What an ensemble says of each row, by the members that left it out.

    Returns:
        The rows that at least one member left out, and of those that two or more did, the part on which
        these agree; None where there is no such row.
    """
    import numpy as np

    size = max(int(member.rows.max()) for member in members) + 1
    sums, counts = np.zeros((size, 10)), np.zeros(size, np.int64)
    labels, votes = np.zeros(size, np.int64), np.zeros((size, 10), np.int64)
    for member in members:
        sums[member.rows] += member.probabilities
        counts[member.rows] += 1
        labels[member.rows] = member.labels
        votes[member.rows, member.probabilities.argmax(1)] += 1
    rows = np.flatnonzero(counts)
    several = counts > 1
    agreement = float((votes.max(1) == counts)[several].mean()) if several.any() else None
    probabilities = (sums[rows] / counts[rows, None]).astype(np.float32)
    return HeldOut(rows, labels[rows], probabilities), agreement


def _publish(
    run: RunKey,
    champion: str | None,
    members: list[str],
    tonight: list[str],
    held_out: dict[str, HeldOut],
    data: Data,
    registry: Registry,
) -> str:
    import numpy as np

    from mnist_core import calibrate, load, read_train
    from mnist_core.models.ensemble.net import Ensemble

    together, agreement = combine([held_out[name] for name in members])
    temperature = calibrate(together.probabilities, together.labels)
    scaled = together.probabilities.astype(np.float64) ** (1 / temperature)
    calibrated = replace(together, probabilities=(scaled / scaled.sum(1, keepdims=True)).astype(np.float32))
    nets = []
    for name in members:
        with tempfile.TemporaryDirectory() as scratch:
            registry.fetch(name, Path(scratch), "manifest.json", "weights.safetensors")
            nets.append(load(Path(scratch))[0])
    spent = [registry.need_version(name).seconds for name in tonight]
    facts = {
        "members": members,
        "base": champion,
        "agreement": agreement,
        "data_digest": data.digest,
        "preset": run.preset,
        "seconds": {step: round(sum(each[step] for each in spent), 3) for step in ("read", "train")},
    }
    pixels = read_train(data.train_csv, rows=data.spec.train_rows).pixels[together.rows]
    return publish(Ensemble(nets, temperature), calibrated, pixels, run, registry, facts, learner=False)
