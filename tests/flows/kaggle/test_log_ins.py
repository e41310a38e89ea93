"""Kaggle's ways to log in, in its client's order, against servers that speak its protocol."""

import json
import os
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.kaggle.competition import connect
from flows.kaggle.credentials import log_ins
from flows.kaggle.errors import CompetitionError
from flows.ops.doctor.competition import check_credentials
from flows.settings import SettingsError, read_settings

SOON = timedelta(hours=5)


@pytest.fixture(autouse=True)
def user(monkeypatch, tmp_path):
    """A user without any credentials; `.kaggle` exists."""
    for name in list(os.environ):
        if name.startswith(("MNIST_", "KAGGLE_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MNIST_KAGGLE", "live")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".kaggle").mkdir()
    return tmp_path


def write_log_in(home, expires, token="old-token"):
    """Write the file that `kaggle auth login` leaves, and return it."""
    path = home / ".kaggle" / "credentials.json"
    entry = {"refresh_token": "refresh-secret", "access_token": token, "username": "alice"}
    path.write_text(json.dumps(entry | {"access_token_expiration": expires.isoformat()}))
    path.chmod(0o600)
    return path


def test_all_ways_are_found_in_the_order_of_kaggles_client(user, monkeypatch):
    """Token of a variable, token of a file, username and key, and the log-in by a browser."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", "t-variable")
    (user / ".kaggle" / "access_token").write_text("\ufefft-file\n", "utf-8")
    (user / ".kaggle" / "kaggle.json").write_text('\ufeff{"username": "alice", "key": "k"}', "utf-8")
    path = write_log_in(user, datetime.now(UTC) + SOON)

    found = log_ins(read_settings())

    folder = user / ".kaggle"
    assert [credentials.source for credentials in found] == [
        "KAGGLE_API_TOKEN", str(folder / "access_token"), str(folder / "kaggle.json"), str(path),
    ]  # fmt: skip
    assert found[1].token.get_secret_value() == "t-file"


@pytest.mark.parametrize("where", ["config", "XDG_CONFIG_HOME", "KAGGLE_CONFIG_DIR"])
def test_kaggle_json_is_found_in_all_its_folders(user, monkeypatch, where):
    """`~/.config/kaggle` and what XDG_CONFIG_HOME and KAGGLE_CONFIG_DIR name, even beside `~/.kaggle`."""
    folder = user / ".config" / "kaggle" if where == "config" else user / "elsewhere" / "kaggle"
    folder.mkdir(parents=True)
    (folder / "kaggle.json").write_text('{"username": "alice", "key": "k"}')
    if where != "config":
        monkeypatch.setenv(where, str(folder.parent if where.startswith("XDG") else folder))

    assert [found.source for found in log_ins(read_settings())] == [str(folder / "kaggle.json")]


def test_a_variable_completes_kaggle_json(user, monkeypatch):
    """KAGGLE_USERNAME wins over the name in the file, as in Kaggle's client."""
    path = user / ".kaggle" / "kaggle.json"
    path.write_text('{"username": "alice", "key": "k"}')
    monkeypatch.setenv("KAGGLE_USERNAME", "team")

    (found,) = log_ins(read_settings())

    assert (found.source, found.username) == (f"KAGGLE_USERNAME and {path}", "team")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("kaggle.json", None, "kaggle.json is a folder"),
        ("kaggle.json", '{"username": "a", "key": "b"}'.encode("utf-16"), "kaggle.json is saved as UTF-16"),
        ("kaggle.json", b'{"user": "a", "api_key": "b"}', "kaggle.json has no `username` and `key`"),
        ("kaggle.json", b"username: a", "kaggle.json is not a JSON object"),
        ("access_token", None, "access_token is a folder"),
        ("access_token", "KGAT_secret".encode("utf-16"), "access_token is saved as UTF-16"),
        ("access_token", "“KGAT_secret”".encode(), "access_token holds .* it has quotes"),
        ("access_token", b"two secrets", "access_token holds .* a space or a line break"),
        ("credentials.json", b"{}", "credentials.json has no valid `refresh_token`"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_is_wrong(user, name, content, words):
    """Saved by another program, a folder, other keys: the message says so, and quotes nothing of it."""
    path = user / ".kaggle" / name
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)

    with pytest.raises(SettingsError, match=words) as caught:
        log_ins(read_settings())

    assert str(path) in caught.value.problem
    assert "secret" not in str(caught.value)


