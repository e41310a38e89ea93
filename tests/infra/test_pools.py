"""The ECS work pools, with Prefect's real ECS workers as processes and moto instead of AWS."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import boto3
import pytest

from flows.ops.pools import POOLS
from flows.ops.prefect_home import answers
from infra.pools import fill

ROOT = Path(__file__).parents[2]
ACCOUNT = "123456789012"
QUEUE = "mnist-nightly-tasks"
AWS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


def made(api: str, subnets: list[str], security_group: str = "sg-0123") -> dict[str, Any]:
    """Return values as Terraform's output `pool` has them."""
    return {
        "cluster": f"arn:aws:ecs:us-east-1:{ACCOUNT}:cluster/mnist-nightly",
        "region": "us-east-1",
        "name": "mnist-nightly",
        "predict_image": "registry.example/mnist-nightly/predict:0123abc",
        "train_image": "registry.example/mnist-nightly/train:0123abc",
        "job_role": f"arn:aws:iam::{ACCOUNT}:role/mnist-nightly-job",
        "execution_role": f"arn:aws:iam::{ACCOUNT}:role/mnist-nightly-execution-job",
        "kaggle_secret": f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:mnist-nightly/kaggle-abc",
        "prefect_secret": None,
        "prefect_login": f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:mnist-nightly/prefect-login-abc",
        "prefect_api_url": api,
        "log_group": "/mnist-nightly/job",
        "store": "s3://mnist-nightly/store",
        "subnets": subnets,
        "security_group": security_group,
        "spot_provider": "mnist-nightly-gpu-spot",
        "on_demand_provider": "mnist-nightly-gpu-on-demand",
        "gpu_seconds_max": 10800,
    }


