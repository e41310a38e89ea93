"""One digit as a picture and back: for PIL and fastai, and from any picture of a digit.

Only Pillow is needed, so that all of it works in the CPU image too; `to_fastai` alone imports fastai.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from mnist_core.errors import DataError
from mnist_core.ink import FAINTEST, border_of, box_of, find_ink, with_full_strokes
from mnist_core.picture_files import open_picture, take_unchanged, upright
from mnist_core.spec import DIGIT_RECOGNIZER, CompetitionSpec

if TYPE_CHECKING:
    from fastai.vision.core import PILImage

_EDGE = 512  # pixels of the longer side beyond which a picture is reduced before anything is computed


def to_pil(digit: NDArray[np.uint8], spec: CompetitionSpec = DIGIT_RECOGNIZER) -> Image.Image:
    """Return a digit, uint8 (28, 28), as a PIL image of mode L: 0 black background, 255 white ink."""
    return Image.fromarray(_one(digit, spec))


def to_fastai(digit: NDArray[np.uint8], spec: CompetitionSpec = DIGIT_RECOGNIZER) -> PILImage:
    """Return a digit, uint8 (28, 28), as the RGB `PILImage` that a fastai learner's `predict` takes.

    A plain `PIL.Image` raises an AssertionError there, and mode L does not fit an RGB network.
    """
    return array_to_fastai(_one(digit, spec))


def array_to_fastai(picture: NDArray[np.uint8]) -> PILImage:
    """Return a picture of any competition, uint8 (rows, columns) or (rows, columns, 3), as a `PILImage`."""
    from fastai.vision.core import PILImage

    shape = getattr(picture, "shape", ())
    if getattr(picture, "dtype", None) != np.uint8 or len(shape) not in (2, 3) or shape[2:] not in ((), (3,)):
        found = f"{picture.dtype} {shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise DataError(f"one picture is uint8 (rows, columns) or (rows, columns, 3), found {found}")
    return PILImage.create(picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2))


def from_image(image: Image.Image, spec: CompetitionSpec = DIGIT_RECOGNIZER) -> NDArray[np.uint8]:
    """Return any picture of one digit as MNIST would have it, uint8 (28, 28): 0 background, 255 full ink.

    MNIST fits a digit into 20 × 20 of 28 × 28 pixels, a margin of 4, and then moves its centre of mass to the
    middle. A competition whose specification names no margin gets the whole picture instead: fitted with its
    aspect kept, and the rest filled with what its border shows; in grey, one with a bright border is turned
    into its negative. A picture of the competition's size is returned as it is.

    On plain paper the background is what most of the border shows, and the ink is what differs from it, so
    white on black, black on white and ink on a transparent background are the same digit. In a photograph the
    ink is found in spite of shadows, lines and frames (`ink`). It is cropped, fitted into 20 × 20 with its
    aspect kept, and centred by mass. A picture that is like
    this already, 28 × 28 and white on black, is returned bit for bit; its negative gives the same.

    Source: Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database, yann.lecun.com/exdb/mnist

    Args:
        image: of any size and of any mode that Pillow turns into RGB; of an animation, the current frame. The
            orientation that a camera noted is respected.
        spec: the shape of a picture, and its margin.

    Raises:
        DataError: the picture is blank, shows two digits, or its mode has no colours.
    """
    image = upright(image)
    if spec.margin is None:
        return _fit_whole(image, spec)
    grey = _grey(image)
    for digit in (grey, 255 - grey):
        if _is_like_mnist(digit, spec):
            return digit
    return _fit_and_centre(find_ink(grey), spec)


def read_image(file: Path, spec: CompetitionSpec = DIGIT_RECOGNIZER) -> NDArray[np.uint8]:
    """Return the digit of a picture file, of any size and colours, as `from_image` does.

    Args:
        file: in one of `picture_files.FORMATS`.
        spec: the shape of a picture.

    Raises:
        DataError: the file is missing, not a picture, too large, damaged, or blank; the message names it.
    """
    return open_picture(file, lambda image: from_image(image, spec))


def _one(digit: NDArray[np.uint8], spec: CompetitionSpec) -> NDArray[np.uint8]:
    if not isinstance(digit, np.ndarray) or digit.dtype != np.uint8 or digit.shape != spec.picture_shape:
        found = f"{digit.dtype} {digit.shape}" if isinstance(digit, np.ndarray) else type(digit).__name__
        raise DataError(f"one digit is uint8 {spec.picture_shape}, found {found}")
    return digit


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    """Return a picture in grey, uint8 (height, width), with a plain background where it was transparent."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):  # 16 bits or more, in a range of its own
        values = np.nan_to_num(np.array(image, np.float32), copy=False, posinf=0, neginf=0)
        np.clip(values, -1e30, 1e30, out=values)  # whose difference is a number, too
        values -= values.min()
        values *= 255 / (values.max() or 1)
        return np.array(_reduce(Image.fromarray(np.rint(values, out=values).astype(np.uint8))))
    try:
        colours = _reduce(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    except ValueError as error:
        raise DataError(
            f"the picture has mode {image.mode}, which has no colours", "save it as PNG"
        ) from error
    grey = np.array(colours.convert("RGB").convert("L"))
    if colours.mode == "RGB":
        return grey
    alpha = np.array(colours.getchannel("A"))
    if alpha.min() == alpha.max() > 0:
        return grey
    visible = alpha > 127
    if not visible.any():
        return alpha
    rows, columns = box_of(visible)
    least, most = np.percentile(grey[visible], [2, 98])
    if visible[rows, columns].mean() < 0.6 or most - least < 64:
        return alpha  # ink of one colour on a transparent background: its shape is what can be seen
    # A card with a digit on it, on a transparent background: continue the card's own colour to the border.
    inner = np.array(Image.fromarray(visible.astype(np.uint8)).filter(ImageFilter.MinFilter(3)), bool)
    edge = visible & ~inner
    background = np.median(grey[edge] if edge.any() else border_of(grey))
    return np.rint(background + (grey - background) * (alpha / 255)).astype(np.uint8)


def _reduce(image: Image.Image) -> Image.Image:
    """Return a large picture smaller by a whole number, so that time and memory do not grow with it."""
    factor = max(image.size) // _EDGE
    return image.reduce(factor) if factor > 1 else image


def _is_like_mnist(grey: NDArray[np.uint8], spec: CompetitionSpec) -> bool:
    """Tell whether a picture is 28 × 28 and black at its border, and its ink fills 20 × 20 and is centred.

    All 70,000 digits of MNIST are: one has ink of 18 pixels, 19 of 19, and each centre of mass is within half
    a pixel of the middle.
    """
    if grey.shape != spec.sides or np.median(border_of(grey)) > 25 or grey.max() < 128:
        return False
    rows, columns = box_of(grey > 25)
    free = np.array([rows.stop - rows.start, columns.stop - columns.start]) - _room(spec)
    middle = np.array(spec.sides) / 2
    return -2 <= int(free.max()) <= 0 and bool((abs(_centre_of_mass(grey) - middle) < 1).all())


def _fit_and_centre(ink: NDArray[np.float32], spec: CompetitionSpec) -> NDArray[np.uint8]:
    """Return ink 0..1 (height, width) cropped, fitted into 20 × 20, and centred by mass in 28 × 28."""
    rows, columns = box_of(ink > FAINTEST)
    tall, wide = rows.stop - rows.start, columns.stop - columns.start
    high, broad = _room(spec)
    scale = min(high / tall, broad / wide)
    size = (max(1, round(wide * scale)), max(1, round(tall * scale)))
    box = (columns.start, rows.start, columns.stop, rows.stop)
    ink = with_full_strokes(ink, 1 / scale)
    # Pillow's filters widen as a picture shrinks, which is what smooths the edges.
    small = np.array(Image.fromarray(ink).resize(size, Image.Resampling.BILINEAR, box))
    # A thin pen turns pale when it shrinks; the strokes, not just their crossings, get full ink again.
    small = np.clip(small / np.percentile(small[small > 0.1 * small.max()], 90), 0, 1)

    y, x = _centre_of_mass(small)
    height, width = spec.sides
    top = min(max(round(height / 2 - y), 0), height - size[1])
    left = min(max(round(width / 2 - x), 0), width - size[0])
    digit = np.zeros(spec.sides, np.uint8)
    digit[top : top + size[1], left : left + size[0]] = np.rint(small * 255)
    return digit


def _room(spec: CompetitionSpec) -> tuple[int, int]:
    """Return how many rows and columns of a picture ink may fill."""
    rows, columns = spec.sides
    margin = spec.margin or 0
    return rows - 2 * margin, columns - 2 * margin


def _fit_whole(image: Image.Image, spec: CompetitionSpec) -> NDArray[np.uint8]:
    """Return a whole picture in a competition's shape; one that has its size already, unchanged."""
    rows, columns = spec.sides
    if image.size == (columns, rows) and image.mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        return take_unchanged(image, spec)
    if spec.channels == 3 and not image.mode.startswith(("I", "F")):
        picture = Image.fromarray(_colours(image))
    else:
        picture = Image.fromarray(_grey(image)).convert("L" if spec.channels == 1 else "RGB")
    scale = min(rows / picture.height, columns / picture.width)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    small = np.array(picture.resize(size, Image.Resampling.BILINEAR))
    fitted = np.empty(spec.picture_shape, np.uint8)
    fitted[:] = np.rint(np.median(border_of(small), axis=0)).astype(np.uint8)
    top, left = (rows - size[1]) // 2, (columns - size[0]) // 2
    fitted[top : top + size[1], left : left + size[0]] = small
    if spec.channels == 1 and np.median(border_of(fitted)) > 127:
        return 255 - fitted
    return fitted


def _colours(image: Image.Image) -> NDArray[np.uint8]:
    """Return a picture in colour, uint8 (height, width, 3), on white if it is transparent."""
    image = _reduce(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _centre_of_mass(ink: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float64]:
    """Return row and column of the centre, in pixels; the middle of the first pixel is 0."""
    total = ink.sum(dtype=np.float64)
    y = (ink.sum(1, dtype=np.float64) * np.arange(ink.shape[0])).sum() / total
    x = (ink.sum(0, dtype=np.float64) * np.arange(ink.shape[1])).sum() / total
    return np.array([y, x])
