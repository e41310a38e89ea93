"""Ensembles: the mean of networks that differ."""

import numpy as np
import pytest
import torch

from mnist_core.errors import ModelError
from mnist_core.models.convnet import fit as convnet
from mnist_core.models.convnet.net import ConvNet
from mnist_core.models.ensemble import Recipe, member
from mnist_core.models.ensemble import net as ensemble
from mnist_core.training import fit
from tests.core.models.patterns import noise, same, ten_kinds


def test_an_ensemble_gives_the_mean_of_its_members():
    """Its probabilities are the members' mean; a temperature makes them more even and keeps the labels."""
    members = [ConvNet((4, 6, 8, 10)).eval() for _ in range(3)]
    digits = torch.from_numpy(noise(50))

    plain = ensemble.Ensemble(members)(digits).softmax(1)
    even = ensemble.Ensemble(members, temperature=2.0)(digits).softmax(1)

    torch.testing.assert_close(plain, torch.stack([net(digits).softmax(1) for net in members]).mean(0))
    assert torch.equal(plain.argmax(1), even.argmax(1))
    assert (even.amax(1) < plain.amax(1)).all()


def test_an_ensemble_trains_networks_that_differ():
    """Its members have seed, seed + 1, …, every second one is upright; progress runs over all of them."""
    digits = noise(256), np.random.default_rng(0).integers(0, 10, 256)
    recipe, reports = Recipe(2, ("fast", "fast"), 3), []

    net = ensemble.fit(*digits, recipe, seed=5, progress=lambda *report: reports.append(report))

    assert [one.upright for one in net.members] == [False, True]
    for number, one in enumerate(net.members):
        alone = convnet.fit(*digits, member(recipe, number)[1], seed=5 + number)
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), alone.parameters(), strict=True))
    assert [report[:2] for report in reports] == [(done, 8) for done in (2, 3, 4, 6, 7, 8)]
    assert reports[3][2].startswith("member 2/2  epoch 1/3")


def test_a_member_trained_alone_is_the_one_of_the_whole():
    """A member that is trained alone has the weights that it has in the ensemble."""
    digits = ten_kinds(300)

    whole = fit(digits, "ensemble", epochs=3, seed=4)

    assert same(whole.members[1], fit(digits, "ensemble", epochs=3, seed=5, member=1))


def test_a_single_network_has_no_members():
    """Asking for a member of another model says which one has them."""
    with pytest.raises(ModelError, match="member is 1, but convnet has no members; only ensemble has"):
        fit(ten_kinds(20), "convnet", member=1)
