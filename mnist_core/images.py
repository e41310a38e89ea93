"""Digits as pictures: PIL and fastai images, any picture of a digit, folders of PNGs, sheets, the confusion
table.

Pillow alone draws them, so they are made on the CPU image as well; fastai is imported by `to_fastai` only.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from mnist_core.digits import CLASSES, SIDE, Digits, read_test, read_train
from mnist_core.errors import DataError

if TYPE_CHECKING:
    from fastai.vision.core import PILImage

PAPER = (255, 255, 255)
TEXT = (38, 42, 48)
FAINT = (120, 126, 134)
LINES = (222, 226, 230)
RIGHT = (226, 234, 242)  # cells of the diagonal: quiet, so that the errors speak
ERRORS = ((255, 236, 224), (251, 164, 116), (222, 72, 46), (140, 12, 30))  # one error … most errors

FIT = 20
"""Edge of the box that MNIST fits a digit into, pixels, before it puts the centre of mass in the middle.

Source: Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database, yann.lecun.com/exdb/mnist
"""
PARTS = ("training", "testing")
"""The two halves of fastai's `mnist_png`, each with folders named 0 to 9."""
UNFINISHED = ".unfinished"
"""A file that lies in a folder of PNGs until it is complete: cut short, it would read as fewer digits."""

Progress = Callable[[int, int, str], None]
"""Is told digits done, digits in all, and a note."""


def to_pil(digit: NDArray[np.uint8]) -> Image.Image:
    """A digit, uint8 (28, 28), as a PIL image of mode L: 0 black background, 255 white ink."""
    return Image.fromarray(_one(digit))


def to_fastai(digit: NDArray[np.uint8]) -> PILImage:
    """A digit, uint8 (28, 28), as the RGB `PILImage` that a fastai learner's `predict` takes.

    A plain `PIL.Image` raises an AssertionError there, and mode L does not fit an RGB network.
    """
    from fastai.vision.core import PILImage

    return PILImage.create(np.repeat(_one(digit)[:, :, None], 3, axis=2))


def from_image(image: Image.Image) -> NDArray[np.uint8]:
    """Any picture of one digit as MNIST would have it, uint8 (28, 28): 0 background, 255 full ink.

    The background is what most of the border shows, and the ink is what differs from it, so white on black,
    black on white and ink on a transparent ground are the same digit. The ink is cropped, fitted into 20 × 20
    with its aspect kept, and centred by mass, as MNIST was made (`FIT`). A picture that is like this already,
    28 × 28 and white on black, comes back bit for bit; one that is its negative, as that.

    Args:
        image: of any size and of any mode that Pillow turns into RGB; of an animation, the frame it is at.
            What a camera noted about its orientation is heeded.

    Raises:
        DataError: the picture is blank, or of a mode that has no colours.
    """
    grey = _grey(ImageOps.exif_transpose(image))
    for digit in (grey, 255 - grey):
        if _is_made_like_mnist(digit):
            return digit
    return _like_mnist(_ink(grey))


def read_image(file: Path) -> NDArray[np.uint8]:
    """One picture file of a digit, of any size, colours and format of Pillow's, as `from_image` makes it.

    Raises:
        DataError: it is missing, no picture, damaged, or blank; the message names the file.
    """
    return _open(file, from_image)


def read_digits(source: Path, progress: Progress | None = None) -> Digits:
    """Read digits from whatever holds them: train.csv, test.csv, or a folder of PNGs.

    Raises:
        DataError: as `read_train`, `read_test` and `read_pngs`.
    """
    if source.is_dir():
        return read_pngs(source, progress)
    try:
        with source.open("rb") as file:
            labelled = file.read(6) == b"label,"
    except OSError:
        labelled = False  # the reader says what is wrong
    return read_train(source) if labelled else read_test(source)


