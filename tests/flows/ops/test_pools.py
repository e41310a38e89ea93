"""The deployments in prefect.yaml, without a server."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from flows.ops import pools
from flows.ops.pools import DEPLOYMENTS, POOLS, DeploymentError

ROOT = Path(__file__).parents[3]
DEPLOYED = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


def test_the_deployments_and_their_pools_are_the_ones_in_prefect_yaml():
    """`make deployments` and `doctor` look for the same ones."""
    names = {f"{entry['entrypoint'].rpartition('.')[2]}/{entry['name']}" for entry in DEPLOYED}

    assert names == set(DEPLOYMENTS)
    assert {entry["work_pool"]["name"] for entry in DEPLOYED} == set(POOLS)


def test_entrypoints_are_modules():
    """A script's folder would come first in sys.path, and our `flows/kaggle` would hide Kaggle's package."""
    for entry in DEPLOYED:
        module, _, name = entry["entrypoint"].rpartition(".")

        assert ":" not in entry["entrypoint"]
        assert find_spec(module) is not None
        assert name in ("nightly", "train", "submit")


def test_without_a_server_nothing_is_deployed(monkeypatch, tmp_path):
    """`make deployments` would start a temporary server, fill it, and end it: nobody would see them again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNIST_HOME", str(tmp_path / "home"))
    for name in ("PREFECT_API_URL", "PREFECT_HOME", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pools, "_create_pools", lambda *_: pytest.fail("a server was asked"))

    with pytest.raises(DeploymentError, match=r"no Prefect server is named.*PREFECT_API_URL"):
        pools.prepare(None, "process")
