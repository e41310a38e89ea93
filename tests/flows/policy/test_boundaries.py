"""The policy is pure: importing it brings in nothing that acts."""

import subprocess
import sys
from pathlib import Path

import pytest

import flows.policy

MODULES = sorted(path.stem for path in Path(flows.policy.__file__).parent.glob("*.py"))
ACTS = (
    "prefect",
    "kaggle",
    "boto3",
    "requests",
    "flows.store",
    "flows.registry",
    "flows.kaggle",
    "flows.run",
)


@pytest.mark.parametrize("module", MODULES)
def test_policy_imports_nothing_that_acts(module):
    """Neither Prefect nor the store, the registry or Kaggle, not even through another module."""
    name = "flows.policy" if module == "__init__" else f"flows.policy.{module}"
    code = f"import sys, {name}; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = done.stdout.split()
    assert name in loaded
    assert [found for found in loaded if found in ACTS] == []
