"""A run that a schedule made, on a real Prefect API: it needs a server that somebody chose."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.flow_engine import run_flow

from flows.nightly import nightly
from flows.ops.schedule import name_scheduled_runs
from flows.settings import SettingsError
from flows.submit import submit
from flows.train import train

NOW = datetime.now(UTC)
pytestmark = pytest.mark.usefixtures("prefect_api")


async def _scheduled_runs(flow: Flow[Any, Any], days: int = 2) -> list[FlowRun]:
    """Return the runs that the scheduler makes at the end of each day, oldest first.

    So the newest one that is due is yesterday's, at whatever hour this is called.
    """
    async with get_client() as client:
        flow_id = await client.create_flow(flow)
        schedule = IntervalSchedule(
            interval=timedelta(days=1), anchor_date=datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC)
        )
        deployment = await client.create_deployment(
            flow_id,
            f"nightly-{uuid4()}",
            schedules=[DeploymentScheduleCreate(schedule=schedule, active=True)],
        )
        # Due some days ago, as after an outage, so that they can begin at once.
        span = {"start_time": NOW - timedelta(days=days), "end_time": NOW}
        await client._client.post(
            f"/deployments/{deployment}/schedule", json={name: day.isoformat() for name, day in span.items()}
        )
        filters = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
        runs = await client.read_flow_runs(flow_run_filter=filters, sort=FlowRunSort.EXPECTED_START_TIME_ASC)
        return [run for run in runs if run.expected_start_time < NOW]  # the scheduler adds those to come


async def _scheduled_run(flow: Flow[Any, Any]) -> FlowRun:
    """The newest of them that is due."""
    return (await _scheduled_runs(flow))[-1]


@pytest.mark.parametrize("flow", [nightly, train, submit], ids=lambda flow: flow.name)
def test_a_scheduled_run_without_a_chosen_server_refuses_to_start(job, monkeypatch, flow):
    """Nobody set MNIST_KAGGLE: the run fails with the setting's name before it asks any server."""
    started = job()
    monkeypatch.delenv("MNIST_KAGGLE")
    run = asyncio.run(_scheduled_run(flow))
    assert run.auto_scheduled

    with pytest.raises(SettingsError, match="a scheduled run needs MNIST_KAGGLE"):
        run_flow(flow, flow_run=run)

    assert [path.name for path in (started.home / "home").iterdir()] == ["templates"]  # the test's own


def test_a_scheduled_night_is_the_date_of_its_scheduled_start(job):
    """The night id is the scheduled start's UTC date, on whatever day the run begins."""
    started = job()
    run = asyncio.run(_scheduled_run(nightly))
    night = run.expected_start_time.astimezone(UTC).date().isoformat()
    assert night < NOW.date().isoformat()
    started.publish(night=night)

    result = run_flow(nightly, flow_run=run)

    assert result.night == night
    assert result.decision == "promoted"


def test_of_three_missed_nights_the_newest_one_runs(job):
    """The older ones end at once, as Cancelled with the reason, whatever their order; a retry of one runs."""
    started = job()
    *older, newest = asyncio.run(_scheduled_runs(nightly, days=3))
    night = newest.expected_start_time.astimezone(UTC).date().isoformat()
    started.publish(night=night)

    states = [run_flow(nightly, flow_run=run, return_type="state") for run in older]
    result = run_flow(nightly, flow_run=newest)

    assert len(states) == 2
    for state in states:
        assert state.is_cancelled()
        assert state.message.startswith(f"skipped: night {night} is due as well")
    assert result.night == night
    assert [entry.run.night for entry in started.registry.nights()] == [night]


async def _deploy_with_a_run_by_a_person() -> Any:
    """Return the id of a deployment of `nightly` with a schedule, and a run that a person started."""
    async with get_client() as client:
        schedule = IntervalSchedule(
            interval=timedelta(days=1), anchor_date=datetime(2026, 1, 1, 2, tzinfo=UTC)
        )
        deployment = await client.create_deployment(
            await client.create_flow(nightly),
            f"nightly-{uuid4()}",
            schedules=[DeploymentScheduleCreate(schedule=schedule, active=True)],
            parameters={"model": "ensemble", "preset": "best"},
        )
        await client.create_flow_run_from_deployment(deployment, name="by a person")
        return deployment


async def _runs_of(deployment: Any) -> list[FlowRun]:
    async with get_client() as client:
        filters = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
        return await client.read_flow_runs(flow_run_filter=filters)


def test_the_runs_that_the_schedule_will_start_are_named_by_their_nights():
    """So a night that is cancelled before it starts shows which one it was; a person's run keeps its name."""
    deployment = asyncio.run(_deploy_with_a_run_by_a_person())

    name_scheduled_runs(deployment)

    runs = asyncio.run(_runs_of(deployment))
    names = {run.name: run.expected_start_time for run in runs if run.auto_scheduled}
    assert len(names) >= 3
    for name, start in names.items():
        assert name == f"{start.astimezone(UTC).date().isoformat()} ensemble best"
    assert [run.name for run in runs if not run.auto_scheduled] == ["by a person"]


def test_a_night_of_the_schedule_names_those_after_it(job):
    """It does so when it begins, so also the nights after one that fails have names."""
    started = job()
    run = asyncio.run(_scheduled_run(nightly))
    started.publish(night=run.expected_start_time.astimezone(UTC).date().isoformat())

    run_flow(nightly, flow_run=run)

    later = [other for other in asyncio.run(_runs_of(run.deployment_id)) if other.state.is_scheduled()]
    coming = [other for other in later if other.expected_start_time > datetime.now(UTC)]
    assert len(coming) >= 3
    for other in coming:
        night = other.expected_start_time.astimezone(UTC).date().isoformat()
        assert other.name == f"{night} convnet fast"
