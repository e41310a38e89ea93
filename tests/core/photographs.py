"""Synthetic photographs of handwritten digits: MNIST's own, large, on paper in the light that people have.

    python -m tests.core.photographs BUNDLE DIGITS [COUNT]

DIGITS is a NumPy archive with `x_test` and `y_test`. Prints how many of each condition a learner
recognises, for the digits that the code was tuned on and for digits by other writers (the last 5,000 of the
test set were written by others than its first 5,000).
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

HEIGHT, WIDTH = 300, 400
Array = np.ndarray


def ink_of(digit: Array, rng: np.random.Generator, edge: int) -> Array:
    """Return where the ink of a digit, uint8 (28, 28), is on the page, float (HEIGHT, WIDTH), 0..1."""
    inside = Image.fromarray(digit).crop((3, 3, 25, 25)).resize((edge, edge), Image.Resampling.BICUBIC)
    sharp = np.clip((np.asarray(inside.filter(ImageFilter.GaussianBlur(edge / 60)), float) - 90) / 60, 0, 1)
    page = np.zeros((HEIGHT, WIDTH))
    top = (HEIGHT - edge) // 2 + int(rng.integers(-20, 21))
    left = (WIDTH - edge) // 2 + int(rng.integers(-60, 61))
    page[top : top + edge, left : left + edge] = sharp
    return page


def light(name: str, rng: np.random.Generator) -> Array:
    """Return how bright the paper is, float (HEIGHT, WIDTH), of 255."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / (HEIGHT, WIDTH)[0]
    across = x / x.max()
    if name == "gradient":
        return 230 - 110 * across
    if name == "mild gradient":
        return 230 - 40 * across
    if name == "dark room":
        return 110 - 50 * across
    if name == "diagonal":
        return 240 - 150 * (across + y) / 2
    if name == "vignette":
        return 225 - 90 * ((across - 0.5) ** 2 + (y - 0.5) ** 2)
    if name in ("half in shadow", "soft shadow"):
        edge = across - 0.5 - 0.25 * (0.5 - y) - rng.uniform(-0.15, 0.15)
        return 225 - 95 / (1 + np.exp(np.clip(-edge * (1000 if name == "half in shadow" else 25), -50, 50)))
    return np.full((HEIGHT, WIDTH), 220.0)


def lined(paper: Array, every: int, how: float, squared: bool) -> Array:
    """Return paper with printed lines, `how` times as bright."""
    lines = np.ones_like(paper)
    lines[every // 2 :: every] = how
    if squared:
        lines[:, every // 2 :: every] = how
    return paper * lines


def photograph(digit: Array, name: str, seed: int) -> Image.Image:
    """Return a photograph of a digit in one of `CONDITIONS`."""
    rng = np.random.default_rng(seed)
    ink = ink_of(digit, rng, 60 if name == "small" else int(rng.integers(130, 200)))
    paper, pen = light(name, rng), 0.25
    if name in ("ruled", "red pen"):
        paper = lined(paper, 22, 0.8, squared=False)
    if name == "squared":
        paper = lined(paper, 18, 0.85, squared=True)
    if name == "pencil":
        pen = 0.6
    picture = paper * (1 - ink * (1 - pen))
    if name == "blackboard":
        picture = 45 + 25 * (light("vignette", rng) / 225) + 140 * ink
    if name == "black frame":
        picture[:4] = picture[-4:] = picture[:, :4] = picture[:, -4:] = 10
    if name == "wide frame":
        picture[:15] = picture[-15:] = picture[:, :15] = picture[:, -15:] = 60
    if name == "table edge":
        picture[-25:] = 90
        picture[:, :12] = 80
    picture = picture + rng.normal(0, 3, picture.shape)
    grey = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7))
    if name == "red pen":
        grey = Image.merge("RGB", (grey.point(lambda v: min(255, int(v * 1.1))), grey, grey))
    file = io.BytesIO()
    grey.save(file, "JPEG", quality=30 if name == "jpeg" else 88)
    return Image.open(file)


CONDITIONS = (
    *(
        "plain",
        "gradient",
        "mild gradient",
        "dark room",
        "diagonal",
        "vignette",
        "half in shadow",
        "soft shadow",
    ),
    *(
        "ruled",
        "red pen",
        "squared",
        "pencil",
        "small",
        "jpeg",
        "blackboard",
        "black frame",
        "wide frame",
        "table edge",
    ),
)


def count(
    read: Callable[[Image.Image], int], digits: Array, labels: Array, name: str
) -> tuple[int, int, int]:
    """Return how many photographs are read right, wrong, and not at all."""
    from mnist_core.errors import DataError

    found = [0, 0, 0]
    for seed, (digit, label) in enumerate(zip(digits, labels, strict=True)):
        try:
            found[int(read(photograph(digit, name, seed)) != label)] += 1
        except DataError:
            found[2] += 1
    return found[0], found[1], found[2]


def main() -> None:
    """Print the table."""
    from mnist_core import from_image, open_model

    model = open_model(Path(sys.argv[1]))
    with np.load(sys.argv[2]) as file:
        digits, labels = file["x_test"], file["y_test"]
    print("| condition | tuned on: right, wrong, none | other writers: right, wrong, none |\n|---|---|---|")
    for name in CONDITIONS:
        halves = [
            count(
                lambda image: int(model.predict(from_image(image)[None])[0].argmax()),
                digits[half],
                labels[half],
                name,
            )
            for half in (slice(0, 50), slice(9900, 9900 + int(sys.argv[3]) if len(sys.argv) > 3 else 9950))
        ]
        print(f"| {name} | {' '.join(map(str, halves[0]))} | {' '.join(map(str, halves[1]))} |", flush=True)


if __name__ == "__main__":
    main()