def test_a_broken_source_beside_a_good_one_is_a_warning(user, monkeypatch, caplog):
    """What can be used is used, as Kaggle's client does, and what is wrong elsewhere is logged."""
    (user / ".kaggle" / "kaggle.json").mkdir()
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_x")

    assert [found.source for found in log_ins(read_settings())] == ["KAGGLE_API_TOKEN"]
    assert f"{user / '.kaggle' / 'kaggle.json'} is a folder: KAGGLE_API_TOKEN is used" in caplog.text


@pytest.mark.parametrize("where", ["KAGGLE_API_TOKEN", "access_token"])
def test_a_dead_token_is_passed_over(user, monkeypatch, start_practice, caplog, where):
    """An old token does not hide the key beside it; the log says which was passed over."""
    server = start_practice()
    monkeypatch.setattr("flows.kaggle.competition.LIVE_URL", server.url)
    monkeypatch.setenv("MNIST_COMPETITION", server.spec.name)
    if where == "KAGGLE_API_TOKEN":
        monkeypatch.setenv(where, "KGAT_dead")
    else:
        (user / ".kaggle" / where).write_text("KGAT_dead")
    path = user / ".kaggle" / "kaggle.json"
    path.write_text(json.dumps({"username": server.username, "key": server.key}))
    path.chmod(0o600)

    assert connect(read_settings()).quota() == 10
    assert f"{where}: {path} is used" in caplog.text
    assert "KGAT_dead" not in caplog.text
    (finding,) = check_credentials(read_settings())
    assert finding.found == f"kaggle accepts {path}, without an end that is known"


@contextmanager
def account_server(answers):
    """Yield a server that gives these answers by call, and the calls with what they logged in with."""
    calls = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            name = self.path.rpartition("/")[2]
            calls.append((name, self.headers.get("Authorization")))
            status, answer = answers.get(name, (404, {"code": 404, "message": "no such call"}))
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", calls
    finally:
        server.shutdown()
        server.server_close()


ENTERED = (200, {"userHasEntered": True})


@pytest.mark.parametrize("expired", [True, False])
def test_a_log_in_by_browser_is_renewed_when_its_token_ends(user, monkeypatch, expired):
    """Its token is used while it lasts; after that a new one is asked for, with the refresh token alone."""
    path = write_log_in(user, datetime.now(UTC) + (-SOON if expired else SOON))
    before = path.read_bytes()
    answers = {"GenerateAccessToken": (200, {"token": "new-token", "expiresIn": 43200})}
    with account_server(answers | {"GetCompetition": ENTERED}) as (url, calls):
        monkeypatch.setattr("flows.kaggle.competition.LIVE_URL", url)
        competition = connect(read_settings())
        assert competition.has_entered()
        assert competition.has_entered()
        (finding,) = check_credentials(read_settings())

    asked = [("GenerateAccessToken", None)] if expired else []
    used = ("GetCompetition", f"Bearer {'new' if expired else 'old'}-token")
    assert calls[: len(asked) + 2] == [*asked, used, used]
    assert finding.found == (
        f"kaggle accepts {path}, the log-in of `kaggle auth login`, whose token is renewed when it ends"
    )
    assert path.read_bytes() == before


def test_a_log_in_by_browser_that_has_ended_says_how_to_log_in_again(user, monkeypatch):
    """A refresh token that was revoked is an error at once, with Kaggle's own command."""
    path = write_log_in(user, datetime.now(UTC) - SOON)
    refused = {"GenerateAccessToken": (401, {"code": 401, "message": "Unauthenticated"})}
    with account_server(refused) as (url, _calls):
        monkeypatch.setattr("flows.kaggle.competition.LIVE_URL", url)
        with pytest.raises(
            CompetitionError, match="has ended; log in again with `kaggle auth login`"
        ) as caught:
            connect(read_settings()).quota()

    assert str(path) in caught.value.problem
    assert not caught.value.retryable


@pytest.mark.parametrize(("days", "state"), [(3, "warning"), (30, "ok")])
def test_doctor_says_how_long_a_token_lasts(monkeypatch, days, state):
    """The server states the end of a token; a week before it, that is a warning."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_x")
    end = datetime.now(UTC) + timedelta(days=days)
    known = (200, {"active": True, "username": "alice", "userId": 1, "exp": int(end.timestamp())})
    with account_server({"IntrospectToken": known, "GetCompetition": ENTERED}) as (url, _calls):
        monkeypatch.setattr("flows.kaggle.competition.LIVE_URL", url)
        (finding,) = check_credentials(read_settings())

    assert finding.state == state
    assert finding.found == f"kaggle accepts KAGGLE_API_TOKEN, valid until {end:%Y-%m-%d %H:%M} UTC"
