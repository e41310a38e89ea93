"""A night in a process of its own that ends itself at a named call: the hook that `test_chaos.py` uses.

Nothing of this is in the shipped code: calls of the store and of the competition are wrapped from outside, in
the child process alone, and counted. Training is replaced by a version that is already there, prediction by
fixed labels of which a few rows differ from trial to trial, so that each trial has a content of its own.
"""

import functools
import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import numpy as np

KILLED = 9
"""Exit status of a night that ended itself."""
STORE_CALLS = ("put", "upload", "get", "keys", "delete")
KINDS = "objects|versions|trained|predictions|submissions|scores|champions|attempts|nights|leases"
LEASE_S = 1.5
"""Seconds after which a dead run's lease has expired, so that its next run need not wait for minutes."""


def run_night(
    night: str, env: dict[str, str], labels: Path, kill: tuple[int, str] | None, told: Path, fast: bool = True
) -> None:
    """Run one night and end the process: 0 done, 1 an error of ours, `KILLED`, 3 anything else.

    Args:
        night: its night id.
        env: variables for this night; `CHAOS_TRIAL` says which rows of the labels differ.
        labels: the predictions of a trained network, .npy.
        kill: at which call, counted from 0, and `before` or `after` it; None lets it run to its end.
        told: a file that gets the names of all calls, then `result` or `error`, as JSON.
        fast: do not wait for minutes where a run has died or a server stays silent; for one night at a time.
    """
    os.environ.update(env)
    from mnist_core.errors import MnistError

    calls: list[str] = []
    outcome: dict[str, Any] = {"calls": calls}

    def point(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def wrapped(*args: Any, **options: Any) -> Any:
            number = len(calls)
            calls.append(name_of(name, args))
            if kill == (number, "before"):
                os._exit(KILLED)
            result = call(*args, **options)
            if kill == (number, "after"):
                os._exit(KILLED)
            return result

        return wrapped

    _wrap_calls(point)
    _predict_from(labels, int(os.environ["CHAOS_TRIAL"]))
    if fast:
        _hurry()
    from flows.nightly import nightly

    try:
        outcome["result"] = nightly(night).to_json()
        code = 0
    except MnistError as error:
        outcome["error"] = str(error)
        code = 1
    except BaseException as error:
        outcome["error"] = f"{type(error).__name__}: {error}"
        code = 3
    told.write_text(json.dumps(outcome))
    os._exit(code)


def name_of(name: str, args: tuple[Any, ...]) -> str:
    """A call's name with what it is about: `put champions`, `POST CreateSubmission`, `link`."""
    if name == "request":
        path = urlsplit(args[1].url).path
        return f"{args[1].method} {'upload' if '/upload/' in path else path.rpartition('/')[2]}"
    about = re.findall(KINDS, str(args[1])) if name in STORE_CALLS else []
    return f"{name} {about[0]}" if about else name


def _wrap_calls(point: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
    """Make every call of the store, every one of its steps on a disk, and every request a point."""
    import requests

    from flows.store.folder import Folder
    from flows.store.s3 import Bucket

    for store in (Folder, Bucket):
        for name in STORE_CALLS:
            setattr(store, name, point(name, getattr(store, name)))
    for name in ("link", "fsync", "replace"):
        setattr(os, name, point(name, getattr(os, name)))
    requests.Session.send = point("request", requests.Session.send)  # type: ignore[method-assign]


def _hurry() -> None:
    from botocore.retries.standard import ExponentialBackoff

    from flows import lease, submit
    from flows.kaggle.competition import Competition
    from flows.store.s3 import Bucket

    lease.LEASE_S, submit.POLL_S = LEASE_S, 0.1
    Competition.look_again_s = (0.2, 0.4, 0.4)
    Bucket.read_timeout_s = 0.5
    ExponentialBackoff.delay_amount = lambda *_: 0  # type: ignore[method-assign]


def _predict_from(labels: Path, trial: int) -> None:
    import mnist_core

    answers = np.load(labels)
    rows = np.random.default_rng(trial).choice(len(answers), 10, replace=False)  # too few for an alarm
    answers[rows] = (answers[rows] + 1) % 10

    def predict(pixels: Any, **_options: Any) -> Any:
        assert len(pixels) == len(answers)
        return np.eye(10)[answers]

    mnist_core.open_model = lambda *_: SimpleNamespace(predict=predict)


def faults_of(store: Any) -> list[str]:
    """What is wrong with what a store shows: objects that their names belie, entries cut short."""
    found = []
    for key in store.keys(""):
        data = store.get(key)
        if key.startswith("objects/"):
            if hashlib.sha256(data).hexdigest() != Path(key).name:
                found.append(f"{key} has other bytes")
        else:
            try:
                json.loads(data)["format"]
            except (ValueError, KeyError):
                found.append(f"{key} is no whole entry")
    return found


def wait_for(processes: list[Any], timeout_s: float) -> list[int]:
    """Wait for processes to end; their exit statuses."""
    deadline = time.monotonic() + timeout_s
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"a night did not end within {timeout_s:g} s")
    return [process.exitcode for process in processes]
