"""Child runs on another pool: start them, wait for them, cancel them when their parent ends."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelling

from flows.parameters import Parameters
from mnist_core.errors import MnistError

log = logging.getLogger("mnist")
POLL_S = 2.0
LOG_S = 60.0
"""Seconds between two lines of the log about the children that are waited for."""
LATE_S = 120.0
"""Seconds that a child may take beyond its own cap before its parent gives it up."""


class ChildError(MnistError):
    """A child run did not end well."""

    retryable = True


@dataclass(frozen=True)
class Limits:
    """How long children may take.

    Attributes:
        start_s: seconds within which one must start, counted from when it was created or from when another
            one was last seen running: a machine may have to be booted for it.
        cap_s: seconds that it may run, by the cap that it has itself.
    """

    start_s: float
    cap_s: float


class Step(Enum):
    """What a parent does next about a child."""

    WAIT = auto()
    ENDED = auto()
    RESTART = auto()
    NOT_STARTED = auto()
    """Give up: it did not start in time."""
    OVERDUE = auto()
    """Give up: it runs too long."""


def next_step(
    state: State[Any], *, waiting_s: float, running_s: float, limits: Limits, restartable: bool
) -> Step:
    """Decide what to do about a child in a state.

    Args:
        state: its state on the server.
        waiting_s: seconds since it was created, or since another child was last seen running.
        running_s: seconds since it was first seen running.
        limits: how long it may take.
        restartable: whether it may be started once more.
    """
    if state.is_crashed() and restartable:
        return Step.RESTART
    if state.is_final():
        return Step.ENDED
    if state.is_running() or state.is_cancelling():
        return Step.OVERDUE if running_s > limits.cap_s + LATE_S else Step.WAIT
    if waiting_s > limits.start_s:
        return Step.RESTART if restartable else Step.NOT_STARTED
    return Step.WAIT


@dataclass
class Child:
    """A child run, and what its parent has seen of it.

    Attributes:
        name: that the server shows.
        run: its id on the server.
        parameters: with which it was started.
        restarted: whether it replaces one that found no machine or crashed.
        running_since: when it was first seen running, on the monotonic clock; None: it is not.
        ended: the run in its final state.
    """

    name: str
    run: UUID
    parameters: Parameters
    restarted: bool = False
    running_since: float | None = None
    ended: FlowRun | None = None


def run_children(
    deployment: str,
    children: Mapping[str, Parameters],
    limits: Limits,
    fallback: Mapping[str, Any] | None = None,
) -> float:
    """Run a deployment as children of this run, side by side as far as its pool has room, and wait for all.

    If the parent ends meanwhile, because it is cancelled or overdue, the children are cancelled. If one child
    fails, the others finish first, so that their work is kept. An API that does not answer is asked again:
    the children do not need this run in order to continue.

    Args:
        deployment: such as `train/gpu`.
        children: the parameters of each by its name; references, never arrays.
        limits: how long a child may take.
        fallback: job variables with which a child is started once more if it waits too long for a machine or
            crashes.

    Returns:
        The seconds in which no child was running: until machines were up, between children, and until their
        ends were seen.

    Raises:
        ChildError: the deployment does not exist, or a child did not start or end in time, or ended in
            another state than Completed.
    """
    created = time.monotonic()
    with get_client(sync_client=True) as client:
        family = _Family(client, deployment, limits, fallback)
        try:
            family.start(children)
            runs = family.wait()
        except BaseException:
            family.cancel()
            raise
    for run in runs:
        if run.state is None or not run.state.is_completed():
            state = run.state.name if run.state else "no state"
            cause = run.state.message if run.state else None
            raise ChildError(f"{state} on {deployment}: {cause or 'no message'}")
    return round(time.monotonic() - created - running_s(runs), 3)


def running_s(runs: Sequence[FlowRun]) -> float:
    """Return the seconds in which at least one of these runs was running."""
    seconds, until = 0.0, None
    for begin, end in sorted(
        (run.start_time, run.end_time) for run in runs if run.start_time and run.end_time
    ):
        seconds += max(0.0, (end - max(begin, until or begin)).total_seconds())
        until = max(end, until or end)
    return seconds


class _Family:
    """The children of one run."""

    def __init__(
        self, client: SyncPrefectClient, deployment: str, limits: Limits, fallback: Mapping[str, Any] | None
    ) -> None:
        self._client = client
        self._deployment = deployment
        self._limits = limits
        self._fallback = fallback
        self._children: list[Child] = []
        self._waiting_since = self._logged = time.monotonic()
        self._api_is_silent = False

    def start(self, children: Mapping[str, Parameters]) -> None:
        """Start a child of each of these names."""
        for name, given in children.items():
            self._children.append(Child(name, self._create(name, given), given))
        log.info("waiting for a machine of %s: %s", self._deployment, ", ".join(children))
        self._waiting_since = self._logged = time.monotonic()

    def wait(self) -> list[FlowRun]:
        """Wait until all have ended; return them in their final states."""
        while True:
            self._look()
            self._log_waiting()
            ended = [child.ended for child in self._children if child.ended is not None]
            if len(ended) == len(self._children):
                return ended
            time.sleep(POLL_S)

    def _log_waiting(self) -> None:
        """Log once a minute which children are waited for: whoever reads along sees that nothing hangs."""
        now = time.monotonic()
        if now - self._logged < LOG_S:
            return
        self._logged = now
        for child in self._children:
            if child.ended is None and child.running_since is None:
                log.info("%s still waits for a machine of %s", child.name, self._deployment)
            elif child.ended is None:
                log.info("%s has been running for %.0f s", child.name, now - (child.running_since or now))

    def cancel(self) -> None:
        """Cancel all that have not ended; what cannot be cancelled is logged."""
        for child in self._children:
            self._cancel(child.run)

    def _look(self) -> None:
        """Read the state of each child once, and act on it."""
        waiting_s = time.monotonic() - self._waiting_since
        # Those that were restarted come last: giving one up must not take another one's restart away.
        for child in sorted(self._children, key=lambda child: child.restarted):
            if child.ended is None:
                run = self._read(child.run)
                if run is None:
                    break
                self._act(child, run, waiting_s)
        running = any(child.running_since is not None and child.ended is None for child in self._children)
        if running or waiting_s > self._limits.start_s:
            self._waiting_since = time.monotonic()

    def _act(self, child: Child, run: FlowRun, waiting_s: float) -> None:
        state = run.state
        if state is None:
            return
        if not (state.is_running() or state.is_cancelling()):
            child.running_since = None  # a run whose machine was reclaimed is queued again
        elif child.running_since is None:
            child.running_since = time.monotonic()
            waited = (run.start_time - run.created).total_seconds() if run.start_time and run.created else 0.0
            log.info("%s is running, after %.0f s of waiting", child.name, waited)
        since = child.running_since
        step = next_step(
            state,
            waiting_s=waiting_s,
            running_s=0.0 if since is None else time.monotonic() - since,
            limits=self._limits,
            restartable=self._fallback is not None and not child.restarted,
        )
        late = f"did not start within {self._limits.start_s:.0f} s (MNIST_GPU_START_S)"
        if step is Step.ENDED:
            child.ended = run
            log.info("%s ended after %.0f s: %s", child.name, run.total_run_time.total_seconds(), state.name)
        elif step is Step.RESTART:
            self._restart(child, f"{run.name} {'crashed' if state.is_crashed() else late}")
        elif step is Step.NOT_STARTED:
            raise ChildError(
                f"{run.name} {late}", "check that its pool has an online worker and that a machine was free"
            )
        elif step is Step.OVERDUE:
            raise ChildError(
                f"{run.name} ran longer than its cap of {self._limits.cap_s:.0f} s and was cancelled"
            )

    def _restart(self, child: Child, why: str) -> None:
        log.warning("%s; starting it once more with %s", why, self._fallback)
        self._cancel(child.run)
        child.run, child.restarted = self._create(child.name, child.parameters, self._fallback), True
        self._waiting_since = time.monotonic()

    def _create(
        self, name: str, parameters: Parameters, job_variables: Mapping[str, Any] | None = None
    ) -> UUID:
        variables = None if job_variables is None else dict(job_variables)
        given = parameters.to_json()
        try:
            run = run_deployment(
                self._deployment, parameters=given, job_variables=variables, flow_run_name=name, timeout=0
            )
        except ObjectNotFound:
            raise ChildError(
                f"this server has no deployment {self._deployment}", "create it with `make deployments`"
            ) from None
        return run.id  # type: ignore[union-attr]  # synchronous here

    def _read(self, run: UUID) -> FlowRun | None:
        """Return a run; None if the API does not answer, which is logged once."""
        try:
            found = self._client.read_flow_run(run)
        except (httpx.TransportError, PrefectHTTPStatusError) as error:
            if isinstance(error, PrefectHTTPStatusError) and error.response.status_code < 500:
                raise
            if not self._api_is_silent:
                log.warning("Prefect's API does not answer (%s); asking again", type(error).__name__)
            self._api_is_silent = True
            return None
        self._api_is_silent = False
        return found

    def _cancel(self, run: UUID) -> None:
        try:
            found = self._client.read_flow_run(run)
            if found.state is not None and not found.state.is_final():
                log.info("cancelling %s", found.name)
                self._client.set_flow_run_state(run, Cancelling())
        except (httpx.HTTPError, ObjectNotFound) as error:
            log.warning("the child run %s was not cancelled: %s", run, error)
