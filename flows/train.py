"""The flow that trains: competition data in, a published version out. Runs on the GPU pool."""

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from prefect import Task, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from flows import report
from flows.ensemble import FOLDS, assemble, number_of, parts
from flows.held_out import HeldOut
from flows.kaggle.competition import Competition, connect
from flows.kaggle.download import Data
from flows.kaggle.errors import SubmissionUnknownError
from flows.parameters import TrainParameters, takes
from flows.publish import publish, seed_of
from flows.records import RunKey, RunResult
from flows.registry import Registry
from flows.settings import Settings, SettingsError, read_settings
from flows.store.open import open_store
from mnist_core.errors import MnistError

log = logging.getLogger("mnist")


def can_be_tried_again(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether a task failed for a reason that may pass by itself; says so in the log."""
    # After an unclear answer another try could post twice: only a new run, which looks first, goes on.
    again = getattr(state.data, "retryable", False) and not isinstance(state.data, SubmissionUnknownError)
    if again:
        log.warning("%s (the job tries it again)", state.data)
    return bool(again)


def retries(settings: Settings) -> dict[str, Any]:
    """The options of a task that talks to the competition: tried again after each of the set waits."""
    waits = settings.retry_waits_s
    return {"retries": len(waits), "retry_delay_seconds": waits, "retry_condition_fn": can_be_tried_again}


@contextmanager
def clocked(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Add the seconds that a step takes to `seconds[step]`."""
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[step] = round(seconds.get(step, 0.0) + time.perf_counter() - started, 3)


class OverdueError(MnistError):
    """Something took longer than its cap."""

    retryable = True


@contextmanager
def capped(seconds: float, what: str, setting: str) -> Iterator[None]:
    """End what takes longer than its cap, by a signal; an outer cap that ends earlier holds.

    Outside the main thread, where no signal arrives, there is no cap.

    Raises:
        OverdueError: it took longer.
    """

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise OverdueError(f"{what} took longer than {seconds:.0f} s ({setting})")

    outer = signal.getitimer(signal.ITIMER_REAL)[0]
    if threading.current_thread() is not threading.main_thread() or 0 < outer < seconds:
        yield
        return
    started, handler = time.monotonic(), signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGALRM) is ring:  # else Ctrl-C has set an alarm of its own
            left = max(outer - (time.monotonic() - started), 0.001) if outer else 0.0
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, left)


@task(name="download", cache_policy=NO_CACHE, persist_result=False)
def _download(competition: Competition) -> Data:
    with report.progress(f"download {competition.name}") as progress:
        return competition.download(progress)


def download(competition: Competition, settings: Settings) -> Data:
    """The competition's files on this machine, as a task that is tried again where that can help."""
    return _download.with_options(**retries(settings))(competition)


@task(name="fit and publish", cache_policy=NO_CACHE, persist_result=False)
def fit_and_publish(
    data: Data, run: RunKey, settings: Settings, registry: Registry
) -> tuple[str, dict[str, float]]:
    """Read the rows, fit, evaluate on the rows left out, publish; arrays stay inside this task.

    Returns:
        The version's name, and the seconds of `read`, `train` and `publish`.
    """
    import numpy as np

    from mnist_core import assign_folds, fit, predict, read_train

    seconds: dict[str, float] = {}
    with clocked(seconds, "read"):
        digits = read_train(data.train_csv, rows=data.spec.train_rows)
    assert digits.labels is not None
    fold = assign_folds(digits.labels, data.digest)
    number = number_of(run, registry, settings.members)
    left_out = 0 if number is None else number % FOLDS
    held_out, seen = np.flatnonzero(fold == left_out), np.flatnonzero(fold != left_out)
    what, seed = f"{run.model} {run.preset}", seed_of(run)
    which = {}
    if number is not None:
        what, which = f"member {number + 1} of {what}", {"number": number}
    log.info("training %s on %d rows without fold %d, seed %d", what, len(seen), left_out, seed)
    with clocked(seconds, "train"), report.progress(f"train {what}") as progress:
        net = fit(
            digits, run.model, run.preset, rows=seen, seed=seed, device=settings.device,
            epochs=run.epochs, member=number, progress=progress,
        )  # fmt: skip
    valid = digits[held_out]
    assert valid.labels is not None
    probabilities = predict(net, valid.pixels)
    with clocked(seconds, "publish"):
        name = publish(
            net,
            HeldOut(held_out, valid.labels, probabilities),
            valid.pixels,
            run,
            registry,
            {
                "data_digest": data.digest,
                "preset": run.preset,
                "epochs": run.epochs,
                "rows": len(seen),
                "fold": left_out,
                "seconds": seconds,
                **which,
            },
        )
    return name, seconds


