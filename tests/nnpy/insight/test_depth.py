"""Deep networks: the length of the gradient, layer by layer, with residual connections and without."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import nnpy as nn

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "depth.py"


@pytest.fixture(scope="module")
def depth():
    spec = importlib.util.spec_from_file_location("depth", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def norms(depth, residual, seed):
    nn.set_seed(seed)
    model = depth.network(residual)
    model.compile("sgd", nn.losses.SparseCategoricalCrossentropy(from_logits=True))
    (x, y), _ = nn.data.load_mnist()
    return np.array(list(depth.gradient_norms(model, x[:64, ::2, ::2, None] / np.float32(255), y[:64]).values()))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradients_of_56_layers(depth, seed):
    """Behind batch normalization a plain network's gradient grows at every layer on its way back; a residual one's
    does not."""
    plain, residual = norms(depth, False, seed), norms(depth, True, seed)
    assert len(plain) == len(residual) == 56
    hidden = slice(0, 55)  # the last layer is a Dense
    slope = np.polyfit(np.arange(55), np.log(plain[hidden]), 1)[0]
    assert slope < -0.05, "shorter towards the output, by more than 5 % a layer"
    assert abs(np.polyfit(np.arange(55), np.log(residual[hidden]), 1)[0]) < 0.05
    assert plain[hidden].max() / plain[hidden].min() > 10 * residual[hidden].max() / residual[hidden].min()


def test_the_norms_are_those_of_the_gradients(depth):
    """Against central differences, for one weight of the first and one of the last convolution, in float64."""
    nn.set_floatx("float64")
    try:
        nn.set_seed(0)
        model = depth.network(True)
    finally:
        nn.set_floatx("float32")
    model.compile("sgd", nn.losses.SparseCategoricalCrossentropy(from_logits=True))
    (x, y), _ = nn.data.load_mnist()
    x, y = x[:8, ::2, ::2, None] / 255.0, y[:8]
    gradients = model.probe(x, y, training=True).parameter_gradients
    for weight in (model.get_layer("layer_01").kernel, model.get_layer("layer_55").kernel):
        kept, losses = weight.numpy(), []
        for step in (1e-6, -1e-6):
            moved = kept.copy()
            moved[1, 1, 0, 0] += step
            weight.assign(moved)
            losses.append(model.probe(x, y, training=True).loss)
        weight.assign(kept)
        slope = (losses[0] - losses[1]) / 2e-6
        assert gradients[weight.name][1, 1, 0, 0] == pytest.approx(slope, rel=1e-3, abs=1e-6)
