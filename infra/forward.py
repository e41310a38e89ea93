"""The local end of the port-forward to the cloud's Prefect server, for `make deploy`.

python -m infra.forward free PORT                    ends with 1 if something listens on 127.0.0.1:PORT
python -m infra.forward wait URL PROCESS LOG         waits until the server of the login answers at URL
python -m infra.forward idle                         waits until no run is under way at PREFECT_API_URL

A deployment overwrites pools and deployments of the server that answers, so it must be the right one: the
port was free, the process of the forward lives, and the server refuses whoever has no login and accepts this
one, which no other server has. It also restarts that server, which a run under way may not survive.
"""

import os
import socket
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from flows.ops.prefect_home import is_busy, status_of
from mnist_core.errors import MnistError

WAIT_S, POLL_S = 120.0, 0.5
"""Seconds until the server must answer, and between two looks."""
IDLE_S, IDLE_POLL_S = 1800.0, 20.0
"""Seconds for which runs are waited for, and between two looks: a night in which all is well takes less."""


class ForwardError(MnistError):
    """The port is taken, what answers on it is not the deployment's own server, or that one is busy."""


def check_free(port: int) -> None:
    """Check that nothing listens on a port of 127.0.0.1.

    Raises:
        ForwardError: something does.
    """
    with socket.socket() as probe:
        probe.settimeout(2)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise ForwardError(
                f"port {port} is in use by another program, perhaps `make ui`",
                "stop it (`make ui-stop`), or choose another port: PORT=4300 make deploy",
            )


def wait_for_server(url: str, process: int, log: Path, login: str) -> None:
    """Wait until a Prefect server answers, and check that it is the one that has this login.

    Args:
        url: of its API.
        process: number of the process that forwards the port.
        log: what that process wrote.
        login: `user:password`.

    Raises:
        ForwardError: the process has ended, nothing answers in time, it asks for no login, or does
            not accept this one.
    """
    deadline = time.monotonic() + WAIT_S
    while True:
        if not _is_alive(process):
            said = log.read_text(errors="replace").strip()
            raise ForwardError(
                f"the port-forward has ended: {said or 'it wrote nothing'}",
                "check that the AWS session-manager-plugin is installed, then run `make deploy` again",
            )
        without, with_it = status_of(url), status_of(url, login)
        if not (is_busy(without) or is_busy(with_it)):
            _check_login(url, without, with_it)
            return
        if time.monotonic() > deadline:
            raise ForwardError(f"no Prefect server answers at {url}", "look at the service `server` in ECS")
        time.sleep(POLL_S)


def _check_login(url: str, without: int | None, with_it: int | None) -> None:
    """Check the statuses of a server that was asked without the login and with it."""
    fault = None
    if without != HTTPStatus.UNAUTHORIZED:
        fault = f"HTTP {without} without a login"  # then it accepts any
    elif with_it != HTTPStatus.OK:
        fault = f"HTTP {with_it} to its login"
    if fault is not None:
        raise ForwardError(
            f"the server at {url} is not this deployment's: {fault}",
            "stop what listens on that port; if the login is new, restart the services `server` and `worker`",
        )


def wait_until_idle(under_way: Callable[[], list[str]], sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait until no run is under way: a restart of the server takes longer than a run may be silent.

    Args:
        under_way: returns the names of the runs.
        sleep: waits.

    Raises:
        ForwardError: some still are after the longest wait.
    """
    waited = 0.0
    while names := under_way():
        if waited >= IDLE_S:
            raise ForwardError(
                f"still under way: {', '.join(names)}",
                "run `make deploy` again later, or `WAIT=no make deploy`: it may mark these runs as crashed",
            )
        if not waited:
            print(f"deploy: waiting for the end of {', '.join(names)}", file=sys.stderr)  # noqa: T201
        sleep(IDLE_POLL_S)
        waited += IDLE_POLL_S


def runs_under_way() -> list[str]:
    """Return the names of the runs that have started and not ended, on the server PREFECT_API_URL."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType

    kinds = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=kinds)))
    return sorted(run.name for run in runs)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # The shell that started it has not waited for it yet, so a dead one is a zombie.
    stat = Path(f"/proc/{process}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def main(arguments: list[str]) -> None:
    """Run the command; an error is one line and exit 1."""
    try:
        if arguments[0] == "free":
            check_free(int(arguments[1]))
        elif arguments[0] == "idle":
            wait_until_idle(runs_under_way)
        else:
            url, process, log = arguments[1:]
            wait_for_server(url, int(process), Path(log), os.environ["PREFECT_API_AUTH_STRING"])
    except ForwardError as error:
        raise SystemExit(f"deploy: {error}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
