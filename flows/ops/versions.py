"""The versions of a namespace: list them, choose another champion, prune old ones.

Needs no Prefect, and is safe while a run is under way: it writes the next entry of a numbered list, and
deletes only what no run can need.
"""

from collections.abc import Sequence
from enum import StrEnum

import flows.prune
from flows.ops.status import VersionSummary, open_registry, summarise
from flows.parameters import find_version
from flows.records import ChampionEntry, Demotion, PruneResult, Record
from flows.registry import Registry
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


class ChampionChange(Record):
    """The champion that a person chose, and the entry's reason."""

    namespace: str
    champion: VersionSummary
    reason: str


class RollbackPlan(Record):
    """What a rollback does.

    Attributes:
        demotes: the champion, permanently.
        promotes: the champion before it.
        note: what follows, for people.
    """

    namespace: str
    demotes: VersionSummary
    promotes: VersionSummary
    note: str


class PrunePlan(Record):
    """What `prune` deletes.

    Attributes:
        keep: number of latest versions that stay.
        versions_to_delete: the oldest first.
        objects_to_delete: number of objects that no other version names.
    """

    namespace: str
    keep: int
    versions_to_delete: list[str]
    objects_to_delete: int


class Pruned(PruneResult):
    """How many versions, and objects that no version uses, were deleted in a namespace."""

    namespace: str


def versions(settings: Settings) -> VersionList:
    """Return all versions with their scores and roles."""
    registry = open_registry(settings)
    entries = registry.champions()
    rows = []
    for name in registry.versions():
        submission = registry.submission(name)
        rows.append(
            VersionRow(
                **dict(summarise(registry, name)),
                submission=submission.ref if submission else None,
                role=_role(entries, name),
            )
        )
    return VersionList(namespace=registry.namespace, versions=rows)


def _role(entries: Sequence[ChampionEntry], version: str) -> Role:
    if not entries:
        return Role.NONE
    if version == entries[-1].version:
        return Role.CHAMPION
    if version in entries[-1].demotions:
        return Role.DEMOTED
    # All entries are read: the last one names only the latest champions.
    return Role.FORMER if any(entry.version == version for entry in entries) else Role.NONE


def plan_rollback(settings: Settings) -> RollbackPlan:
    """Return what a rollback would do; change nothing.

    Raises:
        SettingsError: there is no champion before this one.
    """
    registry = open_registry(settings)
    _, champion, before = _champion_and_the_one_before(registry)
    return RollbackPlan(
        namespace=registry.namespace,
        demotes=summarise(registry, champion),
        promotes=summarise(registry, before),
        note=f"nothing is submitted; no night promotes {champion} again, only "
        f"`python -m flows promote --version {champion}` does",
    )


def rollback(settings: Settings, expected: str | None = None) -> ChampionChange:
    """Demote the champion permanently and promote the one before it; submit nothing.

    Args:
        settings: of the store.
        expected: the champion that a person agreed to demote; None: whoever it is.

    Raises:
        SettingsError: there is no champion before this one, or another one than expected.
    """
    registry = open_registry(settings)
    while True:
        number, champion, before = _champion_and_the_one_before(registry)
        if expected is not None and champion != expected:
            raise SettingsError(
                f"the champion is {champion} now, and no longer {expected}; nothing was changed",
                "look at `python -m flows status`, then run this again",
            )
        reason = (
            f"rolled back manually: {champion} is demoted and not promoted again, except by "
            f"`python -m flows promote --version {champion}`"
        )
        if registry.promote(before, number, reason, demoted=champion, cause=Demotion.ROLLBACK):
            return ChampionChange(
                namespace=registry.namespace, champion=summarise(registry, before), reason=reason
            )


def _champion_and_the_one_before(registry: Registry) -> tuple[int, str, str]:
    """Return the champion's number, the champion, and the one that a rollback goes back to.

    Raises:
        SettingsError: one of the two does not exist.
    """
    number, champion = registry.champion()
    before = registry.fallback()
    if champion is None or before is None:
        raise SettingsError(
            f"there is no champion before {champion}" if champion else "there is no champion",
            "the next nightly run may promote another version",
        )
    return number, champion, before


def promote(settings: Settings, version: str) -> ChampionChange:
    """Make a version champion that a person chose, such as one that was rolled back; submit nothing.

    Raises:
        SettingsError: there is no such version, it is champion already, or the alarm demoted it.
    """
    registry = open_registry(settings)
    find_version(registry, version)
    while True:
        number, champion = registry.champion()
        if champion == version:
            raise SettingsError(f"--version {version}: it is the champion already")
        demotion = registry.demotion(version)
        if demotion is not None and demotion.cause is Demotion.ALARM:
            raise SettingsError(
                f"--version {version}: the alarm demoted it: {demotion.reason}",
                "its score would raise the alarm again; promote another version",
            )
        reason = f"promoted manually instead of {champion}" if champion else "promoted manually"
        if registry.promote(version, number, reason, chosen=True):
            return ChampionChange(
                namespace=registry.namespace, champion=summarise(registry, version), reason=reason
            )


def plan_prune(settings: Settings, keep: int) -> PrunePlan:
    """Return what `prune` would delete; delete nothing."""
    registry = open_registry(settings)
    versions, objects = flows.prune.preview(registry, keep)
    return PrunePlan(
        namespace=registry.namespace, keep=keep, versions_to_delete=versions, objects_to_delete=objects
    )


def prune(settings: Settings, keep: int) -> Pruned:
    """Delete old versions and the objects that no version uses; `flows.policy.retention` says which stay."""
    registry = open_registry(settings)
    return Pruned(namespace=registry.namespace, **dict(flows.prune.prune(registry, keep)))
