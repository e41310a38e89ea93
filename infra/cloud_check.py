"""`make cloud-check`: create and destroy the whole cloud setup on this machine, with moto instead of AWS.

    python -m infra.cloud_check

Terraform must be formatted and valid; checkov may find only what `CHECKOV_KNOWS` lists; everything is
applied; a second plan may change only what `MOTO_DIFFERS` lists; everything is destroyed. Needs `terraform`
on PATH; the AWS provider comes from where your own Terraform configuration says, checkov from PyPI by uv,
into an environment of its own. The rest stays on loopback. It cannot show that AWS accepts what moto
accepts, that machines come up, or that policies allow what they should.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.deploy_plan import PlanError, changes, check_plan

TERRAFORM = Path(__file__).parent / "terraform"
LOCK = ".terraform.lock.hcl"
"""The provider's version and checksums; a provider that has others is refused."""
STEP_S = 400
"""Time limit in seconds of one command."""

EMAIL = "budget@example.org"
VARIABLES = {
    "budget_email": EMAIL,
    "image_tag": "0123abc",
    "github_repository": "owner/mnist-nightly",
    "state_bucket": "owner-state",
    "destroy_data": "true",
}
CLOUD_URL = (
    "https://api.prefect.cloud/api/accounts/00000000-0000-0000-0000-000000000000"
    "/workspaces/00000000-0000-0000-0000-000000000000"
)

MOTO_DIFFERS = {
    ("aws_autoscaling_group.gpu", "max_instance_lifetime"): "moto does not store it",
    ("aws_ecs_service.server", "availability_zone_rebalancing"): "moto returns an empty text",
    ("aws_ecs_service.server", "enable_execute_command"): "moto does not store it",
    ("aws_ecs_service.worker", "availability_zone_rebalancing"): "moto returns an empty text",
    ("aws_vpc_security_group_ingress_rule.disk", "description"): "moto does not store it",
    ("aws_vpc_security_group_ingress_rule.server", "description"): "moto does not store it",
    ("aws_vpc_security_group_ingress_rule.dask_itself", "description"): "moto does not store it",
    ("aws_vpc_security_group_ingress_rule.dask_jobs", "description"): "moto does not store it",
    ("aws_ecs_service.dask_scheduler", "availability_zone_rebalancing"): "moto returns an empty text",
} | {
    ("aws_ecs_service.dask_worker", name): "moto does not store the strategy, so it would be made again"
    for name in (
        "availability_zone_rebalancing", "capacity_provider_strategy", "deployment_controller",
        "health_check_grace_period_seconds", "id", "launch_type", "platform_version", "propagate_tags",
        "tags", "triggers",
    )
}  # fmt: skip
"""(resource, attribute) that moto does not return as it was set, and why; any other difference fails."""

MOTO_LACKS: dict[str, dict[str, Any]] = {
    "AWSBudgetServiceGateway.DescribeSubscribersForNotification": {
        "Subscribers": [{"SubscriptionType": "EMAIL", "Address": EMAIL}]
    },
    "AWSBudgetServiceGateway.ListTagsForResource": {
        "ResourceTags": [
            {"Key": "Project", "Value": "mnist-nightly"},
            {"Key": "ManagedBy", "Value": "terraform"},
        ]
    },
}
"""Calls that moto 5.2 does not implement, with AWS's answers. (EFS's backup policy is another, in `Aws`.)"""

