"""Damaged and hostile files for the readers of CSV files and pictures: `make fuzz`; some in `make test`.

Every file is a right one with a few changes. The readers may refuse it with a DataError, or read it; then the
fast path and the careful path must agree, with each other and with the simplest reading there is. Memory is
limited, so that a file that costs more than it may ends the process.

The last line counts the files, and names the slowest; a failure prints its file, its seed and its number.
"""

import argparse
import gzip
import io
import random
import re
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from mnist_core import _fast_csv, _png, digits
from mnist_core.digits import read_test, read_train
from mnist_core.errors import DataError
from mnist_core.images import read_image
from mnist_core.picture_files import FORMATS, open_picture, take_unchanged
from mnist_core.spec import CompetitionSpec

MEMORY = 1 << 30
"""Bytes of address space that the readers may take beyond what the interpreter and its libraries have."""

SMALL = CompetitionSpec("small", 1, 1, (2, 3, 1), tuple("012"))
"""Rows of six pixels: a damaged row is not drowned by right ones."""

PIECES = (
    *(b"", b",", b"\n", b"\r", b"\r\n", b"\n\n", b",,", b"0", b"1", b"9", b"00", b"10", b"255", b"256"),
    *(b"-", b"+", b".", b" ", b'"', b"\0", b"\xff", b"\xef\xbb\xbf", b";", b"\t", b"1e2", b"0.0", b"nan"),
    *(b"300", b"2559", "٣".encode(), b"0" * 5000, b"0" * 65_536, b"9" * 5000),
    *(b"label", b"pixel0", b"label,pixel0"),
)  # fmt: skip
MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("L", "P"),
    "BMP": ("1", "L", "P", "RGB"),
    "TIFF": ("1", "L", "P", "RGB", "RGBA", "CMYK", "F", "I;16", "YCbCr"),
    "WEBP": ("RGB", "RGBA"),
    "PPM": ("1", "L", "RGB", "F"),
}
SQUEEZED = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
BYTES = (0, 1, 2, 3, 4, 8, 16, 32, 64, 127, 128, 254, 255)


def change(content: bytes, rng: random.Random, pieces: tuple[bytes, ...]) -> bytes:
    """Return some bytes with up to four changes."""
    changed = bytearray(content)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 4))):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            changed[at : at + rng.randrange(4)] = rng.choice(pieces)
        elif kind == 1:
            changed[at : at + 1] = bytes([rng.choice(BYTES)])
        elif kind == 2 and changed:
            changed[at - 1] ^= 1 << rng.randrange(8)
        elif kind == 3:
            del changed[at : at + rng.choice((1, 2, 3, 10, 100, 1 << 30))]
        elif kind == 4:
            changed[at:at] = changed[at - rng.randrange(60) : at]
        else:
            changed[at : at + 4] = struct.pack(
                rng.choice("<>") + "I", rng.choice((0, 1, 28, 6000, 65_535, 1 << 31, (1 << 32) - 1))
            )
    return bytes(changed)


def make_csv(rng: random.Random) -> bytes:
    """Return a file of small pictures with up to four changes."""
    labelled = rng.random() < 0.7
    end = rng.choice((b"\n", b"\r\n"))
    rows = [
        [rng.randrange(3)] * labelled
        + [rng.choice((0, 0, 7, 10, 99, 100, 255, rng.randrange(256))) for _ in range(6)]
        for _ in range(rng.randrange(6))
    ]
    lines = [",".join(SMALL.columns(labelled=labelled)), *(",".join(map(str, row)) for row in rows)]
    content = end.join(line.encode() for line in lines) + end * (rng.random() < 0.8)
    if rng.random() < 0.2:
        content = in_another_way(content, rng)
    return change(content, rng, PIECES)


