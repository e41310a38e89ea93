"""Digits in, predictions out: read, train, evaluate, export and use digit recognisers.

    from mnist_core import export, fit, open_model, read_test, read_train

    net = fit(read_train(Path("train.csv")), "convnet", "fast", seed=1)
    export(net, Path("bundle"), facts={})

    model = open_model(Path("bundle"))
    labels = model.predict(read_test(Path("test.csv")).pixels).argmax(1)

A name is imported when it is first used, since torch takes seconds to import and most names do not need it.
For the same reason, heavy libraries are imported inside functions wherever a module is useful without them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

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
    "manifest": ("Manifest", "read_manifest"),
    "models.base": ("build", "kinds"),
    "spec": ("DIGIT_RECOGNIZER", "CompetitionSpec"),
    "submission": ("to_csv",),
    "training": ("fit", "pick_device"),
}
"""The public names, by module."""
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

__all__ = ["__version__", *_MODULE_OF]

if TYPE_CHECKING:  # the same names for type checkers, which read no dictionary; a test compares both
    from mnist_core.bundle import export as export
    from mnist_core.bundle import load as load
    from mnist_core.bundle import load_learner as load_learner
    from mnist_core.bundle import to_learner as to_learner
    from mnist_core.digits import Digits as Digits
    from mnist_core.digits import read_test as read_test
    from mnist_core.digits import read_train as read_train
    from mnist_core.digits import write_csv as write_csv
    from mnist_core.drawing import sheet as sheet
    from mnist_core.errors import BundleError as BundleError
    from mnist_core.errors import DataError as DataError
    from mnist_core.errors import MnistError as MnistError
    from mnist_core.errors import ModelError as ModelError
    from mnist_core.errors import SubmissionError as SubmissionError
    from mnist_core.evaluation import Comparison as Comparison
    from mnist_core.evaluation import Evaluation as Evaluation
    from mnist_core.evaluation import calibrate as calibrate
    from mnist_core.evaluation import compare as compare
    from mnist_core.evaluation import evaluate as evaluate
    from mnist_core.folders import read_digits as read_digits
    from mnist_core.folders import read_pngs as read_pngs
    from mnist_core.folders import write_pngs as write_pngs
    from mnist_core.folds import assign_folds as assign_folds
    from mnist_core.images import from_image as from_image
    from mnist_core.images import read_image as read_image
    from mnist_core.images import to_fastai as to_fastai
    from mnist_core.images import to_pil as to_pil
    from mnist_core.inference import Model as Model
    from mnist_core.inference import open_model as open_model
    from mnist_core.inference import predict as predict
    from mnist_core.manifest import Manifest as Manifest
    from mnist_core.manifest import read_manifest as read_manifest
    from mnist_core.models.base import build as build
    from mnist_core.models.base import kinds as kinds
    from mnist_core.spec import DIGIT_RECOGNIZER as DIGIT_RECOGNIZER
    from mnist_core.spec import CompetitionSpec as CompetitionSpec
    from mnist_core.submission import to_csv as to_csv
    from mnist_core.training import fit as fit
    from mnist_core.training import pick_device as pick_device


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # from now on a plain attribute
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
