"""The flow that sweeps: a grid of trainings, and what each is worth on the held-out rows."""

import logging
from dataclasses import dataclass

from prefect import flow

from flows.caps import capped
from flows.grid import Point, read_grid, training_of
from flows.ops.children import ChildError, Limits, run_children
from flows.ops.deployments import own_name
from flows.parameters import SweepParameters, TrainParameters, takes
from flows.records import RunKey
from flows.registry import Registry
from flows.report import sweep as report
from flows.report.ending import call_flow
from flows.run import Workspace, open_workspace, run_key, start_flow
from flows.settings import Settings, SettingsError
from flows.sweep_records import SweepResult, SweepRow
from flows.train import train, training_name
from flows.trials import put_recipe
from mnist_core.errors import DivergedError
from mnist_core.spec import CompetitionSpec

log = logging.getLogger("mnist")


def run_name() -> str:
    """Return the name of a Prefect run, as `sweep preset=fast,balanced seed=1,2,3`."""
    from prefect.runtime import flow_run

    return " ".join(["sweep", *(flow_run.parameters.get("set") or [])])


@dataclass(frozen=True)
class Training:
    """One training of the sweep.

    Attributes:
        point: of the grid.
        given: the parameters of its run.
        key: of its run.
    """

    point: Point
    given: TrainParameters
    key: RunKey


@flow(name="sweep", flow_run_name=run_name)
@takes(SweepParameters)
def sweep(parameters: SweepParameters) -> SweepResult:
    """Train each point of a grid that is not trained yet, and compare them on the held-out rows.

    Nothing is promoted or submitted, and of the competition's rows only those of the training file are read.
    """
    settings = start_flow(parameters)
    with capped(settings.night_cap_s, "the sweep", "MNIST_NIGHT_CAP_S"):
        return train_grid(settings, parameters)


def train_grid(settings: Settings, parameters: SweepParameters) -> SweepResult:
    """Train the grid of a sweep, and show what each point is worth.

    Raises:
        ChildError: a child run failed; what was trained before is shown.
    """
    points = read_grid(parameters.set)
    given = [training_of(parameters, point) for point in points]
    workspace = open_workspace(settings)
    check_recipes(points, given, workspace.data.spec)
    registry, fresh = workspace.registry, parameters.fresh
    trainings = [open_training(registry, *each, fresh) for each in zip(points, given, strict=True)]
    todo = [each for each in trainings if registry.version_of(each.key) is None]
    log.info("trainings: %d, of which %d are finished", len(trainings), len(trainings) - len(todo))
    failed: dict[str, str] = {}
    try:
        with workspace.clocked("train"):
            failed = _train(workspace, todo)
    except ChildError:
        report.show(result_of(workspace, trainings, failed))
        raise
    result = result_of(workspace, trainings, failed)
    report.show(result)
    return result


def check_recipes(points: list[Point], given: list[TrainParameters], spec: CompetitionSpec) -> None:
    """Refuse a recipe that cannot be trained before the first training begins.

    Raises:
        SettingsError: a recipe is named and one is swept over.
        ModelError: a field cannot be set, or its value is out of bounds.
    """
    from flows.explore import first_member
    from mnist_core.training import recipe_of

    for point, parameters in zip(points, given, strict=True):
        if point.recipe and parameters.recipe is not None:
            raise SettingsError(
                f"--recipe {parameters.recipe}: --set changes the recipe, too", "leave one out"
            )
        settings = parameters.read_settings()
        member = first_member(settings.model)
        recipe_of(settings.model, settings.preset, member=member, values=point.recipe, spec=spec)


def open_training(registry: Registry, point: Point, given: TrainParameters, fresh: bool) -> Training:
    """Return a point's training, at its attempt or the next one; the store keeps its recipe."""
    if point.recipe:
        given = given.model_copy(update={"recipe": put_recipe(registry, point.recipe)})
    key = registry.open_attempt(run_key(given.read_settings(), given), fresh)
    return Training(point, given.model_copy(update={"night": key.night, "attempt": key.attempt}), key)


def _train(workspace: Workspace, todo: list[Training]) -> dict[str, str]:
    """Train in turn, or as a deployment's run by child runs on the GPU pool; return why some diverged.

    Raises:
        ChildError: a child run failed; the others were finished first.
    """
    from prefect.runtime import deployment

    failed: dict[str, str] = {}
    if deployment.id is not None:
        settings: Settings = workspace.settings
        children = {_name(each): each.given for each in todo}
        limits = Limits(start_s=settings.gpu_start_s, cap_s=settings.train_cap_s)
        if children:
            run_children(own_name("train/gpu", settings.competition), children, limits)
        return failed
    for number, each in enumerate(todo, start=1):
        log.info("training %d of %d: %s", number, len(todo), report.in_words(each.point.values))
        try:
            call_flow(train, **each.given.to_json())
        except DivergedError as error:
            log.warning("%s: %s", report.in_words(each.point.values), error)
            failed[each.key.key] = error.problem
    return failed


def _name(training: Training) -> str:
    """Return the name of a child run, which tells it from the others."""
    return f"{training_name(training.given.to_json())} {report.in_words(training.point.values)}"


def result_of(workspace: Workspace, trainings: list[Training], failed: dict[str, str]) -> SweepResult:
    """Return what is known of each training, in the order of the grid."""
    rows = []
    for each in trainings:
        name = workspace.registry.version_of(each.key)
        entry = None if name is None else workspace.registry.version(name)
        if entry is None:
            reason = failed.get(each.key.key, "not trained")
            rows.append(SweepRow(values=each.point.values, reason=reason))
            continue
        rows.append(
            SweepRow(
                values=each.point.values,
                version=entry.version,
                valid_accuracy=entry.valid_accuracy,
                valid_interval=entry.valid_interval,
                valid_score=entry.valid_score,
                valid_rows=entry.valid_rows,
                train_s=entry.seconds["train"],
            )
        )
    seconds = dict(workspace.seconds)
    return SweepResult(namespace=workspace.registry.namespace, rows=rows, seconds=seconds)
