"""Synthetic photographs of digits, large, on paper in the light that people have.

`tests.bench.photographs` counts how many of them `predict` reads.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

HEIGHT, WIDTH = 300, 400
Array = np.ndarray
Y, X = np.mgrid[:HEIGHT, :WIDTH].astype(float)
ACROSS, DOWN = X / WIDTH, Y / HEIGHT


@dataclass
class Page:
    """A digit that is to be written and photographed.

    Attributes:
        digit: uint8, square: MNIST's (28, 28), or the same larger.
        rng: the picture's own.
    """

    digit: Array
    rng: np.random.Generator

    def ink(
        self,
        edge: tuple[int, int] = (130, 200),
        turn: float = 0,
        reach: tuple[int, int] = (60, 20),
        pen: int = 0,
    ) -> Array:
        """Return where the ink is, float (HEIGHT, WIDTH), 0..1.

        Args:
            edge: least and most pixels of a square around it.
            turn: degrees that it is rotated.
            reach: most pixels, across and down, that it stands beside the middle.
            pen: 1 for a thick one, -1 for a thin one.
        """
        size = int(self.rng.integers(edge[0], edge[1] + 1))
        margin = 3 * len(self.digit) // 28
        inside = Image.fromarray(self.digit).crop((margin, margin, *(len(self.digit) - margin,) * 2))
        inside = inside.resize((size, size), Image.Resampling.BICUBIC).rotate(turn, Image.Resampling.BICUBIC)
        if len(self.digit) > 28:
            pens = {1: ImageFilter.MaxFilter(7), -1: ImageFilter.MinFilter(3)}
            ink = np.asarray(inside.filter(pens[pen]) if pen else inside, float) / 255
        else:  # the few pixels are made sharp
            soft = np.asarray(inside.filter(ImageFilter.GaussianBlur(size / 60)), float)
            ink = np.clip((soft - 90 + 55 * pen) / 60, 0, 1)
        page = np.zeros((HEIGHT, WIDTH))
        across, down = (int(self.rng.integers(-most, most + 1)) for most in reach)
        top = min(max((HEIGHT - size) // 2 + down, 0), HEIGHT - size)
        left = min(max((WIDTH - size) // 2 + across, 0), WIDTH - size)
        page[top : top + size, left : left + size] = ink
        return page

    def write(self, paper: Array, tone: float = 0.25, **how: object) -> Array:
        """Return paper with the digit written on it; in its strokes it is `tone` times as bright."""
        return paper * (1 - self.ink(**how) * (1 - tone))  # type: ignore[arg-type]

    def shadow(self, softness: float) -> Array:
        """Return how bright paper is that lies half in the shadow of an edge."""
        edge = (ACROSS - 0.5) * 4 / 3 - 0.25 * (0.5 - DOWN) - self.rng.uniform(-0.15, 0.15)
        return 225 - 95 / (1 + np.exp(np.clip(-edge * softness, -50, 50)))

    def texture(self, size: int) -> Array:
        """Return smooth noise with the deviation 1, of patches of about `size` pixels."""
        coarse = self.rng.normal(0, 60, (HEIGHT // size + 2, WIDTH // size + 2)).clip(-127, 127) + 128
        smooth = Image.fromarray(coarse.astype(np.uint8)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        values = np.asarray(smooth, float)
        return (values - values.mean()) / values.std()


def plain(bright: float = 220) -> Array:
    """Return paper in even light."""
    return np.full((HEIGHT, WIDTH), float(bright))


def lined(paper: Array, every: int, how: float, squared: bool = False) -> Array:
    """Return paper with printed lines, `how` times as bright."""
    lines = np.ones_like(paper)
    lines[every // 2 :: every] = how
    if squared:
        lines[:, every // 2 :: every] = how
    return paper * lines


def framed(picture: Array, width: int, bright: float) -> Array:
    """Return a picture with a frame."""
    inner = np.zeros(picture.shape, bool)
    inner[width:-width, width:-width] = True
    return np.where(inner, picture, bright)


def table_edge(picture: Array) -> Array:
    """Return a picture with the dark table below and left of the paper."""
    picture = picture.copy()
    picture[-25:] = 90
    picture[:, :12] = 80
    return picture


def blurred(picture: Array, radius: float) -> Array:
    """Return a picture that is out of focus."""
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), float)


def tilted(picture: Array, rng: np.random.Generator) -> Array:
    """Return a picture of a page that is seen from below."""
    far, aside = rng.uniform(40, 70), rng.uniform(-20, 20)
    corners = [(0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)]
    seen = [(far + aside, 15), (WIDTH - far + aside, 15), (WIDTH, HEIGHT), (0, HEIGHT)]
    rows, values = [], []
    for (x, y), (u, v) in zip(seen, corners, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    how = tuple(np.linalg.solve(np.array(rows), np.array(values)))
    turned = image.transform(
        image.size, Image.Transform.PERSPECTIVE, how, Image.Resampling.BICUBIC, fillcolor=70
    )
    return np.asarray(turned, float)


def on_a_desk(picture: Array, page: Page) -> Array:
    """Return a sheet that lies, a little turned, on a desk of dark wood."""
    wood = 95 + 12 * np.sin(Y / 5 + 2 * page.texture(60)) + 6 * page.texture(8)
    turn = page.rng.uniform(-7, 7)
    sheet = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(sheet).rectangle((45, 25, WIDTH - 45, HEIGHT - 25), 255)
    mask = np.asarray(sheet.rotate(turn, Image.Resampling.BICUBIC), float) / 255
    return picture * mask + wood * (1 - mask)


def stained(picture: Array, page: Page) -> Array:
    """Return a picture with the ring that a cup of coffee left, or a part of it."""
    x, y = page.rng.uniform(20, 130), page.rng.uniform(20, 280)
    x = x if page.rng.random() < 0.5 else WIDTH - x
    away = abs(np.hypot(X - x, Y - y) - page.rng.uniform(45, 75))
    ring = np.clip(1.6 - away / 3, 0, 1) * np.clip(0.75 + 0.25 * page.texture(25), 0, 1)
    return picture * (1 - 0.28 * ring)


def folded(paper: Array, page: Page) -> Array:
    """Return paper that was folded twice: each part in a light of its own, and a crease between."""
    x, y = WIDTH * page.rng.uniform(0.3, 0.7), HEIGHT * page.rng.uniform(0.3, 0.7)
    light = 1 - 0.1 * (x < X) - 0.08 * (y < Y)
    crease = 1 - 0.15 * np.exp(-(((X - x) / 1.5) ** 2)) - 0.15 * np.exp(-(((Y - y) / 1.5) ** 2))
    return paper * light * crease


def chalk(page: Page) -> Array:
    """Return a digit in rough chalk on a wiped blackboard."""
    board = 50 + 8 * page.texture(40) + 4 * page.texture(7)
    rough = np.clip(0.8 + 0.25 * page.texture(2), 0, 1)
    return board + (215 - board) * page.ink() * rough


def mirrored(page: Page) -> Array:
    """Return paper through which another digit on its back can be seen."""
    back = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(back)
    x, y = page.rng.uniform(30, 300), page.rng.uniform(20, 180)
    draw.ellipse((x, y, x + 60, y + 90), outline=255, width=9)
    return plain() * (1 - 0.1 * np.asarray(back.filter(ImageFilter.GaussianBlur(2)), float) / 255)


def with_margin(paper: Array) -> Array:
    """Return ruled paper with the vertical line of its margin."""
    paper = lined(paper, 24, 0.7)
    paper[:, 48:51] *= 0.65
    return paper


def with_thumb(picture: Array, page: Page) -> Array:
    """Return a picture with a thumb in a corner."""
    x = -20 if page.rng.random() < 0.5 else WIDTH + 20
    inside = np.hypot((X - x) / 70, (Y - HEIGHT - 10) / 90) < 1
    return np.where(inside, 120 + 10 * page.texture(20), picture)


def with_hand(paper: Array, page: Page) -> Array:
    """Return paper with the soft shadow of a hand or a telephone."""
    x, y = page.rng.uniform(100, 300), page.rng.uniform(150, 300)
    away = np.hypot((X - x) / 110, (Y - y) / 130)
    return paper * (1 - 0.45 / (1 + np.exp(np.clip((away - 1) * 12, -50, 50))))


def flashed(page: Page) -> Array:
    """Return glossy paper that reflects a flash."""
    x, y = page.rng.uniform(100, 300), page.rng.uniform(80, 220)
    return 120 + 135 * np.exp(-(((X - x) / 160) ** 2) - ((Y - y) / 140) ** 2)


def pointed_at(paper: Array, page: Page) -> Array:
    """Return paper with the shadow of a finger that comes from below."""
    x, y, lean = page.rng.uniform(120, 280), page.rng.uniform(150, 260), page.rng.uniform(-0.5, 0.5)
    along = (Y - y) * np.cos(lean) - (X - x) * np.sin(lean)
    beside = (X - x) * np.cos(lean) + (Y - y) * np.sin(lean)
    away = np.where(along > 0, abs(beside), np.hypot(along, beside)) / 28
    return paper * (1 - 0.4 / (1 + np.exp(np.clip((away - 1) * 14, -50, 50))))


def printed(paper: Array, page: Page) -> Array:
    """Return paper with two lines of print at the top."""
    for top in (10, 22):
        left = 10
        while left < WIDTH - 20:
            width = int(page.rng.integers(3, 9))
            if page.rng.random() < 0.8:
                paper[top : top + 7, left : left + width] = 90
            left += width + 3
    return paper


def spotted(picture: Array, page: Page) -> Array:
    """Return a picture with a dozen specks of dirt."""
    for _ in range(12):
        x, y, radius = page.rng.uniform(0, WIDTH), page.rng.uniform(0, HEIGHT), page.rng.uniform(1.5, 4)
        picture = np.where(np.hypot(X - x, Y - y) < radius, picture * 0.5, picture)
    return picture


def on_a_cloth(picture: Array, page: Page) -> Array:
    """Return a card on a patterned table cloth."""
    inside = (X > 50) & (X < WIDTH - 50) & (Y > 30) & (Y < HEIGHT - 30)
    return np.where(inside, picture, 120 + 20 * page.texture(30))


def half_lit(page: Page) -> Array:
    """Return paper with the hard edge of the sun's light across it."""
    return np.where(page.rng.uniform(0.4, 0.8) < ACROSS + 0.3 * DOWN, 250.0, 120.0)


