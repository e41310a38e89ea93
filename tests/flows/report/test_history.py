"""The history of the nights: its drawing and its table."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from flows.records import Decision
from flows.report.history import ROWS, Entry, count_of, draw, markdown, ticks
from mnist_core.metric import Metric


def entry(number, valid=0.99, public=0.991, champion=False, demoted=False):
    """A night with its scores and intervals of ±0.001."""
    return Entry(
        night=f"2026-11-{number:02d}",
        version=f"2026-11-{number:02d}-convnet-{number:08x}",
        decision=Decision.PROMOTED if champion else Decision.REJECTED,
        valid=None if valid is None else (valid, valid - 0.001, valid + 0.001),
        public=None if public is None else (public, public - 0.001, public + 0.001),
        champion=champion,
        demoted=demoted,
    )


def points(svg, colour):
    """The points of a drawn line, as (x, y) in pixels from the upper left."""
    found = re.search(rf'<polyline points="([^"]*)" fill="none" stroke="{colour}"', svg)
    assert found
    return [tuple(map(float, point.split(","))) for point in found[1].split()]


def test_the_history_draws_each_night_at_its_height():
    """Two lines over the nights: a better score is higher, a night without a score has no point."""
    svg = draw([entry(1, 0.990, 0.991), entry(2, 0.992, None), entry(3, 0.988, 0.993)])

    valid, public = points(svg, "#2a6fbb"), points(svg, "#d9822b")
    assert [x for x, _ in valid] == sorted(x for x, _ in valid)
    assert valid[1][1] < valid[0][1] < valid[2][1]
    assert len(public) == 2
    assert public[1][1] < public[0][1]
    ElementTree.fromstring(svg)


def test_a_night_that_went_badly_wrong_does_not_flatten_the_others():
    """An outlier is cut off at the edge: the others keep most of the picture's height."""
    svg = draw([entry(1, 0.990, None), entry(2, 0.994, None), entry(3, 0.45, None)])

    heights = [y for _, y in points(svg, "#2a6fbb")]
    assert heights[0] - heights[1] > 30
    assert heights[2] == max(heights) <= 316
    assert "▼ 0.450" in svg


def test_the_history_marks_champions_and_those_demoted():
    """Each champion has its star, one that was demoted a cross, in the picture and in the table."""
    entries = [entry(1, champion=True), entry(2), entry(3, champion=True, demoted=True)]

    svg, page = draw(entries), markdown(entries, "practice/digit-recognizer/abc")

    assert svg.count(">★<") == 1
    assert svg.count(">✕<") == 1
    rows = [line for line in page.splitlines() if line.startswith("| 2026‑")]
    assert [row.split(" | ")[0] for row in rows] == ["| 2026‑11‑03", "| 2026‑11‑02", "| 2026‑11‑01"]
    assert "demoted" in rows[0]
    assert rows[1].endswith("| rejected |")
    assert rows[2].endswith("| promoted ★ champion |")
    assert "0.9900 (0.9890\u00a0to\u00a00.9910)" in rows[2]  # a line breaks before the interval, not in it


def test_a_history_with_prices_has_a_column_of_costs():
    """Without a price there is no such column."""
    priced = markdown([replace(entry(1), cost=0.0042)], "practice/digit-recognizer/abc")

    assert "| end | cost |" in priced
    assert priced.rstrip().endswith("| $0.0042 |")
    assert "cost" not in markdown([entry(1)], "practice/digit-recognizer/abc")


@pytest.mark.parametrize("entries", [[], [entry(1, None, None)], [entry(1, public=None)]])
def test_a_history_with_little_in_it_is_drawn(entries):
    """No night, one without any figure, one without a score: still a picture and a page."""
    ElementTree.fromstring(draw(entries))

    assert f"# {len(entries)} night" in markdown(entries, "practice/digit-recognizer/abc")


@pytest.mark.parametrize(
    ("server", "words"),
    [("practice", "the practice server"), ("kaggle", "kaggle.com"), ("127.0.0.1_9", "127.0.0.1_9")],
)
def test_the_heading_names_the_competition_and_not_a_path(server, words):
    """Server and data stand below it."""
    page = markdown([entry(1), entry(2)], f"{server}/digit-recognizer/5170f6847170799c")

    assert page.startswith(f"# 2 nights of digit-recognizer\n\nOn {words}, with the data 5170f6847170.\n")


@pytest.mark.parametrize(("count", "words"), [(1, "1 night"), (2, "2 nights")])
def test_one_night_is_not_called_nights(count, words):
    """The heading and the description of the artifact count alike."""
    assert count_of([entry(day + 1) for day in range(count)]) == words


@pytest.mark.parametrize(
    ("bottom", "top", "values"),
    [
        (0.9679, 0.9942, [0.97, 0.975, 0.98, 0.985, 0.99]),
        (0.9929, 0.9963, [0.993, 0.994, 0.995, 0.996]),
        (0.99, 0.9905, [0.99, 0.9901, 0.9902, 0.9903, 0.9904, 0.9905]),
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-0.0005, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ],
)
def test_the_lines_of_the_picture_are_at_round_values(bottom, top, values):
    """Few enough to read, and none is an odd number such as 0.9811."""
    assert ticks(bottom, top) == pytest.approx(values)


def test_the_page_stays_small():
    """A page of three months stays far below what a browser or a database minds."""
    page = markdown([entry(1 + number % 28) for number in range(90)], "practice/digit-recognizer/abc")

    assert page.count("\n| 2026") == ROWS
    assert len(page) < 100_000


def test_a_log_loss_is_told_and_not_drawn_beside_accuracies():
    """It may be above 1, the lower the better, and has no interval of right rows."""
    night = replace(entry(1), metric=Metric.LOG_LOSS, public=(1.25, 1.25, 1.25))

    page = markdown([night], "practice/letters/abc")

    assert '<polyline points="" fill="none" stroke="#d9822b"' in draw([night])
    assert "practice score (log loss, lower is better)" in page
    assert "| 1.25000 |" in page
