"""Where Kaggle's credentials are found, and that they are never shown."""

import pytest

from flows.kaggle.credentials import find_credentials
from flows.settings import SettingsError


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """A user without any credentials."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
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
def test_a_kaggle_json_without_a_pair_is_passed_over(tmp_path, content):
    """A broken file is not an error of its own: the message says what to set."""
    (tmp_path / ".kaggle" / "kaggle.json").write_text(content)

    with pytest.raises(SettingsError, match="no Kaggle credentials"):
        find_credentials()
