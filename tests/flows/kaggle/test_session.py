"""A log-in at a server, against the practice server: faults, time limits, credentials and error messages."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from flows.kaggle.client import Client
from flows.kaggle.credentials import Credentials
from flows.kaggle.errors import CompetitionError
from flows.kaggle.session import Session, _SubmitAdapter, one_line, quota_returns
from flows.lease import LeaseLostError
from mnist_core.spec import DIGITS_MINI

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["rate-limit", "server-error", "reset"])
def test_a_brief_fault_of_a_read_is_retried(job, name):
    """A 429 with Retry-After, a 500 or a reset in a call that may be repeated is repeated."""
    started = job()
    started.server.fault(name, count=1)

    assert started.competition.quota() == 10


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("server-error", "HTTP 5"),
        ("rate-limit", "HTTP 429"),
        ("web-page", "the answer is not JSON"),
        ("cut-json", "the answer is not JSON"),
        ("reset", "no answer"),
    ],
)
def test_a_lasting_fault_is_one_clear_error(job, name, words):
    """A server that keeps failing gives an error that says what it did, and that it may pass."""
    started = job()
    competition = started.competition
    started.server.fault(name, count=-1)

    with pytest.raises(CompetitionError, match=f"cannot read the quota of {competition.name}") as caught:
        competition.quota()

    assert words in caught.value.problem
    assert "try again" in caught.value.remedy
    assert caught.value.retryable


def test_a_server_that_never_answers_times_out(job, monkeypatch):
    """A connection that is accepted and never answered ends after MNIST_TIMEOUT_S."""
    started = job()
    monkeypatch.setenv("MNIST_TIMEOUT_S", "0.5")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MNIST_KAGGLE", f"http://127.0.0.1:{silent.getsockname()[1]}")

        with pytest.raises(CompetitionError, match=r"no answer \(ReadTimeoutError\)") as caught:
            started.competition.quota()

    assert caught.value.retryable


def test_a_server_that_does_not_exist_is_named(job, monkeypatch):
    """A refused connection names the server and says that it may pass."""
    started = job()
    monkeypatch.setenv("MNIST_KAGGLE", "http://127.0.0.1:9")

    with pytest.raises(CompetitionError, match=r"127\.0\.0\.1:9.*check that the server is up") as caught:
        started.competition.quota()

    assert caught.value.retryable


def test_wrong_credentials_are_named_and_not_shown(job, monkeypatch):
    """A wrong token is refused with the variable's name, and stays out of the error."""
    started = job()
    monkeypatch.setenv("MNIST_KAGGLE_TOKEN", "wrong-and-secret")

    with pytest.raises(CompetitionError, match="check MNIST_KAGGLE_TOKEN") as caught:
        started.competition.quota()

    assert caught.value.answered
    assert not caught.value.retryable
    assert "wrong-and-secret" not in str(caught.value)


@pytest.mark.parametrize("how", ["token", "file", "pair"])
def test_kaggles_credentials_log_in_at_kaggle_and_may_end_with_a_newline(job, monkeypatch, tmp_path, how):
    """KAGGLE_API_TOKEN as a value or as a file's path, or username and key, with or without a newline."""
    started = job()
    monkeypatch.setattr("flows.kaggle.competition.LIVE_URL", started.server.url)
    monkeypatch.setenv("MNIST_KAGGLE", "live")
    (tmp_path / "token").write_text(f"{started.server.token}\n")
    for name, value in {
        "token": {"KAGGLE_API_TOKEN": f"{started.server.token}\n"},
        "file": {"KAGGLE_API_TOKEN": str(tmp_path / "token")},
        "pair": {"KAGGLE_USERNAME": started.server.username, "KAGGLE_KEY": f"{started.server.key}\n"},
    }[how].items():
        monkeypatch.setenv(name, value)

    assert started.competition.quota() == 10


def test_rules_that_are_not_accepted_are_named(job):
    """A 403 says where to accept the rules."""
    started = job()
    started.server.fault("rules", count=-1)

    with pytest.raises(CompetitionError, match=r"accept the rules at https://www\.kaggle\.com") as caught:
        started.competition.quota()

    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("digit-recogniser", "check MNIST_COMPETITION: the server has no such competition"),
        (DIGITS_MINI.name, "unset MNIST_COMPETITION: digits-mini exists on the practice server only"),
    ],
)
def test_a_competition_that_the_server_does_not_have_is_named(name, remedy):
    """A 404 names the setting; for the built-in test competition it says where that exists."""
    with _server_that_answers(b"404 Not Found") as url:
        client = Client(Session(url, "elsewhere", name, Credentials("a test", "alice", SecretStr("key")), 5))

        with pytest.raises(CompetitionError, match=f"elsewhere: cannot read the quota of {name}") as caught:
            client.quota()

    assert caught.value.remedy.startswith(remedy)
    assert caught.value.answered


def test_the_check_of_a_submission_comes_when_the_connection_is_ready():
    """The look-up of the server's name and its answer to a new connection may take long: they come first."""
    seen = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = Client(Session(url, "here", "c", Credentials("a test", "alice", SecretStr("key")), 5))

        def check():
            connection, _ = listener.accept()
            connection.setblocking(False)
            with connection, pytest.raises(BlockingIOError):
                connection.recv(1)
            seen.append("connected, and nothing was sent")
            raise LeaseLostError("too late")

        with pytest.raises(LeaseLostError):
            client.create_submission("token", "message", check)

        listener.setblocking(False)
        with pytest.raises(BlockingIOError):  # it is not tried again
            listener.accept()
    assert len(seen) == 1


def test_nothing_is_submitted_with_a_requests_that_leaves_the_check_out(monkeypatch):
    """Before 2.32.2 requests chose a connection by another method: the request would leave unchecked."""
    monkeypatch.delattr(_SubmitAdapter, "get_connection_with_tls_context")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = Client(Session(url, "here", "c", Credentials("a test", "alice", SecretStr("key")), 1))

        with pytest.raises(CompetitionError, match=r"nothing was sent: .* requests") as caught:
            client.create_submission("token", "message", lambda: pytest.fail("it was called"))

        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert caught.value.answered  # so that the lease is released


@contextmanager
def _server_that_answers(status: bytes) -> Iterator[str]:
    """Give every request the same status and an empty body; yields the server's URL."""
    answer = b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_the_quota_returns_at_midnight_utc():
    """Kaggle's days are UTC: the quota of a day returns with the next one."""
    assert quota_returns(datetime(2026, 12, 31, 23, 59, tzinfo=UTC)) == "2027-01-01 00:00 UTC"


def test_a_servers_words_are_one_line_without_control_characters():
    """They reach a terminal and a log: line breaks and escape sequences would be taken for our own."""
    assert one_line("a\r\nb \x1b[31mc\x00\u202e " + "d" * 400) == ("a b [31mc " + "d" * 400)[:300]
