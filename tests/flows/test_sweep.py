"""The flow `sweep`: a grid of trainings, resumed by their run keys, compared on held-out rows."""

import json

import pytest

from flows import train as train_module
from flows.grid import read_grid
from flows.parameters import SweepParameters
from flows.records import RunKey
from flows.report import sweep as report
from flows.settings import SettingsError
from flows.sweep import sweep
from flows.sweep_records import SweepResult, SweepRow
from flows.trials import put_recipe, recipe_values
from mnist_core.errors import DivergedError, ModelError
from tests.prefect_api import ask

NIGHT = "2026-11-23"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["preset=fast"], [{"preset": "fast"}]),
        (
            ["preset=fast,best", "seed=1,2"],
            [
                {"preset": "fast", "seed": 1},
                {"preset": "fast", "seed": 2},
                {"preset": "best", "seed": 1},
                {"preset": "best", "seed": 2},
            ],
        ),
        (["lr=0.01, 0.02"], [{"lr": 0.01}, {"lr": 0.02}]),
        (["mirror=true", "batch-size=64"], [{"mirror": True, "batch_size": 64}]),
    ],
)
def test_the_points_of_a_grid(options, expected):
    """Each combination is a point, the last option changing fastest; numbers are numbers."""
    assert [point.values for point in read_grid(options)] == expected


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ([], "--set is missing"),
        (["preset"], "has no values"),
        (["seed=1,,2"], "has no values"),
        (["seed=1", "seed=2"], "seed occurs twice"),
        (["seed=1,1"], "a value occurs twice"),
        ([f"seed={','.join(map(str, range(40)))}", f"lr={','.join(map(str, range(40)))}"], "more than 1,000"),
    ],
)
def test_a_grid_of_another_form_is_refused(options, problem):
    """What is wrong with an option is said before anything starts."""
    with pytest.raises(SettingsError, match=problem):
        read_grid(options)


@pytest.mark.usefixtures("prefect_api")
def test_a_sweep_trains_each_point_once_and_promotes_nothing(job, monkeypatch, prefect_api):
    """A grid over seeds and a field of the recipe; the same grid again trains nothing, a larger one the rest.

    The competition's server is asked for its files and nothing else.
    """
    started, trained = job(), []
    monkeypatch.setenv("MNIST_EPOCHS", "1")
    fit = train_module._fit

    def counting(run, *given):
        trained.append(run.key.name)
        return fit(run, *given)

    monkeypatch.setattr(train_module, "_fit", counting)
    given = {"night": NIGHT, "model": "scratch"}

    first = sweep(**given, set=["seed=1,2", "lr=0.1"])
    again = sweep(**given, set=["seed=1,2", "lr=0.1"])
    larger = sweep(**given, set=["seed=1,2", "lr=0.1,0.2"])

    assert [row.values for row in first.rows] == [{"seed": 1, "lr": 0.1}, {"seed": 2, "lr": 0.1}]
    assert again.rows == first.rows
    assert len(trained) == 4
    assert len({row.version for row in larger.rows}) == 4
    registry = started.registry
    for row in larger.rows:
        entry = registry.need_version(row.version)
        low, high = row.valid_interval
        assert entry.recipe == {"lr": row.values["lr"]}
        assert low < row.valid_accuracy < high
    assert registry.champion() == (0, None)
    assert started.server.submissions() == []
    [artifact] = ask(prefect_api, "/artifacts/latest/filter", artifacts={"key": {"any_": ["sweep"]}})
    assert "4 trainings" in artifact["data"]
    assert "data:image/svg+xml;base64," in artifact["data"]


@pytest.mark.usefixtures("prefect_api")
def test_a_training_that_diverges_is_a_row_without_a_version(job, monkeypatch):
    """The others are trained, and the table says why this one is not."""
    job()
    monkeypatch.setenv("MNIST_EPOCHS", "1")
    fit = train_module._fit

    def diverging(run, *given):
        if run.key.seed == 1:
            raise DivergedError("the loss is not finite after 3 steps", "use a lower learning rate")
        return fit(run, *given)

    monkeypatch.setattr(train_module, "_fit", diverging)

    result = sweep(night=NIGHT, model="scratch", set=["seed=1,2"])

    assert (result.rows[0].version, result.rows[0].reason) == (None, "the loss is not finite after 3 steps")
    assert result.rows[1].version is not None


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize(
    ("grid", "error", "problem"),
    [
        ("lr=100", ModelError, "lr is 100; it must be a number"),
        ("widths=8,16", ModelError, "widths cannot be set; choose from"),
        ("seed=-1", SettingsError, "--seed -1: must be"),
        ("preset=quick", SettingsError, "preset.*must be one of"),
    ],
)
def test_a_point_that_cannot_be_trained_is_refused_before_the_first_training(
    job, monkeypatch, grid, error, problem
):
    """A field that does not exist, and a value out of range, end the command with their names."""
    job()
    monkeypatch.setattr(train_module, "_fit", lambda *_: pytest.fail("a training began"))

    with pytest.raises(error, match=problem):
        sweep(night=NIGHT, model="scratch", set=[grid])


def test_a_recipe_of_a_sweep_is_known_by_its_name(registry):
    """A run on another machine finds its values in the store; nights need not have tried it."""
    name = put_recipe(registry, {"lr": 0.02})

    assert put_recipe(registry, {"lr": 0.02}) == name
    assert recipe_values(registry, "convnet/fast", name) == {"lr": 0.02}
    assert put_recipe(registry, {}) == "preset"


ROWS = [
    SweepRow(values={"seed": 1}, version="a", valid_accuracy=0.91, valid_interval=(0.9, 0.92), train_s=2.0),
    SweepRow(values={"seed": 2}, reason="not trained"),
    SweepRow(values={"seed": 3}, version="c", valid_accuracy=0.95, valid_interval=(0.94, 0.96), train_s=4.0),
]


def test_the_table_begins_with_the_most_accurate():
    """Rows are sorted, keep the number that the drawing has, and say why one has no version."""
    result = SweepResult(namespace="kaggle/digit-recognizer/0123", rows=ROWS)

    lines = [line for line in report.markdown(result).splitlines() if line.startswith("|")]

    assert lines[0] == "|  | seed | validation accuracy (95 %) | seconds | version |"
    assert lines[2] == "| 3 | 3 | 0.9500 (0.9400 to 0.9600) | 4.0 | c |"
    assert lines[4] == "| 2 | 2 | not trained | – | – |"
    drawing = report.draw(result)
    assert drawing.count("<circle") == 2
    assert ">3</text>" in drawing


def test_a_sweep_without_any_version_is_drawn():
    """A table of failures has an empty drawing."""
    assert "<svg" in report.draw(SweepResult(namespace="a/b/c", rows=[ROWS[1]]))


def test_the_list_of_a_grid_travels_as_json():
    """A deployment's run gets what the command line was given."""
    given = SweepParameters.check(set=["seed=1,2"])

    assert json.loads(json.dumps(given.to_json())) == {"set": ["seed=1,2"]}
    assert RunKey(night=NIGHT, model="scratch", preset="fast", recipe="r-0123abcd").name.endswith(
        "r-0123abcd"
    )
