"""Run nights in containers that Prefect's docker worker starts, on an engine of its own.

    python -m infra.docker_pool_check FOLDER     the engine's folder, with the images of `make compose-check`

A Prefect server with a login, its two workers and the practice server run on this machine. The containers
of the night and of its training must be confined, the night must be promoted, and no container may be
left. A night whose workers are killed ends well; one whose container is killed with them is marked, and
the next one ends well; one without its image is marked with the image's name. No night submits twice.
Needs root, and what `make compose-check` needs.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from flows.ops.practice import find_or_start
from infra.cloud_check import say
from infra.compose_engine import ROOT, build_images, engine, output
from infra.compose_installation import SETTINGS, Installation, expect, step

LOGIN = "mnist:docker-pool-check"
IMAGE = "mnist-nightly:missing"
BLOCK = (
    "import os; from prefect.blocks.system import Secret; "
    "Secret(value=os.environ['TOKEN']).save('kaggle-api-token')"
)
CONFINED = {
    "User": "10001:10001",
    "ReadonlyRootfs": True,
    "CapDrop": ["ALL"],
    "Memory": 8 << 30,
    "Init": True,
}


@contextmanager
def running(*command: str, log: Path, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command of this Python's environment until the block ends."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MNIST_")}
    with log.open("ab") as lines:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment | variables,
            stdout=lines,
            stderr=lines,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def containers(run: str = "") -> list[str]:
    """Return the ids of the containers that a worker started, for one run or for all."""
    label = f"label=io.prefect.flow-run-id{run and f'={run}'}"
    return output("docker", "ps", "--quiet", "--filter", label).split()


def check_confined(wanted: int) -> None:
    """Check how the running containers are confined.

    Args:
        wanted: number of containers that must run.
    """
    found = containers()
    expect("containers", len(found), wanted)
    for inspected in json.loads(output("docker", "inspect", *found)):
        config = inspected["HostConfig"] | inspected["Config"]
        expect(inspected["Name"], {name: config[name] for name in CONFINED}, CONFINED)
    say(f"{wanted} containers run as 10001, read-only, without capabilities, with 8 GB each")


class Pools:
    """The pools of a server, and their two workers.

    Attributes:
        made: the server.
        posted: file of the practice server that has all submissions.
    """

    def __init__(self, made: Installation, variables: dict[str, str], folder: Path) -> None:
        self.made = made
        self._variables = variables
        self._logs = {pool: folder / f"{pool}.log" for pool in ("cpu", "gpu")}
        self._create(folder)
        self.posted = folder / "practice" / "split-0" / "submissions.sqlite3"

    def _create(self, folder: Path) -> None:
        """Create block, pools and deployments as docs/docker-pool.md says."""
        practice = find_or_start(folder / "practice", competition=SETTINGS["MNIST_COMPETITION"])
        given = [
            f"api={self._variables['PREFECT_API_URL']}", f"kaggle={practice.url}", "token=MNIST_KAGGLE_TOKEN",
            "devices=[]",
        ]  # fmt: skip
        given += [f"{name}={value}" for name, value in SETTINGS.items() if name != "MNIST_KAGGLE"]
        output(sys.executable, "-c", BLOCK, TOKEN=practice.token, **self._variables)
        output(sys.executable, "-m", "infra.pools", folder / "pools", "docker", *given)
        deploy = ("-m", "flows.ops.pools", "--templates", folder / "pools", "--pool-type", "docker")
        output(sys.executable, *deploy, MNIST_HOME=str(folder / "home"), **self._variables)
        say("block, pools and deployments are made")

    @contextmanager
    def workers(self) -> Iterator[list["subprocess.Popen[bytes]"]]:
        """Run both workers until the block ends."""
        worker = ("prefect", "worker", "start", "--type", "docker", "--pool")
        cpu, gpu = (
            running(*worker, pool, "--name", pool, log=log, **self._variables)
            for pool, log in self._logs.items()
        )
        with cpu as first, gpu as second:
            yield [first, second]

    def logs(self) -> str:
        """Return what the workers said."""
        return "".join(log.read_text() for log in self._logs.values())

    def submissions(self, night: str) -> int:
        """Return the number of submissions of a night."""
        with closing(sqlite3.connect(self.posted)) as posted:
            rows = posted.execute("SELECT description FROM submissions").fetchall()
        return sum(description.split()[-1].startswith(night) for (description,) in rows)

    def end_well(self, run: str, night: str) -> None:
        """Wait until a night has ended well, with one submission, and its containers are gone."""
        if self.made.end_of(run) != "COMPLETED":
            raise SystemExit(f"night {night} did not end well: {self.logs()[-6000:]}")
        expect(f"submissions of {night}", self.submissions(night), 1)
        self.made.wait_for("the removal of the containers", lambda: not containers())


def check_night(pools: Pools) -> None:
    """Run a night: it is confined and promoted."""
    made = pools.made
    with pools.workers():
        done = step("a night in containers")
        run = made.trigger("2026-02-01")
        made.train_of(run)
        check_confined(2)
        pools.end_well(run, "2026-02-01")
        expect("promoted", "# Night 2026-02-01: promoted" in str(made.scorecard(run)["data"]), True)
        done("promoted, and no container is left")


def check_kills(pools: Pools) -> None:
    """Kill both workers during a night, then workers and container of a night."""
    made = pools.made
    done = step("both workers killed during a night")
    with pools.workers() as workers:
        run = made.trigger("2026-02-02")
        made.train_of(run)
        kill(workers)
    with pools.workers():
        pools.end_well(run, "2026-02-02")
        done("its containers went on, and it ended well")
    done = step("both workers and the night's container killed")
    with pools.workers() as workers:
        run = made.trigger("2026-02-03")
        made.train_of(run)
        kill(workers)
        output("docker", "kill", *containers(run))
    with pools.workers():
        expect("its state", made.end_of(run), "CRASHED")
        pools.end_well(made.trigger("2026-02-04"), "2026-02-04")
    expect("submissions of the killed night", pools.submissions("2026-02-03") in (0, 1), True)
    done("it was marked Crashed, and the next one ended well")


def kill(processes: list["subprocess.Popen[bytes]"]) -> None:
    """Kill processes without a warning."""
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.wait()


def check_missing_image(pools: Pools) -> None:
    """Start a night whose image is not there: the run names it, and nothing is submitted."""
    made, done = pools.made, step("a night without its image")
    deployment = made.ask("/deployments/name/nightly/nightly")["id"]
    given = {"parameters": {"night": "2026-02-05"}, "job_variables": {"image": IMAGE}}
    with pools.workers():
        run = str(made.ask(f"/deployments/{deployment}/create_flow_run", **given)["id"])
        expect("its state", made.end_of(run), "CRASHED")
    message = made.ask(f"/flow_runs/{run}")["state"]["message"]
    expect(f"the run's message names the image: {message}", IMAGE in message, True)
    expect("submissions", pools.submissions("2026-02-05"), 0)
    done(f"Crashed: {message}")


def main() -> None:
    """Run the check on the engine of a folder."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with engine(Path(sys.argv[1])), tempfile.TemporaryDirectory() as home:
        build_images(built=True)
        folder = Path(home)
        made = Installation.make(folder / "prefect", "docker-pool", "", {})
        (made.folder / "secrets").mkdir()
        (made.folder / "secrets" / "prefect-login").write_text(LOGIN)
        api = f"http://127.0.0.1:{made.port}/api"
        server = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(made.port))
        quiet = {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        quiet["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] = "true"
        log = folder / "server.log"
        with running(*server, log=log, PREFECT_SERVER_API_AUTH_STRING=LOGIN, **quiet):
            made.wait_for("the server", lambda: made.count() >= 0)
            variables = quiet | {"PREFECT_API_URL": api, "PREFECT_API_AUTH_STRING": LOGIN}
            pools = Pools(made, variables, folder)
            check_night(pools)
            check_kills(pools)
            check_missing_image(pools)


if __name__ == "__main__":
    main()
