"""What the person on call asks and does, without Prefect: status, versions, rollback, prune.

Each reads the store, which is the truth, and is safe while a night runs: what they write is a numbered list's
next entry or takes away what no run can need.
"""

from pathlib import Path
from typing import Any

from rich.table import Table

from flows.kaggle.competition import connect, server_name
from flows.kaggle.errors import CompetitionError
from flows.registry import Registry, has_expired
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
        `place`; `champion` as in a night's result, with `since`; `nights`, the last `NIGHTS` that ended, the
        last one first, `reason` being why the title was taken back where it was; `pending`, versions whose
        submission has no score yet, with `ref`; `unknown`, the version of which nobody knows whether it was
        submitted; `posting`, the version that a run posts now; `quota`, submissions left today, None where
        the competition can not be asked, then with `quota_error`.
    """
    registry = open_registry(settings)
    champions = registry.champions()
    _, intent = registry.intent()
    state = intent["state"] if intent else "closed"
    told: dict[str, Any] = {
        "place": registry.place,
        "champion": _version(registry, champions[-1]["version"], since=champions[-1]["at"])
        if champions
        else None,
        "nights": [_night(registry, ended) for ended in registry.nights(NIGHTS)[::-1]],
        "pending": [{"version": v, "ref": registry.submission(v)["ref"]} for v in registry.unscored()],  # type: ignore[index]
        "unknown": intent["version"] if intent and state == "sent" and has_expired(intent) else None,
        "posting": intent["version"] if intent and state != "closed" and not has_expired(intent) else None,
        "quota": None,
    }
    try:
        told["quota"] = connect(settings).quota()
    except (CompetitionError, SettingsError) as error:
        told["quota_error"] = str(error)
    return told


def _version(registry: Registry, name: str, **facts: Any) -> dict[str, Any]:
    manifest = registry.version(name) or {}
    scored = registry.score(name) or {}
    return {
        "version": name,
        "model": manifest.get("model"),
        "preset": manifest.get("preset"),
        "valid_accuracy": manifest.get("valid_accuracy"),
        "public_score": scored.get("public_score"),
        **facts,
    }


def _night(registry: Registry, ended: dict[str, Any]) -> dict[str, Any]:
    return {
        "night": Path(ended["work"]).parts[0],
        **{name: ended[name] for name in ("work", "version", "valid_accuracy", "decision")},
        "reason": registry.taken_back().get(ended["version"], ended["reason"]),
        "public_score": (registry.score(ended["version"]) or {}).get("public_score"),
    }


def versions(settings: Settings) -> dict[str, Any]:
    """All versions of the place, the oldest night first, each with its scores and what it was or is."""
    registry = open_registry(settings)
    _, champion = registry.champion()
    taken_back = registry.taken_back()
    rows = []
    for name in registry.versions():
        made = registry.submission(name)
        was = "taken back" if name in taken_back else "was champion" if registry.was_champion(name) else ""
        role = "champion" if name == champion else was
        rows.append(_version(registry, name, submission=made and made["ref"], role=role))
    return {"place": registry.place, "versions": rows}


def rollback(settings: Settings) -> dict[str, Any]:
    """Take the title from the champion and give it back to the one before; nothing is posted.

    Raises:
        SettingsError: there is no champion before this one.
    """
    registry = open_registry(settings)
    while True:
        number, champion = registry.champion()
        before = registry.before_champion()
        if champion is None or before is None:
            raise SettingsError(
                f"there is no champion before {champion}; the next night may bring another one"
            )
        reason = f"rolled back by hand; {champion} is champion no more and is not promoted again"
        if registry.promote(before, number, reason, rollback=champion):
            return {"place": registry.place, "champion": _version(registry, before), "reason": reason}


def prune(settings: Settings, keep: int) -> dict[str, Any]:
    """Delete old versions and unnamed objects; `Registry.prune` says which stay."""
    registry = open_registry(settings)
    return {"place": registry.place, **registry.prune(keep)}


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
    shown = [name for name in rows[0] if name not in ("night", "work", "model")]
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
