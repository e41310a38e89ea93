"""Prefect on one machine, and what any Prefect server needs: pools, deployments, automations.

`python -m flows.deployment ui` starts a server and two workers on this home, `stop` ends them; `prepare`
makes pools, deployments and automations on the server that PREFECT_API_URL names.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.settings import Settings, SettingsError, read_settings
from mnist_core.errors import MnistError

ROOT = Path(__file__).parents[1]
POOLS = {"gpu": "trains: one run at a time", "cpu": "nights and submissions"}
DEPLOYMENTS = ("nightly/nightly", "train/gpu", "submit/cpu")
START_S, STOP_S = 300, 15
DEAD_S = 105
"""Without a heartbeat for so long a run counts as dead. It sends one every 30 s (prefect.yaml), Prefect's
shortest: an API that is gone for a minute, and back, is heard from in time."""
LOG_BYTES = 5_000_000
RETENTION_D = 90
"""Days that the server keeps finished runs with their logs and artifacts; events it keeps for 7."""
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_CLI_PROMPT": "false",
}
SERVER = {
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(RETENTION_D * 86400),
}
WORKER = {"PREFECT_WORKER_QUERY_SECONDS": "3", "PREFECT_CLIENT_MAX_RETRIES": "7"}

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


class DeploymentError(MnistError):
    """The server or a worker does not start, or does not take what it is given."""


def go_home() -> dict[str, str]:
    """Pull step of `prefect.yaml`: go to the folder that holds this package, in a clone and in an image."""
    os.chdir(ROOT)
    return {"directory": str(ROOT)}


@app.command()
def ui(port: Annotated[int, typer.Option(help="Of the server, on loopback.")] = 4200) -> None:
    """Start server, pools, deployments and two workers; print the address."""
    settings = read_settings()
    home = settings.home.absolute() / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{port}/api"
    os.environ.update(
        QUIET, PREFECT_HOME=str(home), PREFECT_API_URL=url, MNIST_HOME=str(settings.home.absolute())
    )
    if not _answers(url):
        told = home / "ui-url"
        if told.exists() and told.read_text() == url:
            _end(_record(home).get("server"))  # the workers wait for the next one, and so do their runs
        else:
            stop()
        _start(home, "server", SERVER, "server", "start", "--host", "127.0.0.1", "--port", str(port))
        deadline = time.monotonic() + START_S
        while not _answers(url):
            if not _lives(_record(home).get("server")) or time.monotonic() > deadline:
                stop()
                raise DeploymentError(f"the server does not start; {home / 'server.log'} says why")
            time.sleep(0.3)
        (home / "ui-url").write_text(url)
    elif not _lives(_record(home).get("server")):
        raise DeploymentError(f"port {port} has another server: choose one with `make ui UI_PORT=…`")
    prepare()
    paused = asyncio.run(_hold_schedule(not settings.kaggle_is_set, home / "schedule-held"))
    for pool in POOLS:
        if not _lives(_record(home).get(pool)):
            _start(home, pool, WORKER, "worker", "start", "--pool", pool, "--type", "process", "--name", pool)
    asyncio.run(_wait_for_workers(home))
    typer.echo(f"Prefect's UI: http://127.0.0.1:{port}   (make ui-stop ends it)")
    if not settings.kaggle_is_set:
        typer.echo("The schedule is paused: set MNIST_KAGGLE to `live` or `practice`, and say this again.")
    elif paused:
        typer.echo("The schedule is paused: resume it in the UI, at the deployment nightly.")


@app.command()
def stop() -> None:
    """End the server and the workers that `ui` started on this home, each by its recorded pid."""
    home = read_settings().home.absolute() / "prefect"
    (home / "ui-url").unlink(missing_ok=True)
    processes = _record(home)
    for name in sorted(processes, key="server".__eq__):  # the server last: workers tell it that they end
        _end(processes[name])
    (home / "processes.json").unlink(missing_ok=True)


def _end(process: dict[str, Any] | None) -> None:
    """End a recorded process with its group; Prefect's worker now and then has to be killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_S
        if process is not None and _lives(process):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process["pid"], number)
        while _lives(process) and time.monotonic() < deadline:
            time.sleep(0.1)


