"""A child run on another pool: started, waited for, its states checked, cancelled when its parent ends."""

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

    again = True


def run_child(deployment: str, parameters: dict[str, Any], start_s: float, cap_s: float) -> float:
    """Run a deployment as a child of this run, and wait for its end.

    A parent that ends meanwhile, because it is cancelled or overdue, cancels the child. An API that does
    not answer is asked again: the child does not need this run to go on.

    Args:
        deployment: as `train/gpu`.
        parameters: of the child; references, never arrays.
        start_s: seconds within which it must have begun: a machine may start from zero.
        cap_s: seconds of its own running time, by the cap that it has itself.

    Returns:
        The seconds that it cost beyond its own running time: until it began, and until its end was seen.

    Raises:
        ChildError: there is no such deployment, it did not begin or end in time, or it ended otherwise than
            Completed.
    """
    asked = time.monotonic()
    try:
        child: FlowRun = run_deployment(  # type: ignore[assignment]  # it is sync here
            deployment, parameters={k: v for k, v in parameters.items() if v is not None}, timeout=0
        )
    except ObjectNotFound:
        raise ChildError(
            f"there is no deployment {deployment} on this server; `make deployments` makes it"
        ) from None
    with get_client(sync_client=True) as client:
        try:
            child = _ended(client, child.id, start_s, cap_s)
        except BaseException:
            _cancel(client, child.id)
            raise
    assert child.state is not None
    if not child.state.is_completed():
        raise ChildError(f"{child.state.name} on {deployment}: {child.state.message or 'no message'}")
    return round(time.monotonic() - asked - child.total_run_time.total_seconds(), 3)


def _ended(client: SyncPrefectClient, run: UUID, start_s: float, cap_s: float) -> FlowRun:
    asked, began, told = time.monotonic(), 0.0, False
    while True:
        try:
            child = client.read_flow_run(run)
        except (httpx.TransportError, PrefectHTTPStatusError) as error:
            if isinstance(error, PrefectHTTPStatusError) and error.response.status_code < 500:
                raise
            if not told:
                log.warning("Prefect's API does not answer (%s); asking again", type(error).__name__)
                told = True
        else:
            told = False
            assert child.state is not None
            if child.state.is_final():
                return child
            if child.start_time is not None and not began:
                began = time.monotonic()
            if not began and time.monotonic() - asked > start_s:
                raise ChildError(
                    f"{child.name} has not begun within {start_s:.0f} s (MNIST_GPU_START_S): is a worker of "
                    "its pool up, and was there a machine?"
                )
            if began and time.monotonic() - began > cap_s + LATE_S:
                raise ChildError(f"{child.name} runs longer than its cap of {cap_s:.0f} s; it was cancelled")
        time.sleep(POLL_S)


def _cancel(client: SyncPrefectClient, run: UUID) -> None:
    try:
        child = client.read_flow_run(run)
        if child.state is not None and not child.state.is_final():
            log.info("cancelling %s", child.name)
            client.set_flow_run_state(run, Cancelling())
    except (httpx.HTTPError, ObjectNotFound) as error:
        log.warning("the child run %s was not cancelled: %s", run, error)
