"""Work pools and deployments: what any Prefect server needs before it can run the job.

`python -m flows.ops.pools` creates them, and the automations, on the server that PREFECT_API_URL names.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.ops.daemon import without_credentials
from flows.ops.deployments import SCHEDULED, definitions_of, own_name
from flows.ops.prefect_home import chosen_api, running_server
from flows.ops.server_settings import offer_login
from flows.scratch import scratch_folder
from flows.settings import Settings, read_settings
from mnist_core.errors import MnistError
from mnist_core.terminal import print_anywhere

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.actions import WorkPoolCreate

ROOT = Path(__file__).parents[2]
POOLS = {"gpu": "trains: one run at a time", "cpu": "nightly runs and submissions"}
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_CLI_PROMPT": "false",
}
"""Variables that keep Prefect from sending statistics and from asking questions."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class DeploymentError(MnistError):
    """The server or a worker does not start, or refuses what it is given."""


def enter_project_folder() -> dict[str, str]:
    """Change to the folder that holds this package, in a clone or an image: the pull step of prefect.yaml."""
    os.chdir(ROOT)
    return {"directory": str(ROOT)}


@app.command()
def prepare(
    templates: Annotated[
        Path | None,
        typer.Option(help="Folder with base job templates, as POOL.json (default: local processes)."),
    ] = None,
    pool_type: Annotated[
        str, typer.Option(help="Type of the pools: process, docker, kubernetes or ecs.")
    ] = "process",
) -> None:
    """Create pools, deployments and automations on the server that PREFECT_API_URL names; safe to repeat."""
    from flows.ops.automations import apply_automations

    settings = read_settings()
    os.environ.update(QUIET)
    home = settings.home.absolute() / "prefect"
    if (url := running_server(home)) is not None:
        offer_login(home, url)
        os.environ.setdefault("PREFECT_API_URL", url)
    elif chosen_api({"PREFECT_HOME": str(home)}) is None:
        raise DeploymentError(
            "no Prefect server is named: PREFECT_API_URL is not set, and `make ui` does not run",
            "set PREFECT_API_URL to your server's API, as http://HOST:4200/api, or start `make ui`",
        )
    asyncio.run(_create_pools(templates, pool_type))
    with _prefect_file(settings) as file:
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", file]
        done = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        env=without_credentials(os.environ),
    )  # fmt: skip
    if done.returncode:
        raise DeploymentError(f"prefect deploy --all: {(done.stderr + done.stdout).strip()[-2000:]}")
    asyncio.run(apply_automations(settings))
    name_scheduled_nights(settings)


@contextlib.contextmanager
def _prefect_file(settings: Settings) -> Iterator[str]:
    """Yield the path of prefect.yaml, or of a copy for a competition that is not built in."""
    import yaml

    original = ROOT / "prefect.yaml"
    if settings.spec is None:
        yield str(original)
        return
    with scratch_folder(settings.home) as folder:
        made = folder / "prefect.yaml"
        made.write_text(yaml.safe_dump(definitions_of(yaml.safe_load(original.read_text()), settings)))
        yield str(made)


def name_scheduled_nights(settings: Settings) -> None:
    """Name the nights that the schedule will start, on the server that PREFECT_API_URL names."""
    from flows.ops.schedule import name_scheduled_runs  # Prefect reads its variables when it is imported

    name_scheduled_runs(own_name(SCHEDULED, settings.competition))


async def _create_pools(templates: Path | None, pool_type: str) -> None:
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
            wanted = WorkPoolCreate(
                name=pool,
                type=pool_type,
                description=description,
                base_job_template=template,
                concurrency_limit=1 if pool == "gpu" else None,
            )
            try:
                await client.create_work_pool(wanted)
            except ObjectAlreadyExists:
                await _update_pool(client, wanted, templates is not None)


async def _update_pool(client: "PrefectClient", wanted: "WorkPoolCreate", with_template: bool) -> None:
    """Give an existing pool what is missing; a limit that somebody chose stays.

    Raises:
        DeploymentError: it is of another type, which cannot be changed.
    """
    from prefect.client.schemas.actions import WorkPoolUpdate

    found = await client.read_work_pool(wanted.name)
    if found.type != wanted.type:
        raise DeploymentError(
            f"pool {wanted.name} is of type {found.type}, not {wanted.type}",
            f"stop its workers and delete it: prefect work-pool delete {wanted.name}",
        )
    changed = WorkPoolUpdate()
    # One that a worker made, because it started first, has no limit.
    if found.concurrency_limit is None and wanted.concurrency_limit is not None:
        changed.concurrency_limit = wanted.concurrency_limit
    if with_template:
        changed.base_job_template = wanted.base_job_template
    if changed.model_fields_set:
        await client.update_work_pool(wanted.name, changed)


def main() -> None:
    """Run the command; one of our errors is one line and exit 1."""
    run(app)


def run(command: typer.Typer) -> None:
    """Run a command line; one of our errors is one line on stderr and exit 1."""
    print_anywhere()
    try:
        command()
    except MnistError as error:
        typer.echo(f"failed: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
