"""`make deploy` with programs that play AWS: it writes to the deployment's own Prefect server, or to none."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra import forward

ROOT = Path(__file__).parents[2]
LOGIN = "mnist:the-clouds-login"
PLAYED = {
    "git": '[ "$1" = status ] || echo 0123abc',
    "docker": "",
    "terraform": """
echo "$*" >> "$PLAYED/terraform.log"
case "$*" in
    *"output -raw login"*) echo arn:login ;;
    *"output -json repositories"*) echo '{"predict": "1.dkr.ecr.here.x/p", "train": "1.dkr.ecr.here.x/t"}' ;;
    *"show -json"*) echo "$PLAN" ;;
    *"output -json pool"*) echo '{"cluster": "arn:cluster/mnist-nightly"}' ;;
esac""",
    "aws": """
echo "$*" >> "$PLAYED/aws.log"
case "$*" in
    *get-secret-value*)
        if [ -n "${REFUSAL:-}" ]; then echo "$REFUSAL" >&2; exit 254; fi
        [ -e "$PLAYED/secret" ] || { echo "An error occurred (ResourceNotFoundException)" >&2; exit 254; }
        cat "$PLAYED/secret" ;;
    *put-secret-value*) cat > "$PLAYED/secret" ;;
    *list-tasks*) echo "${TASK:-arn:task/1}" ;;
    *describe-tasks*) echo runtime ;;
    *start-session*) eval "$FORWARD" ;;
esac""",
}


class Server:
    """A server on loopback that gives these statuses, then the last one for good, and notes who asked."""

    def __init__(self, *statuses: int) -> None:
        left = list(statuses)
        self.asked: list[tuple[str, str | None]] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append((f"{self.command} {self.path}", self.headers["Authorization"]))
                self.send_response(left.pop(0) if len(left) > 1 else left[0])
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                """Leave the terminal alone."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def local() -> Iterator[Server]:
    """The Prefect server of `make ui`, which answers everybody."""
    server = Server(200)
    yield server
    server.stop()


