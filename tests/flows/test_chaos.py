"""Nights that die at every call, nights at once, and whole nights with kill -9: nothing lost, nothing twice.

In `make test` a sample; `make chaos` sets CHAOS=all, takes every call, and prints the figures.
"""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.kaggle.submissions import submission_token
from flows.records import Demotion, RunKey, VersionEntry
from flows.registry import Registry
from flows.store.open import open_store
from mnist_core import load, predict, read_test
from mnist_core.spec import DIGITS_MINI
from tests.flows import chaos

ALL = os.environ.get("CHAOS") == "all"
SAMPLE = 2
"""So many calls of a night are taken in `make test`, beside the one that posts."""
OLD, TONIGHT = "2026-11-22", "2026-11-23"
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture(scope="session")
def forks(prefect_api):
    """A way to start processes quickly: a server that has the slow imports done, and forks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "flows.nightly", "mnist_core.bundle", "boto3", "tests.flows.chaos"]
    )
    return context


@pytest.fixture(scope="session")
def labels(bundle, unpacked, tmp_path_factory):
    """What the session's bundle predicts for test.csv, as a file."""
    net, _ = load(bundle)
    path = tmp_path_factory.mktemp("labels") / "labels.npy"
    np.save(path, predict(net, read_test(unpacked / "test.csv").pixels).argmax(1))
    return path


@dataclass
class Ground:
    """Where trials take place: one competition, and for each a store that has a champion."""

    job: Any
    forks: Any
    labels: Path
    kind: str
    s3: Any
    template: dict[str, bytes]
    trials: int = 0

    def lay(self, *nights: str) -> "Trial":
        """A trial with a store of its own, in which these nights are trained."""
        self.trials += 1
        name = f"trial-{self.trials}"
        where = str(self.job.home / name) if self.kind == "folder" else f"s3://{self.s3.bucket}/{name}"
        store = open_store(where)
        for key, data in self.template.items():
            store.put(key, data)
        trial = Trial(self, where, self.trials)
        [[version, manifest]] = [[name, trial.registry.version(name)] for name in trial.registry.versions()]
        assert version.startswith(OLD)
        for night in nights:
            put_version(trial.registry, night, manifest)
        return trial


def put_version(registry: Registry, night: str, manifest: VersionEntry) -> None:
    """Make a night's trained version of another one's objects."""
    run = registry.open_attempt(RunKey(night=night, model="convnet", preset="fast"), False)
    name = f"{night}-convnet-00000000"
    facts = {"version": name, "night": night, "run": run}
    registry.put_version(manifest.model_copy(update=facts))
    registry.put_trained(run, name)


