"""Trials: a store that has a champion, nightly runs on it, and what must hold whatever happens to them."""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.kaggle.submissions import submission_token
from flows.records import Demotion, RunKey, VersionEntry
from flows.registry import Registry
from flows.store.base import Store
from flows.store.open import open_store
from tests.flows.chaos.killable import Kill, Outcome, Start, run_nightly

ALL = os.environ.get("CHAOS") == "all"
"""Whether `make chaos` runs the tests, which takes every call and every fault instead of a sample."""
OWN = "eight-by-eight"
"""Trials in a folder, of a competition that is not built in."""
STORES = ["folder", "moto", "seaweedfs", OWN]
"""The kinds of stores that trials take place on."""
OLD, TONIGHT = "2026-11-22", "2026-11-23"
PASSED_ON = ("MNIST_", "KAGGLE_", "AWS_", "PREFECT_", "HTTPS_", "NO_PROXY")
"""How the names of the variables begin that a run gets from its test."""


def parameters(values: Sequence[Any], sample: Sequence[Any]) -> list[Any]:
    """Return the parameters of a test, of which `make test` takes a sample: the others are slow there."""
    slow = pytest.mark.slow
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else [value]), marks=[] if ALL or value in sample else slow
        )
        for value in values
    ]


def version_of(night: str) -> str:
    """Return the name of the version that a trial has for a night."""
    return f"{night}-convnet-00000000"


@dataclass
class Run:
    """A nightly run that was started."""

    process: Any
    outcome: Path

    def wait(self, deadline: float) -> Outcome:
        """Return how the run ended; kill it, and fail, if it has not ended by then (monotonic clock)."""
        self.process.join(max(0.0, deadline - time.monotonic()))
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError("a run did not end in time")
        reported = json.loads(self.outcome.read_text()) if self.outcome.exists() else {}
        return Outcome(self.process.exitcode, **reported)


def wait_for(runs: Sequence[Run], timeout_s: float) -> list[Outcome]:
    """Return how several runs ended."""
    deadline = time.monotonic() + timeout_s
    return [run.wait(deadline) for run in runs]


@dataclass
class Trials:
    """A competition with one champion that has its score, and copies of its store to try things on.

    Attributes:
        job: the competition's server and the settings.
        processes: where child processes come from.
        labels: the predictions that every run makes, but for a few rows.
        kind: of store, `folder`, or the name of an S3 server.
        s3: the S3 server of a bucket.
        template: the objects of the store that has the champion.
    """

    job: Any
    processes: Any
    labels: Path
    kind: str
    s3: Any
    template: dict[str, bytes]
    count: int = 0

    def new(self, *nights: str) -> "Trial":
        """Return a trial with a store of its own, in which the versions of these nights are trained."""
        self.count += 1
        name = f"trial-{self.count}"
        address = str(self.job.home / name) if self.kind == "folder" else f"s3://{self.s3.bucket}/{name}"
        store = open_store(address)
        for key, data in self.template.items():
            store.put(key, data)
        trial = Trial(self, address, self.count)
        registry = trial.registry
        [old] = registry.versions()
        for night in nights:
            _put_version(registry, night, registry.need_version(old))
        return trial


def _put_version(registry: Registry, night: str, old: VersionEntry) -> None:
    """Give a night a trained version, made of another version's objects."""
    run = registry.open_attempt(RunKey(night=night, model="convnet", preset="fast"), False)
    name = version_of(night)
    registry.put_version(old.model_copy(update={"version": name, "night": night, "run": run}))
    registry.put_trained(run, name)


@dataclass
class Trial:
    """One store, and the runs on it."""

    trials: Trials
    address: str
    number: int

    @property
    def registry(self) -> Registry:
        """The registry as a process that has just begun sees it."""
        namespace = next(iter(self.trials.template)).rpartition("/champions/")[0]
        return Registry(open_store(self.address), namespace)

    def start(
        self,
        night: str,
        kill: Kill | None = None,
        *,
        content: int | None = None,
        hurried: bool = True,
        stop_at: str | None = None,
        clock_off_s: float = 0.0,
        **variables: str,
    ) -> Run:
        """Start a nightly run.

        Args:
            night: its date.
            kill: where it ends itself.
            content: decides which rows of its predictions differ; default: the trial's number.
            hurried, stop_at, clock_off_s: see `killable.Start`.
            variables: of its environment, beside those of the test.
        """
        outcome = self.trials.job.home / f"outcome-{self.number}-{night}-{time.monotonic_ns()}.json"
        given = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        given |= {"MNIST_STORE": self.address, **variables}
        content = self.number if content is None else content
        start = Start(night, given, self.trials.labels, content, outcome, kill, hurried, stop_at, clock_off_s)
        process = self.trials.processes.Process(target=run_nightly, args=(start,))
        process.start()
        return Run(process, outcome)

    def start_all(self, nights: Sequence[str]) -> list[Run]:
        """Start a run for each of these dates at once, each with predictions of its own."""
        return [
            self.start(night, content=100 * self.number + i, hurried=False) for i, night in enumerate(nights)
        ]

    def run(self, night: str, kill: Kill | None = None, **variables: str) -> Outcome:
        """Start a run and wait until it has ended."""
        [outcome] = wait_for(
            [self.start(night, kill, **variables)], 150
        )  # a download cut each time takes 62 s
        return outcome

    def submitted(self, *nights: str) -> list[int]:
        """Return how many submissions the competition has of the predictions of each of these nights."""
        server, registry = self.trials.job.server, self.registry
        listed = Counter(entry["description"].split()[0] for entry in server.submissions())
        files = [registry.predictions(version_of(night)) for night in nights]
        return [listed[submission_token(server.spec.name, csv)] if csv else 0 for csv in files]

    def check(self, *nights: str) -> None:
        """Assert that nothing is half-written, lost, doubled or out of order."""
        registry = self.registry
        assert damage(registry.store) == []
        assert {version_of(night) for night in nights} <= set(registry.versions())
        assert all(count <= 1 for count in self.submitted(*nights))
        numbers = [int(Path(key).stem) for key in registry.store.keys(f"{registry.namespace}/champions/")]
        assert numbers == list(range(1, len(numbers) + 1))
        promoted = [entry.version for entry in registry.champions() if entry.cause is not Demotion.ALARM]
        assert len(set(promoted)) == len(promoted)


def damage(store: Store) -> list[str]:
    """Return what is wrong with a store's objects: bytes that their names contradict, entries cut short."""
    found = []
    for key in store.keys(""):
        data = store.get(key) or b""
        if key.startswith("objects/"):
            if hashlib.sha256(data).hexdigest() != Path(key).name:
                found.append(f"{key} has other bytes")
        else:
            try:
                json.loads(data)["format"]
            except (ValueError, KeyError):
                found.append(f"{key} is not a complete entry")
    return found
