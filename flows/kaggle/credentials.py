"""What the client logs in with. Kaggle's own credentials go to kaggle.com alone; another server has its own.

Kaggle's are looked up in the order in which its own client looks for them. No error quotes a value.
"""

import base64
import contextlib
import functools
import json
import logging
import os
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from flows.kaggle.address import LIVE, server_name
from flows.settings import TOKEN, Settings, SettingsError

log = logging.getLogger("mnist")
_API_PAGE = "kaggle.com → Settings → API"


@dataclass(frozen=True)
class Credentials:
    """What the client logs in with: a token, or a username and a key.

    Attributes:
        source: where they were found, such as `KAGGLE_API_TOKEN`; safe to show.
        file: the file that holds them, if one does.
        refresh: of a log-in by `kaggle auth login`: what a new token is asked for with.
        expires: when the token does, as far as that is known.
    """

    source: str
    username: str | None = None
    key: SecretStr | None = None
    token: SecretStr | None = None
    file: Path | None = None
    refresh: SecretStr | None = None
    expires: datetime | None = None

    def redact(self, text: str) -> str:
        """Return a text without these credentials, such as a server's message that quotes them."""
        secrets = [secret.get_secret_value() for secret in (self.key, self.token, self.refresh) if secret]
        if self.username and self.key:
            secrets.append(base64.b64encode(f"{self.username}:{secrets[0]}".encode()).decode())
        for secret in secrets:
            for spelled in (secret, urllib.parse.quote(secret, safe=""), json.dumps(secret)[1:-1]):
                text = text.replace(spelled, "***")
        return text


def credentials_for(settings: Settings) -> Credentials:
    """Return the credentials that are tried first at the server of MNIST_KAGGLE, which is not `practice`.

    Raises:
        SettingsError: as `log_ins`.
    """
    return log_ins(settings)[0]


def log_ins(settings: Settings) -> list[Credentials]:
    """Return all credentials for the server of MNIST_KAGGLE, which is not `practice`, in the order of use.

    Raises:
        SettingsError: there are none that can be sent; the message names each source and what is wrong there.
    """
    if settings.kaggle == LIVE:
        return _kaggles()
    if settings.kaggle_token is None:
        raise SettingsError(
            f"{server_name(settings.kaggle)} needs a token of its own",
            "set MNIST_KAGGLE_TOKEN to it: Kaggle's credentials are only sent to kaggle.com",
        )
    return [Credentials("MNIST_KAGGLE_TOKEN", token=settings.kaggle_token)]


def _kaggles() -> list[Credentials]:
    """Return Kaggle's credentials from the environment and from the files of its client."""
    folder = Path.home() / ".kaggle"
    tokens = [functools.partial(_token_file, folder / name) for name in ("access_token", "access_token.txt")]
    sources: list[Callable[[], Credentials | None]] = [_token, *tokens, _pair, _oauth]
    found: list[Credentials] = []
    faults: list[SettingsError] = []
    for source in sources:
        try:
            credentials = source()
        except SettingsError as error:
            faults.append(error)
        else:
            found += [credentials] if credentials is not None else []
    if found:
        for fault in faults:
            _warn_once(f"{fault.problem}: {found[0].source} is used")
        return found
    if faults:
        raise SettingsError("; ".join(fault.problem for fault in faults), faults[0].remedy)
    raise SettingsError(
        "there are no Kaggle credentials",
        f"set KAGGLE_API_TOKEN ({_API_PAGE} → create a token), or KAGGLE_USERNAME and KAGGLE_KEY, or put "
        f"kaggle.json into {_config_folders()[0]}, or log in with `kaggle auth login`",
    )


@functools.cache
def _warn_once(words: str) -> None:
    log.warning("%s", words)


def _config_folders() -> list[Path]:
    """Return the folders in which kaggle.json may be."""
    if given := os.environ.get("KAGGLE_CONFIG_DIR"):
        return [Path(given)]
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return [Path.home() / ".kaggle", Path(config) / "kaggle"]


def _token() -> Credentials | None:
    name = "KAGGLE_API_TOKEN"
    token = os.environ.get(name, "").strip()
    if token and (file := _file(token)) is not None:
        text = _read(file, f"the file that {name} names")
        return Credentials(name, token=_checked_token(text, name), file=file)
    return Credentials(name, token=_checked_token(token, name)) if token else None