@dataclass
class Trial:
    """One store, and the nights that run on it."""

    ground: Ground
    where: str
    number: int

    @property
    def registry(self) -> Registry:
        """As a process that has just begun sees it."""
        namespace = next(iter(self.ground.template)).rpartition("/champions/")[0]
        return Registry(open_store(self.where), namespace)

    def start(
        self,
        night: str,
        kill: tuple[int, str] | None = None,
        content: int | None = None,
        fast: bool = True,
        env: dict[str, str] | None = None,
    ) -> tuple[Any, Path]:
        """Start a night; the process, and the file in which it tells."""
        told = self.ground.job.home / f"told-{self.number}-{night}-{time.monotonic_ns()}.json"
        ours = ("MNIST_", "KAGGLE_", "AWS_", "PREFECT_", "HTTPS_", "NO_PROXY")
        variables = {name: value for name, value in os.environ.items() if name.startswith(ours)}
        variables |= {"MNIST_STORE": self.where, "CHAOS_TRIAL": str(content or self.number), **(env or {})}
        arguments = (night, variables, self.ground.labels, kill, told, fast)
        process = self.ground.forks.Process(target=chaos.run_night, args=arguments)
        process.start()
        return process, told

    def run(self, night: str, kill: tuple[int, str] | None = None, **env: str) -> tuple[int, dict[str, Any]]:
        """Run a night with more variables: its exit status and what it told."""
        process, told = self.start(night, kill, env=env)
        [code] = chaos.wait_for([process], 150)  # a download cut each time: the client's waits are 62 s
        return code, json.loads(told.read_text()) if told.exists() else {}

    def submitted(self, *nights: str) -> list[int]:
        """How many submissions the competition has for the predictions of each of these nights."""
        listed = Counter(s["description"].split()[-1] for s in self.ground.job.server.submissions())
        counts = []
        for night in nights:
            csv = self.registry.predictions(f"{night}-convnet-00000000")
            counts.append(listed[submission_token(DIGITS_MINI.name, csv)] if csv else 0)
        return counts

    def check(self, *nights: str) -> None:
        """Whatever happened: nothing is half-written, lost, doubled or out of order."""
        registry = self.registry
        assert chaos.faults_of(registry.store) == []
        assert {f"{night}-convnet-00000000" for night in nights} <= set(registry.versions())
        assert all(count <= 1 for count in self.submitted(*nights))
        numbers = [int(Path(key).stem) for key in registry.store.keys(f"{registry.namespace}/champions/")]
        assert numbers == list(range(1, len(numbers) + 1))
        promoted = [entry.version for entry in registry.champions() if entry.cause is not Demotion.ALARM]
        assert len(set(promoted)) == len(promoted)


@pytest.fixture(params=["folder", "bucket"])
def ground(request, job, forks, labels, monkeypatch):
    """A competition with one champion that has its score, on which trials are laid, in a folder and in S3."""
    started = job(daily_limit=1_000_000)
    s3 = request.getfixturevalue("s3") if request.param == "bucket" else None
    monkeypatch.setenv("PREFECT_API_URL", request.getfixturevalue("prefect_api"))
    monkeypatch.setenv("MNIST_STORE", str(started.home / "template"))
    started.publish(night=OLD)
    from flows.nightly import nightly

    assert nightly(OLD).submission.public_score > 0.9
    store = started.registry.store
    keys = sorted(store.keys(""), key=lambda key: "/champions/" not in key)
    return Ground(started, forks, labels, request.param, s3, {key: store.get(key) for key in keys})


