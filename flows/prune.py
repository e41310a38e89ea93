"""Delete old versions of a namespace, and objects that no version of the store names."""

import time

from flows.ownership import claim_store
from flows.policy import retention
from flows.policy.champions import recent
from flows.records import PruneResult
from flows.registry import Registry

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
    before = time.time() - min_age_s
    objects = registry.objects()  # listed before the versions: what is written later is not in it
    written = registry.versions_written()
    versions = {name: registry.version(name) for name in written}
    members = {name: entry.members for name, entry in versions.items() if entry is not None}
    old = retention.versions_to_delete(
        written, _recent(registry), members, keep=keep, keep_champions=keep_champions, before=before
    )
    deleted = [name for name in old if _delete_version(registry, name, keep_champions)]
    unnamed = retention.objects_to_delete(objects, registry.objects_named(), before=before)
    count = sum(registry.store.delete(f"objects/{digest}", before) for digest in unnamed)
    registry.store.delete_partials(before)
    return PruneResult(versions=len(deleted), objects=count)


def _delete_version(registry: Registry, name: str, keep_champions: int) -> bool:
    """Delete a version and its predictions, unless it was promoted since this began."""
    if name in _recent(registry)[:keep_champions]:
        return False
    registry.delete_version(name)
    return True


def _recent(registry: Registry) -> list[str]:
    """Return the last champions, the latest first."""
    _, last = registry.champion_entry()
    return [] if last is None else recent(last)
