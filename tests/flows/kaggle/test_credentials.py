"""Where Kaggle's credentials are found, and that they are never shown."""

import base64
import json
import os
import traceback

import pytest
from pydantic import SecretStr

from flows.kaggle.competition import connect
from flows.kaggle.credentials import Credentials, credentials_for
from flows.settings import SettingsError, read_settings
from mnist_core.errors import MnistError


def find_credentials() -> Credentials:
    """Return the credentials for kaggle.com."""
    return credentials_for(read_settings(kaggle="live"))


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """A user without any credentials."""
    for name in list(os.environ):
        if name.startswith(("MNIST_", "KAGGLE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kaggle").mkdir()


def test_missing_credentials_are_named_by_their_variables(tmp_path):
    """Without credentials the error says which variables to set and where kaggle.json is expected."""
    with pytest.raises(SettingsError, match="no Kaggle credentials") as caught:
        find_credentials()

    assert "KAGGLE_API_TOKEN" in caught.value.remedy
    assert str(tmp_path / ".kaggle") in caught.value.remedy


@pytest.mark.parametrize(
    ("given", "missing"), [("KAGGLE_USERNAME", "KAGGLE_KEY"), ("KAGGLE_KEY", "KAGGLE_USERNAME")]
)
def test_half_a_pair_is_refused(monkeypatch, given, missing):
    """A username without its key, or a key without its username, is an error that names both."""
    monkeypatch.setenv(given, "something")

    with pytest.raises(SettingsError, match=f"{given} is set and {missing} is not"):
        find_credentials()


def test_a_token_wins_over_a_pair(monkeypatch):
    """KAGGLE_API_TOKEN is used even if username and key are set, as Kaggle's own client does."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.setenv(name, f"{name.lower()}\n")

    found = find_credentials()

    assert (found.source, found.token.get_secret_value()) == ("KAGGLE_API_TOKEN", "kaggle_api_token")
    assert found.key is None


@pytest.mark.parametrize("name", ["access_token", "access_token.txt"])
def test_a_token_file_is_found(tmp_path, name):
    """The token that Kaggle's own client keeps in the user's home is read without its newline."""
    path = tmp_path / ".kaggle" / name
    path.write_text("KGAT_secret\n")

    found = find_credentials()

    assert (found.source, found.token.get_secret_value()) == (str(path), "KGAT_secret")


def test_kaggle_json_is_found_and_never_shown(tmp_path):
    """Kaggle's own file is read if no variable is set, and its key is not in the object's text."""
    (tmp_path / ".kaggle" / "kaggle.json").write_text('{"username": "alice", "key": "k-secret\\n"}')

    found = find_credentials()

    assert (found.username, found.key.get_secret_value()) == ("alice", "k-secret")
    assert "k-secret" not in repr(found)


@pytest.mark.parametrize("content", ["", "[]", "null", '{"username": "alice"}', '{"username": 1, "key": 2}'])
def test_a_kaggle_json_without_a_pair_is_named(tmp_path, content):
    """A broken file that is all there is: the message names it."""
    (tmp_path / ".kaggle" / "kaggle.json").write_text(content)

    with pytest.raises(
        SettingsError, match=r"kaggle\.json (is not a JSON object|has no `username` and `key`)"
    ):
        find_credentials()


SECRETS = {
    "long": "eyJhbGciOi" * 40,
    "json": json.dumps({"username": "alice", "key": "k-secret-0123456789"}),
    "lines": "KGAT_secretpart\nanother-secretpart",
    "foreign": "KGAT_sécret-pàrt-0123456789",
    "quoted": "“KGAT_secretpart0123456789”",
    "marked": "\ufeffKGAT_secretpart0123456789",
    "path": "/secretpart/of/a/path",
    "long path": "/secretpart" * 40,
    "dots": "../" * 90 + "secretpart",
}


def parts(secret: str) -> list[str]:
    """Return a secret, its lines, and how else it may be spelled."""
    return [secret, *secret.splitlines(), base64.b64encode(secret.encode()).decode(), repr(secret)[1:-1]]


@pytest.mark.parametrize("shape", SECRETS)
@pytest.mark.parametrize("where", ["KAGGLE_API_TOKEN", "KAGGLE_KEY", "MNIST_KAGGLE_TOKEN", "access_token"])
def test_no_error_carries_a_credential_whatever_its_shape(monkeypatch, tmp_path, where, shape):
    """Long, of several lines, with foreign letters, like a path: no message and no traceback has it."""
    secret = SECRETS[shape]
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setattr("flows.kaggle.session._retries", lambda: 0)
    monkeypatch.setenv("MNIST_KAGGLE", "http://127.0.0.1:9" if where.startswith("MNIST") else "live")
    if where == "access_token":
        (tmp_path / ".kaggle" / where).write_text(secret)
    else:
        monkeypatch.setenv("KAGGLE_USERNAME", "alice")
        monkeypatch.setenv(where, secret)
        if where == "KAGGLE_API_TOKEN":
            monkeypatch.delenv("KAGGLE_USERNAME")

    with pytest.raises(MnistError) as caught:
        connect(read_settings()).quota()

    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + str(vars(caught.value))
    assert all(part not in shown for part in parts(secret))


def test_a_file_that_is_not_text_is_named(tmp_path):
    """A token file in another encoding is an error with its name, not with its bytes."""
    path = tmp_path / ".kaggle" / "access_token"
    path.write_bytes("KGAT_secret".encode("utf-16"))

    with pytest.raises(SettingsError, match="access_token") as caught:
        find_credentials()

    assert "secret" not in str(caught.value)


def test_another_server_never_gets_kaggles_credentials(monkeypatch, tmp_path):
    """Without a token of its own a server is refused, whatever credentials of Kaggle there are."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.setenv(name, "k-secret")
    (tmp_path / ".kaggle" / "access_token").write_text("KGAT_secret")

    for url in ("http://127.0.0.1:9", "https://api.kaggle.com.example.org", "https://notkaggle.com"):
        with pytest.raises(SettingsError, match="needs a token of its own") as caught:
            credentials_for(read_settings(kaggle=url))
        assert "MNIST_KAGGLE_TOKEN" in caught.value.remedy

    monkeypatch.setenv("MNIST_KAGGLE_TOKEN", "its-own\n")
    assert credentials_for(read_settings(kaggle=url)).token.get_secret_value() == "its-own"
    assert find_credentials().token.get_secret_value() == "k-secret"


def test_a_server_that_quotes_the_credentials_is_not_quoted():
    """A server's message is shown without what was sent to it, in any of its spellings."""
    credentials = Credentials("a test", "alice", SecretStr("k+secret/="))
    sent = base64.b64encode(b"alice:k+secret/=").decode()

    shown = credentials.redact(f"no k+secret/= nor k%2Bsecret%2F%3D nor {sent}")

    assert shown == "no *** nor *** nor ***"
