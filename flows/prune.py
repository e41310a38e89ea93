"""Delete old versions of a namespace, and objects that no version of the store names."""

import logging
import re
from pathlib import Path

from flows.nights import ENTRY, Nights
from flows.ownership import claim_store
from flows.policy import retention
from flows.policy.champions import recent
from flows.records import PredictionsEntry, PruneResult, RecordError, VersionEntry
from flows.registry import Registry
from flows.store.base import Store, StoreError
from flows.store.lists import get_record, names_of

log = logging.getLogger("mnist")
DIGEST = re.compile(r"[0-9a-f]{64}")
PRUNE_AGE_S = 24 * 3600.0
"""What is younger is not pruned: a run that is not finished may need it."""


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
    deleted = [name for name in old if _delete_version(registry, name, keep_champions)]
    unnamed = retention.objects_to_delete(objects, _objects_named(registry.store), before=before)
    count = sum(registry.store.delete(f"objects/{digest}", before) for digest in unnamed)
    Nights(registry.store, registry.namespace).delete_old()
    registry.store.delete_partials(before)
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


def _objects_named(store: Store) -> set[str]:
    """Return the digests that a version or its predictions name, in any namespace of the store."""
    named: set[str] = set()
    for key in store.keys(""):
        if not ENTRY.fullmatch(Path(key).name):
            continue
        kind = Path(key).parent.name  # an entry that is gone was deleted by another prune
        if kind == "versions" and (version := get_record(store, key, VersionEntry)):
            named.update(version.objects.values())
        if kind == "predictions" and (predictions := get_record(store, key, PredictionsEntry)):
            named.add(predictions.submission)
    return named
