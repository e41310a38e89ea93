"""What a competition has on Prefect's server: its deployments, and the names of what its runs leave.

Several competitions live on one server. One that is not built in has deployments of its own, with its name,
which carry its specification to every process that they start.
"""

import copy
from typing import TYPE_CHECKING, Any

from mnist_core.spec import SPECS

if TYPE_CHECKING:
    from flows.settings import Settings

SCHEDULED = "nightly/nightly"
"""The deployment that has a schedule."""
DEPLOYMENTS = (SCHEDULED, "nightly/smoke", "train/gpu", "submit/cpu", "predict/cpu", "sweep/cpu")
"""What prefect.yaml deploys."""
OF_A_DEPLOYMENT = ("MNIST_SPEC", "MNIST_PRACTICE_DATA")
"""Variables that the deployments of a competition that is not built in give to their runs."""
TAG = "mnist"
"""Every deployment of this job has it."""


def own_name(name: str, competition: str) -> str:
    """Return what something on the server is called for a competition.

    Example:
        >>> own_name("train/gpu", "letters"), own_name("train/gpu", "digit-recognizer")
        ('train/gpu-letters', 'train/gpu')
    """
    return name if competition in SPECS else f"{name}-{competition.lower()}"


def competition_of(namespace: str) -> str:
    """Return the competition of a namespace."""
    return namespace.split("/")[1]


def deployments_of(competition: str) -> tuple[str, ...]:
    """Return the names of a competition's deployments, the scheduled one first."""
    return tuple(own_name(name, competition) for name in DEPLOYMENTS)


def definitions_of(prefect_yaml: dict[str, Any], settings: "Settings") -> dict[str, Any]:
    """Return the content of prefect.yaml for the competition of these settings.

    Args:
        prefect_yaml: what the file says.
        settings: with a specification; its text goes into the variables of every run, because a file of this
            machine need not be where that runs.
    """
    found = copy.deepcopy(prefect_yaml)
    if settings.spec is None:
        return found
    competition = settings.competition
    variables = {"MNIST_SPEC": settings.spec.text, "MNIST_COMPETITION": competition}
    if settings.labelled is not None:
        variables["MNIST_PRACTICE_DATA"] = str(settings.labelled.absolute())
    found.pop("definitions", None)
    for deployment in found["deployments"]:
        words = f"Competition {competition}. {deployment['description']}"
        for name in (
            "/artifacts/key/history",
            "/artifacts/key/scorecard",
            "/artifacts/key/sweep",
            "`train/gpu",
        ):
            words = words.replace(name, own_name(name, competition))
        job = copy.deepcopy(deployment["work_pool"]["job_variables"])  # the entries share one object
        job["env"] |= variables
        deployment["work_pool"]["job_variables"] = job
        deployment |= {
            "name": own_name(deployment["name"], competition),
            "tags": [*deployment["tags"], competition],
            "description": words,
        }
    return found
