"""Caps: what takes too long ends, wherever it is, and no task tries again after that."""

import contextlib
import re
import signal
import time
from pathlib import Path
from pkgutil import resolve_name

import pytest
import yaml

from flows import lease
from flows.caps import OverdueError, capped, left_s
from flows.nightly import nightly
from flows.predict import predict
from flows.settings import Settings
from flows.submit import submit
from flows.sweep import sweep
from flows.train import train
from infra.pools import fill
from mnist_core.errors import MnistError
from tests.infra.test_pools import made

NIGHT = "2026-11-23"
ROOT = Path(__file__).parents[2]
VARIABLES = ROOT / "infra" / "terraform" / "variables.tf"
FLOWS = {
    "nightly": (nightly, {"night": NIGHT}),
    "train": (train, {"night": NIGHT}),
    "submit": (submit, {}),
    "sweep": (sweep, {"set": ["seed=1,2"], "night": NIGHT}),
}
"""Each flow that calls the competition first, with the parameters of a run."""


def test_what_takes_too_long_is_ended():
    """A cap ends what it holds, in time, and says what and which setting; an outer cap goes on after it."""
    started = time.monotonic()

    @capped(1.0, "the night", "MNIST_NIGHT_CAP_S")
    def night():
        with pytest.raises(OverdueError, match="training took longer than 0 s"), capped(0.3, "training", "X"):
            time.sleep(60)
        time.sleep(60)

    with pytest.raises(OverdueError, match=r"the night.*MNIST_NIGHT_CAP_S"):
        night()

    assert 0.9 < time.monotonic() - started < 30


def test_a_cap_that_was_kept_leaves_nothing_behind():
    """After its end no alarm comes any more, and the handler of before is in place."""
    before, handler = left_s(), signal.getsignal(signal.SIGALRM)
    with capped(60.0, "training", "X"):
        assert left_s() <= 60.0

    assert before - 60.0 <= left_s() <= before  # pytest's own time limit
    assert signal.getsignal(signal.SIGALRM) is handler


def test_what_swallows_the_end_of_its_time_is_ended_again(monkeypatch):
    """Third-party code may catch every exception; the cap ends the block all the same."""
    monkeypatch.setattr("flows.caps.RING_AGAIN_S", 0.1)
    before, swallowed = left_s(), []

    @capped(0.1, "the night", "X")
    def night():
        for number in range(3):
            with contextlib.suppress(MnistError):
                time.sleep(60)
            swallowed.append(number)
        time.sleep(60)

    with pytest.raises(OverdueError):
        night()

    assert swallowed == [0, 1, 2]
    assert before - 60.0 <= left_s() <= before


def test_what_cleans_up_after_its_time_is_not_ended(monkeypatch):
    """A handler that cancels child runs may take its time, in calls with exceptions of their own too."""
    monkeypatch.setattr("flows.caps.RING_AGAIN_S", 0.1)
    cleaned = []

    def clean_up():
        for child in range(3):
            try:
                {}["missing"]
            except KeyError:
                time.sleep(0.15)
                cleaned.append(child)

    @capped(0.1, "the night", "X")
    def night():
        try:
            time.sleep(60)
        except BaseException:
            clean_up()
            raise

    with pytest.raises(OverdueError):
        night()

    assert cleaned == [0, 1, 2]


def test_a_clean_up_that_hangs_is_ended(monkeypatch):
    """What cleans up has a limit of its own."""
    monkeypatch.setattr("flows.caps.RING_AGAIN_S", 0.1)
    monkeypatch.setattr("flows.caps.CLEAN_UP_S", 0.3)
    started = time.monotonic()

    @capped(0.1, "the night", "X")
    def night():
        try:
            time.sleep(60)
        finally:
            time.sleep(60)

    with pytest.raises(OverdueError):
        night()

    assert 0.4 < time.monotonic() - started < 30


def test_no_flow_is_left_out():
    """Every flow that has a deployment is in the tests below."""
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    entries = {deployment["entrypoint"] for deployment in deployments}

    assert len(entries) > 1
    assert {resolve_name(entry) for entry in entries} <= {predict, *(flow for flow, _ in FLOWS.values())}


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_whose_first_call_hangs_ends_by_its_cap(job, monkeypatch, name):
    """A server that accepts the call and stays silent does not keep a run, however often it may try again."""
    flow, parameters = FLOWS[name]
    cap = {"train": "TRAIN", "submit": "SUBMIT"}.get(name, "NIGHT")
    job().server.fault("silent", count=-1)
    monkeypatch.setenv(f"MNIST_{cap}_CAP_S", "3")
    monkeypatch.setenv("MNIST_RETRY_WAITS_S", "[0.1, 0.1, 0.1]")
    started = time.monotonic()

    with pytest.raises(OverdueError, match=f"MNIST_{cap}_CAP_S"):
        flow(**parameters)

    assert time.monotonic() - started < 60


@pytest.mark.usefixtures("prefect_api")
def test_a_prediction_that_hangs_ends_by_its_cap(monkeypatch, tmp_path):
    """A store or a cluster that stays silent does not keep a run of `predict` either."""
    monkeypatch.setenv("MNIST_HOME", str(tmp_path))
    monkeypatch.setenv("MNIST_NIGHT_CAP_S", "1")
    monkeypatch.setattr("flows.predict.open_output", lambda *_: time.sleep(60))

    with pytest.raises(OverdueError, match=r"the prediction took longer than 1 s \(MNIST_NIGHT_CAP_S"):
        predict(input=str(tmp_path), output=str(tmp_path / "output"))


@pytest.mark.usefixtures("prefect_api")
def test_a_night_that_waits_for_another_run_ends_by_its_cap(job, monkeypatch):
    """It waits inside a task that is tried again after other errors; after this one it is not."""
    started = job()
    started.publish()
    assert lease.acquire(started.registry, "another", "its token")
    monkeypatch.setenv("MNIST_NIGHT_CAP_S", "4")
    monkeypatch.setenv("MNIST_RETRY_WAITS_S", "[0.1, 0.1, 0.1]")
    began = time.monotonic()

    with pytest.raises(OverdueError, match="MNIST_NIGHT_CAP_S"):
        nightly(NIGHT)

    assert time.monotonic() - began < 60
    assert started.server.submissions() == []


def test_the_hard_limit_of_a_pool_lies_above_the_cap_of_its_flow():
    """A run that is overdue ends itself, with its cause and without its children, before it is killed."""
    caps, starting_and_ending_s = Settings.defaults_for(["night_cap_s", "train_cap_s"]), 600
    least_hours, hours = (
        int(re.search(rf'variable "gpu_hours_max".*?{words} (\d+)', VARIABLES.read_text(), re.DOTALL)[1])
        for words in ("gpu_hours_max >=", "default +=")
    )
    cpu_s = fill("cpu", made("", []))["variables"]["properties"]["cap_s"]["default"]

    assert cpu_s >= caps["night_cap_s"] + starting_and_ending_s
    assert hours >= least_hours
    assert least_hours * 3600 >= caps["train_cap_s"] + starting_and_ending_s
