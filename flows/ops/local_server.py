"""A Prefect server with two workers on this machine, for one home.

`python -m flows.ops.local_server start` starts them and prints the address; `stop` ends them.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from flows.ops.daemon import start_daemon, without_credentials
from flows.ops.pools import POOLS, QUIET, ROOT, DeploymentError, prepare, run
from flows.ops.prefect_home import answers
from flows.ops.server_settings import GIVEN, bypass_proxy, login_file, make_login, server_variables
from flows.settings import read_settings
from mnist_core._atomic import atomic_write

START_S, STOP_S = 300, 15
"""Seconds that a process may take to answer, and to end before it is killed."""
PROC = Path("/proc")
WORKER = {"PREFECT_WORKER_QUERY_SECONDS": "3", "PREFECT_CLIENT_MAX_RETRIES": "7"}

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Process:
    """A process that `start` started.

    Attributes:
        pid: its number, and that of its group.
        began: when it started, which tells it from a later process with the same number; empty: it has ended.
    """

    pid: int
    began: str

    @classmethod
    def find(cls, pid: int) -> "Process":
        """Return the process that has this number now."""
        try:
            # Field 22, in ticks since the machine was started: no clock that is set later changes it.
            state, *fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
            boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        except (OSError, ValueError):
            return cls(pid, "" if PROC.exists() else _began_by_ps(pid))
        return cls(pid, "" if state in "ZX" else f"{boot} {fields[18]}")

    def is_alive(self) -> bool:
        """Return whether it still runs."""
        return bool(self.began) and Process.find(self.pid) == self

    def end(self) -> None:
        """End it with its group. Prefect's worker does not always stop when asked, so it may be killed."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + STOP_S
            if self.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, number)
            while self.is_alive() and time.monotonic() < deadline:
                time.sleep(0.1)


