"""Which of several missed nights runs: the newest one, after an outage."""

import contextlib
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext
from prefect.states import Cancelled

from flows.policy.night import Start, superseded_by
from flows.run import name_of
from flows.settings import SettingsError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State

log = logging.getLogger("mnist")


def newer_night() -> str | None:
    """Return the newest night that is due as well, if this is the run of an older one; otherwise None.

    Only runs that the schedule made count, and only their first start: a person may retry an old night.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None or not run.auto_scheduled or run.run_count > 1:
        return None
    try:
        newer = superseded_by(_start(run), [_start(other) for other in _due_with(run)])
    except httpx.HTTPError as error:
        log.warning("cannot ask whether a newer night is due (%s); this one runs", type(error).__name__)
        return None
    return None if newer is None else newer.date().isoformat()


def name_next_nights() -> None:
    """Name the runs that the schedule will start after this one by their nights; a failure is logged."""
    from prefect.runtime import deployment

    if deployment.id is None:
        return
    try:
        name_scheduled_runs(UUID(deployment.id))
    except httpx.HTTPError as error:
        log.warning("cannot name the next nights (%s)", type(error).__name__)


def name_scheduled_runs(deployment: UUID | str) -> None:
    """Name the runs that a deployment's schedule will start by their nights.

    Prefect gives each a random name, which a run that is cancelled before it starts would keep.

    Args:
        deployment: its id, or its name.
    """
    with get_client(sync_client=True) as client:
        if isinstance(deployment, str):
            deployment = client.read_deployment_by_name(deployment).id
        client.request("POST", "/deployments/{id}/schedule", path_params={"id": deployment}, json={})
        wanted = {"deployment_id": {"any_": [deployment]}, "state": {"type": {"any_": ["SCHEDULED"]}}}
        for run in client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted)):
            with contextlib.suppress(SettingsError):  # the run itself fails with it
                name = name_of(run.parameters, run.expected_start_time)
                if run.auto_scheduled and run.name != name:
                    client.update_flow_run(run.id, name=name)


def skipped(newer: str) -> "State[Any]":
    """Return the state in which a night ends that is not run, because a newer one is due."""
    message = f"skipped: night {newer} is due as well, and after an outage only the newest night runs"
    log.warning(message)
    return Cancelled(message=message)


def _due_with(run: "FlowRun") -> Iterable["FlowRun"]:
    """Return the runs of the same deployment that are due since this one."""
    due = {"after_": run.expected_start_time, "before_": datetime.now(UTC)}
    wanted = {"deployment_id": {"any_": [run.deployment_id]}, "expected_start_time": due}
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(wanted), sort=FlowRunSort.EXPECTED_START_TIME_DESC
        )


def _start(run: "FlowRun") -> Start:
    return Start(
        at=(run.expected_start_time or datetime.min).astimezone(UTC),
        scheduled=bool(run.auto_scheduled),
        cancelled=run.state is not None and (run.state.is_cancelled() or run.state.is_cancelling()),
    )
