"""What the list of champions says: who was demoted, and which champion came before another."""

from collections.abc import Callable, Sequence

from flows.records import ChampionEntry


def demotions(entries: Sequence[ChampionEntry]) -> dict[str, ChampionEntry]:
    """Return the entry that demoted each version which lost champion status permanently."""
    return {entry.demoted: entry for entry in entries if entry.demoted is not None}


def was_champion(entries: Sequence[ChampionEntry], version: str) -> bool:
    """Return whether a version is or was champion."""
    return any(entry.version == version for entry in entries)


def champions_before(entries: Sequence[ChampionEntry], version: str) -> list[str]:
    """Return the champions before a version first became champion, the latest first, without demoted ones."""
    versions = [entry.version for entry in entries]
    if version not in versions:
        return []
    gone = demotions(entries)
    return [name for name in reversed(versions[: versions.index(version)]) if name not in gone]


def fallback(entries: Sequence[ChampionEntry], exists: Callable[[str], bool]) -> str | None:
    """Return the champion that a rollback goes back to; None if there is none.

    Args:
        entries: all champions, the first one first.
        exists: whether a version is still in the store.
    """
    if not entries:
        return None
    return next(filter(exists, champions_before(entries, entries[-1].version)), None)
