"""A store that nightly runs have written to, made without running any."""

import base64
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows.records import Decision, NightEntry, RunKey, Score, Status
from flows.registry import Registry
from flows.settings import Settings, read_settings
from flows.store.open import open_store

NIGHT = "2026-11-23"
NAMESPACE = "127.0.0.1_9/digit-recognizer/0123456789abcdef"


@dataclass
class History:
    """A registry, and what nightly runs would have written to it. The competition's server is down."""

    registry: Registry
    folder: Path
    manifest: Callable[..., dict[str, Any]]

    @property
    def settings(self) -> Settings:
        """The settings of a command that reads this store."""
        return read_settings()

    def publish(self, night: str = NIGHT) -> str:
        """Publish a version; return its name."""
        bundle = self.folder / f"bundle-{night}"
        bundle.mkdir()
        (bundle / "weights.safetensors").write_bytes(night.encode())
        run = self.registry.open_attempt(RunKey(night=night, model="convnet", preset="fast"), fresh=False)
        return self.registry.publish(run, self.manifest(night=night), bundle)

    def promote(self, night: str = NIGHT, *, ref: int | None = None, score: float | None = None) -> str:
        """Publish and promote a version, submitted as `ref` and scored if these are given."""
        version = self.publish(night)
        number, _ = self.registry.champion()
        assert self.registry.promote(version, number, "better")
        if ref is not None:
            self.registry.put_submission(version, f"token:{night}", ref, "")
        if score is not None:
            self.registry.put_score(Score(version=version, status=Status.COMPLETE, public_score=score))
        self.registry.end_night(
            NightEntry(
                run=RunKey(night=night, model="convnet", preset="fast"),
                version=version,
                valid_accuracy=0.99,
                decision=Decision.PROMOTED,
                reason="better",
            )
        )
        return version

    def end_night(self, at: datetime) -> None:
        """Record a night that ended then."""
        self.registry.end_night(
            NightEntry(
                run=RunKey(night=NIGHT, model="convnet", preset="fast", attempt=1),
                version=self.publish(),
                decision=Decision.REJECTED,
                reason="worse",
                at=at.isoformat(),
            )
        )


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Start a server that plays a Prefect API on loopback; returns its address, which ends in `/api`.

    `serve(status)`: gives each request the status `status(login)`; the login is None if it has none.
    """
    servers = []

    def start(status: Callable[[str | None], int]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                given = self.headers.get("Authorization")
                code = status(None if given is None else base64.b64decode(given.split()[1]).decode())
                self.send_response(200 if self.path.endswith("/health") else code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Leave the terminal alone."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/api"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def history(
    tmp_path: Path, manifest: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> History:
    """An empty store that the settings point at."""
    for name in list(os.environ):
        if name.startswith(("MNIST_", "KAGGLE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "HOME": str(tmp_path),
        "MNIST_HOME": str(tmp_path / "home"),
        "MNIST_KAGGLE": "http://127.0.0.1:9",
        "MNIST_KAGGLE_TOKEN": "0" * 32,
        "MNIST_TIMEOUT_S": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return History(Registry(open_store(read_settings().store), NAMESPACE), tmp_path, manifest)
