"""Delete old versions of a namespace, and objects that no version of the store names."""

import logging
import re
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from flows.nights import ENTRY, Nights
from flows.ownership import claim_store
from flows.policy import retention
from flows.policy.champions import recent
from flows.records import PredictionsEntry, PruneResult, RecordError, VersionEntry
from flows.registry import Registry
from flows.store.base import Store, StoreError
from flows.store.lists import get_record, names_of
from flows.trials import delete_old_logs

log = logging.getLogger("mnist")
DIGEST = re.compile(r"[0-9a-f]{64}")
PRUNE_AGE_S = 24 * 3600.0
"""What is younger is not pruned: a run that is not finished may need it."""


@dataclass(frozen=True)
class _Old:
    """What is old enough to be deleted.

    Attributes:
        versions: those that `flows.policy.retention` gives up, the oldest first.
        objects: when each object was written, by digest; also those that versions name.
        before: what was written at this time or later is kept.
    """

    versions: list[str]
    objects: dict[str, float]
    before: float


def _find_old(registry: Registry, keep: int, keep_champions: int, min_age_s: float) -> _Old:
    claim_store(registry.store)
    before = registry.store.now() - min_age_s
    # Listed before the versions: what is written later is not among them.
    objects = names_of(registry.store, "objects/", DIGEST)
    written = registry.versions_written()
    versions = {name: registry.version(name) for name in written}
    members = {name: entry.members for name, entry in versions.items() if entry is not None}
    old = retention.versions_to_delete(
        written, _recent(registry), members, keep=keep, keep_champions=keep_champions, before=before
    )
    return _Old(old, objects, before)


def preview(
    registry: Registry, keep: int, *, keep_champions: int = retention.KEEP_CHAMPIONS
) -> tuple[list[str], int]:
    """Return the versions that `prune` would delete, the oldest first, and the number of objects."""
    old = _find_old(registry, keep, keep_champions, PRUNE_AGE_S)
    going = {
        f"{registry.namespace}/{kind}/{name}.json"
        for kind in ("versions", "predictions")
        for name in old.versions
    }
    named = _objects_named(registry.store, going)
    return old.versions, len(retention.objects_to_delete(old.objects, named, before=old.before))


def prune(
    registry: Registry,
    keep: int,
    *,
    keep_champions: int = retention.KEEP_CHAMPIONS,
    min_age_s: float = PRUNE_AGE_S,
) -> PruneResult:
    """Delete what `flows.policy.retention` allows; safe while a run is under way: what that makes is young.

    How nights ended, champions, submissions and scores stay.

    Args:
        registry: of the namespace whose versions are pruned; objects are shared by all namespaces.
        keep: number of most recent versions to keep.
        keep_champions: number of most recent champions to keep.
        min_age_s: what is younger is kept.

    Raises:
        StoreError: the store holds files of others, and was not marked as ours before.
    """
    old = _find_old(registry, keep, keep_champions, min_age_s)
    deleted = [name for name in old.versions if _delete_version(registry, name, keep_champions)]
    unnamed = retention.objects_to_delete(old.objects, _objects_named(registry.store), before=old.before)
    count = sum(registry.store.delete(f"objects/{digest}", old.before) for digest in unnamed)
    Nights(registry.store, registry.namespace).delete_old()
    delete_old_logs(registry)
    registry.store.delete_partials(old.before)
    return PruneResult(versions=len(deleted), objects=count)


def prune_after_night(registry: Registry, keep: int) -> None:
    """Prune the store that a night has ended in, if nights delete there; what the store refuses is a warning.

    Args:
        registry: of the night's namespace.
        keep: number of most recent versions to keep; 0: all.
    """
    if not keep or not registry.store.nights_prune:
        return
    try:
        gone = prune(registry, keep)
    except (StoreError, RecordError) as error:
        log.warning("old versions stay: %s", error)
        return
    if gone.versions or gone.objects:
        log.info("pruned %d old versions and %d objects", gone.versions, gone.objects)


def _delete_version(registry: Registry, name: str, keep_champions: int) -> bool:
    """Delete a version and its predictions, unless it was promoted since this began."""
    if name in _recent(registry)[:keep_champions]:
        return False
    registry.delete_version(name)
    return True


def _recent(registry: Registry) -> list[str]:
    """Return the last champions, the latest first, those of a moment ago included."""
    _, last = registry.champion_entry(fresh=True)
    return [] if last is None else recent(last)


def _objects_named(store: Store, without: Set[str] = frozenset()) -> set[str]:
    """Return the digests that a version or its predictions name, in any namespace of the store.

    Args:
        store: the store.
        without: keys of entries that do not count.
    """
    named: set[str] = set()
    for key in store.keys(""):
        if key in without or not ENTRY.fullmatch(Path(key).name):
            continue
        kind = Path(key).parent.name  # an entry that is gone was deleted by another prune
        if kind == "versions" and (version := get_record(store, key, VersionEntry)):
            named.update(version.objects.values())
        if kind == "predictions" and (predictions := get_record(store, key, PredictionsEntry)):
            named.add(predictions.submission)
    return named