def write_pngs(digits: Digits, folder: Path, progress: Progress | None = None) -> int:
    """Write one lossless PNG a digit: `<folder>/<label>/<i>.png`, or `<folder>/<i>.png` without labels.

    What an interrupted run has written stays: only what is missing, or was cut short, is written. A PNG gets
    its name when it is whole.

    Args:
        digits: i is the row, counted from 0.
        folder: is made if need be. It may hold some of these PNGs, and nothing else.
        progress: is told digits done, digits in all, and "write".

    Returns:
        How many PNGs were written; the others were there.

    Raises:
        DataError: the folder holds something that is none of these digits, and then nothing was written; or
            it can not be written to.
    """
    names = [f"{i}.png" for i in range(len(digits))]
    if digits.labels is not None:
        names = [f"{label}/{name}" for label, name in zip(digits.labels.tolist(), names, strict=True)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = _names(folder, inside=digits.labels is not None)
        if strange := sorted(there - set(names)):
            raise DataError(
                f"{folder}: holds {strange[0]}, which is none of these digits; name a new folder, or empty "
                "this one"
            )
        missing = [
            i for i, name in enumerate(names) if name not in there or _is_cut(folder / name, digits.pixels[i])
        ]
        if missing or (folder / UNFINISHED).exists():
            (folder / UNFINISHED).touch()
            for label in range(CLASSES if digits.labels is not None else 0):
                (folder / str(label)).mkdir(exist_ok=True)
            done = len(digits) - len(missing)
            for written in _write_pngs(digits.pixels, missing, folder, names):
                if progress:
                    progress(done + written, len(digits), "write")
            for left in folder.glob(".*.part"):  # by a run that was killed
                left.unlink()
            (folder / UNFINISHED).unlink()
    except OSError as error:
        raise DataError(f"{folder}: can not be written: {error.strerror or error}") from error
    return len(missing)


def read_pngs(folder: Path, progress: Progress | None = None) -> Digits:
    """Read a folder of 28 × 28 pictures, white on black: what `write_pngs` wrote, or another's.

    Three layouts: folders named 0 to 9 make labels; folders `training` and `testing` with such folders in
    them (fastai's `mnist_png`) are read one after the other; pictures without folders have no labels. Names
    are free. Where they are numbers, these give the order; else it is by label, then by name. Without labels
    the order is what a submission rests on, so there no number may be missing. Files whose names start with a
    dot are passed over.

    Args:
        folder: with one of these layouts.
        progress: is told digits done, digits in all, and "read".

    Raises:
        DataError: there is no picture, a file is none of 28 × 28, something else lies between them, a number
            is missing or there twice, or the writing of the folder was interrupted; the message names the
            file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    files = _pictures(folder)
    if not files:
        raise DataError(f"{folder}: holds no PNG")
    pixels = np.empty((len(files), SIDE, SIDE), np.uint8)
    for i, (file, _) in enumerate(files):
        digit = _unpng(file.read_bytes()) if file.is_file() else None
        pixels[i] = _open(file, _as_it_is) if digit is None else digit
        if progress and ((i + 1) % 1000 == 0 or i + 1 == len(files)):
            progress(i + 1, len(files), "read")
    labels = [label for _, label in files if label is not None]
    return Digits(pixels, np.array(labels, np.int64) if labels else None)


def sheet(
    pixels: NDArray[np.uint8],
    columns: int,
    scale: int = 2,
    captions: Sequence[str] | None = None,
    gap: int = 4,
) -> Image.Image:
    """Many digits in one picture, row by row, with a caption under each if there are captions.

    Args:
        pixels: uint8 (N, 28, 28), N ≥ 1, 0 = background, 255 = full ink.
        columns: digits side by side.
        scale: edge of a digit's pixel in the picture, pixels; no smoothing.
        captions: N short texts such as "4→9 0.83" (true digit, predicted, probability of the true one).
        gap: pixels between digits, and around them; 0 puts them edge to edge.

    Raises:
        DataError: no digits, pixels of another type or shape, or not N captions.
        ValueError: columns or scale below 1, or a gap below 0.
    """
    pixels = Digits(pixels).pixels
    if not len(pixels):
        raise DataError("a sheet needs at least one digit")
    if captions is not None and len(captions) != len(pixels):
        raise DataError(f"{len(captions)} captions for {len(pixels)} digits")
    if columns < 1 or scale < 1 or gap < 0:
        raise ValueError(f"columns {columns} and scale {scale} must be 1 or more, gap {gap} 0 or more")
    columns = min(columns, len(pixels))
    rows = -(-len(pixels) // columns)
    edge = SIDE * scale

    line = max(10, min(14, 5 * scale))
    font = _font(line)
    width, height = edge, edge
    if captions is not None:
        captions = [caption.replace(" ", "  ") for caption in captions]  # the font's own space is too narrow
        width = max(edge, *(_width(caption, font) for caption in captions))
        height += line + 8
    width += gap
    height += gap
    picture = Image.new("RGB", (columns * width + gap, rows * height + gap), PAPER)
    draw = ImageDraw.Draw(picture)
    for i, digit in enumerate(pixels):
        left, top = gap + i % columns * width, gap + i // columns * height
        tile = Image.fromarray(digit).resize((edge, edge), Image.Resampling.NEAREST)
        picture.paste(tile, (left + (width - gap - edge) // 2, top))
        if captions is not None:
            centre = (left + (width - gap) / 2, top + edge + 4 + line / 2)
            _write(draw, centre, captions[i], font, TEXT)
    return picture


def confusion_picture(confusion: NDArray[np.int64]) -> Image.Image:
    """The confusion table as a picture: true digit by row, predicted digit by column.

    Only errors are coloured, by the logarithm of their count, since the right ones are some hundred times
    as many. On the right and below, the errors of each row and column.

    Args:
        confusion: int64 (10, 10), [true, predicted], counts.

    Raises:
        DataError: another type or shape, or a negative count.
    """
    if not isinstance(confusion, np.ndarray) or confusion.dtype != np.int64:
        raise DataError("confusion: expected a numpy array of int64")
    if confusion.shape != (CLASSES, CLASSES) or confusion.min() < 0:
        raise DataError(f"confusion: expected counts with shape (10, 10), found shape {confusion.shape}")
    errors = confusion.copy()
    np.fill_diagonal(errors, 0)
    wide, high, left, top = 58, 38, 78, 84
    right, bottom = left + CLASSES * wide, top + CLASSES * high
    normal, bold, small = _font(16), _font(18), _font(13)

    picture = Image.new("RGB", (right + wide + 34, bottom + high + 44), PAPER)
    draw = ImageDraw.Draw(picture)

    def cell(row: int, column: int) -> tuple[float, float]:
        """The centre of a cell; row or column -1 is the heading, 10 the sums."""
        gap = 8 * np.array([column == CLASSES, row == CLASSES])
        return left + (column + 0.5) * wide + float(gap[0]), top + (row + 0.5) * high + float(gap[1])

    for true in range(CLASSES):
        for predicted in range(CLASSES):
            count = int(confusion[true, predicted])
            x, y = left + predicted * wide, top + true * high
            fill, ink = PAPER, TEXT
            if true == predicted:
                fill = RIGHT
            elif count:
                fill = _heat(count, int(errors.max()))
                ink = TEXT if sum(fill) > 450 else PAPER
            draw.rectangle((x, y, x + wide, y + high), fill, LINES)
            if count or true == predicted:
                _write(draw, cell(true, predicted), f"{count:,}", normal, ink)
        for place, wrong in (
            (cell(true, CLASSES), errors[true].sum()),
            (cell(CLASSES, true), errors[:, true].sum()),
        ):
            _write(draw, place, f"{wrong:,}", normal, FAINT)
        _write(draw, cell(-1, true), str(true), bold, TEXT)
        _write(draw, cell(true, -1), str(true), bold, TEXT)
    _write(draw, cell(-1, CLASSES), "errors", small, FAINT)
    _write(draw, cell(CLASSES, -1), "errors", small, FAINT)

    _write(draw, ((left + right) / 2, 26), "predicted digit", bold, TEXT)
    title = Image.new("RGB", (bottom - top, 30), PAPER)
    _write(ImageDraw.Draw(title), (title.width / 2, 15), "true digit", bold, TEXT)
    picture.paste(title.rotate(90, expand=True), (4, top))
    total, wrong = int(confusion.sum()), int(errors.sum())
    summary = (
        f"{total - wrong:,} of {total:,} right, {wrong:,} wrong; the redder, the more errors (log scale)"
    )
    _write(draw, ((left + right) / 2, bottom + high + 26), summary, small, FAINT)
    return picture


def _one(digit: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if not isinstance(digit, np.ndarray) or digit.dtype != np.uint8 or digit.shape != (SIDE, SIDE):
        found = f"{digit.dtype} {digit.shape}" if isinstance(digit, np.ndarray) else type(digit).__name__
        raise DataError(f"one digit is uint8 ({SIDE}, {SIDE}), found {found}")
    return digit


def _as_it_is(image: Image.Image) -> NDArray[np.uint8]:
    """A picture of 28 × 28 pixels as a digit: its luminance; what is transparent counts as background."""
    if image.size != (SIDE, SIDE):
        raise DataError(f"the picture has {image.width} × {image.height} pixels, expected {SIDE} × {SIDE}")
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise DataError(
            f"the picture has mode {image.mode}, expected 8-bit grey or colour; save it as PNG, L"
        )
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    if image.mode in ("P", "PA", "RGBA"):
        image = image.convert("RGB")
    return np.array(image.convert("L"), np.uint8)


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    """A picture in grey, uint8 (height, width), with a plain ground where it was transparent."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):  # 16 bits or more, in a range of its own
        values = np.nan_to_num(np.array(image, np.float64), posinf=0, neginf=0)
        values -= values.min()
        return np.rint(values * (255 / (values.max() or 1))).astype(np.uint8)
    try:
        colours = image.convert("RGBA" if image.has_transparency_data else "RGB")
    except ValueError as error:
        raise DataError(f"the picture has mode {image.mode}, which has no colours; save it as PNG") from error
    grey = np.array(colours.convert("RGB").convert("L"))
    if colours.mode == "RGB":
        return grey
    alpha = np.array(colours.getchannel("A"))
    if alpha.min() == alpha.max() > 0:
        return grey
    seen = alpha > 127
    if not seen.any():
        return alpha
    rows, columns = _box(seen)
    least, most = np.percentile(grey[seen], [2, 98])
    if seen[rows, columns].mean() < 0.6 or most - least < 64:
        return alpha  # ink of one colour on glass, black or white: its shape is what can be seen
    # A card with a digit on it, on glass: continue the card's own ground to the border.
    inner = np.array(Image.fromarray(seen.astype(np.uint8)).filter(ImageFilter.MinFilter(3)), bool)
    ground = np.median(grey[seen & ~inner])
    return np.rint(ground + (grey - ground) * (alpha / 255)).astype(np.uint8)


def _is_made_like_mnist(grey: NDArray[np.uint8]) -> bool:
    """Whether a picture is 28 × 28 and black at its border, its ink fills 20 × 20 one way, with its mass in
    the middle. All 70,000 digits of MNIST are: one has ink of 18 pixels, 19 of 19, and the centre is within
    half a pixel.
    """
    if grey.shape != (SIDE, SIDE) or np.median(_border(grey)) > 25 or grey.max() < 128:
        return False
    rows, columns = _box(grey > 25)
    edge = max(rows.stop - rows.start, columns.stop - columns.start)
    return FIT - 2 <= edge <= FIT and all(abs(at - SIDE / 2) < 1 for at in _centre_of_mass(grey))


def _ink(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much each pixel differs from the ground that the border shows, 0..1, the noise of it taken off."""
    border = _border(grey).astype(np.float32)
    ground = np.median(border)
    noise = 3 * 1.4826 * np.median(abs(border - ground))  # three deviations, of what is ground for sure
    lighter = np.maximum(grey - (ground + noise), 0, dtype=np.float32)
    darker = np.maximum((ground - noise) - grey, 0, dtype=np.float32)
    ink = lighter if (lighter**2).sum() > (darker**2).sum() else darker
    if ink.max() < 16:
        raise DataError("the picture is blank: nothing stands out from its background, so there is no digit")
    return ink / ink.max()


def _like_mnist(ink: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Ink 0..1 (height, width) cropped, fitted into 20 × 20, and centred by mass in 28 × 28."""
    rows, columns = _box(ink > 0.1)
    tall, wide = rows.stop - rows.start, columns.stop - columns.start
    scale = FIT / max(tall, wide)
    size = (max(1, round(wide * scale)), max(1, round(tall * scale)))
    box = (columns.start, rows.start, columns.stop, rows.stop)
    # Pillow's filters widen as a picture shrinks, which is what smooths the edges.
    small = np.array(Image.fromarray(ink).resize(size, Image.Resampling.BILINEAR, box))
    # A thin pen turns pale when it shrinks; the strokes, not just their crossings, get full ink again.
    small = np.clip(small / np.percentile(small[small > 0.1 * small.max()], 90), 0, 1)

    y, x = _centre_of_mass(small)
    top = min(max(round(SIDE / 2 - y), 0), SIDE - size[1])
    left = min(max(round(SIDE / 2 - x), 0), SIDE - size[0])
    digit = np.zeros((SIDE, SIDE), np.uint8)
    digit[top : top + size[1], left : left + size[0]] = np.rint(small * 255)
    return digit


def _border(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])


def _box(there: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of the smallest box around what is there; of something, at least."""
    rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _centre_of_mass(ink: NDArray[np.uint8] | NDArray[np.float32]) -> tuple[float, float]:
    """Row and column of the centre, in pixels; the middle of the first pixel is 0."""
    total = ink.sum(dtype=np.float64)
    y = (ink.sum(1, dtype=np.float64) * np.arange(ink.shape[0])).sum() / total
    x = (ink.sum(0, dtype=np.float64) * np.arange(ink.shape[1])).sum() / total
    return float(y), float(x)


_DAMAGE = (OSError, EOFError, SyntaxError, ValueError, IndexError, struct.error, zlib.error)
"""What Pillow raises for damaged files."""


def _open(file: Path, convert: Callable[[Image.Image], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """A picture file as a digit, or the DataError that names the file."""
    try:
        with Image.open(file) as image:
            return convert(image)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    except FileNotFoundError:
        raise DataError(f"{file}: there is no such file") from None
    except IsADirectoryError:
        raise DataError(f"{file}: is a folder, expected a picture") from None
    except Image.UnidentifiedImageError:
        raise DataError(f"{file}: is no picture") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{file}: is too large ({error}); make it smaller") from error
    except _DAMAGE as error:
        raise DataError(f"{file}: is damaged: {error}") from error


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


# A PNG of 8-bit grey, as https://www.w3.org/TR/png-3/ has it. Pillow takes six times as long to write it
# (120 µs to 20 of one core, medians of 5 × 2,000 digits) and to read it, nearly all before the first pixel.
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD = _SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0))
_TAIL = _chunk(b"IEND", b"")


def _png(rows: NDArray[np.uint8]) -> bytes:
    """A digit as a PNG; rows: uint8 (28, 29), each row behind a 0 that says that it is not filtered."""
    # Digits are so small that more compression costs time and saves next to nothing.
    return _HEAD + _chunk(b"IDAT", zlib.compress(rows.tobytes(), 1)) + _TAIL


def _unfiltered(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(pixels, [(0, 0), (0, 0), (1, 0)])


def _unpng(content: bytes) -> NDArray[np.uint8] | None:
    """The digit of a PNG as `_png` makes it; None for any other file."""
    head, end = len(_HEAD), len(content) - len(_TAIL) - 4
    idat = content[head + 4 : end]
    if content != _HEAD + _chunk(b"IDAT", idat[4:]) + _TAIL:
        return None
    try:
        rows = np.frombuffer(zlib.decompress(idat[4:]), np.uint8).reshape(SIDE, SIDE + 1)
    except (zlib.error, ValueError):
        return None
    return None if rows[:, 0].any() else rows[:, 1:]


def _write_pngs(pixels: NDArray[np.uint8], rows: list[int], folder: Path, names: list[str]) -> Iterator[int]:
    """Write the PNGs of some rows, each under a name of its own until it is whole; tells how many are done.

    In threads, since zlib and the disk let go of the interpreter, and through `os`: pathlib takes as long as
    both.
    """

    def write(start: int) -> int:
        part = f"{folder}/.{start}.part"
        some = rows[start : start + 500]
        for i, row in zip(some, _unfiltered(pixels[some]), strict=True):
            file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            try:
                os.write(file, _png(row))
            finally:
                os.close(file)
            os.replace(part, f"{folder}/{names[i]}")  # noqa: PTH105
        return len(some)

    done = 0
    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
    try:
        for count in pool.map(write, range(0, len(rows), 500)):
            done += count
            yield done
    finally:
        pool.shutdown(cancel_futures=True)


def _is_cut(file: Path, digit: NDArray[np.uint8]) -> bool:
    """Whether a file is the beginning of this digit's PNG, and no more; if not, whether it is the digit.

    Raises:
        DataError: it is another digit, or something else.
    """
    content = file.read_bytes()
    there = _unpng(content)
    if there is not None and np.array_equal(there, digit):
        return False
    if _png(_unfiltered(digit[None])[0]).startswith(content):
        return True
    if _SIGNATURE.startswith(content[:8]) or not content.strip(b"\0"):  # NULs: a disk that lost its power
        try:
            with Image.open(io.BytesIO(content)) as image:
                image.load()
                if np.array_equal(_as_it_is(image), digit):
                    return False  # by another program, or another zlib
        except DataError:
            pass  # another size or mode
        except _DAMAGE:
            return True
    raise DataError(f"{file}: holds something else than this digit; name a new folder, or empty this one")


def _names(folder: Path, inside: bool) -> set[str]:
    """What lies in a folder, and `inside` its folders named 0 to 9, as names from the folder on."""
    names = set()
    for entry in _entries(folder):
        if inside and entry.name in _LABELS and entry.is_dir():
            names |= {f"{entry.name}/{inner.name}" for inner in _entries(entry)}
        else:
            names.add(entry.name)
    return names


def _entries(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]


def _pictures(folder: Path) -> list[tuple[Path, int | None]]:
    """The pictures of a folder with their labels, in their order."""
    if (folder / UNFINISHED).exists():
        raise DataError(f"{folder}: its writing was interrupted; run the same convert again to complete it")
    entries = _entries(folder)
    if entries and {entry.name for entry in entries} <= set(PARTS):
        return [picture for part in PARTS if (folder / part).is_dir() for picture in _pictures(folder / part)]
    if any(entry.is_dir() for entry in entries):
        return _labelled(entries)
    files = sorted(entries, key=_by_number)
    if all(_is_number(file) for file in files):
        _check_numbers(files)
    return [(file, None) for file in files]


def _labelled(entries: list[Path]) -> list[tuple[Path, int | None]]:
    """The pictures in folders named 0 to 9: by number where all names are numbers, else by label and name."""
    files: list[Path] = []
    for entry in sorted(entries):
        if entry.name not in _LABELS or not entry.is_dir():
            raise DataError(
                f"{entry}: expected nothing but folders named {', '.join(_LABELS)}, or {' and '.join(PARTS)} "
                "with such folders in them; other folders are read one by one"
            )
        files += sorted(_entries(entry), key=_by_number)
    if all(_is_number(file) for file in files):
        files.sort(key=_by_number)  # stable, so that a number in two folders is no matter
    return [(file, _LABELS.index(file.parent.name)) for file in files]


_LABELS = [str(label) for label in range(CLASSES)]


def _is_number(file: Path) -> bool:
    return file.stem.isascii() and file.stem.isdigit()


def _by_number(file: Path) -> list[str | int]:
    """Sorts 10.png behind 9.png, and digit-10.png behind digit-9.png."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", file.name))]


