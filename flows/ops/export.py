"""A version as a folder that a person can use: the bundle's files under their names, and a model card.

Needs no Prefect, and only reads the store, so it is safe while a run is under way.
"""

import json
import os
import shlex
import sys
from pathlib import Path

from flows.ops.status import open_registry
from flows.parameters import find_version
from flows.records import Record
from flows.registry import Registry
from flows.report.model_card import MARKER, model_card
from flows.settings import Settings, SettingsError
from mnist_core._atomic import atomic_write
from mnist_core.manifest import LEARNER, MANIFEST, ONNX, WEIGHTS, Manifest

README = "README.md"
CHAMPION = "champion"
"""Folder of the champion, unless another one is named."""


class Exported(Record):
    """A version that was written into a folder.

    Attributes:
        try_it: a command that uses it.
    """

    version: str
    folder: str
    files: str
    try_it: str


def export(settings: Settings, version: str | None, folder: Path | None) -> Exported:
    """Write a version's bundle and its model card into a folder.

    Args:
        settings: they name the store.
        version: its name (default: the champion).
        folder: new, empty, or an earlier export (default: `champion`, or the version's name).

    Raises:
        SettingsError: there is no such version, or the folder has files of others.
        BundleError: the version was written by other code.
    """
    folder = folder or Path(version or CHAMPION)
    _check_folder(folder)
    registry = open_registry(settings)
    _, champion = registry.champion()
    name = version or champion
    if name is None:
        raise SettingsError(
            "there is no champion yet", "`python -m flows versions` lists the versions that can be exported"
        )
    files = _write(registry, name, folder, CHAMPION if name == champion else "")
    program = [os.path.relpath(sys.executable), "-m", "mnist_core", "predict", str(folder), "my-digit.png"]
    return Exported(version=name, folder=str(folder), files=", ".join(files), try_it=shlex.join(program))


def _check_folder(folder: Path) -> None:
    """Raise SettingsError if a folder holds something that is not an earlier export."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    readme = folder / README
    if not readme.is_file() or not readme.read_text(errors="replace").startswith(MARKER):
        raise SettingsError(
            f"{folder} exists, and is not an earlier export", "name a new folder, or remove this one"
        )


def _write(registry: Registry, version: str, folder: Path, role: str) -> list[str]:
    """Write the files; README.md first, so that an export that was cut short can be repeated.

    Returns:
        The names of the files.
    """
    entry = find_version(registry, version, "VERSION")
    server = registry.namespace.split("/")[0]
    card = model_card(entry, registry.spec, server, registry.score(version), role)
    where = f"{MANIFEST} of {version}"
    Manifest.from_json(json.loads(registry.read(entry, MANIFEST)), where)  # or this code could not use it
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    with atomic_write(folder / README) as file:
        file.write(card.encode())
    for name in {LEARNER, ONNX, WEIGHTS} - entry.objects.keys():  # of another version, exported before
        (folder / name).unlink(missing_ok=True)
    names = sorted(entry.objects, key=lambda name: name == MANIFEST)  # which makes it a bundle, last
    for name in names:
        content = registry.read(entry, name)
        with atomic_write(folder / name) as file:
            file.write(content)
    return [README, *names]
