"""The docker and kubernetes pools, with Prefect's real workers and a stand-in for Kubernetes' API."""

import asyncio
import copy
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows.ops.pools import POOLS
from infra.pools import PoolError, fill, values_of
from infra.pools.__main__ import main

KUBERNETES = "1.33"
"""Version whose schemas count: the oldest that its makers still keep up."""
MISPLACED = ("completions", "parallelism")
"""Fields that Prefect's worker insists on in the pod's specification; they belong one level above."""


class Cluster:
    """A stand-in for Kubernetes' API that takes jobs."""

    def __init__(self, folder: Path) -> None:
        self.jobs: list[tuple[str, dict[str, Any]]] = []
        jobs = self.jobs

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                jobs.append((self.path, copy.deepcopy(job)))
                job["metadata"] |= {"name": f"{job['metadata']['generateName']}x", "uid": "1"}
                answer = json.dumps(job).encode()
                self.send_response(201)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Leave the terminal alone."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        named = {"name": "here"}
        self.config = folder / "kubeconfig"
        self.config.write_text(
            json.dumps(
                {
                    "apiVersion": "v1", "kind": "Config", "current-context": "here",
                    "clusters": [named | {"cluster": {"server": f"http://127.0.0.1:{self._server.server_port}"}}],
                    "users": [named | {"user": {}}],
                    "contexts": [named | {"context": {"cluster": "here", "user": "here"}}],
                }
            )
        )  # fmt: skip

    def stop(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster that Prefect's worker finds by its configuration."""
    pytest.importorskip("kubernetes_asyncio")
    made = Cluster(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(made.config))
    monkeypatch.setattr(
        "kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(made.config)
    )
    monkeypatch.setenv("PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_ENABLED", "false")
    yield made
    made.stop()


async def submit(worker: Any, pool: str, template: dict[str, Any]) -> Any:
    """Make a pool and a deployment, and let a worker start a run of it; return what it started it with."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    async with get_client() as client:
        name = f"{worker.type}-{pool}"
        await client.create_work_pool(WorkPoolCreate(name=name, type=worker.type, base_job_template=template))
        flow = await client.create_flow_from_name(f"flow-{name}")
        deployment = await client.create_deployment(
            flow, name, work_pool_name=name, entrypoint="flows.train.train",
            job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}},
        )  # fmt: skip
        run = await client.create_flow_run_from_deployment(deployment)
        try:
            async with worker(work_pool_name=name) as started:
                await started.get_and_submit_flow_runs()
        finally:
            await client.delete_flow_run(run.id)
            await client.delete_deployment(deployment)
            await client.delete_work_pool(name)


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    """Return the pod's specification of a job."""
    return dict(job["spec"]["template"]["spec"])


@pytest.mark.parametrize("pool", POOLS)
def test_the_job_that_kubernetes_gets_is_valid_and_confined(
    cluster: Cluster, prefect_api: str, monkeypatch: pytest.MonkeyPatch, pool: str
) -> None:
    """As Prefect's worker sends it: valid by Kubernetes' schemas; its secrets are names."""
    validate = pytest.importorskip("kubernetes_validate")
    worker = pytest.importorskip("prefect_kubernetes").KubernetesWorker
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "mnist:the-login")

    asyncio.run(
        submit(worker, pool, fill(pool, values_of("kubernetes", ["store=s3://b/store"]), "kubernetes"))
    )

    (path, job), *others = cluster.jobs
    assert others == []
    assert path == "/apis/batch/v1/namespaces/mnist-nightly/jobs"
    validate.validate(job, KUBERNETES)
    pod, strict = pod_of(job), copy.deepcopy(job)
    for name in MISPLACED:
        del strict["spec"]["template"]["spec"][name]
    validate.validate(strict, KUBERNETES, strict=True)
    assert "the-login" not in json.dumps(job)
    check_pod(pod, {"cpu": "predict", "gpu": "train"}[pool])
    assert job["spec"]["activeDeadlineSeconds"] == {"cpu": 22500, "gpu": 10800}[pool]
    asks_for_gpu = pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu")
    assert (asks_for_gpu, "tolerations" in pod) == {"cpu": (None, False), "gpu": (1, True)}[pool]