def _began_by_ps(pid: int) -> str:
    """Return when a process started, on systems without /proc; empty if it has ended."""
    command = ["ps", "-o", "lstart=,stat=", "-p", str(pid)]
    environment = without_credentials(os.environ) | {"LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    words = done.stdout.split()
    return "" if words and words[-1].startswith("Z") else " ".join(words[:-1])


@dataclass(frozen=True)
class LocalServer:
    """The processes of one home, and the files that know them.

    Attributes:
        home: Prefect's folder in MNIST_HOME.
    """

    home: Path

    @property
    def url_file(self) -> Path:
        """The file with the API's address; absent while `start` has not started a server here."""
        return self.home / "ui-url"

    def processes(self) -> dict[str, Process]:
        """Return the processes that were started: `server`, and each worker by its pool."""
        try:
            recorded = json.loads((self.home / "processes.json").read_text())
            return {name: Process(**process) for name, process in recorded.items()}
        except (OSError, ValueError, TypeError):
            return {}

    def is_alive(self, name: str) -> bool:
        """Return whether the server or a worker runs."""
        process = self.processes().get(name)
        return process is not None and process.is_alive()

    def start(self, name: str, variables: dict[str, str], *arguments: str) -> None:
        """Start `prefect …` as a daemon and record its process; variables that are set already win."""
        started = start_daemon(
            [sys.executable, "-m", "prefect", *arguments],
            self.home / f"{name}.log",
            folder=ROOT,
            # Workers hand their variables on to the runs that they start, which submit or download.
            environment=variables
            | (without_credentials(os.environ) if name == "server" else dict(os.environ)),
        )
        recorded = self.processes() | {name: Process.find(started.pid)}
        with atomic_write(self.home / "processes.json") as file:
            file.write(json.dumps({key: asdict(process) for key, process in recorded.items()}).encode())

    def end(self, name: str) -> None:
        """End the server or a worker, if it runs."""
        process = self.processes().get(name)
        if process is not None:
            process.end()

    def end_all(self) -> None:
        """End workers and server and forget them."""
        self.url_file.unlink(missing_ok=True)
        for name in sorted(self.processes(), key="server".__eq__):  # the server last: workers sign off there
            self.end(name)
        (self.home / "processes.json").unlink(missing_ok=True)


@app.command()
def start(
    port: Annotated[int, typer.Option(help="Port of the server on 127.0.0.1 (default: 4200).")] = 4200,
) -> None:
    """Start a server, pools, deployments and two workers; print the address. Safe to repeat."""
    settings = read_settings()
    home = settings.home.absolute()
    server = LocalServer(home / "prefect")
    server.home.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{port}/api"
    os.environ.update(QUIET, PREFECT_HOME=str(server.home), PREFECT_API_URL=url, MNIST_HOME=str(home))
    os.environ[GIVEN] = make_login(server.home)  # workers inherit it, and their runs from them
    bypass_proxy()
    _start_server(server, url, port)
    prepare()
    paused = asyncio.run(_pause_schedule(not settings.kaggle_is_set, server.home / "schedule-paused"))
    for pool in POOLS:
        if not server.is_alive(pool):
            server.start(pool, WORKER, "worker", "start", "--pool", pool, "--type", "process", "--name", pool)
    asyncio.run(_wait_for_workers(server))
    typer.echo(f"Prefect UI: http://127.0.0.1:{port} (stop it with `make ui-stop`)")
    typer.echo(f"It asks for the login in {login_file(server.home)}")
    if not settings.kaggle_is_set:
        typer.echo(
            "The schedule is paused: set MNIST_KAGGLE to `live` or `practice` and run this command again."
        )
    elif paused:
        typer.echo("The schedule is paused: resume it in the UI, under the deployment nightly.")


@app.command()
def stop() -> None:
    """Stop the server and the workers that `start` started in this home, and no others."""
    LocalServer(read_settings().home.absolute() / "prefect").end_all()


def _start_server(server: LocalServer, url: str, port: int) -> None:
    """Start the server, unless it answers already.

    Raises:
        DeploymentError: it does not start, or another one has the port.
    """
    if answers(url):
        if not server.is_alive("server"):
            raise DeploymentError(
                f"port {port} is used by another server", "choose another port with `make ui UI_PORT=…`"
            )
        return
    if server.url_file.exists() and server.url_file.read_text() == url:
        server.end("server")  # only it: the workers wait for the next one, and so do their runs
    else:
        server.end_all()
    variables = server_variables(os.environ[GIVEN], port)
    server.start("server", variables, "server", "start", "--host", "127.0.0.1", "--port", str(port))
    deadline = time.monotonic() + START_S
    while not answers(url):
        if not server.is_alive("server") or time.monotonic() > deadline:
            server.end_all()
            raise DeploymentError("the server does not start", f"read {server.home / 'server.log'}")
        time.sleep(0.3)
    server.url_file.write_text(url)


async def _pause_schedule(pause: bool, marker: Path) -> bool:
    """Pause the schedule, or resume it if this function paused it; a user's pause is left alone.

    Args:
        pause: which of the two.
        marker: a file that exists while this function's own pause lasts.

    Returns:
        Whether no schedule is active.
    """
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        deployment = await client.read_deployment_by_name("nightly/nightly")
        active = any(schedule.active for schedule in deployment.schedules)
        if active == pause and (pause or marker.exists()):
            if pause:
                marker.touch()
            for schedule in deployment.schedules:
                await client.update_deployment_schedule(
                    deployment.id, schedule.id, active=not pause, parameters=schedule.parameters
                )
            active = not pause
        if not pause:
            marker.unlink(missing_ok=True)
    return not active


async def _wait_for_workers(server: LocalServer) -> None:
    """Wait until the server knows an online worker in each pool.

    Raises:
        DeploymentError: a worker ends, or is not online in time.
    """
    from prefect.client.orchestration import get_client

    deadline = time.monotonic() + START_S
    async with get_client() as client:
        for pool in POOLS:
            while not any(
                worker.status == "ONLINE" for worker in await client.read_workers_for_work_pool(pool)
            ):
                if not server.is_alive(pool) or time.monotonic() > deadline:
                    raise DeploymentError(
                        f"the worker of pool {pool} does not start", f"read {server.home / f'{pool}.log'}"
                    )
                await asyncio.sleep(0.3)


def main() -> None:
    """Run the command; one of our errors is one line and exit 1."""
    run(app)


if __name__ == "__main__":
    main()
