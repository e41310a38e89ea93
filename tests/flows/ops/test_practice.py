"""One server for a home: found or started by jobs, and gone when the last of them is."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from flows.ops.practice import read_record, server_lives

ROOT = Path(__file__).parents[3]
JOB = """
import json, sys
from pathlib import Path
from flows.ops.practice import find_or_start
from infra.practice import PracticeError, PracticeOptions
try:
    options = PracticeOptions(**json.loads(sys.argv[2]))
    found = find_or_start(Path(sys.argv[1]), options, competition="digits-mini")
except PracticeError as error:
    print(json.dumps({"error": str(error)}), flush=True)
else:
    print(json.dumps({**vars(found), "repr": repr(found)}), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path, seed_practice_home):
    """A fresh home that has the zip; its server is stopped after the test."""
    yield seed_practice_home(tmp_path / "home")
    record = read_record(tmp_path / "home")
    if record:
        os.kill(record.pid, signal.SIGKILL)


@pytest.fixture
def start_job(home):
    """Start a job process that uses the practice competition until it is ended."""
    jobs = []

    def start(**options):
        command = [sys.executable, "-c", JOB, str(home), json.dumps(options)]
        jobs.append(
            subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()
        job.communicate()


def said(job):
    """Return what the job printed: the server and account that it found, or its error."""
    return json.loads(job.stdout.readline())


def wait_for_the_end(home):
    """Wait until no server holds the home."""
    deadline = time.monotonic() + 60
    while server_lives(home):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def submit(found):
    """Make a submission with a job's account, and return its ref."""
    call = {"headers": {"Authorization": f"Bearer {found['token']}"}, "timeout": 10}
    service = f"{found['url']}/v1/competitions.CompetitionApiService"
    asked = {"competitionName": "digits-mini", "contentLength": 1, "fileName": "s.csv"}
    started = requests.post(f"{service}/StartSubmissionUpload", json=asked, **call).json()
    requests.put(started["createUrl"], data=b"x", timeout=10).raise_for_status()
    asked["blobFileTokens"] = started["token"]
    return requests.post(f"{service}/CreateSubmission", json=asked, **call).json()["ref"]


def list_refs(found):
    """Return the refs that a job sees."""
    answer = requests.post(
        f"{found['url']}/v1/competitions.CompetitionApiService/ListSubmissions",
        json={"competitionName": "digits-mini"},
        headers={"Authorization": f"Bearer {found['token']}"},
        timeout=10,
    )
    return [submission["ref"] for submission in answer.json()["submissions"]]


def test_jobs_at_the_same_time_get_the_same_server(home, start_job, monkeypatch):
    """Three that start together share one; it stays while one of them lives and ends after the last.

    It gets no credentials of Kaggle or AWS, which it has no use for.
    """
    monkeypatch.setenv("KAGGLE_API_TOKEN", "TokenThatNobodyMayRead")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SecretThatNobodyMayRead")
    jobs = [start_job() for _ in range(3)]
    found = [said(job) for job in jobs]

    assert len({one["url"] for one in found}) == 1
    assert b"NobodyMayRead" not in Path(f"/proc/{read_record(home).pid}/environ").read_bytes()
    assert found[0]["key"] not in found[0]["repr"]
    assert found[0]["token"] not in found[0]["repr"]
    for job in jobs[:2]:
        job.communicate()
    time.sleep(0.7)  # the server looks for jobs twice a second
    assert read_record(home).url == found[0]["url"]
    jobs[2].communicate()
    wait_for_the_end(home)


def test_it_ends_after_kill_9_and_the_next_one_has_the_submissions(home, start_job):
    """After a crash the next job gets a new server with the same account and submissions."""
    job = start_job()
    found = said(job)
    ref, instance = submit(found), read_record(home).instance
    job.kill()
    wait_for_the_end(home)
    assert (home / "server.json").exists()

    again = said(start_job())

    assert list_refs(again) == [ref]
    assert read_record(home).instance != instance
    assert again["token"] == found["token"]


def test_a_job_that_comes_while_the_server_ends_is_served(home, start_job):
    """Whether or not the server has noticed that no job is left, the next job gets one that stays."""
    refs = []
    for pause in (0.0, 0.5):
        job = start_job()
        found = said(job)
        assert list_refs(found) == refs
        refs.insert(0, submit(found))
        job.kill()
        job.wait()
        time.sleep(pause)
    last = said(start_job())
    time.sleep(0.7)

    assert list_refs(last) == refs


def test_a_killed_server_is_replaced(home, start_job):
    """The next job starts another one, also while an older job lives."""
    said(start_job())
    os.kill(read_record(home).pid, signal.SIGKILL)
    wait_for_the_end(home)

    assert list_refs(said(start_job())) == []


def test_another_split_is_refused_while_one_runs(home, start_job):
    """Two jobs of one home cannot use two splits: the error names setting, process and remedy."""
    said(start_job())

    error = said(start_job(split_seed=1))["error"]

    assert "MNIST_SPLIT_SEED=0" in error
    assert str(read_record(home).pid) in error
    assert "MNIST_DAILY_LIMIT=10" in said(start_job(daily_limit=3))["error"]


def test_a_server_that_a_user_started_is_used_and_left_running(home, start_job, start_practice):
    """Jobs use the one that runs in their home; it does not end with them."""
    server = start_practice(home, forked=False)
    job = start_job()

    assert said(job)["url"] == server.url
    job.communicate()
    time.sleep(0.7)

    assert server.process.poll() is None
    assert server.stop() == -signal.SIGTERM


def test_a_server_that_cannot_start_is_reported(home, start_job):
    """The error has the end of the server's log."""
    (home / "credentials.json").write_text("{}")

    error = said(start_job())["error"]

    assert "did not start" in error
    assert "credentials.json holds no credentials" in error


def test_a_large_log_is_renamed(home, start_job):
    """The log is bounded: at the next start after a megabyte it is renamed, and the older one is replaced."""
    (home / "server.log").write_text("x" * 1_000_001)

    said(start_job())

    assert (home / "server.log").stat().st_size < 10_000
    assert (home / "server.log.1").stat().st_size == 1_000_001
