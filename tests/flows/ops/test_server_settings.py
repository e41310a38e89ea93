"""The settings of every Prefect server that we start, and its login."""

import importlib
import os
import re
import stat
from pathlib import Path

import pytest
from prefect.settings import Settings as PrefectSettings

from flows.ops.prefect_home import prepare_prefect
from flows.ops.server_settings import (
    ASKED,
    GIVEN,
    RETENTION_D,
    SERVER,
    make_login,
    offer_login,
    server_variables,
    ui_address,
)
from flows.settings import read_settings

TERRAFORM = Path(__file__).parents[3] / "infra" / "terraform"
URL = "http://127.0.0.1:4200/api"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without Prefect's variables and proxies, with an empty home."""
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "MNIST_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MNIST_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))  # what the code adds to it goes with the test
    return monkeypatch


def test_prefect_reads_the_settings_as_they_are_meant(environment):
    """One origin list, CSRF protection, a login, leases in files, and old runs deleted."""
    for name, value in server_variables("user:password", 4200).items():
        os.environ[name] = value
        environment.setenv(name, value)

    server = PrefectSettings().server

    assert server.api.cors_allowed_origins == "http://127.0.0.1:4200,http://localhost:4200"
    assert server.api.csrf_protection_enabled
    assert server.api.auth_string.get_secret_value() == "user:password"
    assert hasattr(importlib.import_module(server.concurrency.lease_storage), "ConcurrencyLeaseStorage")
    assert server.services.db_vacuum.enabled == {"events", "flow_runs"}
    assert server.services.db_vacuum.retention_period.days == RETENTION_D


def test_a_temporary_server_gets_the_same_settings(environment):
    """A night without `make ui` starts a server that no page and no other user can use."""
    prepare_prefect(read_settings())

    assert SERVER.items() <= os.environ.items()
    assert os.environ["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "none"
    assert os.environ[GIVEN] == os.environ[ASKED]
    assert len(os.environ[GIVEN]) > 30


def test_a_server_that_somebody_chose_gets_no_login_of_ours(environment):
    """The login of this home goes to the server of this home alone."""
    os.environ["PREFECT_API_URL"] = "https://prefect.example.org/api"
    prepare_prefect(read_settings())
    make_login(Path("home/prefect"))
    offer_login(Path("home/prefect"), URL)

    assert not {GIVEN, ASKED} & os.environ.keys()


def test_a_temporary_server_in_another_home_of_prefect_asks_for_a_login_too(environment, tmp_path):
    """PREFECT_HOME says where its database is, not who may use it; a database there is never renamed."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "prefect.db").write_bytes(b"damaged" * 1000)
    os.environ["PREFECT_HOME"] = str(other)

    prepare_prefect(read_settings())

    assert os.environ["PREFECT_HOME"] == str(other)
    assert os.environ["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "none"
    assert len(os.environ[ASKED]) > 30
    assert os.environ[GIVEN] == os.environ[ASKED]
    assert (other / "prefect.db").exists()


def test_a_server_that_a_profile_names_gets_no_login_of_ours(environment, tmp_path):
    """Prefect's client uses that one, so no temporary server starts."""
    (tmp_path / "profiles.toml").write_text(
        'active = "work"\n[profiles.work]\nPREFECT_API_URL = "https://prefect.example.org/api"\n'
    )
    os.environ["PREFECT_HOME"] = str(tmp_path)

    prepare_prefect(read_settings())

    assert not {GIVEN, ASKED, "PREFECT_API_URL"} & os.environ.keys()


def test_a_login_that_is_set_is_never_replaced(environment, tmp_path):
    """Whatever listens on the port of `make ui`, a login that a person or `make deploy` set is for that."""
    make_login(tmp_path)
    os.environ |= {"PREFECT_API_URL": URL, GIVEN: "mnist:the-clouds"}

    offer_login(tmp_path, URL)

    assert os.environ[GIVEN] == "mnist:the-clouds"


@pytest.mark.parametrize("chosen", [None, URL, "http://localhost:4200/api"])
def test_the_login_of_make_ui_is_found_in_the_home(environment, tmp_path, chosen):
    """Commands log in by themselves, also if the address was set as the guide says."""
    login = make_login(tmp_path)
    if chosen is not None:
        os.environ["PREFECT_API_URL"] = chosen

    offer_login(tmp_path, URL)

    assert os.environ[GIVEN] == login == make_login(tmp_path)
    assert stat.S_IMODE((tmp_path / "login").stat().st_mode) == 0o600


def test_the_server_in_the_cloud_has_the_same_settings():
    """Terraform's copy of the settings is this module's; the login is a reference to a secret."""
    text = (TERRAFORM / "prefect.tf").read_text()
    given = dict(re.findall(r"^ +(PREFECT_SERVER_\w+) += (.+?)(?: #.*)?$", text, re.MULTILINE))

    assert {name: f'"{value}"' for name, value in SERVER.items()}.items() <= given.items()
    assert given["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == '"http://127.0.0.1:4200,http://localhost:4200"'
    assert re.findall(r'^  ui_url += "(\S+)"', text, re.MULTILINE) == [ui_address(4200)]
    assert text.count(f'name = "{ASKED}", valueFrom = ') == 1
    assert text.count(f'name = "{GIVEN}", valueFrom = ') == 1
