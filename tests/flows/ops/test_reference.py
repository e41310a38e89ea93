"""The documents that are generated from the code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.ops import reference
from flows.settings import PREFIX, Settings, read_settings

ROOT = Path(__file__).parents[3]


def test_the_generated_documents_are_up_to_date():
    """Whoever changes a setting or an option runs `make docs-reference`; else `make check` fails."""
    assert reference.stale() == []


def test_an_outdated_document_is_noticed(tmp_path):
    """A changed, and a missing, document are named."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "cli.md").write_text(reference.command_lines())
    (tmp_path / ".env.example").write_text(reference.environment() + "# another line\n")

    assert reference.stale(tmp_path) == ["docs/configuration.md", ".env.example"]


@pytest.fixture(scope="module")
def configuration():
    """The reference of the settings."""
    return reference.configuration()


@pytest.fixture(scope="module")
def environment():
    """The example of an environment."""
    return reference.environment()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_the_reference_and_in_the_example(name, configuration, environment):
    """With its description in both."""
    variable = f"{PREFIX}{name.upper()}"

    [row] = [line for line in configuration.splitlines() if line.startswith(f"| `{variable}` |")]

    assert Settings.model_fields[name].description in row
    assert f"\n# {variable}=" in environment


def test_the_example_is_a_valid_environment(monkeypatch, tmp_path):
    """Each default of the example is accepted as it stands when its line is uncommented."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    for line in reference.environment().splitlines():
        name, _, value = line.removeprefix("# ").partition("=")
        if name.startswith(PREFIX) and name.isupper() and value:
            monkeypatch.setenv(name, value)

    settings = read_settings()

    for name in ("kaggle", "home", "retry_waits_s", "timeout_s", "silence_s"):
        assert getattr(settings, name) == Settings.model_fields[name].default


def test_bounds_choices_and_computed_defaults_are_stated():
    """A reader sees what a setting takes, and where a default comes from."""
    text = reference.configuration()

    assert "| `MNIST_EPOCHS` | by model and preset | at least 1, at most 1000 |" in text
    assert "| `MNIST_TIMEOUT_S` | `60` | more than 0, at most 120 |" in text
    assert "| `MNIST_DEVICE` | `auto` | `auto`, `cpu`, `cuda` |" in text
    assert "| `ensemble` | `0.995` |" in text


def test_every_command_has_its_help():
    """The help is plain text of a fixed width, whatever the terminal of whoever generates it."""
    text = reference.command_lines()

    for command in ("flows nightly", "flows doctor", "flows prune", "mnist_core train", "mnist_core sheet"):
        assert f"\n### python -m {command}\n\n```text\nUsage: python -m {command} [OPTIONS]" in text
    blocks = "".join(text.split("```text\n")[1:])
    assert max(map(len, blocks.splitlines())) <= reference.WIDTH


def test_the_check_fails_when_a_document_is_out_of_date():
    """`make check` runs this command."""
    command = [sys.executable, "-m", "flows.ops.reference", "--check"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
