"""Regularizers: their penalties, and that they reach the gradient."""

import numpy as np
import pytest
from running import compiled, start

import nncore
import nnpy as nn
from nnpy import ops, regularizers
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
        if used is not None:
            loss = ops.add(loss, used(layer.kernel))
        if weights:
            layer.set_weights(weights)
        weights = layer.get_weights()
        step = compiled([], {x: data, t: target}, "float64", True, loss=loss)
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


def regularized(dtype="float32"):
    nn.set_seed(3)
    nn.set_floatx(dtype)
    try:
        layers = [Dense(40, activation="tanh", kernel_regularizer=regularizers.L1L2(1e-3, 0.02), bias_regularizer="l1")]
        net = nn.Sequential([Input((20,)), *layers, nn.BatchNormalization(gamma_regularizer="l2"), Dense(2)])
        net.compile(nn.SGD(0.05, momentum=0.9), "mse", metrics=["mse"])
    finally:
        nn.set_floatx("float32")
        nn.set_seed(0)
    return net


def penalty(net):
    """By hand, of the layers of ``regularized``."""
    kernel, bias, gamma = (w.astype(np.float64) for w in net.get_weights()[:3])
    both = 1e-3 * np.abs(kernel).sum() + 0.02 * np.square(kernel).sum()
    return both + 0.01 * np.abs(bias).sum() + 0.01 * np.square(gamma).sum()


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-12)])
def test_the_loss_of_an_epoch_is_the_mean_of_its_batches(rng, dtype, tolerance):
    """Each batch's penalty is that of the weights before its update; a smaller batch counts by its samples."""
    x, y = rng.normal(size=(70, 20)), rng.normal(size=(70, 2))
    sizes, seen, penalties = [32, 32, 6], [], []
    net = regularized(dtype)
    for start_, size in zip((0, 32, 64), sizes, strict=True):
        rows = slice(start_, start_ + size)
        penalties.append(penalty(net))
        logs = net.train_on_batch(x[rows], y[rows], return_dict=True)
        assert logs["loss"] - logs["mse"] == pytest.approx(penalties[-1], rel=100 * tolerance)
        seen.append(logs["loss"])
    assert min(penalties) > 0.1 and penalties[0] > 1.01 * penalties[2]
    expected = np.average(seen, weights=sizes)

    every_batch = []
    batches = nn.LambdaCallback(on_train_batch_end=lambda batch, logs: every_batch.append(logs["loss"]))
    streamed = [(x[i : i + 32], y[i : i + 32]) for i in (0, 32, 64)]
    size = {"batch_size": 32}
    for arguments, options in (((x, y), size), ((x, y), {**size, "callbacks": batches}), ((iter(streamed),), {})):
        again = regularized(dtype)
        history = again.fit(*arguments, shuffle=False, verbose=0, **options).history
        assert history["loss"][0] == pytest.approx(expected, rel=tolerance)
    np.testing.assert_allclose(every_batch[:1], seen[:1], rtol=tolerance)
    assert every_batch[-1] == pytest.approx(expected, rel=tolerance)


def test_the_penalty_is_the_same_at_any_thread_count(rng):
    x, y = rng.normal(size=(50, 20)), rng.normal(size=(50, 2))
    losses = set()
    for threads in (1, 2, 3, 7):
        nncore.set_num_threads(threads)
        losses.add(tuple(regularized().fit(x, y, epochs=3, verbose=0).history["loss"]))
    assert len(losses) == 1


def test_only_models_with_regularizers_pay(rng):
    x, y = rng.normal(size=(8, 20)), rng.normal(size=(8, 2))
    names = []
    for used in (None, "l2"):
        net = nn.Sequential([Input((20,)), Dense(2, kernel_regularizer=used)])
        net.compile("sgd", "mse")
        net.fit(x, y, verbose=0)
        names.append([op.name for ready in net.engine._programs.values() for op in ready.program.records])
    assert names[0].count("accumulate") == 1 and names[1].count("accumulate") == 2
    assert len(names[1]) > len(names[0]) + 1


def test_a_penalty_of_ones_own(rng):
    class Distance(regularizers.Regularizer):
        """The squared distance of every weight to 1."""

        def penalty(self, weights):
            return ops.sum(ops.square(weights - 1.0))

    x, y = rng.normal(size=(8, 4)), np.zeros((8, 3))
    assert Distance()(np.zeros((2, 3))) == pytest.approx(6)
    net = nn.Sequential([Input((4,)), Dense(3, kernel_regularizer=Distance(), use_bias=False)])
    net.compile(nn.SGD(0.1), "mse")
    net.set_weights([np.zeros((4, 3))])
    assert net.evaluate(x, y, verbose=0) == pytest.approx(12)
    net.fit(x, y, batch_size=8, verbose=0)  # the loss is flat at zero: the penalty alone pulls
    np.testing.assert_allclose(net.get_weights()[0], 0.2, rtol=1e-6)


def test_a_frozen_weight_counts_as_in_evaluation(rng):
    x, y = rng.normal(size=(8, 4)), rng.normal(size=(8, 3))
    net = nn.Sequential([Input((4,)), Dense(5, kernel_regularizer=regularizers.L2(0.1), trainable=False), Dense(3)])
    net.compile(nn.SGD(0.0), "mse")
    assert net.train_on_batch(x, y) == pytest.approx(net.evaluate(x, y, verbose=0), rel=1e-6)


@pytest.mark.parametrize("mode", ["rows", "columns"])
def test_orthogonal_regularizer(mode):
    w = np.random.default_rng(0).normal(size=(5, 3))
    vectors = w if mode == "rows" else w.T
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [abs(unit[i] @ unit[j]) for i in range(len(unit)) for j in range(i)]
    made = regularizers.OrthogonalRegularizer(0.3, mode)
    np.testing.assert_allclose(made(w), 0.3 * np.mean(pairs), rtol=1e-6)
    assert made(np.eye(4)) == 0 and np.isfinite(made(np.zeros((3, 3)))) and made(np.ones((1, 1))) == 0
    assert repr(regularizers.get(made.to_json())) == repr(made)


def test_orthogonal_regularizer_makes_rows_orthogonal():
    nn.set_seed(0)
    net = nn.Sequential([nn.Input((4,)), nn.Dense(8, kernel_regularizer=regularizers.OrthogonalRegularizer(1.0))])
    net.compile(nn.SGD(0.05), "mse")
    x = np.zeros((8, 4))
    before = net.layers[0].kernel.regularizer(net.get_weights()[0])
    net.fit(x, np.zeros((8, 8)), epochs=200, verbose=0)
    assert net.layers[0].kernel.regularizer(net.get_weights()[0]) < 0.2 * before


def test_orthogonal_regularizer_refuses():
    with pytest.raises(ValueError, match="expected mode to be 'rows' or 'columns', got 'row'"):
        regularizers.OrthogonalRegularizer(mode="row")
    with pytest.raises(ValueError, match="OrthogonalRegularizer: expected a matrix, got a weight of shape"):
        regularizers.OrthogonalRegularizer()(np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="OrthogonalRegularizer: expected factor"):
        regularizers.OrthogonalRegularizer(-1)
