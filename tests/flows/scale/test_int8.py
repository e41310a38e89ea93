"""Prediction in integers: made from the input's own digits, compared, or refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from flows.environment import SettingsError
from flows.scale import int8
from flows.scale.coordinate import do_shards, finish, open_job
from flows.scale.job import Output, bundle_files, plan_job
from mnist_core.manifest import read_manifest
from tests.flows.scale.conftest import SPEC, VERSION


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Compare 100 digits or more; a network that was trained for seconds may read 2 in 100 differently."""
    monkeypatch.setattr(int8, "LIMIT", 0.02)
    monkeypatch.setattr(int8, "COMPARED", 100)


def plan(scale, **options):
    """Plan a job in integers, and put it and its model into the output, as the flow does."""

    def make():
        files = bundle_files(read_manifest(scale.bundle).files)
        job = plan_job(str(scale.folder / "input"), VERSION, SPEC, shard_rows=100, int8=True, **options)
        return int8.with_int8(job, {name: (scale.bundle / name).read_bytes() for name in files})

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
    assert job.model.startswith(f"_job/model-{VERSION}-int8-")
    assert [*Output(scale.output).store.keys(job.model)] == [
        f"{job.model}/manifest.json",
        f"{job.model}/model-int8.onnx",
    ]
    assert "of 300 digits of the input get another label" in caplog.text


def test_too_many_other_labels_are_refused(scale, monkeypatch):
    """If more digits than allowed get another label, as with scales from blank ones, no job is planned."""
    scale.write("a.parquet")
    add = int8.add_int8
    monkeypatch.setattr(int8, "add_int8", lambda folder, pixels: add(folder, np.zeros_like(pixels)))

    with pytest.raises(
        SettingsError, match=r"--int8: \d+ of 300 digits .* at most 1 in 50 may; leave --int8"
    ):
        plan(scale)
    assert Output(scale.output).read_job() is None


def test_an_input_of_few_digits_is_refused(scale):
    """If too few digits are left to compare, the command says how many it needs before the job is planned."""
    scale.write("a.parquet", 0, 299)

    with pytest.raises(SettingsError, match=r"--int8: 299 digits .* can be read, 300 or more are needed"):
        plan(scale)
    assert Output(scale.output).read_job() is None


@pytest.mark.parametrize("first", [True, False], ids=["integers first", "float32 first"])
def test_two_plans_at_once_never_mix_their_models(scale, in_process, first):
    """The model that another command left before its job was planned is not the one that this job opens."""
    scale.write("a.parquet")
    output = Output(scale.output)
    files = {name: (scale.bundle / name).read_bytes() for name in ("manifest.json", "model.onnx")}
    exact = plan_job(str(scale.folder / "input"), VERSION, SPEC, shard_rows=100)
    left = int8.with_int8(replace(exact, int8=True), files) if first else (exact, files)
    output.store.prepare()
    output.put_model(*left)

    job = scale.plan() if first else plan(scale)
    finish(output, job, do_shards(output, job, in_process))

    assert (scale.result()["probability"].to_pylist() == scale.expected()["probability"].to_pylist()) is first


def test_small_files_are_read_until_there_are_enough_digits(scale, monkeypatch):
    """Of many files of a few digits each, as many are read as the sample needs, and of a large one more."""
    monkeypatch.setattr(int8, "SAMPLE", 350)
    monkeypatch.setattr(int8, "OF_SHARD", 10)
    for number in range(25):
        scale.write(f"{number:02d}.npy", 8 * number, 8 * number + 8)
    scale.write("large.npy", 200, 500)
    job = plan_job(str(scale.folder / "input"), VERSION, SPEC, shard_rows=1000)

    assert 350 <= len(int8.sample(job)) <= 360


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

    with pytest.raises(SettingsError, match=rf"--int8: {VERSION} has no model\.onnx.*leave --int8 out"):
        int8.with_int8(job, {"manifest.json": manifest.encode(), "weights.safetensors": weights})


def test_a_job_of_older_code_computes_in_float32(scale):
    """A manifest without the fields is one of a job in float32."""
    scale.write("a.parquet")
    job = scale.plan()
    facts = json.loads(job.to_bytes())
    assert (facts.pop("int8"), facts.pop("model")) == (False, f"_job/model-{VERSION}")
    content = json.dumps(facts).encode()

    assert type(job).from_bytes(content, "there") == job
