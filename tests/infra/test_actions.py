"""The workflow of the nights: when it runs, what it may do, and what its small programs say."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from flows.settings import choices
from infra.actions import check, issue
from infra.actions.summary import summary
from infra.actions.workflow import evaluate, fill, is_due, read_workflow

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
NIGHTLY = read_workflow(ROOT / ".github" / "workflows" / "nightly.yml")
URL = "https://github.com/a/b/actions/runs/1"


@pytest.mark.parametrize(
    ("event", "variable", "runs"),
    [
        ("schedule", "", False),
        ("schedule", "practice", False),
        ("schedule", "live", True),
        ("workflow_dispatch", "", True),
        ("workflow_dispatch", "live", True),
    ],
)
def test_without_the_variable_the_schedule_is_skipped(event, variable, runs):
    """A fork that has set nothing has no failing nights, and a person can try a practice night."""
    context = {"vars": {"MNIST_KAGGLE": variable}, "github": {"event_name": event}}

    assert is_due(NIGHTLY["jobs"]["night"]["if"], context, failed=False) is runs


@pytest.mark.parametrize(
    ("result", "variable", "dry_run", "runs"),
    [
        ("success", "live", False, True),
        ("failure", "live", False, True),
        ("failure", "live", "", True),
        ("cancelled", "live", False, False),
        ("skipped", "", False, False),
        ("failure", "", False, False),
        ("success", "live", True, False),
    ],
)
def test_the_issue_is_about_live_nights_that_ended(result, variable, dry_run, runs):
    """Practice nights, dry runs and cancelled ones neither open nor close the issue."""
    context = {
        "vars": {"MNIST_KAGGLE": variable},
        "inputs": {"dry_run": dry_run},
        "needs": {"night": {"result": result}},
    }

    failed = result != "success"
    assert is_due(NIGHTLY["jobs"]["issue"]["if"], context, failed=failed) is runs


@pytest.mark.parametrize(
    ("inputs", "model"),
    [({}, "resnet18"), ({"model": "default"}, "resnet18"), ({"model": "scratch"}, "scratch")],
)
def test_a_manual_run_may_name_another_model(inputs, model):
    """The form's `default` and a scheduled run take the variable; an empty one is unset for the job."""
    context = {"vars": {"MNIST_MODEL": "resnet18"}, "inputs": inputs}

    assert fill(NIGHTLY["env"]["MNIST_MODEL"], context) == model
    assert fill(NIGHTLY["env"]["MNIST_MODEL"], {"vars": {}, "inputs": {}}) == ""


@pytest.mark.parametrize("name", ["model", "preset"])
def test_the_form_offers_what_the_settings_allow(name):
    """Each model and preset can be chosen, and no other."""
    options = NIGHTLY["on"]["workflow_dispatch"]["inputs"][name]["options"]

    assert set(options) == {"default", *choices(name)}


@pytest.mark.parametrize(
    ("kaggle", "store", "runs"),
    [("practice", "", False), ("live", "", True), ("live", "s3://bucket/prefix", False)],
)
def test_the_branch_is_restored_if_there_is_no_bucket(kaggle, store, runs):
    """A practice night keeps nothing, and a bucket needs no branch."""
    restore = next(step for step in NIGHTLY["jobs"]["night"]["steps"] if step.get("id") == "restore")

    context = {"env": {"MNIST_KAGGLE": kaggle, "MNIST_STORE": store}}
    assert is_due(restore["if"], context, failed=False) is runs


@pytest.mark.parametrize(
    ("outcome", "runs"), [("success", True), ("failure", False), ("skipped", False), ("", False)]
)
def test_the_store_is_saved_after_a_failed_night_too(outcome, runs):
    """Whatever became of the night, what it wrote is saved, if the branch was restored before it."""
    steps = NIGHTLY["jobs"]["night"]["steps"]
    save = next(step for step in steps if "store_branch save" in step.get("run", ""))

    assert is_due(save["if"], {"steps": {"restore": {"outcome": outcome}}}, failed=True) is runs


@pytest.mark.parametrize(
    ("variable", "dry_run", "failed", "runs"),
    [
        ("live", "", False, True),
        ("live", True, False, False),
        ("live", "", True, False),
        ("", "", False, False),
    ],
)
def test_the_site_shows_live_nights_alone(variable, dry_run, failed, runs):
    """The pages are replaced after a live night that ended well, and neither by practice nor by a dry run."""
    context = {"vars": {"MNIST_KAGGLE": variable}, "inputs": {"dry_run": dry_run}}

    upload = NIGHTLY["jobs"]["night"]["steps"][-1]
    assert "upload-pages-artifact" in upload["uses"]
    assert is_due(upload["if"], context, failed=failed) is runs
    assert is_due(NIGHTLY["jobs"]["pages"]["if"], context, failed=failed) is runs


def test_the_night_ends_by_itself_before_its_step_and_its_job():
    """The cap of the night, the limit of its step and that of the job leave time to save the store."""
    job = NIGHTLY["jobs"]["night"]
    night = next(step for step in job["steps"] if "flows nightly" in step.get("run", ""))

    cap_minutes = int(NIGHTLY["env"]["MNIST_NIGHT_CAP_S"]) / 60
    assert cap_minutes < night["timeout-minutes"] < job["timeout-minutes"]


