"""Layers that draw while training: statistics at a fixed seed, streams of their own, gradients, files."""

import doctest
import importlib

import numpy as np
import pytest

import nnpy as nn

COUNT, WIDTH = 4000, 25
X = np.random.default_rng(0).normal(0.5, 2.0, (COUNT, WIDTH)).astype("float32")
SELU_LEAST = -1.7580993408473766


def network(*layers, seed=7):
    net = nn.Sequential([nn.Input((WIDTH,)), *layers], seed=seed)
    net.compile("sgd", "mse")
    return net


def drawn(net, x=X):
    """What the last layer gives in a step of training."""
    return list(net.probe(x, np.zeros_like(x), training=True).activations.values())[-1].astype(np.float64)


def test_gaussian_noise():
    noise = drawn(network(nn.GaussianNoise(0.3))) - X
    bound = 4 * 0.3 / np.sqrt(noise.size)  # four deviations
    assert abs(noise.mean()) < bound and abs(noise.var() - 0.09) < 4 * 0.09 * np.sqrt(2 / noise.size)
    assert np.abs(noise.mean(0)).max() < 5 * 0.3 / np.sqrt(COUNT)
    assert abs(np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1]) < 0.07


def test_gaussian_dropout():
    factors = drawn(network(nn.GaussianDropout(0.2)), np.ones_like(X))
    assert abs(factors.mean() - 1) < 4 * 0.5 / np.sqrt(factors.size)
    assert abs(factors.var() - 0.25) < 4 * 0.25 * np.sqrt(2 / factors.size)
    assert np.abs(factors - 1).max() > 1.5  # a normal's tail, no two values


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_alpha_dropout_keeps_mean_and_variance(rate):
    x = np.random.default_rng(1).normal(size=X.shape).astype("float32")
    y = drawn(network(nn.AlphaDropout(rate)), x)
    assert abs(y.mean()) < 0.02 and abs(y.var() - 1) < 0.03
    scale = ((1 - rate) * (1 + rate * SELU_LEAST**2)) ** -0.5
    dropped = np.isclose(y, scale * SELU_LEAST * (1 - rate), atol=1e-5)
    assert abs(dropped.mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / y.size)
    np.testing.assert_allclose(y[~dropped], scale * (x[~dropped] - SELU_LEAST * rate), rtol=1e-4, atol=1e-5)


def test_alpha_dropout_of_whole_rows():
    y = drawn(network(nn.AlphaDropout(0.4, noise_shape=(None, 1))), np.ones_like(X))
    assert (y == y[:, :1]).all() and 0.3 < (y[:, 0] < 0).mean() < 0.5


LAYERS = [nn.GaussianNoise, nn.GaussianDropout, nn.AlphaDropout]
each = pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)


@each
def test_streams_are_of_each_layer_and_step(kind):
    x = np.ones_like(X)
    net = network(kind(0.3), kind(0.3))
    one, both = list(net.probe(x, x, training=True).activations.values())[-2:]
    factors = both / one if kind is not nn.GaussianNoise else both - one
    if kind is not nn.AlphaDropout:
        assert abs(np.corrcoef(one.ravel(), factors.ravel())[0, 1]) < 0.02
    again = drawn(network(kind(0.3), kind(0.3)))
    np.testing.assert_array_equal(drawn(network(kind(0.3), kind(0.3))), again)  # the seed's
    assert (drawn(network(kind(0.3), kind(0.3), seed=8)) != again).any()
    net.train_on_batch(x, x)
    assert (drawn(net, x) != both).any()  # another draw


@each
def test_a_seed_of_its_own_draws_the_same_whatever_others_do(kind):
    alone = drawn(network(kind(0.3, seed=5)))
    behind = network(nn.Dropout(0.0), nn.GaussianNoise(0.0), kind(0.3, seed=5))
    np.testing.assert_array_equal(drawn(behind), alone)
    assert (drawn(network(kind(0.3, seed=6))) != alone).any()


@each
def test_inference_gives_the_input_unless_it_is_told_to_train(kind):
    layer = kind(0.3)
    net = network(layer)
    np.testing.assert_array_equal(net.predict(X), X)
    inputs = nn.Input((WIDTH,))
    always = nn.Model(inputs, kind(0.3)(inputs, training=True))
    assert (always.predict(X[:10]) != X[:10]).any()
    np.testing.assert_array_equal(network(kind(0.0)).predict(X), drawn(network(kind(0.0))))


@each
def test_gradients_are_those_of_what_was_drawn(kind):
    net = network(nn.Dense(WIDTH, use_bias=False, kernel_initializer="identity"), kind(0.3, seed=2))
    found = net.probe(X, np.zeros_like(X), training=True)
    y, kernel = list(found.activations.values())[-1], next(iter(found.parameter_gradients.values()))
    upstream = 2 * y / y.size
    if kind is nn.GaussianNoise:
        slope = 1.0
    elif kind is nn.GaussianDropout:
        slope = y / X
    else:
        scale = (0.7 * (1 + 0.3 * SELU_LEAST**2)) ** -0.5
        slope = np.where(np.isclose(y, scale * SELU_LEAST * 0.7, atol=1e-5), 0, scale)
    np.testing.assert_allclose(kernel, X.T @ (upstream * slope), rtol=1e-3, atol=1e-4)


