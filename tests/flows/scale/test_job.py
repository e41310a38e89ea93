"""A job of shards from input to index, in each format, and resumed."""

import json
from pathlib import Path

import pytest

from flows.environment import SettingsError
from flows.scale.coordinate import ShardError, do_shards, finish
from flows.scale.job import Output, index_of, uncovered
from flows.store.base import StoreError
from mnist_core.errors import DataError


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.csv.gz", "a.npy"])
def test_shards_predict_what_one_process_does(scale, same, name):
    """Each format, cut into shards, gives row by row the labels of one array in memory."""
    scale.write(name)

    index = scale.run(shard_rows=130)

    same(scale.result(), scale.expected())
    assert (index["rows"], index["skipped"]) == (500, 0)
    assert len(index["parts"]) == {"a.csv.gz": 1, "a.parquet": 5}.get(name, 4)
    assert sum(index["counts"].values()) == 500


def test_local_processes_predict_what_one_process_does(scale, same, local):
    """Two processes do the shards of several files, whose rows are numbered through."""
    scale.write("a.parquet", 0, 200)
    scale.write("b.csv", 200, 320)
    scale.write("c.npy", 320, 500)

    index = scale.run(local)

    same(scale.result(), scale.expected())
    assert [part["first_row"] for part in index["parts"]] == [0, 100, 200, 320, 410]


def test_a_finished_shard_is_never_computed_again(scale, same, in_process):
    """The same command does what is missing, and one that finds everything done does nothing."""
    scale.write("a.parquet")
    job = scale.plan()
    list(in_process(scale.output, [1, 3]))
    in_process.asked.clear()

    scale.run(in_process)
    scale.run(in_process)

    assert sorted(in_process.asked) == [0, 2, 4]
    assert len(job.shards) == 5
    same(scale.result(), scale.expected())


def test_a_part_without_its_record_is_kept(scale, same, in_process):
    """Of a worker that was killed between part and record the part is used, not computed again."""
    scale.write("a.parquet")
    scale.plan()
    list(in_process(scale.output, [0]))
    assert Output(scale.output).store.delete("_job/done/000000.json")
    part = Path(scale.output) / "part-000000.parquet"
    written = part.stat().st_mtime_ns

    scale.run(in_process)

    assert part.stat().st_mtime_ns == written
    same(scale.result(), scale.expected())


def test_ids_are_those_of_the_file(scale):
    """A column `id` is passed through; without one the id is the row's number in the whole input."""
    scale.write("a.parquet", 0, 200, ids=[f"scan-{i}" for i in range(200)])

    scale.run()

    assert scale.result()["id"].to_pylist() == [f"scan-{i}" for i in range(200)]


def test_an_id_twice_in_a_shard_is_refused(scale):
    """A repeated id is named with its shard and row."""
    scale.write("a.parquet", 0, 100, ids=[*range(99), 7])

    with pytest.raises(ShardError, match=r"shard 0 .*a\.parquet.*row 99, column id: 7 occurs twice"):
        scale.run()


def test_all_probabilities_on_request(scale):
    """The column `probabilities` has one for each class; the label's is `probability`."""
    scale.write("a.npy", 0, 50)

    scale.run(probabilities=True)

    table = scale.result()
    for row in table.to_pylist():
        assert row["probability"] == max(row["probabilities"])
        assert row["probabilities"].index(max(row["probabilities"])) == row["label"]
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_another_job_does_not_share_an_output(scale):
    """An output has one job: other options, or another input, are refused before anything is done."""
    scale.write("a.parquet")
    scale.run()

    with pytest.raises(SettingsError, match=r"has a job with probabilities False, not True"):
        scale.plan(probabilities=True)
    with pytest.raises(SettingsError, match="has a job with input"):
        scale.plan(input=str(scale.folder))


def test_an_input_that_changed_fails_its_shards_by_name(scale):
    """A file that was written again after the job was planned is not read; the other files are."""
    path = scale.write("a.parquet", 0, 200)
    scale.write("b.parquet", 200, 300)
    scale.plan()
    scale.write("a.parquet", 200, 400)

    with pytest.raises(ShardError, match=rf"shard 0 \({path}.*has changed since the job was planned"):
        scale.run()

    assert Output(scale.output).done() == {2}


def test_a_missing_part_ends_no_job(scale, in_process):
    """A part that was deleted, or changed, after it was finished is noticed before the index is written."""
    scale.write("a.parquet")
    output, job = Output(scale.output), scale.plan()
    made = do_shards(output, job, in_process)
    (Path(scale.output) / "part-000001.parquet").write_bytes(b"PAR1")

    with pytest.raises(StoreError, match=r"part-000001\.parquet has changed"):
        finish(output, job, made)
    assert output.index() is None


def test_no_file_that_is_incomplete_ends_in_parquet(scale, in_process):
    """Beside the parts there are only files of other names, until the index lists all of them."""
    scale.write("a.parquet", 0, 100)

    scale.run(in_process)

    names = sorted(path.name for path in Path(scale.output).iterdir())
    assert names == ["_job", "index.json", "least-certain.png", "part-000000.parquet"]


def test_an_input_without_digits_is_refused(scale, tmp_path):
    """An address without files, a file of other pictures, and files without rows are each explained."""
    with pytest.raises(SettingsError, match="does not exist"):
        scale.plan()
    (tmp_path / "input").mkdir()
    with pytest.raises(SettingsError, match="has no file whose name ends in"):
        scale.plan()
    scale.write("a.csv", 0, 10).write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match=r"a\.csv: the header begins with 'x,y', expected pixel0,pixel1"):
        scale.plan()
    scale.write("a.parquet", 0, 0)
    (tmp_path / "input/a.csv").unlink()
    with pytest.raises(DataError, match="the files have no rows"):
        scale.plan()


def test_a_list_names_the_files(scale, same):
    """A text file or a JSON list says which files count, and in which order."""
    scale.write("b.npy", 0, 300)
    scale.write("a.csv", 300, 500)
    scale.write("c.npy", 0, 10)
    listed = scale.folder / "input" / "all.txt"
    listed.write_text("# in this order\nb.npy\n\na.csv\n")

    scale.run(input=str(listed))

    same(scale.result(), scale.expected())
    as_json = scale.folder / "input" / "all.json"
    as_json.write_text(json.dumps(["b.npy", "a.csv", "nowhere.npy"]))
    scale.output += "-2"
    with pytest.raises(SettingsError, match=r"nowhere\.npy: does not exist"):
        scale.plan(input=str(as_json))


def test_shards_that_do_not_cover_the_input_are_noticed(scale):
    """A gap or an overlap between the ranges of a file's shards, or a missing part, keeps the index away."""
    scale.write("a.npy")
    job = scale.plan()
    assert uncovered(job) is None

    for wrong in (job.pieces[1:], [job.pieces[0], *job.pieces]):
        assert "begins with row" in (uncovered(type(job)(**{**vars_of(job), "pieces": wrong})) or "")
    with pytest.raises(StoreError, match="4 shards are not finished, the first is 0"):
        index_of(job, {})


def vars_of(job):
    """Return the fields of a job."""
    return {name: getattr(job, name) for name in job.__dataclass_fields__}
