"""learner.pkl is written without fastai once it has written one of the same kind."""

import sys
import zipfile
from pathlib import Path

import pytest
import torch

from mnist_core import export, load, load_learner
from mnist_core._learner_file import learner_file
from mnist_core.models.base import build, find
from mnist_core.models.network import Network

SIZES = {
    "convnet": {"widths": [2, 3, 4, 5], "shifts": 1, "upright": False},
    "scratch": {"hidden": [5, 4]},
}
LIBRARIES = {"fastai": "2"}


def untrained(name: str, seed: int) -> Network:
    """Return a network with random tensors, those of its state that count included."""
    net = build(name, SIZES[name]).eval().requires_grad_(False)
    random = torch.Generator().manual_seed(seed)
    for tensor in net.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape, generator=random) * 9 + 1)
    return net


@pytest.mark.parametrize("name", sorted(SIZES))
def test_the_second_learner_of_a_kind_is_written_without_fastai(monkeypatch, tmp_path, name):
    """Its Learner opens as any other, and its network is the bundle's, bit for bit."""
    export(untrained(name, 1), tmp_path / "first", {}, templates=tmp_path / "templates")
    with monkeypatch.context() as patch:
        for module in [module for module in sys.modules if module.split(".")[0] == "fastai"]:
            patch.setitem(sys.modules, module, None)  # importing it is an error
        export(untrained(name, 2), tmp_path / "second", {}, templates=tmp_path / "templates")

    for folder in (tmp_path / "first", tmp_path / "second"):
        learner, net = load_learner(folder), load(folder)[0]
        assert type(learner).__module__ == "fastai.learner"
        found, wanted = learner.model.net.state_dict(), net.state_dict()
        assert list(found) == list(wanted)
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
        assert learner.dls.vocab == list("0123456789")
    assert find(name).name in next((tmp_path / "templates").iterdir()).name


def test_a_template_is_used_for_its_own_libraries_alone(tmp_path):
    """What another fastai would write may be another file; the template before is deleted."""
    asked: list[Network] = []

    def write(net: Network) -> bytes:
        asked.append(net)
        return zipped(tmp_path, net)

    for libraries in (LIBRARIES, LIBRARIES, {"fastai": "3"}):
        learner_file(untrained("scratch", 1), write, tmp_path / "templates", libraries)

    assert len(asked) == 2
    assert len(list((tmp_path / "templates").iterdir())) == 1


def test_a_damaged_template_is_not_used(tmp_path):
    """The learner is then written as if there were none."""
    net, folder = untrained("scratch", 1), tmp_path / "templates"
    wanted = learner_file(net, lambda other: zipped(tmp_path, other), folder, LIBRARIES)
    (template,) = folder.iterdir()

    template.write_bytes(template.read_bytes()[:100])

    assert learner_file(net, lambda _net: b"by fastai", folder, LIBRARIES) == b"by fastai"
    assert wanted != b"by fastai"


def zipped(folder: Path, net: Network) -> bytes:
    """Return a zip archive with a network's tensors, as torch writes it."""
    torch.save(net.state_dict(), folder / "net.pt")
    assert zipfile.is_zipfile(folder / "net.pt")
    return (folder / "net.pt").read_bytes()
