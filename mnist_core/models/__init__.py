"""The models by name. Each is a module with `PRESETS` (recipes by name), `fit` and `build`."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from torch import nn

from mnist_core.errors import ModelError
from mnist_core.models import convnet, ensemble, regression, resnet, scratch

MODELS: dict[str, ModuleType] = {
    "convnet": convnet,
    "ensemble": ensemble,
    "resnet18": resnet,
    "scratch": scratch,
    "scratch-regression": regression,
}


def find(model: str) -> ModuleType:
    """Give the module of a model.

    Raises:
        ModelError: there is none of that name; the message lists those there are.
    """
    if model not in MODELS:
        near = get_close_matches(str(model), MODELS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ModelError(f"there is no model {model!r}, only {', '.join(MODELS)}{hint}")
    return MODELS[model]


def build(manifest: Mapping[str, Any]) -> nn.Module:
    """Make the untrained network that a manifest names, in plain torch.

    Args:
        manifest: `model`, one of `MODELS`, and `sizes`, what a network of it carries as `net.sizes`.

    Returns:
        A module that turns pixels uint8 (N, 28, 28) into logits float32 (N, 10), in training mode, on the
        CPU.

    Raises:
        ModelError: the model is unknown, or the sizes are none of it.
    """
    module = find(manifest["model"])
    try:
        return module.build(manifest["sizes"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(f"{manifest['model']} has no sizes {manifest['sizes']!r} ({error!r})") from error
