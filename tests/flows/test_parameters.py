"""The parameters of a run: one definition for command line, flows and forms."""

import inspect

import pytest
import typer
from prefect.utilities.callables import parameter_schema

from flows.parameters import (
    NightlyParameters,
    RunParameters,
    SubmitParameters,
    TrainParameters,
    overridden,
    takes,
)
from flows.settings import Settings, SettingsError, choices


@takes(TrainParameters)
def train(parameters: TrainParameters, *, loud: bool = False) -> tuple[TrainParameters, bool]:
    """Return what it was given."""
    return parameters, loud


def night(parameters: NightlyParameters) -> NightlyParameters:
    """Return what it was given."""
    return parameters


def form(function) -> dict:
    """Return the fields of a deployment's form, as Prefect reads them from a function."""
    return parameter_schema(function).properties


def test_a_function_takes_the_fields_as_its_own_parameters():
    """They can be given by name or position, and arrive as one checked record; others follow them."""
    assert train("2026-11-23", seed=7, loud=True) == (
        TrainParameters(night="2026-11-23", seed=7),
        True,
    )
    assert list(inspect.signature(train).parameters) == [*TrainParameters.model_fields, "loud"]


def test_a_command_does_not_take_what_is_for_child_runs():
    """An attempt that no run has opened would be trained once and then reused by a later --fresh."""

    @takes(TrainParameters, checked=False)
    def command(parameters: TrainParameters) -> TrainParameters:
        return parameters

    assert "attempt" not in inspect.signature(command).parameters
    assert command(seed=7) == TrainParameters(seed=7)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seed": -1}, "--seed -1: must be greater than or equal to 0"),
        ({"seed": 2**31}, "--seed 2147483648: must be less than or equal to 2147483647"),
        ({"night": "23.11.2026"}, "--night 23.11.2026: must be a date, such as 2026-11-23"),
        ({"night": "2026-02-30"}, "--night 2026-02-30: must be a date, such as 2026-11-23"),
        ({"member": 0}, "--member 0"),
        ({"attempt": 0}, "--attempt 0"),
        ({"night": "20261123"}, "--night 20261123: must be a date"),
        ({"night": "0001-01-05"}, "--night 0001-01-05: must be 2000-01-01 or later"),
    ],
)
def test_a_value_out_of_range_is_named_by_its_option(given, words):
    """One error with the option and its value, before anything starts."""
    with pytest.raises(SettingsError) as caught:
        train(**given)

    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["../../x", "latest", "2026-11-23-convnet-0123456g", ""])
def test_a_version_is_named_by_its_name_alone(name):
    """A path, or anything else that is not a version's name, is refused before anything starts."""
    with pytest.raises(SettingsError, match="must be a version's name"):
        SubmitParameters.check(version=name)

    assert SubmitParameters.check(version="2026-11-23-scratch-regression-0123abcd").version


def test_an_unknown_parameter_is_a_type_error():
    """As of any function."""
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        train(modle="convnet")


def test_the_form_has_title_description_choices_and_bounds():
    """What a person may enter is refused by the server before a machine is started."""
    fields = form(train)

    assert fields["model"]["enum"] == list(choices("model"))
    assert fields["device"]["enum"] == ["auto", "cpu", "cuda"]
    assert (fields["seed"]["minimum"], fields["seed"]["maximum"]) == (0, 2**31 - 1)
    assert fields["night"]["pattern"] == r"^\d{4}-\d{2}-\d{2}$"
    assert fields["night"]["format"] == "date"  # Prefect's UI shows a calendar
    assert fields["night"]["title"] == "Night (UTC date)"
    assert fields["fresh"]["type"] == "boolean"
    for name in TrainParameters.model_fields:
        assert fields[name]["title"][0].isupper()
        described = fields[name]["description"]
        assert described[0].isupper()
        assert described.endswith(".")
        assert "default" not in described
    assert fields["member"]["description"].endswith(" If empty: all.")
    assert "unset" not in fields["member"]


def test_forcing_a_night_says_that_it_posts():
    """It stands beside the dry run, which does not."""
    fields = form(takes(NightlyParameters)(night))

    assert "post the predictions to Kaggle" in fields["force"]["description"]
    assert "submit nothing" in fields["dry_run"]["description"]


def test_the_words_of_a_setting_are_those_of_its_option_and_its_form():
    """They are written once, in `Settings`, and end with what is used by default."""
    for name in overridden(RunParameters):
        words = Settings.model_fields[name].description
        described = form(train)[name]["description"]
        [option] = [
            entry
            for entry in inspect.signature(train).parameters[name].annotation.__metadata__
            if isinstance(entry, typer.models.OptionInfo)
        ]

        assert described.startswith(words)
        assert described.endswith(f". If empty: MNIST_{name.upper()}.")
        assert option.help == described.removesuffix(".").replace(". If empty: ", " (default: ") + ")."


def test_parameters_override_the_settings(monkeypatch, tmp_path):
    """What is given wins over the environment; what is not is the setting's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNIST_PRESET", "best")
    monkeypatch.setenv("MNIST_DEVICE", "cpu")

    settings = NightlyParameters(preset="fast").read_settings()

    assert (settings.preset, settings.device) == ("fast", "cpu")
    with pytest.raises(SettingsError, match=r"--model, MNIST_MODEL: must be one of .*did you mean convnet"):
        NightlyParameters(model="convent").read_settings()


def test_only_what_differs_from_the_defaults_is_sent():
    """A deployment's run is asked for with what was given, and nothing else."""
    assert SubmitParameters().to_json() == {}
    assert TrainParameters(night="2026-11-23", attempt=2).to_json() == {"night": "2026-11-23", "attempt": 2}
