"""What the server does by itself, on a real Prefect API: its own events against its own matching."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import prefect.events
import pytest
from prefect import Flow, flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.server.events.schemas.automations import EventTrigger as ServerTrigger
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.states import Cancelled

from flows.events import emit_night_event, schedule_event
from flows.ops.automations import ENDS, Name, apply_automations, automations, definition
from flows.records import Decision, NightEntry, RunKey
from flows.settings import read_settings
from tests.prefect_api import ask

pytestmark = pytest.mark.usefixtures("prefect_events_api")
LETTERS = """
name = "letters"
classes = ["a", "b"]
shape = [8, 8, 1]
columns.label = "label"
submission.header = ["id", "label"]
"""


def automation(name: Name) -> AutomationCore:
    """One of our automations, with a block that notifies."""
    return next(
        found for found in automations(read_settings(), uuid4(), [uuid4(), uuid4()]) if found.name == name
    )


def trigger(name: Name) -> ServerTrigger:
    """Its trigger, as the server reads it."""
    return ServerTrigger.model_validate(automation(name).trigger.model_dump(mode="json"))


@pytest.mark.parametrize("name", Name)
def test_an_automation_that_is_read_back_is_the_one_that_was_made(name):
    """Else each `make ui` would update it, and the server would forget which runs it waits for.

    The order in which JSON gives a set is another one in each process.
    """
    wanted = automation(name)

    async def read_back(automation: AutomationCore) -> AutomationCore:
        async with get_client() as client:
            made = await client.create_automation(automation)
            found = await client.read_automation(made)
            await client.delete_automation(made)
            return found

    found = asyncio.run(read_back(wanted))

    assert definition(found) == definition(wanted)
    turned = wanted.model_dump(mode="json")
    for field in ("after", "expect"):
        turned["trigger"][field].reverse()
    assert definition(AutomationCore.model_validate(turned)) == definition(wanted)
    turned["trigger"]["within"] += 1
    assert definition(AutomationCore.model_validate(turned)) != definition(wanted)


@pytest.fixture(scope="module")
def cancelled(prefect_events_api: str) -> Callable[[str, bool], ReceivedEvent]:
    """Cancel a run of a flow with this name, which a schedule or a person made; return the server's event."""

    async def cancel(named: Flow[Any, Any], scheduled: bool) -> str:
        async with get_client() as client:
            schedule = IntervalSchedule(
                interval=timedelta(days=1), anchor_date=datetime(2026, 1, 1, tzinfo=UTC)
            )
            deployment = await client.create_deployment(
                await client.create_flow(named),
                f"cancelled-{scheduled}",
                schedules=[DeploymentScheduleCreate(schedule=schedule, active=True)],
            )
            if scheduled:
                span = {"start_time": datetime.now(UTC) - timedelta(days=1), "end_time": datetime.now(UTC)}
                body = {name: day.isoformat() for name, day in span.items()}
                await client._client.post(f"/deployments/{deployment}/schedule", json=body)
                [run] = await client.read_flow_runs(
                    flow_run_filter=FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment])),
                    limit=1,
                )
            else:
                run = await client.create_flow_run_from_deployment(deployment)
            await client.set_flow_run_state(run.id, Cancelled(message="why"), force=True)
            return str(run.id)

    def event_of(name: str, scheduled: bool) -> ReceivedEvent:
        run = asyncio.run(cancel(flow(name=name)(lambda: None), scheduled))
        wanted = {
            "event": {"name": ["prefect.flow-run.Cancelled"]},
            "any_resource": {"id": [f"prefect.flow-run.{run}"]},
        }
        deadline = time.monotonic() + 60
        while not (events := ask(prefect_events_api, "/events/filter", filter=wanted)["events"]):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        return ReceivedEvent.model_validate(events[0])

    return event_of


@pytest.mark.parametrize(
    ("name", "scheduled", "notified"),
    [("nightly", True, True), ("nightly", False, False), ("train", True, False)],
)
def test_a_scheduled_night_that_is_cancelled_is_notified(cancelled, name, scheduled, notified):
    """A run that a person started and cancelled is not, nor another flow's."""
    assert trigger(Name.CANCELLED).covers(cancelled(name, scheduled)) == notified
    assert not trigger(Name.FAILED).expects("prefect.flow-run.Cancelled")


def ended(decision: str, competition: str = "digits-mini") -> ReceivedEvent:
    """The event of a night that ended, as the server gets it."""
    run = RunKey(night="2026-11-23", model="convnet", preset="fast")
    night = NightEntry(run=run, version="v", decision=Decision(decision), reason="")
    with pytest.MonkeyPatch.context() as patch:
        sent: list[dict[str, Any]] = []
        patch.setattr(
            prefect.events, "emit_event", lambda event, **facts: sent.append({"event": event} | facts)
        )
        emit_night_event(f"127.0.0.1_9/{competition}/0123", night, None)
    return ReceivedEvent.model_validate(sent[0] | {"occurred": datetime.now(UTC), "id": uuid4()})


