"""What `prune` may delete."""

from collections.abc import Mapping, Sequence

from flows.policy.champions import REFERENCE

KEEP_CHAMPIONS = REFERENCE + 1
"""Number of most recent champions that are not pruned: the gate compares with the oldest of them."""


def versions_to_delete(
    written: Mapping[str, float],
    champions: Sequence[str],
    members: Mapping[str, Sequence[str]],
    *,
    keep: int,
    keep_champions: int,
    before: float,
) -> list[str]:
    """Choose the versions that may be deleted, the oldest first.

    Kept are the last champions, the last versions, everything younger than `before`, and each member that one
    of these names.

    Args:
        written: when each version was written, seconds since the epoch.
        champions: the last champions, the latest first.
        members: the members of each version that is an ensemble.
        keep: number of most recent versions to keep.
        keep_champions: number of most recent champions to keep.
        before: what was written at this time or later is kept.
    """
    by_time = sorted(written, key=lambda name: (written[name], name))
    kept = set(champions[:keep_champions]) | set(by_time[-keep:])
    kept |= {name for name, time in written.items() if time >= before}
    kept |= {member for name in kept for member in members.get(name, ())}
    return [name for name in by_time if name not in kept]


def objects_to_delete(written: Mapping[str, float], named: set[str], *, before: float) -> list[str]:
    """Choose the objects, by digest, that are older than `before` and that no version names."""
    return [digest for digest, time in written.items() if time < before and digest not in named]
