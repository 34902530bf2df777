"""Losses of Python functions: values, gradients, training, files, and every way to get the functions wrong."""

import math

import numpy as np
import pytest
from losscase import Case

import nnpy as nn
from nnpy import losses
from nnpy.losses.base import FunctionLoss
from nnpy.registry import to_json

RNG = np.random.default_rng(0)


def quartic(y_true, y_pred):
    return (y_pred - y_true) ** 4 if y_true > 0 else math.cosh(y_pred)


def quartic_slope(y_true, y_pred):
    return 4 * (y_pred - y_true) ** 3 if y_true > 0 else math.sinh(y_pred)


def expected(t, p):
    return np.where(t > 0, (p - t) ** 4, np.cosh(p)).mean(-1)


@pytest.mark.parametrize("shape", [(5,), (6, 3), (3, 2, 4), (2, 3, 2, 17)])
def test_values_and_gradients(shape):
    t, p = RNG.normal(size=(2, *shape))
    loss = losses.custom(quartic, quartic_slope)
    for dtype, rtol in (("float32", 1e-5), ("float64", 1e-12)):
        np.testing.assert_allclose(loss.rows(t, p.astype(dtype)), expected(t, p), rtol=rtol)
    weights = None if len(shape) == 1 else RNG.uniform(0, 2, shape[:-1])
    case = Case(loss, t, p, weighted=weights)
    np.testing.assert_allclose(case.gradient(), case.differences(), rtol=1e-6, atol=1e-9)


def test_it_trains_and_a_file_knows_it_by_name(tmp_path):
    x = RNG.normal(size=(64, 3))
    t = np.abs(x[:, :2])
    loss = losses.custom(quartic, quartic_slope, "sum", name="quartic_of_a_test")
    assert losses.get("quartic_of_a_test") is loss
    model = nn.Sequential([nn.Input((3,)), nn.Dense(8, activation="tanh"), nn.Dense(2)])
    model.compile(nn.Adam(0.01), loss)
    history = model.fit(x, t, sample_weight=np.arange(64.0) / 64, epochs=20, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]
    model.save(tmp_path / "model.safetensors")
    again = nn.load_model(tmp_path / "model.safetensors")
    assert again.loss is loss
    assert again.evaluate(x, t, verbose=0) == model.evaluate(x, t, verbose=0)
    losses.custom(quartic, quartic_slope, name="quartic_of_a_test")
    with pytest.raises(ValueError, match="quartic_of_a_test': expected reduction='sum', made again with 'sum_over"):
        losses.get({"class": "loss/CustomLoss", "config": {"name": "quartic_of_a_test", "reduction": "sum"}})
    with pytest.raises(ValueError, match=r"unknown custom loss 'gone'; call losses.custom\(f, derivative, name='gone'"):
        losses.get({"class": "loss/CustomLoss", "config": {"name": "gone", "reduction": "sum"}})
    with pytest.raises(TypeError, match="to be saved it needs a name of its own"):
        to_json(losses.custom(lambda t, p: p, lambda t, p: 1.0))


def test_the_targets_have_no_derivative():
    loss = losses.custom(quartic, quartic_slope)
    with pytest.raises(TypeError, match="quartic has no derivative by its first argument"):
        Case(FunctionLoss(lambda t, p: loss.call(p * 1.0, p)), np.ones((3, 2)), np.ones((3, 2)))


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ((quartic,), TypeError, r"losses.custom\(quartic\): expected its derivative by y_pred"),
        ((3, quartic), TypeError, r"to be a Python function of 2 numbers \(y_true, y_pred\), got 3"),
        ((lambda x: x, quartic), TypeError, r"expected the function to take 2 numbers .*, got parameters \['x'\]"),
        ((quartic, lambda x: x), TypeError, r"expected the derivative to take 2 numbers .*got parameters \['x'\]"),
        ((quartic, quartic_slope, "sum", "MSE"), ValueError, "'MSE' is the name of another loss"),
        ((quartic, quartic_slope, "sum", "huber"), ValueError, "'huber' is the name of another loss"),
        ((quartic, quartic_slope, "most"), ValueError, "expected reduction to be one of"),
    ],
)
def test_refusals(arguments, error, text):
    with pytest.raises(error, match=text):
        losses.custom(*arguments)


def test_what_numba_cannot_compile():
    def asks(y_true, y_pred):
        raise ValueError

    with pytest.raises(TypeError, match="asks: expected a function that returns a real number"):
        losses.custom(asks, quartic_slope)([[1.0]], [[1.0]])
