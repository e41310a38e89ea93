"""Digits side by side on a sheet, and the confusion table, as pictures that Pillow alone draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mnist_core.digits import check_array
from mnist_core.errors import DataError
from mnist_core.spec import DIGIT_RECOGNIZER

Colour = tuple[int, int, int]

PAPER = (255, 255, 255)
TEXT = (38, 42, 48)
FAINT = (120, 126, 134)
LINES = (222, 226, 230)
CORRECT = (226, 234, 242)  # cells of the diagonal: pale, so that the errors stand out
ERRORS = ((255, 236, 224), (251, 164, 116), (222, 72, 46), (140, 12, 30))  # one error … most errors


def sheet(
    pixels: NDArray[np.uint8],
    columns: int,
    scale: int = 2,
    captions: Sequence[str] | None = None,
    gap: int = 4,
) -> Image.Image:
    """Draw many digits in one picture, row by row, with a caption under each if there are captions.

    Args:
        pixels: uint8 (N, height, width), or (N, height, width, 3) in colour, N ≥ 1.
        columns: digits side by side.
        scale: edge of a digit's pixel in the picture, pixels; no smoothing.
        captions: N short texts, such as those of `error_captions`.
        gap: pixels between digits, and around them; 0 puts them edge to edge.

    Raises:
        DataError: there are no digits, pixels have another type or shape, or there are not N captions.
        ValueError: columns or scale is below 1, or gap below 0.
    """
    check_array("pixels", pixels, np.uint8, 4 if np.ndim(pixels) == 4 else 3)
    if not len(pixels):
        raise DataError("a sheet needs at least one digit")
    if captions is not None and len(captions) != len(pixels):
        raise DataError(f"{len(captions)} captions for {len(pixels)} digits")
    if columns < 1 or scale < 1 or gap < 0:
        raise ValueError(f"columns {columns} and scale {scale} must be 1 or more, gap {gap} 0 or more")
    columns = min(columns, len(pixels))
    rows = -(-len(pixels) // columns)
    high, wide = (edge * scale for edge in pixels.shape[1:3])

    line = max(10, min(14, 5 * scale))
    font = _font(line)
    width, height = wide, high
    if captions is not None:
        captions = [caption.replace(" ", "  ") for caption in captions]  # the font's own space is too narrow
        width = max(wide, *(_width(caption, font) for caption in captions))
        height += line + 8
    width += gap
    height += gap
    picture = Image.new("RGB", (columns * width + gap, rows * height + gap), PAPER)
    draw = ImageDraw.Draw(picture)
    for i, digit in enumerate(pixels):
        left, top = gap + i % columns * width, gap + i // columns * height
        tile = Image.fromarray(digit).resize((wide, high), Image.Resampling.NEAREST)
        picture.paste(tile, (left + (width - gap - wide) // 2, top))
        if captions is not None:
            centre = (left + (width - gap) / 2, top + high + 4 + line / 2)
            _write(draw, centre, captions[i], font, TEXT)
    return picture


def error_captions(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    classes: Sequence[str] = DIGIT_RECOGNIZER.classes,
) -> list[str]:
    """Return captions such as "4→9 0.83": true class, predicted class, probability of the true one.

    Args:
        labels: int64 (N,), the numbers of the true classes.
        probabilities: float (N, 10).
        classes: their names.
    """
    return [
        f"{classes[label]}→{classes[row.argmax()]} {row[label]:.2f}"
        for label, row in zip(labels, probabilities, strict=True)
    ]


def pick_by_class(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the rows, int64 (≤ count,), of the first digits of each class, class by class.

    First the first of each class, then the second of each, until there are enough.
    """
    nth = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        nth[labels == label] = np.arange((labels == label).sum())
    enough = np.lexsort((labels, nth))[:count]
    return enough[np.lexsort((enough, labels[enough]))]


