"""The work pools of other types than `process`: base job templates, in which values replace names.

terraform -chdir=infra/terraform output -json pool | python -m infra.pools FOLDER
python -m infra.pools FOLDER docker|kubernetes [NAME=VALUE…]
"""

import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mnist_core.errors import MnistError

FOLDER = Path(__file__).parent
ECS = "ecs"
GPU = [{"driver": "nvidia", "count": 1, "capabilities": [["gpu"]]}]
DEFAULTS: dict[str, dict[str, Any]] = {
    "docker": {
        "api": "http://127.0.0.1:4200/api",
        "predict_image": "mnist-nightly:predict",
        "train_image": "mnist-nightly:train",
        "pull": "Never",
        "kaggle": "live",
        "token": "KAGGLE_API_TOKEN",
        "store": "/data/store",
        "volume": "mnist-nightly",
        "network": "host",
        "devices": GPU,
    },
    "kubernetes": {
        "api": "http://prefect-server.prefect.svc:4200/api",
        "predict_image": "mnist-nightly:predict",
        "train_image": "mnist-nightly:train",
        "pull": "IfNotPresent",
        "kaggle": "live",
        "token": "KAGGLE_API_TOKEN",
        "store": None,
        "endpoint": None,
        "region": "us-east-1",
        "namespace": "mnist-nightly",
        "secret": "mnist-nightly",
        "service_account": "default",
        "gpu_nodes": {},
    },
}
"""Values by the type of the pool; None: it must be given, if it is needed."""
NEEDED = {"kubernetes": {"store": "s3://BUCKET/store"}}
"""Values that must be given, with an example."""


class PoolError(MnistError):
    """A value of a pool's template is missing or unknown."""


def values_of(kind: str, given: Iterable[str]) -> dict[str, Any]:
    """Return the values of a type's templates; `settings` are variables of the jobs.

    Args:
        kind: `docker` or `kubernetes`.
        given: NAME=VALUE, of which lists and objects are JSON, or MNIST_NAME=VALUE for a setting.

    Raises:
        PoolError: a name is unknown, or one that must be given is missing.
    """
    values = dict(DEFAULTS[kind])
    settings = values["settings"] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if equals and name.startswith("MNIST_"):
            settings[name] = value
            continue
        if not equals or name not in values:
            raise PoolError(f"{text!r} is not NAME=VALUE", f"choose a name from {', '.join(DEFAULTS[kind])}")
        is_json = not isinstance(values[name], str | None)
        try:
            values[name] = json.loads(value) if is_json else value
        except ValueError:
            raise PoolError(
                f"{name}={value} is not JSON", f"as in {name}='{json.dumps(values[name])}'"
            ) from None
    for name, example in NEEDED.get(kind, {}).items():
        if values[name] is None:
            raise PoolError(f"{name} is missing", f"give {name}={example}")
    return values


def fill(pool: str, made: dict[str, Any], kind: str = ECS) -> dict[str, Any]:
    """Return the base job template of a pool.

    Args:
        pool: `cpu` or `gpu`.
        made: the values: for `ecs` Terraform's output `pool`, else of `values_of`.
        kind: type of the pool.

    Raises:
        KeyError: the template has a name that is not among the values.
    """
    folder = FOLDER if kind == ECS else FOLDER / kind
    template = dict(_filled(json.loads((folder / f"{pool}.json").read_text()), made))
    template["job_configuration"]["env"] |= made.get("settings", {})
    return template


def _filled(value: Any, made: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {string.Template(name).substitute(made): _filled(part, made) for name, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, made) for part in value]
    if isinstance(value, str):
        # A name that is the whole text stands for a value of any type (list, number, null); else for a part.
        if value.startswith("$") and value[1:].isidentifier():
            return made[value[1:]]
        return string.Template(value).substitute(made)
    return value
