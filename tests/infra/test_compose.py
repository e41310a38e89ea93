"""The installation of Docker Compose: its file keeps to our rules, and the script behind `make compose`."""

import asyncio
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.ops.server_settings import ASKED, server_variables
from flows.settings import Settings
from infra.compose.relay import relay

FOLDER = Path(__file__).parents[2] / "infra" / "compose"
SPEC = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = SPEC["services"]
ONCE = {"deploy", "bucket"}
"""Services that end when they have done their work."""
OTHERS = {"database", "s3"}
"""Services whose image is not ours, so that the file names their user."""
DOCKER = """#!/bin/sh
echo "$*" >>"$LOG"
case "$*" in
    *"config --services"*) echo worker ;;
    *"ps --format"*) echo "${HEALTH:-healthy}" ;;
    "image inspect --format"*) echo 0123456789ab ;;
    *"up --detach"*) exit "${UP:-0}" ;;
esac
"""


def test_the_server_has_the_settings_of_every_server_that_we_start() -> None:
    """Leases in files, CSRF protection, one origin, old runs deleted; the login is a secret."""
    text = str(SERVICES["server"]["environment"]).replace("${PORT:-4200}", "4200")

    for name, value in server_variables("user:password", 4200).items():
        assert name in SERVICES["server"]["secrets"] if name == ASKED else f"'{name}': '{value}'" in text


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_is_confined(name: str) -> None:
    """Read-only root, no capabilities, no new privileges, a limit of memory, not root, and restarted."""
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service
    assert ("user" in service) == (name in OTHERS)
    assert not service.get("user", "").startswith("0")
    assert not service.get("privileged", False)
    assert service["restart"] == ("no" if name in ONCE else "unless-stopped")
    assert ("healthcheck" in service) != (name in ONCE)


def test_only_the_ui_has_a_port_and_only_on_loopback() -> None:
    """Another machine reaches neither the database nor the store nor Prefect."""
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert ports == {"server": ["127.0.0.1:${PORT:-4200}:4200"]}
    assert SPEC["networks"]["database"] == {"internal": True}
    assert SERVICES["database"]["networks"] == ["database"]


def test_no_secret_is_in_a_containers_configuration() -> None:
    """`docker inspect` shows no password and no token: each is a file."""
    for service in SERVICES.values():
        names = set(service.get("environment", {}))
        assert not {name for name in names if re.search(r"(PASSWORD|TOKEN|KEY|AUTH_STRING)$", name)}
        assert set(service.get("secrets", [])) <= set(SPEC["secrets"])


def test_the_example_names_settings_that_exist() -> None:
    """Each setting of env.example exists, and each variable that the file reads is in it."""
    text = (FOLDER / "env.example").read_text()
    named = set(re.findall(r"^#? ?([A-Z0-9_]+)=", text, re.MULTILINE))
    read = set(re.findall(r"\$\{([A-Z0-9_]+)", (FOLDER / "compose.yaml").read_text()))

    assert read - {"ENV_FILE", "SECRETS"} <= named
    assert {
        name for name in named if name.startswith("MNIST_") and name[6:].lower() not in Settings.model_fields
    } == set()


