"""Settings: where they come from, and what is refused before anything starts."""

import os
from pathlib import Path

import pytest

from flows.settings import SettingsError, read_settings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A working directory without `.env`, and an environment without our variables."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("MNIST_"):
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
        ("MNIST_MODEL", "convent", "MNIST_MODEL.*convnet"),
        ("MNIST_PRESET", "slow", "MNIST_PRESET.*fast"),
        ("MNIST_DEVICE", "tpu", "MNIST_DEVICE.*cuda"),
        ("MNIST_FLOOR", "1.5", "MNIST_FLOOR.*less than or equal to 1"),
        ("MNIST_EPOCHS", "0", "MNIST_EPOCHS.*greater than or equal to 1"),
        ("MNIST_KAGGLE", "kaggle.com", "MNIST_KAGGLE.*practice.*live.*URL"),
        ("MNIST_KAGGLE", "http://me:secret@localhost", "MNIST_KAGGLE.*without credentials"),
        ("MNIST_STORE", "s3:/bucket", "MNIST_STORE.*s3://bucket/prefix"),
        ("MNIST_STORE", __file__, "MNIST_STORE: is a file; it must be a folder"),
        ("MNIST_COMPETITION", "../etc", "MNIST_COMPETITION"),
        ("MNIST_MODLE", "convnet", "MNIST_MODLE is no setting.*did you mean MNIST_MODEL"),
        ("MNIST_RETRY_WAITS_S", "abc", "MNIST_RETRY_WAITS_S: must be a list in JSON"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_may_be(monkeypatch, name, value, words):
    """A misspelled setting or value is one error that names the variable, and keeps the value to itself."""
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=words) as caught:
        read_settings()

    assert "secret" not in str(caught.value)


def test_the_environment_wins_over_dotenv_and_an_option_over_both(monkeypatch, tmp_path):
    """A variable beats `.env`, and what the command line gives beats the variable."""
    (tmp_path / ".env").write_text("MNIST_PRESET=best\nMNIST_MODEL=resnet18\nMNIST_KAGGLE=live\n")
    monkeypatch.setenv("MNIST_PRESET", "balanced")
    for name in ("MNIST_MODEL", "MNIST_KAGGLE"):
        monkeypatch.setenv(name, "")  # so that what .env sets is taken back after the test
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