@app.command()
def prepare(
    templates: Annotated[
        Path | None, typer.Option(help="Base job templates, as POOL.json; default: local processes.")
    ] = None,
    pool_type: Annotated[str, typer.Option(help="Type of the pools: process, ecs.")] = "process",
) -> None:
    """Make pools, deployments and automations on the server that PREFECT_API_URL names; again is harmless."""
    settings = read_settings()
    os.environ.update(QUIET)
    asyncio.run(_make_pools(templates, pool_type))
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DeploymentError(f"prefect deploy --all: {(done.stderr + done.stdout).strip()[-2000:]}")
    asyncio.run(_make_automations(settings))


async def _make_pools(templates: Path | None, pool_type: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    async with get_client() as client:
        for pool, description in POOLS.items():
            template = (
                json.loads((templates / f"{pool}.json").read_text())
                if templates is not None
                else ProcessWorker.get_default_base_job_template()
            )
            asked = WorkPoolCreate(
                name=pool,
                type=pool_type,
                description=description,
                base_job_template=template,
                concurrency_limit=1 if pool == "gpu" else None,
            )
            with contextlib.suppress(ObjectAlreadyExists):
                await client.create_work_pool(asked)


async def _hold_schedule(hold: bool, held: Path) -> bool:
    """Pause the schedule, or let go on what was paused so; what a person paused stays paused.

    Args:
        held: the file that tells the two apart.

    Returns:
        Whether no schedule is active.
    """
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        deployment = await client.read_deployment_by_name("nightly/nightly")
        active = any(schedule.active for schedule in deployment.schedules)
        if active == hold and (hold or held.exists()):
            if hold:
                held.touch()
            for schedule in deployment.schedules:
                await client.update_deployment_schedule(
                    deployment.id, schedule.id, active=not hold, parameters=schedule.parameters
                )
            active = not hold
        if not hold:
            held.unlink(missing_ok=True)
    return not active


async def _wait_for_workers(home: Path) -> None:
    """Wait until a worker of each pool has told the server that it is there."""
    from prefect.client.orchestration import get_client

    deadline = time.monotonic() + START_S
    async with get_client() as client:
        for pool in POOLS:
            while not any(
                worker.status == "ONLINE" for worker in await client.read_workers_for_work_pool(pool)
            ):
                if not _lives(_record(home).get(pool)) or time.monotonic() > deadline:
                    raise DeploymentError(
                        f"the worker of pool {pool} does not start; {home / f'{pool}.log'} says why"
                    )
                await asyncio.sleep(0.3)


async def _make_automations(settings: Settings) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    async with get_client() as client:
        block = None
        if settings.notify is not None:
            kind, name = settings.notify.split("/")
            try:
                block = (await client.read_block_document_by_name(name, kind)).id
            except ObjectNotFound:
                raise SettingsError(
                    f"MNIST_NOTIFY: there is no block {settings.notify} on this server; make it in the UI "
                    f"(Blocks → +), or with `prefect block create {kind}`"
                ) from None
        deployed = [(await client.read_deployment_by_name(name)).id for name in DEPLOYMENTS]
        wanted = automations(settings, block, deployed)
        for name in {automation.name for automation in automations(settings, ROOT, deployed)} - {
            automation.name for automation in wanted
        }:
            for found in await client.read_automations_by_name(name):
                await client.delete_automation(found.id)
        for automation in wanted:
            found_before = await client.read_automations_by_name(automation.name)
            if not found_before:
                await client.create_automation(automation)
            elif _core(found_before[0]) != _core(automation):
                # Only then: an update forgets which runs are waited for; a dead one would stay Running.
                await client.update_automation(found_before[0].id, automation)


def _core(automation: Any) -> dict[str, Any]:
    """What an automation says, without what the server adds."""
    from prefect.events.schemas.automations import AutomationCore

    told = AutomationCore.model_validate(automation.model_dump(mode="json"))
    return told.model_dump(exclude={"trigger": {"id"}})  # as Python: JSON gives its sets some order


def automations(settings: Settings, block: Any, deployments: list[Any]) -> list[Any]:
    """What the server does by itself.

    Args:
        settings: `silence_s` is asked.
        block: id of the block that hears; None: nobody does, and only dead runs are looked for.
        deployments: ids of those whose runs send heartbeats that often; runs by hand, and other jobs on the
            same server, are let alone.

    Returns:
        Prefect's `AutomationCore`s, known by their names.
    """
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState, SendNotification
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    run = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})
    night = ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": "nightly"})
    ends = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    dead = AutomationCore(
        name="A dead run is Crashed",
        description=f"A run whose process sent no heartbeat for {DEAD_S} s.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match=run,
            match_related=ResourceSpecification(
                {"prefect.resource.id": [f"prefect.deployment.{deployment}" for deployment in deployments]}
            ),
            for_each={"prefect.resource.id"},
            # Both: with its database locked the server loses an event now and then, and a run may be killed
            # before its second heartbeat.
            after={"prefect.flow-run.Running", "prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", "prefect.flow-run.AwaitingRetry", *ends},
            threshold=1,
            within=timedelta(seconds=DEAD_S),
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                state=StateType.CRASHED,
                force=False,
                message=f"no heartbeat for {DEAD_S} s: its process or its machine is gone; run it again",
            )
        ],
    )
    if block is None:
        return [dead]

    def tell(subject: str, body: str) -> list[Any]:
        return [SendNotification.model_construct(block_document_id=block, subject=subject, body=body)]

    failed = AutomationCore(
        name="A night that failed is told",
        trigger=EventTrigger(
            match=run,
            match_related=night,
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=tell(
            "Night {{ flow_run.name }}: {{ flow_run.state.name }}",
            "{{ flow_run.state.message }}\n{{ flow_run | ui_url }}",
        ),
    )
    champion = AutomationCore(
        name="A new champion is told",
        trigger=EventTrigger(
            expect={"mnist.champion.promoted", "mnist.champion.rolled-back"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=tell("Champion {{ event.payload.version }}", "{{ event.payload.reason }}"),
    )
    hours = settings.silence_s / 3600
    silent = AutomationCore(
        name="A silence of the nights is told",
        trigger=EventTrigger(
            match=run,
            match_related=night,
            expect={"prefect.flow-run.Completed"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=settings.silence_s),
        ),
        actions=tell(
            f"No night has ended well for {hours:.3g} h",
            "Is the schedule active, is a worker up on each pool, and what became of the last night?",
        ),
    )
    return [dead, failed, champion, silent]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2):  # noqa: S310  (loopback)
            return True
    except OSError:
        return False


def _record(home: Path) -> dict[str, dict[str, Any]]:
    try:
        return dict(json.loads((home / "processes.json").read_text()))
    except (OSError, ValueError):
        return {}


def _start(home: Path, name: str, environment: dict[str, str], *arguments: str) -> None:
    """Start `prefect …` in a session of its own, and remember its process."""
    log = home / f"{name}.log"
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=ROOT,
            env=environment | os.environ,  # what is set wins
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    record = _record(home) | {name: {"pid": process.pid, "began": _began(process.pid)}}
    partial = home / "processes.json.new"
    partial.write_text(json.dumps(record))
    partial.replace(home / "processes.json")


def _began(pid: int) -> str:
    """When a process began, by which it is known from a later one with its pid; empty where there is none."""
    asked = ["ps", "-o", "lstart=,stat=", "-p", str(pid)]
    told = subprocess.run(
        asked, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"}
    )
    words = told.stdout.split()
    return "" if not words or words[-1].startswith("Z") else " ".join(words[:-1])


def _lives(process: dict[str, Any] | None) -> bool:
    return process is not None and bool(process["began"]) and _began(process["pid"]) == process["began"]


def main() -> None:
    """Run the command; an error of ours is one line and exit 1."""
    try:
        app()
    except MnistError as error:
        typer.echo(f"failed: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
