"""The regression: its numbers, their rounding, and the original net."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mnist_core.errors import SubmissionError
from mnist_core.inference import predict
from mnist_core.models.regression import ORIGINAL, round_logits
from mnist_core.models.regression import net as regression
from mnist_core.models.scratch.net import init_layers
from mnist_core.submission import read_csv, to_csv
from tests.core.models.patterns import ten_kinds


def reading(*numbers):
    """Make a regression that reads the given numbers in digits whose first pixels say which one it is."""
    net = regression.build({"hidden": []})
    with torch.no_grad():
        net.weights[0].zero_()
        net.weights[0][: len(numbers), 0] = torch.tensor(numbers)
    pixels = np.zeros((len(numbers), 28, 28), np.uint8)
    pixels[range(len(numbers)), 0, range(len(numbers))] = 255
    return net, pixels


def labels_of(net, pixels):
    """Return the rounded numbers behind a regression's logits."""
    with torch.no_grad():
        return round_logits(net(torch.from_numpy(pixels)).numpy())


def test_a_regression_learns():
    """Most digits are recognised; a regression cannot tell some from their neighbours."""
    digits, test = ten_kinds(1280), ten_kinds(500, seed=1)

    net = regression.fit(digits.pixels, digits.labels, replace(ORIGINAL, batch_size=32, lr=0.003))

    assert (labels_of(net, test.pixels) == test.labels).mean() > 0.9


@pytest.mark.parametrize("number", [2.4, 2.6, -0.4, -0.7, 9.8, 10.4, 11.2, 42.3, -30.9])
def test_the_number_is_rounded_as_in_the_original_notebook(number):
    """The number behind the logits is the net's own output, within the classes and far beyond."""
    net, pixels = reading(number)

    assert net.numbers(torch.from_numpy(pixels)).item() == pytest.approx(number)
    assert labels_of(net, pixels).tolist() == [round(number)]


def test_tens_and_elevens_are_refused_or_clipped():
    """Rounded numbers outside 0..9 never become a file; if it is asked for, they become the nearest digit."""
    labels = labels_of(*reading(3.4, 9.8, 11.2, -0.7))

    assert labels.dtype == np.int64
    assert labels.tolist() == [3, 10, 11, -1]
    with pytest.raises(
        SubmissionError,
        match=r"ImageId 2: the label 10 is not a class.*3 of 4 are wrong.*rounded number.*clip",
    ):
        to_csv(labels, rows=4)
    assert read_csv(to_csv(labels, rows=4, clip=True), rows=4).tolist() == [3, 9, 9, 0]


def test_the_likeliest_digit_is_the_nearest():
    """As a model it gives every digit a probability, the highest to its number rounded and clipped."""
    net, pixels = reading(3.4, 3.6, 9.8, 11.2, -0.7, 0.2)

    probabilities = predict(net, pixels)

    assert probabilities.argmax(1).tolist() == labels_of(net, pixels).clip(0, 9).tolist()
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_squared_error_is_torchs():
    """There is one difference a digit, not one for each pair of digits."""
    outputs, labels = torch.randn(6, 1, generator=torch.Generator().manual_seed(0)), torch.arange(6)

    torch.testing.assert_close(
        regression.squared_error(outputs, labels), F.mse_loss(outputs[:, 0], labels.float())
    )


def test_the_preset_is_the_original_net():
    """784-150-150-150-130-1, 40 epochs of plain SGD."""
    net = regression.Regression(init_layers(784, ORIGINAL.hidden, 1, torch.Generator()))

    shapes = [tuple(weights.shape) for weights, _ in net.layers()]
    assert shapes == [(784, 150), (150, 150), (150, 150), (150, 130), (130, 1)]
    assert (ORIGINAL.epochs, ORIGINAL.momentum) == (40, 0)
