"""Findings: their states, how they are shown, and what `--json` prints."""

import io

import pytest
from rich.console import Console

from flows.ops.doctor.finding import Finding, State, row, summary
from mnist_core.errors import MnistError


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (MnistError("the disk is full; really", "free space"), "free space"),
        (MnistError("the server is down", retryable=True), "run this command again later"),
    ],
)
def test_an_error_is_a_finding_with_its_remedy(error, remedy):
    """Problem and remedy are the error's attributes; its text is not taken apart."""
    found = Finding.of("a check", error)

    assert found == Finding("a check", State.FAILED, error.problem, remedy)


def test_a_skipped_check_says_what_to_fix_first():
    """It is a warning: nothing is known about it."""
    assert Finding.skipped("quota", "rules") == Finding("quota", State.WARNING, "skipped", "fix rules first")


def test_a_finding_is_shown_with_its_remedy_below_it():
    """One line for the state, the check and what was found, one for what to do."""
    out = io.StringIO()

    Console(file=out, width=80).print(row(Finding.failed("home", "/proc: denied", "set MNIST_HOME")))

    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert lines == ["failed   home                /proc: denied", " " * 29 + "→ set MNIST_HOME"]


def test_the_summary_counts_states():
    """What `--json` prints: each finding, and the number of findings in each state."""
    findings = [Finding.ok("a", "fine"), Finding.warning("b", "so so", "do it"), Finding.ok("c", "fine")]

    found = summary(findings)

    assert (found["ok"], found["warning"], found["failed"]) == (2, 1, 0)
    assert found["checks"][1] == {"check": "b", "state": "warning", "found": "so so", "remedy": "do it"}