def _check_numbers(files: list[Path]) -> None:
    """Numbers run from 0 or 1 without a gap; the files are sorted."""
    for expected, file in enumerate(files, start=min(int(files[0].stem), 1) if files else 0):
        number = int(file.stem)
        if number > expected:
            raise DataError(f"{file.parent}: {expected}.png is missing, but {file.name} is there")
        if number < expected:
            raise DataError(f"{file}: digit {number} is there twice")


def _heat(count: int, most: int) -> tuple[int, int, int]:
    """The colour of an error cell: from ERRORS, by log(count) between 1 and the largest count."""
    at = np.log(count) / np.log(most) if most > 1 else 0.0
    stops = np.linspace(0, 1, len(ERRORS))
    red, green, blue = (round(float(np.interp(at, stops, shade))) for shade in zip(*ERRORS, strict=True))
    return red, green, blue


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow's own Aileron; all wheels have it
    return font


def _arrow(font: ImageFont.FreeTypeFont) -> int:
    return round(font.size * 0.9)


def _width(text: str, font: ImageFont.FreeTypeFont) -> int:
    """Pixels that `_write` needs; an arrow is drawn, since Pillow's font has none."""
    return round(sum(font.getlength(part) for part in text.split("→")) + text.count("→") * _arrow(font))


def _write(
    draw: ImageDraw.ImageDraw,
    centre: tuple[float, float],
    text: str,
    font: ImageFont.FreeTypeFont,
    ink: tuple[int, int, int],
) -> None:
    """Write one line of text around a centre."""
    x, y = round(centre[0] - _width(text, font) / 2), round(centre[1])
    for i, part in enumerate(text.split("→")):
        if i:
            tip, wing = x + _arrow(font) - 2, max(2, round(font.size / 5))
            draw.line((x + 1, y, tip, y), ink)
            draw.line((tip - wing, y - wing, tip, y), ink)
            draw.line((tip - wing, y + wing, tip, y), ink)
            x += _arrow(font)
        draw.text((x, y), part, ink, font, anchor="lm")
        x += round(font.getlength(part))
