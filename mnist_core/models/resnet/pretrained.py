"""torchvision's ImageNet weights of resnet18."""

from __future__ import annotations

import pickle
import sys
from contextlib import redirect_stdout
from pathlib import Path

import torch

from mnist_core.errors import ModelError


def check_pretrained() -> Path:
    """Fetch torchvision's ImageNet weights of resnet18 (45 MB) into torch's cache, and open them.

    Returns:
        The file. It is there whole or not at all: torch fetches beside it, checks the digest, and renames.

    Raises:
        ModelError: they cannot be fetched, or the file cannot be opened; the message names the file.
    """
    from torchvision.models import ResNet18_Weights

    weights = ResNet18_Weights.DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        with redirect_stdout(sys.stderr):  # torch prints that it downloads; stdout is for results
            weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        if file.exists():
            problem, remedy = "cannot be opened", "remove that file and try again"
        else:
            problem, remedy = "cannot be fetched", f"download {weights.url} to that path"
        raise ModelError(
            f"resnet18: the pretrained weights {file} {problem} ({error})",
            f"{remedy}, or train from scratch (pretrained=False)",
        ) from error
    return file
