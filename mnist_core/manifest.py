"""What a bundle says of itself: reading manifest.json, and files that are as it promises.

Inference without torch starts here, so nothing in this file imports it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnist_core.errors import BundleError

FORMAT = 1
WEIGHTS, ONNX, LEARNER, MANIFEST = "weights.safetensors", "model.onnx", "learner.pkl", "manifest.json"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a bundle; the other files are not looked at.

    Raises:
        BundleError: it is missing, no manifest, or one of another format.
    """
    file = folder / MANIFEST
    try:
        manifest = json.loads(_read(file))
    except ValueError as error:
        raise BundleError(f"{file} is no JSON ({error}); export the bundle again") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise BundleError(
            f"{file} has format {found!r}, this code reads {FORMAT}; use the code that wrote it, or export "
            f"the bundle again"
        )
    if lacks := {"model", "sizes", "classes", "files"} - manifest.keys():
        raise BundleError(f"{file} lacks {', '.join(sorted(lacks))}; export the bundle again")
    return manifest


def read_unchanged(folder: Path, name: str, manifest: Mapping[str, Any]) -> bytes:
    """Give the bytes of a bundle's file, those that were checked and no others.

    Raises:
        BundleError: the file is missing, or its digest is not the manifest's.
    """
    content = _read(folder / name)
    try:
        promised = manifest["files"][name]["sha256"]
    except (KeyError, TypeError) as error:
        raise BundleError(f"{folder / MANIFEST} has no digest of {name}; export the bundle again") from error
    found = hashlib.sha256(content).hexdigest()
    if found != promised:
        raise BundleError(
            f"{folder / name} has changed since it was exported (sha256 {found[:12]}…, the manifest says "
            f"{promised[:12]}…); fetch or export the bundle again"
        )
    return content


def _read(file: Path) -> bytes:
    """Give the bytes of a file.

    Raises:
        BundleError: it can not be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{file} can not be read ({error.strerror}); fetch or export the bundle again"
        ) from error
