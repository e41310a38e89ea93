"""Three mysteries of the original notebooks: why a Learner that trains cannot export, predict or get_preds.

The notebook trains from scratch, after chapter 4 of fastbook: digits as rows of 784 numbers, labels beside
them, a plain list of both in fastai's DataLoader, and a Learner over that. It trains; then `export`,
`predict` and `get_preds` fail. Each test shows the original call fail and why, and then the same call on our
Learner.

A Learner needs more from its data than batches: `new_empty` of a dataset to be saved without it,
`decode_batch` of a DataLoader to turn a prediction back into a label, and batches that are tuples to tell
inputs from targets. Lists and plain DataLoaders have none of these; `to_learner` uses fastai's own, which do.
"""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnist_core.bundle import to_learner
from mnist_core.inference import predict
from mnist_core.models.convnet.net import ConvNet
from mnist_core.models.regression import net as regression
from mnist_core.models.scratch import net as scratch


@pytest.fixture(scope="module")
def digits(synthetic):
    """Make six hundred labelled digits."""
    return synthetic(600)


@pytest.fixture
def original(digits, tmp_path):
    """Make the notebook's Learner, trained for an epoch, and its test_x: 300 digits as rows of numbers."""
    from fastai.vision.all import SGD, DataLoader, DataLoaders, Learner

    x = torch.from_numpy(digits.pixels).view(-1, 784) / 255
    y = torch.from_numpy(digits.labels).float().unsqueeze(1)
    dls = DataLoaders(
        DataLoader(list(zip(x[:500], y[:500], strict=True)), batch_size=256),
        DataLoader(list(zip(x[500:], y[500:], strict=True)), batch_size=256),
        path=tmp_path,
    )
    net = nn.Sequential(nn.Linear(784, 30), nn.ReLU(), nn.Linear(30, 1))
    learn = Learner(dls, net, opt_func=SGD, loss_func=nn.functional.mse_loss)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, lr=0.001)
    return learn, x[:300]


@pytest.fixture(params=["scratch", "scratch-regression", "convnet"])
def ours(request, digits, tmp_path):
    """Make a network of ours and the Learner around it, which writes where the test may."""
    if request.param == "convnet":
        net = ConvNet((4, 6, 8, 10)).eval()
    else:
        module = {"scratch": scratch, "scratch-regression": regression}[request.param]
        net = module.fit(digits.pixels, digits.labels, scratch.Recipe(hidden=(30,), epochs=1, lr=0.001))
    learn = to_learner(net)
    learn.path = tmp_path
    return net, learn


def test_mystery_1_export(original, ours, digits):
    """Export asks each dataset for an empty copy of itself, which a list does not give.

    fastai's `Datasets`, which ours has, keeps its transforms and drops its items.
    """
    from fastai.learner import load_learner

    learn, _ = original
    with pytest.raises(AttributeError, match=r"^'list' object has no attribute 'new_empty'$"):
        learn.export()
    assert type(learn.dls.train_ds) is list  # which is what the notebook puts in

    net, learn = ours
    learn.export()

    with pytest.warns(UserWarning, match="insecure pickle"):
        again = load_learner(learn.path / "export.pkl")
    assert len(again.dls.train_ds) == len(again.dls.valid_ds) == 0
    label, _, _ = again.predict(torch.from_numpy(digits.pixels[0]))
    assert label == str(predict(net, digits.pixels[:1])[0].argmax())


def test_mystery_2_predict(original, ours, digits):
    """A prediction becomes a label again by `decode_batch`, which a `TfmdDL` has and a list does not.

    A plain DataLoader passes names that it does not know on to its dataset.
    """
    learn, x = original
    with pytest.raises(AttributeError, match=r"^'list' object has no attribute 'decode_batch'$"):
        learn.predict(x[:1])  # (1, 784); of (784,) fastai 2.8 loses an axis first, an IndexError
    assert learn.get_preds(dl=[(x[:1],)])[0].shape == (1, 1)  # the network itself works

    net, learn = ours
    label, index, probabilities = learn.predict(torch.from_numpy(digits.pixels[0]))

    expected = predict(net, digits.pixels[:1])[0]
    assert (label, int(index)) == (str(expected.argmax()), expected.argmax())
    np.testing.assert_allclose(probabilities.numpy(), expected, atol=1e-4)


def test_mystery_3_get_preds(original, ours, digits):
    """To a Learner a batch is a tuple, inputs first and the target last; digits alone come as a bare tensor.

    That tensor, (256, 784), is taken apart like a tuple: 255 digits become 255 inputs (the network itself is
    the 256th argument), the last one their target. A `TfmdDL` gives a tuple of one: (digits,).
    """
    learn, x = original
    dl = learn.dls.test_dl(x)
    with pytest.raises(TypeError, match=r"forward\(\) takes 2 positional arguments but 256 were given"):
        learn.get_preds(dl=dl)
    batch = dl.one_batch()
    assert isinstance(batch, Tensor)
    assert batch.shape == (256, 784)

    net, learn = ours
    dl = learn.dls.test_dl(torch.from_numpy(digits.pixels[:300]))
    probabilities, _ = learn.get_preds(dl=dl)

    assert [part.shape[1:] for part in dl.one_batch()] == [(3, 28, 28)]  # a tuple of one
    np.testing.assert_allclose(probabilities.numpy(), predict(net, digits.pixels[:300]), atol=1e-4)
