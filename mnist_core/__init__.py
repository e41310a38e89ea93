"""Digits in, predictions out: read, train, evaluate, export and use digit recognisers.

    from mnist_core import export, fit, open_model, read_test, read_train

    net = fit(read_train(Path("train.csv")), "convnet", "fast", seed=1)
    export(net, Path("bundle"), facts={})

    model = open_model(Path("bundle"))
    labels = model.predict(read_test(Path("test.csv")).pixels).argmax(1)

Each name is imported when it is first used: torch takes seconds, and most of them do not need it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_core.bundle import export, load, load_learner, to_learner
    from mnist_core.digits import Digits, read_test, read_train, write_csv
    from mnist_core.drawing import sheet
    from mnist_core.errors import BundleError, DataError, MnistError, ModelError, SubmissionError
    from mnist_core.evaluation import Comparison, Evaluation, calibrate, compare, evaluate
    from mnist_core.folders import read_digits, read_pngs, write_pngs
    from mnist_core.folds import assign_folds
    from mnist_core.images import from_image, read_image, to_fastai, to_pil
    from mnist_core.inference import Model, open_model, predict
    from mnist_core.manifest import read_manifest
    from mnist_core.models.base import build, kinds
    from mnist_core.submission import to_csv
    from mnist_core.training import fit, pick_device

__version__ = "0.1.0"

__all__ = [
    "BundleError",
    "Comparison",
    "DataError",
    "Digits",
    "Evaluation",
    "MnistError",
    "Model",
    "ModelError",
    "SubmissionError",
    "__version__",
    "assign_folds",
    "build",
    "calibrate",
    "compare",
    "evaluate",
    "export",
    "fit",
    "from_image",
    "kinds",
    "load",
    "load_learner",
    "open_model",
    "pick_device",
    "predict",
    "read_digits",
    "read_image",
    "read_manifest",
    "read_pngs",
    "read_test",
    "read_train",
    "sheet",
    "to_csv",
    "to_fastai",
    "to_learner",
    "to_pil",
    "write_csv",
    "write_pngs",
]

_NAMES = {
    "bundle": ("export", "load", "load_learner", "to_learner"),
    "digits": ("Digits", "read_test", "read_train", "write_csv"),
    "drawing": ("sheet",),
    "errors": ("BundleError", "DataError", "MnistError", "ModelError", "SubmissionError"),
    "evaluation": ("Comparison", "Evaluation", "calibrate", "compare", "evaluate"),
    "folders": ("read_digits", "read_pngs", "write_pngs"),
    "folds": ("assign_folds",),
    "images": ("from_image", "read_image", "to_fastai", "to_pil"),
    "inference": ("Model", "open_model", "predict"),
    "manifest": ("read_manifest",),
    "models.base": ("build", "kinds"),
    "submission": ("to_csv",),
    "training": ("fit", "pick_device"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value  # the next time is a plain attribute
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
