"""The ECS work pools: base job templates, in which Terraform's output replaces names.

terraform -chdir=infra/terraform output -json pool | python -m infra.pools FOLDER
"""

import json
import string
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def fill(pool: str, made: dict[str, Any]) -> dict[str, Any]:
    """Return the base job template of a pool.

    Args:
        pool: `cpu` or `gpu`.
        made: Terraform's output `pool`.

    Raises:
        KeyError: the template has a name that the output does not have.
    """
    return dict(_filled(json.loads((FOLDER / f"{pool}.json").read_text()), made))


def _filled(value: Any, made: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(part, made) for name, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, made) for part in value]
    if isinstance(value, str):
        # A name that is the whole text stands for a value of any type (list, number, null); else for a part.
        if value.startswith("$") and value[1:].isidentifier():
            return made[value[1:]]
        return string.Template(value).substitute(made)
    return value
