"""Requests to a Prefect API that wait for its answer.

SQLite locks the database while somebody writes, and the API answers 503 to whoever comes then. Prefect's own
client repeats such a request; this module is for tests that ask without it.
"""

import time
from typing import Any

import requests

BUSY = (429, 502, 503)
"""What Prefect's client repeats, too."""


def ask(url: str, path: str, method: str = "GET", timeout_s: float = 60, **body: Any) -> Any:
    """Return the JSON answer of a request; one that the API is too busy for is repeated.

    Args:
        url: the API's, ending in `/api`.
        path: begins with `/`.
        method: a request with a body is a POST, unless another method than GET is given.
        timeout_s: after which the last answer counts; raises if it is an error.
        body: the fields of the request.
    """
    return send(url, path, "POST" if body and method == "GET" else method, body or None, timeout_s)


def send(url: str, path: str, method: str, body: Any, timeout_s: float = 60) -> Any:
    """Send a request with any JSON body, and repeat it as `ask` does."""
    deadline = time.monotonic() + timeout_s
    with requests.Session() as session:
        session.trust_env = False
        while True:
            answer = session.request(method, url + path, json=body, timeout=timeout_s)
            if answer.status_code not in BUSY or time.monotonic() > deadline:
                break
            time.sleep(0.2)
    answer.raise_for_status()
    return answer.json() if answer.content else None
