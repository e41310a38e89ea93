"""CSV files of digits as other programs write them: what they look like is found out, said, and read.

Kaggle's own files never come here: `digits` reads them, and asks for a file that it refuses. What is not
certain is not guessed: then the file is refused, with what it looks like.
"""

from __future__ import annotations

import gzip
import io
import logging
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_core.errors import DataError
from mnist_core.spec import CompetitionSpec

MOST_ROWS = 1_000_000
"""Most rows that are read: a small compressed file can stand for any number."""

_LONGEST = 1 << 16  # characters of a line
_SEPARATORS = {
    ",": "",
    ";": "semicolons between the columns",
    "\t": "tabs between the columns",
    "|": "bars between the columns",
    " ": "spaces between the columns",
}
_FOREIGN = {
    b"PAR1": "a Parquet file", b"BZh": "compressed by bzip2", b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd", b"\x93NUMPY": "a NumPy array",
    b"\xd0\xcf\x11\xe0": "an Excel file", b"\x89HDF": "an HDF5 file", b"{": "a JSON file",
    b"[": "a JSON file", b"<!doctype": "a web page", b"<html": "a web page",
}  # fmt: skip
"""What other files begin with, in lower case."""
_LABELS = ("class", "digit", "target", "y")
_INDICES = ("", "unnamed: 0", "index", "id", "imageid")
_BOMS = {
    b"\xff\xfe": ("utf-16", "UTF-16"),
    b"\xfe\xff": ("utf-16", "UTF-16"),
    b"\xef\xbb\xbf": ("utf-8-sig", "a BOM"),
}
_NUMBER = re.compile(r"\d+(\.\d*)?(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """What the first two lines of a file say about the others.

    Attributes:
        names: the columns, as the header has them; made up if there is none.
        pixels: where the first pixel's column is; the others follow.
        label: where the label's column is; None if there is none.
        index: where a column is that counts the rows; None if there is none.
        header: whether the first line is a header.
        separator: what stands between the columns.
        quoted, spaced: whether quotes and spaces around values are dropped.
        decimal: whether whole numbers may be written as `7.0` and `1e2`.
        scale: what pixels are multiplied by, 1 or 255.
        notes: what is unusual about the file, for people.
    """

    names: tuple[str, ...]
    pixels: int
    label: int | None
    index: int | None
    header: bool
    separator: str
    quoted: bool
    spaced: bool
    decimal: bool
    scale: int
    notes: tuple[str, ...]

    def fields(self, line: str) -> list[str]:
        """Return the values of a line."""
        return _fields(line, self.separator, self.quoted, self.spaced)


def read(
    csv: Path, spec: CompetitionSpec, labelled: bool | None, refused: DataError
) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """Return pixels uint8 (N, 784) and labels int64 (N,) of a file that `digits` refused, and log its kind.

    Args:
        csv: the file.
        spec: columns, picture shape and classes of the competition.
        labelled: whether labels are wanted; None takes what is there.
        refused: why `digits` refused it; raised if the file is not of another kind.

    Raises:
        DataError: the file is not one of digits, or its kind is not certain.
    """
    layout = None
    try:
        with open_text(csv) as (lines, notes):
            layout = _layout(csv, lines, spec, notes, refused)
        if labelled is not None and labelled != (layout.label is not None):
            raise refused
        with open_text(csv) as (lines, _):
            pixels, labels, more = _rows(csv, lines, layout, spec)
    except DataError:
        if layout is None or layout.notes:
            raise
        raise refused from None  # it is of the usual kind, and `digits` says better what is wrong
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{csv}: is damaged: {error}", "download it again") from None
    notes = (*layout.notes, *more)
    if not notes:
        raise refused
    logging.getLogger("mnist").warning("%s: read as a file with %s", csv, ", ".join(notes))
    return pixels, labels


@contextmanager
def open_text(csv: Path, longest: int = _LONGEST) -> Iterator[tuple[Iterator[str], tuple[str, ...]]]:
    """Open a file, compressed or not, in the encoding that its first bytes name: its lines, and notes.

    Lines are cut after `longest` characters: a file that is not a CSV need not have line ends.
    """
    notes: tuple[str, ...] = ()
    with csv.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        raw = gzip.GzipFile(fileobj=file) if zipped else file
        start = raw.read(_LONGEST)
        raw.seek(0)
        for mark, kind in _FOREIGN.items():
            if start.lstrip().lower().startswith(mark.lower()):
                remedy = (
                    "log in and download it again" if "web" in kind else "save it as CSV, plain or with gzip"
                )
                raise DataError(f"{csv}: is {kind}, expected a CSV file", remedy)
        encoding = "utf-8"
        for mark, (name, note) in _BOMS.items():
            if start.startswith(mark):
                encoding, notes = name, (note,)
        mac = b"\r" in start and b"\n" not in start
        notes += ("line ends of old Macs",) * mac
        text = io.TextIOWrapper(raw, encoding, errors="replace", newline="\r" if mac else "\n")
        yield iter(lambda: text.readline(longest + 1), ""), (*("gzip",) * zipped, *notes)


def _fields(line: str, separator: str, quoted: bool, spaced: bool) -> list[str]:
    line = line.rstrip("\r\n")
    if quoted:
        line = line.replace('"', "")
    if separator == ";":  # as programs write it in countries with a decimal comma
        line = line.replace(",", ".")
    fields = line.split(separator)
    return [field.strip(" ") for field in fields] if spaced else fields


def _layout(
    csv: Path, lines: Iterator[str], spec: CompetitionSpec, notes: tuple[str, ...], refused: DataError
) -> Layout:
    """Return what the first two lines say, or raise why they are not those of a file of digits."""
    first, second = next(lines, ""), next(lines, "")
    separator = max(_SEPARATORS, key=lambda one: (one != " ") * first.count(one))
    separator = separator if separator in first else " "
    quoted, spaced = '"' in first, separator != " " and separator + " " in first
    header = _fields(first, separator, quoted, spaced)
    _check_shape(csv, header, spec)
    if len(header) < spec.pixels or len(first) > _LONGEST:
        raise refused
    found = [*notes, *filter(None, [_SEPARATORS[separator]])]
    found += ["quotes"] * quoted + ["spaces"] * spaced
    has_header = not all(_NUMBER.fullmatch(field) for field in header)
    row = _fields(second, separator, quoted, spaced) if has_header else header
    if has_header:
        pixels, label, index, more = _named(csv, header, spec, refused)
    else:
        pixels, label, index, more = _unnamed(
            csv, len(header), [header, _fields(second, separator, quoted, spaced)], spec
        )
        header = [f"column {number}" for number in range(1, len(header) + 1)]
    if len(row) != len(header):
        raise refused
    found += more
    ink = row[pixels : pixels + spec.pixels]
    decimal = [not field.isdigit() for field in ink]
    label_decimal = label is not None and _value(row[label]) >= 0 and not row[label].isdigit()
    scaled = any(_value(field) % 1 for field in ink) and all(_value(field) <= 1 for field in ink)
    if any(decimal) and not all(decimal) and not scaled:
        raise refused  # one odd value among others is damage, and not a way of writing
    found += ["decimals"] * (any(decimal) or label_decimal) + ["values 0..1, multiplied by 255"] * scaled
    return Layout(
        tuple(header), pixels, label, index, has_header, separator, quoted, spaced,
        any(decimal) or label_decimal, 255 if scaled else 1, tuple(found),
    )  # fmt: skip


def _check_shape(csv: Path, header: list[str], spec: CompetitionSpec) -> None:
    """Raise DataError if the columns are the pixels of pictures of another size, or in colours.

    The label and the number of the row may stand beside them.
    """
    for pixels in range(max(len(header) - 2, 4), len(header) + 1):
        edge = math.isqrt(pixels)
        if pixels == 3 * spec.pixels:
            raise DataError(
                f"{csv}: has {len(header):,} columns, three for each pixel, it seems",
                "convert the pictures to grey",
            )
        if edge**2 == pixels and pixels != spec.pixels and _numbered(header[-pixels:], edge):
            raise DataError(
                f"{csv}: has {len(header):,} columns, pictures of {edge} × {edge} pixels, it seems",
                f"scale them to {spec.size}",
            )


def _numbered(names: list[str], edge: int) -> bool:
    """Tell whether the names of columns are those of pixels, in their order."""
    return _way(names, (edge, edge)) is not None or all(_NUMBER.fullmatch(name) for name in names)


def _way(names: list[str], shape: tuple[int, int]) -> str | None:
    """Return how pixels are named, such as `px1`, if the names count them row by row; None if not."""
    height, width = shape
    for first in (0, 1):
        if names == [f"{y + first}x{x + first}" for y in range(height) for x in range(width)]:
            return names[0]
        prefix = names[0].removesuffix(str(first))
        if names == [f"{prefix}{number + first}" for number in range(height * width)]:
            return names[0]
    return None


def _named(
    csv: Path, header: list[str], spec: CompetitionSpec, refused: DataError
) -> tuple[int, int | None, int | None, list[str]]:
    """Return where pixels, label and index are by the names of the columns, and what is unusual."""
    names = [name.strip().lower() for name in header]
    if names[-1] == "" and len(names) > spec.pixels:
        names.pop()
        notes = ["an empty last column"]
    else:
        notes = []
    labels = [i for i, name in enumerate(names) if name in (*_LABELS, spec.label_column.lower())]
    indices = [i for i, name in enumerate(names) if name in _INDICES]
    others = [i for i in range(len(names)) if i not in labels and i not in indices]
    for odd in (0, -1) if len(others) == spec.pixels + 1 and not labels else ():
        rest = [names[i] for i in others if i != others[odd]]
        if _way(rest, spec.sides) is not None:
            raise DataError(
                f"{csv}: has a column '{header[others[odd]][:40]}' beside the pixels, which may be the label",
                f"name it {spec.label_column}, or remove it",
            )
    wrong = (
        f"{csv}: {len(header):,} columns, of which {len(others):,} can be pixels, expected {spec.pixels:,}"
    )
    if len(others) != spec.pixels or others[-1] - others[0] + 1 != spec.pixels:
        raise (
            refused
            if not labels or len(others) != spec.pixels
            else DataError(wrong, "put the pixels side by side")
        )
    if len(labels) > 1 or len(indices) > 1:
        raise DataError(f"{csv}: the label or the number of the row has two columns", "remove one of them")
    pixels = [names[i] for i in others]
    way = _way(pixels, spec.sides)
    if way is None:
        raise refused
    if way != spec.pixel_column.format(0):
        notes.append(f"pixels named {header[others[0]]}, …")
    if labels and header[labels[0]] != spec.label_column:
        notes.append(f"the label in the column {header[labels[0]]}")
    if labels and labels[0] > others[0]:
        notes.append("the label behind the pixels")
    if indices:
        notes.append("a column that counts the rows")
    return others[0], labels[0] if labels else None, indices[0] if indices else None, notes


def _unnamed(
    csv: Path, width: int, rows: list[list[str]], spec: CompetitionSpec
) -> tuple[int, int | None, None, list[str]]:
    """Return where pixels and label are in a file without a header, and what is unusual."""
    if width == spec.pixels:
        return 0, None, None, ["no header"]
    if width == spec.pixels + spec.class_count:
        raise DataError(
            f"{csv}: has no header, and {width:,} columns: pixels and a column for each class, it seems",
            f"replace the last {spec.class_count} columns by one with the number of the class",
        )
    if width != spec.pixels + 1:
        raise DataError(
            f"{csv}: has no header, and {width:,} columns, expected {spec.pixels:,} or one more for a label",
            f"remove the others, or write the header {spec.label_column},{spec.pixel_column.format(0)},…",
        )
    # Corners of digits are empty; a label that is 0 in both rows is not told from them.
    first, last = ({_value(row[at]) for row in rows if len(row) == width} for at in (0, -1))
    if first != {0.0} and last == {0.0}:
        return 1, 0, None, ["no header", "the label before the pixels"]
    if last != {0.0} and first == {0.0}:
        return 0, spec.pixels, None, ["no header", "the label behind the pixels"]
    raise DataError(
        f"{csv}: has no header, and it is not certain which of {width:,} columns is the label",
        f"write the header {spec.label_column},{spec.pixel_column.format(0)},… above the rows",
    )


def _rows(
    csv: Path, lines: Iterator[str], layout: Layout, spec: CompetitionSpec
) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None, list[str]]:
    """Return pixels, labels, and what is unusual about the rows."""
    pixels, labels = bytearray(), bytearray()
    notes: list[str] = []
    start, blank = 0, 0
    for number, line in enumerate(lines, start=1):
        if number == 1 and layout.header:
            continue
        row = number - layout.header
        where = f"{csv}: row {row} (line {number})"
        if not line.strip():
            blank = blank or row
            continue
        if blank:
            raise DataError(f"{csv}: row {blank}: the line is empty, and rows follow", "remove it")
        if len(line) > _LONGEST:
            raise DataError(f"{where}: the line has more than {_LONGEST:,} characters")
        if row > MOST_ROWS:
            raise DataError(f"{csv}: has more than {MOST_ROWS:,} rows", "split it")
        fields = layout.fields(line)
        if len(fields) != len(layout.names):
            raise DataError(f"{where}: {len(fields)} values, expected {len(layout.names)}")
        if layout.index is not None:
            index = _whole(where, layout, layout.index, fields, 1 << 40)
            start = index - row if row == 1 else start
            if index - row != start:
                raise DataError(
                    f"{where}, column '{layout.names[layout.index]}': does not count the rows", "remove it"
                )
        if layout.label is not None:
            labels.append(_whole(where, layout, layout.label, fields, spec.class_count - 1))
        pixels += _ink(where, layout, fields, spec)
    if not pixels:
        raise DataError(f"{csv}: has no row below the header")
    notes += ["blank lines at its end"] if blank else []
    ink = np.frombuffer(pixels, np.uint8).reshape(-1, spec.pixels)
    return ink, np.frombuffer(labels, np.uint8).astype(np.int64) if layout.label is not None else None, notes


def _ink(where: str, layout: Layout, fields: list[str], spec: CompetitionSpec) -> bytes:
    """Return the pixels of a row."""
    ink = fields[layout.pixels : layout.pixels + spec.pixels]
    if not layout.decimal and "".join(ink).isdecimal() and "".join(ink).isascii():
        with_values = [int(field[-4:]) if field else 256 for field in ink]
        if max(with_values) < 256 and max(map(len, ink)) < 5:
            return bytes(with_values)
    values = [_whole(where, layout, layout.pixels + i, fields, 255, layout.scale) for i in range(len(ink))]
    return bytes(values)


def _whole(where: str, layout: Layout, at: int, fields: list[str], most: int, scale: int = 1) -> int:
    """Return a value as a whole number from 0 to `most`.

    Raises:
        DataError: it is not one.
    """
    field = fields[at]
    value = _value(field) * scale if layout.decimal or field.isdigit() else -1.0
    near = round(value) if 0 <= value < most + 0.5 else -1
    if near < 0 or abs(value - near) > (0.02 if scale > 1 else 0):
        expected = f"an integer 0..{most:,}" if scale == 1 else f"a multiple of 1/{scale} up to 1"
        what = f"'{field[:40]}'" + ("…" if len(field) > 40 else "")
        raise DataError(
            f"{where}, column {layout.names[at]}: found {what}, expected {expected}",
            f"the file was taken for one with {', '.join(layout.notes)}" if layout.notes else "",
        )
    return near


def _value(field: str) -> float:
    """Return a number that is written with digits, a point and an exponent; -1 for anything else."""
    return float(field) if len(field) < 40 and field.isascii() and _NUMBER.fullmatch(field) else -1.0
