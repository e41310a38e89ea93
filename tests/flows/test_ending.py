"""How a command ends: exit code, last line, and the command that resumes it."""

import sys
from datetime import UTC, datetime

import pytest

from flows import ending as endings
from flows.settings import SettingsError
from mnist_core.errors import MnistError

RESUME = "python -m flows nightly --night 2026-11-23"


@pytest.mark.parametrize(
    ("error", "code", "last_line"),
    [
        (SettingsError("MNIST_X is wrong", "fix it"), 2, "settings: MNIST_X is wrong; fix it"),
        (MnistError("an alarm", "check it"), 1, "failed: an alarm; check it"),
        (MnistError("it is down", retryable=True), 1, f"failed: it is down. To resume: {RESUME}"),
        (KeyboardInterrupt(), 1, f"stopped. To resume: {RESUME}"),
        (
            OSError(28, "No space left on device", "/disk/file"),
            1,
            "failed: /disk/file: No space left on device; free disk space or fix the permissions",
        ),
        (RuntimeError("odd"), 1, "failed: RuntimeError: odd; this is a bug, please report it"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_error_has_its_exit_code_and_last_line(error, code, last_line):
    """2 is for settings, 1 for everything else; only what can be retried says how to resume."""

    def fail() -> None:
        raise error

    ending = endings.end(fail, RESUME)

    assert (ending.code, ending.error) == (code, error)
    assert ending.last_line.startswith(last_line)


def test_a_command_that_ends_well_has_no_last_line(capsys):
    """Nothing is printed, and the exit code is 0."""
    ending = endings.end(lambda: None)
    ending.print_last_line()

    assert ending.code == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("typed", "resumed"),
    [
        ("nightly --fresh --json", "nightly --json --night 2026-11-23"),
        ("train --night 2026-11-20", "train --night 2026-11-20"),
        ("train --night=2026-11-20", "train --night=2026-11-20"),
        ("submit --version v", "submit --version v"),
    ],
)
def test_the_command_that_resumes_names_the_night(monkeypatch, typed, resumed):
    """Typed on another day it still means the same night; `--fresh` would open another attempt."""
    monkeypatch.setattr(sys, "argv", ["flows", *typed.split()])
    monkeypatch.setenv("MNIST_HOME", "/a home")

    command = endings.command_to_resume(datetime(2026, 11, 23, 23, 59, tzinfo=UTC))

    assert command.startswith("'MNIST_HOME=/a home' ")
    assert command.endswith(f" -m flows {resumed}")


def test_a_bug_is_reported_where_the_packages_metadata_says(monkeypatch):
    """The address of the issues is the project's; without one the sentence ends before it."""

    class Metadata:
        def get_all(self, _name: str) -> list[str]:
            return ["Competition, https://kaggle.com", "Issues, https://example.org/issues"]

    monkeypatch.setattr(endings, "metadata", lambda _name: Metadata())

    assert endings.issues() == " at https://example.org/issues"
