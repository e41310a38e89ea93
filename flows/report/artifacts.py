"""What a run leaves on Prefect's server: artifacts and events. None of it may fail the run."""

import base64
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from flows.records import NightEntry
from flows.report import history
from flows.report.history import Entry
from flows.report.scorecard import Scorecard

log = logging.getLogger("mnist")


@contextmanager
def best_effort(what: str) -> Iterator[None]:
    """Log that something could not be put on Prefect's server, and go on."""
    import httpx

    try:
        yield
    except httpx.HTTPError as error:
        log.warning("no %s on Prefect's server: %s", what, type(error).__name__)


def put_scorecard(card: Scorecard, pictures: Mapping[str, bytes]) -> None:
    """Leave a scorecard as an artifact of this run.

    Args:
        card: the scorecard.
        pictures: PNG files by name, shown in it.
    """
    from prefect.artifacts import create_markdown_artifact

    embedded = {
        name: "data:image/png;base64," + base64.b64encode(content).decode()
        for name, content in pictures.items()
    }
    with best_effort("scorecard"):
        create_markdown_artifact(
            card.markdown(embedded),
            key="scorecard",
            description=f"{card.version.version}: {card.result.decision}",
        )


def put_history(entries: list[Entry], namespace: str) -> None:
    """Leave the history of all nights as an artifact of this run; nothing before the first night."""
    from prefect.artifacts import create_markdown_artifact

    if not entries:
        return
    with best_effort("history"):
        create_markdown_artifact(
            history.markdown(entries, namespace),
            key="history",
            description=f"{len(entries)} nights, the last {entries[-1].night} {entries[-1].decision}",
        )


def emit_champion_event(event: str, namespace: str, version: str, reason: str) -> None:
    """Emit an event about a champion, on which automations send notifications.

    Args:
        event: `promoted`, `rolled-back`, or `unbeaten` if a person must look at it.
        namespace: of the registry.
        version: the champion.
        reason: why, for people.
    """
    from prefect.events import emit_event

    emit_event(
        f"mnist.champion.{event}",
        resource={
            "prefect.resource.id": f"mnist.champion.{namespace}",
            "prefect.resource.name": version,
        },
        payload={"version": version, "reason": reason},
    )


def emit_night_event(namespace: str, ended: NightEntry, public_score: float | None) -> None:
    """Emit the event of a night that ended; its silence is what a notification is sent about.

    Args:
        namespace: of the registry.
        ended: how it ended.
        public_score: of its version; None while unknown.
    """
    from prefect.events import emit_event

    emit_event(
        "mnist.night.ended",
        resource={
            "prefect.resource.id": f"mnist-nightly.{namespace}",
            "prefect.resource.name": ended.version,
            "mnist.decision": ended.decision.value,  # a trigger can match labels, not the payload
        },
        payload={
            "night": ended.run.night,
            "model": ended.model,
            "decision": ended.decision.value,
            "version": ended.version,
            "public_score": public_score,
            "reason": ended.reason,
        },
    )