def test_a_night_killed_at_a_call_is_finished_by_the_same_command(ground):
    """Just before and just after each call of the store and the competition: the next run ends the night.

    One submission by content, no version lost, one list of champions, and nothing half-written to be seen.
    """
    code, told = ground.lay(TONIGHT).run(TONIGHT)
    assert code == 0, told
    calls = told["calls"]
    assert {"put leases", "POST CreateSubmission", "PUT upload", "put champions", "put nights"} <= set(calls)
    everything = [(number, when) for number in range(len(calls)) for when in ("before", "after")]
    post = calls.index("POST CreateSubmission")
    sample = [*everything[7 :: len(everything) // SAMPLE], (post, "before"), (post, "after")]
    by_name: Counter[str] = Counter()
    for kill in everything if ALL else sample:
        trial = ground.lay(TONIGHT)
        name = f"{kill[1]} {calls[kill[0]]}"
        assert trial.run(TONIGHT, kill)[0] == chaos.KILLED, name
        trial.check(TONIGHT)
        code, told = trial.run(TONIGHT)
        assert (code, told.get("result", {}).get("decision")) == (0, "promoted"), (name, told)
        trial.check(TONIGHT)
        assert trial.submitted(TONIGHT) == [1], name
        assert len(trial.registry.champions()) == 2, name
        by_name[name] += 1
    print(f"\n{ground.kind}: {sum(by_name.values())} kills at {len(calls)} calls, {len(by_name)} by name")
    for name, count in sorted(by_name.items()) if ALL else ():
        print(f"  {count:3d} {name}")


@pytest.mark.parametrize("same", [True, False], ids=["one night", "different nights"])
@pytest.mark.parametrize("count", [2, 5] if ALL else [5])
def test_nights_at_once_take_turns(ground, count, same):
    """Nights that run at once on one store, whichever night they are: each content is submitted once.

    All end well; the list of champions has each night once, and nobody's version is lost.
    """
    nights = [TONIGHT if same else f"2026-11-{23 + i}" for i in range(count)]
    trial = ground.lay(*sorted(set(nights)))

    started = [
        trial.start(night, content=100 * trial.number + i, fast=False) for i, night in enumerate(nights)
    ]
    codes = chaos.wait_for([process for process, _ in started], 180)

    assert codes == [0] * count, [told.read_text() for _, told in started]
    results = [json.loads(told.read_text())["result"] for _, told in started]
    assert {result["decision"] for result in results} == {"promoted"}
    trial.check(*nights)
    assert trial.submitted(*sorted(set(nights))) == [1] * len(set(nights))
    assert len(trial.registry.champions()) == 1 + len(set(nights))
    assert sum(result["submission"]["posted"] for result in results) == len(set(nights))


@pytest.mark.parametrize("ground", ["folder"], indirect=True)
@pytest.mark.parametrize("same", [True, False], ids=["one night", "different nights"])
def test_nights_at_once_find_what_a_lost_answer_and_a_late_list_hide(ground, same):
    """Three nights at once, while an answer is lost and the list is late: one submission a content."""
    nights = [TONIGHT if same else f"2026-11-{23 + i}" for i in range(3)]
    trial = ground.lay(*sorted(set(nights)))
    ground.job.server.fault("late-list", count=3, seconds=3)
    ground.job.server.fault("lost-reply", count=1)

    started = [
        trial.start(night, content=100 * trial.number + i, fast=False) for i, night in enumerate(nights)
    ]
    codes = chaos.wait_for([process for process, _ in started], 180)

    assert codes == [0] * 3, [told.read_text() for _, told in started]
    time.sleep(3)  # for the list
    trial.check(*nights)
    assert trial.submitted(*sorted(set(nights))) == [1] * len(set(nights))
    assert len(ground.job.server.submissions()) == 1 + len(set(nights))


def test_whole_nights_killed_at_random_moments_end_well(job, prefect_api):
    """`python -m flows nightly`, training included, is killed with -9 at any moment and run again."""
    started = job(daily_limit=1000)
    draw = random.Random(20261125)
    env = os.environ | {"MNIST_EPOCHS": "16", "PREFECT_API_URL": prefect_api, "PYTHONPATH": str(ROOT)}

    def start(night: str) -> Any:
        command = [sys.executable, "-m", "flows", "nightly", "--night", night]
        return subprocess.Popen(command, env=env, start_new_session=True, stderr=subprocess.PIPE, text=True)

    length, when = 15.0, []
    for number in range(20 if ALL else 1):
        night = f"2026-12-{number + 1:02d}"
        killed = start(night)
        when.append(round(draw.uniform(0.2, length), 1))
        try:
            killed.communicate(timeout=when[-1])
        except subprocess.TimeoutExpired:
            os.killpg(killed.pid, signal.SIGKILL)
            killed.communicate()
        assert chaos.faults_of(started.registry.store) == []
        began = time.monotonic()
        again = start(night)
        _, said = again.communicate(timeout=250)  # a dead run's lease holds for three minutes
        assert again.returncode == 0, said
        length = max(length, time.monotonic() - began)
    registry = started.registry
    assert chaos.faults_of(registry.store) == []
    nights = registry.nights()
    assert [ended.run.night for ended in nights] == [f"2026-12-{n + 1:02d}" for n in range(len(when))]
    assert {ended.decision for ended in nights} <= {"promoted", "rejected"}
    tokens = Counter(entry["description"].split()[-1] for entry in started.server.submissions())
    assert set(tokens.values()) == {1}
    assert len(tokens) == sum(ended.decision == "promoted" for ended in nights)
    print(f"\n{len(when)} whole nights of {length:.0f} s, killed after {when} s: {len(tokens)} submissions")
