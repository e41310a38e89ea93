"""Locks, pool templates, Terraform, workflow and Makefile fit together."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.ops.pools import POOLS
from infra.cloud_check import CHECKOV_KNOWS, LOCK, MOTO_DIFFERS, differences
from infra.environment import UV

ROOT = Path(__file__).parents[2]
TERRAFORM = ROOT / "infra" / "terraform"


def locked(name: str) -> set[tuple[str, str]]:
    """Return packages and versions of a lock; dev.lock has some twice, by version of Python."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    return set(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["predict", "train"])
def test_an_images_lock_has_the_tested_versions_with_hashes(name: str) -> None:
    """An image has the versions that the tests ran on, and each file is pinned by its hash."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text()

    assert len(locked(name)) > 100
    assert locked(name) <= locked("dev")
    assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=[a-z])", text.strip()))


def test_the_cpu_image_has_no_cuda_and_no_training_library() -> None:
    """The image that predicts has neither CUDA libraries nor fastai, torchvision and pandas."""
    packages = {name for name, _ in locked("predict")}
    heavy = [name for name in packages if re.match(r"nvidia|cuda|triton|torch|fastai|pandas", name)]

    assert heavy == []
    assert {"prefect", "prefect-aws", "boto3", "kaggle"} <= packages


def test_no_image_gets_the_file_that_holds_all_labels() -> None:
    """Only what .dockerignore names goes into a build, and the practice server is not named."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]

    assert rules[0] == "*"
    assert not any("infra" in rule or rule in ("!.", "!**", "!*") for rule in rules)


@pytest.mark.parametrize("pool", POOLS)
def test_terraform_outputs_what_the_pools_need(pool: str) -> None:
    """Terraform's output `pool` has each name of a base job template."""
    output = (TERRAFORM / "outputs.tf").read_text().split('output "pool"')[1].split("\n}")[0]
    given = set(re.findall(r"^    (\w+) +=", output, re.MULTILINE))
    template = (ROOT / "infra" / "pools" / f"{pool}.json").read_text()

    assert set(re.findall(r"\$\{?(\w+)", template)) <= given


def test_no_secret_value_is_in_terraform() -> None:
    """Secrets are created empty: a value in the configuration could be read in the state."""
    text = "".join(path.read_text() for path in TERRAFORM.glob("*.tf"))

    assert "aws_secretsmanager_secret_version" not in text
    assert not re.search(r"AKIA[0-9A-Z]{16}|KGAT_", text)


def test_each_checkov_exception_has_its_resource() -> None:
    """No exception outlives its resource."""
    text = "".join(path.read_text() for path in TERRAFORM.glob("*.tf"))

    for _, resource in CHECKOV_KNOWS:
        kind, name = resource.split(".")
        assert f'resource "{kind}" "{name}"' in text


def test_no_security_group_lets_the_internet_in() -> None:
    """Each ingress rule names another of our security groups, and none an address."""
    rules = re.findall(
        r'resource "aws_vpc_security_group_ingress_rule".*?\n}',
        "".join(path.read_text() for path in TERRAFORM.glob("*.tf")),
        re.DOTALL,
    )

    assert len(rules) == 4
    assert all("referenced_security_group_id" in rule and "cidr" not in rule for rule in rules)


def test_dask_costs_nothing_unless_it_is_asked_for() -> None:
    """Its variable is 0, and without it there is no resource of its file."""
    text = (TERRAFORM / "dask.tf").read_text()
    variable = (TERRAFORM / "variables.tf").read_text().split('variable "dask_workers"')[1]

    assert re.search(r"default += (\d+)", variable)[1] == "0"  # type: ignore[index]
    assert "dask           = var.dask_workers > 0 ? 1 : 0" in text
    assert len(re.findall(r"^  count +=  ?local\.dask$", text, re.MULTILINE)) == text.count('resource "')


def change(before: Any, after: Any, *actions: str, **unknown: bool) -> dict[str, Any]:
    """Return a plan with one change, as `terraform show -json` prints it."""
    entry = {"actions": actions, "before": before, "after": after, "after_unknown": unknown}
    return {"resource_changes": [{"type": "aws_sqs_queue", "name": "tasks", "change": entry}]}


