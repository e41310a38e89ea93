"""What the person on call asks and does, without Prefect: status, versions, rollback, prune.

Each reads the store, which is the truth, and is safe while a night runs: what they write is a numbered list's
next entry or takes away what no run can need.
"""

from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from flows import lease
from flows.kaggle.competition import connect, server_name
from flows.kaggle.errors import CompetitionError
from flows.policy.lease import has_expired
from flows.prune import prune as prune_registry
from flows.records import Demotion, LeaseState, NightEntry
from flows.registry import Registry
from flows.settings import Settings, SettingsError
from flows.store.base import Store
from flows.store.open import open_store

NIGHTS = 7
"""So many nights, the last ones, are shown."""


def open_registry(settings: Settings) -> Registry:
    """The registry of the place on this server that was written to last.

    Raises:
        SettingsError: there is none.
    """
    store = open_store(str(settings.store))
    return Registry(store, _last_place(store, settings))


def _last_place(store: Store, settings: Settings) -> str:
    prefix = f"{server_name(settings).replace(':', '_')}/{settings.competition}/"
    places: dict[str, float] = {}
    for key, written in store.keys(prefix).items():
        place = prefix + key.removeprefix(prefix).split("/")[0]
        places[place] = max(written, places.get(place, 0.0))
    if not places:
        raise SettingsError(
            f"nothing is known yet under {store.location(prefix)}: run `python -m flows nightly` first, "
            "or mend MNIST_STORE or MNIST_KAGGLE"
        )
    return max(places, key=lambda place: places[place])


def status(settings: Settings) -> dict[str, Any]:
    """How the job stands.

    Returns:
        `namespace`; `champion` as in a night's result, with `since`; `nights`, the last `NIGHTS` that ended,
        the last one first, `reason` being why the version was demoted if it was; `pending`, versions whose
        submission has no score yet, with `ref`; `unknown`, the version of which nobody knows whether it was
        submitted; `posting`, the version that a run posts now; `quota`, submissions left today, None where
        the competition can not be asked, then with `quota_error`.
    """
    registry = open_registry(settings)
    champions = registry.champions()
    _, last = lease.current(registry)
    expired = last is not None and has_expired(last, datetime.now(UTC))
    told: dict[str, Any] = {
        "namespace": registry.namespace,
        "champion": _version(registry, champions[-1].version, since=champions[-1].at) if champions else None,
        "nights": [_night(registry, ended) for ended in registry.nights(NIGHTS)[::-1]],
        "pending": [{"version": made.version, "ref": made.ref} for made in registry.unscored()],
        "unknown": last.version if last and last.state is LeaseState.SENT and expired else None,
        "posting": last.version if last and last.state is not LeaseState.CLOSED and not expired else None,
        "quota": None,
    }
    try:
        told["quota"] = connect(settings).quota()
    except (CompetitionError, SettingsError) as error:
        told["quota_error"] = str(error)
    return told


def _version(registry: Registry, name: str, **facts: Any) -> dict[str, Any]:
    entry, scored = registry.version(name), registry.score(name)
    return {
        "version": name,
        "model": entry and entry.model,
        "preset": entry and entry.preset,
        "valid_accuracy": entry and entry.valid_accuracy,
        "public_score": scored and scored.public_score,
        **facts,
    }


def _night(registry: Registry, ended: NightEntry) -> dict[str, Any]:
    demotion, scored = registry.demotions().get(ended.version), registry.score(ended.version)
    return {
        "night": ended.run.night,
        "run": ended.run.key,
        "version": ended.version,
        "valid_accuracy": ended.valid_accuracy,
        "decision": ended.decision.value,
        "reason": demotion.reason if demotion else ended.reason,
        "public_score": scored and scored.public_score,
    }


def versions(settings: Settings) -> dict[str, Any]:
    """All versions of the place, the oldest night first, each with its scores and what it was or is."""
    registry = open_registry(settings)
    _, champion = registry.champion()
    demoted = registry.demotions()
    rows = []
    for name in registry.versions():
        made = registry.submission(name)
        was = "demoted" if name in demoted else "was champion" if registry.was_champion(name) else ""
        role = "champion" if name == champion else was
        rows.append(_version(registry, name, submission=made and made.ref, role=role))
    return {"namespace": registry.namespace, "versions": rows}


def rollback(settings: Settings) -> dict[str, Any]:
    """Take the title from the champion and give it back to the one before; nothing is posted.

    Raises:
        SettingsError: there is no champion before this one.
    """
    registry = open_registry(settings)
    while True:
        number, champion = registry.champion()
        before = registry.fallback()
        if champion is None or before is None:
            raise SettingsError(
                f"there is no champion before {champion}; the next night may bring another one"
            )
        reason = f"rolled back by hand; {champion} is champion no more and is not promoted again"
        if registry.promote(before, number, reason, demoted=champion, cause=Demotion.ROLLBACK):
            return {"namespace": registry.namespace, "champion": _version(registry, before), "reason": reason}


def prune(settings: Settings, keep: int) -> dict[str, Any]:
    """Delete old versions and unnamed objects; `flows.prune` says which stay."""
    registry = open_registry(settings)
    return {"namespace": registry.namespace, **prune_registry(registry, keep).to_json()}


def show(told: dict[str, Any]) -> list[Table | str]:
    """What a person reads of a result of this module: one line a value, one table a list of rows."""
    lines: list[Table | str] = []
    for name, value in told.items():
        if isinstance(value, list):
            lines += [_table(name, value)] if value else []
        elif value is not None:
            lines.append(f"[bold]{name.replace('_', ' ')}[/bold]  {_text(value)}")
    return lines


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    """A table that fits 80 columns: a version's name has its night and its model."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    shown = [name for name in rows[0] if name not in ("night", "run", "model")]
    for name in shown:
        table.add_column(name.split("_")[0], no_wrap=name == "version", overflow="fold")
    for row in rows:
        table.add_row(*(_text(row[name]) for name in shown))
    return table


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_text(entry)}" for name, entry in value.items() if entry)
    if isinstance(value, float):
        return f"{value:.5f}"
    return "–" if value is None else str(value)
