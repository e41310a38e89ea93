"""Package indexes: which one has torch for CPUs, and what uv must be told to reach one that pip reaches.

uv reads neither pip's configuration nor, by itself, the certificates of the system. Standard library alone.
"""

import ast
import contextlib
import os
import re
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""The index of torch's builds for CPUs; the environment's TORCH_CPU_INDEX names a mirror of it."""
CPU_INDEX_S = 3.0
"""Seconds within which the index must answer to be used without being asked for."""


def cpu_index() -> str:
    """Return the address of the index of CPU builds."""
    return (os.environ.get("TORCH_CPU_INDEX") or CPU_INDEX).rstrip("/")


def answers(index: str, within_s: float) -> bool:
    """Return whether a package index has torch, and says so in time; the lookup of its name counts too."""
    answered, done = threading.Event(), threading.Event()

    def ask() -> None:
        with contextlib.suppress(OSError, ValueError):
            urllib.request.urlopen(f"{index}/torch/", timeout=within_s).close()  # noqa: S310 (the user's index)
            answered.set()
        done.set()

    threading.Thread(target=ask, daemon=True).start()
    done.wait(within_s)
    return answered.is_set()


def host(address: str) -> str:
    """Return the host of an address, without what may be secret in it."""
    return address.split("://")[-1].split("/")[0].split("@")[-1]


def read_pip_settings(pythons: Sequence[Path]) -> dict[str, str]:
    """Return pip's settings, such as `index-url`, from its files and its environment variables.

    Args:
        pythons: of which the first that has pip is asked.
    """
    for python in pythons:
        with contextlib.suppress(OSError):
            asked = [str(python), "-m", "pip", "--disable-pip-version-check", "config", "list"]
            done = subprocess.run(asked, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return parse_pip_settings(done.stdout)
    variables = {name: value for name, value in os.environ.items() if name.startswith("PIP_") and value}
    return {name[4:].lower().replace("_", "-"): value for name, value in variables.items()}


def parse_pip_settings(listed: str) -> dict[str, str]:
    """Return settings by name from `pip config list`: variables count most, then the section `install`."""
    found: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for name, value in re.findall(rf"^{section}\.([a-z-]+)=(.+)$", listed, re.M):
            with contextlib.suppress(ValueError, SyntaxError):
                found[name] = str(ast.literal_eval(value))
    return {name: value for name, value in found.items() if value}


def uv_knows_its_index() -> bool:
    """Return whether a configuration file of uv names an index, which then counts."""
    home = os.environ.get("XDG_CONFIG_HOME") or f"{os.environ.get('HOME') or ''}/.config"
    files = [os.environ.get("UV_CONFIG_FILE") or f"{home}/uv/uv.toml", "/etc/uv/uv.toml"]
    with contextlib.suppress(OSError):
        return any("index" in Path(name).read_text() for name in files if Path(name).is_file())
    return False


def uv_variables(
    pip: Mapping[str, str], environment: Mapping[str, str], own_index: bool, certificates: bool
) -> dict[str, str]:
    """Return the variables that tell uv what pip knows. What uv was told itself stays.

    Args:
        pip: its settings.
        environment: the variables that are set.
        own_index: uv's configuration names an index.
        certificates: the system has certificate authorities.
    """
    given = {name for name, value in environment.items() if value}
    system = "1" if certificates else ""
    proxies = {"http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"}
    known: list[tuple[str, str | None, set[str]]] = [  # name, value, what else would have told it
        ("UV_DEFAULT_INDEX", "" if own_index else pip.get("index-url"), {"UV_INDEX_URL"}),
        ("UV_INSECURE_HOST", " ".join(pip.get("trusted-host", "").split()), set()),
        ("UV_HTTP_TIMEOUT", pip.get("timeout") or pip.get("default-timeout"), set()),
        ("HTTP_PROXY", pip.get("proxy"), proxies | {"HTTPS_PROXY"}),
        ("HTTPS_PROXY", pip.get("proxy"), proxies | {"HTTP_PROXY"}),
        ("SSL_CERT_FILE", pip.get("cert"), {"SSL_CERT_DIR"}),
        ("UV_SYSTEM_CERTS", system, {"UV_NATIVE_TLS"}),
        ("UV_NATIVE_TLS", system, {"UV_SYSTEM_CERTS"}),  # its name in older versions
    ]
    return {name: value for name, value, others in known if value and not given & (others | {name})}


def has_system_certificates() -> bool:
    """Return whether the system has certificate authorities of its own; a small container has none."""
    paths = ssl.get_default_verify_paths()
    folder = Path(paths.capath) if paths.capath else None
    return bool(paths.cafile) or bool(folder and folder.is_dir() and any(folder.iterdir()))
