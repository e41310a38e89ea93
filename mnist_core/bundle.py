"""The exported learner: a folder of four files.

    model.onnx            the network as a graph: what our own inference reads, in ONNX Runtime without torch
    weights.safetensors   its tensors: the same network in plain torch, to fall back on and to compare with
    learner.pkl           a fastai Learner around it, for people: `load_learner` opens it. It is missing if
                          the bundle was written without fastai; `to_learner` makes one
    manifest.json         which model, what it was trained on, and the digests of the others; written last

Opening a pickle can run any code. The digest that is checked before lies in the same folder, so it shows
damage and not forgery: open learner.pkl only from a folder or store that only people you trust can write to.
"""

from __future__ import annotations

import copy
import io
import json
import platform
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from mnist_core._learner_file import learner_file
from mnist_core._libraries import load_onnxruntime
from mnist_core.errors import BundleError, DataError, MnistError, ModelError
from mnist_core.images import array_to_fastai
from mnist_core.manifest import (
    INT8,
    LEARNER,
    MANIFEST,
    ONNX,
    WEIGHTS,
    Manifest,
    describe_file,
    read_manifest,
    read_unchanged,
    write_manifest,
)
from mnist_core.models.base import build
from mnist_core.models.network import Network
from mnist_core.spec import DIGIT_RECOGNIZER, CompetitionSpec, picture_shape

if TYPE_CHECKING:
    from fastai.learner import Learner


