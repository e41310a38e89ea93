"""The deployments in prefect.yaml, without a server."""

from importlib.util import find_spec
from pathlib import Path

import yaml

from flows.ops.pools import DEPLOYMENTS, POOLS

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
