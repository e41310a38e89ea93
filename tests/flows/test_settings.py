"""Settings: where they come from, and what is refused before anything starts."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from flows.environment import CERTIFICATES
from flows.settings import Settings, SettingsError, read_settings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A working directory without `.env`, and an environment without our variables."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("MNIST_", *CERTIFICATES)):
            monkeypatch.delenv(name)


def test_the_defaults_need_no_account_and_no_cloud():
    """Without any variable the job runs on the practice competition and a local folder."""
    settings = read_settings()

    assert (settings.kaggle, settings.model, settings.preset) == ("practice", "convnet", "fast")
    assert settings.store == str(Path(".mnist") / "store")
    assert not settings.kaggle_is_set


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MNIST_MODEL", "convent", r"MNIST_MODEL: must be one of .*scratch \(did you mean convnet\?\)"),
        ("MNIST_MODEL", "scratch-regression", "MNIST_MODEL: must be one of"),  # not for nightly runs
        ("MNIST_PRESET", "slow", "MNIST_PRESET.*fast"),
        ("MNIST_DEVICE", "tpu", "MNIST_DEVICE.*cuda"),
        ("MNIST_FLOOR", "1.5", "MNIST_FLOOR.*less than or equal to 1"),
        (
            "MNIST_SHARE_MIN",
            "0.5",
            "MNIST_SHARE_MIN: must be at most 0.1: there are 10 classes",
        ),  # no predictions could pass
        ("MNIST_MARGIN_ERRORS", "inf", "MNIST_MARGIN_ERRORS.*finite number"),
        ("MNIST_MARGIN_ERRORS", "11", "MNIST_MARGIN_ERRORS.*less than or equal to 10"),
        ("MNIST_MARGIN_ROWS", "-1", "MNIST_MARGIN_ROWS.*greater than or equal to 0"),
        ("MNIST_KEEP_REPORTS", "9" * 5000, "MNIST_KEEP_REPORTS"),
        ("MNIST_RETRY_WAITS_S", "[Infinity]", "MNIST_RETRY_WAITS_S.*finite number"),
        ("MNIST_EPOCHS", "0", "MNIST_EPOCHS.*greater than or equal to 1"),
        ("MNIST_KAGGLE", "kaggle.com", "MNIST_KAGGLE.*practice.*live.*URL"),
        ("MNIST_KAGGLE", "http://me:secret@localhost", "MNIST_KAGGLE: must be .*https://HOST"),
        ("MNIST_STORE", "s3:/bucket", "MNIST_STORE.*s3://bucket/prefix"),
        ("MNIST_STORE", __file__, "MNIST_STORE: is a file, but must be a folder"),
        ("MNIST_COMPETITION", "../etc", "MNIST_COMPETITION: must be one of digit-recognizer, digits-mini"),
        ("MNIST_KAGGLE", "http://example.com", "MNIST_KAGGLE: must begin with https"),
        ("MNIST_KAGGLE", "https://../x", "MNIST_KAGGLE: must be"),
        ("MNIST_KAGGLE_TOKEN", "secret with spaces", "MNIST_KAGGLE_TOKEN: must be a token"),
        ("MNIST_KAGGLE_TOKEN", "secret\nof two lines", "MNIST_KAGGLE_TOKEN: must be a token"),
        ("MNIST_KAGGLE_TOKEN", "“secret”", "MNIST_KAGGLE_TOKEN: must be a token"),
        ("AWS_SESSION_TOKEN", "secret\nof two lines", "AWS_SESSION_TOKEN has a .* line break"),
        ("PREFECT_API_KEY", "secret\n", "PREFECT_API_KEY has a .* line break"),
        ("MNIST_MODLE", "convnet", "MNIST_MODLE is not a setting.*did you mean MNIST_MODEL"),
        ("MNIST_RETRY_WAITS_S", "abc", "MNIST_RETRY_WAITS_S: must be a JSON list"),
        ("MNIST_RETRY_WAITS_S", "[10, -5]", "MNIST_RETRY_WAITS_S.*greater than or equal to 0"),
        ("MNIST_RETRY_WAITS_S", "[NaN]", "MNIST_RETRY_WAITS_S.*finite"),
        ("MNIST_RETRY_WAITS_S", "[Infinity]", "MNIST_RETRY_WAITS_S.*finite"),
        ("MNIST_RETRY_WAITS_S", "[1e300]", "MNIST_RETRY_WAITS_S.*less than or equal to 3600"),
        ("MNIST_RETRY_WAITS_S", str([1] * 21), "MNIST_RETRY_WAITS_S.*at most 20"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_may_be(monkeypatch, name, value, words):
    """A misspelled setting or value is one error that names the variable, and keeps the value to itself."""
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=words) as caught:
        read_settings()

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "-1", "-1e308"])
@pytest.mark.parametrize(
    "name",
    [
        name
        for name, field in Settings.model_fields.items()
        if {int, float} & {field.annotation, *get_args(field.annotation)}
    ],
)
def test_no_number_is_infinite_negative_or_undefined(monkeypatch, name, value):
    """A wait of infinite seconds, or a margin that is not a number, is refused before anything starts."""
    monkeypatch.setenv(f"MNIST_{name.upper()}", value)

    with pytest.raises(SettingsError) as caught:
        read_settings()

    assert caught.value.names == (name,)


@pytest.mark.parametrize(
    "name", [name for name, field in Settings.model_fields.items() if field.annotation is int]
)
def test_no_count_is_endless(monkeypatch, name):
    """Each whole number has a largest value."""
    monkeypatch.setenv(f"MNIST_{name.upper()}", str(10**12))

    with pytest.raises(SettingsError, match="less than or equal to"):
        read_settings()


@pytest.mark.parametrize("empty", ["", " ", "\t"])
@pytest.mark.parametrize("name", Settings.model_fields)
def test_an_empty_variable_counts_as_unset(monkeypatch, name, empty):
    """`MNIST_HOME=` is not the working directory, and no other setting has an empty value either."""
    unset = read_settings()
    monkeypatch.setenv(f"MNIST_{name.upper()}", empty)

    settings = read_settings()

    assert settings == unset
    assert name not in settings.model_fields_set
    assert settings.home == Path(".mnist")


def test_an_empty_variable_gives_way_to_dotenv(monkeypatch, tmp_path):
    """What is empty in the environment is taken from `.env`; what is empty there is unset."""
    (tmp_path / ".env").write_text("\ufeffMNIST_MODEL=scratch\nMNIST_HOME=\nMNIST_STORE=''\n", "utf-8")
    for name in ("MNIST_MODEL", "MNIST_HOME", "MNIST_STORE"):
        monkeypatch.setenv(name, "")

    settings = read_settings(preset="")

    assert (settings.model, settings.preset) == ("scratch", "fast")
    assert (settings.home, settings.store) == (Path(".mnist"), str(Path(".mnist") / "store"))


@pytest.mark.parametrize(
    "name",
    [
        "AWS_CA_BUNDLE",
        "AWS_PROFILE",
        "AWS_ENDPOINT_URL",
        "KAGGLE_CONFIG_DIR",
        "PREFECT_API_URL",
        "PREFECT_HOME",
    ],
)
def test_an_empty_variable_of_another_program_is_removed(monkeypatch, name):
    """boto3, Kaggle's client and Prefect do not see an empty variable, which would mean something else."""
    monkeypatch.setenv(name, " ")

    read_settings()

    assert name not in os.environ


