"""Run a night in containers that Prefect's docker worker starts, on an engine of its own.

    python -m infra.docker_pool_check FOLDER     the engine's folder, with the images of `make compose-check`

A Prefect server with a login, its two workers and the practice server run on this machine. The containers of
the night and of its training must be confined, the night must be promoted, and no container may be left.
Needs root, and what `make compose-check` needs.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.ops.practice import find_or_start
from infra.cloud_check import say
from infra.compose_check import SETTINGS, Installation, expect, step
from infra.compose_engine import ROOT, build_images, engine, output

LOGIN = "mnist:docker-pool-check"
NIGHT = "2026-02-01"
BLOCK = "import sys; from prefect.blocks.system import Secret; Secret(value=sys.argv[1]).save(sys.argv[2])"
CONFINED = {
    "User": "10001:10001",
    "ReadonlyRootfs": True,
    "CapDrop": ["ALL"],
    "Memory": 8 << 30,
    "Init": True,
}


@contextmanager
def running(*command: str, log: Path, **variables: str) -> Iterator[None]:
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
        yield
    finally:
        process.terminate()
        process.wait(60)


def containers() -> list[str]:
    """Return the ids of the containers that a worker started."""
    return output("docker", "ps", "--quiet", "--filter", "label=io.prefect.flow-run-id").split()


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


def check_night(made: Installation, variables: dict[str, str], folder: Path) -> None:
    """Create block, pools and deployments as docs/docker-pool.md says, and run a night."""
    practice = find_or_start(folder / "practice", competition=SETTINGS["MNIST_COMPETITION"])
    given = [
        f"api={variables['PREFECT_API_URL']}",
        f"kaggle={practice.url}",
        "token=MNIST_KAGGLE_TOKEN",
        "devices=[]",
    ]
    given += [f"{name}={value}" for name, value in SETTINGS.items() if name != "MNIST_KAGGLE"]
    output(sys.executable, "-c", BLOCK, practice.token, "kaggle-api-token", **variables)
    output(sys.executable, "-m", "infra.pools", folder / "pools", "docker", *given)
    deploy = ("-m", "flows.ops.pools", "--templates", folder / "pools", "--pool-type", "docker")
    output(sys.executable, *deploy, MNIST_HOME=str(folder / "home"), **variables)
    say("block, pools and deployments are made")
    worker = ("prefect", "worker", "start", "--type", "docker", "--name")
    logs = {pool: folder / f"{pool}.log" for pool in ("cpu", "gpu")}
    with (
        running(*worker, "cpu", "--pool", "cpu", log=logs["cpu"], **variables),
        running(*worker, "gpu", "--pool", "gpu", log=logs["gpu"], **variables),
    ):
        done = step("a night in containers")
        run = made.trigger(NIGHT)
        made.train_of(run)
        check_confined(2)
        state = made.end_of(run)
        if state != "COMPLETED":
            raise SystemExit("".join(log.read_text()[-3000:] for log in logs.values()))
        expect("promoted", f"# Night {NIGHT}: promoted" in str(made.scorecard(run)["data"]), True)
        made.wait_for("the removal of the containers", lambda: not containers())
        done("promoted, and no container is left")


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
            check_night(made, quiet | {"PREFECT_API_URL": api, "PREFECT_API_AUTH_STRING": LOGIN}, folder)


if __name__ == "__main__":
    main()
