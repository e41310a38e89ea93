"""How many synthetic photographs of digits `predict` reads, by condition: written by hand, and in fonts.

    python -m tests.bench.photographs BUNDLE infra/practice/data/mnist.npz [CONDITION …]

Each condition has 50 pictures that the code was tuned on and 50 for checking, of other writers (the last
5,000 of MNIST's test set were written by others than its first 5,000) and other fonts; of each half, 25 are
handwriting and 25 are in fonts. A wrong answer is `unsure` if `predict` says so. The conditions of `UNSEEN`
were written after the code, and nothing is tuned on their checking half. The fonts are Debian's:
`apt install FONTS`.

FONTS: fonts-humor-sans fonts-dkg-handwriting fonts-ecolier-court fonts-dejavu-extra fonts-kiloji
fonts-breip fonts-comic-neue fonts-klee fonts-rufscript fonts-kristi
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tests.core.photographs import CONDITIONS, UNSEEN, photograph

Array = np.ndarray
FOLDER = Path("/usr/share/fonts")
TUNED = ("Humor-Sans.ttf", "dkg.ttf", "Ecolier-court.ttf", "DejaVuSans-ExtraLight.ttf", "kiloji.ttf")
CHECKED = ("Breip.ttf", "ComicNeue-Regular.otf", "KleeOne-Regular.ttf", "Rufscript010.ttf", "Kristi.ttf")
HANDS = 25


def in_font(digit: int, font: str) -> Array:
    """Return a digit in a font as MNIST has it, but large: uint8 (448, 448)."""
    (file,) = FOLDER.rglob(font)
    drawn = ImageFont.truetype(str(file), 400)
    left, top, right, bottom = drawn.getbbox(str(digit))
    page = Image.new("L", (round(right - left) + 2, round(bottom - top) + 2))
    ImageDraw.Draw(page).text((1 - left, 1 - top), str(digit), 255, drawn)
    page.thumbnail((350, 350))
    square = Image.new("L", (448, 448))
    square.paste(page, ((448 - page.width) // 2, (448 - page.height) // 2))
    return np.array(square)


def pictures(archive: Path, checked: bool) -> Iterator[tuple[Array, int, str]]:
    """Yield digits of one half, their labels and where they are from."""
    with np.load(archive) as file:
        digits, labels = file["x_test"], file["y_test"]
    for at in range(9900, 9900 + HANDS) if checked else range(HANDS):
        yield digits[at], int(labels[at]), "hand"
    for number, font in enumerate(CHECKED if checked else TUNED):
        for digit in range(number % 2, 10, 2):
            yield in_font(digit, font), digit, font


def main() -> None:
    """Print the table, and on stderr what was not read."""
    from mnist_core import from_image, open_model
    from mnist_core.errors import DataError
    from mnist_core.predict_commands import SURE

    model = open_model(Path(sys.argv[1]))

    def read(image: Image.Image) -> tuple[int, float]:
        probabilities = model.predict(from_image(image)[None])[0]
        return int(probabilities.argmax()), float(probabilities.max())

    what = "right, wrong, unsure, blank"
    print(f"| condition | tuning: {what} | checking: {what} |\n|---|---|---|")
    for name in sys.argv[3:] or (*CONDITIONS, *UNSEEN):
        row = [name]
        for checked in (False, True):
            found = [0, 0, 0, 0]
            for seed, (digit, label, source) in enumerate(pictures(Path(sys.argv[2]), checked)):
                try:
                    digit_read, probability = read(photograph(digit, name, seed + 1000 * checked))
                except DataError as error:
                    found[3] += 1
                    print(name, checked, seed, source, label, error, file=sys.stderr)
                    continue
                found[0 if digit_read == label else 1 if probability >= SURE else 2] += 1
                if digit_read != label:
                    print(
                        name, checked, seed, source, label, digit_read, f"{probability:.2f}", file=sys.stderr
                    )
            row.append(" ".join(map(str, found)))
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
