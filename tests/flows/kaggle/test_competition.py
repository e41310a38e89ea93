"""From the settings to a competition: known names, servers, and a practice server that is not installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.kaggle.competition import connect, namespace_prefix
from flows.settings import SettingsError

ROOT = Path(__file__).parents[3]


def test_connecting_makes_no_call(job):
    """Nothing is asked of the server until a call needs it."""
    started = job()
    started.server.stop()

    assert connect(started.settings).url == started.server.url


def test_a_namespace_names_server_competition_and_data(job):
    """What is made of other data, of another competition or on another server does not mix."""
    started = job()
    competition = started.competition
    data = competition.download()

    namespace = competition.namespace(data)

    host = started.server.url.removeprefix("http://").replace(":", "_")
    assert namespace == f"{host}/{competition.name}/{data.digest[:16]}"
    assert namespace.startswith(namespace_prefix(started.settings))


def test_a_missing_practice_server_is_an_error_of_the_settings(job, monkeypatch):
    """A container image does not contain `infra`: the default setting cannot work there."""
    started = job()
    monkeypatch.delenv("MNIST_KAGGLE")
    for name in [*sys.modules]:
        if name.partition(".")[0] == "infra":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "infra", None)

    with pytest.raises(SettingsError, match="does not contain the practice server") as caught:
        connect(started.settings)

    assert caught.value.remedy == "set MNIST_KAGGLE to `live`, or to a server's URL"


WITHOUT_PRACTICE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "infra":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
from flows.__main__ import main
main()
"""


def test_a_command_in_an_image_without_the_practice_server_ends_with_2(tmp_path, prefect_api):
    """On the default setting the command ends with exit code 2, and its last line says what to set."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MNIST_", "PREFECT_"))}

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PRACTICE, "nightly"],
        cwd=tmp_path,
        env=env
        | {
            "MNIST_HOME": str(tmp_path / "home"),
            "PREFECT_API_URL": prefect_api,
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr.splitlines()[-1] == (
        "settings: this image does not contain the practice server; "
        "set MNIST_KAGGLE to `live`, or to a server's URL"
    )
    assert done.returncode == 2
