"""Training on four folds and evaluating on the fifth."""

import numpy as np
import pytest

from mnist_core.errors import DataError, ModelError
from mnist_core.evaluation import evaluate
from mnist_core.folds import assign_folds
from mnist_core.holdout import fit_held_out
from mnist_core.inference import predict
from mnist_core.training import fit


def test_the_held_out_rows_judge_and_do_not_train(synthetic):
    """The network is the one that the other folds give, evaluated on fold 0."""
    digits = synthetic(60)
    held_out = assign_folds(digits.labels, "5eed") == 0
    expected = fit(digits, "scratch", rows=~held_out, seed=3, device="cpu", epochs=1)

    trained = fit_held_out(digits, "5eed", "scratch", "fast", seed=3, device="cpu", epochs=1)

    evaluation = evaluate(predict(expected, digits.pixels[held_out]), digits.labels[held_out])
    assert (trained.rows, trained.evaluation.n) == (60 - held_out.sum(), held_out.sum())
    assert trained.evaluation.accuracy == evaluation.accuracy
    assert np.array_equal(trained.evaluation.confusion, evaluation.confusion)
    assert trained.seconds > 0


def test_digits_without_labels_are_refused(synthetic):
    """There is nothing to learn and nothing to judge by."""
    with pytest.raises(DataError, match=r"have no labels; use those of train\.csv"):
        fit_held_out(synthetic(60, labelled=False), "5eed", "scratch", "fast")


def test_an_unknown_preset_is_refused(synthetic):
    """The model's own error is raised."""
    with pytest.raises(ModelError, match="scratch has no preset 'slow'"):
        fit_held_out(synthetic(60), "5eed", "scratch", "slow")
