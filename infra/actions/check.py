"""`make actions-check`: run the `run:` steps of the nightly workflow on this machine, as GitHub would.

    python -m infra.actions.check

Each run has a clean clone of the last commit, with a bare repository as its remote, and submits to a practice
server. Nights: one as usual; one whose runner is lost between the post and the save, and which runs again;
one during which a dry run pushes the branch `store`; one during which another night does, and which therefore
fails and runs again. Steps with `uses:` are not run, nor is the one that installs: the clone gets a link to
this installation's `.venv`. It cannot show what GitHub itself does: the schedule, the permissions of its
token, the cache, the limits of steps and jobs.
"""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests

from flows.ops.practice import Practice, find_or_start
from infra.actions.workflow import JobRun, Step, is_due, read_workflow
from infra.practice import PracticeOptions
from mnist_core.errors import MnistError

log = logging.getLogger("actions-check")
ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "nightly.yml"
COMPETITION = "digits-mini"
NIGHTS = ("2026-11-23", "2026-11-24", "2026-11-25", "2026-11-26", "2026-11-27")
STEP_S = 600
"""Time limit in seconds of one step."""
POLL_S = 0.1
OURS = ("MNIST_", "KAGGLE_", "AWS_", "PREFECT_")
"""Families of variables that a runner does not have from this machine."""
EASY = {"MNIST_FLOOR": "0", "MNIST_MARGIN_ROWS": "1000", "MNIST_AGREEMENT": "0", "MNIST_SHARE_MIN": "0"}
"""So that each of the small competition's nights passes the gate, and submits."""


class ActionsCheckError(MnistError):
    """The workflow's steps did not do what they must."""


class Runners:
    """GitHub, played: a repository, and a clean clone of it for each run.

    Args:
        folder: for the repository and the clones.
        practice: the server to submit to.
    """

    def __init__(self, folder: Path, practice: Practice) -> None:
        self.folder = folder
        self.practice = practice
        self.workflow = read_workflow(WORKFLOW)
        self.origin = folder / "origin.git"
        self.count = 0
        subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", self.origin], check=True)
        subprocess.run(["git", "-C", self.origin, "config", "receive.shallowUpdate", "true"], check=True)
        push = ["git", "-C", str(ROOT), "push", "--quiet", str(self.origin), "HEAD:refs/heads/main"]
        subprocess.run(push, check=True)

    def new(self, **inputs: str) -> JobRun:
        """Return a run of the job `night` on a new runner, with what a person gave in the form."""
        self.count += 1
        checkout = self.folder / f"runner-{self.count}"
        subprocess.run(
            ["git", "clone", "--quiet", "--depth", "1", f"file://{self.origin}", checkout], check=True
        )
        (checkout / ".venv").symlink_to(Path(sys.prefix), target_is_directory=True)
        temp = self.folder / f"temp-{self.count}"
        temp.mkdir()
        context = {
            "vars": {"MNIST_KAGGLE": self.practice.url},
            "inputs": inputs,
            "github": {"event_name": "workflow_dispatch"},
        }
        environment = {
            "MNIST_COMPETITION": COMPETITION,
            "MNIST_KAGGLE_TOKEN": self.practice.token,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(checkout),
            **EASY,
        }
        run = JobRun(self.workflow, "night", checkout, context, environment, temp)
        if not is_due(self.workflow["jobs"]["night"]["if"], context, failed=False):
            raise ActionsCheckError("the job `night` does not run when it is started manually")
        return run

    def submissions(self) -> list[str]:
        """Return the descriptions of all submissions that the server lists, the newest first."""
        answer = requests.post(
            f"{self.practice.url}/v1/competitions.CompetitionApiService/ListSubmissions",
            json={"competitionName": COMPETITION, "pageSize": 100},
            headers={"Authorization": f"Bearer {self.practice.token}"},
            timeout=10,
        )
        answer.raise_for_status()
        return [submission["description"] for submission in answer.json()["submissions"]]

    def branch_commits(self) -> str:
        """Return the number of commits on the branch `store`."""
        count = ["git", "-C", str(self.origin), "rev-list", "--count", "store"]
        return subprocess.run(count, capture_output=True, text=True, check=True).stdout.strip()