def test_silence_is_counted_from_the_last_good_nights_end():
    """The window opens and closes with the same event, of any namespace; a failed night does not count."""
    silence = trigger(Name.SILENT)

    assert [silence.covers(ended(decision)) for decision in ("promoted", "rejected", "deferred")] == [
        True
    ] * 3
    assert not silence.covers(ended("failed"))
    assert silence.starts_after(ended("promoted").event)
    assert silence.expects(ended("promoted").event)
    assert not silence.expects("prefect.flow-run.Completed")
    assert silence.within == timedelta(hours=26)


def test_silence_is_counted_before_the_first_night_too():
    """`make ui` begins a window, which is the one that a night's end closes; it does not close one itself."""
    silence = trigger(Name.SILENT)
    applied = ReceivedEvent.model_validate(schedule_event("digits-mini").model_dump(mode="json"))

    assert silence.covers(applied)
    assert silence.starts_after(applied.event)
    assert not silence.expects(applied.event)
    assert silence.bucketing_key(applied) == silence.bucketing_key(ended("promoted")) != ()


def test_the_silence_of_one_competition_is_not_ended_by_another(monkeypatch):
    """Each competition that is not built in has its own automation, which its own nights open and close."""
    built_in = trigger(Name.SILENT)
    monkeypatch.setenv("MNIST_SPEC", LETTERS)
    wanted = automations(read_settings(), uuid4(), [uuid4()])
    (own,) = [found for found in wanted if found.name.startswith(Name.SILENT)]
    silence = ServerTrigger.model_validate(own.trigger.model_dump(mode="json"))

    assert own.name == f"{Name.SILENT} (letters)"
    assert not silence.covers(ended("promoted"))
    assert silence.covers(ended("promoted", "letters"))
    assert not built_in.covers(ended("promoted", "letters"))


def events_of(prefect_events_api: str, name: str) -> list[Any]:
    """The events of a name that the server has, the latest first."""
    found = ask(prefect_events_api, "/events/filter", filter={"event": {"name": [name]}})["events"]
    assert isinstance(found, list)
    return found


def wait_for(prefect_events_api: str, name: str, of: str) -> Any:
    """The first event of a name with a resource of this name."""
    deadline = time.monotonic() + 60
    while True:
        for event in events_of(prefect_events_api, name):
            if event["resource"].get("prefect.resource.name") == of:
                return event
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_competition_that_notifies_nobody_leaves_the_others_their_notifications(
    prefect_events_api, monkeypatch
):
    """`MNIST_SPEC=… make deployments` from a shell without MNIST_NOTIFY does not silence failed nights."""

    async def block() -> str:
        hook = CustomWebhookNotificationBlock(name="shared", url="http://127.0.0.1:9", json_data={})
        await hook.save("shared", overwrite=True)
        return "custom-webhook/shared"

    def names() -> set[str]:
        return {found["name"] for found in ask(prefect_events_api, "/automations/filter", "POST")}

    monkeypatch.setenv("MNIST_NOTIFY", asyncio.run(block()))
    asyncio.run(apply_automations(read_settings()))
    monkeypatch.delenv("MNIST_NOTIFY")
    monkeypatch.setenv("MNIST_SPEC", LETTERS)
    asyncio.run(apply_automations(read_settings()))

    assert {Name.FAILED, Name.CANCELLED, Name.CHAMPION, Name.SILENT} <= names()
    monkeypatch.delenv("MNIST_SPEC")
    asyncio.run(apply_automations(read_settings()))
    assert names() & {Name.FAILED, Name.CANCELLED, Name.CHAMPION, Name.SILENT} == set()


@pytest.mark.slow
def test_a_server_without_any_night_notifies_of_silence(prefect_events_api, monkeypatch):
    """The hours count from `make ui`; the window is the shortest that Prefect allows."""
    monkeypatch.setenv("MNIST_SILENCE_S", "10")

    async def block() -> str:
        hook = CustomWebhookNotificationBlock(name="silent", url="http://127.0.0.1:9", json_data={})
        await hook.save("silent", overwrite=True)
        return "custom-webhook/silent"

    monkeypatch.setenv("MNIST_NOTIFY", asyncio.run(block()))
    asyncio.run(apply_automations(read_settings()))
    try:
        assert wait_for(prefect_events_api, "prefect.automation.triggered", Name.SILENT)
    finally:
        monkeypatch.delenv("MNIST_NOTIFY")
        asyncio.run(apply_automations(read_settings()))


def test_a_run_that_was_asked_to_stop_is_crashed_though_it_sent_another_heartbeat():
    """Nothing but its end keeps it from that; a heartbeat shows that a Pending run has started."""
    unstarted, unstopped = trigger(Name.UNSTARTED), trigger(Name.UNSTOPPED)

    assert unstarted.after == {"prefect.flow-run.Pending"}
    assert unstarted.expects("prefect.flow-run.heartbeat")
    assert unstopped.after == {"prefect.flow-run.Cancelling"}
    assert unstopped.expect == {f"prefect.flow-run.{end}" for end in ENDS}