class Cloud:
    """A cluster with one machine in moto, two pools on a Prefect server, and a worker process for each."""

    def __init__(self, aws: str, api: str, folder: Path) -> None:
        self.api, self.logs = api, folder
        options = {"endpoint_url": aws, "region_name": "us-east-1"}
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        self.ecs, self.ec2, self.sqs, self.scaling = (
            boto3.client(service, **options, **keys) for service in ("ecs", "ec2", "sqs", "autoscaling")
        )
        self._make_cluster()
        self.queue = self.sqs.create_queue(QueueName=QUEUE)["QueueUrl"]
        subnets = [subnet["SubnetId"] for subnet in self.ec2.describe_subnets()["Subnets"][:2]]
        group = self.ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
        self.made = made(api, subnets, group)
        self.ids: dict[str, UUID] = {}
        for pool in POOLS:
            self._make_pool(pool)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment |= AWS | {
            "AWS_ENDPOINT_URL": aws,
            "PREFECT_API_URL": api,
            "PREFECT_API_AUTH_STRING": "mnist:testing",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_INTEGRATIONS_AWS_ECS_OBSERVER_SQS_QUEUE_NAME": QUEUE,
            "PREFECT_INTEGRATIONS_AWS_ECS_OBSERVER_SQS_QUEUE_REGION": "us-east-1",
        }
        self.workers = [
            subprocess.Popen(
                [sys.executable, "-m", "prefect", "worker", "start", "--type", "ecs", "--pool", pool],
                env=environment,
                stdout=(folder / f"{pool}.log").open("w"),
                stderr=subprocess.STDOUT,
            )
            for pool in POOLS
        ]

    def _make_cluster(self) -> None:
        self.ecs.create_cluster(clusterName="mnist-nightly")
        image = self.ec2.describe_images()["Images"][0]["ImageId"]
        machine = self.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="g4dn.xlarge")
        document = {"instanceId": machine["Instances"][0]["InstanceId"], "instanceType": "g4dn.xlarge"}
        self.ecs.register_container_instance(
            cluster="mnist-nightly", instanceIdentityDocument=json.dumps(document)
        )

    def _make_pool(self, pool: str) -> None:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import WorkPoolCreate

        with get_client(sync_client=True) as client:
            client.create_work_pool(
                WorkPoolCreate(name=pool, type="ecs", base_job_template=fill(pool, self.made))
            )
            flow = client.create_flow_from_name(f"flow-{pool}")
            self.ids[pool] = client.create_deployment(
                flow, pool, work_pool_name=pool, entrypoint="flows.train.train",
                job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}},
            )  # fmt: skip

    def run(self, pool: str, **job_variables: Any) -> UUID:
        """Schedule a run of the pool's deployment for now, and return its id."""
        from prefect.client.orchestration import get_client

        # moto gives every machine 4 cores and 8 GB, and all of these runs must fit on one.
        if pool == "gpu":
            job_variables |= {"cpu": 128, "memory": 256}

        with get_client(sync_client=True) as client:
            return client.create_flow_run_from_deployment(
                self.ids[pool], name=f"run-{uuid4().hex[:6]}", job_variables=job_variables
            ).id

    def task_of(self, run: UUID) -> dict[str, Any]:
        """Return the ECS task of a run, with its tags, once there is one."""

        def find() -> dict[str, Any] | None:
            arns = self.ecs.list_tasks(cluster="mnist-nightly")["taskArns"]
            arns += self.ecs.list_tasks(cluster="mnist-nightly", desiredStatus="STOPPED")["taskArns"]
            if not arns:
                return None
            tasks = self.ecs.describe_tasks(cluster="mnist-nightly", tasks=arns, include=["TAGS"])["tasks"]
            mine = {"key": "prefect.io/flow-run-id", "value": str(run)}
            return next((task for task in tasks if mine in task["tags"]), None)

        return wait_for(find, failed=lambda: f"{self.state_of(run)!r}\n{self.log_ends()}")

    def log_ends(self) -> str:
        """Return the last lines of each worker's log."""
        return "".join(log.read_text()[-4000:] for log in sorted(self.logs.iterdir()))

    def definition_of(self, task: dict[str, Any]) -> dict[str, Any]:
        """Return the task definition of a task."""
        answer = self.ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"])
        return dict(answer["taskDefinition"])

    def state_of(self, run: UUID) -> Any:
        """Return the state of a run."""
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            return client.read_flow_run(run).state

    def report_stop(self, task: dict[str, Any], **detail: Any) -> None:
        """Put the message into the queue that EventBridge sends when a task has stopped."""
        event = {
            "detail-type": "ECS Task State Change",
            "source": "aws.ecs",
            "id": str(uuid4()),
            "time": "2026-11-25T02:15:00Z",
            "detail": {
                "taskArn": task["taskArn"],
                "clusterArn": self.made["cluster"],
                "taskDefinitionArn": task["taskDefinitionArn"],
                "lastStatus": "STOPPED",
                "desiredStatus": "STOPPED",
                **detail,
            },
        }
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=json.dumps(event))

    def stop(self) -> None:
        """Stop the workers."""
        for worker in self.workers:
            worker.kill()
            worker.wait(10)


def wait_for(find: Callable[[], Any], failed: Callable[[], str] = lambda: "it did not happen in time") -> Any:
    """Return the first true value of `find`; Prefect repeats a lost request only after 60 s."""
    deadline = time.monotonic() + 150
    while not (found := find()):
        assert time.monotonic() < deadline, failed()
        time.sleep(0.3)
    return found


@pytest.fixture(scope="module")
def prefect_server(
    seed_prefect_home: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A Prefect server on a database of its own, so that only these tests have runs on it."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = seed_prefect_home(tmp_path_factory.mktemp("prefect"))
    settings = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env=os.environ | settings, stdout=log, stderr=log,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}/api"
    wait_for(lambda: answers(url))
    with temporary_settings({PREFECT_API_URL: url}):
        yield url
    server.terminate()
    server.wait(30)


