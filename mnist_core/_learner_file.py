"""learner.pkl without fastai: the file of an empty network of the same kind, with the weights of this one.

Importing fastai takes seconds and 150 MiB, and what it pickles is the same for all networks of a model and
its sizes, but for their tensors. torch writes those as files of a zip archive, one for each, as they lie in
memory. So a learner.pkl that fastai wrote once is a template: its tensors hold numbers by which each is
found, and are replaced by those of a trained network. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from mnist_core import __version__
from mnist_core._atomic import atomic_write
from mnist_core.models.base import build
from mnist_core.models.network import Network

FORMAT = 1
"""Counted up if the same name of a template would mean another file."""
FIRST = 1001
"""What the first tensor of a template holds: no other tensor of a learner does."""

Write = Callable[[Network], bytes]
"""Returns the learner.pkl of a network, as fastai writes it."""


def learner_file(net: Network, write: Write, templates: Path | None, decides: Mapping[str, str]) -> bytes:
    """Return the learner.pkl of a network.

    Args:
        net: that `fit` or `build` made.
        write: asked for a template, or for the file itself if there is no template of its kind.
        templates: folder that keeps one for each model; is made if need be. None: they are not used.
        decides: what else decides the file, such as the versions of what writes it; others need another
            template.
    """
    if templates is None:
        return write(net)
    kind = json.dumps([FORMAT, __version__, net.name, net.sizes, dict(decides)], sort_keys=True)
    path = templates / f"{net.name}-{hashlib.sha256(kind.encode()).hexdigest()[:16]}.pkl"
    try:
        template = path.read_bytes()
    except FileNotFoundError:
        template = write(_numbered(net))
        templates.mkdir(parents=True, exist_ok=True)
        for other in templates.glob(f"{net.name}-*.pkl"):
            other.unlink(missing_ok=True)
        with atomic_write(path) as file:
            file.write(template)
    return _filled(template, net) or write(net)


def _numbered(net: Network) -> Network:
    """Return an untrained network of the same kind; each tensor of its state holds a number of its own."""
    empty = build(net.name, net.sizes).eval().requires_grad_(False)
    for number, tensor in enumerate(empty.state_dict().values(), FIRST):
        tensor.fill_(number)
    return empty


def _filled(template: bytes, net: Network) -> bytes | None:
    """Return a template with the tensors of a network; None if it is damaged or does not hold them all."""
    wanted: dict[bytes, bytes] = {}
    for number, tensor in enumerate(net.state_dict().values(), FIRST):
        own = tensor.detach().cpu().contiguous()
        wanted[_content(torch.full_like(own, number))] = _content(own)
    content = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(template)) as old, zipfile.ZipFile(content, "w") as new:
            for entry in old.infolist():
                stored = old.read(entry)
                new.writestr(entry.filename, wanted.pop(stored, stored))
    except zipfile.BadZipFile:
        return None
    return None if wanted else content.getvalue()


def _content(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()
