"""What every flow begins with, and what its steps work on: settings, competition, data, registry, run key."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State, TaskRun

from flows.caps import OverdueError
from flows.kaggle.competition import Competition, connect
from flows.kaggle.download import Data
from flows.kaggle.errors import SubmissionUnknownError
from flows.lease import Watch
from flows.ops.heartbeat import keep_alive
from flows.parameters import Parameters, RunParameters, check_night
from flows.records import RunKey
from flows.registry import Registry
from flows.report.ending import short
from flows.report.progress import progress
from flows.report.terminal import log_to_prefect
from flows.settings import Settings, SettingsError
from flows.store.open import open_store
from mnist_core.errors import MnistError
from mnist_core.models.base import find
from mnist_core.spec import SPECS

log = logging.getLogger("mnist")


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """What the steps of a flow work on.

    Attributes:
        settings: as the flow read them when it started.
        competition: on its server.
        data: the competition's files on this machine.
        registry: of the namespace that server, competition and data make.
        seconds: by step, filled by `clocked`.
        watch: what this run has seen of the list of leases.
    """

    settings: Settings
    competition: Competition
    data: Data
    registry: Registry
    seconds: dict[str, float] = field(default_factory=dict)
    watch: Watch = field(default_factory=Watch)

    @contextmanager
    def clocked(self, step: str) -> Iterator[None]:
        """Add the seconds that a step takes to `seconds[step]`."""
        with clocked(self.seconds, step):
            yield


@dataclass(frozen=True, kw_only=True)
class RunContext(Workspace):
    """What the steps of a run work on: a workspace, and the key of what is trained in it.

    Attributes:
        key: night, model, preset, attempt, …
    """

    key: RunKey

    def with_key(self, key: RunKey) -> "RunContext":
        """Return the same run for another key, such as that of one member."""
        return replace(self, key=key)


# The prologue that all flows share


def start_flow(parameters: Parameters) -> Settings:
    """Return the settings of a flow, with its parameters on top; nothing is contacted yet.

    Raises:
        SettingsError: a setting is wrong, the night is in the future, or the run comes from a schedule and
            MNIST_KAGGLE is not set: no person chose that server.
    """
    log_to_prefect()
    settings = parameters.read_settings()
    if isinstance(parameters, RunParameters) and not is_child():  # whose parent's clock may be ahead
        check_night(parameters.night, datetime.now(UTC).date())
    run = _flow_run()
    if is_scheduled() and not settings.kaggle_is_set:
        raise SettingsError(
            "a scheduled run needs MNIST_KAGGLE", "set it to `live` for kaggle.com, or to `practice`"
        )
    if run is not None and run.deployment_id is not None:
        keep_alive(run)
    return settings


def open_workspace(settings: Settings) -> Workspace:
    """Connect to the competition, download its files and open the registry of their namespace."""
    seconds: dict[str, float] = {}
    with clocked(seconds, "download"):
        competition = connect(settings)
        data = _download.with_options(**retries(settings))(competition)
    registry = Registry(open_store(settings.store), competition.namespace(data), data.spec)
    if not is_child():  # whose parent has said so
        log.info("store: %s, there %s", registry.store.location(""), short(registry.namespace))
    return Workspace(
        settings=settings, competition=competition, data=data, registry=registry, seconds=seconds
    )


def open_run(settings: Settings, key: RunKey, *, fresh: bool, attempt: int | None = None) -> RunContext:
    """Open the workspace of a run, at the attempt that its night is at.

    Args:
        settings: as `start_flow` gave them.
        key: the run's, without its attempt.
        fresh: open the next attempt.
        attempt: this one instead, because the caller has opened it.
    """
    workspace = open_workspace(settings)
    opened = workspace.registry.open_attempt(key, fresh) if attempt is None else key.with_attempt(attempt)
    return RunContext(**vars(workspace), key=opened)


def run_key(settings: Settings, parameters: RunParameters) -> RunKey:
    """Return the key of a run, without its attempt."""
    return RunKey(
        night=night_of(parameters.night),
        model=settings.model,
        preset=settings.preset,
        epochs=settings.epochs,
        seed=parameters.seed,
        recipe=parameters.recipe,
    )


def night_of(given: str | None, due: datetime | None = None) -> str:
    """Return the night: the given one, else the UTC date of the run's scheduled start, else today.

    Args:
        given: as a parameter of the run.
        due: the scheduled start of another run than this one.
    """
    from prefect.runtime import flow_run

    if given is not None:
        return given
    due = due or flow_run.scheduled_start_time or datetime.now(UTC)
    return due.astimezone(UTC).date().isoformat()


def run_name() -> str:
    """Return the name of this Prefect run."""
    from prefect.runtime import flow_run

    try:
        return name_of(flow_run.parameters)
    except SettingsError:  # the run itself fails with it
        return str(flow_run.name)


def name_of(given: Mapping[str, Any], due: datetime | None = None) -> str:
    """Return the name of a Prefect run: night, model and preset, as `2026-11-23 convnet fast`.

    Of a competition that is not built in its name follows: `2026-11-23 convnet fast of letters`.

    Args:
        given: the parameters of the run; that of a member is named `2026-11-23 ensemble best member 2 of 5`.
        due: the scheduled start of another run than this one.

    Raises:
        SettingsError: a parameter or setting is wrong.
    """
    known = {name: value for name, value in given.items() if name in RunParameters.model_fields}
    parameters = RunParameters.check(**known)
    settings = parameters.read_settings()
    name = f"{night_of(parameters.night, due)} {settings.model} {settings.preset}"
    name += "" if settings.competition in SPECS else f" of {settings.competition}"
    if given.get("member") is None:
        return name
    return f"{name} member {given['member']} of {find(settings.model).members(settings.preset)}"


def is_scheduled() -> bool:
    """Return whether the schedule started this run, rather than a person."""
    run = _flow_run()
    return run is not None and bool(run.auto_scheduled)


def is_child() -> bool:
    """Return whether this run is part of another one, which shows the result."""
    run = _flow_run()
    return run is not None and run.parent_task_run_id is not None


def _flow_run() -> FlowRun | None:
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    return context.flow_run if context else None


@task(name="download", cache_policy=NO_CACHE, persist_result=False)
def _download(competition: Competition) -> Data:
    with progress(f"download {competition.name}") as advance:
        return competition.download(advance)


# Retries, clocks


def retries(settings: Settings) -> dict[str, Any]:
    """Return the options of a task that talks to the competition: retried after each of the set waits."""
    waits = settings.retry_waits_s
    return {"retries": len(waits), "retry_delay_seconds": waits, "retry_condition_fn": _is_retryable}


def _is_retryable(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    # After an unclear answer another try could post twice: only a new run, which reconciles first, resumes.
    # What is overdue has spent its cap.
    error = state.data
    retryable = isinstance(error, MnistError) and error.retryable
    if not retryable or isinstance(error, SubmissionUnknownError | OverdueError):
        return False
    log.warning("%s (trying again)", error)
    return True


@contextmanager
def clocked(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Add the seconds that a step takes to `seconds[step]`."""
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[step] = round(seconds.get(step, 0.0) + time.perf_counter() - started, 3)
