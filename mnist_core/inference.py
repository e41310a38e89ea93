"""A network or a bundle, and digits → probabilities.

`predict` is the reference, in torch. `open_model` opens a bundle with the faster backend that this machine
has: its ONNX graph in ONNX Runtime, which imports no torch, or the network itself. Batch sizes were measured;
see tests/bench/LOG.md.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mnist_core._libraries import load_onnxruntime
from mnist_core.cores import cores, limit_torch, thread_map
from mnist_core.errors import BundleError, DataError, MnistError
from mnist_core.manifest import INT8, ONNX, WEIGHTS, Manifest, read_manifest, read_unchanged
from mnist_core.models.base import find
from mnist_core.progress import Progress
from mnist_core.spec import picture_shape

if TYPE_CHECKING:
    import torch
    from onnxruntime import InferenceSession

    from mnist_core.models.network import Network

BACKENDS = {"onnxruntime": ONNX, "torch": WEIGHTS, "int8": INT8}
"""The file of a bundle that each backend reads, beside the manifest. `int8` is ONNX Runtime, too."""


@dataclass(frozen=True)
class Model:
    """A bundle that is open for inference.

    Attributes:
        manifest: the bundle's.
        backend: one of `BACKENDS`.
        run: returns the logits, float32 (N, 10), or with `softmax` the probabilities; called as
            `run(pixels, softmax=…, batch_size=…, progress=…)`, `batch_size` None for the backend's own.
    """

    manifest: Manifest
    backend: str
    run: Callable[..., NDArray[np.float32]]

    def predict(
        self, pixels: np.ndarray, *, batch_size: int | None = None, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Return the probabilities of the classes, as the function `predict` does."""
        return self.run(pixels, softmax=True, batch_size=batch_size, progress=progress)

    def read_labels(self, pixels: np.ndarray, *, progress: Progress | None = None) -> NDArray[np.int64]:
        """Return the labels, int64 (N,), as the model itself reads them.

        They are the likeliest classes, except for a regression: it rounds its number, which may lie outside
        the classes.
        """
        logits = self.run(pixels, softmax=False, batch_size=None, progress=progress)
        return find(self.manifest.model).read_labels(logits)


def pick_backend(files: Collection[str]) -> str:
    """Return the backend that opens a bundle with these files here.

    It is ONNX Runtime if the bundle has a graph and it can be imported, else torch. A graph in integers is
    preferred.
    """
    if ONNX in files or INT8 in files:
        try:
            load_onnxruntime()
        except ImportError:
            return "torch"
        return "int8" if INT8 in files else "onnxruntime"
    return "torch"


def open_model(folder: Path, backend: str | None = None) -> Model:
    """Open a bundle for inference, after the digest of the file that is read was checked.

    Args:
        folder: the bundle's; of its files the manifest is needed, and the one that `BACKENDS` names.
        backend: one of `BACKENDS` (default: what `pick_backend` returns). All but `int8` give the same
            labels, and probabilities within 1e-4.

    Raises:
        BundleError: a file is missing or changed, or does not fit.
    """
    manifest = read_manifest(folder)
    backend = backend or pick_backend(manifest.files)
    if backend == "torch":
        from mnist_core.bundle import load

        return Model(manifest, backend, partial(_run_network, load(folder)[0]))
    session = _open_session(folder, BACKENDS[backend], manifest)
    return Model(manifest, backend, partial(_run_session, session, manifest))


def predict(
    net: Network,
    pixels: np.ndarray,
    *,
    batch_size: int = 500,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Return the probabilities of the classes; the label of a digit is their argmax.

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
    return _run_network(net, pixels, softmax=True, batch_size=batch_size, device=device, progress=progress)


def _run_network(
    net: Network,
    pixels: np.ndarray,
    *,
    softmax: bool,
    batch_size: int | None = None,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Run the digits through a network in torch: on a CPU a batch on each thread at a time."""
    _check(pixels, net.shape)
    limit_torch()
    import torch

    size = batch_size or 500
    device = torch.device(device)
    # The copy keeps the caller's network where and as it is.
    net = copy.deepcopy(net).to(device).to(memory_format=torch.channels_last).eval()

    def run(start: int) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits = net(torch.from_numpy(np.array(pixels[start : start + size])).to(device))
            found: NDArray[np.float32] = (logits.softmax(1) if softmax else logits).cpu().numpy()
        return found

    result = np.empty((len(pixels), net.class_count), np.float32)
    starts = range(0, len(pixels), size)
    side_by_side = min(torch.get_num_threads(), len(starts)) if device.type == "cpu" else 1
    with thread_map(max(1, side_by_side)) as run_each:
        for start, part in zip(starts, run_each(run, starts), strict=True):
            result[start : start + len(part)] = part
            if progress is not None:
                progress(start + len(part), len(pixels), "predict")
    return result


def _open_session(folder: Path, name: str, manifest: Manifest) -> InferenceSession:
    """Open a graph of a bundle in ONNX Runtime. A run in it takes one thread: batches run side by side."""
    onnxruntime = load_onnxruntime()
    content = read_unchanged(folder, name, manifest)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except MnistError:  # the caller's, such as the end of its time
        raise
    except Exception as error:  # its errors have no common base
        raise BundleError(
            f"{folder / name} cannot be opened by ONNX Runtime {onnxruntime.__version__} "
            f"({' '.join(str(error).split())})",
            "install a newer one, or use load, which needs torch alone",
        ) from error
    ends = [end.name for end in (*session.get_inputs(), *session.get_outputs())]
    if ends != ["pixels", "logits"]:
        raise BundleError(
            f"{folder / name} is not a graph of pixels and logits but of {', '.join(ends)}",
            "export the bundle again",
        )
    return session


def _run_session(
    session: InferenceSession,
    manifest: Manifest,
    pixels: np.ndarray,
    *,
    softmax: bool,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Run the digits through a graph, a batch on each core at a time.

    Whole batches on two threads took 1.3 s of CPU time for 28,000 digits; two threads inside each batch took
    2.2 s, waiting for each other. 50 to 1,000 digits a batch are about as fast.
    """
    _check(pixels, manifest.shape)
    size = batch_size or 200

    def run(start: int) -> NDArray[np.float32]:
        part = np.ascontiguousarray(pixels[start : start + size])
        (logits,) = session.run(None, {"pixels": part})
        if not softmax:
            return logits
        likelihoods = np.exp(logits - logits.max(1, keepdims=True))
        return likelihoods / likelihoods.sum(1, keepdims=True)

    result = np.empty((len(pixels), len(manifest.classes)), np.float32)
    starts = range(0, len(pixels), size)
    with ThreadPoolExecutor(cores()) as pool:
        for start, part in zip(starts, pool.map(run, starts), strict=True):
            result[start : start + len(part)] = part
            if progress is not None:
                progress(start + len(part), len(pixels), "predict")
    return result


def _check(pixels: np.ndarray, shape: tuple[int, int, int]) -> None:
    expected = picture_shape(shape)
    if pixels.dtype != np.uint8 or pixels.shape[1:] != expected:
        raise DataError(
            f"pixels are {pixels.dtype} {pixels.shape}",
            f"this network takes uint8 (N, {', '.join(map(str, expected))})",
        )
