"""The address of a server: one spelling for each, and nothing that leads elsewhere."""

import pytest

from flows.kaggle.address import canonical_server, is_loopback, server_name


@pytest.mark.parametrize(
    ("given", "server", "name"),
    [
        ("practice", "practice", "practice"),
        ("live", "live", "kaggle"),
        ("https://api.kaggle.com", "live", "kaggle"),
        ("HTTPS://API.Kaggle.com:443/", "live", "kaggle"),
        ("https://www.kaggle.com/competitions/digit-recognizer", "live", "kaggle"),
        ("https://kaggle.com./", "live", "kaggle"),
        ("http://127.0.0.1:8765/", "http://127.0.0.1:8765", "127.0.0.1:8765"),
        ("http://LOCALHOST:80", "http://localhost", "localhost:80"),
        ("http://[::1]:8765", "http://[::1]:8765", "[::1]:8765"),
        ("https://Kaggle.Example.org:443", "https://kaggle.example.org", "kaggle.example.org:443"),
        ("https://objects/", "https://objects", "objects:443"),
        ("https://practice", "https://practice", "practice:443"),
    ],
)
def test_each_server_has_one_spelling(given, server, name):
    """Case, a default port and a slash make no second server, and no host has the name of something else."""
    assert canonical_server(given) == server
    assert server_name(server) == name
    assert canonical_server(server) == server


@pytest.mark.parametrize(
    "given",
    [
        "", "kaggle", "ftp://example.org", "http://", "https://..", "https://../x", "https://a..b",
        "https://a/b", "https://a?x=1", "https://a#b", "https://me@a", "https://me:pw@a", "https://:pw@a",
        "https://a:port", "https://[::1", "https://a\\b", "https://a%2f..", "https://[fe80::1%25x]",
        "http://api.kaggle.com", "https://api.kaggle.com:8443", "http://example.org", "http://10.0.0.1",
    ],
)  # fmt: skip
def test_what_is_not_a_servers_address_is_refused(given):
    """Paths, passwords, other protocols, and plain http that would leave this machine."""
    with pytest.raises(ValueError, match=r"^must "):
        canonical_server(given)


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:1", True), ("http://127.1.2.3", True), ("http://[::1]", True),
        ("http://localhost", True), ("http://localhost.example.org", False), ("http://128.0.0.1", False),
    ],
)  # fmt: skip
def test_loopback_is_this_machine_alone(url, here):
    """Plain http and no proxy are for addresses that never leave the machine."""
    assert is_loopback(url) is here
