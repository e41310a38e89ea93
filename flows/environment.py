"""The environment of this process and of those that it starts, put in order before anything reads it.

Empty variables, `.env` and the folder that it is found in, certificates, and proxies.
"""

import functools
import os
import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from urllib.request import getproxies_environment

from dotenv import dotenv_values

from mnist_core.cores import cores, cpu_quota, let_threads_sleep, limit_cores
from mnist_core.errors import MnistError

PREFIX = "MNIST_"
CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")
"""Variables that name a file of trusted certificates: httpx reads the first, requests the second, boto3 the
third. The first that is set speaks for the others."""
OF_HTTPX, FOLDER_OF_HTTPX = CERTIFICATES[0], "SSL_CERT_DIR"
"""Which two httpx reads: it takes a folder, as the other clients do, from a variable of its own alone."""
FAMILIES = (PREFIX, "KAGGLE_", "AWS_", "PREFECT_", "TORCH_", "XDG_", "OMP_", *CERTIFICATES)
"""How the variables begin that are put in order. An empty one would be the working directory for a folder,
and for `AWS_CA_BUNDLE` no check of certificates."""
OF_KUBERNETES = re.compile(
    rf"{PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""What Kubernetes adds to every container for a service whose name begins with `mnist`."""
TRUST = (
    "set SSL_CERT_FILE to a file with the certificates to trust: that of your company or of the server, "
    "and the public ones"
)
"""The remedy for a certificate that is not trusted."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
FOLDERS = ("MNIST_HOME", "MNIST_STORE")
"""Variables that may name a folder relative to the one in which their `.env` is."""
_ROOT = Path(__file__).resolve().parents[1]
CHECKOUT = _ROOT if (_ROOT / "pyproject.toml").exists() else None
"""The clone of the repository that this runs from; None if the package is installed without one."""


class SettingsError(MnistError):
    """A setting that is unknown, misspelled or out of range; nothing was started.

    Attributes:
        names: the fields of `Settings` that are at fault; empty if there are none such.
    """

    def __init__(self, problem: str, remedy: str = "", *, names: Sequence[str] = ()) -> None:
        super().__init__(problem, remedy)
        self.names = tuple(names)


def prepare_environment() -> None:
    """Put the environment in order; repeating it changes nothing.

    Empty variables are removed, with the quotes and carriage returns that `docker --env-file` leaves in
    values. What `.env` holds is added unless it is set; it may hold variables of other programs (`KAGGLE_*`,
    `AWS_*`). All clients trust the same certificates, and none reaches this machine through a proxy.

    Raises:
        SettingsError: `.env` is not a text file, or a file of certificates holds none.
    """
    for name, value in list(os.environ.items()):
        if name.upper().startswith(FAMILIES) or name.upper().endswith("_PROXY"):
            _set(name, _unquoted(value))
    _read_dotenv(project_folder())
    bypass_proxy()
    _share_certificates()


def project_folder() -> Path:
    """Return the folder whose `.env` is read, and in which `.mnist` is unless MNIST_HOME is set.

    That is the working directory if it has a `.env`; otherwise the clone that this runs from, so that cron
    and systemd need no `cd`. A `.mnist` in the working directory counts if the clone has no `.env`.
    """
    here = Path.cwd()
    if CHECKOUT is None or (here / ".env").exists():
        return here
    return here if (here / ".mnist").exists() and not (CHECKOUT / ".env").exists() else CHECKOUT


def bypass_proxy() -> None:
    """Except loopback from the proxies that the environment names, for this process and those it starts.

    Otherwise a run could not reach a server on its own machine, or only a part of it: its heartbeats travel
    over a WebSocket, for which the client asks the proxy of https.
    """
    if not getproxies_environment().keys() - {"no"}:
        return
    lower, upper = (os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    # If one is set, it speaks for the other: most clients read the lower-case one alone if there are both.
    for name, given in {"no_proxy": lower or upper, "NO_PROXY": upper or lower}.items():
        known = [host.strip() for host in given.split(",") if host.strip()]
        if "*" not in known:
            os.environ[name] = ",".join([*known, *(host for host in LOOPBACK if host not in known)])


def limit_threads(most: int | None) -> None:
    """Let this process, and those that it starts, use no more CPU threads than they may; waiting ones sleep.

    Without any limit OMP_NUM_THREADS stays unset: torch then counts cores without their second threads.

    Args:
        most: of the settings; None: affinity, the container's quota and OMP_NUM_THREADS alone decide.
    """
    let_threads_sleep()
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    limits = [limit for limit in (most, int(given) if given.isdecimal() else None) if limit]
    limit_cores(min(limits, default=None))
    if limits or cpu_quota() is not None:
        os.environ["OMP_NUM_THREADS"] = str(cores())


def _set(name: str, value: str) -> None:
    if not value.strip():
        del os.environ[name]
    elif os.environ[name] != value:
        os.environ[name] = value


def _unquoted(value: str) -> str:
    """Return a value without a carriage return at its end, and without one pair of quotes around it."""
    value = value.rstrip("\r")
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _read_dotenv(folder: Path) -> None:
    """Add what `.env` in a folder holds; a home that nothing names is in that folder too."""
    elsewhere = folder != Path.cwd()
    try:
        entries = dotenv_values(folder / ".env", encoding="utf-8-sig")
    except ValueError:  # bytes that are not UTF-8, or a NUL
        raise SettingsError(f"{folder / '.env'} is not a text file", "save it as UTF-8") from None
    for name, entry in entries.items():
        if entry and entry.strip():
            relative = elsewhere and name in FOLDERS and "://" not in entry
            os.environ.setdefault(name, str(folder / Path(entry).expanduser()) if relative else entry)
    if elsewhere:
        os.environ.setdefault("MNIST_HOME", str(folder / ".mnist"))


def _share_certificates() -> None:
    """Let every client trust the certificates that the variable of one of them names.

    Raises:
        SettingsError: the file does not exist, or it holds no certificate.
    """
    given = [name for name in CERTIFICATES if os.environ.get(name)]
    for name in given:
        if fault := _fault_of_certificates(path := Path(os.environ[name])):
            raise SettingsError(f"{name}={path}: {fault}", "set it to a file of trusted certificates (PEM)")
    if not given:
        return
    shared = os.environ[given[0]]
    for name in CERTIFICATES:
        if name == OF_HTTPX and Path(shared).is_dir():
            os.environ.setdefault(FOLDER_OF_HTTPX, shared)
        else:
            os.environ.setdefault(name, shared)


@functools.cache
def _fault_of_certificates(path: Path) -> str | None:
    """Return what is wrong with a file or folder of certificates; None if nothing is."""
    if not path.exists():
        return "does not exist"
    try:
        if path.is_file():
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:  # of the file, or ssl's own
        return f"it holds no certificate that can be read ({error.strerror or type(error).__name__})"
    return None


def certificate_fault(error: BaseException) -> str | None:
    """Return why a server's certificate was refused, if that is the cause of an error of any client."""
    seen: set[int] = set()
    left: list[object] = [error]
    while left:
        part = left.pop()
        if isinstance(part, ssl.SSLCertVerificationError):
            return part.verify_message or "it cannot be verified"
        if isinstance(part, BaseException) and id(part) not in seen:
            seen.add(id(part))
            left += [part.__cause__, part.__context__, getattr(part, "reason", None), *part.args]
    return None