def in_another_way(content: bytes, rng: random.Random) -> bytes:
    """Return a CSV file as another program would write it."""
    header, _, rows = content.partition(b"\n")
    for _ in range(rng.choice((1, 1, 2))):
        way = rng.randrange(7)
        if way == 0:
            header, rows = (part.replace(b",", rng.choice((b";", b"\t", b", "))) for part in (header, rows))
        elif way == 1:
            header = header.replace(b"label", rng.choice((b"Label", b"class", b"id"))).replace(b"pixel", b"")
        elif way == 2:
            rows = re.sub(rb"(\d+)", rng.choice((rb"\1.0", rb'"\1"', rb"\1e0", rb"0.\1")), rows)
        elif way == 3:
            header = b""
    content = b"\n".join(filter(None, (header, rows)))
    kind = rng.randrange(6)
    if kind == 0:
        return content.replace(b"\n", b"\r")
    if kind == 1:
        return gzip.compress(content, 1)
    return content.decode().encode(rng.choice(("utf-16", "utf-8-sig", "utf-8", "utf-8")))


def simplest(content: bytes, labelled: bool) -> list[list[int]] | None:
    """Return the rows of a CSV file as one expression reads them; None of a file that is not right."""
    header, *lines = re.findall(rb"[^\n]*\n|[^\n]+", content) or [b""]
    columns = ",".join(SMALL.columns(labelled=labelled)).encode()
    number = rb"0*(?:\d\d?|1\d\d|2[0-4]\d|25[0-5])"
    row = re.compile((b"0*[0-2]," if labelled else b"") + b",".join([number] * 6) + b"\r?\n?")
    if not lines or not re.fullmatch(columns + b"\r?\n?", header) or not all(map(row.fullmatch, lines)):
        return None
    if any(len(line) > 65_536 for line in lines):
        return None
    return [[int(digits[-3:]) for digits in re.findall(rb"\d+", line)] for line in lines]


def try_csv(file: Path, rng: random.Random) -> str:
    """Read a damaged CSV file in every way; return what became of it."""
    content = make_csv(rng)
    file.write_bytes(content)
    _fast_csv._BLOCK = rng.choice((16, 37, 64, 1 << 20))
    for labelled, read in ((True, read_train), (False, read_test)):
        expected = simplest(content, labelled)
        fast = _fast_csv.read(file, SMALL, labelled)
        try:
            slow = digits._read_by_line(file, SMALL, labelled)
        except DataError:
            slow = None
        assert (slow is None) == (expected is None), f"careful: {slow}, simplest: {expected}"
        if expected is not None and slow is not None:
            table = [row[-6:] for row in expected]
            assert slow[0].tolist() == table
            assert not labelled or slow[1].tolist() == [row[0] for row in expected]
        if fast is not None:
            assert slow is not None, f"only the fast path reads it: {fast}"
            assert np.array_equal(fast[0], slow[0])
            assert not labelled or np.array_equal(fast[1], slow[1])
        try:
            table_read = read(file, SMALL)
        except DataError:
            assert slow is None
        else:
            if slow is not None:
                assert np.array_equal(table_read.pixels.reshape(-1, 6), slow[0])
                return "CSV files read"
            return "CSV files read as another kind"
    return "CSV files refused"