@pytest.fixture
def script(tmp_path: Path):
    """Run the script with a program that plays docker; return its result and what docker was asked."""
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    log = tmp_path / "docker.log"

    def run(*arguments: str, **variables: str) -> tuple["subprocess.CompletedProcess[str]", str]:
        log.write_text("")
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(log)} | variables
        done = subprocess.run(
            [FOLDER / "compose.sh", *arguments],
            env=environment | {"COMPOSE_FOLDER": str(tmp_path / "installation")},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        return done, log.read_text()

    return run


def test_secrets_are_made_once_and_only_their_owner_reaches_them(script, tmp_path: Path) -> None:
    """The first `up` makes .env and random secrets; the second one changes nothing."""
    secrets = tmp_path / "installation" / "secrets"

    done, asked = script("up", COMPOSE_PROFILES="s3")
    first = {file.name: file.read_text() for file in secrets.iterdir()}
    assert script("up", COMPOSE_PROFILES="s3")[0].returncode == 0

    assert done.returncode == 0, done.stderr
    assert f"login in {secrets}/prefect-login" in done.stderr
    assert "up --detach" in asked
    assert {file.name: file.read_text() for file in secrets.iterdir()} == first
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert re.fullmatch(r"mnist:[0-9a-f]{48}", first["prefect-login"])
    assert first["aws-secret-access-key"] in first["s3.json"]
    assert {Path(entry["file"]).name for entry in SPEC["secrets"].values()} == set(first)
    assert not any(value and value in asked for value in first.values())


def test_the_live_competition_needs_a_token_first(script) -> None:
    """Without Kaggle's token nothing is started, and the message names the file."""
    done, asked = script("up", MNIST_KAGGLE="live")

    assert done.returncode == 1
    assert "secrets/kaggle-token" in done.stderr
    assert "up --detach" not in asked


def test_images_of_another_commit_are_reported(script) -> None:
    """The practice server's code comes from the tree, so images of another commit may not run it."""
    done, _ = script("up")

    assert done.returncode == 0
    assert re.search(
        r"the images are of 0123456789ab, and this tree is \w+(-dirty)?: make image compose", done.stderr
    )


def test_services_that_do_not_start_fail_the_command_and_name_their_logs(script) -> None:
    """Compose's own message names the service, and ours the command that shows why."""
    done, _ = script("up", UP="1")

    assert done.returncode == 1
    assert done.stderr.endswith("what a service said: infra/compose/compose.sh logs SERVICE\n")


def test_other_commands_reach_compose(script) -> None:
    """`compose.sh logs worker` is Compose's own command for this installation, token or not."""
    done, asked = script("logs", "worker", MNIST_KAGGLE="live")

    assert done.returncode == 0
    assert re.search(r"compose --env-file \S+/\.env --file \S+/compose\.yaml logs worker", asked)


def test_our_command_line_runs_without_the_services_that_a_worker_waits_for(script) -> None:
    """`compose.sh flows status` answers in seconds, since nothing is deployed again for it."""
    done, asked = script("flows", "status", "--json")

    assert done.returncode == 0
    assert "run --rm --no-deps -T worker python -m flows status --json\n" in asked


BOTO3 = """
from pathlib import Path
folder = Path(__file__).parent / "buckets"
class client:
    def __init__(self, service): folder.mkdir(exist_ok=True)
    def list_buckets(self): return {"Buckets": [{"Name": bucket.name} for bucket in folder.iterdir()]}
    def create_bucket(self, Bucket): (folder / Bucket).mkdir()
"""


def test_the_bucket_of_an_earlier_start_is_kept(tmp_path: Path) -> None:
    """SeaweedFS refuses to make a bucket a second time, which failed every upgrade with the profile `s3`."""
    (tmp_path / "boto3.py").write_text(BOTO3)
    command = [sys.executable, *SERVICES["bucket"]["command"][1:3], "s3://mnist/store"]

    for _ in range(2):
        subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, check=True)

    assert [bucket.name for bucket in (tmp_path / "buckets").iterdir()] == ["mnist"]


def test_the_relay_carries_both_directions_and_their_ends() -> None:
    """What is sent arrives, the answer comes back, and the end of one side is the other's."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    async def talk() -> bytes:
        target = await asyncio.start_server(echo, "127.0.0.1", 0)
        probe = await asyncio.start_server(echo, "127.0.0.1", 0)
        port, free = (server.sockets[0].getsockname()[1] for server in (target, probe))
        probe.close()
        await probe.wait_closed()
        running = asyncio.create_task(relay(f"127.0.0.1:{free}", f"127.0.0.1:{port}"))
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", free)
                break
            except ConnectionRefusedError:  # it does not listen yet
                await asyncio.sleep(0.01)
        writer.write(b"digits" * 50_000)
        writer.write_eof()
        answer = await reader.read()
        running.cancel()
        writer.close()
        return answer

    assert asyncio.run(asyncio.wait_for(talk(), 20)) == b"DIGITS" * 50_000
