"""Manifests: to and from JSON, and what is refused."""

import json

import pytest

from mnist_core.errors import BundleError
from mnist_core.manifest import FORMAT, BundleFile, Manifest, read_manifest, read_unchanged

FILES = {"weights.safetensors": BundleFile("0" * 64, 100)}
MANIFEST = Manifest("convnet", {"widths": [2, 2]}, ["0", "1"], FILES, {"torch": "2.11"}, {"seed": 3})


def test_a_manifest_is_the_same_after_json():
    """What was written is read again; the facts stand beside the fields."""
    value = json.loads(json.dumps(MANIFEST.to_json()))

    assert value["seed"] == 3
    assert value["format"] == FORMAT
    assert Manifest.from_json(value, "manifest.json") == MANIFEST


@pytest.mark.parametrize(
    "value", [{"format": FORMAT - 1}, {"format": FORMAT + 1}, {"format": "2"}, [1], {}, 1, None]
)
def test_a_manifest_of_another_format_is_refused(value):
    """What another version wrote is not guessed at."""
    with pytest.raises(BundleError, match=r"manifest.json has format .*, this code reads 2"):
        Manifest.from_json(value, "manifest.json")


@pytest.mark.parametrize("name", ["model", "sizes", "classes", "files", "libraries"])
def test_a_manifest_without_a_field_is_refused(name):
    """The message names the manifest and the missing field."""
    value = MANIFEST.to_json()
    del value[name]

    with pytest.raises(BundleError, match=rf"bundle/manifest.json has no {name}; fetch or export"):
        Manifest.from_json(value, "bundle/manifest.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": 3}, r"model is 3, not a str"),
        ({"classes": "01"}, r"classes is '01', not a list"),
        ({"files": ["model.onnx"]}, r"files is \['model.onnx'\], not a dict"),
        ({"files": {"model.onnx": {"bytes": 3}}}, r"files has an entry without sha256"),
        ({"files": {"model.onnx": "0000"}}, r"files has an entry without sha256"),
    ],
)
def test_a_field_of_another_type_is_refused(changes, message):
    """A wrong value is an error that names the field, not a traceback when it is used."""
    with pytest.raises(BundleError, match=message):
        Manifest.from_json(MANIFEST.to_json() | changes, "manifest.json")


@pytest.mark.parametrize("content", [b"", b'{"format": 2', b"\xff\xfe"])
def test_a_manifest_that_is_cut_short_is_refused(tmp_path, content):
    """Half a manifest is an error that names the file."""
    (tmp_path / "manifest.json").write_bytes(content)

    with pytest.raises(BundleError, match=r"manifest.json is not JSON"):
        read_manifest(tmp_path)


def test_a_file_that_the_manifest_does_not_name_is_refused(tmp_path):
    """A file without a digest is not read as if it had been checked."""
    (tmp_path / "model.onnx").write_bytes(b"graph")

    with pytest.raises(BundleError, match=r"manifest.json has no digest of model.onnx"):
        read_unchanged(tmp_path, "model.onnx", MANIFEST)
