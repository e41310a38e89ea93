"""Pieces of Parquet files: as many rows as were asked for, and no more of the file than that takes."""

import io
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mnist_core.shard_files import FORMATS, Piece
from mnist_core.spec import DIGITS_MINI

ROWS = 40_000


class Counted(io.BytesIO):
    """A file that counts the bytes that are read."""

    taken = 0

    def read(self, size=-1):
        """Read, and count."""
        content = super().read(size)
        self.taken += len(content)
        return content


@pytest.fixture(scope="module")
def content():
    """A file of two row groups of pixels that cannot be compressed."""
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, DIGITS_MINI.pixels), np.uint8)
    column = pa.array([row.tobytes() for row in pixels], pa.binary(DIGITS_MINI.pixels))
    written = io.BytesIO()
    pq.write_table(pa.table({"pixels": column}), written, row_group_size=ROWS // 2)
    return pixels, written.getvalue()


def test_the_pieces_of_a_file_are_its_rows(content):
    """Wherever row groups end."""
    pixels, file = content
    bounds = [0, 1, 19_000, 21_000, ROWS]
    for start, stop in itertools.pairwise(bounds):
        read = list(FORMATS["parquet"].read(io.BytesIO(file), "a.parquet", DIGITS_MINI, Piece(start, stop)))

        found = np.concatenate([rows.pixels for rows in read])
        assert (found.reshape(-1, DIGITS_MINI.pixels) == pixels[start:stop]).all()
        assert np.concatenate([rows.numbers for rows in read]).tolist() == list(range(start, stop))


def test_what_follows_a_piece_in_its_row_group_is_not_read(content):
    """A job of small shards does not read each row group once for each of them."""
    _, file = content
    opened = Counted(file)

    list(FORMATS["parquet"].read(opened, "a.parquet", DIGITS_MINI, Piece(0, 100)))

    assert opened.taken < len(file) / 4
