"""Layers of images and sequences: values and shapes as Keras has them, gradients, saving, errors."""

import numpy as np
import pytest
from imagetable import expected_conv
from optable import Graph, central_differences
from running import value

import nnpy as nn
from nncore import reference_images as reference
from nnpy import layers, ops
from nnpy.layers import Input, reset_names
from nnpy.layers.windows import window_on
from nnpy.ops import Window
from nnpy.registry import from_json, to_json

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 7, 8, 4)).astype(np.float32)
S = RNG.normal(size=(3, 11, 4)).astype(np.float32)  # sequences
CLOSE = dict(rtol=1e-4, atol=1e-4)


@pytest.fixture(autouse=True)
def _fresh_names():
    reset_names()


def run(layer, x):
    """(the layer's result for x, its weights in float64)."""
    tensor = Input(x.shape[1:])
    y = layer(tensor)
    for weight in layer.weights:  # biases too
        weight.assign(RNG.normal(size=weight.shape))
    result = value(y, {tensor: x})
    assert result.shape[1:] == y.shape[1:]
    return result, [w.astype(np.float64) for w in layer.get_weights()]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides, dilation, groups", [(1, 1, 1), (2, 1, 2), ((3, 2), 1, 1), (1, (2, 1), 4)])
def test_conv2d(padding, strides, dilation, groups):
    layer = layers.Conv2D(8, (3, 2), strides, padding, dilation_rate=dilation, groups=groups, activation="relu")
    y, (w, b) = run(layer, X)
    assert w.shape == (3, 2, 4 // groups, 8)
    window = window_on((7, 8), (3, 2), layer.strides, padding, layer.dilation_rate, groups)
    np.testing.assert_allclose(y, np.maximum(expected_conv(X, w, window) + b, 0), **CLOSE)


@pytest.mark.parametrize(
    "image, size, stride, dilation, expected",
    [
        (7, 3, 1, 1, (1, 1)),
        (7, 3, 2, 1, (1, 1)),
        (8, 3, 2, 1, (0, 1)),  # more after than before
        (8, 4, 1, 1, (1, 2)),
        (8, 3, 1, 2, (2, 2)),
        (8, 1, 3, 1, (0, 0)),
        (1, 5, 1, 1, (2, 2)),
    ],
)
def test_padding_same(image, size, stride, dilation, expected):
    window = window_on((image, 1), (size, 1), (stride, 1), "same", (dilation, 1))
    assert (window.before[0], window.after[0]) == expected
    assert window.places((image, 1))[0] == -(-image // stride)


@pytest.mark.parametrize("padding, before, after", [("same", 1, 1), ("valid", 0, 0), ("causal", 2, 0)])
def test_conv1d(padding, before, after):
    y, (w, b) = run(layers.Conv1D(5, 3, padding=padding), S)
    window = Window((1, 3), before=(0, before), after=(0, after))
    np.testing.assert_allclose(y, expected_conv(S[:, None], w[None], window)[:, 0] + b, **CLOSE)


def test_causal_sees_nothing_later():
    layer = layers.Conv1D(5, 3, padding="causal", dilation_rate=2)
    y, _ = run(layer, S)
    later = S.copy()
    later[:, 6:] = 0
    tensor = Input(S.shape[1:])
    np.testing.assert_array_equal(value(layer(tensor), {tensor: later})[:, :6], y[:, :6])


@pytest.mark.parametrize(
    "size, strides, padding, output_padding, rows, before",
    [
        (3, 1, "valid", None, 9, 0),
        (3, 2, "valid", None, 15, 0),
        (2, 3, "valid", None, 21, 0),
        (3, 2, "same", None, 14, 0),
        (4, 2, "same", None, 14, 1),
        (3, 2, "same", 1, 14, 0),
        (3, 2, "same", 0, 13, 1),
        (3, 3, "valid", 2, 23, 0),
    ],
)
def test_conv2d_transpose(size, strides, padding, output_padding, rows, before):
    """Sizes and places as Keras 3.14 on TensorFlow gives them."""
    x = np.ascontiguousarray(X[:, :, :7])
    y, (w, b) = run(layers.Conv2DTranspose(5, size, strides, padding, output_padding), x)
    assert y.shape == (3, rows, rows, 5) and w.shape == (size, size, 5, 4)
    expected = reference.conv_input_grad(x, w, (rows, rows), (strides, strides), (before, before))
    np.testing.assert_allclose(y, expected + b, **CLOSE)


def test_depthwise_and_separable():
    y, (w, b) = run(layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2), X)
    assert w.shape == (3, 3, 4, 2)
    window = Window((3, 3), before=(1, 1), after=(1, 1), groups=4)
    np.testing.assert_allclose(y, expected_conv(X, w.reshape(3, 3, 1, 8), window) + b, **CLOSE)
    y, (w, p, b) = run(layers.SeparableConv2D(5, (2, 3), (1, 2), activation="tanh"), X)
    assert w.shape == (2, 3, 4, 1) and p.shape == (1, 1, 4, 5)
    between = expected_conv(X, w.reshape(2, 3, 1, 4), Window((2, 3), (1, 2), groups=4))
    np.testing.assert_allclose(y, np.tanh(between @ p[0, 0] + b), **CLOSE)


def test_auto_keeps_the_variance():
    """Of what passes through kernels whose axes are not (channels in, channels out)."""
    x = RNG.normal(size=(4, 12, 12, 64)).astype(np.float32)
    for layer in (
        layers.Conv2D(64, 3, activation="linear"),
        layers.DepthwiseConv2D(3, activation="linear"),
        layers.SeparableConv2D(64, 3, activation="linear"),
        layers.Conv2DTranspose(128, 3, kernel_initializer="auto", padding="same"),
    ):
        tensor = Input(x.shape[1:])
        assert 0.5 < value(layer(tensor), {tensor: x}).std() < 2, layer


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kind", ["Max", "Average"])
def test_pooling(kind, padding):
    function = getattr(reference, f"{kind.lower()}_pool")
    for size, strides in ((2, None), (3, 2), ((2, 3), 1)):
        layer = getattr(layers, f"{kind}Pooling2D")(size, strides, padding)
        window = window_on((7, 8), layer.pool_size, layer.strides, padding)
        y, _ = run(layer, X)
        expected = function(X, window.size, window.places((7, 8)), window.strides, window.before)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
        flat, _ = run(getattr(layers, f"{kind}Pooling1D")(3, 2, padding), S)
        window = window_on((1, 11), (1, 3), (1, 2), padding)
        expected = function(S[:, None], (1, 3), window.places((1, 11)), (1, 2), window.before)[:, 0]
        np.testing.assert_allclose(flat, expected, rtol=1e-5, atol=1e-6)


def test_global_pooling():
    for kind, function in (("Max", np.max), ("Average", np.mean)):
        for data, name in ((X, f"Global{kind}Pooling2D"), (S, f"Global{kind}Pooling1D")):
            axes = tuple(range(1, data.ndim - 1))
            for keepdims in (False, True):
                y, _ = run(getattr(layers, name)(keepdims=keepdims), data)
                np.testing.assert_allclose(y, function(data, axis=axes, keepdims=keepdims), rtol=1e-5, atol=1e-6)


def test_padding_cropping_enlarging():
    for layer, x, expected in (
        (layers.ZeroPadding2D(((1, 2), (0, 3))), X, np.pad(X, ((0, 0), (1, 2), (0, 3), (0, 0)))),
        (layers.ZeroPadding2D((1, 2)), X, np.pad(X, ((0, 0), (1, 1), (2, 2), (0, 0)))),
        (layers.ZeroPadding1D((1, 2)), S, np.pad(S, ((0, 0), (1, 2), (0, 0)))),
        (layers.Cropping2D(((1, 0), (2, 1))), X, X[:, 1:, 2:-1]),
        (layers.Cropping2D(0), X, X),
        (layers.Cropping1D((1, 2)), S, S[:, 1:-2]),
        (layers.UpSampling2D((2, 3)), X, X.repeat(2, 1).repeat(3, 2)),
        (layers.UpSampling1D(3), S, S.repeat(3, 1)),
    ):
        np.testing.assert_array_equal(run(layer, x)[0], expected)


def test_spatial_dropout():
    for kind, x in ((layers.SpatialDropout2D, X), (layers.SpatialDropout1D, S)):
        tensor = Input(x.shape[1:])
        y = kind(0.5)(tensor)
        np.testing.assert_array_equal(value(y, {tensor: x}), x)
        trained = value(y, {tensor: x}, training=True).reshape(3, -1, 4)
        kept = (trained != 0).any(1, keepdims=True)
        assert 0 < kept.sum() < kept.size
        np.testing.assert_allclose(trained, np.where(kept, 2 * x.reshape(trained.shape), 0), rtol=1e-6)


def test_group_normalization():
    for groups, count in ((2, 2), (-1, 4), (4, 4), (1, 1)):
        y, (gamma, beta) = run(layers.GroupNormalization(groups), X)
        expected = reference.group_norm(X.reshape(3, -1, 4).astype(float), count, gamma, beta, 1e-3)[0]
        np.testing.assert_allclose(y.reshape(expected.shape), expected, **CLOSE)


def random_window(rng):
    numbers = lambda low, high: tuple(int(n) for n in rng.integers(low, high, 2))  # noqa: E731
    return Window(
        numbers(1, 4), numbers(1, 4), numbers(1, 3), numbers(0, 3), numbers(0, 3), int(rng.choice([1, 1, 2, 3]))
    )


@pytest.mark.parametrize("seed", range(40))
def test_any_window(seed):
    """Strides, zeros, dilation, groups, odd sizes: a convolution, the transposed one, and the gradients of both."""
    rng = np.random.default_rng(seed)
    window, image = random_window(rng), (0, 0)
    while min(window.places(image)) < 1:
        window, image = random_window(rng), tuple(int(n) for n in rng.integers(1, 9, 2))
    c, k = window.groups * int(rng.integers(1, 4)), window.groups * int(rng.choice([1, 2, 3, 17]))
    x = rng.normal(size=(2, *image, c))
    w = rng.normal(size=(*window.size, c // window.groups, k))
    forward = Graph(lambda x, w: ops.conv(x, w, window), [x, w], "float64")
    y, expected = forward.run(), expected_conv(x, w, window)
    np.testing.assert_allclose(y, expected, atol=1e-9)
    dy = rng.normal(size=y.shape)
    back = Graph(lambda dy, w: ops.conv_by_input(dy, w, image, window), [dy, w], "float64")
    kind = dict(strides=window.strides, before=window.before, dilation=window.dilation, groups=window.groups)
    np.testing.assert_allclose(back.run(), reference.conv_input_grad(dy, w, image, **kind), atol=1e-9)
    for graph in (forward, back):
        if sum(p.value.size for p in graph.parameters) < 400:
            for got, numeric in zip(graph.gradients(), central_differences(graph), strict=True):
                np.testing.assert_allclose(got, numeric, rtol=1e-3, atol=1e-5)


def network():
    return nn.Sequential(
        [
            nn.Conv2D(6, 3, padding="same", activation="relu", kernel_regularizer="l2"),
            nn.BatchNormalization(),
            nn.MaxPooling2D(),
            nn.DepthwiseConv2D(3, padding="same", use_bias=False),
            nn.GroupNormalization(3),
            nn.SpatialDropout2D(0.1),
            nn.Residual([nn.SeparableConv2D(6, 3, padding="same")]),
            nn.Conv2DTranspose(4, 2, 2, activation="elu"),
            nn.ZeroPadding2D(),
            nn.Cropping2D(1),
            nn.UpSampling2D(),
            nn.AveragePooling2D(2),
            nn.GlobalAveragePooling2D(),
            nn.Dense(3, activation="softmax"),
        ]
    )


def test_a_network_trains_and_is_saved(tmp_path):
    """All of these layers in one network, which comes back from a file as it was."""
    nn.set_seed(3)
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 300)
    x = rng.normal(size=(300, 8, 8, 2)).astype(np.float32)
    x[y == 1, :, :4] += 1.5  # bright on the left
    x[y == 2, :4, :] += 1.5  # bright above
    model = network()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, epochs=16, batch_size=32, verbose=0).history
    assert history["accuracy"][-1] > 0.85 and history["loss"][-1] < 0.8 * history["loss"][0]
    model.save(tmp_path / "model.safetensors")
    again = nn.load_model(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict(x[:7]), model.predict(x[:7]))
    again.fit(x, y, epochs=1, batch_size=32, verbose=0, shuffle=False)
    model.fit(x, y, epochs=1, batch_size=32, verbose=0, shuffle=False)
    np.testing.assert_array_equal(again.predict(x[:7]), model.predict(x[:7]))


def test_the_same_bits_at_any_number_of_threads(teams):
    def trained(threads):
        nn.set_num_threads(threads)
        nn.set_seed(3)
        model = network()
        model.compile("adam", "sparse_categorical_crossentropy")
        x = np.random.default_rng(3).normal(size=(70, 48, 48, 2)).astype(np.float32)
        model.fit(x, np.arange(70) % 3, epochs=1, batch_size=32, verbose=0)
        return b"".join(w.tobytes() for w in model.get_weights())

    try:
        assert len({trained(threads) for threads in (1, 2, 3, 7)}) == 1
    finally:
        nn.set_num_threads(0)


@pytest.mark.parametrize("layer", network().layers[:-1], ids=lambda layer: type(layer).__name__)
def test_configuration_round_trip(layer):
    again = from_json(to_json(layer))
    assert type(again) is type(layer) and again.get_config() == layer.get_config()


IMAGES, FLAT, SEQUENCES = Input((7, 8, 4)), Input((28, 28)), Input((11, 4))
BAD = [
    (lambda: layers.Conv2D(8, 3)(FLAT), ValueError,
     r"Conv2D 'conv2d': expected input of shape \(batch, height, width, channels\), got \(None, 28, 28\); give it "
     r"channels: Reshape\(\(28, 28, 1\)\) before it"),
    (lambda: layers.Conv2D(0, 3), ValueError, "expected filters to be .*, got 0"),
    (lambda: layers.Conv2D(8, (3, 3, 3)), TypeError, "expected kernel_size to be an integer >= 1 or 2 of them"),
    (lambda: layers.Conv2D(8, 0), ValueError, "expected kernel_size to be"),
    (lambda: layers.Conv2D(8, 3, strides=1.5), TypeError, "expected strides to be"),
    (lambda: layers.Conv2D(8, 3, padding="full"), ValueError, "expected padding to be 'valid' or 'same', got 'full'"),
    (lambda: layers.Conv2D(8, 3, padding="causal"), ValueError, "expected padding to be 'valid' or 'same'"),
    (lambda: layers.Conv2D(8, 3, groups=3), ValueError, r"groups to divide the filters \(8\), got 3"),
    (lambda: layers.Conv2D(9, 3, groups=3)(IMAGES), ValueError, r"channels that groups \(3\) divides"),
    (lambda: layers.Conv2D(8, 9)(IMAGES), ValueError, r"a window of \(9, 9\) pixels does not fit into \(7, 8\); pad"),
    (lambda: layers.Conv1D(8, 9, dilation_rate=2)(SEQUENCES), ValueError, r"a window of \(17,\) pixels does not fit"),
    (lambda: layers.Conv2DTranspose(8, 3, 2, output_padding=2), ValueError, r"output_padding below strides \(2, 2\)"),
    (lambda: layers.DepthwiseConv2D(3, depth_multiplier=0), ValueError, "expected depth_multiplier to be"),
    (lambda: layers.MaxPooling2D(9)(IMAGES), ValueError, r"MaxPooling2D 'max_pooling2d': a window of \(9, 9\) pixels"),
    (lambda: layers.MaxPooling1D(2)(IMAGES), ValueError, r"expected input of shape \(batch, steps, channels\)"),
    (lambda: layers.GlobalMaxPooling2D(keepdims=1), TypeError, "expected keepdims to be True or False"),
    (lambda: layers.ZeroPadding2D(-1), ValueError, "expected padding to be"),
    (lambda: layers.ZeroPadding2D((1, 2, 3)), TypeError, "expected padding to be a number, 2 of them, or 2 pairs"),
    (lambda: layers.Cropping2D(4)(IMAGES), ValueError, "leaves nothing of"),
    (lambda: layers.UpSampling2D(interpolation="bicubic"), ValueError, "expected interpolation 'nearest'"),
    (lambda: layers.SpatialDropout2D(1.0), ValueError, "expected rate to be a finite number >= 0 and < 1"),
    (lambda: layers.GroupNormalization(3)(IMAGES), ValueError, r"channels that groups \(3\) divides"),
    (lambda: layers.GroupNormalization(0), ValueError, "expected groups to be"),
]  # fmt: skip


@pytest.mark.parametrize("make, error, text", BAD)
def test_refuses(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_other_channels_than_built_for():
    layer = layers.Conv2D(8, 3)
    layer(IMAGES)
    with pytest.raises(ValueError, match=r"Conv2D 'conv2d': built for 4 channels, got \(None, 7, 8, 3\)"):
        layer(Input((7, 8, 3)))
    layer(Input((9, 9, 4)))  # other sizes are fine


def test_sizes_from_arrays_and_sizes_that_nothing_has():
    assert nn.Conv2D(4, np.array([3, 5])).kernel_size == (3, 5)
    with pytest.raises(
        TypeError, match="Conv2D 'a': expected kernel_size to be an integer >= 1 or 2 of them, got ndar"
    ):
        nn.Conv2D(4, np.ones((2, 2), int), name="a")
    with pytest.raises(ValueError, match="ZeroPadding2D 'a': expected padding to be at most 1048576 pixels"):
        nn.ZeroPadding2D(2**40, name="a")
