"""Constraints, penalties on activities, and dropout's noise_shape and seed."""

import numpy as np
import pytest

import nnpy as nn
from nnpy import constraints
from nnpy.registry import from_json, to_json

RNG = np.random.default_rng(0)
X = RNG.standard_normal((64, 6)).astype(np.float32)
Y = X @ RNG.standard_normal((6, 4)).astype(np.float32)
W = RNG.standard_normal((6, 4))


def norms(w, axis):
    return np.sqrt((w**2).sum(axis, keepdims=True))


ROWS = [
    (constraints.NonNeg(), lambda w: np.maximum(w, 0)),
    (constraints.MaxNorm(1.5), lambda w: w * np.minimum(norms(w, 0), 1.5) / norms(w, 0)),
    (constraints.MaxNorm(0.5, axis=1), lambda w: w * np.minimum(norms(w, 1), 0.5) / norms(w, 1)),
    (constraints.MaxNorm(0.5, axis=[0, 1]), lambda w: w * 0.5 / norms(w, (0, 1))),
    (constraints.UnitNorm(), lambda w: w / norms(w, 0)),
    (constraints.MinMaxNorm(0.5, 1.0), lambda w: w * np.clip(norms(w, 0), 0.5, 1) / norms(w, 0)),
    (
        constraints.MinMaxNorm(0.5, 1.0, rate=0.3),
        lambda w: w * (0.3 * np.clip(norms(w, 0), 0.5, 1) / norms(w, 0) + 0.7),
    ),
]


@pytest.mark.parametrize("constraint, expected", ROWS)
def test_values_and_files(constraint, expected):
    np.testing.assert_allclose(constraint(W), expected(W), rtol=1e-5)
    np.testing.assert_allclose(from_json(to_json(constraint))(W), expected(W), rtol=1e-5)


@pytest.mark.parametrize("constraint, expected", ROWS)
@pytest.mark.parametrize("optimizer", [nn.SGD(0.1), nn.Adam(0.05), nn.SGD(0.1, momentum=0.9, clipnorm=1.0)])
def test_a_step_is_an_update_and_then_the_constraint(constraint, expected, optimizer):
    """A step with it gives what a step without it, constrained by hand, gives."""
    weights = []
    for given in (None, constraint):
        model = nn.Sequential([nn.Input((6,)), nn.Dense(4, kernel_constraint=given)])
        model.set_weights([W, np.zeros(4)])
        model.compile(from_json(to_json(optimizer)), "mse")
        model.train_on_batch(X, Y)
        weights.append(model.get_weights())
    np.testing.assert_allclose(weights[1][0], expected(weights[0][0].astype(float)), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(weights[1][1], weights[0][1])


def test_all_layers_have_them():
    """And all of a run's steps obey."""
    short = constraints.MaxNorm(0.5, axis=[0, 1, 2])
    model = nn.Sequential(
        [
            nn.Input((6, 6, 2)),
            nn.Conv2D(4, 3, padding="same", kernel_constraint=short, bias_constraint="non_neg"),
            nn.BatchNormalization(gamma_constraint="unit_norm", beta_constraint="non_neg"),
            nn.DepthwiseConv2D(3, depthwise_constraint="non_neg"),
            nn.SeparableConv2D(4, 3, depthwise_constraint="non_neg", pointwise_constraint="non_neg"),
            nn.PReLU(alpha_constraint=constraints.NonNeg()),
            nn.Flatten(),
            nn.LayerNormalization(gamma_constraint="non_neg"),
            nn.Dense(1, bias_constraint="non_neg", kernel_constraint=nn.constraints.max_norm(1.0)),
        ]
    )  # fmt: skip
    model.compile(nn.SGD(0.5), "mse")
    rng = np.random.default_rng(1)
    model.fit(rng.standard_normal((40, 6, 6, 2)), rng.standard_normal((40, 1)), batch_size=8, epochs=3, verbose=0)
    for parameter in model.weights:
        if isinstance(parameter.constraint, constraints.NonNeg):
            assert (parameter.numpy() >= 0).all(), parameter.name
    assert sum(p.constraint is not None for p in model.weights) == 11
    assert (norms(model.get_weights()[0], (0, 1, 2)) <= 0.5 + 1e-5).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_bits_for_any_number_of_threads(threads):
    before = nn.get_num_threads()
    results = []
    try:
        for count in (1, threads):
            nn.set_num_threads(count)
            nn.set_seed(3)
            model = nn.Sequential([nn.Input((6,)), nn.Dense(300, kernel_constraint="max_norm"), nn.Dense(4)])
            model.compile("adam", "mse")
            model.fit(X, Y, epochs=2, batch_size=16, verbose=0)
            results.append(model.get_weights())
    finally:
        nn.set_num_threads(before)
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_of_ones_own(tmp_path):
    class Rounded(constraints.Constraint):
        def constrained(self, weights):
            return nn.ops.round(weights * 4.0) / 4.0

    model = nn.Sequential([nn.Input((6,)), nn.Dense(4, kernel_constraint=Rounded())])
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    kernel = model.get_weights()[0]
    np.testing.assert_array_equal(kernel, np.round(kernel * 4) / 4)
    again = nn.load_model(model.save(tmp_path / "net.safetensors"))
    assert isinstance(again.layers[0].kernel.constraint, Rounded)


def test_a_frozen_weight_stays():
    model = nn.Sequential([nn.Input((6,)), nn.Dense(4, kernel_constraint="non_neg", trainable=False), nn.Dense(4)])
    before = model.get_weights()[0]
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], before)


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: nn.Dense(3, kernel_constraint="nonnegative"), ValueError, r"Dense '.*': unknown constraint 'nonneg"),
        (lambda: constraints.MaxNorm(-1), ValueError, "MaxNorm: expected max_value to be a finite number >= 0, got -1"),
        (lambda: constraints.MinMaxNorm(2.0, 1.0), ValueError, "MinMaxNorm: expected max_value .* >= 2, got 1.0"),
        (lambda: constraints.MinMaxNorm(rate=1.5), ValueError, "MinMaxNorm: expected rate"),
        (lambda: constraints.UnitNorm("0"), TypeError, "UnitNorm: expected axis to be an integer, got '0'"),
    ],
)
def test_what_is_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


