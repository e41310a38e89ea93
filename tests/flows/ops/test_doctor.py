"""What the doctor finds, against a real competition, store and Prefect API, well and ill."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from flows.ops.doctor import checks, machine, storage
from flows.ops.doctor.finding import Finding
from flows.ops.pools import DEPLOYMENTS, POOLS
from tests.prefect_api import ask

ROOT = Path(__file__).parents[3]
RIGHTS = ("write", "read", "create-only", "list", "delete")
Look = Callable[[], dict[str, Finding]]


@pytest.fixture
def look() -> Look:
    """All findings by their names; of those that fail, each says what to do."""

    def all_findings() -> dict[str, Finding]:
        findings = list(checks.examine())
        assert all(finding.remedy for finding in findings if finding.state != "ok")
        assert len({finding.check for finding in findings}) == len(findings)
        return {finding.check: finding for finding in findings}

    return all_findings


def ill(found: dict[str, Finding]) -> dict[str, str]:
    """What is not well, and how it stands."""
    return {name: finding.state for name, finding in found.items() if finding.state != "ok"}


@pytest.fixture(scope="module")
def deployed(prefect_api: str) -> Iterator[str]:
    """A Prefect API with our pools and deployments, as `make deployments` leaves it; no worker."""
    command = [sys.executable, "-m", "flows.ops.pools"]
    environment = os.environ | {"PREFECT_API_URL": prefect_api}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=200, capture_output=True)
    yield prefect_api
    for name in DEPLOYMENTS:
        found = ask(prefect_api, f"/deployments/name/{name}")
        ask(prefect_api, f"/deployments/{found['id']}", "DELETE")
    for pool in POOLS:
        ask(prefect_api, f"/work_pools/{pool}", "DELETE")


@pytest.fixture
def worked(deployed: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same with a worker on each pool, which PREFECT_API_URL names."""
    for pool in POOLS:
        ask(deployed, f"/work_pools/{pool}/workers/heartbeat", name="a worker")
    monkeypatch.setenv("PREFECT_API_URL", deployed)
    yield deployed
    for pool in POOLS:
        for worker in ask(deployed, f"/work_pools/{pool}/workers/filter", "POST"):
            ask(deployed, f"/work_pools/{pool}/workers/{worker['name']}", "DELETE")


@pytest.fixture
def bucket(s3, monkeypatch):
    """A bucket as the store; it holds nothing of the doctor's afterwards."""
    monkeypatch.setenv("MNIST_STORE", f"s3://{s3.bucket}/store")
    return s3


def left(s3) -> list[str]:
    """The bucket's keys."""
    return [entry["Key"] for entry in s3.client.list_objects_v2(Bucket=s3.bucket).get("Contents", ())]


def test_a_server_with_nothing_on_it_is_told(job, prefect_api, look, monkeypatch):
    """Pools and deployments are missing (this test comes before those that make them)."""
    job()
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)

    found = look()

    assert found["Prefect API"].state == "ok"
    for name in ("pool gpu", "pool cpu", "deployments"):
        assert found[name].state == "failed"
        assert "make deployments" in found[name].remedy


def test_all_is_well(job, worked, bucket, look):
    """Every line is OK where everything is as it should be, and nothing is left behind or submitted."""
    started = job()

    found = look()

    assert ill(found) == {}
    assert {"settings", "credentials", "rules", "quota", "GPU", "home", "clock"} <= found.keys()
    assert {f"store: {right}" for right in RIGHTS} <= found.keys()
    assert {"Prefect API", "pool gpu", "pool cpu", "deployments", "schedule"} <= found.keys()
    assert "KAGGLE_USERNAME and KAGGLE_KEY" in found["credentials"].found
    assert "15 2 * * *" in found["schedule"].found
    assert "clock, S3" in found
    assert left(bucket) == []
    assert started.server.submissions() == []


def test_a_folder_is_left_as_it_was(job, look):
    """The same of a store in a folder: neither the object nor its folder stays."""
    started = job()

    found = look()

    assert {found[f"store: {right}"].state for right in RIGHTS} == {"ok"}
    assert list((started.home / "home" / "store").rglob("*")) == []


@pytest.mark.parametrize("how", ["key", "token"])
def test_a_wrong_key_is_told_without_it(job, look, monkeypatch, how):
    """The line names the variables, not what they hold; what needs an account is not asked for."""
    job()
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef0123456789abcdef")
    if how == "token":
        monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_0123456789abcdef")

    found = look()

    assert found["credentials"].state == "failed"
    assert "KAGGLE_API_TOKEN" in found["credentials"].remedy
    assert (found["rules"].remedy, found["quota"].remedy) == ("fix credentials first", "fix rules first")
    assert found["store: write"].state == found["home"].state == found["clock"].state == "ok"
    assert "0123456789abcdef" not in repr(found)