def run_steps(
    run: JobRun,
    *,
    lost_when: Callable[[], bool] | None = None,
    before_save: Callable[[], None] | None = None,
) -> JobRun:
    """Run the job's steps in order.

    Args:
        run: the job on its runner.
        lost_when: the runner is lost as soon as this is true while the night runs: nothing else is run.
        before_save: called before the store is saved.
    """
    for step in run.workflow["jobs"][run.job]["steps"]:
        name = step.get("name", step.get("uses", ""))
        if "run" not in step or "make setup" in step["run"] or not run.is_due(step):
            run.end(step, Step(name, "skipped"))
            continue
        if before_save is not None and "store_branch save" in step["run"]:
            before_save()
        began = time.monotonic()
        process = run.start(step)
        if lost_when is not None and "flows nightly" in step["run"]:
            _kill_when(process, lost_when)
            log.info("  %s: the runner is lost after %.0f s", name, time.monotonic() - began)
            return run
        printed = output_of(process, name)
        outcome = "failure" if process.returncode else "success"
        done = Step(name, outcome, printed, time.monotonic() - began)
        log.info("  %s: %s, %.1f s", name, outcome, done.seconds)
        run.end(step, done)
    return run


def output_of(process: subprocess.Popen[str], name: str, within_s: float = STEP_S) -> str:
    """Return what a step prints until it ends.

    Raises:
        ActionsCheckError: it does not end in time; its processes are killed.
    """
    try:
        return process.communicate(timeout=within_s)[0]
    except subprocess.TimeoutExpired:
        printed = _kill(process)
    raise ActionsCheckError(f"{name}: did not end within {within_s:.0f} s: {printed}")


def _kill_when(process: subprocess.Popen[str], lost_when: Callable[[], bool]) -> None:
    """Kill a step's processes as soon as something is so, as a runner that is lost."""
    deadline = time.monotonic() + STEP_S
    while not lost_when():
        if process.poll() is not None or time.monotonic() > deadline:
            raise ActionsCheckError(f"the night ended before it could be killed: {_kill(process)}")
        time.sleep(POLL_S)
    _kill(process)


