"""The list of checks as a whole: what is skipped, what goes on, and the command."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flows.ops.doctor import checks
from flows.ops.doctor.checks import Check, examine
from flows.ops.doctor.finding import Finding, State
from mnist_core.errors import MnistError

ROOT = Path(__file__).parents[4]


def passes(name: str):
    """Return a check that passes."""
    return lambda settings: [Finding.ok(name, "fine")]


@pytest.fixture
def found(monkeypatch):
    """Run these checks instead of the real ones; their findings by name, `settings` among them."""

    def found(*table: Check) -> dict[str, Finding]:
        monkeypatch.setattr(checks, "CHECKS", table)
        return {finding.check: finding for finding in examine()}

    return found


def test_a_check_that_fails_does_not_stop_the_others(found):
    """Its error is its finding; what needs it is skipped, and what needs that too."""

    def fail(_settings):
        raise MnistError("refused", "ask for access")

    seen = found(
        Check("a", fail),
        Check("b", passes("b"), needs="a"),
        Check("c", passes("c"), needs="b"),
        Check("d", passes("d")),
    )

    assert seen["a"] == Finding.failed("a", "refused", "ask for access")
    assert seen["b"] == Finding.skipped("b", "a")
    assert seen["c"] == Finding.skipped("c", "b")
    assert seen["d"].state is State.OK


def test_an_unexpected_error_is_reported_without_its_text(found):
    """The text may hold a secret; the place is enough for an issue."""

    def fail(_settings):
        raise RuntimeError("a secret")

    seen = found(Check("a", fail))

    assert seen["a"].state is State.FAILED
    assert "RuntimeError in test_checks.py, line" in seen["a"].found
    assert "file an issue" in seen["a"].remedy
    assert "secret" not in repr(seen)


def test_a_check_that_hangs_is_abandoned(found, monkeypatch):
    """What it found before stays, and the others are run."""
    monkeypatch.setattr(checks, "CHECK_S", 0.2)
    released = threading.Event()

    def hang(_settings):
        yield Finding.ok("a: first", "fine")
        released.wait(60)

    seen = found(Check("a", hang), Check("b", passes("b")))
    released.set()

    assert "no answer within" in seen["a"].found
    assert seen["b"].state is State.OK


@pytest.mark.parametrize(
    ("name", "value", "skipped"),
    [
        ("MNIST_MODLE", "convnet", set()),
        ("MNIST_PRESET", "slow", set()),
        ("MNIST_STORE", "s3://", {"store", "last night", "clock, S3"}),
        ("MNIST_KAGGLE", "kaggle", {"credentials", "rules", "quota", "leaderboard", "last night", "clock"}),
        ("MNIST_RETRY_WAITS_S", "soon", set()),
    ],
)
def test_a_wrong_setting_skips_only_what_needs_it(monkeypatch, name, value, skipped):
    """The finding of the settings fails; what does not need that setting is checked."""
    monkeypatch.setenv(name, value)
    table = [Check(check.name, passes(check.name), check.settings) for check in checks.CHECKS]
    monkeypatch.setattr(checks, "CHECKS", table)

    seen = {finding.check: finding for finding in examine()}

    assert seen["settings"].state is State.FAILED
    assert name in seen["settings"].found
    assert {check for check, finding in seen.items() if finding.found == "skipped"} == skipped
    assert all(f"fix {name} first" == seen[check].remedy for check in skipped)


def test_a_server_that_nobody_chose_is_a_note(found, monkeypatch):
    """Manual runs use the practice server; a scheduled run would refuse to start."""
    assert found()["settings"].state is State.NOTE

    monkeypatch.setenv("MNIST_KAGGLE", "practice")
    assert found()["settings"].state is State.OK


def test_all_checks_have_names_of_their_own_and_need_one_that_comes_before():
    """A check that needs a later one would never be skipped."""
    names = [check.name for check in checks.CHECKS]

    assert len(set(names)) == len(names)
    for number, check in enumerate(checks.CHECKS):
        assert not check.needs or check.needs in names[:number]


def test_the_command_exits_with_1_only_if_something_failed(job, s3):
    """One line of JSON for machines, one finding a line for people; warnings alone are exit code 0."""
    started = job()
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "AWS_SECRET_ACCESS_KEY": "AwsSecretThatNobodyMayRead",
    }
    environment.pop("PREFECT_API_URL", None)

    def doctor(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "flows", "doctor", *arguments],
            env=environment | variables, cwd=started.home, text=True, capture_output=True, check=False,
        )  # fmt: skip

    done = doctor("--json")
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    printed = json.loads(line)
    assert (printed["failed"], printed["warning"], printed["note"]) == (0, 0, 1)  # no Prefect API is set
    assert {entry["check"] for entry in printed["checks"]} >= {"settings", "store: read", "GPU", "clock"}

    done = doctor(
        MNIST_STORE="s3://a-bucket-that-nobody-made", KAGGLE_API_TOKEN="KGAT_TokenThatNobodyMayRead"
    )
    assert done.returncode == 1
    assert "make that bucket" in " ".join(done.stdout.split())
    assert "NobodyMayRead" not in done.stdout + done.stderr
    assert started.server.key not in done.stdout + done.stderr
