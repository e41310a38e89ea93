"""The environment as people have it: quotes, Kubernetes, other folders, certificates and proxies."""

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import certifi
import httpx
import pytest
import requests

from flows import environment
from flows.environment import OF_KUBERNETES, bypass_proxy, prepare_environment
from flows.parameters import NightlyParameters
from flows.preflight import announcement
from flows.settings import Settings, SettingsError, read_settings
from mnist_core import cores

ROOT = Path(environment.__file__).parents[1]
OURS = ("MNIST_", "KAGGLE_", "AWS_", "PREFECT_", "SSL_CERT_DIR", *environment.CERTIFICATES)
KUBERNETES = {
    "MNIST_SERVICE_HOST": "10.0.0.1",
    "MNIST_SERVICE_PORT": "4200",
    "MNIST_SERVICE_PORT_HTTP": "4200",
    "MNIST_PORT": "tcp://10.0.0.1:4200",
    "MNIST_PORT_4200_TCP": "tcp://10.0.0.1:4200",
    "MNIST_PORT_4200_TCP_PROTO": "tcp",
    "MNIST_NIGHTLY_PORT_4200_TCP_ADDR": "10.0.0.1",
    "MNIST_NIGHTLY_SERVICE_HOST": "10.0.0.2",
}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory, and an environment of our own variables that goes with the test."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(OURS) and not name.lower().endswith("_proxy")
    }
    monkeypatch.setattr(os, "environ", kept)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a clone that the program runs from."""
    folder = tmp_path / "clone"
    folder.mkdir()
    monkeypatch.setattr(environment, "CHECKOUT", folder)
    return folder


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("MNIST_KAGGLE", '"live"', "live"),
        ("MNIST_KAGGLE", "live\r", "live"),
        ("MNIST_STORE", '"s3://bucket/p"', "s3://bucket/p"),
        ("MNIST_STORE", "/abs/store\r", "/abs/store"),
        ("MNIST_STORE", "'/abs/store'\r", "/abs/store"),
        ("KAGGLE_API_TOKEN", '"KGAT_x"', "KGAT_x"),
        ("HTTPS_PROXY", '"http://proxy:3128"\r', "http://proxy:3128"),
        ("AWS_DEFAULT_REGION", "eu-west-1\r", "eu-west-1"),
    ],
)
def test_quotes_and_carriage_returns_of_an_env_file_are_removed(name, given, read):
    """`docker --env-file` passes them on; no server, folder or token has them in its name."""
    os.environ[name] = given

    settings = read_settings()

    assert os.environ[name] == read
    if name.startswith("MNIST_"):
        assert getattr(settings, name.removeprefix("MNIST_").lower()) == read


def test_the_variables_that_kubernetes_adds_stop_nothing():
    """A service `mnist` or `mnist-nightly` in the same namespace is no misspelt setting, and sets none."""
    os.environ |= KUBERNETES

    assert read_settings() == Settings()
    assert not any(OF_KUBERNETES.fullmatch(f"MNIST_{name.upper()}") for name in Settings.model_fields)


def test_dotenv_and_home_of_the_clone_are_found_from_any_folder(here, clone):
    """Cron starts in another folder: the clone's `.env` counts, and its paths are relative to the clone."""
    (clone / ".env").write_text("MNIST_KAGGLE=https://example.org\nMNIST_STORE=kept\n")

    settings = read_settings()

    assert (settings.kaggle, settings.kaggle_is_set) == ("https://example.org", True)
    assert (settings.home, settings.store) == (clone / ".mnist", str(clone / "kept"))
    assert f"home {clone / '.mnist'}; settings of {clone / '.env'}" in settings.place
    assert list(here.iterdir()) == []


def test_a_dotenv_in_the_working_directory_wins(here, clone):
    """Two projects can share one clone; each has its own `.env` and home."""
    for folder, model in ((here, "scratch"), (clone, "resnet18")):
        (folder / ".env").write_text(f"MNIST_MODEL={model}\n")

    settings = read_settings()

    assert (settings.model, settings.home) == ("scratch", Path(".mnist"))
    assert f"home {here / '.mnist'}" in settings.place


@pytest.mark.parametrize("with_dotenv", [True, False])
def test_a_home_in_the_working_directory_counts_unless_the_clone_is_set_up(here, clone, with_dotenv):
    """What an earlier version left in a folder of cron's does not hide the clone's settings."""
    (here / ".mnist").mkdir()
    if with_dotenv:
        (clone / ".env").touch()

    assert read_settings().home == (clone / ".mnist" if with_dotenv else Path(".mnist"))


