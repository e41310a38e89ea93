"""A nightly run in a process of its own that ends itself at a chosen call.

The shipped code has no hook for this: calls of the store, the disk and the network are wrapped from outside,
in the child process alone, and counted. Training is replaced by a version that exists already, and prediction
by fixed labels of which a few rows differ from trial to trial: each trial has its own content to submit.
"""

import functools
import json
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np

KILLED = 9
"""Exit status of a run that ended itself."""
UNEXPECTED = 3
"""Exit status of a run that ended with an error that is not one of ours."""
STORE_CALLS = ("put", "upload", "get", "keys", "delete")
DISK_CALLS = ("link", "fsync", "replace")
KINDS = "objects|versions|trained|predictions|submissions|scores|champions|attempts|nights|leases|history"
LEASE_S = 1.5
"""After how long a dead run's lease has expired, so that its next run need not wait for minutes."""
CHANGED_ROWS = 10
"""Rows of the predictions that a trial changes; too few for an alarm."""


@dataclass(frozen=True)
class Kill:
    """Where a run ends itself: at a call, counted from 0."""

    call: int
    when: Literal["before", "after"]


@dataclass(frozen=True)
class Start:
    """What a child process is started with.

    Attributes:
        night: the run's date.
        variables: of its environment.
        labels: a file with the predictions of a trained network, .npy.
        content: decides which rows of the predictions differ.
        outcome: the file that gets the `Outcome`.
        kill: where it ends itself; None lets it run to its end.
        stop_at: the name of a call before which it stops itself once, as Ctrl-Z does.
        clock_off_s: by how much its time of day is wrong.
        hurried: do not wait for minutes if a run has died or a server stays silent; for one run at a time.
    """

    night: str
    variables: dict[str, str]
    labels: Path
    content: int
    outcome: Path
    kill: Kill | None = None
    hurried: bool = True
    stop_at: str | None = None
    clock_off_s: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        code: exit status: 0 done, 1 one of our errors, `KILLED`, or `UNEXPECTED`.
        calls: the names of all calls, in their order.
        result: of a run that is done, what `--json` prints.
        error: the text of its error.
    """

    code: int
    calls: list[str] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def decision(self) -> str | None:
        """What the run decided, if it is done."""
        return self.result.get("decision")


def run_nightly(start: Start) -> None:
    """Run the flow once, write its outcome, and end the process."""
    os.environ.update(start.variables)
    from mnist_core.errors import MnistError

    calls: list[str] = []
    _wrap_calls(functools.partial(_counted, calls, start.kill, start.stop_at))
    _predict_from(start.labels, start.content)
    if start.hurried:
        _hurry()
    real_time = time.time
    time.time = lambda: real_time() + start.clock_off_s
    from flows.nightly import nightly

    code, result, text = 0, {}, ""
    try:
        result = nightly(start.night).to_json()
    except MnistError as error:
        code, text = 1, str(error)
    except BaseException as error:
        code, text = UNEXPECTED, f"{type(error).__name__}: {error}"
    start.outcome.write_text(json.dumps({"calls": calls, "result": result, "error": text}))
    os._exit(code)


def _counted(
    calls: list[str], kill: Kill | None, stop_at: str | None, name: str, call: Callable[..., Any]
) -> Callable[..., Any]:
    """Return a call that counts itself and ends, or stops, the process if it is the one to do so at."""

    @functools.wraps(call)
    def counted(*args: Any, **options: Any) -> Any:
        number = len(calls)
        calls.append(_name(name, args))
        if calls[number] == stop_at and calls.count(stop_at) == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        if kill == Kill(number, "before"):
            os._exit(KILLED)
        try:
            return call(*args, **options)
        finally:  # also of a call that finds nothing, which raises
            if kill == Kill(number, "after"):
                os._exit(KILLED)

    return counted


def _name(name: str, args: tuple[Any, ...]) -> str:
    """Return a call's name with what it is about: `put champions`, `POST CreateSubmission`, `link`."""
    if name == "request":
        path = urlsplit(args[1].url).path
        return f"{args[1].method} {'upload' if '/upload/' in path else path.rpartition('/')[2]}"
    about = re.findall(KINDS, str(args[1])) if name in STORE_CALLS else []
    return f"{name} {about[0]}" if about else name


def _wrap_calls(wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
    """Wrap every call of the store, every one of its steps on a disk, and every request."""
    import requests

    from flows.store.folder import Folder
    from flows.store.s3 import Bucket

    for store in (Folder, Bucket):
        for name in STORE_CALLS:
            setattr(store, name, wrap(name, getattr(store, name)))
    for name in DISK_CALLS:
        setattr(os, name, wrap(name, getattr(os, name)))
    requests.Session.send = wrap("request", requests.Session.send)  # type: ignore[method-assign]


def _hurry() -> None:
    from botocore.retries.standard import ExponentialBackoff

    from flows import lease, submit
    from flows.kaggle.competition import Competition
    from flows.store.s3 import Bucket

    lease.LEASE_S, submit.POLL_S = LEASE_S, 0.1
    Competition.look_again_s = (0.2, 0.4, 0.4)
    Bucket.read_timeout_s = 0.5
    ExponentialBackoff.delay_amount = lambda *_: 0  # type: ignore[method-assign]


def _predict_from(labels: Path, content: int) -> None:
    import mnist_core

    answers = np.load(labels)
    classes = answers.max() + 1
    rows = np.random.default_rng(content).choice(len(answers), CHANGED_ROWS, replace=False)
    answers[rows] = (answers[rows] + 1) % classes

    def predict(pixels: Any, **_options: Any) -> Any:
        assert len(pixels) == len(answers)
        return np.eye(classes)[answers]

    mnist_core.open_model = lambda *_: SimpleNamespace(predict=predict)
