"""The fast CSV reader: as strict as the slow one, whatever the blocks and threads."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mnist_core import _fast_csv
from mnist_core.digits import Digits, _read_by_line, read_test, read_train, write_csv
from mnist_core.errors import DataError
from mnist_core.spec import DIGIT_RECOGNIZER


@pytest.mark.usefixtures("only_fast")
@pytest.mark.parametrize("block", [3141, 4096, 5000, 9999, 1 << 19])
@pytest.mark.parametrize("cores", [1, 4])
def test_blocks_and_threads_do_not_change_the_digits(
    tmp_path, monkeypatch, block, cores, synthetic, csv_text, same
):
    """The digits do not depend on where the file is cut into blocks, nor on the number of threads."""
    monkeypatch.setattr(_fast_csv, "_BLOCK", block)
    monkeypatch.setattr(_fast_csv, "cores", lambda: cores)
    digits = synthetic(23)
    csv = tmp_path / "train.csv"
    csv.write_text(csv_text(digits))

    assert same(read_train(csv), digits)


@pytest.mark.usefixtures("only_fast")
def test_every_value_of_a_byte_is_read(tmp_path, csv_text):
    """Each value 0 to 255 is read before and after each other value."""
    values = np.array([[a, b] for a in range(256) for b in range(256)], np.uint8)
    pixels = np.zeros((168, 784), np.uint8)
    pixels.reshape(-1)[: values.size] = values.reshape(-1)
    csv = tmp_path / "test.csv"
    csv.write_text(csv_text(Digits(pixels.reshape(-1, 28, 28))))

    assert np.array_equal(read_test(csv).pixels.reshape(-1, 784), pixels)


@pytest.mark.usefixtures("only_fast")
def test_a_file_of_kaggles_size_is_read_fast(tmp_path, full_size, same):
    """42,000 digits written and read again are the same, and the slow reader was not needed."""
    csv = tmp_path / "train.csv"
    write_csv(full_size, csv)

    assert same(read_train(csv, rows=42_000), full_size)


PIECES = st.one_of(
    st.sampled_from(
        [b"", b",", b"\n", b"\r", b"\r\n", b"\n\n", b",,", b"0", b"10", b"255", b"256", b"-", b".", b'"']
    ),
    st.binary(max_size=4),
)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    line_end=st.sampled_from([b"\n", b"\r\n"]),
    changes=st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 3), PIECES), max_size=3),
)
@example(line_end=b"\n", changes=[(99_999, 0, b"\n")])
def test_both_readers_agree(tmp_path, line_end, changes, synthetic, csv_text):
    """The fast reader returns the same digits of a damaged file as the slow one, or gives up."""
    content = csv_text(synthetic(3)).encode().replace(b"\r\n", line_end)
    for at, removed, piece in changes:
        content = content[:at] + piece + content[at + removed :]
    csv = tmp_path / "train.csv"
    csv.write_bytes(content)

    fast = _fast_csv.read(csv, DIGIT_RECOGNIZER, True)
    try:
        by_line = _read_by_line(csv, DIGIT_RECOGNIZER, True)
    except DataError:
        assert fast is None
    else:
        assert fast is None or all(map(np.array_equal, fast, by_line))


NUMBERS = st.one_of(
    st.integers(0, 255).map(str), st.sampled_from(["0", "9", "10", "99", "100", "255", "007"])
)
FAULTS = ["", "256", "300", "1000", ",", ",,", "\n", "\r\n", "\r", "-"]


@st.composite
def rows_of_three(draw):
    """Draw the pieces of whole lines; in half of the texts one or two pieces are changed."""
    line_end = draw(st.sampled_from(["\n", "\r\n"]))
    rows = draw(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=4))
    pieces = [piece for a, b, c in rows for piece in (a, ",", b, ",", c, line_end)]
    if draw(st.booleans()):
        for _ in range(draw(st.integers(1, 2))):
            pieces[draw(st.integers(0, len(pieces) - 1))] = draw(st.sampled_from(FAULTS))
    last = pieces.pop()
    return [*pieces, last.removesuffix("\n")]  # the last line's end comes from the test


@settings(deadline=None, max_examples=1000)
@given(rows_of_three())
@example(["1", ",", "2", ",", "\n", "3", "\n"])
@example(["1", ",", "2", ",", "3", "\r", "4", ",", "5", ",", "6", "\r\n"])
@example(["1", ",", ",", "3", "\n", "4", ",", "5", ",", "6", ",", "7", "\n"])
def test_the_parser_accepts_lines_of_numbers_and_nothing_else(pieces):
    """Lines of three numbers 0..255 with one kind of line end are read, and no other text is."""
    text = "".join(pieces) + "\n"
    number = r"(?:\d{1,2}|[01]\d\d|2[0-4]\d|25[0-5])"
    row = rf"{number},{number},{number}"
    right = re.fullmatch(rf"(?:{row}\n)+|(?:{row}\r\n)+", text)

    block = np.frombuffer(b"\n\n" + text.encode(), np.uint8)
    table = _fast_csv.parse(block, 3, np.full((5, len(block) // 2 * 2 + 2), 0xFF, np.uint8))

    assert (table is not None) == (right is not None)
    if table is not None:
        assert table.tolist() == [[int(field) for field in line.split(",")] for line in text.split()]
