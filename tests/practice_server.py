"""Practice servers for tests: quickly started, and called without the Kaggle client.

`python -m tests.practice_server` is the process that `Forks` talks to.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from flows.ops.practice import read_record
from infra.practice import data
from mnist_core.spec import DIGIT_RECOGNIZER, SPECS, CompetitionSpec, read_spec

ROOT = Path(__file__).parents[1]


@dataclass
class PracticeServer:
    """A practice server that a test started, and short ways to call it without the Kaggle client.

    Calls are about one competition, the one that it was started with.
    """

    home: Path
    process: "ForkedServer | subprocess.Popen[bytes]" = field(repr=False)
    url: str
    username: str
    key: str = field(repr=False)
    token: str = field(repr=False)
    spec: CompetitionSpec = DIGIT_RECOGNIZER
    spec_file: Path | None = None

    @property
    def pid(self) -> int:
        """The server's process."""
        return self.process.pid

    @property
    def archive(self) -> Path:
        """The competition's zip, if the server deals split 0."""
        return self.home / "split-0" / data.zip_name(self.spec)

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a plain request with the account's username and key; no environment, no proxy, no retry."""
        with requests.Session() as session:
            session.trust_env = False
            options = {"auth": (self.username, self.key), "timeout": 60, **options}
            return session.request(method, self.url + path, **options)

    def call(self, rpc: str, **fields: Any) -> requests.Response:
        """Make one call of the competition's service."""
        asked = {"competitionName": self.spec.name, **fields}
        return self.request("POST", f"/v1/competitions.CompetitionApiService/{rpc}", json=asked)

    def submit(
        self, body: bytes, description: str = "", file_name: str = "submission.csv"
    ) -> requests.Response:
        """Upload these bytes and submit them."""
        started = self.call("StartSubmissionUpload", contentLength=len(body), fileName=file_name).json()
        path = started["createUrl"].removeprefix(self.url)
        self.request("PUT", path, data=body, auth=None).raise_for_status()
        return self.call(
            "CreateSubmission", blobFileTokens=started["token"], submissionDescription=description
        )

    def fault(self, name: str, count: int = 1, **params: Any) -> None:
        """Make the next `count` matching requests go wrong (-1: all); `rpc=` names the call."""
        answer = self.request("POST", "/practice/faults", json={"name": name, "count": count, **params})
        assert answer.status_code == 200, answer.text

    def clear_faults(self) -> None:
        """Remove all faults; what a late list does not show yet is listed."""
        self.request("DELETE", "/practice/faults").raise_for_status()

    def submissions(self) -> list[dict[str, Any]]:
        """Return all submissions that are listed, newest first, through every page."""
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            page = self.call("ListSubmissions", pageSize=100, pageToken=token).json()
            found += page["submissions"]
            token = page["nextPageToken"]
            if not token:
                return found

    def scored(self, ref: int, timeout_s: float = 60) -> dict[str, Any]:
        """Return the submission of this ref once it is no longer PENDING."""
        deadline = time.monotonic() + timeout_s
        while (found := self.call("GetSubmission", ref=ref).json())["status"] == "PENDING":
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def stop(self) -> int:
        """End it as a service manager would, and return its exit status."""
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait(timeout=60)


class Forks:
    """A process that has imported the server and forks one on request: a start takes 0.1 s instead of 1 s."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.practice_server"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._started: queue.Queue[int] = queue.Queue()
        self._exits: dict[int, int] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            pid, status = json.loads(line)
            if status is None:
                self._started.put(pid)
            else:
                self._exits[pid] = status

    def start(self, arguments: Sequence[str], log: Path) -> "ForkedServer":
        """Start a server with these arguments; its output is appended to a file."""
        assert self._process.stdin is not None
        print(json.dumps([*arguments]), str(log), sep="\t", file=self._process.stdin, flush=True)
        return ForkedServer(self._started.get(timeout=60), self._exits)

    def stop(self) -> None:
        """End the process; servers that still run end with it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@dataclass
class ForkedServer:
    """The process of a forked server."""

    pid: int
    _exits: dict[int, int]

    def poll(self) -> int | None:
        """Return its exit status, or None while it runs."""
        return self._exits.get(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit status once it has ended."""
        deadline = time.monotonic() + (60 if timeout is None else timeout)
        while (status := self.poll()) is None:
            assert time.monotonic() < deadline, f"the practice server {self.pid} does not end"
            time.sleep(0.01)
        return status

    def kill(self) -> None:
        """End it as a crash would."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def start_server(
    forks: Forks | None,
    home: Path,
    *,
    competition: str,
    spec: Path | None = None,
    port: int = 0,
    faults: Sequence[str] = (),
    **options: float,
) -> PracticeServer:
    """Start a practice server in a home, forked or as a command of its own, and wait until it answers.

    It is about a built-in competition, or about one with a specification, whose source is a labelled file.
    """
    arguments = ["--home", str(home), "--port", str(port)]
    arguments += ["--competition", competition] if spec is None else ["--spec", str(spec)]
    for name, value in ({"score_seconds": 0.2} | options).items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    for fault in faults:
        arguments += ["--fault", fault]
    log = home / "test-server.log"
    process: ForkedServer | subprocess.Popen[bytes]
    if forks is not None:
        process = forks.start(arguments, log)
    else:
        command = [sys.executable, "-m", "infra.practice", *arguments]
        with log.open("ab") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    deadline = time.monotonic() + 60
    while not (record := read_record(home)) or record.pid != process.pid:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    account = json.loads((home / "credentials.json").read_text())
    known = SPECS[competition] if spec is None else read_spec(spec)
    return PracticeServer(home, process, record.url, **account, spec=known, spec_file=spec)


def _fork_on_request() -> None:
    """Fork a server for each line of standard input; report its start, and its exit status, as JSON."""
    import uvicorn.lifespan.off
    import uvicorn.loops.auto
    import uvicorn.protocols.http.h11_impl  # noqa: F401  (what a server imports when it starts)

    import infra.practice.server  # noqa: F401
    from infra.practice.__main__ import main

    running: set[int] = set()

    def report_exits(*_: object) -> None:
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            running.discard(pid)
            os.write(1, f"{json.dumps([pid, os.waitstatus_to_exitcode(status)])}\n".encode())

    signal.signal(signal.SIGCHLD, report_exits)
    while line := sys.stdin.readline():
        arguments, _, log = line.rstrip("\n").partition("\t")
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            for stream in (1, 2):
                os.dup2(output, stream)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.argv = ["mnist-practice", *json.loads(arguments)]
            main()
            os._exit(0)
        running.add(pid)
        os.write(1, f"{json.dumps([pid, None])}\n".encode())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    for pid in running.copy():
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    _fork_on_request()
