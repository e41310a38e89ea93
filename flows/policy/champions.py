"""The list of champions: what an entry says, so that its reader needs no other one."""

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet

from flows.records import ChampionEntry, Demotion

KEPT = 64
"""Former champions that an entry names."""
REFERENCE = 30
"""Promotions after which a champion is no longer the one that a challenger is compared with, for drift."""


def following_entry(
    last: ChampionEntry | None,
    number: int,
    *,
    version: str | None,
    reason: str,
    at: str,
    demoted: str | None = None,
    cause: Demotion | None = None,
    chosen: bool = False,
    checked: Iterable[str] = (),
) -> ChampionEntry:
    """Return the entry that follows the last one.

    Args:
        last: the entry before it; None if there is none.
        number: its own.
        version: the champion from here on; None if there is none.
        reason: why, for people.
        at: when, UTC, ISO 8601.
        demoted: the version that loses champion status with it, permanently.
        cause: why it does.
        chosen: whether a person chose the version, against or without the gate.
        checked: the versions whose public score was compared already.
    """
    before = [] if last is None else recent(last)
    if last is not None and demoted == last.version and version in before:
        before = before[before.index(version) + 1 :]  # what stood between them cannot be gone back to either
    gone = {} if last is None else dict(last.demotions)
    gone.pop(version or "", None)
    if demoted is not None:
        gone[demoted] = number
    away = {version, *gone}
    return ChampionEntry(
        version=version,
        reason=reason,
        at=at,
        demoted=demoted,
        cause=cause,
        before=_without(before, away)[:KEPT],
        demotions=gone,
        unchecked=_without(unchecked(last), away | set(checked))[:KEPT],
        chosen=version if chosen else None if last is None else last.chosen,
    )


def _without(names: Iterable[str], away: AbstractSet[str | None]) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys(names) if name not in away)


def recent(entry: ChampionEntry) -> list[str]:
    """Return the champion and those before it, the latest first, without demoted ones."""
    return [*([] if entry.version is None else [entry.version]), *entry.before]


def was_champion(entry: ChampionEntry | None, version: str) -> bool:
    """Return whether a version is champion, or was among the last ones, or was demoted."""
    return entry is not None and (version in recent(entry) or version in entry.demotions)


def champions_before(entry: ChampionEntry | None, version: str) -> list[str]:
    """Return the champions before a version became champion, the latest first, without demoted ones."""
    names = [] if entry is None else recent(entry)
    return names[names.index(version) + 1 :] if version in names else []


def fallback(entry: ChampionEntry | None, exists: Callable[[str], bool]) -> str | None:
    """Return the champion that a rollback goes back to; None if there is none.

    Args:
        entry: the list's last one; None if it is empty.
        exists: whether a version is still in the store.
    """
    return None if entry is None else next(filter(exists, entry.before), None)


def unchecked(entry: ChampionEntry | None) -> list[str]:
    """Return the champions whose public score is to be compared: the current one, and older ones."""
    if entry is None:
        return []
    return [*([] if entry.version is None else [entry.version]), *entry.unchecked]


def references(entry: ChampionEntry | None) -> Iterator[str]:
    """Yield the champions that show a drift: the one of 30 promotions ago, then the later ones.

    While there were fewer promotions it is the first champion. What was champion before a version that a
    person chose is not used: that person decided on another level. Nor is the best one: a maximum that was
    selected rejects many challengers that are as good as the others.
    """
    if entry is None:
        return
    names = recent(entry)[: REFERENCE + 1]
    if entry.chosen in names:
        names = names[: names.index(entry.chosen) + 1]
    yield from reversed(names[1:])