def deploy(
    folder: Path, port: int, forward: str, tree: Path = ROOT, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run infra/deploy.sh of a tree; `forward` is what the port-forward does."""
    for name, script in PLAYED.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return subprocess.run(
        ["sh", "infra/deploy.sh"],
        cwd=tree,
        env={
            "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT), "PORT": str(port), "YES": "1", "SMOKE": "no",
            "PLAYED": str(folder), "FORWARD": forward, **variables,
        },
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def copy_scripts(folder: Path, variables: str) -> Path:
    """Return a tree that has the scripts and a terraform.tfvars with these lines."""
    tree = folder / "tree"
    (tree / "infra" / "terraform").mkdir(parents=True)
    for name in ("deploy.sh", "ui.sh"):
        shutil.copy(ROOT / "infra" / name, tree / "infra")
    if variables:
        (tree / "infra" / "terraform" / "terraform.tfvars").write_text(variables)
    return tree


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_port_on_which_something_answers_is_refused_before_anything_is_changed(tmp_path, local):
    """With `make ui` up, the template of the cloud would replace that of the local pools."""
    done = deploy(tmp_path, local.port, "exit 1")

    assert done.returncode == 1
    assert f"port {local.port} is in use" in done.stderr
    assert "PORT=4300 make deploy" in done.stderr
    assert local.asked == []
    assert not (tmp_path / "aws.log").exists()


def test_a_port_forward_that_ends_is_reported_with_what_it_said(tmp_path):
    """Its log is shown: the plugin is missing, or the port was taken meanwhile."""
    done = deploy(tmp_path, free_port(), "echo 'bind: address already in use'; exit 1")

    assert done.returncode == 1
    assert "the port-forward has ended" in done.stderr
    assert "bind: address already in use" in done.stderr
    assert "pools and deployments" not in done.stderr


def test_a_server_that_cannot_be_asked_is_not_restarted(tmp_path):
    """Whether a night is under way is unknown: nothing is applied, and the way to do it anyway is named."""
    done = deploy(tmp_path, free_port(), "exit 1")

    assert done.returncode == 1
    assert "looking for a run that is under way" in done.stderr
    assert "WAIT=no make deploy" in done.stderr
    applied = [line for line in (tmp_path / "terraform.log").read_text().splitlines() if "apply" in line]
    assert len(applied) == 1
    assert "-target=" in applied[0]


@pytest.mark.parametrize("variables", [{"TASK": "None"}, {"WAIT": "no"}])
def test_a_server_that_does_not_run_or_is_not_to_be_asked_is_deployed(tmp_path, variables):
    """A stopped server has no run that could be hurt; whoever repairs a broken one cannot ask it."""
    done = deploy(tmp_path, free_port(), "exit 1", **variables)

    assert "under way" not in done.stderr
    assert "waiting for the services" in done.stderr


def test_runs_under_way_are_waited_for(capsys):
    """A restart takes longer than a run may be silent; their names are printed once."""
    under_way, waits = [["night-1"], ["night-1"], []], []

    forward.wait_until_idle(lambda: under_way.pop(0), waits.append)

    assert waits == [forward.IDLE_POLL_S] * 2
    assert capsys.readouterr().err == "deploy: waiting for the end of night-1\n"


def test_a_run_that_does_not_end_refuses_the_deployment(capsys):
    """After the longest wait, with the runs' names and what to do."""
    waits = []

    with pytest.raises(
        forward.ForwardError, match=r"still under way: night-1, train-2; .*WAIT=no make deploy"
    ):
        forward.wait_until_idle(lambda: ["night-1", "train-2"], waits.append)

    assert sum(waits) == forward.IDLE_S


def test_runs_that_have_started_and_not_ended_are_under_way(prefect_api):
    """Those that wait for their time, and those that have ended, are not."""
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.states import Completed, Pending, Running, Scheduled

    @flow
    def night() -> None: ...

    with get_client(sync_client=True) as client:
        made = [
            client.create_flow_run(night, name=state.name, state=state)
            for state in (Scheduled(), Pending(), Running(), Completed())
        ]
        found = forward.runs_under_way()
        for run in made:
            client.delete_flow_run(run.id)

    assert {"Pending", "Running"} <= set(found)
    assert not {"Scheduled", "Completed"} & set(found)


def test_the_state_is_kept_under_the_installations_name(tmp_path):
    """GitHub's role may only write there; what terraform.tfvars says counts more than the environment."""
    tree = copy_scripts(tmp_path, 'name = "digits"\nregion = "eu-central-1"\n')

    deploy(tmp_path, free_port(), "exit 1", tree, STATE_BUCKET="state", TF_VAR_region="us-east-2")

    began = (tmp_path / "terraform.log").read_text().splitlines()[0]
    assert "-backend-config=key=digits/terraform.tfstate" in began
    assert "-backend-config=region=eu-central-1" in began
    assert "-lockfile=readonly" in began


def test_github_without_the_persons_variables_changes_nothing(tmp_path):
    """Without them a tag would plan back what terraform.tfvars says, and AWS would refuse half-way."""
    done = deploy(tmp_path, free_port(), "exit 1", copy_scripts(tmp_path, ""), CI="true")

    assert done.returncode == 1
    assert "give the environment `production` on GitHub a variable TFVARS" in done.stderr
    assert not (tmp_path / "terraform.log").exists()


@pytest.mark.parametrize(("kind", "refused"), [("aws_iam_role", True), ("aws_ecs_task_definition", False)])
def test_a_tag_that_changes_more_than_images_is_refused_whole(tmp_path, kind, refused):
    """Before anything is applied, with the resource and what to do."""
    change = {"address": f"{kind}.job", "change": {"actions": ["update"]}}
    tree = copy_scripts(tmp_path, "")
    given = {"CI": "true", "TFVARS": 'log_days = "7"', "PLAN": json.dumps({"resource_changes": [change]})}

    done = deploy(tmp_path, free_port(), "exit 1", tree, **given)

    assert (tree / "infra/terraform/terraform.tfvars").read_text() == 'log_days = "7"\n'
    assert ("a tag may not change aws_iam_role.job (update)" in done.stderr) == refused
    assert ("apply" in (tmp_path / "terraform.log").read_text()) != refused


def test_a_server_that_does_not_know_the_login_is_refused(tmp_path):
    """Another server that took the port is not written to; the login is in no argument and no output."""
    server = (
        "import http.server as h\n"
        "class H(h.BaseHTTPRequestHandler):\n"
        "    def do_GET(self): self.send_error(401)\n"
        "h.HTTPServer(('127.0.0.1', int(__import__('os').environ['PORT'])), H).serve_forever()\n"
    )
    (tmp_path / "other.py").write_text(server)

    done = deploy(tmp_path, free_port(), f"exec {sys.executable} {tmp_path / 'other.py'}")

    assert done.returncode == 1
    assert "is not this deployment's: HTTP 401 to its login" in done.stderr
    login = (tmp_path / "secret").read_text()
    assert login.startswith("mnist:")
    assert login not in done.stdout + done.stderr + (tmp_path / "aws.log").read_text()


def test_the_login_is_made_once(tmp_path):
    """A second deployment reads the secret and leaves it as it is."""
    (tmp_path / "secret").write_text(LOGIN)

    deploy(tmp_path, free_port(), "exit 1")

    assert (tmp_path / "secret").read_text() == LOGIN
    assert "put-secret-value" not in (tmp_path / "aws.log").read_text()


def test_a_login_that_cannot_be_read_is_not_replaced(tmp_path):
    """Another one would lock out server and jobs; AWS's own words say what to do."""
    (tmp_path / "secret").write_text(LOGIN)

    done = deploy(
        tmp_path, free_port(), "exit 1", REFUSAL="An error occurred (ThrottlingException): Rate exceeded"
    )

    assert done.returncode == 1
    assert "cannot be read: An error occurred (ThrottlingException): Rate exceeded" in done.stderr
    assert (tmp_path / "secret").read_text() == LOGIN
    assert "put-secret-value" not in (tmp_path / "aws.log").read_text()


@pytest.fixture
def wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Wait for a server that gives these statuses, the last one for good."""
    servers = []
    monkeypatch.setattr(forward, "POLL_S", 0.01)

    def wait(*statuses: int) -> Server:
        servers.append(Server(*statuses))
        url = f"http://127.0.0.1:{servers[-1].port}/api"
        forward.wait_for_server(url, os.getpid(), tmp_path / "forward.log", LOGIN)
        return servers[-1]

    yield wait
    for server in servers:
        server.stop()


def test_a_server_that_answers_everybody_is_refused(wait):
    """A Prefect server without a login accepts any, so its answer to ours proves nothing."""
    with pytest.raises(forward.ForwardError, match="HTTP 200 without a login"):
        wait(200)


def test_a_server_that_changed_its_login_is_refused_with_the_services_to_restart(wait):
    """Both read the secret only when they start."""
    with pytest.raises(forward.ForwardError, match="`server` and `worker`"):
        wait(401)


def test_a_server_that_is_still_starting_is_asked_again(wait):
    """An answer of 5xx says nothing about the login."""
    assert [login is None for _, login in wait(503, 401, 401, 503, 401, 200).asked] == [True, False] * 3


def test_a_server_that_stays_busy_is_given_up(wait, monkeypatch):
    """After the longest wait."""
    monkeypatch.setattr(forward, "WAIT_S", 0.05)

    with pytest.raises(forward.ForwardError, match="no Prefect server answers"):
        wait(502)
