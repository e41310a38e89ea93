"""A network or a bundle, and digits → probabilities.

`predict` is the reference, in torch. `open_model` opens a bundle by the faster way that this machine has: its
ONNX graph in ONNX Runtime, which imports no torch, or the network itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_core.cores import cores
from mnist_core.digits import CLASSES
from mnist_core.errors import BundleError, DataError
from mnist_core.manifest import ONNX, WEIGHTS, read_manifest, read_unchanged

if TYPE_CHECKING:
    import torch
    from onnxruntime import InferenceSession
    from torch import nn

Progress = Callable[[int, int, str], None]

BACKENDS = {"onnxruntime": ONNX, "torch": WEIGHTS}
"""The file of a bundle that each backend reads, beside the manifest."""


@dataclass(frozen=True)
class Model:
    """A bundle that is open for inference."""

    manifest: dict[str, Any]
    backend: str
    """`onnxruntime` or `torch`."""
    predict: Callable[..., NDArray[np.float32]]
    """Called as `predict(pixels, progress=…)`; what the function `predict` says holds here."""


def pick_backend(manifest: Mapping[str, Any]) -> str:
    """Give the backend that opens a bundle here: ONNX Runtime where the bundle has a graph for it and it can
    be imported, else torch.
    """
    if ONNX in manifest["files"]:
        try:
            import onnxruntime  # noqa: F401
        except ImportError:
            return "torch"
        return "onnxruntime"
    return "torch"


def open_model(folder: Path, backend: str | None = None) -> Model:
    """Open a bundle for inference, after the digest of the file that is read was checked.

    Args:
        folder: the bundle's; of its files the manifest is needed, and the one that `BACKENDS` names.
        backend: one of `BACKENDS`; without it, the one that `pick_backend` gives. Both give the same labels,
            and probabilities within 1e-4.

    Raises:
        BundleError: a file is missing or changed, or does not fit.
    """
    manifest = read_manifest(folder)
    backend = backend or pick_backend(manifest)
    if backend == "torch":
        from mnist_core.bundle import load

        return Model(manifest, backend, partial(predict, load(folder)[0]))
    session = _open_session(folder, manifest)
    return Model(manifest, backend, partial(_predict_in_session, session))


def _open_session(folder: Path, manifest: Mapping[str, Any]) -> InferenceSession:
    """Open a bundle's graph in ONNX Runtime. A run in it takes one thread: batches run side by side."""
    import onnxruntime

    content = read_unchanged(folder, ONNX, manifest)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no base of their own
        raise BundleError(
            f"{folder / ONNX} can not be opened by ONNX Runtime {onnxruntime.__version__} "
            f"({' '.join(str(error).split())}); install a newer one, or use load, which needs torch alone"
        ) from error
    ends = [end.name for end in (*session.get_inputs(), *session.get_outputs())]
    if ends != ["pixels", "logits"]:
        raise BundleError(f"{folder / ONNX} is no graph of pixels and logits but of {', '.join(ends)}")
    return session


def _predict_in_session(
    session: InferenceSession,
    pixels: np.ndarray,
    *,
    batch_size: int = 200,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Give the probabilities of the ten classes, as `predict` does, a batch on each core at a time.

    Whole batches on two threads took 1.3 s of CPU time for 28,000 digits where two threads inside each batch
    took 2.2 s, waiting for each other; 50 to 1,000 digits a batch are about as fast (tests/bench/LOG.md).
    """
    _check(pixels)

    def run(start: int) -> NDArray[np.float32]:
        part = np.ascontiguousarray(pixels[start : start + batch_size])
        (logits,) = session.run(None, {"pixels": part})
        likelihoods = np.exp(logits - logits.max(1, keepdims=True))
        return likelihoods / likelihoods.sum(1, keepdims=True)

    probabilities = np.empty((len(pixels), CLASSES), np.float32)
    starts = range(0, len(pixels), batch_size)
    with ThreadPoolExecutor(cores()) as pool:
        for start, part in zip(starts, pool.map(run, starts), strict=True):
            probabilities[start : start + len(part)] = part
            if progress is not None:
                progress(start + len(part), len(pixels), "predict")
    return probabilities


def predict(
    net: nn.Module,
    pixels: np.ndarray,
    *,
    batch_size: int = 500,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Give the probabilities of the ten classes; the label of a digit is their argmax.

    Args:
        net: turns pixels into logits; it is used in evaluation mode, and not changed.
        pixels: uint8 (N, 28, 28), 0 background, 255 full ink; N may be 0.
        batch_size: digits at a time. On two AVX2 cores 250 to 1,000 are about as fast as each other; 2,000
            took twice as long.
        device: where to compute.
        progress: called after every batch with digits done, digits in all, and "predict".

    Returns:
        float32 (N, 10), each row summing to 1.

    Raises:
        DataError: the pixels have another type or shape.
    """
    _check(pixels)
    import torch

    device = torch.device(device)
    # The copy keeps the caller's network where and as it is.
    net = copy.deepcopy(net).to(device).to(memory_format=torch.channels_last).eval()
    probabilities = np.empty((len(pixels), 10), np.float32)
    with torch.inference_mode():
        for start in range(0, len(pixels), batch_size):
            part = torch.from_numpy(np.array(pixels[start : start + batch_size])).to(device)
            probabilities[start : start + len(part)] = net(part).softmax(1).cpu().numpy()
            if progress is not None:
                progress(start + len(part), len(pixels), "predict")
    return probabilities


def _check(pixels: np.ndarray) -> None:
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (28, 28):
        raise DataError(f"pixels are {pixels.dtype} {pixels.shape}; a network takes uint8 (N, 28, 28)")