# penalties on activities


def test_activity_regularizer():
    """Of what a layer gives, divided by the batch, as in Keras 3; it trains and is part of the loss."""
    layer = nn.Dense(4, activation="tanh", activity_regularizer=nn.regularizers.L2(6.4))
    model = nn.Sequential([nn.Input((6,)), layer])
    model.compile(nn.SGD(0.01), "mse")
    given = model.predict(X)
    expected = ((given - Y) ** 2).mean() + 6.4 * (given**2).sum() / 64
    assert model.evaluate(X, Y, batch_size=64, verbose=0) == pytest.approx(expected, rel=1e-4)
    model.fit(X, Y, epochs=20, batch_size=64, verbose=0)
    assert (model.predict(X) ** 2).sum() < 0.5 * (given**2).sum()


def test_activity_regularization_is_a_layer():
    model = nn.Sequential([nn.Input((6,)), nn.ActivityRegularization(l1=0.1, l2=0.2)])
    model.compile("sgd", "mse")
    expected = (0.1 * np.abs(X).sum() + 0.2 * (X**2).sum()) / 64
    assert model.evaluate(X, X, batch_size=64, verbose=0) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match=r"expected l1 .* >= 0, got -1"):
        nn.ActivityRegularization(-1)


def test_activity_regularizer_of_any_steps_and_in_files(tmp_path):
    layer = nn.Conv1D(2, 3, activity_regularizer="l1")
    model = nn.Sequential([nn.Input((None, 2)), layer])
    model.compile("sgd", "mse")
    again = nn.load_model(model.save(tmp_path / "net.safetensors"))
    assert again.layers[0].activity_regularizer.l1 == 0.01
    x = RNG.standard_normal((3, 9, 2)).astype(np.float32)
    given = model.predict(x)
    expected = (given**2).mean() + 0.01 * np.abs(given).sum() / 3
    for one in (model, again):
        assert one.evaluate(x, np.zeros_like(given), verbose=0) == pytest.approx(expected, rel=1e-4)


# dropout


def dropped(layer, shape=(50, 6, 5)):
    model = nn.Sequential([nn.Input(shape[1:]), layer], seed=7)
    model.compile("sgd", "mse")
    return model.probe(np.ones(shape, np.float32), np.zeros(shape, np.float32), training=True)[layer.name]


def test_noise_shape():
    got = dropped(nn.Dropout(0.5, noise_shape=(None, 1, None)))
    assert set(np.unique(got)) == {0, 2}
    assert (got == got[:, :1]).all() and not (got == got[:, :, :1]).all()
    assert (dropped(nn.Dropout(0.5, noise_shape=(1, 1, 5))) == dropped(nn.Dropout(0.5, (1, 1, 5)))[:1]).all()
    model = nn.Sequential([nn.Input((6,)), nn.Dropout(0.5, noise_shape=(None, 1)), nn.Dense(4)])
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(model.predict(X), X @ kernel + bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [nn.Dropout, nn.SpatialDropout1D])
def test_a_seed_of_its_own(kind):
    """The numbers do not depend on what else draws, and another seed gives others."""
    one = dropped(kind(0.5, seed=3))

    def behind(seed):
        layer = kind(0.5, seed=seed, name="mine")
        model = nn.Sequential([nn.Input((6, 5)), nn.Dropout(0.3), nn.Lambda(nn.ops.ones_like), layer], seed=7)
        model.compile("sgd", "mse")
        return model.probe(np.ones((50, 6, 5)), np.zeros((50, 6, 5)), training=True)["mine"]

    np.testing.assert_array_equal(behind(3), one)
    assert (behind(4) != one).any() and (behind(None) != one).any()


def test_two_layers_of_one_seed_draw_different_numbers():
    a, b = nn.Dropout(0.5, seed=3, name="a"), nn.Dropout(0.5, seed=3, name="b")
    x = nn.Input((50,))
    model = nn.Model(x, [a(x), b(x)])
    model.compile("sgd", "mse")
    ones = np.ones((20, 50), np.float32)
    probe = model.probe(ones, [ones, ones], training=True)
    assert (probe["a"] != probe["b"]).any()


def test_a_noise_shape_that_does_not_fit():
    with pytest.raises(ValueError, match=r"expected noise_shape to broadcast to input \(None, 6\), got \(None, 2\)"):
        nn.Dropout(0.5, noise_shape=(None, 2))(nn.Input((6,)))
