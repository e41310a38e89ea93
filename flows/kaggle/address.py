"""The address of a competition's server: one spelling for each server, and a name for what is kept of it."""

import ipaddress
import re
from urllib.parse import urlsplit

LIVE, PRACTICE = "live", "practice"
LIVE_URL = "https://api.kaggle.com"
MUST = "must be `practice`, `live`, or the URL of a server as `https://HOST` or `https://HOST:PORT`"
_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")
_PORTS = {"http": 80, "https": 443}


def canonical_server(value: str) -> str:
    """Return `practice`, `live`, or a server's URL in lower case, without a default port and without a path.

    Every URL of kaggle.com is `live`, so that one server does not get two namespaces.

    Raises:
        ValueError: it is none of these, or it is plain http to another machine; the text does not quote it.
    """
    if value in (LIVE, PRACTICE):
        return value
    try:
        url = urlsplit(value.strip())
        scheme, host, port = url.scheme, (url.hostname or "").rstrip("."), url.port
    except ValueError:  # brackets or a port that are wrong
        raise ValueError(MUST) from None
    if scheme not in _PORTS or not _is_host(host) or url.username is not None or url.password is not None:
        raise ValueError(MUST)
    if host == "kaggle.com" or host.endswith(".kaggle.com"):
        if scheme != "https" or port not in (None, _PORTS[scheme]):
            raise ValueError("must be `live` for kaggle.com")
        return LIVE
    if url.path.strip("/") or url.query or url.fragment:
        raise ValueError(MUST)
    if ":" in host:
        host = f"[{host}]"
    place = host if port in (None, _PORTS[scheme]) else f"{host}:{port}"
    if scheme == "http" and not is_loopback(f"http://{place}"):
        raise ValueError("must begin with https: plain http is only for a server on this machine")
    return f"{scheme}://{place}"


def server_name(server: str) -> str:
    """Return the name of a canonical server: `kaggle`, `practice`, or host and port.

    With its port, a host cannot be taken for another name, such as that of a folder of the store.
    """
    if server in (LIVE, PRACTICE):
        return {LIVE: "kaggle", PRACTICE: "practice"}[server]
    url = urlsplit(server)
    return url.netloc if url.port is not None else f"{url.netloc}:{_PORTS[url.scheme]}"


def is_loopback(url: str) -> bool:
    """Return whether a server is on this machine, so that no proxy stands before it."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_host(host: str) -> bool:
    try:
        return bool(_HOST.fullmatch(host)) or ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


def described(server: str) -> str:
    """Return how a sentence calls a server, of its name as in `server_name`."""
    return {"kaggle": "kaggle.com", PRACTICE: "the practice server"}.get(server, server)
