"""Kaggle's credentials, in the order in which its own client looks for them."""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from flows.settings import SettingsError


@dataclass(frozen=True)
class Credentials:
    """What the client logs in with: a token, or a name and a key."""

    source: str
    username: str | None = None
    key: SecretStr | None = None
    token: SecretStr | None = None


def find_credentials() -> Credentials:
    """Kaggle's credentials, in the order in which its own client looks for them.

    Raises:
        SettingsError: there are none, or one is empty.
    """
    config = Path(os.environ.get("KAGGLE_CONFIG_DIR") or Path.home() / ".kaggle")
    token = os.environ.get("KAGGLE_API_TOKEN", "").strip()
    if token and Path(token).is_file():
        token = Path(token).read_text().strip()
    if token:
        return Credentials("KAGGLE_API_TOKEN", token=SecretStr(token))
    for name in ("access_token", "access_token.txt"):
        path = Path.home() / ".kaggle" / name
        if path.is_file() and (token := path.read_text().strip()):
            return Credentials(str(path), token=SecretStr(token))
    username = os.environ.get("KAGGLE_USERNAME", "").strip()
    key = os.environ.get("KAGGLE_KEY", "").strip()
    if username and key:
        return Credentials("KAGGLE_USERNAME and KAGGLE_KEY", username, SecretStr(key))
    if username or key:
        given, lacking = ("KAGGLE_USERNAME", "KAGGLE_KEY") if username else ("KAGGLE_KEY", "KAGGLE_USERNAME")
        raise SettingsError(f"{given} is set and {lacking} is not; set both, or KAGGLE_API_TOKEN")
    with contextlib.suppress(OSError, ValueError, KeyError, AttributeError):
        entry = json.loads((config / "kaggle.json").read_text())
        username, key = entry["username"].strip(), entry["key"].strip()
        if username and key:
            return Credentials(str(config / "kaggle.json"), username, SecretStr(key))
    raise SettingsError(
        "no Kaggle credentials: set KAGGLE_API_TOKEN (kaggle.com → Settings → API → create a token), or "
        f"KAGGLE_USERNAME and KAGGLE_KEY, or put kaggle.json into {config}"
    )
