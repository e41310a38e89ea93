"""The deployments in prefect.yaml, and the pools on a server."""

import asyncio
import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.ops import pools
from flows.ops.deployments import DEPLOYMENTS
from flows.ops.pools import POOLS, DeploymentError

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
        assert name in ("nightly", "train", "submit", "predict", "sweep")


def test_without_a_server_nothing_is_deployed(monkeypatch, tmp_path):
    """`make deployments` would start a temporary server, fill it, and end it: nobody would see them again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNIST_HOME", str(tmp_path / "home"))
    for name in ("PREFECT_API_URL", "PREFECT_HOME", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pools, "_create_pools", lambda *_: pytest.fail("a server was asked"))

    with pytest.raises(DeploymentError, match=r"no Prefect server is named.*PREFECT_API_URL"):
        pools.prepare(None, "process")


@pytest.fixture
def pool(prefect_api: str) -> Iterator[Callable[..., Any]]:
    """A function that changes the pool `gpu` of a server, if it is given something, and returns it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate

    with get_client(sync_client=True) as client:

        def change(kind: str = "", **values: Any) -> Any:
            if kind:
                client.create_work_pool(WorkPoolCreate(name="gpu", type=kind))
            elif values:
                client.update_work_pool("gpu", WorkPoolUpdate(**values))
            return client.read_work_pool("gpu")

        yield change
        for name in POOLS:
            if any(found.name == name for found in client.read_work_pools()):
                client.delete_work_pool(name)


def test_a_pool_that_a_worker_made_gets_the_limit_of_one_run(pool):
    """A worker that started first made it without; a limit that somebody chose stays."""
    assert pool("process").concurrency_limit is None

    asyncio.run(pools._create_pools(None, "process"))
    assert pool().concurrency_limit == 1
    pool(concurrency_limit=4)
    asyncio.run(pools._create_pools(None, "process"))
    assert pool().concurrency_limit == 4


def test_an_existing_pool_gets_the_new_template(pool, tmp_path):
    """A deployment's new images reach pools that exist already; a pool of another type is refused."""
    template = {"job_configuration": {"image": "new"}, "variables": {"type": "object", "properties": {}}}
    for name in POOLS:
        (tmp_path / f"{name}.json").write_text(json.dumps(template))
    pool("docker")

    asyncio.run(pools._create_pools(tmp_path, "docker"))
    assert pool().base_job_template == template
    with pytest.raises(DeploymentError, match=r"pool gpu is of type docker, not ecs.*work-pool delete gpu"):
        asyncio.run(pools._create_pools(tmp_path, "ecs"))