@pytest.mark.parametrize(
    ("plan", "found"),
    [
        (change({"delay": 0}, {"delay": 0}, "no-op"), set()),
        (change({"delay": 0}, {"delay": 5}, "update"), {("aws_sqs_queue.tasks", "delay")}),
        (change({"delay": 0}, None, "delete"), {("aws_sqs_queue.tasks", "*")}),
        (change({"url": "a"}, {}, "delete", "create", url=True), {("aws_sqs_queue.tasks", "url")}),
    ],
)
def test_a_second_plans_differences_are_found(plan: dict[str, Any], found: set[tuple[str, str]]) -> None:
    """A changed, a removed and a replaced resource are found, and moto's exceptions do not hide them."""
    assert differences(plan).keys() == found
    assert not found & MOTO_DIFFERS.keys()


def test_the_workflow_runs_make_targets() -> None:
    """Each step of ours is a make target that exists; only the deploy job may request AWS's token."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    steps = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]

    assert {step.split()[1] for step in steps} <= targets
    run = {step.split()[1] for step in steps}
    assert run == {"check", "lock-check", "test", "image", "cloud-check", "actions-check", "deploy"}
    assert workflow["permissions"] == {"contents": "read"}
    writing = [name for name, job in workflow["jobs"].items() if "permissions" in job]
    assert writing == ["deploy"]
    assert workflow["jobs"]["deploy"]["if"] == "github.ref_type == 'tag'"
    assert "aws-access-key-id" not in json.dumps(workflow)


def test_no_tool_of_the_deploying_job_floats() -> None:
    """Actions are named by digest, packages by hash; a token is in no environment but that of its step."""
    workflows = [path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml")]
    used = [use for text in workflows for use in re.findall(r"uses: (\S+)", text)]
    deploy = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["deploy"]

    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", use) for use in used)
    assert "--require-hashes" in (ROOT / "infra" / "deploy.sh").read_text()
    assert [step["run"] for step in deploy["steps"] if "secrets." in json.dumps(step)] == ["make deploy"]
    assert "secrets." not in json.dumps(deploy | {"steps": []})


def test_one_version_of_uv_is_installed_everywhere() -> None:
    """By `make setup` and in the images."""
    assert f"ARG UV={UV.partition('==')[2]}\n" in (ROOT / "Dockerfile").read_text()


def test_terraforms_provider_has_checksums_for_each_platform() -> None:
    """Other files than the ones that were checked are refused, on each of the maker's platforms."""
    lock = (TERRAFORM / LOCK).read_text()

    assert 'version     = "5.100.0"' in lock
    assert len(re.findall(r'"zh:[0-9a-f]{64}"', lock)) == 15
    assert LOCK not in (ROOT / ".gitignore").read_text()


def test_images_and_tasks_have_one_architecture() -> None:
    """An image for ARM would end with "exec format error" once its tag is spent."""
    tasks = "".join(path.read_text() for path in TERRAFORM.glob("*.tf"))
    templates = [(ROOT / "infra" / "pools" / f"{pool}.json").read_text() for pool in POOLS]

    assert "PLATFORM=linux/amd64 infra/image.sh" in (ROOT / "infra" / "deploy.sh").read_text()
    assert tasks.count('cpu_architecture        = "X86_64"') == tasks.count(
        'resource "aws_ecs_task_definition"'
    )
    assert all('"cpuArchitecture": "X86_64"' in template for template in templates)


def test_githubs_role_may_forward_a_port_and_open_no_shell() -> None:
    """Else a session without a document is allowed too, which is a root shell in the server's task."""
    statement = (TERRAFORM / "github.tf").read_text().split('"ReachPrefect"')[1].split('dynamic "')[0]

    assert "AWS-StartPortForwardingSession" in statement
    assert re.search(r'"BoolIfExists"\s+variable = "ssm:SessionDocumentAccessCheck"', statement)
