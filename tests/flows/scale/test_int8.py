"""Prediction in integers: made from the input's own digits, compared, or refused."""

import numpy as np
import pytest

from flows.environment import SettingsError
from flows.scale import int8
from flows.scale.coordinate import do_shards, finish, open_job
from flows.scale.job import Output, bundle_files, plan_job
from mnist_core.errors import BundleError
from mnist_core.manifest import read_manifest
from tests.flows.scale.conftest import SPEC, VERSION


@pytest.fixture(autouse=True)
def _limit(monkeypatch):
    """Allow the network of the tests, trained for seconds and unsure of much, 2 in 100 other labels."""
    monkeypatch.setattr(int8, "LIMIT", 0.02)


def plan(scale, **options):
    """Plan a job in integers, and put it and its model into the output, as the flow does."""

    def make():
        files = bundle_files(read_manifest(scale.bundle).files)
        job = plan_job(str(scale.folder / "input"), VERSION, SPEC, shard_rows=100, int8=True, **options)
        return job, int8.with_int8(job, {name: (scale.bundle / name).read_bytes() for name in files})

    return open_job(Output(scale.output), make, {"int8": True, **options})


def test_a_job_in_integers_gives_almost_the_same_labels(scale, in_process, caplog):
    """The worker finds the graph in integers alone, labels differ on 1 of 100 at most, the index says so."""
    scale.write("a.parquet", 0, 300)
    scale.write("b.csv", 300, 500)
    caplog.set_level("INFO", "mnist")

    job = plan(scale)
    index = finish(Output(scale.output), job, do_shards(Output(scale.output), job, in_process))

    found, expected = scale.result(), scale.expected()
    labels = [np.asarray(table["label"]) for table in (found, expected)]
    assert (labels[0] != labels[1]).sum() <= 5
    assert found["probability"].to_pylist() != expected["probability"].to_pylist()
    assert index["int8"] is True
    model = f"_job/model-{VERSION}"
    assert [*Output(scale.output).store.keys(model)] == [f"{model}/manifest.json", f"{model}/model-int8.onnx"]
    assert "of 300 digits of the input get another label" in caplog.text


def test_too_many_other_labels_are_refused(scale, monkeypatch):
    """If more digits than allowed get another label, nothing is planned."""
    scale.write("a.parquet")
    monkeypatch.setattr(int8, "LIMIT", -1.0)

    with pytest.raises(SettingsError, match=r"--int8: \d+ of 300 digits .*leave --int8 out"):
        plan(scale)
    assert Output(scale.output).read_job() is None


def test_an_input_of_few_digits_is_refused(scale):
    """Where too few digits are left to compare, the command says so before the job is planned."""
    scale.write("a.parquet", 0, 200)

    with pytest.raises(SettingsError, match=r"--int8: 200 digits of the input can be read, too few"):
        plan(scale)
    assert Output(scale.output).read_job() is None


def test_broken_rows_give_no_scales(scale):
    """Rows that cannot be read are left out of the sample, whatever the job does with them."""
    path = scale.write("a.csv")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b",", b",x", 1)
    path.write_bytes(b"".join(lines))

    assert plan(scale, bad_rows="skip").int8
    assert len(int8.sample(Output(scale.output).need_job())) == 499


def test_a_bundle_without_a_graph_is_refused(scale):
    """A version that only torch reads cannot be turned into integers."""
    scale.write("a.parquet")
    job = plan_job(str(scale.folder / "input"), VERSION, SPEC, shard_rows=100, int8=True)
    manifest = (scale.bundle / "manifest.json").read_text().replace("model.onnx", "none.onnx")
    weights = (scale.bundle / "weights.safetensors").read_bytes()

    with pytest.raises(BundleError, match=r"has no model\.onnx"):
        int8.with_int8(job, {"manifest.json": manifest.encode(), "weights.safetensors": weights})


def test_a_job_of_older_code_computes_in_float32(scale):
    """A manifest without the field is one of a job in float32."""
    scale.write("a.parquet")
    job = scale.plan()
    content = job.to_bytes().replace(b'"int8": false, ', b"")

    assert b"int8" not in content
    assert type(job).from_bytes(content, "there") == job
