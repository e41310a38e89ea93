"""A registry with nights to make a site of, written without running any."""

import functools
import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.held_out import HeldOut
from flows.records import Decision, NightEntry, RunKey, Score, Status
from flows.registry import Registry
from flows.settings import Settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_SERVER = "http://127.0.0.1:9/onnxruntime-web.tgz"
PICTURE = b"\x89PNG, as it were"


@pytest.fixture(autouse=True)
def _npm_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test of the site downloads from npm's registry."""
    monkeypatch.setattr("flows.site.runtime.ADDRESS", NO_SERVER)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of somebody with a home and nothing else."""
    return Settings(home=tmp_path / "home")


@pytest.fixture
def put_night(registry: Registry, manifest: Callable[..., Any], tmp_path: Path) -> Callable[..., str]:
    """Publish a version with 100 held-out rows, of which `errors` are wrong, and end its night.

    `put_night(1, score=0.97)` is of 2026-11-01, promoted unless another `decision` is given; `facts` are what
    its manifest says besides, `ended` what the night's entry says, `files` what its bundle has besides.
    """

    def put(
        day: int,
        decision: Decision = Decision.PROMOTED,
        *,
        errors: int = 3,
        score: float | None = None,
        into: Registry = registry,
        facts: dict[str, Any] | None = None,
        files: dict[str, bytes] | None = None,
        ended: dict[str, Any] | None = None,
    ) -> str:
        run = RunKey(night=f"2026-11-{day:02d}", model="convnet", preset="fast", epochs=40)
        folder = tmp_path / f"bundle-{day}"
        folder.mkdir()
        labels = np.arange(100) % 10
        predicted = np.where(np.arange(100) < errors, (labels + 1) % 10, labels)
        probabilities = np.full((100, 10), 0.01, np.float32)
        probabilities[np.arange(100), predicted] = 0.91
        HeldOut(np.arange(7, 107), labels, probabilities).save(folder)
        (folder / "weights.safetensors").write_bytes(run.night.encode())
        (folder / "hardest.png").write_bytes(PICTURE)
        for name, content in (files or {}).items():
            (folder / name).write_bytes(content)
        known = {"night": run.night, "valid_accuracy": 1 - errors / 100, "valid_interval": [0.9, 0.99]}
        version = into.publish(into.open_attempt(run, False), manifest(**known, **(facts or {})), folder)
        if decision is Decision.PROMOTED:
            assert into.promote(version, into.champion()[0], "better")
        if score is not None:
            into.put_submission(version, f"token:{day}", day, "")
            into.put_score(Score(version=version, status=Status.COMPLETE, public_score=score))
        known = {
            "valid_accuracy": 1 - errors / 100, "valid_interval": (0.9, 0.99), "reason": "a reason",
            "submitted": version if score is not None else None, "at": f"{run.night}T03:10:00.000+00:00",
            "seconds": {"read": 0.1, "train": 6.0, "submit": 200.0},
        }  # fmt: skip
        entry = {"run": run, "version": version, "decision": decision, **known, **(ended or {})}
        into.end_night(NightEntry(**entry))
        return version

    return put


@pytest.fixture
def in_browser(tmp_path: Path) -> Iterator[Callable[[Path, str], Any]]:
    """Open a page of a folder in Chromium, and return what it posts: `in_browser(folder, "page.html")`."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    posted: queue.Queue[Any] = queue.Queue()

    class Handler(SimpleHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.put(json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Leave the terminal alone."""

    started: list[tuple[ThreadingHTTPServer, subprocess.Popen[bytes]]] = []

    def open_page(folder: Path, name: str) -> Any:
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = subprocess.Popen(
            [
                CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-proxy-server",
                f"--user-data-dir={tmp_path / 'profile'}", f"http://127.0.0.1:{server.server_port}/{name}",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        started.append((server, browser))
        return posted.get(timeout=200)

    yield open_page
    for server, browser in started:
        browser.terminate()
        browser.wait(20)
        server.shutdown()
        server.server_close()
