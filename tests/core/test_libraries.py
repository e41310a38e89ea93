"""What third-party libraries do on a user's machine, and how it is prevented."""

import os
import subprocess
import sys

OFF = {
    "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "XDG_CACHE_HOME", "CI", "TF_BUILD", "BUILDKITE",
    "CIRCLECI", "TRAVIS", "JENKINS_URL", "TEAMCITY_VERSION", "CODEBUILD_BUILD_ID", "GITHUB_ACTIONS",
    "GITLAB_CI",
}  # fmt: skip
"""Variables with which ONNX Runtime itself reports nothing."""


PROGRAM = """
import sys
from pathlib import Path
import numpy as np
import torch
from mnist_core import export, open_model
from mnist_core.int8 import add_int8
from mnist_core.models.convnet.net import ConvNet
folder = Path(sys.argv[1])
export(ConvNet((8, 8)), folder, {}, learner=False)
add_int8(folder, np.zeros((200, 28, 28), np.uint8))
open_model(folder).predict(np.zeros((1, 28, 28), np.uint8))
"""
LIGHT = """
import sys
from pathlib import Path
from mnist_core import open_model
assert "torch" not in sys.modules and open_model(Path(sys.argv[1])).backend == "int8"
"""


def left_by(program, home, *arguments):
    """Return the files that a program's process leaves in its home, as on a user's machine."""
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in OFF}
    command = [sys.executable, "-c", program, *arguments]
    subprocess.run(command, env=environment | {"HOME": str(home)}, check=True)
    return [path.name for path in home.rglob("*") if path.is_file()]


def test_onnx_runtime_reports_nothing(tmp_path):
    """Its telemetry, which begins by keeping an id of the machine in ~/.cache, is off; by itself it is on."""
    bundle = str(tmp_path / "bundle")

    assert "deviceid" not in left_by(PROGRAM, tmp_path / "made", bundle)
    assert "deviceid" not in left_by(LIGHT, tmp_path / "opened", bundle)
    assert "deviceid" in left_by("import onnxruntime", tmp_path / "plain")
