"""Caps of whole flows: each ends by its own, wherever it is, and no task tries again after that."""

import re
import time
from pathlib import Path
from pkgutil import resolve_name

import pytest
import yaml

from flows import lease
from flows.nightly import nightly
from flows.run import OverdueError
from flows.settings import Settings
from flows.submit import submit
from flows.train import train
from infra.pools import fill
from tests.infra.test_pools import made

NIGHT = "2026-11-23"
ROOT = Path(__file__).parents[2]
VARIABLES = ROOT / "infra" / "terraform" / "variables.tf"
FLOWS = {
    "nightly": (nightly, {"night": NIGHT}),
    "train": (train, {"night": NIGHT}),
    "submit": (submit, {}),
}
"""Each flow with the parameters of a run."""


def test_no_flow_is_left_out():
    """Every flow that has a deployment is in the tests below."""
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    entries = {deployment["entrypoint"] for deployment in deployments}

    assert len(entries) > 1
    assert {resolve_name(entry) for entry in entries} <= {flow for flow, _ in FLOWS.values()}


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_whose_first_call_hangs_ends_by_its_cap(job, monkeypatch, name):
    """A server that accepts the call and stays silent does not keep a run, however often it may try again."""
    flow, parameters = FLOWS[name]
    cap = {"nightly": "NIGHT", "train": "TRAIN", "submit": "SUBMIT"}[name]
    monkeypatch.setenv(f"MNIST_{cap}_CAP_S", "1")
    monkeypatch.setenv("MNIST_RETRY_WAITS_S", "[0.1, 0.1, 0.1]")
    job().server.fault("silent", count=-1)
    started = time.monotonic()

    with pytest.raises(OverdueError, match=f"MNIST_{cap}_CAP_S"):
        flow(**parameters)

    assert time.monotonic() - started < 8


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

    assert time.monotonic() - began < 12
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
