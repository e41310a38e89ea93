"""predict, and the command that turns a bundle and test.csv into submission.csv."""

import json
import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
import torch

from mnist_core.__main__ import main
from mnist_core.bundle import export
from mnist_core.digits import write_csv
from mnist_core.errors import DataError
from mnist_core.inference import predict
from mnist_core.models.convnet import ConvNet
from mnist_core.submission import read_csv


@pytest.fixture(scope="module")
def net():
    """A small untrained network."""
    return ConvNet((4, 6, 8, 10)).eval()


def test_probabilities_are_those_of_the_logits(net, synthetic):
    """Each row is the softmax of the network's logits, float32, and sums to 1."""
    pixels = synthetic(30).pixels

    probabilities = predict(net, pixels)

    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    with torch.no_grad():
        expected = net(torch.from_numpy(pixels)).softmax(1)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 30, 1000])
def test_the_batch_size_changes_nothing(net, synthetic, batch_size):
    """However the digits are cut into batches, their order and probabilities stay."""
    pixels = synthetic(30).pixels

    np.testing.assert_allclose(predict(net, pixels, batch_size=batch_size), predict(net, pixels), rtol=1e-5)


def test_no_digits_give_no_probabilities(net):
    """An empty array goes through."""
    assert predict(net, np.empty((0, 28, 28), np.uint8)).shape == (0, 10)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 28, 28), np.float32),
        np.zeros((2, 784), np.uint8),
        np.zeros((28, 28), np.uint8),
        np.zeros((2, 1, 28, 28), np.uint8),
    ],
)
def test_what_is_no_array_of_digits_is_refused(net, pixels):
    """Pixels of another type or shape are an error that says what they are."""
    with pytest.raises(DataError, match=r"pixels are .*takes uint8 \(N, 28, 28\)"):
        predict(net, pixels)


def test_the_network_stays_as_it_was(net, synthetic):
    """A network in training mode predicts as in evaluation mode, and keeps its mode and statistics."""
    training = deepcopy(net).train()
    before = deepcopy(training.state_dict())

    probabilities = predict(training, synthetic(30).pixels)

    np.testing.assert_array_equal(probabilities, predict(net, synthetic(30).pixels))
    assert training.training
    assert all(torch.equal(value, before[name]) for name, value in training.state_dict().items())
    assert all(value.is_contiguous() for value in training.state_dict().values())


def test_arrays_that_can_not_be_written_are_read(net, synthetic, recwarn):
    """Frozen and strided arrays predict like any other, without a warning."""
    pixels = synthetic(20).pixels
    pixels.flags.writeable = False

    np.testing.assert_allclose(predict(net, pixels[::-2]), predict(net, pixels)[::-2], rtol=1e-5)
    assert not recwarn.list


def test_progress_counts_digits(net, synthetic):
    """After each batch: digits done, digits in all."""
    reports = []

    predict(net, synthetic(25).pixels, batch_size=10, progress=lambda *report: reports.append(report))

    assert reports == [(10, 25, "predict"), (20, 25, "predict"), (25, 25, "predict")]


@pytest.fixture(scope="module")
def competition(net, synthetic, tmp_path_factory):
    """A folder with a bundle and a test.csv of full length."""
    folder = tmp_path_factory.mktemp("competition")
    export(net, folder / "bundle", {})
    write_csv(synthetic(28_000, labelled=False), folder / "test.csv")
    return folder


def test_a_submission_is_one_light_process(competition, net, synthetic):
    """`submission` writes 28,000 labels without fastai, torchvision or Prefect, in less than a gigabyte."""
    script = """
import json, sys
from pathlib import Path
from mnist_core.__main__ import main
try:
    main()
finally:
    names = {name.partition(".")[0] for name in sys.modules}
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps([sorted(names), int(status["VmHWM"].split()[0])]))  # the peak of its memory, in KiB
"""
    files = [competition / "bundle", competition / "test.csv", competition / "submission.csv"]

    process = subprocess.run(
        [sys.executable, "-c", script, "submission", *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert process.returncode == 0, process.stderr
    modules, peak_kib = json.loads(process.stdout)
    assert not {"fastai", "fastcore", "torchvision", "prefect", "kaggle", "boto3", "matplotlib"} & set(
        modules
    )
    assert peak_kib < 1_000_000
    assert process.stderr.startswith(f"{files[2]}: 28,000 digits by convnet in ")
    expected = predict(net, synthetic(28_000, labelled=False).pixels).argmax(1)
    assert np.array_equal(read_csv(files[2]), expected)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"bundle": "nothing"}, "manifest.json can not be read"),
        ({"test.csv": "nothing.csv"}, "nothing.csv: there is no such file"),
        ({"out": "no/folder/submission.csv"}, "No such file or directory"),
    ],
)
def test_an_error_is_one_line(competition, monkeypatch, capsys, spoil, message):
    """What a person can put right ends in exit code 1 and one line on stderr."""
    names = {"bundle": "bundle", "test.csv": "test.csv", "out": "submission.csv"} | spoil
    monkeypatch.setattr(
        sys, "argv", ["mnist-core", "submission", *(str(competition / n) for n in names.values())]
    )

    with pytest.raises(SystemExit) as end:
        main()

    assert end.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
