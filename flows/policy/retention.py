"""What `prune` may delete."""

from collections.abc import Mapping, Sequence

from flows.records import ChampionEntry

KEEP_CHAMPIONS = 30
"""Number of most recent champions that are not pruned."""


def versions_to_delete(
    written: Mapping[str, float],
    champions: Sequence[ChampionEntry],
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
        champions: all champions, the first one first.
        members: the members of each version that is an ensemble.
        keep: number of most recent versions to keep.
        keep_champions: number of most recent champions to keep.
        before: what was written at this time or later is kept.
    """
    by_time = sorted(written, key=lambda name: (written[name], name))
    kept = recent_champions(champions, keep_champions) | set(by_time[-keep:])
    kept |= {name for name, time in written.items() if time >= before}
    kept |= {member for name in kept for member in members.get(name, ())}
    return [name for name in by_time if name not in kept]


def recent_champions(champions: Sequence[ChampionEntry], keep: int) -> set[str]:
    """Return the versions that the last champions are."""
    return {entry.version for entry in champions[-keep:]}


def objects_to_delete(written: Mapping[str, float], named: set[str], *, before: float) -> list[str]:
    """Choose the objects, by digest, that are older than `before` and that no version names."""
    return [digest for digest, time in written.items() if time < before and digest not in named]
