"""`python -m infra.pools FOLDER [TYPE [NAME=VALUE…]]`: write base job templates; for ecs from Terraform."""

import json
import sys
from pathlib import Path

from flows.ops.pools import POOLS
from infra.pools import DEFAULTS, ECS, PoolError, fill, values_of

USAGE = """usage: terraform output -json pool | python -m infra.pools FOLDER
       python -m infra.pools FOLDER docker|kubernetes [NAME=VALUE…]"""


def main(arguments: list[str]) -> None:
    """Write `cpu.json` and `gpu.json` into a folder."""
    kind = arguments[1] if len(arguments) > 1 else ECS
    if not arguments or kind not in (ECS, *DEFAULTS):
        raise SystemExit(USAGE)
    try:
        made = json.load(sys.stdin) if kind == ECS else values_of(kind, arguments[2:])
    except PoolError as error:
        raise SystemExit(f"failed: {error}") from None
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for pool in POOLS:
        (folder / f"{pool}.json").write_text(json.dumps(fill(pool, made, kind), indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