def two_toned(picture: Array, page: Page) -> Array:
    """Return a picture with a table of two tones below and left of the paper."""
    picture = np.where(HEIGHT - 35 < Y, 60.0, picture)
    return np.where(page.rng.uniform(40, 60) > X, np.where(Y < HEIGHT / 2, 140.0, 90.0), picture)


CONDITIONS: dict[str, Callable[[Page], Array]] = {
    "plain": lambda page: page.write(plain()),
    "gradient": lambda page: page.write(230 - 110 * ACROSS),
    "mild gradient": lambda page: page.write(230 - 40 * ACROSS),
    "dark room": lambda page: page.write(110 - 50 * ACROSS),
    "diagonal": lambda page: page.write(240 - 75 * (ACROSS + DOWN)),
    "vignette": lambda page: page.write(225 - 120 * ((ACROSS - 0.5) ** 2 + (DOWN - 0.5) ** 2)),
    "half in shadow": lambda page: page.write(page.shadow(1000)),
    "soft shadow": lambda page: page.write(page.shadow(25)),
    "ruled": lambda page: page.write(lined(plain(), 22, 0.8)),
    "red pen": lambda page: page.write(lined(plain(), 22, 0.8)),
    "squared": lambda page: page.write(lined(plain(), 18, 0.85, squared=True)),
    "pencil": lambda page: page.write(plain(), tone=0.6),
    "small": lambda page: page.write(plain(), edge=(50, 60)),
    "jpeg": lambda page: page.write(plain()),
    "blackboard": lambda page: 70 - 20 * ((ACROSS - 0.5) ** 2 + (DOWN - 0.5) ** 2) + 140 * page.ink(),
    "black frame": lambda page: framed(page.write(plain()), 4, 10),
    "wide frame": lambda page: framed(page.write(plain()), 15, 60),
    "table edge": lambda page: table_edge(page.write(plain())),
}
"""Conditions that the code was written for."""

