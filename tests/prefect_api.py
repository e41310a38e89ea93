"""Requests to a Prefect API that wait for its answer.

SQLite locks the database while somebody writes, and the API answers 503 to whoever comes then. Prefect's own
client repeats such a request; this module is for tests that ask without it.
"""

import time
from typing import Any

import requests

BUSY = (429, 502, 503)
"""What Prefect's client repeats, too."""


def ask(
    url: str, path: str, method: str = "GET", timeout_s: float = 60, *, login: str | None = None, **body: Any
) -> Any:
    """Return the JSON answer of a request; one that the API is too busy for is repeated.

    Args:
        url: the API's, ending in `/api`.
        path: begins with `/`.
        method: a request with a body is a POST, unless another method than GET is given.
        timeout_s: after which the last answer counts; raises if it is an error.
        login: `user:password`, of a server that asks for it, and for a CSRF token.
        body: the fields of the request.
    """
    return send(url, path, "POST" if body and method == "GET" else method, body or None, timeout_s, login)


def send(url: str, path: str, method: str, body: Any, timeout_s: float = 60, login: str | None = None) -> Any:
    """Send a request with any JSON body, and repeat it as `ask` does."""
    deadline = time.monotonic() + timeout_s
    with requests.Session() as session:
        session.trust_env = False
        if login is not None:
            session.auth = tuple(login.split(":", 1))
            if method != "GET":
                session.headers.update(_csrf_headers(url, login))
        while True:
            answer = session.request(method, url + path, json=body, timeout=timeout_s)
            if answer.status_code not in BUSY or time.monotonic() > deadline:
                break
            time.sleep(0.2)
    answer.raise_for_status()
    return answer.json() if answer.content else None


def _csrf_headers(url: str, login: str) -> dict[str, str]:
    client = "tests"
    found = ask(url, f"/csrf-token?client={client}", login=login)
    return {"Prefect-Csrf-Token": found["token"], "Prefect-Csrf-Client": client}
