"""The versions of a namespace: list them, roll the champion back, prune old ones.

Needs no Prefect, and is safe while a run is under way: it writes the next entry of a numbered list, and
deletes only what no run can need.
"""

from enum import StrEnum

import flows.prune
from flows.ops.status import VersionSummary, open_registry, summarise
from flows.records import Demotion, PruneResult, Record
from flows.settings import Settings, SettingsError


class Role(StrEnum):
    """What a version is or was."""

    CHAMPION = "champion"
    FORMER = "was champion"
    DEMOTED = "demoted"
    NONE = ""


class VersionRow(VersionSummary):
    """A version, with the number of its submission."""

    submission: int | None = None
    role: Role


class VersionList(Record):
    """All versions of a namespace, the oldest night first."""

    namespace: str
    versions: list[VersionRow]


class Rollback(Record):
    """The champion after a rollback, and the entry's reason."""

    namespace: str
    champion: VersionSummary
    reason: str


class Pruned(PruneResult):
    """How many versions, and objects that no version uses, were deleted in a namespace."""

    namespace: str


def versions(settings: Settings) -> VersionList:
    """Return all versions with their scores and roles."""
    registry = open_registry(settings)
    _, champion = registry.champion()
    demoted = registry.demotions()
    rows = []
    for name in registry.versions():
        submission = registry.submission(name)
        if name == champion:
            role = Role.CHAMPION
        elif name in demoted:
            role = Role.DEMOTED
        else:
            role = Role.FORMER if registry.was_champion(name) else Role.NONE
        summary = dict(summarise(registry, name))
        rows.append(VersionRow(**summary, submission=submission.ref if submission else None, role=role))
    return VersionList(namespace=registry.namespace, versions=rows)


def rollback(settings: Settings) -> Rollback:
    """Demote the champion permanently and promote the one before it; submit nothing.

    Raises:
        SettingsError: there is no champion before this one.
    """
    registry = open_registry(settings)
    while True:
        number, champion = registry.champion()
        before = registry.fallback()
        if champion is None or before is None:
            raise SettingsError(
                f"there is no champion before {champion}" if champion else "there is no champion",
                "the next nightly run may promote another version",
            )
        reason = f"rolled back manually: {champion} is demoted and never promoted again"
        if registry.promote(before, number, reason, demoted=champion, cause=Demotion.ROLLBACK):
            return Rollback(namespace=registry.namespace, champion=summarise(registry, before), reason=reason)


def prune(settings: Settings, keep: int) -> Pruned:
    """Delete old versions and the objects that no version uses; `flows.policy.retention` says which stay."""
    registry = open_registry(settings)
    return Pruned(namespace=registry.namespace, **dict(flows.prune.prune(registry, keep)))
