"""The events of this job on Prefect's server, on which its automations rest."""

from typing import TYPE_CHECKING

from flows.ops.deployments import competition_of, own_name
from flows.records import NightEntry

if TYPE_CHECKING:
    from prefect.events import Event

JOB = "mnist.nightly"
"""Resource id of the nightly job of a built-in competition: one for all namespaces, as it has one schedule.
A night that posts elsewhere, or is trained on new data, is a night of the same job."""
NIGHT_ENDED = "mnist.night.ended"
SCHEDULE_APPLIED = "mnist.schedule.applied"
DECISION = "mnist.decision"
"""Label of the job's events that a trigger can match; it cannot match the payload."""
NEWS = {
    "promoted": "Champion",
    "rolled-back": "After an alarm, champion",
    "unbeaten": "Nobody beats champion",
}
"""What the subject of a notification says before the champion, by the last part of the event's name."""


def job_id(competition: str) -> str:
    """Return the resource id of a competition's nightly job; one of MNIST_SPEC has its own."""
    return own_name(JOB, competition)


def emit_champion_event(event: str, namespace: str, version: str, reason: str) -> None:
    """Emit an event about a champion, on which automations send notifications.

    Args:
        event: one of `NEWS`: `promoted`, `rolled-back`, or `unbeaten` if a person must look at it.
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
        payload={"version": version, "reason": reason, "news": NEWS[event]},
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
        NIGHT_ENDED,
        resource={
            "prefect.resource.id": job_id(competition_of(namespace)),
            "prefect.resource.name": ended.version,
            "mnist.namespace": namespace,
            DECISION: ended.decision.value,
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


def schedule_event(competition: str) -> "Event":
    """Return the event of the schedule being put on a server, from which the first night is waited for."""
    from prefect.events import Event, Resource

    labels = {
        "prefect.resource.id": job_id(competition),
        DECISION: "none",  # a label that is missing matches nothing, not even "!failed"
    }
    return Event(event=SCHEDULE_APPLIED, resource=Resource(labels))
