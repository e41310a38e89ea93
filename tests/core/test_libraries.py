"""What libraries of others do on a user's machine, and how it is prevented."""

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


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Export a small untrained network."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bundle")
    export(ConvNet((8, 8)), folder, {}, learner=False)
    return folder


@pytest.mark.parametrize("use", USES)
def test_onnx_runtime_tells_nobody_about_a_users_models(bundle, tmp_path, use):
    """Its telemetry, which begins by keeping an id of the machine in ~/.cache, is off."""
    program = (
        "from pathlib import Path; import numpy as np; from mnist_core import export, load, open_model; "
        f"from mnist_core.int8 import add_int8; folder = Path({str(bundle)!r}); {USES[use]}"
    )
    off = {"ORT_DISABLE_TELEMETRY", "CI", "XDG_CACHE_HOME"} | {
        name for name in os.environ if "GITHUB" in name
    }
    environment = {name: value for name, value in os.environ.items() if name not in off}

    subprocess.run([sys.executable, "-c", program], env=environment | {"HOME": str(tmp_path)}, check=True)

    assert not [
        path for path in tmp_path.rglob("*") if "onnxruntime" in path.name or "Microsoft" in path.parts
    ]