CHECKOV = "checkov==3.3.30"
OWN_KEYS = "encrypted with AWS's keys; an own key costs $1 a month and one more permission for each role"
NO_NAT = "not reachable from outside (no ingress rule); a NAT gateway costs more than everything else"
LOGS = "variable log_days (30): the results of a night stay in the store"
CHECKOV_KNOWS = {
    (
        "CKV_AWS_65",
        "aws_ecs_cluster.this",
    ): "Container Insights costs more than the night; Prefect shows the runs",
    ("CKV_AWS_88", "aws_launch_template.gpu"): NO_NAT,
    ("CKV_AWS_333", "aws_ecs_service.server"): NO_NAT,
    ("CKV_AWS_333", "aws_ecs_service.worker"): NO_NAT,
    ("CKV_AWS_333", "aws_ecs_service.dask_scheduler"): NO_NAT,
    ("CKV_AWS_333", "aws_ecs_service.dask_worker"): NO_NAT,
    ("CKV_AWS_136", "aws_ecr_repository.image"): OWN_KEYS,
    ("CKV_AWS_145", "aws_s3_bucket.store"): OWN_KEYS,
    ("CKV_AWS_149", "aws_secretsmanager_secret.kaggle"): OWN_KEYS,
    ("CKV_AWS_149", "aws_secretsmanager_secret.prefect"): OWN_KEYS,
    ("CKV_AWS_149", "aws_secretsmanager_secret.login"): OWN_KEYS,
    ("CKV_AWS_158", "aws_cloudwatch_log_group.this"): OWN_KEYS,
    ("CKV_AWS_297", "aws_scheduler_schedule.prune"): OWN_KEYS,
    ("CKV_AWS_338", "aws_cloudwatch_log_group.this"): LOGS,
    (
        "CKV_AWS_18",
        "aws_s3_bucket.store",
    ): "only one role writes, create-only; access logs would need a second bucket",
    (
        "CKV_AWS_144",
        "aws_s3_bucket.store",
    ): "versions can be trained again; a second region doubles the store",
    (
        "CKV2_AWS_62",
        "aws_s3_bucket.store",
    ): "nothing would consume the events; Prefect reports what a night did",
    ("CKV2_AWS_11", "aws_vpc.this"): "nothing comes in; flow logs of downloads cost more than they are worth",
    ("CKV2_AWS_57", "aws_secretsmanager_secret.kaggle"): "Kaggle has no call that creates a token",
    ("CKV2_AWS_57", "aws_secretsmanager_secret.prefect"): "a new key is created in Prefect Cloud by a person",
    ("CKV2_AWS_57", "aws_secretsmanager_secret.login"): "server and workers read it when they start; "
    "infra/README.md says how to rotate it",
}
"""(check, resource) that checkov reports, and why it is accepted; any other finding fails."""

Answer = Callable[..., Any]


