"""The same labels whichever way a bundle is opened, on all 28,000 digits of test.csv."""

import numpy as np
import pytest

from mnist_core import export, fit, load, load_learner, predict, read_test, read_train, to_fastai


@pytest.mark.parametrize("model", ["convnet", "resnet18"])
def test_plain_inference_agrees_with_the_learner_on_all_28000(unpacked, tmp_path, model):
    """Weights and manifest in plain torch give what load_learner and get_preds give on a test_dl."""
    import fastai.callback.progress  # noqa: F401  (gives a Learner its no_bar)

    seen = np.arange(1000)
    net = fit(read_train(unpacked / "train.csv"), model, "fast", rows=seen, seed=1, epochs=1)
    export(net, tmp_path, {})
    pixels = read_test(unpacked / "test.csv").pixels

    plain, _ = load(tmp_path)
    ours = predict(plain, pixels)
    learner = load_learner(tmp_path)
    with learner.no_bar():
        theirs, _ = learner.get_preds(dl=learner.dls.test_dl([to_fastai(digit) for digit in pixels], bs=500))

    assert ours.shape == (28_000, 10)
    assert np.abs(ours - theirs.numpy()).max() < 1e-4
    assert (ours.argmax(1) == theirs.argmax(1).numpy()).all()
