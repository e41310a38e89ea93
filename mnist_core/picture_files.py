"""Opening picture files: which formats are read, and what a damaged or hostile file may cost.

Pillow alone would also open formats that it hands to other programs (EPS to Ghostscript), and would decode
pictures that fill the memory.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_core.errors import DataError
from mnist_core.spec import CompetitionSpec

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""The formats that are read, by Pillow's names; all are decoded inside this process."""

MAX_PIXELS = 1 << 26
"""Most pixels that are decoded, 8192 × 8192: 250 MB. A large JPEG is decoded at a fraction of its size."""

DAMAGE = (OSError, EOFError, SyntaxError, ValueError, IndexError, struct.error, zlib.error)
"""What Pillow raises for damaged files."""

_ENOUGH = 2048  # pixels of each side that a large JPEG keeps at least: far more than a digit of 20 × 20 needs
_UNREAD = {
    b"ftypheic": "HEIC", b"ftypheix": "HEIC", b"ftyphevc": "HEIC", b"ftypmif1": "HEIC", b"ftypmsf1": "HEIC",
    b"ftypavif": "AVIF", b"%!PS": "PostScript", b"\xc5\xd0\xd3\xc6": "PostScript", b"%PDF": "PDF",
    b"8BPS": "Photoshop", b"<svg": "SVG", b"<?xml": "SVG or XML", b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}  # fmt: skip


def open_picture(file: Path, convert: Callable[[Image.Image], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return what `convert` makes of a picture file.

    Raises:
        DataError: the file is missing, not a picture of one of `FORMATS`, too large, or damaged, or `convert`
            refuses it; the message names it.
    """
    try:
        with safely_opened(file) as image:
            return convert(image)
    except DataError as error:
        raise DataError(f"{file}: {error.problem}", error.remedy) from None
    except FileNotFoundError:
        raise DataError(f"{file}: there is no such file") from None
    except IsADirectoryError:
        raise DataError(f"{file}: is a folder, expected a picture") from None
    except PermissionError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}", "fix its permissions") from error
    except Image.UnidentifiedImageError:
        raise _unidentified(file) from None
    except DAMAGE as error:
        raise DataError(f"{file}: is damaged: {error}", "save or download it again") from error


@contextmanager
def safely_opened(file: Path) -> Iterator[Image.Image]:
    """Open a picture of one of `FORMATS`; its pixels are decoded when they are first used.

    Raises:
        DataError: it has more pixels than `MAX_PIXELS`; the message does not name the file.
        DAMAGE: Pillow cannot open it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of many pixels, which are checked here, and of odd metadata
        try:
            with Image.open(file, formats=FORMATS) as image:
                image.draft(None, (_ENOUGH, _ENOUGH))
                if image.width * image.height > MAX_PIXELS:
                    raise _too_large(f"{image.width:,} × {image.height:,} pixels")
                yield image
        except Image.DecompressionBombError:
            raise _too_large("too many pixels") from None


def take_unchanged(image: Image.Image, spec: CompetitionSpec) -> NDArray[np.uint8]:
    """Return a picture of 28 × 28 pixels as a digit: its luminance; what is transparent counts as background.

    Raises:
        DataError: the size or the mode differs.
    """
    if (image.height, image.width) != spec.shape:
        raise DataError(f"the picture has {image.width} × {image.height} pixels, expected {spec.size}")
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise DataError(
            f"the picture has mode {image.mode}, expected 8-bit grey or colour", "save it as PNG, mode L"
        )
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    if image.mode in ("P", "PA", "RGBA"):
        image = image.convert("RGB")
    return np.array(image.convert("L"), np.uint8)


def _too_large(size: str) -> DataError:
    return DataError(f"the picture has {size}, and at most {MAX_PIXELS:,} are read", "make it smaller")


def _unidentified(file: Path) -> DataError:
    """Return the error for a file that Pillow does not know; it names the format if its first bytes do."""
    with file.open("rb") as opened:
        start = opened.read(16)
    for mark, name in _UNREAD.items():
        if start.startswith(mark) or start[4:].startswith(mark):
            return DataError(f"{file}: is a {name} file, which is not read", "save it as JPEG or PNG")
    if not start:
        return DataError(f"{file}: the file is empty")
    return DataError(f"{file}: is not a picture", f"give a file of one of the formats {', '.join(FORMATS)}")
