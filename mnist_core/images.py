"""Digits as pictures: PIL and fastai images, folders of PNGs, sheets of digits, the confusion table.

Pillow alone draws them, so they are made on the CPU image as well; fastai is imported by `to_fastai` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mnist_core.digits import CLASSES, SIDE, Digits
from mnist_core.errors import DataError

if TYPE_CHECKING:
    from fastai.vision.core import PILImage

PAPER = (255, 255, 255)
TEXT = (38, 42, 48)
FAINT = (120, 126, 134)
LINES = (222, 226, 230)
RIGHT = (226, 234, 242)  # cells of the diagonal: quiet, so that the errors speak
ERRORS = ((255, 236, 224), (251, 164, 116), (222, 72, 46), (140, 12, 30))  # one error … most errors


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
    """A picture of 28 × 28 pixels as a digit, uint8 (28, 28): its luminance, 0 background, 255 full ink.

    Modes 1, L, LA, P, PA, RGB and RGBA; what is transparent counts as background, and grey keeps its value.

    Raises:
        DataError: another size or mode.
    """
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


def write_pngs(digits: Digits, folder: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Write one lossless PNG a digit: `<folder>/<label>/<i>.png`, or `<folder>/<i>.png` without labels.

    Args:
        digits: i is the row, counted from 0.
        folder: is made; must be empty if it is there, so that two sets of digits never mix.
        progress: is told (digits written, digits in all) every 1,000 digits and at the end.

    Raises:
        DataError: the folder holds something, or can not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise DataError(f"{folder}: is not empty; name a new folder, or empty this one")
        if digits.labels is not None:
            for label in range(CLASSES):
                (folder / str(label)).mkdir()
        for i, digit in enumerate(digits.pixels):
            place = folder if digits.labels is None else folder / str(digits.labels[i])
            # Digits are so small that more compression costs time and saves next to nothing.
            Image.fromarray(digit).save(place / f"{i}.png", compress_level=1)
            if progress and ((i + 1) % 1000 == 0 or i + 1 == len(digits)):
                progress(i + 1, len(digits))
    except OSError as error:
        raise DataError(f"{folder}: can not be written: {error.strerror or error}") from error


def read_pngs(folder: Path) -> Digits:
    """Read what `write_pngs` wrote, in the order of i; with labels if there are folders named 0..9.

    Files whose names start with a dot are passed over.

    Raises:
        DataError: there is no digit, a file is no 28 × 28 picture or has another name, or an i is missing
            or there twice; the message names the file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    files: dict[int, tuple[Path, int | None]] = {}
    for file, label in _pngs(folder):
        if file.suffix.lower() != ".png" or not (file.stem.isascii() and file.stem.isdigit()):
            raise DataError(f"{file}: expected the name <i>.png, with i counted from 0")
        i = int(file.stem)
        if i in files:
            raise DataError(f"{file}: digit {i} is there twice, the other is {files[i][0]}")
        files[i] = (file, label)
    if not files:
        raise DataError(f"{folder}: holds no PNG")
    missing = next((i for i in range(len(files)) if i not in files), None)
    if missing is not None:
        raise DataError(f"{folder}: {missing}.png is missing, but {max(files)}.png is there")

    pixels = np.empty((len(files), SIDE, SIDE), np.uint8)
    labels = [files[i][1] for i in range(len(files))]
    for i in range(len(files)):
        file = files[i][0]
        try:
            with Image.open(file) as image:
                pixels[i] = from_image(image)
        except DataError as error:
            raise DataError(f"{file}: {error}") from None
        except Image.UnidentifiedImageError:
            raise DataError(f"{file}: is no picture") from None
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
            raise DataError(f"{file}: is damaged: {error}") from error
    known = [label for label in labels if label is not None]
    return Digits(pixels, np.array(known, np.int64) if known else None)


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


def _pngs(folder: Path) -> Iterator[tuple[Path, int | None]]:
    """Each file below a folder that ought to be a digit, with its label."""
    names = {str(label): label for label in range(CLASSES)}
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    labelled = any(entry.is_dir() for entry in entries)
    for entry in entries:
        if not labelled:
            yield entry, None
        elif entry.is_dir() and entry.name in names:
            for file in sorted(entry.iterdir()):
                if not file.name.startswith("."):
                    yield file, names[entry.name]
        else:
            raise DataError(f"{entry}: expected nothing but folders named 0 to 9 beside each other")


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