class Aws:
    """moto's server, with AWS's answers to the few calls that moto 5.2 does not implement.

    Attributes:
        url: where it listens, on loopback.
    """

    def __init__(self) -> None:
        os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"  # an AWS managed policy is attached
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._app = DomainDispatcherApplication(create_backend_app)
        self._backup: dict[str, Any] = {}
        self._one_at_a_time = threading.Lock()  # moto is not thread-safe
        self._server = make_server("127.0.0.1", 0, self, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __call__(self, environ: dict[str, Any], start_response: Answer) -> Iterable[bytes]:
        """Answer one request."""
        known = MOTO_LACKS.get(environ.get("HTTP_X_AMZ_TARGET", ""))
        backup = environ["PATH_INFO"].endswith("/backup-policy")
        if known is not None or backup:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            if backup and environ["REQUEST_METHOD"] == "PUT":
                self._backup = json.loads(body)
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(known or self._backup).encode()]
        with self._one_at_a_time:
            return [b"".join(self._app(environ, start_response))]

    def stop(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def terraform_in_copy(endpoint: str) -> Iterator[Callable[..., str]]:
    """Yield a function that runs Terraform on a copy of the configuration, so that no state is left."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for file in (*TERRAFORM.glob("*.tf"), TERRAFORM / LOCK):
            if not file.name.endswith("_override.tf"):
                shutil.copy(file, folder)
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_VAR_"))
        }
        environment |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        environment |= {f"TF_VAR_{name}": value for name, value in VARIABLES.items()}
        environment |= {"TF_VAR_endpoint": endpoint, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}

        def run(*arguments: str, **variables: str) -> str:
            started = time.monotonic()
            done = subprocess.run(
                ["terraform", *arguments], cwd=folder, env=environment | variables, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=STEP_S, check=False,
            )  # fmt: skip
            if done.returncode:
                raise SystemExit(f"{done.stdout}\nterraform {' '.join(arguments)} failed")
            say(f"terraform {arguments[0]}: {time.monotonic() - started:.0f} s")
            return done.stdout

        yield run


def differences(plan: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Return what a plan would change by (resource, attribute); `*` stands for a whole resource."""
    found: dict[tuple[str, str], str] = {}
    for change in plan.get("resource_changes", []):
        actions, before, after = (change["change"][name] for name in ("actions", "before", "after"))
        resource = f"{change['type']}.{change['name']}"
        if actions in (["no-op"], ["read"]):
            continue
        if before is None or after is None:
            found[resource, "*"] = "/".join(actions)
            continue
        unknown = change["change"].get("after_unknown") or {}
        for name in before.keys() | after.keys() | unknown.keys():
            if before.get(name) != after.get(name) and not (name in unknown and "delete" not in actions):
                found[resource, name] = f"{before.get(name)!r} → {after.get(name)!r}"[:300]
    return found


def check(run: Callable[..., str], **variables: str) -> None:
    """Apply everything, plan again, destroy everything.

    Raises:
        SystemExit: a command failed, or the second plan has a difference that is not moto's.
    """
    run("apply", "-auto-approve", "-input=false", "-no-color", **variables)
    run("plan", "-input=false", "-no-color", "-out=second", **variables)
    plan = json.loads(run("show", "-json", "second", **variables))
    made = sum(change["mode"] == "managed" for change in plan["resource_changes"])
    check_tags(run, set(changes(plan)), **variables)
    found = differences(plan)
    for (resource, name), what in sorted(found.items()):
        why = MOTO_DIFFERS.get((resource, name))
        say(f"  {'moto' if why else 'NOT MOTO'}: {resource}.{name}: {why or what}")
    if others := found.keys() - MOTO_DIFFERS.keys():
        raise SystemExit(f"{len(others)} differences that MOTO_DIFFERS does not list")
    run("destroy", "-auto-approve", "-input=false", "-no-color", **variables)
    left = json.loads(run("show", "-json")).get("values")
    if left:
        raise SystemExit(f"destroy left {left}")
    say(f"{made} resources applied, planned again with {len(found)} differences (moto's), destroyed")


def check_tags(run: Callable[..., str], differing: set[str], **variables: str) -> None:
    """Check that another image is all that a tag needs to deploy, and that anything else is refused.

    Args:
        run: runs Terraform.
        differing: addresses of the resources that moto does not return as they were set.
        variables: of Terraform.

    Raises:
        SystemExit: a plan for another image changes more than a tag may, or a larger group is not refused.
    """

    def refusal(**changed: str) -> str:
        run("plan", "-input=false", "-no-color", "-out=tag", **variables, **changed)
        plan = json.loads(run("show", "-json", "tag", **variables))
        plan["resource_changes"] = [
            change for change in plan["resource_changes"] if change["address"] not in differing
        ]
        try:
            check_plan(plan)
        except PlanError as error:
            return str(error)
        return ""

    if why := refusal(TF_VAR_image_tag="4567def"):
        raise SystemExit(f"a tag cannot deploy another image: {why}")
    if "aws_cloudwatch_log_group.this" not in refusal(TF_VAR_log_days="90"):
        raise SystemExit("a tag is not refused that changes the logs")
    say("a tag deploys another image, and is refused when it changes more")


def installed_by_uv(package: str, program: str) -> list[str] | None:
    """Return the command of a program that uv installs from PyPI for itself; None if it cannot."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        return None
    command = [uv, "tool", "run", "--quiet", "--from", package, program]
    try:
        subprocess.run([*command, "--version"], check=True, capture_output=True, timeout=STEP_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return command


def lint() -> None:
    """Run checkov on the configuration, if it can be installed.

    Raises:
        SystemExit: it finds something that is not on the list.
    """
    checkov = installed_by_uv(CHECKOV, "checkov")
    if checkov is None:
        say(f"checkov: skipped, uv cannot install {CHECKOV} here")
        return
    arguments = ["--directory", str(TERRAFORM), "--framework", "terraform", "--skip-download", "--compact"]
    done = subprocess.run(
        [*checkov, *arguments, "--output", "json"],
        capture_output=True,
        text=True,
        timeout=STEP_S,
        check=False,
    )
    try:
        report = json.loads(done.stdout)
        failed = [
            (found["check_id"], found["resource"].split("[")[0], found)
            for found in report["results"]["failed_checks"]
        ]
    except (ValueError, KeyError, TypeError):
        raise SystemExit(f"checkov: {(done.stderr + done.stdout)[-2000:]}") from None
    others = [found for check, resource, found in failed if (check, resource) not in CHECKOV_KNOWS]
    for found in others:
        say(f"  {found['check_id']}: {found['resource']}: {found['check_name']} ({found['file_path']})")
    if others or report["summary"]["parsing_errors"]:
        raise SystemExit(f"checkov: {len(others)} findings that are not in CHECKOV_KNOWS")
    say(f"checkov: {report['summary']['passed']} checks passed, {len(failed)} findings have a stated reason")


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201


def main() -> None:
    """Check both ways to run Prefect: Prefect Cloud first, because it is smaller."""
    if shutil.which("terraform") is None:
        raise SystemExit("terraform is not on PATH; install 1.10 or newer: developer.hashicorp.com/terraform")
    subprocess.run(["terraform", "fmt", "-check", "-recursive", "-diff", str(TERRAFORM)], check=True)
    lint()
    aws = Aws()
    try:
        with terraform_in_copy(aws.url) as run:
            run("init", "-input=false", "-no-color", "-lockfile=readonly")
            run("validate", "-no-color")
            say("Prefect Cloud with a worker:")
            check(run, TF_VAR_prefect_cloud_api_url=CLOUD_URL)
            say("a server in the cluster, and Dask:")
            check(run, TF_VAR_dask_workers="1")
    finally:
        aws.stop()


if __name__ == "__main__":
    main()
