"""Kaggle's own client, against the practice server."""

import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.kaggle.errors import CompetitionError

ROOT = Path(__file__).parents[3]


def test_a_signed_address_stays_out_of_the_error(job):
    """An error of the storage behind a redirect is reported without the address that gives access."""
    started = job()
    started.server.fault("server-error", count=-1, rpc="file")

    with pytest.raises(CompetitionError, match="HTTP 5") as caught:
        started.competition.download()

    assert "sig=" not in str(caught.value)


def test_importing_kaggles_package_calls_nobody_and_leaves_the_terminal_alone(job):
    """Kaggle's package logs in when it is imported; here it does not, and standard input stays open."""
    started = job()
    asked = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def count() -> None:
            while True:
                try:
                    asked.append(listener.accept())
                except OSError:
                    return

        threading.Thread(target=count, daemon=True).start()
        code = (
            "import sys; from flows.kaggle.competition import connect;"
            "from flows.settings import read_settings;"
            "print(connect(read_settings()).download().digest, sys.stdin.read())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            input="open",
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(started.home),
                "HTTPS_PROXY": proxy,
                "MNIST_KAGGLE_TOKEN": started.server.token,
                "MNIST_COMPETITION": started.competition.name,
                "MNIST_KAGGLE": started.server.url,
                "PYTHONPATH": str(ROOT),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        listener.close()

    digest = started.competition.download().digest
    assert (done.stdout, done.stderr) == (f"{digest} open\n", "")
    assert asked == []


def test_a_status_that_is_not_known_is_an_error(job, monkeypatch):
    """A status that this program does not know is not taken for one that it does."""
    sdk = "kagglesdk.competitions.services.competition_api_service.CompetitionApiClient"
    answer = SimpleNamespace(ref=1, description="", status="NEW")
    monkeypatch.setattr(f"{sdk}.get_submission", lambda *_: answer)

    with pytest.raises(CompetitionError, match=r"unexpected answer \(ValueError: 'NEW'") as caught:
        job().competition.submission(1)

    assert caught.value.retryable


def test_files_are_listed_with_their_sizes(job):
    """Each file of the competition has a name, a size and a time, by which a change is noticed."""
    competition = job().competition
    data = competition.download()

    listed = {file.name: file for file in competition.client.files()}

    assert set(listed) == set(competition.spec.files)
    assert listed["train.csv"].size == data.train_csv.stat().st_size
    assert all(file.created for file in listed.values())