def test_missing_credentials_are_told(job, look, monkeypatch):
    """Which variables to set, before any server is asked."""
    job()
    monkeypatch.delenv("KAGGLE_KEY")

    assert "KAGGLE_KEY is not" in look()["credentials"].found


def test_rules_that_are_not_accepted_are_told(job, look):
    """The line has the address where they are accepted."""
    started = job()
    started.server.fault("rules", count=-1)

    found = look()

    assert found["credentials"].state == "ok"
    assert found["rules"].state == "failed"
    assert "competitions/digits-mini/rules" in found["rules"].remedy
    assert found["quota"].remedy == "fix rules first"


def test_a_spent_quota_is_a_warning(job, look):
    """It returns by itself."""
    job(daily_limit=0)

    assert look()["quota"].state == "warning"


def test_a_competition_that_is_down_takes_no_other_line_along(job, look):
    """The store and this machine are looked at all the same."""
    job().server.stop()

    found = look()

    assert found["credentials"].state == "failed"
    assert "the server is up" in found["credentials"].remedy
    assert found["clock"].state == "warning"
    assert found["store: create-only"].state == found["home"].state == "ok"


def test_a_bucket_that_is_not_there_is_told(job, bucket, look, monkeypatch):
    """The remedy names the bucket's setting."""
    job()
    monkeypatch.setenv("MNIST_STORE", "s3://a-bucket-that-nobody-made")

    found = look()

    assert found["store: write"].state == found["store: list"].state == "failed"
    assert "NoSuchBucket" in found["store: write"].found
    assert found["store: write"].remedy == "make that bucket, or correct MNIST_STORE"


@pytest.mark.parametrize(
    ("passed_over", "right", "state"),
    [(0, "write", "failed"), (1, "read", "failed"), (3, "list", "failed"), (4, "delete", "warning")],
)
def test_a_right_that_is_missing_is_told_by_its_name(job, bucket, look, passed_over, right, state):
    """Each right has a line of its own, and the others are tried; a night does without delete."""
    job()
    bucket.faults[:] = [*[""] * passed_over, "403"]

    found = look()

    stores = {name: said for name, said in ill(found).items() if name.startswith("store")}
    assert stores == {f"store: {right}": state}
    assert f"s3:{'DeleteObject' if right == 'delete' else 'PutObject'}" in found[f"store: {right}"].remedy
    assert len(left(bucket)) == (right == "delete")


def test_a_store_that_overwrites_is_told(job, bucket, look):
    """A server that does not honour create-only would let two runs post."""
    job()
    bucket.faults[:] = ["", "", "overwrite"]

    found = look()

    assert found["store: create-only"].state == "failed"
    assert "two runs could both submit" in found["store: create-only"].remedy
    assert left(bucket) == []


def test_an_api_that_does_not_answer_is_told(job, look, monkeypatch):
    """One line failed, without the password in its address; what lies behind it is not looked at."""
    job()
    monkeypatch.setenv("PREFECT_API_URL", "http://somebody:password@127.0.0.1:9/api")

    found = look()

    assert found["Prefect API"].state == "failed"
    assert "http://127.0.0.1:9/api: no answer" in found["Prefect API"].found
    behind = ("pool gpu", "pool cpu", "deployments", "schedule")
    assert [found[name].remedy for name in behind] == ["fix Prefect API first"] * 4
    assert "password" not in repr(found)


def test_an_address_that_is_no_prefect_api_is_told(job, look, monkeypatch):
    """Something answers there, with an error."""
    started = job()
    monkeypatch.setenv("PREFECT_API_URL", f"{started.server.url}/api")

    assert "PREFECT_API_URL" in look()["Prefect API"].remedy


def test_without_an_api_a_night_by_hand_is_possible(job, look, monkeypatch):
    """A warning alone: nothing of Prefect's is needed but for the schedule."""
    job()
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_HOME", raising=False)

    found = look()

    assert ill(found) == {"Prefect API": "warning"}
    assert "pool gpu" not in found


def test_a_pool_without_a_worker_is_told(job, worked, look):
    """The pool whose worker is gone, and no other one."""
    job()
    ask(worked, "/work_pools/gpu/workers/a worker", "DELETE")

    found = look()

    assert ill(found) == {"pool gpu": "failed"}
    assert "prefect worker start --pool gpu" in found["pool gpu"].remedy


def test_a_paused_pool_and_schedule_are_told(job, worked, look):
    """Nothing is missing, and yet no night would run: each line has the command that resumes it."""
    job()
    night = ask(worked, "/deployments/name/nightly/nightly")
    schedule = f"/deployments/{night['id']}/schedules/{night['schedules'][0]['id']}"
    ask(worked, "/work_pools/cpu", "PATCH", is_paused=True)
    ask(worked, schedule, "PATCH", active=False)
    try:
        found = look()
    finally:
        ask(worked, "/work_pools/cpu", "PATCH", is_paused=False)
        ask(worked, schedule, "PATCH", active=True)

    assert ill(found) == {"pool cpu": "failed", "schedule": "warning"}
    assert found["pool cpu"].remedy == "`prefect work-pool resume cpu`"
    assert night["schedules"][0]["id"] in found["schedule"].remedy


