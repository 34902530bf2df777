"""Regularizers: their penalties, and that they reach the gradient."""

import numpy as np
import pytest
from running import compiled, start

from nnpy import regularizers
from nnpy.layers import Dense, Input
from nnpy.losses import MeanSquaredError
from nnpy.registry import from_json, to_json

TABLE = [(regularizers.L1(0.1), 0.1, 0.0), (regularizers.L2(0.2), 0.0, 0.2), (regularizers.L1L2(0.1, 0.2), 0.1, 0.2)]


@pytest.mark.parametrize("regularizer, l1, l2", TABLE, ids=str)
def test_gradient(regularizer, l1, l2):
    rng = np.random.default_rng(0)
    data, target = rng.standard_normal((8, 4)), rng.standard_normal((8, 3))
    gradients: list = []
    weights: list = []
    for used in (None, regularizer):
        x, t = Input((4,)), Input((3,))
        layer = Dense(3, kernel_initializer="orthogonal", kernel_regularizer=used)
        loss = MeanSquaredError()(t, layer(x))
        if weights:
            layer.set_weights(weights)
        weights = layer.get_weights()
        step = compiled([], {x: data, t: target}, "float64", True, objective=[(loss, 1.0)], keep_gradients=True)
        gradients.append([start(step).gradient(p).copy() for p in layer.weights])
    kernel = weights[0].astype(np.float64)
    np.testing.assert_allclose(gradients[1][0] - gradients[0][0], l1 * np.sign(kernel) + 2 * l2 * kernel, atol=1e-12)
    np.testing.assert_array_equal(gradients[1][1], gradients[0][1])  # the bias has none


@pytest.mark.parametrize("regularizer, l1, l2", TABLE, ids=str)
def test_penalty_and_configuration(regularizer, l1, l2):
    weights = np.array([[1.0, -2.0], [0.5, 0.0]])
    assert regularizer(weights) == pytest.approx(l1 * 3.5 + l2 * 5.25)
    again = from_json(to_json(regularizer))
    assert (again.l1, again.l2) == (l1, l2)


def test_get():
    assert isinstance(regularizers.get("l1_l2"), regularizers.L1L2)
    assert regularizers.get("l2").l2 == 0.01 and regularizers.get(None) is None
    for bad, error in ((-1, ValueError), (float("inf"), ValueError), ("x", TypeError)):
        with pytest.raises(error, match="L2: expected l2 to be a finite number >= 0"):
            regularizers.L2(bad)
    with pytest.raises(TypeError, match=r"expected regularizer to be a name, Regularizer or .*, got 0\.1"):
        regularizers.get(0.1)
