"""What the Prefect server does by itself: mark dead runs as crashed, and send notifications."""

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.events import DECISION, NEWS, NIGHT_ENDED, SCHEDULE_APPLIED, job_id, schedule_event
from flows.ops.deployments import TAG
from flows.records import Decision
from flows.settings import Settings, SettingsError
from mnist_core.spec import SPECS

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.events.schemas.automations import AutomationCore

DEAD_S = 105
"""Seconds without a heartbeat after which a run counts as dead. Runs send one every 30 s (prefect.yaml),
which is Prefect's minimum, so an API outage of one minute does not count."""


ENDS = ("Completed", "Failed", "Cancelled", "Crashed")
"""States of a run that has ended, as the names of their events have them."""
WAITING = ("Scheduled", "AwaitingRetry", "AwaitingConcurrencySlot", "Late")
"""States of a run that has not started."""
START_S = 600
"""Seconds that a run may be Pending or Cancelling beyond those that a machine may take to start."""


class Name(StrEnum):
    """The automations of this job, by the name that the server shows."""

    DEAD = "Mark a dead run as crashed"
    UNSTARTED = "Mark a run that never started as crashed"
    UNSTOPPED = "Mark a run that never stopped as crashed"
    FAILED = "Notify: a nightly run failed"
    CANCELLED = "Notify: a scheduled night did not run"
    CHAMPION = "Notify: new champion"
    SILENT = "Notify: no successful nightly run"


async def apply_automations(settings: Settings) -> None:
    """Create, update or remove the automations on the server that PREFECT_API_URL names.

    Args:
        settings: `notify`, `silence_s`, and the competition, whose silence is its own: a night of another one
            does not end it. The others' automations about that are left alone, and so are those that all
            share if a competition of MNIST_SPEC names nobody to notify.

    Raises:
        SettingsError: the server has no block of the name in MNIST_NOTIFY.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    async with get_client() as client:
        block = None
        if settings.notify is not None:
            kind, name = settings.notify.split("/")
            try:
                block = (await client.read_block_document_by_name(name, kind)).id
            except ObjectNotFound:
                raise SettingsError(
                    f"MNIST_NOTIFY: this server has no block {settings.notify}",
                    f"create it in the UI (Blocks → +) or with `prefect block create {kind}`",
                ) from None
        ids = await _deployments(client)
        wanted = {automation.name: automation for automation in automations(settings, block, ids)}
        for kind in Name:
            name = name_for(settings.competition, kind)
            found = await client.read_automations_by_name(name)
            if name not in wanted:
                # What all competitions share stays when one without MNIST_NOTIFY joins them.
                for automation in found if _is_own(settings.competition, kind) else ():
                    await client.delete_automation(automation.id)
            elif not found:
                await client.create_automation(wanted[name])
            elif definition(found[0]) != definition(wanted[name]):
                # Only if it differs: an update makes the server forget which runs it is waiting for.
                await client.update_automation(found[0].id, wanted[name])
        if settings.notify is not None:
            event = schedule_event(settings.competition)
            await client.request("POST", "/events", json=[event.model_dump(mode="json")])


def name_for(competition: str, name: Name) -> str:
    """Return what an automation is called for a competition: that about its silence has its name."""
    own = name is Name.SILENT and competition not in SPECS
    return f"{name} ({competition})" if own else name.value


def _is_own(competition: str, name: Name) -> bool:
    """Return whether an automation is a competition's own; the shared ones are those of the built-in ones."""
    return competition in SPECS or name is Name.SILENT


async def _deployments(client: "PrefectClient") -> list[UUID]:
    """Return the ids of this job's deployments, of all competitions: their runs send heartbeats."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    wanted = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    return sorted(found.id for found in await client.read_deployments(deployment_filter=wanted))


def definition(automation: Any) -> dict[str, Any]:
    """Return an automation's own fields, without those that the server adds."""
    from prefect.events.schemas.automations import AutomationCore

    core = AutomationCore.model_validate(automation.model_dump(mode="json"))
    return core.model_dump(exclude={"trigger": {"id"}})  # as Python: JSON would order its sets at random


def automations(
    settings: Settings, block: UUID | None, deployments: Sequence[UUID]
) -> list["AutomationCore"]:
    """Return the automations, known by their names.

    Args:
        settings: `silence_s`.
        block: id of the block that sends notifications; None: nobody is notified, and only dead runs are
            looked for.
        deployments: ids of those whose runs send heartbeats; runs started manually, and other jobs on the
            same server, are left alone.
    """
    start_s = settings.gpu_start_s + START_S
    started = {*ENDS, *WAITING, "Running", "heartbeat"}
    found = [
        _dead_run(deployments),
        # A heartbeat counts as a start, in case the event of the start was lost.
        _stuck_run(Name.UNSTARTED, deployments, start_s, "Pending", started),
        # Only an end counts here: a run may send a heartbeat, and die, after it was asked to stop.
        _stuck_run(Name.UNSTOPPED, deployments, start_s, "Cancelling", set(ENDS)),
    ]
    if block is None:
        return found
    return [
        *found,
        _failed_run(block),
        _cancelled_night(block),
        _new_champion(block),
        _silence(block, settings),
    ]


