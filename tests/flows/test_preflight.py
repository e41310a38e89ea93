"""What a command refuses, and says, before Prefect is imported."""

import logging
from datetime import date

import pytest
from typer.testing import CliRunner

from flows import __main__ as command_line
from flows.parameters import (
    NightlyParameters,
    SubmitParameters,
    SweepParameters,
    TrainParameters,
    check_night,
)
from flows.preflight import announcement, preflight
from flows.settings import SettingsError, read_settings

TODAY = date(2026, 11, 23)


@pytest.fixture(autouse=True)
def _log_as_before(monkeypatch):
    """A command sets the level of the job's log and adds a handler to it."""
    log = logging.getLogger("mnist")
    monkeypatch.setattr(log, "handlers", list(log.handlers))
    level = log.level
    yield
    log.setLevel(level)


@pytest.mark.parametrize(
    ("parameters", "settings", "line"),
    [
        (
            NightlyParameters(dry_run=True),
            {},
            "night 2026-11-23: convnet fast, a dry run; digit-recognizer on the practice server, not on "
            "kaggle.com; home /a/home",
        ),
        (
            TrainParameters(night="2026-11-20"),
            {"model": "scratch", "preset": "best"},
            "night 2026-11-20: scratch best, training alone; digit-recognizer on the practice server, not on "
            "kaggle.com; home /a/home",
        ),
        (
            SweepParameters.check(set=["seed=1,2", "preset=fast,best"]),
            {},
            "a sweep of 4 trainings, which promotes nothing; digit-recognizer on the practice server, not on "
            "kaggle.com; home /a/home",
        ),
        (
            SubmitParameters(),
            {"kaggle": "live"},
            "submitting the champion; digit-recognizer on kaggle.com; home /a/home",
        ),
        (
            SubmitParameters(version="2026-11-20-convnet-0123abcd"),
            {"kaggle": "https://host:444"},
            "submitting 2026-11-20-convnet-0123abcd; digit-recognizer on host:444; home /a/home",
        ),
    ],
)
def test_the_first_line_says_what_the_run_will_do(monkeypatch, tmp_path, parameters, settings, line):
    """Night, model and preset, the competition and whose server it is on, the home, and no `.env`."""
    monkeypatch.chdir(tmp_path)
    settings = read_settings(home="/a/home", **{"kaggle": "practice"} | settings)

    assert announcement(parameters, settings, TODAY) == f"{line}; no .env in {tmp_path}"


@pytest.mark.parametrize(
    ("night", "fine"), [(None, True), ("2026-11-22", True), ("2026-11-23", True), ("2026-11-24", False)]
)
def test_a_night_in_the_future_is_refused(night, fine):
    """It would stay the newest night until its date comes; today is the UTC date."""
    if fine:
        check_night(night, TODAY)
        return
    with pytest.raises(SettingsError, match=f"--night {night}: is in the future: the UTC date is {TODAY}"):
        check_night(night, TODAY)


def test_kaggle_without_credentials_is_refused(monkeypatch, tmp_path):
    """Before a server starts."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(SettingsError, match="no Kaggle credentials"):
        preflight(NightlyParameters(), read_settings(kaggle="live"))


def invoke(monkeypatch, *arguments):
    """Run a command up to the moment at which it would prepare Prefect."""

    def prepare(_settings):
        raise SettingsError("Prefect would start here")

    monkeypatch.setattr(command_line, "prepare_prefect", prepare)
    return CliRunner().invoke(command_line.app, arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nightly", "--seed", "-1"], "--seed -1"),
        (["nightly", "--night", "tomorrow"], "--night tomorrow: must be a date"),
        (["nightly", "--night", "2999-01-01"], "--night 2999-01-01: is in the future"),
        (["nightly", "--preset", "huge"], "--preset"),
        (["train", "--model", "convent"], "did you mean convnet?"),
        (["train", "--member", "0"], "--member 0"),
        (["train", "--member", "3"], "convnet is a single network"),
        (["sweep"], "--set is missing"),
        (["sweep", "--set", "preset=fast,huge"], "--preset"),
        (
            ["predict", "--input", "a", "--output", "b", "--engine", "dask"],
            "--engine dask: needs --scheduler",
        ),
        (["submit", "--version", "nope"], "--version nope: must be a version's name"),
        (["submit", "--version", "2026-11-23-convnet-0123abcd"], "flows nightly"),
    ],
)
def test_cheap_mistakes_are_refused_before_prefect_starts(monkeypatch, tmp_path, arguments, words):
    """Exit code 2 and one line that names the option."""
    monkeypatch.setenv("MNIST_HOME", str(tmp_path))

    ended = invoke(monkeypatch, *arguments)

    assert ended.exit_code == 2
    assert words in ended.stderr
    assert "Prefect would start" not in ended.stderr


def test_the_first_line_comes_before_prefect(monkeypatch, tmp_path, caplog):
    """A person sees at once what the run will do, not after the ten seconds that Prefect takes to start."""
    monkeypatch.setenv("MNIST_HOME", str(tmp_path))

    ended = invoke(monkeypatch, "nightly", "--night", "2026-11-23")

    assert "Prefect would start here" in ended.stderr
    assert caplog.messages[0].startswith("night 2026-11-23: convnet fast; digit-recognizer on the practice")


@pytest.mark.parametrize(("option", "lines"), [("--quiet", 0), ("--verbose", 1)])
def test_quiet_leaves_out_the_ordinary_lines(monkeypatch, tmp_path, caplog, option, lines):
    """Only warnings and errors are left."""
    monkeypatch.setenv("MNIST_HOME", str(tmp_path))

    invoke(monkeypatch, "nightly", option)

    assert len(caplog.messages) == lines


def test_quiet_and_verbose_exclude_each_other(monkeypatch):
    """Wrong usage, exit code 2."""
    assert invoke(monkeypatch, "nightly", "-q", "-v").exit_code == 2
