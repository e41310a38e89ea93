"""The flow that trains: competition data in, a published version out. Runs on the GPU pool."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prefect import State, flow, task
from prefect.cache_policies import NO_CACHE

from flows.caps import capped
from flows.ensemble import assemble, number_of, trained_keys
from flows.explore import explore, share_of, values_of
from flows.held_out import HeldOut
from flows.ops.children import Limits, run_children
from flows.ops.deployments import own_name
from flows.parameters import RunParameters, TrainParameters, check_member, takes
from flows.publish import publish, seed_of
from flows.records import RunKey, RunResult
from flows.registry import MissingVersionError
from flows.report.ending import call_flow, end_state
from flows.report.progress import progress
from flows.report.result import read_scorecard, summarise
from flows.report.terminal import show
from flows.run import RunContext, clocked, is_child, name_of, open_run, run_key, start_flow
from flows.settings import SettingsError
from flows.trials import read_log, seconds_of
from mnist_core.folds import FOLDS
from mnist_core.recipes import Value, recipe_name

if TYPE_CHECKING:
    import numpy as np

    from mnist_core import Digits
    from mnist_core.models.network import Network

log = logging.getLogger("mnist")


def run_name() -> str:
    """Return the name of this Prefect run."""
    from prefect.runtime import flow_run

    try:
        return training_name(flow_run.parameters)
    except SettingsError:  # the run itself fails with it
        return str(flow_run.name)


def training_name(given: Mapping[str, Any]) -> str:
    """Return the name of a run that trains: a member's, or such as `train 2026-11-23 convnet fast`.

    Args:
        given: the parameters of the run.
    """
    name = name_of(given)
    return name if given.get("member") is not None else f"train {name}"


@flow(name="train", flow_run_name=run_name)
@takes(TrainParameters)
def train(parameters: TrainParameters) -> RunResult | State[RunResult]:
    """Train a version and publish it, or reuse the one that the same command published.

    The night's members of an ensemble are trained one after another, each published when it is finished, and
    assembled with the champion's.

    Returns:
        The result, with `seconds` of download, read, train and publish.
    """
    settings = start_flow(parameters)
    key = run_key(settings, parameters)
    if parameters.member is not None:
        key = key.with_member(check_member(parameters.member, settings))
    with capped(settings.train_cap_s, "training", "MNIST_TRAIN_CAP_S"):
        run = open_run(settings, key, fresh=parameters.fresh, attempt=parameters.attempt)
        result = _report(run, train_or_reuse(run, share_of(settings)))
        return end_state(result, run.registry.namespace)


def train_or_reuse(run: RunContext, share: float = 0.0) -> str:
    """Train what is missing, and return the version: the network, or the ensemble of the members.

    Args:
        run: whose networks are trained.
        share: part of the seconds of training that is used to try other recipes afterwards.
    """
    keys = trained_keys(run.key)
    for key in keys:
        version = run.registry.version_of(key)
        if version is not None:
            log.info("reusing %s, which %s trained before", version, key.key)
            continue
        _, spent = fit_and_publish(run.with_key(key))
        for step, took in spent.items():
            run.seconds[step] = round(run.seconds.get(step, 0.0) + took, 3)
        if share and key.epochs is None and key.recipe is None:
            with run.clocked("explore"):
                explore(run.with_key(key), spent["train"], share)
    if keys == [run.key]:
        return run.registry.need_version_of(run.key)
    with run.clocked("publish"):
        return assemble(run, run.registry.champion()[1])


def train_missing(run: RunContext, parameters: RunParameters) -> None:
    """Train what this run has not trained yet, and add the seconds of the steps.

    It is trained where this run is: in its process, or, as a deployment's run, on the GPU pool, with a run
    for each member of an ensemble.

    Args:
        run: the nightly run.
        parameters: as they were given for it.
    """
    from prefect.runtime import deployment

    todo = [key for key in trained_keys(run.key) if run.registry.version_of(key) is None]
    given = TrainParameters(
        night=run.key.night,
        model=run.key.model,
        preset=run.key.preset,
        seed=parameters.seed,
        device=parameters.device,
        attempt=run.key.attempt,
        recipe=run.key.recipe,
        explore=share_of(run.settings),
    )
    if not todo:
        log.info("reusing what %s trained before", run.key.key)
    elif deployment.id is None:
        seconds = call_flow(train, **given.to_json()).seconds
        run.seconds.update({step: took for step, took in seconds.items() if step != "download"})
    else:
        _train_on_gpu_pool(run, given, todo)


def _train_on_gpu_pool(run: RunContext, given: TrainParameters, todo: list[RunKey]) -> None:
    """Start a run on the GPU pool for each key, wait for them, and add their seconds and their trials'.

    `start` is what the other machines cost: the seconds in which none of the runs was running.
    """
    settings = run.settings
    parameters = [given.model_copy(update={"member": key.member}) for key in todo]
    children = {training_name(given.to_json()): given for given in parameters}
    fallback = {"capacity_provider": settings.gpu_fallback} if settings.gpu_fallback else None
    limits = Limits(start_s=settings.gpu_start_s, cap_s=settings.train_cap_s)
    pool = own_name("train/gpu", settings.competition)
    run.seconds["start"] = run_children(pool, children, limits, fallback)
    for key in todo:
        version = run.registry.version(run.registry.version_of(key) or "")
        if version is None:
            raise MissingVersionError(
                "what was trained is not in this night's namespace: the competition's data changed while it "
                "ran, or the GPU pool has other MNIST_ settings",
                "run this again",
                retryable=True,
            )
        for step in ("read", "train"):
            run.seconds[step] = round(run.seconds.get(step, 0.0) + version.seconds[step], 3)
    if given.explore:
        known = read_log(run.registry)
        run.seconds["explore"] = round(sum(seconds_of(known, key) for key in todo), 3)


@task(name="fit and publish", cache_policy=NO_CACHE, persist_result=False)
def fit_and_publish(run: RunContext) -> tuple[str, dict[str, float]]:
    """Read the rows, fit a network, evaluate it on the held-out rows, publish it.

    Arrays stay inside this task.

    Returns:
        The version's name, and the seconds of `read`, `train` and `publish`.
    """
    import numpy as np

    from mnist_core import assign_folds, predict, read_train

    seconds: dict[str, float] = {}
    with clocked(seconds, "read"):
        digits = read_train(run.data.train_csv, run.data.spec, rows=run.data.spec.train_rows)
        labels = digits.true_labels
    values, number = values_of(run), number_of(run)
    fold = 0 if number is None else number % FOLDS
    folds = assign_folds(labels, run.data.digest)
    rows, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
    with clocked(seconds, "train"):
        net = _fit(run, digits, rows, fold, number, values)
    pixels = digits.pixels[held_out]
    predictions = HeldOut(held_out, labels[held_out], predict(net, pixels))
    facts = {
        "epochs": run.key.epochs,
        "rows": len(rows),
        "fold": fold,
        "number": number,
        "recipe": values,
        "seconds": seconds,
    }
    with clocked(seconds, "publish"):
        name = publish(run, net, predictions, pixels, facts)
    return name, seconds


def _fit(
    run: RunContext,
    digits: "Digits",
    rows: "np.ndarray",
    fold: int,
    number: int | None,
    values: Mapping[str, Value],
) -> "Network":
    """Train the network of a run on these rows of the training file."""
    from mnist_core import fit

    key, seed = run.key, seed_of(run.key)
    what = f"{key.model} {key.preset}"
    if number is not None:
        what = f"member {number + 1} of {what}"
    if values:
        what += f", recipe {recipe_name(values)}"
    log.info("training %s on %s rows, fold %d held out, seed %d", what, f"{len(rows):,}", fold, seed)
    with progress(f"train {what}") as advance:
        return fit(
            digits, key.model, key.preset, rows=rows, seed=seed, device=run.settings.device,
            epochs=key.epochs, member=number, values=values, progress=advance,
        )  # fmt: skip


def _report(run: RunContext, version: str) -> RunResult:
    """Return the result, and show it unless a run that this one is part of does so."""
    entry = run.registry.need_version(version)
    result = summarise(run.registry, entry, night=run.key.night, reason="trained", seconds=run.seconds)
    if not is_child():
        show(read_scorecard(run.registry, result, entry, run.settings.prices))
    return result
