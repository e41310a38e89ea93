"""Opening picture files: which formats are read, and what a damaged or hostile file may cost.

Pillow alone would also open formats that it hands to other programs (EPS to Ghostscript), and would decode
pictures that fill the memory.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mnist_core.errors import DataError, MnistError
from mnist_core.spec import CompetitionSpec

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""The formats that are read, by Pillow's names; all are decoded inside this process."""

MAX_PIXELS = 40_000_000
"""Most pixels that are decoded, at four bytes each: a page of A4 at 600 dpi has 35 million. A large JPEG is
decoded at a fraction of its size."""
MAX_BYTES = 256 << 20
"""Most bytes of a file: 40 million pixels without compression have 160 MB."""


class DamagedPictureError(DataError):
    """A picture file that cannot be decoded, such as one that was cut off."""


_ENOUGH = 2048  # pixels of each side that a large JPEG keeps at least: far more than a digit of 20 × 20 needs
_MARKS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")
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
        DamagedPictureError: it is damaged.
    """
    try:
        return convert(_load(file))
    except DataError as error:
        raise type(error)(f"{file}: {error.problem}", error.remedy) from error
    except FileNotFoundError:
        raise DataError(f"{file}: does not exist") from None
    except IsADirectoryError:
        raise DataError(f"{file}: is a folder, expected a picture") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}", "check its permissions") from error
    except MemoryError:
        raise DataError(f"{file}: does not fit into the memory", "make the picture smaller") from None


def upright(image: Image.Image) -> Image.Image:
    """Return a picture turned as its camera noted; a note that cannot be read is ignored."""
    try:
        return ImageOps.exif_transpose(image)
    except MnistError:  # of a cap, say, which no picture causes
        raise
    except Exception:  # Pillow raises nearly anything for damaged metadata
        return image


def _load(file: Path) -> Image.Image:
    """Return the decoded picture of a file; the error does not name the file.

    Pillow gets bytes and no file: of a file it would make room for as much as a chunk's header promises.
    """
    with file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size or MAX_BYTES  # of a pipe it is 0
        content = BytesIO(opened.read(min(size, MAX_BYTES) + 1))
    if content.getbuffer().nbytes > MAX_BYTES:
        raise _too_large("the file", "bytes", MAX_BYTES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of many pixels, which are checked here, and of odd metadata
        try:
            image = Image.open(content, formats=FORMATS)
            image.draft(None, (_ENOUGH, _ENOUGH))
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(f"the picture of {image.width:,} × {image.height:,}", "pixels", MAX_PIXELS)
            image.load()
        except Image.UnidentifiedImageError:
            raise _unidentified(content.getvalue()[:16]) from None
        except Image.DecompressionBombError:
            raise _too_large("the picture", "pixels", MAX_PIXELS) from None
        except (MnistError, MemoryError):
            raise
        except Exception as error:  # Pillow raises nearly anything for damaged files
            raise DamagedPictureError(f"is damaged: {error}", "save or download it again") from error
        return image


def take_unchanged(image: Image.Image, spec: CompetitionSpec) -> NDArray[np.uint8]:
    """Return a picture of 28 × 28 pixels as a digit; what is transparent counts as background.

    Of a competition in grey it is the luminance.

    Raises:
        DataError: the size or the mode differs.
    """
    if (image.height, image.width) != spec.sides:
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
    return np.array(image.convert("L" if spec.channels == 1 else "RGB"), np.uint8)


def _too_large(what: str, unit: str, most: int) -> DataError:
    return DataError(f"{what} has too many {unit}, at most {most:,} are read", "make it smaller")


def _unidentified(start: bytes) -> DataError:
    """Return the error for a file that Pillow does not know; it names the format if its first bytes do."""
    if not start:
        return DamagedPictureError("the file is empty")
    for mark, name in _UNREAD.items():
        if start.startswith(mark) or start[4:].startswith(mark):
            return DataError(f"is a {name} file, which is not read", "save it as JPEG or PNG")
    if start.startswith(_MARKS):
        return DamagedPictureError("is damaged: its header is incomplete", "save or download it again")
    return DataError("is not a picture", f"give a file of one of the formats {', '.join(FORMATS)}")