def test_a_run_without_a_chosen_server_says_so(here):
    """The first line of a run names the practice competition, and that nobody chose it."""
    line = announcement(NightlyParameters(), read_settings(), date(2026, 11, 23))

    assert "on the practice server, not on kaggle.com (MNIST_KAGGLE is not set); home " in line
    assert line.endswith(f"no .env in {here}")


@pytest.mark.parametrize("name", environment.CERTIFICATES)
def test_all_clients_trust_the_certificates_that_one_variable_names(name):
    """A company's authority is set once, for Kaggle's client, boto3, and Prefect's client alike."""
    os.environ[name] = certifi.where()

    prepare_environment()

    assert {os.environ[other] for other in environment.CERTIFICATES} == {certifi.where()}


def test_all_clients_trust_the_certificates_of_a_folder(here):
    """requests and boto3 take a folder where httpx takes a file alone, and ends with an error otherwise."""
    os.environ["REQUESTS_CA_BUNDLE"] = str(here)

    prepare_environment()

    httpx.Client().close()
    assert (os.environ["AWS_CA_BUNDLE"], os.environ["SSL_CERT_DIR"]) == (str(here), str(here))


@pytest.mark.parametrize("content", [None, "", "not a certificate"])
def test_a_file_without_certificates_is_named(here, content):
    """A wrong path or file is found before anything starts, with the variable that names it."""
    path = here / "company.pem"
    if content is not None:
        path.write_text(content)
    os.environ["REQUESTS_CA_BUNDLE"] = str(path)

    with pytest.raises(
        SettingsError, match=r"REQUESTS_CA_BUNDLE=.*company\.pem: (does not exist|it holds no)"
    ):
        prepare_environment()


def test_loopback_is_never_reached_through_a_proxy():
    """What is excepted already stays so; without a proxy nothing changes."""
    bypass_proxy()
    assert "no_proxy" not in os.environ

    os.environ |= {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "example.org, localhost"}
    bypass_proxy()

    assert os.environ["NO_PROXY"] == "example.org,localhost,127.0.0.1,::1"
    assert requests.utils.should_bypass_proxies("https://example.org", None)  # it reads the lower-case one


@pytest.mark.parametrize(
    ("setting", "variable", "quota", "threads"),
    [
        (None, None, None, None),
        (None, None, 2.0, "2"),
        (None, "3", None, "3"),
        ("1", "3", 2.0, "1"),
        (None, "4,2", None, "4"),
        (None, "all", 1.0, "1"),
        ("9", None, None, "8"),
    ],
)
def test_threads_follow_setting_variable_and_quota(monkeypatch, setting, variable, quota, threads):
    """The least counts, for torch here and for the processes of a night; without a limit torch decides."""
    monkeypatch.setattr(cores, "_limit", None)
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    monkeypatch.setattr(environment, "cpu_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    for name, value in (("MNIST_THREADS", setting), ("OMP_NUM_THREADS", variable)):
        os.environ.pop(name, None)
        os.environ |= {name: value} if value else {}

    read_settings()

    assert os.environ.get("OMP_NUM_THREADS") == threads
    assert cores.cores() == int(threads or 8)


def test_a_command_works_in_an_environment_as_people_have_it(here, seed_practice_home):
    """Dead proxies, Kubernetes, quotes, a narrow ASCII terminal and an empty PATH: `doctor` works."""
    seed_practice_home(here / "home" / "practice")
    dead = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy"), "http://127.0.0.1:9")
    added = {
        "MNIST_HOME": f'"{here / "home"}"\r', "MNIST_COMPETITION": "'digits-mini'", "MNIST_MODEL": "",
        "ALL_PROXY": "socks5://127.0.0.1:9", "PYTHONIOENCODING": "ascii", "COLUMNS": "60", "PATH": "",
        "TERM": "dumb", "PYTHONPATH": str(ROOT), "HOME": str(here),
    }  # fmt: skip

    done = subprocess.run(
        [sys.executable, "-m", "flows", "doctor"],
        env={"PYTHONSAFEPATH": "1", **KUBERNETES, **dead, **added},
        cwd=here, text=True, capture_output=True, check=False, timeout=120,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert "practice accepts the account" in done.stdout
    assert "-> set MNIST_KAGGLE" in done.stdout