def _dead_run(deployments: Sequence[UUID]) -> "AutomationCore":
    return _silent_run(
        Name.DEAD,
        f"A run whose process sent no heartbeat for {DEAD_S} s.",
        deployments,
        DEAD_S,
        # Both: with its database locked the server loses an event now and then, and a run may be killed
        # before its second heartbeat.
        after={"Running", "heartbeat"},
        expect={"heartbeat", "AwaitingRetry", *ENDS},
        force=False,
        message=f"no heartbeat for {DEAD_S} s: its process or machine is gone; run it again",
    )


def _stuck_run(
    name: Name, deployments: Sequence[UUID], within_s: float, state: str, expect: set[str]
) -> "AutomationCore":
    return _silent_run(
        name,
        f"A run that is {state} for {within_s:.0f} s (MNIST_GPU_START_S and {START_S} s).",
        deployments,
        within_s,
        after={state},
        expect=expect,
        force=True,  # otherwise a run that is Cancelling stays so
        message=f"{state} for {within_s:.0f} s: its process or machine is gone",
    )


def _silent_run(
    name: Name,
    description: str,
    deployments: Sequence[UUID],
    within_s: float,
    *,
    after: set[str],
    expect: set[str],
    force: bool,
    message: str,
) -> "AutomationCore":
    """Return what ends a run as Crashed because its process or machine is gone.

    Args:
        name, description: of the automation.
        deployments: ids of those whose runs are watched.
        within_s: seconds after an event of `after` in which none of `expect` came.
        after, expect: events of a run, without their prefix.
        force: whether a rule of Prefect about the change of state is overruled.
        message: of the state.
    """
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    return AutomationCore(
        name=name,
        description=description,
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(
                {"prefect.resource.id": [f"prefect.deployment.{deployment}" for deployment in deployments]}
            ),
            for_each={"prefect.resource.id"},
            after={f"prefect.flow-run.{event}" for event in after},
            expect={f"prefect.flow-run.{event}" for event in expect},
            threshold=1,
            within=timedelta(seconds=within_s),
        ),
        actions=[ChangeFlowRunState(name=None, state=StateType.CRASHED, force=force, message=message)],
    )


def _failed_run(block: UUID) -> "AutomationCore":
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name=Name.FAILED,
        trigger=EventTrigger(
            **_nightly_runs(),
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=_notification(
            block,
            "Nightly run {{ flow_run.name }}: {{ flow_run.state.name }}",
            "{{ flow_run.state.message }}\n{{ flow_run | ui_url }}",
        ),
    )


def _cancelled_night(block: UUID) -> "AutomationCore":
    """Return what notifies of a scheduled night that did not run, whoever cancelled it."""
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    nights = _nightly_runs()
    scheduled = ResourceSpecification({"prefect.resource.id": "prefect.tag.auto-scheduled"})
    return AutomationCore(
        name=Name.CANCELLED,
        trigger=EventTrigger(
            match=nights["match"],
            match_related=[nights["match_related"], scheduled],
            expect={"prefect.flow-run.Cancelled"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=_notification(
            block,
            "Nightly run {{ flow_run.name }} of {{ flow_run.expected_start_time }}: cancelled",
            "{{ flow_run.state.message }}\n{{ flow_run | ui_url }}",
        ),
    )


def _new_champion(block: UUID) -> "AutomationCore":
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name=Name.CHAMPION,
        trigger=EventTrigger(
            expect={f"mnist.champion.{event}" for event in NEWS},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=_notification(
            block, "{{ event.payload.news }} {{ event.payload.version }}", "{{ event.payload.reason }}"
        ),
    )


def _silence(block: UUID, settings: Settings) -> "AutomationCore":
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    silence_s, competition = settings.silence_s, settings.competition
    hours = f"{silence_s / 3600:.3g} h"
    return AutomationCore(
        name=name_for(competition, Name.SILENT),
        description=f"No night has ended well for {hours} (MNIST_SILENCE_S).",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match=ResourceSpecification(
                {"prefect.resource.id": job_id(competition), DECISION: f"!{Decision.FAILED}"}
            ),
            # One window, since the job has one id; a trigger without `for_each` would ignore `after`.
            for_each={"prefect.resource.id"},
            # With `after` the time runs from the end of the last night, or before that from `make ui`, and
            # the server keeps it in its database. Without it, windows follow each other from the server's
            # start: 26 h could become 52 h.
            after={NIGHT_ENDED, SCHEDULE_APPLIED},
            expect={NIGHT_ENDED},  # dry runs emit none
            threshold=1,
            within=timedelta(seconds=silence_s),
        ),
        actions=_notification(
            block,
            f"No night of {competition} has ended well for {hours}",
            "Check that the schedule is active and a worker online in each pool, and how the last run ended: "
            "`python -m flows doctor`.",
        ),
    )


def _nightly_runs() -> dict[str, Any]:
    """Return what restricts a trigger to the runs of the flow `nightly`."""
    from prefect.events.schemas.events import ResourceSpecification

    return {
        "match": ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        "match_related": ResourceSpecification(
            {"prefect.resource.role": "flow", "prefect.resource.name": "nightly"}
        ),
    }


def _notification(block: UUID, subject: str, body: str) -> list[Any]:
    from prefect.events.actions import SendNotification

    return [SendNotification(block_document_id=block, subject=subject, body=body)]
