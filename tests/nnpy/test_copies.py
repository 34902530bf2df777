"""Copies and pickles of models go on as the original."""

import copy
import pickle

import numpy as np
import pytest
from saved import compiled, data, network

import nnpy as nn


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_and_pickles_go_on_as_the_original(rng, copied):
    x, y = data(rng)
    nn.set_seed(9)
    net = compiled()
    nn.set_seed(0)
    net.fit(x, y, batch_size=16, verbose=0)
    other = copied(net)
    assert other.name == net.name and other.history is None and other.settings.seed == 9
    before = net.get_weights()
    other.fit(x, y, batch_size=16, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))
    net.fit(x, y, batch_size=16, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(other.get_weights(), net.get_weights(), strict=True))
    history = pickle.loads(pickle.dumps(net.history))
    assert history.to_dict() == net.history.to_dict() and history.model is None and net.history.model is net


def test_copies_of_what_was_not_trained_or_built(rng):
    x = rng.normal(size=(4, 3))
    lazy = nn.Sequential([nn.Dense(2)], name="lazy")
    lazy.compile("sgd", "mse")
    other = copy.deepcopy(lazy)
    assert not other.built and other.compiled and other.predict(x).shape == (4, 2) and not lazy.built
    net = nn.Sequential([nn.Input((3,)), nn.Dense(2)])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(net)).predict(x), net.predict(x))
    layer = copy.deepcopy(net.layers[0])
    layer.kernel.value[:] = 0
    assert np.abs(net.layers[0].kernel.value).max() > 0 and not hasattr(layer, "output")


def test_copying_draws_no_random_numbers():
    weights = []
    for copies in (0, 2):
        nn.set_seed(5)
        net = network()
        for _ in range(copies):
            copy.deepcopy(net)
        weights.append(network().get_weights())
    nn.set_seed(0)
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


def test_code_is_not_copied(rng):
    class Coded(nn.Model):
        def __init__(self, factor):
            super().__init__()
            self.times = factor

        def call(self, x):
            return x * self.times

    net = network()
    net.compile(nn.SGD(lambda step: 0.1), {"x": "mse"})
    for made in (Coded(2.0), net):
        for copied in (copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot be copied or pickled: "):
                copied(made)
