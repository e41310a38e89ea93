"""Shards on a Dask cluster: a real scheduler and two workers, each a process of its own."""

import threading
from pathlib import Path

import pytest

from flows.environment import SettingsError
from flows.scale import coordinate, dask_engine
from flows.scale.coordinate import ShardError
from flows.scale.dask_engine import ClusterError, DaskEngine, differences
from flows.scale.job import Output
from tests.flows.scale.conftest import InProcess
from tests.flows.scale.dask_cluster import Cluster, Recorder, certificates


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster that the tests of this file share; who damages it starts it again."""
    made = Cluster(tmp_path_factory.mktemp("dask"))
    yield made
    made.stop()


def parts(output):
    """Return the bytes of each part."""
    return {path.name: path.read_bytes() for path in sorted(Path(output).glob("part-*.parquet"))}


def test_a_cluster_gives_the_same_bytes_and_is_given_no_secret(scale, cluster, monkeypatch):
    """The parts are those of one process, byte for byte, and no secret of this process travels."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t-of-the-store")
    monkeypatch.setenv("PREFECT_API_KEY", "s3cr3t-of-prefect")
    monkeypatch.setattr(dask_engine, "IN_FLIGHT", 4)
    scale.write("a.parquet", groups=10)
    scale.run(shard_rows=10)
    alone, recorder = parts(scale.output), Recorder(cluster.address)
    scale.output += "-2"

    scale.run(DaskEngine(recorder.address), shard_rows=10)

    assert parts(scale.output) == alone
    assert len(alone) == 50
    assert b"run_on_dask" in recorder.bytes
    assert b"s3cr3t" not in recorder.bytes


def test_a_failing_shard_is_named(scale, cluster):
    """What a shard fails with on a worker is the error of the command, as it would be here."""
    scale.write("a.parquet", 0, 100, ids=[*range(99), 7])

    with pytest.raises(ShardError, match=r"shard 0 .*a\.parquet.*row 99, column id: 7 occurs twice"):
        scale.run(DaskEngine(cluster.address))


def written(output):
    """Return when each part was written: one that is computed again would have another time."""
    return {path.name: path.stat().st_mtime_ns for path in Path(output).glob("part-*.parquet")}


@pytest.fixture
def tries(monkeypatch):
    """Let the engine look at once, and give up soon."""
    monkeypatch.setattr(dask_engine, "LOOK_S", 0.2)


@pytest.mark.slow
def test_ten_killed_workers_lose_no_row(scale, same, cluster, tries, monkeypatch):
    """Ten times a worker is killed with SIGKILL in the middle; others do its shards, and none twice."""
    monkeypatch.setattr(dask_engine, "IN_FLIGHT", 4)  # or the other one does everything meanwhile
    scale.write("a.parquet", groups=5)
    job, seen = scale.plan(shard_rows=5), []

    def kill(*_):
        seen.append(written(scale.output))
        if len(seen) % 9 == 0 and len(seen) <= 90:
            cluster.kill_worker(len(seen) % 2)

    output = Output(scale.output)
    made = coordinate.do_shards(output, job, DaskEngine(cluster.address), progress=kill)
    coordinate.finish(output, job, made)

    now = written(scale.output)
    assert len(seen) == 100
    for before in seen:
        assert {name: now[name] for name in before} == before
    same(scale.result(), scale.expected())


@pytest.mark.slow
def test_a_scheduler_that_is_started_again_is_given_the_rest(scale, same, cluster, tries):
    """The scheduler ends in the middle and comes back with new workers: the same command ends the job."""
    scale.write("a.parquet", groups=5)
    job, seen = scale.plan(shard_rows=5), []

    def restart(*_):
        seen.append(written(scale.output))
        if len(seen) == 10:
            cluster.stop()
            threading.Thread(target=cluster.start).start()

    output = Output(scale.output)
    made = coordinate.do_shards(output, job, DaskEngine(cluster.address), progress=restart)
    coordinate.finish(output, job, made)

    now = written(scale.output)
    assert {name: now[name] for name in seen[-1]} == seen[-1]
    same(scale.result(), scale.expected())


