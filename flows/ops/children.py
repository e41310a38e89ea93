"""Child runs on another pool: started, waited for, its states checked, cancelled when its parent ends."""

import logging
import time
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelling

from mnist_core.errors import MnistError

log = logging.getLogger("mnist")
POLL_S = 2.0
LATE_S = 120.0
"""What a child may take beyond its own cap, before its parent gives it up."""


class ChildError(MnistError):
    """A child run did not end well; the message has its cause."""

    retryable = True


def run_children(
    deployment: str,
    parameters: list[dict[str, Any]],
    start_s: float,
    cap_s: float,
    fallback: dict[str, Any] | None = None,
) -> float:
    """Run a deployment as children of this run, side by side as far as its pool has room; wait for all ends.

    A parent that ends meanwhile, because it is cancelled or overdue, cancels the children. Where one fails,
    the others finish their work first: it is not lost. An API that does not answer is asked again: the
    children do not need this run to go on.

    Args:
        deployment: as `train/gpu`.
        parameters: of each child; references, never arrays.
        start_s: seconds within which one must have begun since it was asked for, or since another was seen
            running: a machine may start from zero.
        cap_s: seconds of its own running time, by the cap that it has itself.
        fallback: job variables with which a child that waits too long for a machine, or crashed, is started
            once more.

    Returns:
        The seconds in which none of them was running: until machines were up, between them, and until their
        ends were seen.

    Raises:
        ChildError: there is no such deployment, or one did not begin or end in time, or ended otherwise than
            Completed.
    """
    asked = time.monotonic()
    children: dict[UUID, dict[str, Any]] = {}
    with get_client(sync_client=True) as client:
        try:
            for given in parameters:
                children[_start(deployment, given)] = given
            ended = _ended(client, deployment, children, start_s, cap_s, fallback)
        except BaseException:
            for run in children:
                _cancel(client, run)
            raise
    for child in ended:
        assert child.state is not None
        if not child.state.is_completed():
            raise ChildError(f"{child.state.name} on {deployment}: {child.state.message or 'no message'}")
    return round(time.monotonic() - asked - _running_s(ended), 3)


def _running_s(runs: list[FlowRun]) -> float:
    """Seconds in which at least one of these runs was going on."""
    seconds, until = 0.0, None
    for begin, end in sorted(
        (run.start_time, run.end_time) for run in runs if run.start_time and run.end_time
    ):
        seconds += max(0.0, (end - max(begin, until or begin)).total_seconds())
        until = max(end, until or end)
    return seconds


def _start(deployment: str, parameters: dict[str, Any], job_variables: dict[str, Any] | None = None) -> UUID:
    given = {name: value for name, value in parameters.items() if value is not None}
    try:
        run = run_deployment(deployment, parameters=given, job_variables=job_variables, timeout=0)
    except ObjectNotFound:
        raise ChildError(
            f"there is no deployment {deployment} on this server; `make deployments` makes it"
        ) from None
    return run.id  # type: ignore[union-attr]  # it is sync here


def _ended(
    client: SyncPrefectClient,
    deployment: str,
    children: dict[UUID, dict[str, Any]],
    start_s: float,
    cap_s: float,
    fallback: dict[str, Any] | None,
) -> list[FlowRun]:
    """Wait until all are final; `children` (parameters by run) is kept by what is started once more."""
    waits_since = time.monotonic()
    began: dict[UUID, float] = {}
    ended: dict[UUID, FlowRun] = {}
    second: set[UUID] = set()
    told = False

    def again(child: FlowRun, why: str) -> bool:
        if fallback is None or child.id in second:
            return False
        log.warning("%s %s; it is started once more with %s", child.name, why, fallback)
        _cancel(client, child.id)
        run = _start(deployment, children[child.id], fallback)
        children[run] = children.pop(child.id)
        second.add(run)
        return True

    while len(ended) < len(children):
        late = time.monotonic() - waits_since > start_s
        for run in [run for run in children if run not in ended]:
            try:
                child = client.read_flow_run(run)
            except (httpx.TransportError, PrefectHTTPStatusError) as error:
                if isinstance(error, PrefectHTTPStatusError) and error.response.status_code < 500:
                    raise
                if not told:
                    log.warning("Prefect's API does not answer (%s); asking again", type(error).__name__)
                    told = True
                break
            told = False
            state = child.state
            assert state is not None
            if state.is_crashed() and again(child, "crashed"):
                waits_since = time.monotonic()
            elif state.is_final():
                ended[run] = child
            elif state.is_running() or state.is_cancelling():
                if time.monotonic() - began.setdefault(run, time.monotonic()) > cap_s + LATE_S:
                    raise ChildError(
                        f"{child.name} runs longer than its cap of {cap_s:.0f} s; it was cancelled"
                    )
            else:
                began.pop(run, None)  # a machine that is taken back puts its run into the queue again
                if late:
                    words = f"has not begun within {start_s:.0f} s (MNIST_GPU_START_S)"
                    if not again(child, words):
                        raise ChildError(
                            f"{child.name} {words}: is a worker of its pool up, and was there a machine?"
                        )
        if late or began.keys() & children.keys() - ended.keys():
            waits_since = time.monotonic()
        if len(ended) < len(children):
            time.sleep(POLL_S)
    return list(ended.values())


def _cancel(client: SyncPrefectClient, run: UUID) -> None:
    try:
        child = client.read_flow_run(run)
        if child.state is not None and not child.state.is_final():
            log.info("cancelling %s", child.name)
            client.set_flow_run_state(run, Cancelling())
    except (httpx.HTTPError, ObjectNotFound) as error:
        log.warning("the child run %s was not cancelled: %s", run, error)