def _token_file(path: Path) -> Credentials | None:
    if not path.exists() or not (token := _read(path, str(path))):
        return None
    return Credentials(str(path), token=_checked_token(token, str(path)), file=path)


def _file(value: str) -> Path | None:
    """Return the file that a value names; None if it is the token itself."""
    with contextlib.suppress(OSError, ValueError):  # too long for a name: the error would quote it
        if Path(value).is_file():
            return Path(value)
    return None


def _read(path: Path, name: str) -> str:
    """Return the text of a file without spaces around it.

    Raises:
        SettingsError: it is not a file, or not UTF-8.
    """
    if path.is_dir():
        raise SettingsError(f"{name} is a folder", "put the file there that it should be")
    try:
        content = path.read_bytes()
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise SettingsError(f"{name} is saved as UTF-16", "save it as UTF-8")
        return content.decode("utf-8-sig").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{name} cannot be read as text ({type(error).__name__})", "write it again, as UTF-8"
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        entry = json.loads(_read(path, str(path)))
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        raise SettingsError(f"{path} is not a JSON object", f"download it again ({_API_PAGE})")
    return entry


def _fault(text: str) -> str | None:
    """Return what a text has that no token, username or key has; None if it may be one."""
    if TOKEN.fullmatch(text):
        return None
    if any(quote in text for quote in "\"'“”„‘’`"):
        return "quotes"
    if any(letter.isspace() for letter in text):
        return "a space or a line break"
    return "characters outside ASCII" if not text.isascii() else "characters that none has"


def _checked_token(token: str, source: str) -> SecretStr:
    if fault := _fault(token):
        raise SettingsError(
            f"{source} holds something that is not a token: it has {fault}",
            f"copy the token again ({_API_PAGE})",
        )
    return SecretStr(token)


def _pair() -> Credentials | None:
    """Return username and key; a variable wins over the entry of kaggle.json, as in Kaggle's client."""
    names = {"username": "KAGGLE_USERNAME", "key": "KAGGLE_KEY"}
    found = {part: os.environ.get(name, "").strip() for part, name in names.items()}
    given = [names[part] for part in names if found[part]]
    if len(given) == len(names):
        return _checked_pair(" and ".join(given), found["username"], found["key"])
    files = [folder / "kaggle.json" for folder in _config_folders()]
    path = next((file for file in files if file.exists()), None)
    if path is None and given:
        missing = next(names[part] for part in names if not found[part])
        raise SettingsError(f"{given[0]} is set and {missing} is not", "set both, or KAGGLE_API_TOKEN")
    if path is None:
        return None
    entry = _read_json(path)
    for part in names:
        value = entry.get(part)
        found[part] = found[part] or (value.strip() if isinstance(value, str) else "")
    if not all(found.values()):
        raise SettingsError(
            f"{path} has no `username` and `key`",
            f"download it again ({_API_PAGE}), or set KAGGLE_API_TOKEN",
        )
    return _checked_pair(" and ".join([*given, str(path)]), found["username"], found["key"], path)


def _checked_pair(source: str, username: str, key: str, file: Path | None = None) -> Credentials:
    if fault := _fault(username) or _fault(key):
        raise SettingsError(
            f"{source}: username or key has {fault}, which neither may have",
            f"copy both again ({_API_PAGE})",
        )
    return Credentials(source, username, SecretStr(key), file=file)


def _oauth() -> Credentials | None:
    """Return the log-in that `kaggle auth login` left; its token may have expired, and is then renewed."""
    path = Path.home() / ".kaggle" / "credentials.json"
    if not path.exists():
        return None
    entry = _read_json(path)
    refresh, token = entry.get("refresh_token"), entry.get("access_token")
    if not isinstance(refresh, str) or _fault(refresh):
        raise SettingsError(f"{path} has no valid `refresh_token`", "log in again with `kaggle auth login`")
    usable = isinstance(token, str) and not _fault(token)
    return Credentials(
        str(path),
        token=SecretStr(str(token)) if usable else None,
        file=path,
        refresh=SecretStr(refresh),
        expires=_time(entry.get("access_token_expiration")),
    )


def _time(text: Any) -> datetime | None:
    """Return a time that a file states in ISO 8601, in UTC unless it says otherwise; None if it does not."""
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
