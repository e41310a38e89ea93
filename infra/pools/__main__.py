"""`python -m infra.pools FOLDER`: Terraform's output `pool` on standard input, base job templates out."""

import json
import sys
from pathlib import Path

from flows.ops.pools import POOLS
from infra.pools import fill


def main() -> None:
    """Write `cpu.json` and `gpu.json` into a folder."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: terraform output -json pool | python -m infra.pools FOLDER")
    made = json.load(sys.stdin)
    for pool in POOLS:
        (Path(sys.argv[1]) / f"{pool}.json").write_text(json.dumps(fill(pool, made), indent=1) + "\n")


if __name__ == "__main__":
    main()
