"""An S3 server for tests, with faults on request."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any


class S3Server:
    """moto's S3 over HTTP, one request at a time, with a bucket and with faults on request.

    Attributes:
        bucket: of this test alone.
        client: boto3's, past the code under test.
        faults: what the next requests meet, in order: `403`, `409`, `500`, `503` in place of an answer;
            `reset`, the connection closes; `lost`, it closes after the request was carried out; `cut`, in
            mid-answer; `silent`, no answer for a second; `overwrite`, a put is done though its key is taken;
            nothing, where one is passed over.
    """

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.faults: list[str] = []
        self.bucket = ""
        self.client: Any = None
        self._app = DomainDispatcherApplication(create_backend_app)
        self._one_at_a_time = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request, correctly or as the next fault says."""
        fault = self.faults.pop(0) if self.faults else ""
        if fault.isdigit():
            code = {
                "403": "AccessDenied",
                "409": "ConditionalRequestConflict",
                "500": "InternalError",
                "503": "SlowDown",
            }[fault]
            body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
            start_response(f"{fault} {code}", [("Content-Type", "application/xml")])
            return [body]
        if fault == "silent":
            time.sleep(1)
        if fault in ("reset", "silent"):
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        if fault == "overwrite":
            del environ["HTTP_IF_NONE_MATCH"]
        with self._one_at_a_time:
            body = b"".join(self._app(environ, start_response))
        if fault == "cut":
            body = body[: len(body) // 2]
        if fault == "lost":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return [body]

    def stop(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()