def _kill(process: subprocess.Popen[str]) -> str:
    """Kill what is left of a step's processes, and return what it printed."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[0]


def expect(run: JobRun, *, promoted: bool = True) -> None:
    """Check that a run succeeded, saved the store and shows its scorecard."""
    failed = [step for step in run.steps if step.outcome == "failure"]
    saved = any(step.name == "Save the store" and step.outcome == "success" for step in run.steps)
    if failed or not saved:
        said = failed[0].printed if failed else "the store was not saved"
        raise ActionsCheckError(f"the run did not succeed: {said}")
    if promoted and "promoted" not in run.summary.splitlines()[0]:
        raise ActionsCheckError(f"the run's page does not show a promoted version: {run.summary}")
    if promoted and not (run.checkout / ".mnist/pages/index.html").exists():
        raise ActionsCheckError("the site was not written")


def ask(run: JobRun, command: str) -> Mapping[str, Any]:
    """Return what a command of the job prints as JSON on a runner."""
    done = subprocess.run(
        [".venv/bin/python", "-m", "flows", command, "--json"],
        cwd=run.checkout, env=run.variables(None), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ActionsCheckError(f"`flows {command}` failed: {done.stderr}")
    return dict(json.loads(done.stdout))


def check_lost_runner(runners: Runners, first: str, second: str) -> None:
    """Run a night, then one whose runner is lost between the post and the save, and that one again."""
    log.info("night %s:", first)
    expect(run_steps(runners.new(night=first)))

    log.info("night %s, the runner lost between the post and the save:", second)
    before = len(runners.submissions())
    run_steps(runners.new(night=second), lost_when=lambda: len(runners.submissions()) > before)
    log.info("night %s again:", second)
    expect(run_steps(runners.new(night=second)))


def check_competing_push(runners: Runners, night: str) -> None:
    """Run a night during which a dry run of another model pushes the branch."""

    def compete() -> None:
        log.info("  meanwhile a dry run of another model:")
        expect(run_steps(runners.new(night=night, model="scratch", dry_run="yes")), promoted=False)

    log.info("night %s, with a competing push:", night)
    expect(run_steps(runners.new(night=night), before_save=compete))


def check_competing_night(runners: Runners, other: str, night: str) -> None:
    """Run a night during which another night takes the same numbers of lists, then that night again."""

    def compete() -> None:
        log.info("  meanwhile night %s:", other)
        expect(run_steps(runners.new(night=other)))

    log.info("night %s, with a competing night:", night)
    failed = run_steps(runners.new(night=night), before_save=compete)
    said = [step.printed for step in failed.steps if step.outcome == "failure"]
    if len(said) != 1 or "another run took" not in said[0]:
        raise ActionsCheckError(f"the run did not fail because of the other one: {said}")
    log.info("night %s again:", night)
    expect(run_steps(runners.new(night=night)))


def check(runners: Runners) -> None:
    """Run all nights and check what is left of them.

    Raises:
        ActionsCheckError: a step failed, something was submitted twice, or the history is wrong.
    """
    check_lost_runner(runners, *NIGHTS[:2])
    check_competing_push(runners, NIGHTS[2])
    check_competing_night(runners, *NIGHTS[3:])
    check_end(runners, NIGHTS, ["convnet"] * len(NIGHTS) + ["scratch"])


def check_end(runners: Runners, nights: Sequence[str], models: Sequence[str]) -> None:
    """Check the submissions, the versions and the history, on a new runner.

    Args:
        runners: where the nights ran.
        nights: those that ran, the oldest first.
        models: of all versions, sorted.
    """
    descriptions = runners.submissions()
    tokens = {description.split()[0] for description in descriptions}
    last = runners.new()
    restore = next(step for step in last.workflow["jobs"]["night"]["steps"] if step.get("id") == "restore")
    last.is_due(restore)
    output_of(last.start(restore), "restore")
    status = ask(last, "status")
    found = {
        "submissions": len(descriptions),
        "contents": len(tokens),
        "history": [(night["night"], night["decision"]) for night in status["nights"]],
        "scored": all(night["public_score"] is not None for night in status["nights"]),
        "models": sorted(version["model"] for version in ask(last, "versions")["versions"]),
        "commits": runners.branch_commits(),
        "champion": status["champion"]["version"][:10],
    }
    wanted = {
        "submissions": len(nights),
        "contents": len(nights),
        "history": [(night, "promoted") for night in reversed(nights)],
        "scored": True,
        "models": list(models),
        "commits": "1",
        "champion": nights[-1],
    }
    for name, value in found.items():
        log.info("%s: %s", name, value)
        if value != wanted[name]:
            raise ActionsCheckError(f"{name}: {value} instead of {wanted[name]}")


def main() -> None:
    """Run the check; an error is one line and exit 1."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    for name in [name for name in os.environ if name.startswith(OURS)]:
        del os.environ[name]
    if not shutil.which("git"):
        raise SystemExit("actions-check: git is not installed")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="actions-check-") as folder:
        try:
            practice = find_or_start(
                Path(folder, "practice"), PracticeOptions(score_seconds=3), competition=COMPETITION
            )
            check(Runners(Path(folder), practice))
        except MnistError as error:
            raise SystemExit(f"actions-check: {error}") from None
    log.info("the steps of %s work, %.0f s", WORKFLOW.name, time.monotonic() - began)


if __name__ == "__main__":
    main()
