"""What a tag of the repository may deploy.

    python -m infra.deploy_plan PLAN     a file with what `terraform show -json` says of a plan

The role of GitHub's job may replace task definitions and update services (terraform/github.tf). A plan that
changes more would be refused by AWS half-way, after a part of it was applied: it is refused here, whole.
"""

import json
import sys
from pathlib import Path
from typing import Any

from mnist_core.errors import MnistError

DEPLOYED = ("aws_ecs_task_definition", "aws_ecs_service")
"""Types of the resources that a tag changes."""


class PlanError(MnistError):
    """A plan changes what a person applies."""


def changes(plan: dict[str, Any]) -> dict[str, str]:
    """Return what a plan does by the address of the resource; what it leaves or only reads is left out."""
    found = {change["address"]: change["change"]["actions"] for change in plan.get("resource_changes", [])}
    return {
        address: "/".join(actions)
        for address, actions in found.items()
        if actions not in (["no-op"], ["read"])
    }


def check_plan(plan: dict[str, Any]) -> None:
    """Check that a plan changes only what a tag deploys.

    Raises:
        PlanError: it changes more; the message names the resources.
    """
    others = [
        f"{address} ({action})"
        for address, action in changes(plan).items()
        if address.split(".")[0] not in DEPLOYED
    ]
    if others:
        raise PlanError(
            f"a tag may not change {', '.join(sorted(others))}",
            "run `make deploy` on your machine first; if it changes nothing there, the variable TFVARS on "
            "GitHub differs from your terraform.tfvars",
        )


def main(arguments: list[str]) -> None:
    """Check the plan in a file; an error is one line and exit 1."""
    try:
        check_plan(json.loads(Path(arguments[0]).read_text()))
    except PlanError as error:
        raise SystemExit(f"deploy: {error}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
