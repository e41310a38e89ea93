"""What a bundle says about itself: manifest.json, and files that are as it promises.

Inference without torch starts here, so nothing in this file imports it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnist_core._atomic import atomic_write
from mnist_core.errors import BundleError, DataError
from mnist_core.spec import DIGIT_RECOGNIZER, CompetitionSpec, picture_shape

FORMAT = 2
WEIGHTS, ONNX, LEARNER, MANIFEST = "weights.safetensors", "model.onnx", "learner.pkl", "manifest.json"
INT8 = "model-int8.onnx"

COMPETITION = "competition"
_HERE = ("classes", "shape")  # fields of a specification that a manifest has itself

EXPORT_AGAIN = "fetch or export the bundle again"


@dataclass(frozen=True)
class BundleFile:
    """A file of a bundle as it was written."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What a bundle says about itself.

    Attributes:
        model: name of the model.
        sizes: what `build(model, sizes)` needs to make the network.
        classes: the labels in the order of the logits.
        shape: rows, columns and channels of a picture.
        files: the bundle's other files by name.
        libraries: versions of what the bundle was made with, by name.
        facts: what the writer added (data_digest, seed, preset, valid_accuracy, created …), plain JSON values
            whose names are not those above.
        format: version of this layout.
        competition: what the network was trained for; None in a bundle of older code.
    """

    model: str
    sizes: dict[str, Any]
    classes: list[str]
    files: dict[str, BundleFile]
    libraries: dict[str, str]
    facts: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    shape: tuple[int, int, int] = DIGIT_RECOGNIZER.shape
    competition: CompetitionSpec | None = None

    @property
    def spec(self) -> CompetitionSpec | None:
        """The competition: the one it states, or if that is not known digit-recognizer, if that fits."""
        if self.competition is None and self.fits(DIGIT_RECOGNIZER):
            return DIGIT_RECOGNIZER
        return self.competition

    def fits(self, spec: CompetitionSpec) -> bool:
        """Tell whether the network reads a competition's pictures and names its classes."""
        return (self.shape, tuple(self.classes)) == (spec.shape, spec.classes)

    @property
    def picture_shape(self) -> tuple[int, ...]:
        """Axes of a picture as the network takes it: without the channel if there is one."""
        return picture_shape(self.shape)

    def to_json(self) -> dict[str, Any]:
        """Return the object that manifest.json holds; the facts stand beside the other fields."""
        spec = {} if self.competition is None else self.competition.to_json()
        known = {name: value for name, value in spec.items() if name not in _HERE}
        return {
            "format": self.format,
            "model": self.model,
            "sizes": self.sizes,
            "classes": self.classes,
            "shape": list(self.shape),
            "files": {name: vars(file) for name, file in self.files.items()},
            "libraries": self.libraries,
            **({COMPETITION: known} if known else {}),
            **self.facts,
        }

    @classmethod
    def from_json(cls, value: object, where: Path | str) -> Manifest:
        """Read what `to_json` returns.

        Args:
            value: the object, as `json.loads` gives it.
            where: its file or name, for the message.

        Raises:
            BundleError: the format is another, or a field is missing or of the wrong type.
        """
        found = value.get("format") if isinstance(value, dict) else None
        if not isinstance(value, dict) or found != FORMAT:
            raise BundleError(
                f"{where} has format {found!r}, this code reads {FORMAT}",
                "use the code that wrote it, or export the bundle again",
            )
        types = {"model": str, "sizes": dict, "classes": list, "files": dict, "libraries": dict}
        if missing := types.keys() - value.keys():
            raise BundleError(f"{where} has no {', '.join(sorted(missing))}", EXPORT_AGAIN)
        for name, expected in types.items():
            if not isinstance(value[name], expected):
                raise BundleError(
                    f"{where}: {name} is {value[name]!r}, not a {expected.__name__}", EXPORT_AGAIN
                )
        try:
            files = {
                name: BundleFile(str(file["sha256"]), int(file["bytes"]))
                for name, file in value["files"].items()
            }
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"{where}: files has an entry without sha256 or bytes ({error!r})", EXPORT_AGAIN
            ) from error
        shape = value.get("shape", list(DIGIT_RECOGNIZER.shape))  # older ones are of digits
        if not isinstance(shape, list) or len(shape) != 3 or not all(isinstance(side, int) for side in shape):
            raise BundleError(f"{where}: shape is {shape!r}, not three numbers", EXPORT_AGAIN)
        own = {"format", "shape", COMPETITION, *types}
        facts = {name: fact for name, fact in value.items() if name not in own}
        known = {name: value[name] for name in types} | {"files": files, "shape": tuple(shape)}
        competition = _competition(value.get(COMPETITION), value["classes"], shape, where)
        return cls(**known, facts=facts, competition=competition)


def _competition(
    value: object, classes: list[str], shape: list[int], where: Path | str
) -> CompetitionSpec | None:
    """Return the competition of a manifest, whose classes and shape stand there already; None without."""
    if value is None:
        return None
    try:
        return CompetitionSpec.from_json({**value, "classes": classes, "shape": shape})  # type: ignore[dict-item]
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{where}: {COMPETITION} is not a specification ({error})", EXPORT_AGAIN) from error


def describe_file(content: bytes) -> BundleFile:
    """Return what a manifest says about a file with this content."""
    return BundleFile(hashlib.sha256(content).hexdigest(), len(content))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json of a bundle, whole or not at all."""
    with atomic_write(folder / MANIFEST) as file:
        file.write((json.dumps(manifest.to_json(), indent=2) + "\n").encode())


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a bundle; the other files are not checked.

    Raises:
        BundleError: it is missing, not a manifest, or one of another format.
    """
    file = folder / MANIFEST
    try:
        value = json.loads(_read(file))
    except ValueError as error:
        raise BundleError(f"{file} is not JSON ({error})", EXPORT_AGAIN) from error
    return Manifest.from_json(value, file)


def read_unchanged(folder: Path, name: str, manifest: Manifest) -> bytes:
    """Return the bytes of a bundle's file: exactly those whose digest was checked.

    Raises:
        BundleError: the file is missing, or its digest is not the manifest's.
    """
    content = _read(folder / name)
    if name not in manifest.files:
        raise BundleError(f"{folder / MANIFEST} has no digest of {name}", EXPORT_AGAIN)
    promised, found = manifest.files[name].sha256, hashlib.sha256(content).hexdigest()
    if found != promised:
        raise BundleError(
            f"{folder / name} has changed since it was exported (sha256 {found[:12]}…, the manifest says "
            f"{promised[:12]}…)",
            EXPORT_AGAIN,
        )
    return content


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file} cannot be read ({error.strerror})", EXPORT_AGAIN) from error
