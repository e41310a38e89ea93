"""Opening picture files: what is read, what is refused, and what a hostile file may cost."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from mnist_core import _png, picture_files
from mnist_core.errors import DataError, MnistError
from mnist_core.folders import read_pngs, write_pngs
from mnist_core.images import read_image
from mnist_core.picture_files import FORMATS


def chunk(kind, content):
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(idat, width=28, height=28):
    """Return an 8-bit grey PNG whose compressed rows are `idat`."""
    head = _png.SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return head + chunk(b"IDAT", idat) + chunk(b"IEND", b"")


def picture(size=(60, 60)):
    """Return a white square on black."""
    image = Image.new("L", size)
    image.paste(255, (size[0] // 3, size[1] // 4, size[0] // 2, 3 * size[1] // 4))
    return image


@pytest.mark.parametrize("after", [1, 100_000_000], ids=["one byte more", "100 MB more"])
def test_a_compressed_picture_is_not_unpacked_beyond_its_size(tmp_path, after, synthetic):
    """A PNG of 100 KB that stands for 100 MB costs no memory, neither to read nor to write beside."""
    file = tmp_path / "0.png"
    compress = zlib.compressobj(9)
    rows = compress.compress(bytes(28 * 29))
    rows += b"".join(compress.compress(bytes(1_000_000)) for _ in range(after // 1_000_000))
    file.write_bytes(png(rows + compress.compress(bytes(after % 1_000_000)) + compress.flush()))

    for _ in range(2):  # what is imported on the way counts the first time
        tracemalloc.start()
        assert not read_pngs(tmp_path).pixels.any()  # as every reader of PNGs, Pillow ignores what follows
        with pytest.raises(DataError, match="holds something else"):
            write_pngs(synthetic(1, labelled=False), tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert peak < 2_000_000


def test_a_picture_of_too_many_pixels_is_refused(tmp_path):
    """A file whose header alone promises gigabytes is refused before they are needed, without a warning."""
    for edge in (6500, 11_000, 60_000):
        (tmp_path / "a.png").write_bytes(png(zlib.compress(b""), edge, edge))

        with pytest.raises(DataError, match=r"a\.png: the picture .*too many pixels.*make it smaller"):
            read_image(tmp_path / "a.png")


def test_a_file_of_too_many_bytes_is_refused(tmp_path, monkeypatch):
    """A file that is larger than any picture is not read into the memory."""
    monkeypatch.setattr(picture_files, "MAX_BYTES", 100)
    (tmp_path / "a.png").write_bytes(png(bytes(100)))

    with pytest.raises(DataError, match=r"a\.png: the file has too many bytes, at most 100 are read"):
        read_image(tmp_path / "a.png")


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(tmp_path, monkeypatch):
    """A photo of more pixels than may be decoded is read, since JPEG can be decoded smaller."""
    picture((1200, 900)).save(tmp_path / "a.jpg")
    monkeypatch.setattr(picture_files, "MAX_PIXELS", 200_000)
    monkeypatch.setattr(picture_files, "_ENOUGH", 200)

    assert read_image(tmp_path / "a.jpg").max() == 255


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_read(tmp_path, name):
    """The formats that people keep pictures in give the same digit."""
    picture().save(tmp_path / "a", name, quality=95)
    picture().save(tmp_path / "a.png")

    assert abs(read_image(tmp_path / "a").astype(int) - read_image(tmp_path / "a.png")).mean() < 12


def test_no_other_program_is_run(tmp_path, monkeypatch):
    """Pillow gives PostScript to Ghostscript; a picture to recognise must not run a program."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    file = tmp_path / "a.png"
    picture().save(file, "EPS")

    with pytest.raises(DataError, match="PostScript file, which is not read; save it as JPEG or PNG"):
        read_image(file)

    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"%PDF-1.7", "PDF"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"8BPS\0\1", "Photoshop"),
    ],
)
def test_a_format_that_is_not_read_is_named(tmp_path, start, name):
    """A telephone's HEIC is not "no picture": the message names the format and what to do."""
    (tmp_path / "a.jpg").write_bytes(start + bytes(100))

    with pytest.raises(DataError, match=rf"a\.jpg: is a {name} file, which is not read; save it as JPEG"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["PIL.Image.Image.load", "PIL.ImageOps.exif_transpose"])
def test_an_error_that_no_picture_causes_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch, name):
    """A cap that ends while a picture is read ends the run, and not only this picture."""
    file = tmp_path / "a.png"
    Image.new("L", (28, 28)).save(file)

    def overdue(*_args, **_options):
        raise MnistError("it took too long")

    monkeypatch.setattr(name, overdue)
    with pytest.raises(MnistError, match="it took too long") as caught:
        read_image(file)

    assert type(caught.value) is MnistError


def test_a_damaged_picture_says_what_to_do(tmp_path):
    """A file that was cut off is named, with the remedy."""
    file = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90), np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:2000])

    with pytest.raises(DataError, match=r"a\.png: is damaged: .*; save or download it again"):
        read_image(file)
