"""Kaggle's own client, against the practice server."""

import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.kaggle.errors import CompetitionError
from flows.records import Status, Submission

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
    assert not (started.home / ".config").exists()  # the user's home may be read-only


def test_a_status_that_is_not_known_is_an_error(job, monkeypatch):
    """A status that this program does not know is not taken for one that it does."""
    sdk = "kagglesdk.competitions.services.competition_api_service.CompetitionApiClient"
    answer = SimpleNamespace(ref=1, description="", status="NEW")
    monkeypatch.setattr(f"{sdk}.get_submission", lambda *_: answer)

    with pytest.raises(CompetitionError, match=r"unexpected answer \(ValueError: 'NEW'") as caught:
        job().competition.client.submission(1)

    assert caught.value.retryable


LIST = "kagglesdk.kaggle_http_client.KaggleHttpClient.call"


def test_an_entry_that_cannot_be_read_does_not_hide_the_others(job, monkeypatch, caplog):
    """An entry with neither number nor description is left out, with a warning."""
    entries = [None, {"ref": None}, "?", {"ref": 5, "description": "ours", "status": ["?"]}]
    monkeypatch.setattr(LIST, lambda *_: {"submissions": entries})

    listed, _ = job().competition.client.submission_page("")

    assert listed == [Submission(ref=5, message="ours", status=Status.UNKNOWN)]
    assert "without number and description: ignored" in caplog.text


def test_an_entry_without_a_number_is_not_taken_for_none(job, monkeypatch):
    """Its description may be that of the submission that is looked for: nothing is posted beside it."""
    monkeypatch.setattr(LIST, lambda *_: {"submissions": [{"ref": None, "description": "ours"}]})

    with pytest.raises(CompetitionError, match="a submission without a number") as caught:
        job().competition.find("absent")

    assert caught.value.retryable


@pytest.mark.parametrize(
    ("given", "score"),
    [
        ("0.99", 0.99),
        ("1", 1.0),
        ("NaN", None),
        ("inf", None),
        ("-1", None),
        ("1.5", None),
        ("?", None),
        ("", None),
    ],
)
def test_a_score_that_is_no_share_is_not_a_score(job, monkeypatch, given, score):
    """What is stored as a score stays for good, so NaN counts as not known yet."""
    entry = {"ref": 1, "description": "ours", "status": "COMPLETE", "publicScore": given}
    monkeypatch.setattr(LIST, lambda *_: {"submissions": [entry]})

    [listed], _ = job().competition.client.submission_page("")

    assert (listed.status, listed.public_score, listed.is_final) == ("COMPLETE", score, score is not None)


def test_files_are_listed_with_their_sizes(job):
    """Each file of the competition has a name, a size and a time, by which a change is noticed."""
    competition = job().competition
    data = competition.download()

    listed = {file.name: file for file in competition.client.files()}

    assert set(listed) == set(competition.spec.files)
    assert listed["train.csv"].size == data.train_csv.stat().st_size
    assert all(file.created for file in listed.values())