def confusion_picture(
    confusion: NDArray[np.int64], classes: Sequence[str] = DIGIT_RECOGNIZER.classes
) -> Image.Image:
    """Draw the confusion table: true class by row, predicted class by column.

    Only errors are coloured, by the logarithm of their count, since correct predictions are some hundred
    times as many. On the right and below are the errors of each row and column.

    Args:
        confusion: int64 (10, 10), counts, [true class, predicted class].
        classes: their names.

    Raises:
        DataError: the table has another type or shape, or a negative count.
    """
    count = len(classes)
    check_array("confusion", confusion, np.int64, 2)
    if confusion.shape != (count, count) or confusion.min() < 0:
        raise DataError(
            f"confusion: expected counts with shape ({count}, {count}), found shape {confusion.shape}"
        )
    errors = confusion.copy()
    np.fill_diagonal(errors, 0)
    table = _Table(count)
    picture = Image.new("RGB", (table.right + table.wide + 34, table.bottom + table.high + 44), PAPER)
    draw = ImageDraw.Draw(picture)
    _draw_cells(draw, table, confusion, int(errors.max()))
    _draw_margins(draw, table, errors, classes)
    _draw_titles(picture, draw, table, int(confusion.sum()), int(errors.sum()))
    return picture


@dataclass(frozen=True)
class _Table:
    """Where the cells of a square table are, pixels."""

    count: int
    wide: int = 58
    high: int = 38
    left: int = 78
    top: int = 84

    @property
    def right(self) -> int:
        return self.left + self.count * self.wide

    @property
    def bottom(self) -> int:
        return self.top + self.count * self.high

    def centre(self, row: int, column: int) -> tuple[float, float]:
        """Return the centre of a cell; row or column -1 is the heading, `count` the sums."""
        x = self.left + (column + 0.5) * self.wide + 8 * (column == self.count)
        y = self.top + (row + 0.5) * self.high + 8 * (row == self.count)
        return x, y


def _draw_cells(draw: ImageDraw.ImageDraw, table: _Table, confusion: NDArray[np.int64], most: int) -> None:
    """Draw the counts; `most` is the largest count of an error."""
    font = _font(16)
    for (true, predicted), found in np.ndenumerate(confusion):
        x, y = table.left + predicted * table.wide, table.top + true * table.high
        fill, ink = PAPER, TEXT
        if true == predicted:
            fill = CORRECT
        elif found:
            fill = _heat(int(found), most)
            ink = TEXT if sum(fill) > 450 else PAPER
        draw.rectangle((x, y, x + table.wide, y + table.high), fill, LINES)
        if found or true == predicted:
            _write(draw, table.centre(true, predicted), f"{found:,}", font, ink)


def _draw_margins(
    draw: ImageDraw.ImageDraw, table: _Table, errors: NDArray[np.int64], classes: Sequence[str]
) -> None:
    """Draw the names of the classes, and the errors of each row and column."""
    normal, bold, small = _font(16), _font(18), _font(13)
    for number, name in enumerate(classes):
        _write(draw, table.centre(number, table.count), f"{errors[number].sum():,}", normal, FAINT)
        _write(draw, table.centre(table.count, number), f"{errors[:, number].sum():,}", normal, FAINT)
        _write(draw, table.centre(-1, number), name, bold, TEXT)
        _write(draw, table.centre(number, -1), name, bold, TEXT)
    _write(draw, table.centre(-1, table.count), "errors", small, FAINT)
    _write(draw, table.centre(table.count, -1), "errors", small, FAINT)


def _draw_titles(
    picture: Image.Image, draw: ImageDraw.ImageDraw, table: _Table, total: int, wrong: int
) -> None:
    """Draw what rows and columns are, and a line that sums up."""
    bold, small = _font(18), _font(13)
    middle = (table.left + table.right) / 2
    _write(draw, (middle, 26), "predicted digit", bold, TEXT)
    title = Image.new("RGB", (table.bottom - table.top, 30), PAPER)
    _write(ImageDraw.Draw(title), (title.width / 2, 15), "true digit", bold, TEXT)
    picture.paste(title.rotate(90, expand=True), (4, table.top))
    summary = (
        f"{total - wrong:,} of {total:,} right, {wrong:,} wrong; the redder, the more errors (log scale)"
    )
    _write(draw, (middle, table.bottom + table.high + 26), summary, small, FAINT)


def _heat(count: int, most: int) -> Colour:
    """Return the colour of an error's cell, from ERRORS, by log(count) between 1 and the largest count."""
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
    """Return the pixels that `_write` needs; an arrow is drawn, since Pillow's font has none."""
    return round(sum(font.getlength(part) for part in text.split("→")) + text.count("→") * _arrow(font))


def _write(
    draw: ImageDraw.ImageDraw,
    centre: tuple[float, float],
    text: str,
    font: ImageFont.FreeTypeFont,
    ink: Colour,
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
