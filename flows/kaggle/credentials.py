"""What the client logs in with. Kaggle's own credentials go to kaggle.com alone; another server has its own.

Kaggle's are looked up in the order in which its own client looks for them. No error quotes a value.
"""

import base64
import contextlib
import json
import os
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from flows.kaggle.address import LIVE, server_name
from flows.settings import TOKEN, Settings, SettingsError


@dataclass(frozen=True)
class Credentials:
    """What the client logs in with: a token, or a username and a key.

    Attributes:
        source: where they were found, such as `KAGGLE_API_TOKEN`; safe to show.
        file: the file that holds them, if one does.
    """

    source: str
    username: str | None = None
    key: SecretStr | None = None
    token: SecretStr | None = None
    file: Path | None = None

    def redact(self, text: str) -> str:
        """Return a text without these credentials, such as a server's message that quotes them."""
        secrets = [secret.get_secret_value() for secret in (self.key, self.token) if secret]
        if self.username and self.key:
            secrets.append(base64.b64encode(f"{self.username}:{secrets[0]}".encode()).decode())
        for secret in secrets:
            for spelled in (secret, urllib.parse.quote(secret, safe=""), json.dumps(secret)[1:-1]):
                text = text.replace(spelled, "***")
        return text


def credentials_for(settings: Settings) -> Credentials:
    """Return the credentials for the server of MNIST_KAGGLE, which is not `practice`.

    Raises:
        SettingsError: there are none, only half of a pair, or some that cannot be sent.
    """
    if settings.kaggle == LIVE:
        return _kaggles()
    if settings.kaggle_token is None:
        raise SettingsError(
            f"{server_name(settings.kaggle)} needs a token of its own",
            "set MNIST_KAGGLE_TOKEN to it: Kaggle's credentials are only sent to kaggle.com",
        )
    return Credentials("MNIST_KAGGLE_TOKEN", token=settings.kaggle_token)


def _kaggles() -> Credentials:
    """Return Kaggle's credentials from the environment or from the files below `~/.kaggle`."""
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
    name = "KAGGLE_API_TOKEN"
    token = os.environ.get(name, "").strip()
    if token and (file := _file(token)) is not None:
        return Credentials(
            name, token=_checked_token(_read(file, f"the file that {name} names"), name), file=file
        )
    if token:
        return Credentials(name, token=_checked_token(token, name))
    for path in (Path.home() / ".kaggle" / name for name in ("access_token", "access_token.txt")):
        if path.is_file() and (token := _read(path, str(path))):
            return Credentials(str(path), token=_checked_token(token, str(path)), file=path)
    return None


def _file(value: str) -> Path | None:
    """Return the file that a value names; None if it is the token itself."""
    with contextlib.suppress(OSError, ValueError):  # too long for a name: the error would quote it
        if Path(value).is_file():
            return Path(value)
    return None


def _read(path: Path, name: str) -> str:
    try:
        return path.read_text("utf-8-sig").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{name} cannot be read as text ({type(error).__name__})", "write the token into it again"
        ) from None


def _checked_token(token: str, source: str) -> SecretStr:
    if not TOKEN.fullmatch(token):
        raise SettingsError(
            f"{source} holds something that is not a token: it has spaces, quotes, line breaks or other "
            "characters that no token has",
            "copy the token again (kaggle.com → Settings → API)",
        )
    return SecretStr(token)


def _pair() -> Credentials | None:
    username = os.environ.get("KAGGLE_USERNAME", "").strip()
    key = os.environ.get("KAGGLE_KEY", "").strip()
    if username and key:
        return _checked_pair("KAGGLE_USERNAME and KAGGLE_KEY", username, key)
    if username or key:
        given, missing = ("KAGGLE_USERNAME", "KAGGLE_KEY") if username else ("KAGGLE_KEY", "KAGGLE_USERNAME")
        raise SettingsError(f"{given} is set and {missing} is not", "set both, or KAGGLE_API_TOKEN")
    return None


def _kaggle_json(path: Path) -> Credentials | None:
    username = key = ""
    with contextlib.suppress(OSError, ValueError, KeyError, AttributeError, TypeError):
        entry = json.loads(path.read_text("utf-8-sig"))
        username, key = entry["username"].strip(), entry["key"].strip()
    return _checked_pair(str(path), username, key, path) if username and key else None


def _checked_pair(source: str, username: str, key: str, file: Path | None = None) -> Credentials:
    if not all(TOKEN.fullmatch(part) for part in (username, key)):
        raise SettingsError(
            f"{source} hold something that is not a username and a key: spaces, quotes, line breaks or other "
            "characters that neither has",
            "copy both again (kaggle.com → Settings → API)",
        )
    return Credentials(source, username, SecretStr(key), file=file)
