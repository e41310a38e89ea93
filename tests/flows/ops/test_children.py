"""A child run on another pool: what its parent does when it does not start, or is not there."""

import threading
import time

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.states import Crashed

from flows.ops.children import ChildError, run_children
from flows.train import OverdueError, capped

pytestmark = pytest.mark.usefixtures("prefect_api")


@flow(name="elsewhere")
def elsewhere() -> None:
    """Runs on a pool that no worker serves."""


@pytest.fixture
def deployment() -> str:
    """A deployment whose runs nobody starts."""
    with get_client(sync_client=True) as client:
        client.create_deployment(client.create_flow(elsewhere), "nowhere")
    return "elsewhere/nowhere"


def children(parent: str) -> list:
    """The child runs of a run."""
    chosen = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[parent]))
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=chosen)


def waits(run) -> bool:
    """Whether it is a child that nobody has started."""
    return run.parent_task_run_id is not None and run.state.is_scheduled()


def run_parent(
    deployment: str, start_s: float = 60.0, cap_s: float = 60.0, fallback: dict[str, str] | None = None
) -> tuple[str, object]:
    """Run a parent of one child; its id and what it raised."""
    told = []

    @flow(name="parent")
    def parent() -> None:
        from prefect.runtime import flow_run

        told.append(flow_run.id)
        with capped(cap_s, "the parent", "CAP"):
            run_children(deployment, [{}, {}], start_s, 1.0, fallback)

    with pytest.raises(Exception) as caught:  # noqa: PT011  (each test says which one)
        parent()
    return told[0], caught.value


def test_a_child_that_does_not_start_is_given_up_and_cancelled(deployment):
    """No machine within the allowance: the parent says so and names the setting; the child does not stay."""
    parent, error = run_parent(deployment, start_s=1.0)

    assert isinstance(error, ChildError)
    assert "has not begun within 1 s (MNIST_GPU_START_S)" in str(error)
    assert [child.state.is_cancelled() for child in children(parent)] == [True, True]


def test_a_child_that_finds_no_machine_or_loses_it_has_one_more_by_the_fallback(deployment):
    """Once each, with the other job variables; the first one is cancelled, or crashed as it was."""
    fallback = {"capacity_provider": "on-demand"}
    with get_client(sync_client=True) as client:

        def lose_one() -> None:
            while not (runs := [run for run in client.read_flow_runs() if waits(run)]):
                time.sleep(0.1)
            client.set_flow_run_state(runs[0].id, Crashed(message="the machine was taken back"), force=True)

        loser = threading.Thread(target=lose_one)
        loser.start()
        parent, error = run_parent(deployment, start_s=4.0, fallback=fallback)
        loser.join()

    assert "has not begun within 4 s" in str(error)
    first = [run.state_type.name for run in children(parent) if not run.job_variables]
    second = [run.state_type.name for run in children(parent) if run.job_variables == fallback]
    assert sorted(first) == ["CANCELLED", "CRASHED"]
    assert second == ["CANCELLED", "CANCELLED"]


def test_a_parent_that_is_overdue_takes_its_child_along(deployment):
    """The cap of the whole ends the wait, and the child is cancelled: it costs nothing any more."""
    started = time.monotonic()

    parent, error = run_parent(deployment, cap_s=3.0)

    assert isinstance(error, OverdueError)
    assert time.monotonic() - started < 20
    assert [child.state.is_cancelled() for child in children(parent)] == [True, True]


def test_a_server_without_the_deployment_is_told():
    """Nobody deployed `train/gpu` there: the message names it and the remedy."""
    _, error = run_parent("train/nowhere")

    assert isinstance(error, ChildError)
    assert "no deployment train/nowhere on this server; `make deployments`" in str(error)