def check_pod(pod: dict[str, Any], image: str) -> None:
    """Check what each pod must have."""
    container = pod["containers"][0]
    given = {entry["name"]: entry.get("value") for entry in container["env"]}
    secret = {
        entry["name"]: entry["valueFrom"]["secretKeyRef"]
        for entry in container["env"]
        if "valueFrom" in entry
    }
    assert container["image"] == f"mnist-nightly:{image}"
    assert container["args"] == ["prefect", "flow-run", "execute"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
    assert secret["KAGGLE_API_TOKEN"] == {"name": "mnist-nightly", "key": "kaggle-api-token"}
    assert secret["PREFECT_API_AUTH_STRING"] == {
        "name": "mnist-nightly",
        "key": "prefect-login",
        "optional": True,
    }
    assert given["MNIST_STORE"] == "s3://b/store"
    assert given["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert given["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] == "reschedule"
    assert not {"PREFECT_HOME", "AWS_ENDPOINT_URL"} & given.keys()


@pytest.mark.parametrize("pool", POOLS)
def test_the_container_that_docker_gets_is_confined(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch, pool: str
) -> None:
    """As Prefect's worker asks for it: without root and capabilities; the token is a block's."""
    prefect_docker = pytest.importorskip("prefect_docker")
    from prefect.blocks.system import Secret

    asked: list[dict[str, Any]] = []
    worker = prefect_docker.DockerWorker

    def note(self: Any, configuration: Any) -> Any:
        asked.append(self._build_container_settings(self._client_of_docker, configuration))
        raise RuntimeError("noted")

    monkeypatch.setattr(worker, "_create_and_start_container", note)
    monkeypatch.setattr(worker, "_client_of_docker", Engine(), raising=False)
    Secret(value="KGAT_a").save("kaggle-api-token", overwrite=True)
    template = fill(pool, values_of("docker", []), "docker")

    asyncio.run(submit(worker, pool, template))

    (container,) = asked
    assert container["image"] == f"mnist-nightly:{ {'cpu': 'predict', 'gpu': 'train'}[pool] }"
    assert (container["user"], container["read_only"], container["cap_drop"]) == (
        "10001:10001",
        True,
        ["ALL"],
    )
    assert (container["mem_limit"], container["memswap_limit"], container["privileged"]) == (
        "8g",
        "8g",
        False,
    )
    assert container["volumes"] == ["mnist-nightly:/data"]
    assert container["environment"]["KAGGLE_API_TOKEN"] == "KGAT_a"
    assert "KGAT_a" not in json.dumps(template)
    assert ("device_requests" in container) == (pool == "gpu")


class Engine:
    """A Docker engine that tells its version."""

    def version(self) -> dict[str, str]:
        """Return it."""
        return {"Version": "28.0.0"}


def test_values_are_put_into_the_templates(tmp_path: Path) -> None:
    """By the command of the guides; lists and objects are JSON, and settings reach the jobs."""
    main(
        [
            str(tmp_path / "made"),
            "docker",
            "devices=[]",
            "kaggle=http://127.0.0.1:8765",
            "MNIST_MODEL=resnet18",
        ]
    )

    made = {pool: json.loads((tmp_path / "made" / f"{pool}.json").read_text()) for pool in POOLS}
    assert made["gpu"]["job_configuration"]["container_create_kwargs"]["device_requests"] == []
    assert made["cpu"]["job_configuration"]["env"]["MNIST_KAGGLE"] == "http://127.0.0.1:8765"
    assert made["gpu"]["job_configuration"]["env"]["MNIST_MODEL"] == "resnet18"
    assert "$" not in json.dumps(made)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("kubernetes", [], r"store is missing; give store=s3://BUCKET/store"),
        ("docker", ["shop=a"], r"'shop=a' is not NAME=VALUE; choose a name from api, "),
        ("docker", ["devices=all"], r"devices=all is not JSON; as in devices='\[\{"),
    ],
)
def test_a_wrong_value_is_named(kind: str, given: list[str], message: str) -> None:
    """Before anything reaches a server."""
    with pytest.raises(PoolError, match=message):
        values_of(kind, given)
