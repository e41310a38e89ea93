"""A bundle's graph with convolutions in 8-bit integers: faster, and almost always the same labels.

The scales of the integers come from digits that the float32 graph has read (static quantisation). Made and
run by ONNX Runtime; docs/scale.md has rates and accuracy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mnist_core._libraries import load_onnxruntime
from mnist_core.errors import BundleError, DataError
from mnist_core.manifest import INT8, ONNX, describe_file, read_manifest, read_unchanged, write_manifest

if TYPE_CHECKING:
    from onnx import ModelProto

BATCH = 200
"""Digits that are read at once to find the scales, and the fewest that give any."""
CHANNELS = 8
"""Input channels from which a convolution in integers is faster; one with one channel is six times slower."""


def add_int8(folder: Path, pixels: np.ndarray) -> None:
    """Add the graph in integers to a bundle, which `open_model` then prefers.

    Weights have seven bits, because products of eight overflow on x86 processors without VNNI.

    Args:
        folder: the bundle's; the manifest and the graph are needed.
        pixels: uint8 (N, 28, 28), typical digits, 200 or more; 1,000 are enough.

    Raises:
        BundleError: the bundle lacks a graph, or its graph a convolution that integers make faster.
        DataError: there are too few digits.
    """
    import onnx

    manifest = read_manifest(folder)
    if ONNX not in manifest.files:
        raise BundleError(f"{folder} has no {ONNX}", "export the bundle with a graph")
    if len(pixels) < BATCH:
        raise DataError(f"{len(pixels)} digits are too few for a graph in integers", f"give {BATCH} or more")
    graph = onnx.load_from_string(read_unchanged(folder, ONNX, manifest))
    _name_weights(graph)
    names = _wide_convolutions(graph)
    if not names:
        raise BundleError(f"{manifest.model} has no convolution that integers make faster", "use it as it is")
    content = _quantise(graph, names, pixels)
    others = {name: file for name, file in manifest.files.items() if name != INT8}
    write_manifest(folder, replace(manifest, files=others))  # so that a cut leaves a bundle that opens
    (folder / INT8).write_bytes(content)
    write_manifest(folder, replace(manifest, files=others | {INT8: describe_file(content)}))


def _name_weights(graph: ModelProto) -> None:
    """Let each node name the weights that it reads, and not a copy of them: the quantiser follows none."""
    weights = {weights.name for weights in graph.graph.initializer}
    copies = [node for node in graph.graph.node if node.op_type == "Identity" and node.input[0] in weights]
    named = {node.output[0]: node.input[0] for node in copies}
    for node in graph.graph.node:
        node.input[:] = [named.get(name, name) for name in node.input]
    for node in copies:
        graph.graph.node.remove(node)


def _wide_convolutions(graph: ModelProto) -> list[str]:
    """Return the names of the convolutions with `CHANNELS` input channels or more."""
    shapes = {weights.name: weights.dims for weights in graph.graph.initializer}
    return [
        node.name
        for node in graph.graph.node
        if node.op_type == "Conv" and node.input[1] in shapes and shapes[node.input[1]][1] >= CHANNELS
    ]


def _quantise(graph: ModelProto, names: list[str], pixels: np.ndarray) -> bytes:
    """Return the graph with the named convolutions in integers, scaled by what they give for these digits."""
    load_onnxruntime()
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    class Batches(CalibrationDataReader):
        def __init__(self) -> None:
            starts = range(0, len(pixels) - BATCH + 1, BATCH)
            self._batches: Iterator[np.ndarray] = (pixels[start : start + BATCH] for start in starts)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"pixels": np.ascontiguousarray(batch)}

    add_pre_process_metadata(graph)  # it is folded already, which spares a warning
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / INT8
        quantize_static(
            graph, path, Batches(), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_quantize=names,
        )  # fmt: skip
        return path.read_bytes()
