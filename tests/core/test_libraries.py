"""What third-party libraries do on a user's machine, and how it is prevented."""

import os
import subprocess
import sys

import pytest
import torch

from mnist_core.bundle import export
from mnist_core.models.convnet.net import ConvNet

USES = {
    "prediction": "open_model(folder, 'onnxruntime').predict(np.zeros((1, 28, 28), np.uint8))",
    "export": "export(load(folder)[0], folder / 'again', {}, learner=False)",
    "integers": "add_int8(folder, np.zeros((200, 28, 28), np.uint8))",
}
OFF = {
    "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "XDG_CACHE_HOME", "CI", "TF_BUILD", "BUILDKITE",
    "CIRCLECI", "TRAVIS", "JENKINS_URL", "TEAMCITY_VERSION", "CODEBUILD_BUILD_ID", "GITHUB_ACTIONS",
    "GITLAB_CI",
}  # fmt: skip
"""Variables with which ONNX Runtime itself reports nothing."""


@pytest.fixture
def bundle(tmp_path):
    """Export a small untrained network."""
    torch.manual_seed(0)
    folder = tmp_path / "bundle"
    export(ConvNet((8, 8)), folder, {}, learner=False)
    return folder


def left_by(program, home):
    """Return the files that a program's process leaves in its home, as on a user's machine."""
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in OFF}
    subprocess.run([sys.executable, "-c", program], env=environment | {"HOME": str(home)}, check=True)
    return [path.name for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize("use", USES)
def test_onnx_runtime_reports_nothing(bundle, tmp_path, use):
    """Its telemetry, which begins by keeping an id of the machine in ~/.cache, is off; by itself it is on."""
    program = (
        "from pathlib import Path; import numpy as np; from mnist_core import export, load, open_model; "
        f"from mnist_core.int8 import add_int8; folder = Path({str(bundle)!r}); {USES[use]}"
    )
    assert "deviceid" not in left_by(program, tmp_path / "ours")
    assert "deviceid" in left_by("import onnxruntime", tmp_path / "plain")