UNSEEN: dict[str, Callable[[Page], Array]] = {
    "rotated": lambda page: page.write(230 - 60 * ACROSS, turn=page.rng.uniform(-10, 10)),
    "blurred": lambda page: blurred(page.write(225 - 50 * DOWN), 4),
    "chalk": chalk,
    "noisy": lambda page: page.write(150 - 40 * ACROSS) + page.rng.normal(0, 16, (HEIGHT, WIDTH)),
    "perspective": lambda page: tilted(page.write(lined(230 - 60 * ACROSS, 26, 0.8)), page.rng),
    "coffee": lambda page: stained(page.write(plain()), page),
    "folded": lambda page: page.write(folded(plain(), page)),
    "desk": lambda page: on_a_desk(page.write(plain(), edge=(90, 150), reach=(40, 20)), page),
    "hand": lambda page: page.write(with_hand(plain(), page)),
    "thumb": lambda page: with_thumb(page.write(plain(), reach=(40, 20)), page),
    "flash": lambda page: page.write(flashed(page)),
    "margin line": lambda page: page.write(with_margin(plain()), reach=(40, 20)),
    "strong squares": lambda page: page.write(lined(plain(), 20, 0.7, squared=True)),
    "ballpoint": lambda page: page.write(230 - 80 * DOWN, pen=-1),
    "marker": lambda page: page.write(page.shadow(25), pen=1),
    "faint pencil": lambda page: page.write(225 - 40 * ACROSS, tone=0.75),
    "show-through": lambda page: page.write(mirrored(page)),
    "in a corner": lambda page: page.write(235 - 100 * ACROSS, edge=(60, 90), reach=(180, 120)),
    "fills it": lambda page: page.write(220 - 60 * DOWN, edge=(280, 296), reach=(30, 2)),
    "rough paper": lambda page: page.write(plain(200) + 6 * page.texture(3)),
    "dark ruled": lambda page: page.write(lined(120 - 50 * ACROSS, 24, 0.8)),
    "shaded squares": lambda page: page.write(lined(page.shadow(40), 18, 0.85, squared=True)),
    "finger": lambda page: page.write(pointed_at(plain(), page)),
    "hard light": lambda page: page.write(half_lit(page)),
    "two-tone table": lambda page: two_toned(page.write(plain(), edge=(110, 170), reach=(40, 10)), page),
    "card": lambda page: on_a_cloth(page.write(plain(235), edge=(90, 140), reach=(40, 20)), page),
    "printed": lambda page: page.write(printed(plain(), page), edge=(110, 160), reach=(40, 30)),
    "specks": lambda page: spotted(page.write(plain()), page),
    "low contrast": lambda page: page.write(170 - 50 * ACROSS, tone=0.78),
    "white pencil": lambda page: 60 + 40 * ACROSS + 150 * page.ink(pen=-1),
    "yellow pen": lambda page: page.write(235 - 60 * ACROSS, tone=0.72),
    "jpeg at 20": lambda page: page.write(225 - 60 * ACROSS),
}
"""Conditions that were written after it, and conditions that were then added to them."""


def photograph(digit: Array, name: str, seed: int) -> Image.Image:
    """Return a photograph of a digit in one of `CONDITIONS` or `UNSEEN`."""
    rng = np.random.default_rng(seed)
    picture = (CONDITIONS | UNSEEN)[name](Page(digit, rng))
    picture = picture + rng.normal(0, 3, picture.shape)
    grey = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7))
    if name == "red pen":
        grey = Image.merge("RGB", (grey.point(lambda v: min(255, int(v * 1.1))), grey, grey))
    file = io.BytesIO()
    grey.save(file, "JPEG", quality={"jpeg": 30, "jpeg at 20": 20}.get(name, 88))
    return Image.open(file)
