"""Kaggle's credentials, looked up in the order in which its own client looks for them."""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from flows.settings import SettingsError


@dataclass(frozen=True)
class Credentials:
    """What the client logs in with: a token, or a username and a key.

    Attributes:
        source: where they were found, such as `KAGGLE_API_TOKEN`; safe to show.
    """

    source: str
    username: str | None = None
    key: SecretStr | None = None
    token: SecretStr | None = None


def find_credentials() -> Credentials:
    """Return Kaggle's credentials from the environment or from the files below `~/.kaggle`.

    Raises:
        SettingsError: there are none, or only half of a pair.
    """
    config = Path(os.environ.get("KAGGLE_CONFIG_DIR") or Path.home() / ".kaggle")
    found = _token() or _pair() or _kaggle_json(config / "kaggle.json")
    if found is None:
        raise SettingsError(
            "there are no Kaggle credentials",
            "set KAGGLE_API_TOKEN (kaggle.com → Settings → API → create a token), or KAGGLE_USERNAME and "
            f"KAGGLE_KEY, or put kaggle.json into {config}",
        )
    return found


def _token() -> Credentials | None:
    token = os.environ.get("KAGGLE_API_TOKEN", "").strip()
    if token and Path(token).is_file():
        token = Path(token).read_text().strip()
    if token:
        return Credentials("KAGGLE_API_TOKEN", token=SecretStr(token))
    for name in ("access_token", "access_token.txt"):
        path = Path.home() / ".kaggle" / name
        if path.is_file() and (token := path.read_text().strip()):
            return Credentials(str(path), token=SecretStr(token))
    return None


def _pair() -> Credentials | None:
    username = os.environ.get("KAGGLE_USERNAME", "").strip()
    key = os.environ.get("KAGGLE_KEY", "").strip()
    if username and key:
        return Credentials("KAGGLE_USERNAME and KAGGLE_KEY", username, SecretStr(key))
    if username or key:
        given, missing = ("KAGGLE_USERNAME", "KAGGLE_KEY") if username else ("KAGGLE_KEY", "KAGGLE_USERNAME")
        raise SettingsError(f"{given} is set and {missing} is not", "set both, or KAGGLE_API_TOKEN")
    return None


def _kaggle_json(path: Path) -> Credentials | None:
    with contextlib.suppress(OSError, ValueError, KeyError, AttributeError, TypeError):
        entry = json.loads(path.read_text())
        username, key = entry["username"].strip(), entry["key"].strip()
        if username and key:
            return Credentials(str(path), username, SecretStr(key))
    return None
