"""A trial trains without a fold and measures on it."""

import numpy as np
import pytest

from mnist_core import assign_folds, read_train
from mnist_core import training as training_module
from mnist_core.errors import DivergedError, ModelError
from mnist_core.spec import DIGITS_MINI
from mnist_core.trials import run_trial


@pytest.fixture
def digits(unpack):
    """The labelled rows of the small competition."""
    return read_train(unpack(DIGITS_MINI) / DIGITS_MINI.train_file, DIGITS_MINI)


def test_a_trial_is_measured_on_rows_that_it_did_not_see(digits, monkeypatch):
    """The rows of the fold are held out, and the measures are those of these rows."""
    seen = []
    fit = training_module.fit

    def watched(digits, *given, rows, **options):
        seen.append(set(rows.tolist()))
        return fit(digits, *given, rows=rows, **options)

    monkeypatch.setattr(training_module, "fit", watched)
    folds = assign_folds(digits.true_labels, "abcdef")

    done = run_trial(digits, folds, 2, "scratch", "fast", {"lr": 0.1}, seed=1)
    again = run_trial(digits, folds, 2, "scratch", "fast", {"lr": 0.1}, seed=1)

    assert seen[0] == set(np.flatnonzero(folds != 2).tolist())
    assert (done.rows, done.epochs) == ((folds == 2).sum(), 12)
    assert 0 < done.loss < np.log(10)
    assert 0 < done.errors < done.rows / 2
    assert (done.loss, done.errors) == (again.loss, again.errors)


def test_a_training_that_diverges_is_a_result(digits, monkeypatch):
    """It has no loss and no errors; a wrong value is an error."""

    def diverge(*_given, **_options):
        raise DivergedError("the loss is nan")

    folds = assign_folds(digits.true_labels, "abcdef")
    with pytest.raises(ModelError, match="lr is 5"):
        run_trial(digits, folds, 2, "scratch", "fast", {"lr": 5.0}, seed=1)
    monkeypatch.setattr(training_module, "fit", diverge)

    done = run_trial(digits, folds, 2, "scratch", "fast", {}, seed=1)

    assert (done.loss, done.errors) == (None, None)