@pytest.fixture(scope="module")
def cloud(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Two ECS workers on a Prefect server, with moto as AWS."""
    from moto.server import ThreadedMotoServer

    # Not the server of the S3 tests: that answers one request at a time, and a worker waits 20 s for the next
    # message of the queue.
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    folder = tmp_path_factory.mktemp("workers")
    cloud = Cloud("http://{}:{}".format(*server.get_host_and_port()), prefect_server, folder)
    yield cloud
    cloud.stop()
    server.stop()


def test_workers_that_start_first_leave_the_pool_to_the_deployment(
    prefect_server: str, tmp_path: Path
) -> None:
    """One that a worker made would have no limit; with the flag of Terraform's workers they wait for it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    flag, log = "--no-create-pool-if-not-found", tmp_path / "worker.log"
    assert flag in (ROOT / "infra" / "terraform" / "prefect.tf").read_text()
    command = [
        sys.executable,
        "-m",
        "prefect",
        "worker",
        "start",
        "--type",
        "process",
        "--pool",
        "later",
        flag,
    ]
    quick = {"PREFECT_API_URL": prefect_server, "PREFECT_WORKER_HEARTBEAT_SECONDS": "1"}
    with log.open("w") as lines, get_client(sync_client=True) as client:
        worker = subprocess.Popen(command, env=os.environ | quick, stdout=lines, stderr=lines)
        try:
            wait_for(lambda: "not found" in log.read_text(), failed=log.read_text)
            assert "later" not in [pool.name for pool in client.read_work_pools()]
            client.create_work_pool(WorkPoolCreate(name="later", type="process", concurrency_limit=1))
            wait_for(lambda: client.read_workers_for_work_pool("later"), failed=log.read_text)
            assert client.read_work_pool("later").concurrency_limit == 1
        finally:
            worker.kill()
            worker.wait(10)


def environment(task: dict[str, Any]) -> dict[str, str]:
    """Return the variables that RunTask gave to the container."""
    return {
        entry["name"]: entry["value"] for entry in task["overrides"]["containerOverrides"][0]["environment"]
    }


def test_a_run_of_the_gpu_pool_asks_for_a_gpu_on_spot(cloud: Cloud) -> None:
    """The task definition has GPU, roles, secret, log, image; RunTask has spot, cluster and command."""
    task = cloud.task_of(cloud.run("gpu"))
    definition = cloud.definition_of(task)
    container = definition["containerDefinitions"][0]

    assert container["resourceRequirements"] == [{"type": "GPU", "value": "1"}]
    assert container["image"] == cloud.made["train_image"]
    assert {entry["name"]: entry["valueFrom"] for entry in container["secrets"]} == {
        "KAGGLE_API_TOKEN": cloud.made["kaggle_secret"],
        "PREFECT_API_AUTH_STRING": cloud.made["prefect_login"],
    }
    assert container["logConfiguration"]["options"]["awslogs-group"] == "/mnist-nightly/job"
    assert container["readonlyRootFilesystem"] is True
    assert container["mountPoints"][0]["containerPath"] == "/tmp"
    assert definition["requiresCompatibilities"] == ["EC2"]
    assert definition["taskRoleArn"] == cloud.made["job_role"]
    assert definition["executionRoleArn"] == cloud.made["execution_role"]
    assert task["capacityProviderName"] == "mnist-nightly-gpu-spot"
    assert task["clusterArn"].endswith("cluster/mnist-nightly")
    assert "launchType" not in task or task["launchType"] != "FARGATE"
    command = task["overrides"]["containerOverrides"][0]["command"]
    assert command == ["timeout", "--signal=KILL", "10800", "prefect", "flow-run", "execute"]


def test_a_run_that_found_no_spot_machine_can_go_on_demand(cloud: Cloud) -> None:
    """One job variable changes the capacity provider, and the task definition stays the same revision."""
    spot = cloud.task_of(cloud.run("gpu"))
    on_demand = cloud.task_of(cloud.run("gpu", capacity_provider="mnist-nightly-gpu-on-demand"))

    assert on_demand["capacityProviderName"] == "mnist-nightly-gpu-on-demand"
    assert on_demand["taskDefinitionArn"] == spot["taskDefinitionArn"]


def test_a_run_of_the_cpu_pool_goes_to_fargate(cloud: Cloud) -> None:
    """The small image on Fargate, in our subnets and security group, without a GPU."""
    task = cloud.task_of(cloud.run("cpu"))
    definition = cloud.definition_of(task)

    assert task["launchType"] == "FARGATE"
    assert definition["containerDefinitions"][0]["image"] == cloud.made["predict_image"]
    assert "resourceRequirements" not in definition["containerDefinitions"][0]
    assert (definition["networkMode"], definition["cpu"], definition["memory"]) == ("awsvpc", "2048", "8192")


@pytest.mark.parametrize("pool", POOLS)
def test_the_workers_own_settings_do_not_reach_the_job(cloud: Cloud, pool: str) -> None:
    """A job gets its own settings and its deployment's, and only what a run needs of the worker's."""
    got = environment(cloud.task_of(cloud.run(pool)))

    assert got["PREFECT_API_URL"] == cloud.api
    assert got["MNIST_KAGGLE"] == "live"
    assert got["MNIST_STORE"] == "s3://mnist-nightly/store"
    assert got["MNIST_DEVICE"] == {"cpu": "cpu", "gpu": "cuda"}[pool]
    assert got.get("MNIST_GPU_FALLBACK") == {"cpu": "mnist-nightly-gpu-on-demand", "gpu": None}[pool]
    assert got["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    leaked = [name for name in got if name.startswith(("PREFECT_WORKER", "PREFECT_INTEGRATIONS", "AWS_"))]
    assert leaked == ["AWS_DEFAULT_REGION"]
    assert not any("testing" in value for value in got.values())


def test_a_task_that_never_starts_is_a_crashed_run(cloud: Cloud) -> None:
    """If no machine was available, the run is Crashed, with the cause that ECS gave."""
    run = cloud.run("gpu")
    task = cloud.task_of(run)

    cloud.report_stop(task, stopCode="TaskFailedToStart", stoppedReason="RESOURCE:GPU", containers=[])

    state = wait_for(lambda: (s := cloud.state_of(run)) is not None and s.is_final() and s)
    assert state.is_crashed()
    assert "RESOURCE:GPU" in state.message


def test_a_killed_job_is_a_crashed_run(cloud: Cloud) -> None:
    """A run whose container ended with 137, as after its time limit, is Crashed and does not start again."""
    run = cloud.run("gpu")
    task = cloud.task_of(run)

    cloud.report_stop(
        task, stopCode="EssentialContainerExited", containers=[{"name": "prefect", "exitCode": 137}]
    )

    state = wait_for(lambda: (s := cloud.state_of(run)) is not None and s.is_final() and s)
    assert state.is_crashed()
    assert "non-zero exit code" in state.message


def test_the_time_limit_ends_a_job_that_ignores_a_stop_request(tmp_path: Path) -> None:
    """The pool's command kills a run after its limit, and passes on a stop request before that."""
    fake = tmp_path / "prefect"
    fake.write_text("#!/bin/sh\ntrap 'echo stopped; exit 0' TERM\necho ready\nwhile :; do sleep 0.1; done\n")
    fake.chmod(0o755)
    command = fill("gpu", made("http://127.0.0.1:4200/api", []))["job_configuration"]["command"]
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def start(cap_s: str) -> "subprocess.Popen[str]":
        words = command.replace("{{ cap_s }}", cap_s).split()
        return subprocess.Popen(words, env=path, stdout=subprocess.PIPE, text=True)

    capped, asked = start("1"), start("60")
    assert asked.stdout is not None
    assert asked.stdout.readline() == "ready\n"
    # A signal before `timeout` knows the number of the process that it started would end `timeout` alone.
    while Path(f"/proc/{asked.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        time.sleep(0.01)
    asked.terminate()
    assert capped.wait(60) == -9
    assert asked.communicate(timeout=60)[0] == "stopped\n"


def test_a_template_with_an_unknown_name_is_refused() -> None:
    """A name that Terraform's output does not have stops the deployment instead of reaching AWS as text."""
    incomplete = made("http://127.0.0.1:4200/api", [])
    del incomplete["kaggle_secret"]

    with pytest.raises(KeyError, match="kaggle_secret"):
        fill("gpu", incomplete)
