"""What may go wrong in the middle of a job: in the end each row is there once, as one process predicts it."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.scale import coordinate, engine
from flows.scale.coordinate import ShardError
from flows.scale.job import Output
from flows.store.folder import Folder
from tests.flows.scale.conftest import InProcess

COORDINATE = """
import sys
from flows.scale import coordinate
from flows.scale.engine import LocalEngine
from flows.scale.job import Output
output = Output(sys.argv[1])
job = output.need_job()
made = coordinate.do_shards(output, job, LocalEngine(2), progress=lambda *_: print("one", flush=True))
coordinate.finish(output, job, made)
print("finished", flush=True)
"""


def write_times(output):
    """Return when each part was written: one that is computed again would have another time."""
    return {path.name: path.stat().st_mtime_ns for path in Path(output).glob("part-*.parquet")}


def coordinator(output):
    """Start a coordinator as a process of its own, with two workers."""
    command = [sys.executable, "-c", COORDINATE, output]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_a_coordinator_killed_again_and_again_loses_nothing(scale, same):
    """Killed after some shards, ten times, and run again: no row is lost, twice, or computed again."""
    scale.write("a.parquet", groups=10)
    scale.plan(shard_rows=10)
    pick = random.Random(1)
    written = {}

    for _ in range(10):
        process = coordinator(scale.output)
        for _ in range(pick.randrange(1, 5)):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        now = write_times(scale.output)
        assert {name: now[name] for name in written} == written
        written = now
    last = coordinator(scale.output)

    assert last.stdout.read().endswith("finished\n")
    now = write_times(scale.output)
    assert {name: now[name] for name in written} == written
    same(scale.result(), scale.expected())


def test_killed_workers_are_replaced(scale, same, monkeypatch):
    """Ten workers are killed with SIGKILL while they have a shard; others do those shards."""
    scale.write("a.parquet", groups=10)
    job, pick, killed = scale.plan(shard_rows=10), random.Random(1), []
    ask, one_at_a_time = engine._Run._ask, threading.Lock()

    def ask_and_kill(run, process, number):
        with one_at_a_time:
            if len(killed) < 10 and number not in killed:
                killed.append(number)
                threading.Timer(pick.uniform(0, 0.02), process.kill).start()
        return ask(run, process, number)

    monkeypatch.setattr(engine._Run, "_ask", ask_and_kill)
    made = coordinate.do_shards(Output(scale.output), job, engine.LocalEngine(2))
    coordinate.finish(Output(scale.output), job, made)

    assert len(killed) == 10
    same(scale.result(), scale.expected())


def test_a_shard_that_kills_its_workers_fails_by_name(scale, monkeypatch):
    """A shard that costs five workers is given up, instead of costing workers without end."""
    scale.write("a.npy", 0, 20)
    scale.plan()
    monkeypatch.setattr(engine._Run, "_ask", lambda _run, process, _number: process.kill() or "")

    with pytest.raises(ShardError, match="shard 0: its worker was killed by signal 9, 5 times"):
        scale.run(engine.LocalEngine(1))


def test_two_coordinators_give_one_result(scale, same):
    """Two commands on one output at once: each part is kept once, and both end well."""
    scale.write("a.parquet", groups=10)
    scale.plan(shard_rows=10)

    both = [coordinator(scale.output) for _ in range(2)]

    assert [process.stdout.read().endswith("finished\n") for process in both] == [True, True]
    same(scale.result(), scale.expected())


def test_a_full_disk_ends_the_job_and_keeps_what_is_finished(scale, same, monkeypatch):
    """A part that finds no space leaves no file; with space again the same command does the rest."""
    scale.write("a.parquet")
    scale.plan()
    put = Folder.put

    def until_full(store, key, data):
        if key == "part-000002.parquet":
            with store._explained(key):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), key)
        return put(store, key, data)

    with monkeypatch.context() as full:
        full.setattr(Folder, "put", until_full)
        with pytest.raises(ShardError, match=r"part-000002\.parquet: No space left.*--output"):
            scale.run()
    written = write_times(scale.output)
    assert len(written) == 2

    scale.run()

    assert {name: write_times(scale.output)[name] for name in written} == written
    same(scale.result(), scale.expected())


@pytest.fixture(params=["moto", "seaweedfs"])
def bucket(request, start_s3, scale):
    """A bucket of each S3 server with two files of digits; the output is in it, too."""
    server = start_s3(request.param)
    for path in (scale.write("a.parquet", 0, 300), scale.write("b.csv", 300, 500)):
        server.client.upload_file(str(path), server.bucket, f"input/{path.name}")
    scale.output = f"s3://{server.bucket}/output"
    return server


FAULTS = ["500", "", "503", "", "", "reset", "", "lost", "", "", "cut", "", "409", ""]


def test_s3_that_fails_loses_nothing(scale, same, bucket):
    """Answers 500 and 503, resets, lost and cut answers: each row is there once."""
    address = f"s3://{bucket.bucket}/input"
    scale.plan(input=address)
    bucket.faults.extend(FAULTS * 2)

    scale.run(input=address)

    assert not bucket.faults
    same(scale.result(), scale.expected())


def test_an_object_that_changed_fails_its_shards_by_name(scale, bucket):
    """An object with another ETag is not read, though name and size are the same."""
    address = f"s3://{bucket.bucket}/input"
    scale.plan(input=address)
    path = scale.write("a.parquet", 0, 300)
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    bucket.client.put_object(Bucket=bucket.bucket, Key="input/a.parquet", Body=bytes(content))

    with pytest.raises(
        ShardError, match=r"input/a\.parquet.*has changed or is gone since the job was planned"
    ):
        scale.run(input=address)


def test_a_token_that_expires_ends_the_job_which_is_resumed(scale, same, bucket):
    """Refused credentials end the command with the remedy; renewed, the same command does the rest."""
    address = f"s3://{bucket.bucket}/input"
    scale.plan(input=address)
    left = iter(range(18))
    expired = ("403 Forbidden", "ExpiredToken", "The provided token has expired", "")
    bucket.refuse = lambda _environ: expired if next(left, None) is None else None

    with pytest.raises(ShardError, match="renew the AWS credentials"):
        scale.run(input=address)
    bucket.refuse = lambda _environ: None
    done = Output(scale.output).done()
    engine_asked = InProcess()
    scale.run(engine_asked, input=address)

    assert done
    assert not done & set(engine_asked.asked)
    same(scale.result(), scale.expected())


def break_row(scale, name, row):
    """Write 100 digits into a file, of which one row is broken."""
    path = scale.write(name, 0, 100)
    if name.endswith(".csv"):
        lines = path.read_text().split("\n")
        lines[row + 1] = "256" + lines[row + 1][1:]
        path.write_text("\n".join(lines))
    else:
        values = pq.read_table(path)["pixels"].to_pylist()
        values[row] = b"short"
        pq.write_table(pa.table({"pixels": pa.array(values, pa.binary())}), path)


@pytest.mark.parametrize(
    ("name", "column", "problem"),
    [
        ("a.csv", "pixel0", "found '256', expected an integer 0..255"),
        ("a.parquet", "pixels", "5 pixels, expected 784"),
    ],
)
def test_a_broken_row_fails_by_name_or_is_left_out(scale, same, name, column, problem):
    """A broken row is named by shard, row and column; with `skip` it is described beside the result."""
    break_row(scale, name, 42)
    with pytest.raises(ShardError, match=rf"shard 0 .*{name}.*row 42, column {column}: {problem}"):
        scale.run(bad_rows="fail")

    scale.output += "-2"
    index = scale.run(bad_rows="skip")

    assert (index["rows"], index["skipped"]) == (99, 1)
    kept = [row for row in range(100) if row != 42]
    expected = scale.expected(kept)
    same(scale.result(), expected.set_column(0, "id", pa.array(kept)))
    (line,) = (Path(scale.output) / "bad-rows/000000.jsonl").read_text().splitlines()
    assert (json.loads(line)["row"], json.loads(line)["column"]) == (42, column)
    assert json.loads(line)["problem"] == problem
