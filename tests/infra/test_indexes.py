"""Package indexes: whether one answers, and which of pip's uv gets."""

import os
import socket
import sys
import time
from pathlib import Path

import pytest

from infra import indexes


def test_an_index_that_does_not_answer_in_time_is_not_waited_for():
    """A server that accepts and says nothing, a closed port, and what is no address."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        assert not indexes.answers(address, 0.2)
        assert time.monotonic() - began < 5
    assert not indexes.answers(address, 5)
    assert not indexes.answers("not an address", 5)


PIP = {
    "index-url": "https://pypi.company/simple", "cert": "/etc/company.pem", "proxy": "http://proxy:3128",
    "trusted-host": "a\nb", "default-timeout": "60",
}  # fmt: skip


@pytest.mark.parametrize(
    ("pip", "given", "told"),
    [
        ({}, {}, {}),
        (
            PIP,
            {"UV_DEFAULT_INDEX": ""},
            {
                "UV_DEFAULT_INDEX": "https://pypi.company/simple", "SSL_CERT_FILE": "/etc/company.pem",
                "HTTP_PROXY": "http://proxy:3128", "HTTPS_PROXY": "http://proxy:3128",
                "UV_INSECURE_HOST": "a b", "UV_HTTP_TIMEOUT": "60",
            },
        ),
        (
            PIP,
            {
                "UV_INDEX_URL": "x", "SSL_CERT_DIR": "x", "all_proxy": "x", "UV_INSECURE_HOST": "x",
                "UV_HTTP_TIMEOUT": "9",
            },
            {},
        ),
    ],
    ids=["nothing", "what pip knows", "what uv knows"],
)  # fmt: skip
def test_uv_gets_what_pip_knows(pip, given, told):
    """What uv was told itself stays; an empty variable says nothing."""
    assert indexes.uv_variables(pip, given, own_index=False, certificates=False) == told


def test_uv_trusts_the_systems_certificates():
    """If there are any, and nobody said otherwise."""
    assert indexes.uv_variables({}, {}, False, True) == {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}
    assert indexes.uv_variables({}, {"UV_NATIVE_TLS": "0"}, False, True) == {}
    assert "UV_DEFAULT_INDEX" not in indexes.uv_variables(PIP, {}, True, False)


def test_pips_own_order_of_settings_is_kept(tmp_path, monkeypatch):
    """A variable counts more than a file, and `[install]` more than `[global]`."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = http://global/it's\ncert = /c.pem\n[install]\nindex-url = http://install\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.setenv("PIP_PROXY", "http://proxy")
    pythons = [tmp_path / "missing", Path(sys.executable)]

    found = indexes.read_pip_settings(pythons)
    assert {"index-url": "http://install", "cert": "/c.pem", "proxy": "http://proxy"}.items() <= found.items()

    monkeypatch.setenv("PIP_INDEX_URL", "http://variable")
    assert indexes.read_pip_settings(pythons)["index-url"] == "http://variable"
    assert indexes.read_pip_settings([])["index-url"] == "http://variable"
