# ruff: noqa: E501 (a table of cases with the message expected)
"""Mistakes of a new user: each is refused before work starts, by an error that says what was expected and what came."""

import numpy as np
import pytest
from running import value

import nnpy as nn


def trained():
    net = nn.Sequential([nn.Input((4,)), nn.Dense(3, name="out")], "net")
    net.compile("adam", nn.losses.SparseCategoricalCrossentropy(from_logits=True))
    net.fit(np.zeros((6, 4)), np.arange(6) % 3, verbose=0)
    return net


def flat():
    return nn.Input((4,), name="x")


def classes():
    return nn.Input((4,), dtype="int32", name="classes")


X, Y = np.zeros((6, 4)), np.arange(6) % 3


def weighted(y, weights):
    net = nn.Sequential([nn.Input((4,)), nn.Dense(1)], "net")
    net.compile("sgd", "mse")
    net.fit(X, y, class_weight=weights, verbose=0)


def of_function(f):
    net = nn.Sequential([nn.Input((4,)), nn.Activation(nn.activations.custom(f, lambda x: 1.0), name="mine")])
    net.predict(X)


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: flat() + "one", TypeError, "a Tensor or a finite number"),
        (lambda: flat() * True, TypeError, "a Tensor or a finite number"),
        (lambda: flat() + np.ones(4), TypeError, "a Tensor or a finite number"),
        (lambda: np.ones(4) + flat(), TypeError, "a Tensor or a finite number"),
        (lambda: nn.Dense(2, name="hidden")(classes()), TypeError, "hidden: expected real numbers, got the indices"),
        (lambda: nn.activations.get("leaky_relu")(negative_slope=-1.0), ValueError, "leaky_relu: expected negative_slope >= 0"),
        (lambda: nn.Sequential(nn.Dense(3)), TypeError, "Sequential: expected a list of layers, as .a, b., got Dense"),
        (lambda: nn.Sequential(nn.Dense(3), nn.Dense(2)), TypeError, "Sequential: expected a list of layers"),
        (lambda: nn.Concatenate(name="c")(flat()), ValueError, "c': expected a list of tensors, as .a, b., got one tensor"),
        (lambda: trained()(X), TypeError, r"Sequential 'net': expected a Tensor .*, got ndarray array.*; for numbers call predict\(x\)"),
        (lambda: nn.Dense(3, name="d")(X), TypeError, r"Dense 'd': expected a Tensor .*; for numbers make a Model of it"),
        (lambda: trained()(flat(), training=True), TypeError, "called with training: expected tensors alone"),
        (lambda: nn.Dropout(0.5)(flat(), training=True), TypeError, "called with training: expected tensors alone"),
        (lambda: nn.losses.MeanSquaredError()(Y, Y), TypeError, "MeanSquaredError: expected Tensors, got ndarray"),
        (lambda: nn.losses.SparseCategoricalCrossentropy()(Y, X), TypeError, "SparseCategoricalCrossentropy: expected Tensors"),
        (lambda: nn.losses.CategoricalCrossentropy()(X, X), TypeError, "CategoricalCrossentropy: expected Tensors"),
        (lambda: nn.losses.BinaryCrossentropy()(X, X), TypeError, "BinaryCrossentropy: expected Tensors"),
        (lambda: nn.metrics.Accuracy()(Y, X), TypeError, "Accuracy 'accuracy': expected Tensors, got ndarray"),
        (lambda: nn.metrics.SparseCategoricalAccuracy()(Y, X), TypeError, "expected Tensors, got ndarray"),
        (lambda: nn.metrics.get("mse")(Y, X), TypeError, r"expected Tensors, got ndarray .*; it becomes part"),
        (lambda: nn.Sequential(7), TypeError, "expected a list of layers"),
        (lambda: trained().set_weights(3), TypeError, "expected a list of 2 arrays"),
        (lambda: trained().set_weights([np.zeros((4, 3)), np.array(["a", "b", "c"])]), TypeError, "out/bias: expected real"),
        (lambda: trained().fit(X, Y, shuffle="yes", verbose=0), TypeError, "shuffle"),
        (lambda: trained().fit(X, Y, callbacks="early", verbose=0), TypeError, "callbacks: expected a Callback or a list"),
        (lambda: weighted([0, 1, 2, 1, 0, 1], {0: 1, 1: 2}), ValueError, "class numbers 0 ... 1, got 2.* in row 2"),
        (lambda: weighted([0, 1, 0.5, 1, 0, 1], {0: 1, 1: 2}), ValueError, "got 0.5 in row 2; use sample_weight"),
        (lambda: weighted([0, 1, -1, 1, 0, 1], {0: 1, 1: 2}), ValueError, "got -1.* in row 2"),
        (lambda: of_function(lambda x: x.upper()), TypeError, "^mine"),
    ],
)  # fmt: skip
def test_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_tensors_and_numbers(rng):
    x = nn.Input((3,))
    data = rng.normal(size=(5, 3))
    for y, expected in ((2 - x, 2 - data), (x - 2, data - 2), (x / 4, data / 4), (x / x, data / data), (-x, -data)):
        np.testing.assert_allclose(value(y, {x: data.astype("float32")}), expected, rtol=1e-5)


def test_checkpoint_without_a_folder_is_refused_before_training(tmp_path):
    net = trained()
    before = net.get_weights()
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        net.fit(X, Y, callbacks=nn.ModelCheckpoint(tmp_path / "missing" / "a.safetensors"), verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))


def test_checkpoint_with_an_unknown_name(tmp_path):
    with pytest.raises(ValueError, match="expected names among epoch, loss"):
        trained().fit(X, Y, callbacks=nn.ModelCheckpoint(str(tmp_path / "{val_los}.safetensors")), verbose=0)


def test_frozen_normalization_is_what_it_was_at_compile(rng):
    layer = nn.BatchNormalization()
    net = nn.Sequential([nn.Input((4,)), layer, nn.Dense(3)])
    net.compile("sgd", nn.losses.SparseCategoricalCrossentropy(from_logits=True))
    layer.trainable = False  # without compiling again it trains as before
    moving = layer.moving_mean.value.copy()
    net.fit(rng.normal(size=(6, 4)) + 3, Y, verbose=0)
    assert not np.array_equal(moving, layer.moving_mean.value)
    net.compile("sgd", nn.losses.SparseCategoricalCrossentropy(from_logits=True))
    moving = layer.moving_mean.value.copy()
    net.fit(rng.normal(size=(6, 4)) + 3, Y, verbose=0)
    assert np.array_equal(moving, layer.moving_mean.value)
