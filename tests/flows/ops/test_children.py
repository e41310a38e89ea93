"""Child runs on another pool: what a parent decides about them, and what it does on a real Prefect API."""

import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Pending, Running, Scheduled

from flows.caps import OverdueError, capped
from flows.ops.children import LATE_S, ChildError, Limits, Step, next_step, run_children, running_s
from flows.parameters import Parameters

LIMITS = Limits(start_s=60.0, cap_s=100.0)


@flow(name="elsewhere")
def elsewhere() -> None:
    """Runs on a pool that no worker serves."""


@pytest.fixture
def deployment(prefect_api: str) -> str:
    """A deployment whose runs nobody starts."""
    with get_client(sync_client=True) as client:
        client.create_deployment(client.create_flow(elsewhere), "nowhere")
    return "elsewhere/nowhere"


def children(parent: str) -> list:
    """Return the child runs of a run."""
    chosen = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[parent]))
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=chosen)


def waits(run) -> bool:
    """Return whether it is a child that nobody has started."""
    return run.parent_task_run_id is not None and run.state.is_scheduled()


def run_parent(
    deployment: str, start_s: float = 60.0, cap_s: float = 60.0, fallback: dict[str, str] | None = None
) -> tuple[str, Exception]:
    """Run a parent of two children; return its id and what it raised."""
    started = []

    @flow(name="parent")
    def parent() -> None:
        from prefect.runtime import flow_run

        started.append(flow_run.id)
        with capped(cap_s, "the parent", "CAP"):
            run_children(
                deployment, {"one": Parameters(), "two": Parameters()}, Limits(start_s, cap_s=1.0), fallback
            )

    with pytest.raises(Exception) as caught:  # noqa: PT011  (each test says which one)
        parent()
    return started[0], caught.value


@pytest.mark.parametrize(
    ("state", "waiting_s", "running_for_s", "restartable", "step"),
    [
        (Scheduled(), 60.0, 0.0, True, Step.WAIT),
        (Scheduled(), 60.1, 0.0, True, Step.RESTART),
        (Pending(), 60.1, 0.0, False, Step.NOT_STARTED),
        (Running(), 999.0, 100.0 + LATE_S, True, Step.WAIT),
        (Running(), 0.0, 100.1 + LATE_S, True, Step.OVERDUE),
        (Cancelling(), 0.0, 100.1 + LATE_S, False, Step.OVERDUE),
        (Crashed(), 0.0, 0.0, True, Step.RESTART),
        (Crashed(), 0.0, 0.0, False, Step.ENDED),
        (Failed(), 999.0, 999.0, True, Step.ENDED),
        (Cancelled(), 999.0, 999.0, True, Step.ENDED),
        (Completed(), 999.0, 999.0, True, Step.ENDED),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_the_next_step_about_a_child(state, waiting_s, running_for_s, restartable, step):
    """A child is waited for within its limits, restarted once where that can help, or given up."""
    decided = next_step(
        state, waiting_s=waiting_s, running_s=running_for_s, limits=LIMITS, restartable=restartable
    )

    assert decided is step


def test_running_seconds_count_overlaps_once_and_gaps_not_at_all():
    """Of runs side by side each second counts once; a run that never started counts nothing."""
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)

    def run(begin: float | None, end: float | None) -> SimpleNamespace:
        begins, ends = (None if at is None else noon + timedelta(seconds=at) for at in (begin, end))
        return SimpleNamespace(start_time=begins, end_time=ends)

    assert running_s([run(0, 10), run(5, 12), run(6, 7), run(20, 21), run(None, None)]) == 13.0
    assert running_s([]) == 0.0


def test_a_child_that_does_not_start_is_given_up_and_cancelled(deployment):
    """If no machine starts it in time, the parent's error names the setting, and the child is cancelled."""
    parent, error = run_parent(deployment, start_s=1.0)

    assert isinstance(error, ChildError)
    assert "did not start within 1 s (MNIST_GPU_START_S)" in error.problem
    assert "online worker" in error.remedy
    assert {child.name for child in children(parent)} == {"one", "two"}
    assert [child.state.is_cancelled() for child in children(parent)] == [True, True]


def test_a_child_that_finds_no_machine_or_loses_it_is_started_once_more_by_the_fallback(deployment):
    """Each child once, with the other job variables; the first run is cancelled, or crashed as it was."""
    fallback = {"capacity_provider": "on-demand"}
    with get_client(sync_client=True) as client:

        def lose_one() -> None:
            deadline = time.monotonic() + 60
            while not (runs := [run for run in client.read_flow_runs() if waits(run)]):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            client.set_flow_run_state(runs[0].id, Crashed(message="the machine was reclaimed"), force=True)

        loser = threading.Thread(target=lose_one)
        loser.start()
        parent, error = run_parent(deployment, start_s=4.0, fallback=fallback)
        loser.join()

    assert "did not start within 4 s" in str(error)
    first = [run.state_type.name for run in children(parent) if not run.job_variables]
    second = [run.state_type.name for run in children(parent) if run.job_variables == fallback]
    assert sorted(first) == ["CANCELLED", "CRASHED"]
    assert second == ["CANCELLED", "CANCELLED"]


def test_a_parent_that_is_overdue_cancels_its_children(deployment):
    """The cap of the parent ends the wait, and the children are cancelled, so that they cost nothing more."""
    started = time.monotonic()

    parent, error = run_parent(deployment, cap_s=3.0)

    assert isinstance(error, OverdueError)
    assert time.monotonic() - started < 60
    assert [child.state.is_cancelled() for child in children(parent)] == [True, True]


@pytest.mark.usefixtures("prefect_api")
def test_a_missing_deployment_is_named_with_its_remedy():
    """If nobody deployed `train/gpu` there, the error names it and the command that does."""
    _, error = run_parent("train/nowhere")

    assert isinstance(error, ChildError)
    assert error.problem == "this server has no deployment train/nowhere"
    assert "make deployments" in error.remedy