def night_id(given: str | None) -> str:
    """The night's id: the one given, else the UTC date of the run's scheduled start, else today's.

    Raises:
        SettingsError: what was given is no date.
    """
    from prefect.runtime import flow_run

    if given is None:
        return (flow_run.scheduled_start_time or datetime.now(UTC)).astimezone(UTC).date().isoformat()
    try:
        return datetime.strptime(given, "%Y-%m-%d").date().isoformat()
    except ValueError:
        raise SettingsError(f"--night {given} is no date; write it as 2026-11-23") from None


def is_child() -> bool:
    """Whether this run is part of another one, which shows the result."""
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    run = context.flow_run if context else None
    return run is not None and run.parent_task_run_id is not None


def refuse_an_unset_server(settings: Settings) -> None:
    """A scheduled run does not start on the default server: nobody chose it.

    Raises:
        SettingsError: the run comes from a schedule and MNIST_KAGGLE is not set.
    """
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is not None and run.auto_scheduled and not settings.kaggle_is_set:
        raise SettingsError(
            "a scheduled run needs MNIST_KAGGLE: set it to `live` for kaggle.com, or to `practice`"
        )


def run_name() -> str:
    """What a run is called: its night, model and preset, as `2026-11-23 convnet fast`."""
    from prefect.runtime import flow_run

    given = flow_run.parameters
    try:
        settings = read_settings(model=given.get("model"), preset=given.get("preset"))
        return f"{night_id(given.get('night'))} {settings.model} {settings.preset}"
    except SettingsError:  # the run itself fails with it
        return str(flow_run.name)


@flow(name="train", flow_run_name=run_name)
@takes(TrainParameters)
def train(parameters: TrainParameters) -> RunResult:
    """Train tonight's version and publish it, or reuse the one that the same command published.

    Of an ensemble tonight's members are trained one after another, each published when it is finished, and
    put together with the champion's.

    Returns:
        The result that `--json` prints, with `seconds` of download, read, train and publish.
    """
    report.log_to_prefect()
    settings = parameters.read_settings()
    refuse_an_unset_server(settings)
    seconds: dict[str, float] = {}
    with clocked(seconds, "download"):
        competition = connect(settings)
        data = download(competition, settings)
    registry = Registry(open_store(settings.store), competition.namespace(data))
    run = RunKey(
        night=night_id(parameters.night),
        model=settings.model,
        preset=settings.preset,
        epochs=settings.epochs,
        seed=parameters.seed,
        attempt=parameters.attempt or 1,
        member=check_member(parameters.member, settings),
    )
    if parameters.attempt is None:
        run = registry.open_attempt(run, parameters.fresh)
    version = None
    with capped(settings.train_cap_s, "training", "MNIST_TRAIN_CAP_S"):
        for part in parts(run):
            version = registry.version_of(part)
            if version is not None:
                log.info("%s is trained already: %s", part.key, version)
                continue
            version, spent = fit_and_publish(data, part, settings, registry)
            for step, took in spent.items():
                seconds[step] = round(seconds.get(step, 0.0) + took, 3)
        if parts(run) != [run]:
            with clocked(seconds, "publish"):
                version = assemble(run, registry.champion()[1], data, registry, settings.members)
    result = report.summarise(registry, run.night, str(version), None, "trained", seconds)
    if not is_child():
        report.show(registry, result)
    return result


def check_member(member: int | None, settings: Settings) -> int | None:
    """A member in range.

    Raises:
        SettingsError: the model is no ensemble, or a night adds fewer.
    """
    if member is not None:
        count = len(parts(RunKey(night="", model=settings.model, preset=settings.preset)))
        if settings.model != "ensemble" or not 1 <= member <= count:
            what = f"a night of ensemble {settings.preset} adds {count}"
            if settings.model != "ensemble":
                what = f"{settings.model} is a single network"
            raise SettingsError(f"member {member}: {what}")
    return member