def test_the_workflow_may_do_no_more_than_it_must():
    """No permission is given to all jobs, no login stays in a checkout, and each action is pinned."""
    assert NIGHTLY["permissions"] == {}
    assert NIGHTLY["concurrency"]["cancel-in-progress"] is False
    given = {name: set(job["permissions"].items()) for name, job in NIGHTLY["jobs"].items()}
    assert given["night"] == {("contents", "write")}
    assert given["issue"] == {("contents", "read"), ("issues", "write")}
    assert given["pages"] == {("pages", "write"), ("id-token", "write")}
    for job in NIGHTLY["jobs"].values():
        assert job["timeout-minutes"] <= 90
        for step in job["steps"]:
            if "checkout" in step.get("uses", ""):
                assert step["with"] == {"persist-credentials": False}
            if "uses" in step:
                assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"]), step


def test_no_input_is_pasted_into_a_command():
    """What a person types in the form reaches a command by the environment alone."""
    for job in NIGHTLY["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("vars.A == 'x' && 'yes' || 'no'", "yes"),
        ("vars.B && 'yes' || 'no'", "no"),
        ("!vars.B && vars.A != 'y'", True),
        ("vars.B || vars.A", "x"),
    ],
)
def test_expressions_have_the_values_that_github_gives_them(expression, value):
    """`and` and `or` give an operand, and a name that is not there is empty."""
    assert evaluate(expression, {"vars": {"A": "x"}}) == value


def test_the_summary_is_the_scorecard_without_its_pictures(tmp_path):
    """The run's page shows the scorecard; pictures and captions stay out, since they lie on the runner."""
    card = tmp_path / "reports/2026-11-28/convnet-fast/000001/scorecard.md"
    card.parent.mkdir(parents=True)
    card.write_text(
        "# Night: promoted\n\n**Hardest**\n\n![Hardest](hardest.png)\n\n**Use** it:\n\n```\na\n\nb\n```\n"
    )

    expected = "# Night: promoted\n\n**Use** it:\n\n```\na\n\nb\n```\n"
    assert summary(tmp_path / "reports", tmp_path / "night.log") == expected


def test_the_summary_of_a_night_without_a_scorecard_is_the_end_of_its_log(tmp_path):
    """The run's page says why there is no scorecard."""
    log = tmp_path / "night.log"
    log.write_text("a\n" * 50 + "the rules are not accepted\n")

    assert summary(tmp_path / "reports", log).count("\n") == 24
    assert "the rules are not accepted" in summary(tmp_path / "reports", log)
    assert "did not begin" in summary(tmp_path / "reports", tmp_path / "none.log")


@pytest.fixture
def played(tmp_path, monkeypatch):
    """A `gh` that notes its arguments and answers with what the file `listed` holds."""
    program = tmp_path / "bin" / "gh"
    program.parent.mkdir()
    program.write_text(
        f"""#!/usr/bin/env python3
import json, pathlib, sys
here = pathlib.Path({str(tmp_path)!r})
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
if (here / "refusal").exists():
    sys.exit((here / "refusal").read_text())
if sys.argv[2] == "list":
    print((here / "listed").read_text())
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (tmp_path / "listed").write_text("[]")
    return tmp_path


def calls(played: Path) -> list[list[str]]:
    """Return the commands of `gh` after the first one, which lists."""
    return [json.loads(line) for line in (played / "calls").read_text().splitlines()][1:]


OPEN = json.dumps([{"number": 7, "title": issue.TITLE}, {"number": 8, "title": "Another one"}])


@pytest.mark.parametrize(
    ("listed", "result", "command"),
    [
        ("[]", "failure", ["issue", "create"]),
        (OPEN, "failure", ["issue", "comment", "7"]),
        (OPEN, "success", ["issue", "close", "7"]),
        ("[]", "success", None),
    ],
)
def test_one_issue_says_that_nights_fail(played, listed, result, command):
    """A failed night opens the issue, or updates the open one; a good one closes it."""
    (played / "listed").write_text(listed)

    issue.report(result, "store `x` is gone; restore it", URL)

    made = calls(played)
    assert [call[: len(command or [])] for call in made] == ([command] if command else [])
    assert all(URL in call[-1] for call in made)
    if result == "failure":
        assert "store x is gone; restore it" in made[0][-1]


def test_a_repository_without_issues_is_a_warning(played, monkeypatch, capsys):
    """A fork has no issues at first: the run's page says where to enable them, and nothing fails."""
    (played / "refusal").write_text("the 'a/b' repository has disabled issues")
    monkeypatch.setenv("RESULT", "failure")

    issue.main()

    assert capsys.readouterr().out.startswith("::warning::")


def test_another_refusal_of_github_fails(played, monkeypatch):
    """An issue that could not be written is no silent one."""
    (played / "refusal").write_text("HTTP 502")
    monkeypatch.setenv("RESULT", "failure")

    with pytest.raises(SystemExit, match="HTTP 502"):
        issue.main()


def step_of(*command):
    """Start a command as a step of a run is started."""
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_a_step_that_does_not_end_is_killed():
    """The check on this machine ends with the step's name, and leaves no process behind."""
    step = step_of("sleep", "600")

    with pytest.raises(check.ActionsCheckError, match="Run the night: did not end within 0 s"):
        check.output_of(step, "Run the night", within_s=0.1)

    assert step.returncode == -signal.SIGKILL


def test_a_night_that_ended_before_it_was_lost_is_reported():
    """What it printed is in the error, though none of its processes is left to be killed."""
    step = step_of("echo", "no room")
    step.wait()

    with pytest.raises(check.ActionsCheckError, match="ended before it could be killed: no room"):
        check._kill_when(step, lambda: False)