@pytest.mark.slow
def test_a_scheduler_that_stays_away_is_one_error_and_the_job_is_resumed(scale, same, cluster, monkeypatch):
    """Without its scheduler the command says how to continue; later only what is missing is done."""
    monkeypatch.setattr(dask_engine, "CONNECT_S", 1.0)
    scale.write("a.parquet", groups=5)
    job, seen = scale.plan(shard_rows=5), []

    def stop(*_):
        seen.append(0)
        if len(seen) == 10:
            cluster.stop()

    with pytest.raises(
        ClusterError, match=r"does not answer within 1 s.*run the same command again"
    ) as caught:
        coordinate.do_shards(Output(scale.output), job, DaskEngine(cluster.address), progress=stop)
    done = Output(scale.output).done()
    engine = InProcess()
    scale.run(engine, shard_rows=5)

    assert caught.value.retryable
    assert len(done) >= 10
    assert not done & set(engine.asked)
    same(scale.result(), scale.expected())
    cluster.start()


@pytest.mark.slow
def test_a_cluster_without_workers_is_an_error(scale, cluster):
    """Workers are waited for, and then the command says how they are started."""
    scale.write("a.npy", 0, 20)
    scale.plan()
    for worker in cluster.workers:
        worker.kill()
        worker.wait()

    with pytest.raises(ClusterError, match=r"has had no workers for 0 s; start some with `dask worker tcp:"):
        scale.run(DaskEngine(cluster.address, workers_s=0.3))
    cluster.stop()
    cluster.start()


SAME = {"python": "3.11.9", "dask": "2026.8.0", "numpy": "2.3", "mnist-nightly": "0.1.0"}


@pytest.mark.parametrize(
    ("scheduler", "worker", "expected"),
    [
        ({}, {}, []),
        ({"numpy": "1.0"}, {}, []),
        ({"dask": "2025.1.0"}, {}, ["dask is 2026.8.0 here and 2025.1.0 on the scheduler"]),
        ({}, {"numpy": "1.0"}, ["numpy is 2.3 here and 1.0 on worker tcp://w:1"]),
        ({}, {"mnist-nightly": None}, ["mnist-nightly is 0.1.0 here and missing on worker tcp://w:1"]),
        (
            {"python": "3.12.1"},
            {"python": "3.12.1"},
            [
                "python is 3.11.9 here and 3.12.1 on the scheduler",
                "python is 3.11.9 here and 3.12.1 on worker tcp://w:1",
            ],
        ),
    ],
)
def test_versions_are_compared(scheduler, worker, expected):
    """Each package that differs is named with the host that differs; a scheduler needs Dask's alone."""
    versions = {
        "client": {"packages": SAME},
        "scheduler": {"packages": SAME | scheduler},
        "workers": {"tcp://w:1": {"packages": SAME | worker}},
    }

    assert differences(versions) == expected


def test_other_versions_end_the_command_before_a_shard_is_done(scale, cluster, monkeypatch):
    """A worker with another version of a package is one error, and nothing is computed."""
    monkeypatch.setattr("flows.scale.dask_engine.ON_WORKERS", ("no-such-package", "numpy"))
    monkeypatch.setattr("distributed.versions.get_package_info", lambda _: {"numpy": "1.0"})
    scale.write("a.npy", 0, 20)

    with pytest.raises(ClusterError, match=r"has other versions: numpy is 1\.0 here and 2.*same image"):
        scale.run(DaskEngine(cluster.address))
    assert not Output(scale.output).done()


def test_a_tls_scheduler_needs_three_files(tmp_path):
    """What is missing in the folder of certificates is named."""
    with pytest.raises(SettingsError, match="MNIST_SCHEDULER_CERTIFICATES: is not set"):
        DaskEngine("tls://127.0.0.1:8786")
    (tmp_path / "ca.pem").touch()
    with pytest.raises(SettingsError, match=r"has no cert\.pem, key\.pem"):
        DaskEngine("tls://127.0.0.1:8786", tmp_path)


@pytest.mark.slow
def test_a_scheduler_of_tls_is_reached_with_the_three_files_alone(scale, same, tmp_path):
    """Over TLS the shards are done; a client without a certificate of the same authority is refused."""
    files = certificates(tmp_path / "ours")
    options = [f"--tls-{kind}={files / name}" for kind, name in
               (("ca-file", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem"))]  # fmt: skip
    scale.write("a.parquet")
    cluster = Cluster(tmp_path, "tls", *options)

    try:
        scale.run(DaskEngine(cluster.address, files))
        with pytest.raises(ClusterError, match="does not answer"):
            list(DaskEngine(cluster.address, certificates(tmp_path / "others"))(scale.output, [0]))
    finally:
        cluster.stop()

    same(scale.result(), scale.expected())
