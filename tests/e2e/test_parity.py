"""A bundle gives the same labels however it is opened, on all 28,000 digits of test.csv."""

import numpy as np
import pytest

from mnist_core import export, fit, load, load_learner, open_model, predict, read_test, read_train, to_fastai
from mnist_core.spec import DIGIT_RECOGNIZER

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("model", ["convnet", "resnet18"])
def test_learner_weights_and_graph_agree_on_all_rows(unpack, tmp_path, model):
    """`get_preds`, plain torch and the graph give the same labels, and probabilities within 1e-4."""
    import fastai.callback.progress  # noqa: F401  (gives a Learner its no_bar)

    folder = unpack(DIGIT_RECOGNIZER)
    pixels = read_test(folder / "test.csv", rows=DIGIT_RECOGNIZER.test_rows).pixels
    train = read_train(folder / "train.csv", rows=DIGIT_RECOGNIZER.train_rows)
    export(fit(train, model, "fast", rows=np.arange(1000), seed=1, epochs=1), tmp_path, {})

    plain, _ = load(tmp_path)
    ours = predict(plain, pixels)
    graph = open_model(tmp_path, "onnxruntime").predict(pixels)
    learner = load_learner(tmp_path)
    with learner.no_bar():
        items = [to_fastai(digit) for digit in pixels]
        theirs = learner.get_preds(dl=learner.dls.test_dl(items, bs=500))[0].numpy()

    for others in (graph, theirs):
        assert np.abs(ours - others).max() < 1e-4
        assert (ours.argmax(1) == others.argmax(1)).all()
