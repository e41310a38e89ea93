"""S3 servers for tests: a front that plays faults on request, before moto or SeaweedFS."""

import functools
import io
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

Start = Callable[..., Any]
App = Callable[[dict[str, Any], Start], Iterable[bytes]]
CODES = {
    "403": "AccessDenied",
    "409": "ConditionalRequestConflict",
    "500": "InternalError",
    "503": "SlowDown",
}

KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


class S3Server:
    """An S3 server over HTTP, with a bucket and with faults on request.

    Attributes:
        name: `moto` or `seaweedfs`.
        bucket: of this test alone.
        client: boto3's, past the code under test.
        requests: method and path of every request since the test began.
        faults: what the next requests meet, in order: `403`, `409`, `500`, `503` in place of an answer;
            `reset`, the connection closes; `lost`, it closes after the request was carried out; `cut`, in
            mid-answer; `silent`, no answer for a second; `overwrite`, a put is done though its key is taken;
            `twice`, a gateway repeats the request and gives the answer to the repetition; nothing, where one
            is passed over.
        refuse: what answers a request in place of the server, given its headers: (status, code, message,
            further elements of the answer); None lets it pass. A server with other habits.
    """

    def __init__(self, name: str, app: App) -> None:
        import boto3
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        read_descriptions_once()
        self.name = name
        self.faults: list[str] = []
        self.refuse: Callable[[dict[str, Any]], tuple[str, str, str, str] | None] = lambda _environ: None
        self.requests: list[str] = []
        self.bucket = ""
        self._app = app
        self._server = make_server("127.0.0.1", 0, self, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **KEYS)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        """Answer one request, correctly or as the next fault says."""
        self.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        if refused := self.refuse(environ):
            return _error(start_response, *refused)
        fault = self.faults.pop(0) if self.faults else ""
        if fault.isdigit():
            return _error(start_response, fault, CODES[fault], CODES[fault])
        if fault == "silent":
            time.sleep(1)
        if fault in ("reset", "silent"):
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        if fault == "overwrite":
            del environ["HTTP_IF_NONE_MATCH"]
        if fault == "twice":
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            first = {**environ, "wsgi.input": io.BytesIO(body)}
            b"".join(self._app(first, lambda *_: None))
            environ["wsgi.input"] = io.BytesIO(body)
        body = b"".join(self._app(environ, start_response))
        if fault == "cut":
            body = body[: len(body) // 2]
        if fault == "lost":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return [body]

    def reset(self) -> None:
        """Play no faults any more, and forget the requests."""
        self.faults.clear()
        self.requests.clear()
        self.refuse = lambda _environ: None

    def stop(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()


def _error(start_response: Start, status: str, code: str, message: str, more: str = "") -> list[bytes]:
    start_response(f"{status} {code}", [("Content-Type", "application/xml")])
    return [f"<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>".encode()]


def read_descriptions_once() -> None:
    """Let all of boto3's sessions share the descriptions of AWS: each store has a session that reads them."""
    from botocore.loaders import JSONFileLoader

    read = functools.cache(JSONFileLoader().load_file)
    JSONFileLoader.load_file = lambda _self, path: read(path)  # type: ignore[method-assign]


def moto() -> App:
    """Return moto's S3, which answers one request at a time."""
    from moto.server import DomainDispatcherApplication, create_backend_app

    app, one_at_a_time = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def answer(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        with one_at_a_time:
            return [b"".join(app(environ, start_response))]

    return answer
