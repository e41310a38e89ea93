"""A Prefect server with two workers on this machine, for one home.

`python -m flows.ops.local_server start` starts them and prints the address; `stop` ends them.
"""

import asyncio
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import typer

from flows.ops.daemon import start_daemon, without_credentials
from flows.ops.deployments import OF_A_DEPLOYMENT, SCHEDULED, own_name
from flows.ops.pools import (
    POOLS,
    QUIET,
    ROOT,
    DeploymentError,
    name_scheduled_nights,
    prepare,
    run,
)
from flows.ops.prefect_home import answers, is_busy, status_of
from flows.ops.processes import Process, end, is_alive, process_file, read_processes
from flows.ops.server_settings import (
    GIVEN,
    login_file,
    make_login,
    server_variables,
    ui_address,
)
from flows.settings import Settings, read_settings
from mnist_core._atomic import atomic_write

START_S = 300
"""Seconds that a process may take to answer."""
WORKER = {"PREFECT_WORKER_QUERY_SECONDS": "3", "PREFECT_CLIENT_MAX_RETRIES": "7"}

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


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

    def is_alive(self, name: str) -> bool:
        """Return whether the server or a worker runs."""
        return is_alive(self.home, name)

    def start(self, name: str, variables: dict[str, str], *arguments: str) -> None:
        """Start `prefect …` as a daemon and record its process; variables that are set already win."""
        started = start_daemon(
            [sys.executable, "-m", "prefect", *arguments],
            self.home / f"{name}.log",
            folder=ROOT,
            # Workers hand their variables on to the runs that they start, which submit or download.
            environment=variables
            | (without_credentials(os.environ) if name == "server" else _without_competition(os.environ)),
        )
        recorded = read_processes(self.home) | {name: Process.find(started.pid)}
        with atomic_write(process_file(self.home)) as file:
            file.write(json.dumps({key: asdict(process) for key, process in recorded.items()}).encode())

    def end(self, name: str) -> None:
        """End the server or a worker, if it runs."""
        process = read_processes(self.home).get(name)
        end([] if process is None else [process])

    def end_all(self) -> list[str]:
        """End workers and server and forget them; return the names of those that ran."""
        self.url_file.unlink(missing_ok=True)
        started = read_processes(self.home)
        running = [name for name in started if self.is_alive(name)]
        end([started[name] for name in started if name != "server"])
        self.end("server")  # last, since workers sign off there
        process_file(self.home).unlink(missing_ok=True)
        return running


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
    # Workers inherit these, and their runs from them.
    os.environ |= {GIVEN: make_login(server.home), "PREFECT_UI_URL": ui_address(port)}
    _start_server(server, url, port)
    prepare()
    paused = asyncio.run(_pause_schedule(settings, server.home))
    name_scheduled_nights(settings)  # of a schedule that was resumed now
    for pool in POOLS:
        if not server.is_alive(pool):
            server.start(pool, WORKER, "worker", "start", "--pool", pool, "--type", "process", "--name", pool)
    asyncio.run(_wait_for_workers(server))
    typer.echo(f"Prefect UI: http://127.0.0.1:{port} (stop it with `make ui-stop`)")
    typer.echo(f"It asks for the login in {login_file(server.home)}")
    typer.echo("For the prefect command:")
    typer.echo(f"  export PREFECT_API_URL={url}")
    typer.echo(f'  export {GIVEN}="$(cat {shlex.quote(str(login_file(server.home)))})"')
    if not settings.kaggle_is_set:
        typer.echo(
            "The schedule is paused: set MNIST_KAGGLE to `live` or `practice` and run this command again."
        )
    elif paused:
        typer.echo("The schedule is paused: resume it in the UI, under the deployment nightly.")


@app.command()
def stop() -> None:
    """Stop the server and the workers that `start` started in this home, and no others."""
    home = read_settings().home.absolute()
    ended = LocalServer(home / "prefect").end_all()
    server = "the Prefect server" if "server" in ended else ""
    workers = [name for name in ended if name != "server"]
    those = f"{len(workers)} {'worker' if len(workers) == 1 else 'workers'}" if workers else ""
    what = " and ".join(filter(None, (server, those)))
    typer.echo(f"Stopped {what}; runs and history stay." if what else f"Nothing of {home} was running.")


def _start_server(server: LocalServer, url: str, port: int) -> None:
    """Start the server, unless it answers already and asks for the login.

    One that asks for none, or for another one, is ended with its workers, which cannot log in to the new one.

    Raises:
        DeploymentError: it does not start, or another one has the port.
    """
    if answers(url):
        if not server.is_alive("server"):
            raise DeploymentError(
                f"port {port} is used by another server", "choose another port with `make ui UI_PORT=…`"
            )
        if asks_for(url, os.environ[GIVEN]):
            return
        server.end_all()
    if server.url_file.exists() and server.url_file.read_text() == url:
        server.end("server")  # only it: the workers wait for the next one, and so do their runs
    else:
        server.end_all()
    typer.echo(f"starting a Prefect server at http://127.0.0.1:{port}, which takes 10 to 60 seconds")
    variables = server_variables(os.environ[GIVEN], port)
    server.start("server", variables, "server", "start", "--host", "127.0.0.1", "--port", str(port))
    deadline = time.monotonic() + START_S
    while not answers(url):
        if not server.is_alive("server") or time.monotonic() > deadline:
            server.end_all()
            raise DeploymentError("the server does not start", f"read {server.home / 'server.log'}")
        time.sleep(0.3)
    server.url_file.write_text(url)


def _without_competition(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a worker, whose runs may be of any competition: a deployment says of which."""
    return {name: value for name, value in environment.items() if name not in OF_A_DEPLOYMENT}


def asks_for(url: str, login: str) -> bool:
    """Return whether a server refuses to answer without this login, as far as it can say that now."""
    without, with_it = status_of(url), status_of(url, login)
    return (is_busy(without) or without == HTTPStatus.UNAUTHORIZED) and (
        is_busy(with_it) or with_it == HTTPStatus.OK
    )


async def _pause_schedule(settings: Settings, home: Path) -> bool:
    """Pause the schedule, or resume it if this function paused it; a user's pause is left alone.

    Args:
        settings: it is paused unless they name a server.
        home: has a file for each competition while this function's own pause lasts.

    Returns:
        Whether no schedule is active.
    """
    from prefect.client.orchestration import get_client

    pause, competition = not settings.kaggle_is_set, settings.competition
    marker = home / own_name("schedule-paused", competition)
    async with get_client() as client:
        deployment = await client.read_deployment_by_name(own_name(SCHEDULED, competition))
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