def make_pictures() -> list[bytes]:
    """Return pictures of all formats and of many modes and ways of compression."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (28, 28), np.uint8))
    drawn = Image.new("RGB", (40, 30), "white")
    drawn.paste("navy", (15, 5, 20, 25))
    kinds: list[tuple[Image.Image, str, dict[str, object]]] = [
        (image.convert(mode), name, {})
        for image in (noise, drawn)
        for name, modes in MODES.items()
        for mode in modes
    ]
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds += [
        (drawn, "JPEG", {"exif": exif, "progressive": True}),
        (drawn, "PNG", {"exif": exif}),
        (
            drawn.convert("P"),
            "GIF",
            {"save_all": True, "append_images": [noise.convert("P")], "transparency": 0},
        ),
        (drawn, "WEBP", {"lossless": True, "exif": exif}),
        *((drawn.convert("L"), "TIFF", {"compression": how}) for how in SQUEEZED),
        (drawn.convert("1"), "TIFF", {"compression": "group4"}),
    ]
    contents = [b"P2 3 2 255 0 1 2 3 4 5", b"P3 1 1 255 1 2 3", b"P1 2 2 1 0 0 1"]
    for image, name, options in kinds:
        buffer = io.BytesIO()
        image.save(buffer, name, **options)
        contents.append(buffer.getvalue())
    return [*contents, *(_png.encode(np.array(noise)) for _ in range(len(contents) // 4))]


def with_checksums(content: bytes) -> bytes:
    """Return a PNG whose chunks have right checksums, as far as its chunks can be followed."""
    fixed, at = bytearray(content), 8
    while at + 12 <= len(fixed):
        end = at + 8 + int.from_bytes(fixed[at : at + 4])
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = struct.pack(">I", zlib.crc32(fixed[at + 4 : end]))
        at = end + 4
    return bytes(fixed)


def bomb(rng: random.Random) -> bytes:
    """Return a PNG whose header promises any size, and whose rows go on for any length."""
    edges = [rng.choice((1, 28, 6000, 65_535, 1 << 30)) for _ in range(2)]
    rows = zlib.compress(bytes(rng.choice((0, 812, 813, 10_000_000))), 1)
    head = struct.pack(
        ">IIBBBBB", *edges, rng.choice((1, 8, 16)), rng.choice((0, 2, 3, 4, 6)), 0, 0, rng.choice((0, 1))
    )
    chunks = [(b"IHDR", head), (b"IDAT", rows), (b"IEND", b"")]
    if rng.random() < 0.3:
        chunks.insert(1, (b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(5_000_000), 1)))
    body = b"".join(struct.pack(">I", len(of)) + kind + of + bytes(4) for kind, of in chunks)
    return with_checksums(_png.SIGNATURE + body)


def try_picture(file: Path, rng: random.Random, pictures: list[bytes]) -> str:
    """Read a damaged picture in every way; return what became of it."""
    content = bomb(rng) if rng.random() < 0.01 else change(rng.choice(pictures), rng, PIECES)
    if content.startswith(_png.SIGNATURE) and rng.random() < 0.5:
        content = with_checksums(content)
    file.write_bytes(content)
    fast = _png.decode(_png.read(file, (28, 28)), (28, 28))
    if fast is not None:
        assert np.array_equal(
            open_picture(file, lambda image: take_unchanged(image, digits.DIGIT_RECOGNIZER)), fast
        )
    try:
        digit = read_image(file)
    except DataError as error:
        if not error.problem.startswith(f"{file}: ") or "memory" in error.problem:
            raise
        return "pictures refused"
    assert (digit.shape, digit.dtype) == ((28, 28), np.uint8)
    assert digit.any()
    return "pictures read"


def fuzz(numbers: range, seed: int, folder: Path) -> str:
    """Read damaged files, six of ten CSV files; return how many of each, and what the slowest took."""
    _fast_csv.cores = lambda: 1
    pictures = make_pictures()
    found: Counter[str] = Counter()
    slowest, slowest_number = 0.0, -1
    file = folder / "input"
    for number in numbers:
        rng = random.Random(f"{seed}/{number}")
        start = time.perf_counter()
        try:
            became = try_csv(file, rng) if number % 10 < 6 else try_picture(file, rng, pictures)
        except BaseException:
            print(f"seed {seed}, number {number}: {file.read_bytes()[:3000]!r}", flush=True)
            raise
        found[became] += 1
        if (took := time.perf_counter() - start) > slowest:
            slowest, slowest_number = took, number
    parts = ", ".join(f"{n:,} {what}" for what, n in sorted(found.items()))
    return f"seed {seed}: {parts}; the slowest took {slowest:.2f} s (number {slowest_number})"


def main() -> None:
    """Fuzz in limited memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--inputs", type=int, default=1_000_000, help="Number of files (default: %(default)s)."
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed (default: %(default)s).")
    parser.add_argument("--first", type=int, default=0, help="Number of the first (default: %(default)s).")
    given = parser.parse_args()
    assert set(FORMATS) <= set(Image.OPEN) or Image.init()
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, -1))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        print(fuzz(range(given.first, given.first + given.inputs), given.seed, Path(folder)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"memory: {peak:.0f} MiB at most", file=sys.stderr)


if __name__ == "__main__":
    main()
