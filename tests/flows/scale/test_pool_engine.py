"""Shards by child runs of a pool: which run does which, and what is read when all have ended."""

import pytest

from flows.environment import SettingsError
from flows.ops import children
from flows.ops.children import ChildError
from flows.predict import predict_range
from flows.scale.coordinate import ShardError
from flows.scale.job import Output
from flows.scale.pool_engine import PoolEngine, in_ranges, of_ranges, split
from flows.store.base import StoreError


@pytest.mark.parametrize(
    ("numbers", "parts", "expected"),
    [
        ([0, 1, 2, 3, 4], 2, ["0-1", "2-4"]),
        ([0, 1, 5, 7, 8], 1, ["0-1,5,7-8"]),
        ([3], 4, ["3"]),
        ([], 4, []),
        (list(range(1000)), 3, ["0-332", "333-665", "666-999"]),
    ],
)
def test_shards_are_divided_into_ranges(numbers, parts, expected):
    """Each run gets a part that follows the one before it; together they are all, and none is empty."""
    found = [in_ranges(part) for part in split(numbers, parts)]

    assert found == expected
    assert sum((of_ranges(text, 1000) for text in found), []) == numbers  # noqa: RUF017  (a few parts)


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1-b", "0-5", "5", "3-2", "3-1", "0-999999999999999"])
def test_ranges_that_the_job_does_not_have_are_refused(text):
    """A range of another form, or beyond the last shard, is an error that names it."""
    with pytest.raises(SettingsError, match="shards"):
        of_ranges(text, 5)


@pytest.fixture
def pool(monkeypatch):
    """Do children here, one after another, instead of on a Prefect server; a list of their parameters."""
    asked = []

    def run(_deployment, given, _limits, fallback=None):
        for parameters in given.values():
            asked.append(parameters.to_json())
            predict_range(Output(parameters.output), parameters.shards, 1)

    monkeypatch.setattr(children, "run_children", run)
    return asked


def test_runs_of_a_pool_predict_what_one_process_does(scale, same, pool):
    """Each child is given the output and a range; the parent reads what they finished."""
    scale.write("a.parquet")

    scale.run(PoolEngine("predict/cpu", 2, 60.0, 60.0))

    assert pool == [{"output": scale.output, "shards": text} for text in ("0-1", "2-4")]
    same(scale.result(), scale.expected())


def test_a_run_that_left_shards_out_is_an_error(scale, monkeypatch):
    """Runs that end well with another output, because of other settings, do not end the job."""
    scale.write("a.parquet")
    monkeypatch.setattr(children, "run_children", lambda *_: 0.0)

    with pytest.raises(
        ShardError, match=r"shard 0: its run ended without it; let the machines of predict/cpu"
    ):
        scale.run(PoolEngine("predict/cpu", 2, 60.0, 60.0))


def test_a_failed_run_ends_the_command_and_what_others_finished_is_kept(scale, same, monkeypatch, in_process):
    """The error is the child's; the same command gives the runs only what is missing."""
    scale.write("a.parquet")

    def run(_deployment, given, _limits, fallback=None):
        first = next(iter(given.values()))
        predict_range(Output(first.output), first.shards, 1)
        raise ChildError("Crashed on predict/cpu: out of memory")

    monkeypatch.setattr(children, "run_children", run)
    with pytest.raises(ChildError, match="out of memory"):
        scale.run(PoolEngine("predict/cpu", 2, 60.0, 60.0))

    scale.run(in_process)
    assert sorted(in_process.asked) == [2, 3, 4]
    same(scale.result(), scale.expected())


def test_a_range_needs_its_job(scale):
    """A child that does not reach the output of its parent says so."""
    with pytest.raises(StoreError, match=r"manifest\.json is missing; let all machines of a job reach"):
        predict_range(Output(scale.output), "0-1", 1)
