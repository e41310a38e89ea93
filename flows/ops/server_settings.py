"""Settings of every Prefect server that we start, and the login that it asks for. Prefect is not imported.

The server in the cloud gets the same ones from infra/terraform/prefect.tf; a test compares the two.
"""

import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from flows.environment import LOOPBACK
from mnist_core._atomic import atomic_write

RETENTION_D = 90
"""Days that a server keeps finished runs with their logs and artifacts; events it keeps for 7."""
SERVER = {
    # Files in PREFECT_HOME: if leases are in memory, a server that restarts ends the night that runs, and a
    # run that died while it was pending keeps its slot.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(RETENTION_D * 86400),
    # A page of another origin can send a POST without asking first, if it gives no content type.
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
}
ASKED, GIVEN = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"
"""The variables of the login: that of the server, and that of its clients."""
NO_PAGE = "none"
"""The origin that a server without a UI allows: no page has it."""


def server_variables(login: str, port: int | None = None) -> dict[str, str]:
    """Return the environment of a server on this machine.

    Args:
        login: `user:password`, without which it answers nothing but its health check. An origin list and CSRF
            protection do not stop a page whose own host name resolves to 127.0.0.1, or another local user.
        port: of its UI, the one page that may call it; None: it has no UI.
    """
    origins = [f"http://{host}:{port}" for host in LOOPBACK[:2]] if port is not None else [NO_PAGE]
    ui = {} if port is None else {"PREFECT_UI_URL": ui_address(port)}
    return (
        SERVER
        | ui
        | {
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins),
            ASKED: login,
        }
    )


def ui_address(port: int) -> str:
    """Return the address of a server's UI, with which the links in notifications and logs begin.

    Prefect's own default leads to its old UI, while the start page opens this one.
    """
    return f"http://127.0.0.1:{port}/v2"


def new_login() -> str:
    """Return a random login, as `user:password`."""
    return f"mnist:{secrets.token_urlsafe(32)}"


def temporary_server() -> dict[str, str]:
    """Return the environment of a temporary server, and of this process as its client; a given login wins."""
    login = os.environ.get(ASKED) or os.environ.get(GIVEN) or new_login()
    return server_variables(login) | {GIVEN: login}


def login_file(prefect_home: Path) -> Path:
    """Return the file with the login of the server of `make ui`; only its owner can read it."""
    return prefect_home / "login"


def read_login(prefect_home: Path) -> str | None:
    """Return the login of the server of `make ui`; None if there is none."""
    try:
        return login_file(prefect_home).read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def make_login(prefect_home: Path) -> str:
    """Return the login of the server of `make ui`; the first call creates it."""
    found = os.environ.get(ASKED) or read_login(prefect_home) or new_login()
    with atomic_write(login_file(prefect_home), mode=0o600) as file:
        file.write(f"{found}\n".encode())
    return found


def offer_login(prefect_home: Path, url: str) -> None:
    """Let Prefect's client log in to the server of `make ui`, unless PREFECT_API_URL names another server.

    A login that is set already stays.

    Args:
        prefect_home: of that server; it has its login.
        url: of its API.
    """
    ours, chosen = urlsplit(url), urlsplit(os.environ.get("PREFECT_API_URL") or url)
    same = chosen.port == ours.port and chosen.hostname in LOOPBACK
    if same and (found := read_login(prefect_home)) is not None:
        os.environ.setdefault(GIVEN, found)