def test_a_dotenv_that_is_not_text_is_refused(tmp_path):
    """A `.env` that an editor saved as UTF-16 is named, instead of being a bug."""
    (tmp_path / ".env").write_bytes("MNIST_MODEL=scratch\n".encode("utf-16"))

    with pytest.raises(SettingsError, match=r"\.env is not a text file; save it as UTF-8"):
        read_settings()


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name.endswith("_s")])
def test_every_time_has_an_upper_bound(name):
    """An alarm and a wait cannot be set to more than fits a clock."""
    assert "less than or equal" in str(_error_of(name, "1e300" if name != "retry_waits_s" else "[1e300]"))


def _error_of(name: str, value: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        read_settings(**{name: value})
    return caught.value


def test_the_environment_wins_over_dotenv_and_an_option_over_both(monkeypatch, tmp_path):
    """A variable beats `.env`, and what the command line gives beats the variable."""
    (tmp_path / ".env").write_text("MNIST_PRESET=best\nMNIST_MODEL=resnet18\nMNIST_KAGGLE=live\n")
    monkeypatch.setenv("MNIST_PRESET", "balanced")
    for name in ("MNIST_MODEL", "MNIST_KAGGLE"):
        monkeypatch.setenv(name, "")  # so that what .env sets is undone after the test
        monkeypatch.delenv(name)

    settings = read_settings(model="convnet", preset=None)

    assert (settings.preset, settings.model, settings.kaggle) == ("balanced", "convnet", "live")
    assert settings.kaggle_is_set


def test_other_variables_of_dotenv_reach_the_programs_that_read_them(monkeypatch, tmp_path):
    """Kaggle's and AWS's own variables can stand in `.env` too."""
    monkeypatch.setenv("KAGGLE_USERNAME", "")
    monkeypatch.delenv("KAGGLE_USERNAME")
    (tmp_path / ".env").write_text("KAGGLE_USERNAME=alice\n")

    read_settings()

    assert os.environ["KAGGLE_USERNAME"] == "alice"


def test_all_faults_are_in_one_error(monkeypatch):
    """Unknown names and wrong values are reported together; code reads the fields at fault from the error."""
    for name in ("MNIST_MODLE", "MNIST_PRESET", "MNIST_HOUSE"):
        monkeypatch.setenv(name, "x")

    with pytest.raises(SettingsError) as caught:
        read_settings(device="tpu")

    for words in ("MNIST_MODLE", "MNIST_HOUSE", "MNIST_PRESET: must", "--device, MNIST_DEVICE: must"):
        assert words in caught.value.problem
    assert set(caught.value.names) == {"preset", "device"}


def test_defaults_follow_from_other_settings(monkeypatch):
    """The store lies in the home; the share of each class and the floor come from competition and model."""
    settings = read_settings(home="elsewhere", competition="digits-mini")

    assert settings.store == "elsewhere/store"
    assert settings.share_min == settings.competition_spec.share_floor
    assert (settings.floor_of("convnet"), settings.floor_of("ensemble")) == (0.99, 0.995)
    assert read_settings(floor=0.5).floor_of("convnet") == 0.5


def test_a_default_that_cannot_be_computed_is_not_a_second_fault(monkeypatch):
    """A wrong competition has no share of its classes; the error names the competition alone."""
    with pytest.raises(SettingsError) as caught:
        read_settings(competition="mnist")

    assert caught.value.names == ("competition",)
    assert "share" not in str(caught.value)


def test_the_choices_of_a_model_are_the_registered_ones_and_need_no_torch():
    """A command line shows them before the seconds that importing torch takes."""
    code = (
        "import sys; from flows.settings import choices, read_settings; read_settings(model='ensemble');"
        "print(*choices('model')); assert not {'torch', 'prefect', 'numpy'} & sys.modules.keys()"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        text=True,
        capture_output=True,
        check=True,
    )

    assert done.stdout.split() == ["convnet", "ensemble", "resnet18", "scratch"]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described(name):
    """Command line, forms and documents show it; a default that is not a constant has words of its own."""
    field = Settings.model_fields[name]

    assert field.description[0].isupper()
    assert not field.description.endswith(".")
    if field.default_factory is not None or field.default is None:
        assert field.json_schema_extra["default"]


SPEC = """
name = "letters"
classes = ["a", "b", "c", "d"]
shape = [8, 8, 1]

[columns]
label = "label"

[submission]
header = ["id", "label"]
"""


def test_a_specification_names_the_competition(tmp_path, monkeypatch):
    """MNIST_SPEC alone is enough, as a file or as its text, which a container has where it has no file."""
    file = tmp_path / "letters.toml"
    file.write_text(SPEC)
    for value in (str(file), "letters.toml", SPEC):
        monkeypatch.setenv("MNIST_SPEC", value)
        settings = read_settings()
        assert (settings.competition, settings.competition_spec.class_count) == ("letters", 4)
        assert settings.spec.text == SPEC
    assert (settings.share_min, settings.floor_of("convnet")) == (0.125, None)


@pytest.mark.parametrize(
    ("spec", "competition", "words"),
    [
        (
            SPEC,
            "digits-mini",
            "MNIST_COMPETITION: is digits-mini, but MNIST_SPEC describes letters: leave it",
        ),
        ("absent.toml", "", "MNIST_SPEC: absent.toml: cannot be read .*name a TOML file"),
        (SPEC.replace("[8, 8, 1]", "[8, 8, 2]"), "", "MNIST_SPEC: its text: shape is .*1 or 3 channels"),
    ],
)
def test_a_wrong_specification_is_refused(monkeypatch, spec, competition, words):
    """The message names the setting, the key, its value and what is allowed."""
    monkeypatch.setenv("MNIST_SPEC", spec)
    monkeypatch.setenv("MNIST_COMPETITION", competition)

    with pytest.raises(SettingsError, match=words) as caught:
        read_settings()

    assert "\n" not in str(caught.value)
