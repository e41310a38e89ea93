"""ONNX Runtime for browsers: one pinned package from npm, kept in the home, and its files for a page."""

import base64
import hashlib
import logging
import tarfile
from io import BytesIO
from pathlib import Path

import requests

from mnist_core._atomic import atomic_write

log = logging.getLogger("mnist")
VERSION = "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Of the package, in base64, as npm's `integrity` states it.

1.22 cannot run a convnet's graph on a digit that it is sure of: no row is left for the second look.
"""
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""Files of the package's `dist` that a page needs; they run on the CPU, in one thread."""
LICENCE = f"""ONNX Runtime Web {VERSION}

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""
TIMEOUT_S = (5.0, 60.0)
LARGEST = 64 << 20
"""Bytes of an answer after which it is not the package."""


def package_file(home: Path) -> Path:
    """Return where the package is kept, or may be put by a person."""
    return home / "data" / "npm" / f"onnxruntime-web-{VERSION}.tgz"


def runtime_files(home: Path) -> dict[str, bytes] | None:
    """Return the files that run a graph in a browser, by name; None, with a warning, if there are none.

    Args:
        home: keeps the package; it is downloaded if it is not there, or has changed.
    """
    path = package_file(home)
    try:
        content = path.read_bytes() if path.exists() else b""
        if not _is_package(content):
            content = _download()
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(content)
        with tarfile.open(fileobj=BytesIO(content)) as package:
            found = {name: package.extractfile(f"package/dist/{name}") for name in FILES}
            files = {name: member.read() for name, member in found.items() if member is not None}
    except (requests.RequestException, OSError, ValueError) as error:
        log.warning(
            "the site has no drawing page: onnxruntime-web %s cannot be had (%s); the next site tries again, "
            "or put the package there: %s",
            VERSION, error if isinstance(error, ValueError) else type(error).__name__, path,
        )  # fmt: skip
        return None
    return files | {"LICENSE.txt": LICENCE.encode()}


def _is_package(content: bytes) -> bool:
    return base64.b64encode(hashlib.sha512(content).digest()).decode() == SHA512


def _download() -> bytes:
    """Return the package.

    Raises:
        RequestException: it cannot be downloaded.
        ValueError: what came is something else.
    """
    log.info("downloading onnxruntime-web %s for the site's drawing page", VERSION)
    content = bytearray()
    with requests.get(ADDRESS, timeout=TIMEOUT_S, stream=True) as answer:
        answer.raise_for_status()
        for part in answer.iter_content(1 << 20):
            content += part
            if len(content) > LARGEST:
                break
    if not _is_package(bytes(content)):
        raise ValueError("what was downloaded does not have its digest")
    return bytes(content)
