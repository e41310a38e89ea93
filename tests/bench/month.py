"""Run a month in an hour: 30 deployed nights on a practice server with short days, and a schedule.

    python -m tests.bench.month [--nights 30] [--home FOLDER] [--keep]

Each night is a run of the deployment over two process workers, with the smallest model. Among them are nights
without quota, a server that fails, an answer that is lost, a killed worker, a restarted API, models that the
gate rejects, and scores that raise the alarm. For each it prints how it ended, seconds, memory of server and
workers, and the size of database, store and home.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

from flows.ops.practice import read_record
from tests.e2e.conftest import ROOT, Installation
from tests.practice_server import PracticeServer
from tests.prefect_api import send

DAY_S, DAILY_LIMIT = 150, 3
PLAN = {
    6: "server-error", 9: "alarm", 12: "lost-reply", 15: "worker killed", 17: "rejected", 18: "rejected",
    20: "API restarted", 22: "rate-limit", 25: "alarm",
}  # fmt: skip


def megabytes(path: Path) -> float:
    """Return the size of a file with its SQLite companions, or of a folder."""
    files = path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.name}*")
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def memory(pid: int) -> float:
    """Return the resident megabytes of a process; 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return int(status.split("VmRSS:")[1].split()[0]) / 1e3 if "VmRSS:" in status else 0.0


def practise(home: Path) -> PracticeServer:
    """Start a practice server with short days."""
    command = [sys.executable, "-m", "infra.practice", "--home", str(home), "--port", "0"]
    command += ["--day-seconds", str(DAY_S), "--daily-limit", str(DAILY_LIMIT), "--score-seconds", "0.5"]
    home.mkdir(parents=True)
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    while not (record := read_record(home)):
        assert process.poll() is None, (home / "server.log").read_text()
        time.sleep(0.2)
    return PracticeServer(home, process, record.url, **json.loads((home / "credentials.json").read_text()))


def one_night(installed: Installation, number: int, night: str, plan: str | None) -> str:
    """Run one night, with what goes wrong in it, and return the run's id."""
    floor = "0.9999" if plan == "rejected" else "0.95"
    if installed.environment["MNIST_FLOOR"] != floor:  # a worker's jobs get its environment
        installed.environment["MNIST_FLOOR"] = floor
        worker = installed.processes()["cpu"]
        os.killpg(worker, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while Path(f"/proc/{worker}").exists():
            if time.monotonic() > deadline:  # Prefect's worker sometimes does not end when asked to
                os.killpg(worker, signal.SIGKILL)
            time.sleep(0.1)
        installed.up()
    if plan in ("server-error", "rate-limit"):
        installed.practice.fault(plan, count=3)
    if plan == "lost-reply":
        installed.practice.fault(plan, rpc="CreateSubmission")
    if plan == "alarm":
        installed.practice.fault("low-score", wrong=1000)
    run = installed.trigger("nightly/nightly", night=night, model="scratch", preset="fast")
    if plan == "worker killed":
        child = installed.child(run, "train")["id"]
        installed.wait_for_log(child, "training ")
        installed.kill_worker("gpu", child)
        installed.up()
    if plan == "API restarted":
        installed.wait_for_log(installed.child(run, "train")["id"], "training ")
        os.killpg(installed.processes()["server"], signal.SIGTERM)
        time.sleep(15)
        installed.up()
    installed.wait(run, 400)
    return run


def main() -> None:
    """Run the month, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--keep", action="store_true", help="Leave everything running.")
    options = parser.parse_args()
    home = options.home or Path(tempfile.mkdtemp()) / "home"
    practice = practise(home / "practice")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    keep = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
    settings = {
        "HOME": str(home.parent), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "MNIST_HOME": str(home), "MNIST_KAGGLE": practice.url,
        "MNIST_KAGGLE_TOKEN": practice.token, "MNIST_MODEL": "scratch", "MNIST_FLOOR": "0.95",
        "MNIST_RETRY_WAITS_S": "[2, 5, 10]", "MNIST_KEEP_REPORTS": "14",
    }  # fmt: skip
    installed = Installation(home, port, keep | settings, practice)
    started = time.monotonic()
    try:
        print(installed.up().strip(), flush=True)
        print(
            "| night | plan | run | decision | s | server MB | gpu MB | cpu MB | db MB | store MB | home MB |"
        )
        print("|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|")
        ends: Counter[str] = Counter()
        first = date(2026, 10, 1)
        for number in range(1, options.nights + 1):
            night, began = (first + timedelta(days=number - 1)).isoformat(), time.monotonic()
            run = one_night(installed, number, night, PLAN.get(number))
            took = time.monotonic() - began
            found = installed.run(run)
            card = installed.artifacts(run).get("scorecard", {}).get("description", "–: –")
            decision = card.rpartition(": ")[2]
            ends[f"{found['state_type']} {decision}"] += 1
            pids = installed.processes()
            sizes = [memory(pids[name]) for name in ("server", "gpu", "cpu")]
            sizes += [megabytes(home / "prefect" / "prefect.db"), megabytes(home / "store"), megabytes(home)]
            cells = [night, PLAN.get(number, ""), found["state_type"], decision]
            cells += [f"{figure:.0f}" for figure in (took, *sizes)]
            print(f"| {' | '.join(cells)} |", flush=True)
        print(f"\n{options.nights} nights in {(time.monotonic() - started) / 60:.1f} min: {dict(ends)}")
        print(f"submissions: {len(practice.submissions())}, versions: {len(installed.stored('versions'))}")
        twice = Counter(submission["description"] for submission in practice.submissions())
        print(f"posted twice: {[text for text, count in twice.items() if count > 1]}", flush=True)
        fire(installed)
    finally:
        if options.keep:
            print(f"still up: {installed.url}, home {home}")
        else:
            installed.down()
            practice.kill()


def fire(installed: Installation) -> None:
    """Wait until a schedule with a short interval has fired three times."""
    deployment = installed.ask("/deployments/name/nightly/nightly")["id"]
    often = {
        "active": True,
        "schedule": {"interval": 60},
        "parameters": {"model": "scratch", "preset": "fast"},
    }
    send(installed.url, f"/deployments/{deployment}/schedules", "POST", [often], login=installed.login)
    deadline = time.monotonic() + 400
    while True:
        runs = installed.ask(
            "/flow_runs/filter",
            flow_runs={"deployment_id": {"any_": [deployment]}, "state": {"type": {"any_": ["COMPLETED"]}}},
            sort="END_TIME_DESC",
        )
        fired = [run for run in runs if run["auto_scheduled"]]
        if len(fired) >= 3 or time.monotonic() > deadline:
            break
        time.sleep(2)
    print(f"an interval schedule of 60 s: {len(fired)} runs ended well:")
    for run in reversed(fired):
        print(f"  {run['name']}: due {run['expected_start_time'][11:19]}, began {run['start_time'][11:19]}")
    schedules = installed.ask(f"/deployments/{deployment}/schedules")
    for schedule in schedules:
        if "interval" in schedule["schedule"]:
            installed.command("prefect", "deployment", "schedule", "pause", "nightly/nightly", schedule["id"])


if __name__ == "__main__":
    main()