def export(
    net: Network,
    folder: Path,
    facts: dict[str, Any],
    *,
    learner: bool = True,
    templates: Path | None = None,
    spec: CompetitionSpec = DIGIT_RECOGNIZER,
) -> Manifest:
    """Write a bundle. An earlier manifest is removed first, and the new one written last.

    A bundle that was cut short therefore has none.

    Args:
        net: a network that `fit` or `build` made; it is not changed, and may lie on any device.
        folder: is made if need be.
        facts: what the manifest says besides (data_digest, seed, preset, valid_accuracy, created …).
        learner: whether to write learner.pkl, for which fastai is needed.
        templates: a folder that keeps what fastai writes, so that the next network of the same kind is
            written without it, in a tenth of the time.
        spec: the competition that the network was trained for; its classes name the logits, and
            the manifest keeps it.

    Returns:
        The manifest.

    Raises:
        BundleError: the network is not one for that competition; a fact has the name of one of the manifest's
            own fields, or is not a JSON value.
        ModelError: as `to_onnx`.
    """
    if (net.shape, net.class_count) != (spec.shape, spec.class_count):
        raise BundleError(
            f"the network reads pictures {net.shape} of {net.class_count} classes, and {spec.name} has "
            f"{spec.shape} and {spec.class_count}",
            "pass the spec of the digits that it was trained on",
        )
    classes = list(spec.classes)
    manifest = Manifest(
        net.name, net.sizes, classes, files={}, libraries=_libraries(), shape=net.shape, competition=spec
    )
    if taken := sorted(manifest.to_json().keys() & facts.keys()):
        raise BundleError(f"facts cannot be named {', '.join(taken)}", "the manifest has its own")
    try:
        facts = json.loads(json.dumps(facts, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise BundleError(f"facts must be plain JSON values: {error}") from error

    folder.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST, LEARNER, ONNX, INT8, WEIGHTS):
        (folder / name).unlink(missing_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    (folder / WEIGHTS).write_bytes(safetensors.torch.save(state))
    (folder / ONNX).write_bytes(to_onnx(net))
    if learner:
        decides = manifest.libraries | {"classes": json.dumps(classes)}
        content = learner_file(net, partial(_pickled, classes=classes), templates, decides)
        (folder / LEARNER).write_bytes(content)
    written = (*[LEARNER] * learner, ONNX, WEIGHTS)
    files = {name: describe_file((folder / name).read_bytes()) for name in written}
    manifest = replace(manifest, files=files, facts=facts)
    write_manifest(folder, manifest)
    return manifest


def _pickled(net: Network, classes: Sequence[str]) -> bytes:
    """Return the learner.pkl of a network, as fastai writes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder).resolve() / LEARNER
        to_learner(net, classes).export(path)
        return path.read_bytes()


def _libraries() -> dict[str, str]:
    """Return the versions of what a bundle is made with, by name; without what is not installed."""
    versions = {"python": platform.python_version()}
    for name in ("torch", "torchvision", "fastai", "numpy", "safetensors", "onnx"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def to_onnx(net: Network) -> bytes:
    """Return a network as an ONNX graph: `pixels` uint8 (N, 28, 28) to `logits` float32 (N, 10), for any N.

    The graph is what one batch runs through, preprocessing included, with batch normalisation folded into the
    convolution before it. A network that needs a batch's length must write `x.shape[0]`: `len(x)` would
    be a constant of the graph.

    Raises:
        ModelError: the graph gives other logits than the network.
    """
    onnxruntime = load_onnxruntime()
    own = copy.deepcopy(net).cpu().float().eval().requires_grad_(False)
    content = io.BytesIO()
    with warnings.catch_warnings():
        # About what a trace cannot follow; the comparison below finds what matters.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        # The exporter that replaces this one takes seconds for a convnet, this one 0.2.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            own,
            (torch.zeros(2, *picture_shape(net.shape), dtype=torch.uint8),),
            content,  # type: ignore[arg-type]  # dynamo=False also writes into open files
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_axes={"pixels": {0: "N"}, "logits": {0: "N"}},
            dynamo=False,
        )
    pixels = np.random.default_rng(0).integers(0, 256, (3, *picture_shape(net.shape)), np.uint8)
    try:
        (found,) = onnxruntime.InferenceSession(content.getvalue()).run(None, {"pixels": pixels})
    except MnistError:  # the caller's, such as the end of its time
        raise
    except Exception as error:
        raise ModelError(
            f"{net.name}: its ONNX graph does not run for another number of digits ({error})",
            "write x.shape[0] in its forward, not len(x)",
        ) from error
    if not np.allclose(found, own(torch.from_numpy(pixels)), rtol=1e-3, atol=1e-3):
        raise ModelError(
            f"{net.name}: its ONNX graph gives other logits than the network itself",
            "let its forward do the same for every batch",
        )
    return content.getvalue()


def load(folder: Path) -> tuple[Network, Manifest]:
    """Open a bundle for inference, in plain torch: neither fastai nor torchvision nor a pickle is needed.

    Returns:
        The network (pixels uint8 (N, 28, 28) to logits float32 (N, 10); on the CPU, in evaluation mode,
        without gradients) and the manifest.

    Raises:
        BundleError: a file is missing or changed, or the weights do not fit the model that the manifest
            names.
    """
    manifest = read_manifest(folder)
    content = read_unchanged(folder, WEIGHTS, manifest)
    try:
        net = build(manifest.model, manifest.sizes)
        net.load_state_dict(safetensors.torch.load(content))
    except (ModelError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise BundleError(
            f"{folder / WEIGHTS} does not fit the {manifest.model!r} {manifest.sizes} that {MANIFEST} names "
            f"({reason})",
            "export the bundle again",
        ) from error
    return net.eval().requires_grad_(False), manifest


def load_learner(folder: Path) -> Learner:
    """Open a bundle as the fastai Learner that it was exported as, on the CPU, after its digest was checked.

    Raises:
        BundleError: a file is missing or changed, or was pickled by libraries that do not fit those here.
    """
    from fastai.learner import load_learner as open_learner

    manifest = read_manifest(folder)
    if LEARNER not in manifest.files:
        raise BundleError(
            f"{folder} was exported without a {LEARNER}", "make one here with to_learner(load(folder)[0])"
        )
    content = read_unchanged(folder, LEARNER, manifest)
    with warnings.catch_warnings():
        # fastai warns that pickles can run anything; this one is, byte for byte, what `export` wrote.
        warnings.filterwarnings("ignore", message="load_learner` uses Python's insecure pickle module")
        try:
            return open_learner(io.BytesIO(content))
        except (AttributeError, ImportError, RuntimeError) as error:
            raise BundleError(
                f"{folder / LEARNER} cannot be opened by the libraries here ({error})",
                f"install those that {MANIFEST} lists, or use load, which needs torch alone",
            ) from error


class FromImages(nn.Module):
    """A network as fastai sees it: batches of pictures in [0, 1] in, logits out."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, float32 (N, 10), of pictures float32 (N, 1 or 3, 28, 28).

        Of grey ones the first channel is read. fastai has divided bytes by 255; times 255 and rounded they
        are the same bytes again.

        Raises:
            DataError: the pictures are not 28 × 28.
        """
        rows, columns, channels = self.net.shape
        if images.ndim != 4 or images.shape[2:] != (rows, columns) or images.shape[1] < channels:
            raise DataError(
                f"the network takes pictures (N, 3, {rows}, {columns}), not {tuple(images.shape)}",
                f"resize them to {columns} × {rows}",
            )
        planes = images.as_subclass(Tensor)
        pixels = planes[:, 0] if channels == 1 else planes.permute(0, 2, 3, 1)
        return self.net((pixels * 255).round().to(torch.uint8))


def to_learner(net: Network, classes: Sequence[str] = DIGIT_RECOGNIZER.classes) -> Learner:
    """Return a fastai Learner around a copy of a network, on the CPU.

    Whatever the model, `predict` takes one of these, and `dls.test_dl` a list of them, which `get_preds` runs
    on:

        a `PILImage` of 28 × 28 pixels, or the path of a PNG of that size
        a digit as it is in `Digits.pixels`: a tensor or array uint8 (28, 28), 0 background, 255 full ink;
            `test_dl` also takes many of them as one tensor or array (N, 28, 28)

    Tensors and arrays of another type or shape are a DataError: a float in [0, 1] would be read as black. The
    classes are named as `classes` says. The Learner holds no digits; with your own `dls` it can be trained
    further.
    """
    from fastai.data.block import CategoryBlock, DataBlock, TransformBlock
    from fastai.data.transforms import IndexSplitter, IntToFloatTensor
    from fastai.learner import Learner
    from fastai.losses import CrossEntropyLossFlat

    # fastai finds its types in items, so it gets two; export drops them.
    blank = [_to_picture(np.zeros(picture_shape(net.shape), np.uint8))] * 2
    block = DataBlock(
        blocks=(
            TransformBlock(type_tfms=_to_picture, batch_tfms=IntToFloatTensor),  # an ImageBlock and tensors
            CategoryBlock(vocab=list(classes), sort=False),
        ),
        get_y=_Label(classes[0]),
        splitter=IndexSplitter([1]),
    )
    dls = block.dataloaders(blank, bs=1, val_bs=500, num_workers=0, device=torch.device("cpu"))
    own = copy.deepcopy(net).cpu().float().eval().requires_grad_(True)
    return Learner(dls, FromImages(own), loss_func=CrossEntropyLossFlat())


class _Label:
    """The label of the blank pictures that a Learner is made with."""

    def __init__(self, label: str) -> None:
        self.label = label

    def __call__(self, _: object) -> str:
        return self.label


def _to_picture(item: Path | str | bytes | Tensor | np.ndarray | Image.Image) -> Image.Image:
    """Return the PILImage of an item. fastai reads from the annotation what an item may be.

    Raises:
        DataError: a tensor or array that is not a digit.
    """
    from fastai.vision.core import PILImage

    if isinstance(item, Tensor | np.ndarray):
        return array_to_fastai(item.cpu().numpy() if isinstance(item, Tensor) else item)
    return PILImage.create(item)