@pytest.mark.parametrize(("free", "state"), [(100_000_000, "failed"), (1_000_000_000, "warning")])
def test_a_full_disk_is_told(job, look, monkeypatch, free, state):
    """Too little for a night fails, little for many nights warns."""
    job()
    monkeypatch.setattr(machine, "free_bytes", lambda folder: free)

    home = look()["home"]

    assert home.state == state
    assert "MNIST_HOME" in home.remedy


def test_a_home_that_can_not_be_written_is_told(job, look, monkeypatch, tmp_path):
    """A file stands where the home should be."""
    job()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MNIST_HOME", str(tmp_path / "file" / "home"))

    assert "a folder that you can write to" in look()["home"].remedy


@pytest.mark.parametrize(("off", "state"), [(-3600, "failed"), (90, "failed"), (15, "warning"), (1, "ok")])
def test_a_clock_that_is_off_is_told(job, bucket, look, monkeypatch, off, state):
    """Against the competition's clock and against S3's, in either direction."""
    job()
    monkeypatch.setattr(machine, "_now", lambda: time.time() + off)

    found = look()

    assert found["clock"].state == found["clock, S3"].state == state
    if state != "ok":
        assert ("ahead of" if off > 0 else "behind") in found["clock"].found
        assert "NTP" in found["clock"].remedy


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_asked_for_and_missing_is_told(job, look, monkeypatch):
    """Without MNIST_DEVICE=cuda its absence is a fact; with it a failure."""
    job()
    assert "runs on its CPU" in look()["GPU"].found
    monkeypatch.setenv("MNIST_DEVICE", "cuda")

    assert "MNIST_DEVICE=auto" in look()["GPU"].remedy


@pytest.mark.parametrize(
    ("name", "value", "unseen"),
    [
        ("MNIST_MODLE", "convnet", set()),
        ("MNIST_PRESET", "slow", set()),
        ("MNIST_STORE", "s3://", {"store", "clock, S3"}),
        ("MNIST_KAGGLE", "kaggle", {"credentials", "rules", "quota", "clock"}),
        ("MNIST_RETRY_WAITS_S", "soon", None),  # a list that is no JSON hides all
    ],
)
def test_a_faulty_setting_hides_only_what_rests_on_it(job, look, monkeypatch, name, value, unseen):
    """The setting's line fails; what it does not touch is looked at."""
    job()
    monkeypatch.setenv(name, value)

    found = look()

    assert found["settings"].state == "failed"
    assert name in f"{found['settings'].found}{found['settings'].remedy}"
    if unseen is not None:
        assert {check for check, finding in found.items() if finding.found == "skipped"} == unseen


def test_a_server_that_nobody_chose_is_a_warning(job, look, monkeypatch):
    """The practice competition is found or started; a scheduled night would refuse to start."""
    job()
    monkeypatch.delenv("MNIST_KAGGLE")

    found = look()

    assert found["settings"].state == "warning"
    assert found["quota"].state == "ok"


@pytest.mark.parametrize("how", ["raises", "hangs"])
def test_a_check_that_breaks_takes_no_other_one_along(job, look, monkeypatch, how):
    """An error that nobody foresaw and an answer that never comes are lines like others, without texts."""
    job()
    monkeypatch.setattr(checks, "CHECK_S", 5.0)

    def break_it(store):
        if how == "hangs":
            time.sleep(8)
        raise RuntimeError("a secret")

    monkeypatch.setattr(storage, "open_store", break_it)

    found = look()

    assert found["store"].state == "failed"
    assert found["home"].state == found["quota"].state == "ok"
    assert "secret" not in repr(found)


def test_the_command_exits_1_only_where_something_failed(job, s3):
    """One line of JSON for machines, a line each for a person; warnings alone are exit 0."""
    started = job()
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "AWS_SECRET_ACCESS_KEY": "AwsSecretThatNobodyMayRead",
    }
    environment.pop("PREFECT_API_URL", None)

    def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "flows", "doctor", *arguments]
        return subprocess.run(
            command,
            env=environment | variables,
            cwd=started.home,
            text=True,
            capture_output=True,
            check=False,
        )

    done = run("--json")
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    told = json.loads(line)
    assert (told["failed"], told["warning"]) == (0, 1)
    assert told["checks"][0] == {
        "check": "settings", "state": "ok", "found": told["checks"][0]["found"], "remedy": ""
    }  # fmt: skip

    done = run(MNIST_STORE="s3://a-bucket-that-nobody-made", KAGGLE_API_TOKEN="KGAT_TokenThatNobodyMayRead")
    assert done.returncode == 1
    assert "make that bucket" in " ".join(done.stdout.split())
    assert "NobodyMayRead" not in done.stdout + done.stderr
    assert started.server.key not in done.stdout + done.stderr