@each
def test_a_saved_model_goes_on_with_the_same_draws(kind, tmp_path):
    def make():
        return network(nn.Dense(WIDTH), kind(0.2), nn.Dense(WIDTH), kind(0.1, seed=3))

    whole, half = make(), make()
    whole.fit(X, X, epochs=2, batch_size=500, verbose=0)
    half.fit(X, X, epochs=1, batch_size=500, verbose=0)
    again = nn.load_model(half.save(tmp_path / "model.safetensors"))
    again.fit(X, X, epochs=2, initial_epoch=1, batch_size=500, verbose=0)
    for a, b in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_units():
    x = np.random.default_rng(0).normal(size=(4, 5, 6)).astype("float32")
    x[1] = 0
    for axis in (-1, 1, [1, 2], (2,)):
        net = nn.Sequential([nn.Input((5, 6)), nn.UnitNormalization(axis)])
        norms = np.sqrt((x.astype(np.float64) ** 2).sum(tuple(np.atleast_1d(axis)), keepdims=True))
        np.testing.assert_allclose(net.predict(x), x / np.maximum(norms, 1e-12), rtol=1e-5, atol=1e-6)
    net = nn.Sequential([nn.Input((5, 6)), nn.Dense(6), nn.UnitNormalization()])
    net.compile("sgd", "mse")
    net.fit(x, x, verbose=0)
    assert all(np.isfinite(w).all() for w in net.get_weights())  # a norm of 0 has a gradient


@pytest.mark.parametrize("layer, shape", [(lambda: nn.Dense(7), (5,)), (lambda: nn.Conv2D(4, 3), (6, 6, 2))])
def test_spectral_normalization_divides_by_the_largest_singular_value(layer, shape, tmp_path):
    net = nn.Sequential([nn.Input(shape), nn.SpectralNormalization(layer(), 60)], seed=3)
    net.compile(nn.SGD(0.1), "mse")
    x = np.random.default_rng(0).normal(size=(8, *shape)).astype("float32")
    y = np.zeros(net.output_shape[1:], "float32") + np.zeros((8, *net.output_shape[1:]), "float32")
    inner = net.layers[0].layer
    seen = list(net.probe(x, y, training=True).activations.values())[-1]
    plain = nn.Sequential([nn.Input(shape), layer()])
    kernel = inner.kernel.numpy().astype(np.float64)
    largest = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)[0]
    plain.set_weights([kernel / largest, inner.bias.numpy()])
    np.testing.assert_allclose(seen, plain.predict(x), rtol=1e-3, atol=1e-4)
    before = net.layers[0].vector_u.numpy()
    net.train_on_batch(x, y)  # u is kept from step to step, and inference uses it
    after = net.layers[0].vector_u.numpy()
    np.testing.assert_allclose(np.linalg.norm(after), 1, rtol=1e-5)
    assert (before != after).any() and isinstance(inner.kernel, nn.Parameter)
    kernel = inner.kernel.numpy().astype(np.float64)
    values = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)
    plain.set_weights([kernel / values[0], inner.bias.numpy()])
    np.testing.assert_allclose(net.predict(x), plain.predict(x), rtol=2e-2, atol=1e-3)
    again = nn.load_model(net.save(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(again.predict(x), net.predict(x))


def test_the_gradient_of_spectral_normalization_takes_its_vectors_as_constants():
    net = nn.Sequential([nn.Input((5,)), nn.SpectralNormalization(nn.Dense(3, use_bias=False), 80)], seed=3)
    net.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 5)).astype("float32"), rng.normal(size=(8, 3)).astype("float32")
    found = next(iter(net.probe(x, y, training=True).parameter_gradients.values()))
    w = net.layers[0].layer.kernel.numpy().astype(np.float64)
    left, _, right = np.linalg.svd(w)

    def loss(w):
        return np.mean((x @ (w / (left[:, 0] @ w @ right[0])) - y) ** 2)

    expected = np.zeros_like(w)
    for place in np.ndindex(*w.shape):
        step = np.zeros_like(w)
        step[place] = 1e-5
        expected[place] = (loss(w + step) - loss(w - step)) / 2e-5
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: nn.GaussianNoise(-1), ValueError, "GaussianNoise .*: expected stddev to be .* >= 0, got -1"),
        (lambda: nn.GaussianDropout(1.0), ValueError, "GaussianDropout .*: expected rate to be .* < 1, got 1.0"),
        (lambda: nn.AlphaDropout("a"), TypeError, "AlphaDropout .*: expected rate"),
        (lambda: network(nn.AlphaDropout(0.1, noise_shape=(None, 3))), ValueError, "expected noise_shape to broadcast"),
        (lambda: network(nn.UnitNormalization(2)), ValueError, "expected different axes of an input of rank 2, got 2"),
        (lambda: nn.SpectralNormalization(3), TypeError, "SpectralNormalization .*: expected a layer, got 3"),
        (lambda: network(nn.SpectralNormalization(nn.ReLU())), ValueError, "expected a layer with a kernel, got ReLU"),
        (lambda: nn.SpectralNormalization(nn.Dense(2), 0), ValueError, "expected power_iterations to be a positive"),
        (lambda: nn.UnitNormalization("a"), TypeError, "UnitNormalization .*: expected axis to be an integer"),
    ],
)
def test_refuses(make, error, text):
    with pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize(
    "name", ["layers.noise", "layers.normalization", "layers.spectral", "regularizers", "callbacks.averages"]
)
def test_examples_of_docstrings(name):
    module = importlib.import_module(f"nnpy.{name}")
    found = doctest.testmod(module, extraglobs={"nn": nn, "np": np})
    assert found.attempted and not found.failed
