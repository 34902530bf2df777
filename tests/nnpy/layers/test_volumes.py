"""Layers on volumes, and bilinear upsampling, against plain loops; gradients against differences, the same bits for any
number of threads."""

import itertools

import numpy as np
import pytest

import nnpy as nn
from nnpy import layers

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 5, 6, 7, 4)).astype(np.float32)


def three(value):
    return value if isinstance(value, tuple) else (value,) * 3


def padded(x, size, strides, padding, dilation, value):
    """With what "same" puts around, and how many windows there are."""
    edges, counts = [], []
    for length, k, s, d in zip(x.shape[1:4], size, strides, dilation, strict=True):
        extent = (k - 1) * d + 1
        total = max((-(-length // s) - 1) * s + extent - length, 0) if padding == "same" else 0
        edges.append((total // 2, total - total // 2))
        counts.append((length + total - extent) // s + 1)
    return np.pad(x, ((0, 0), *edges, (0, 0)), constant_values=value), counts


def windows(x, size, strides=1, padding="valid", dilation=1, value=0.0):
    """(place, batch, taps, channels) of all windows."""
    size, strides, dilation = three(size), three(strides), three(dilation)
    wide, counts = padded(x.astype(np.float64), size, strides, padding, dilation, value)
    taps = list(itertools.product(*map(range, size)))
    for place in itertools.product(*map(range, counts)):
        at = [tuple(p * s + t * d for p, s, t, d in zip(place, strides, tap, dilation, strict=True)) for tap in taps]
        yield place, np.stack([wide[:, i, j, k] for i, j, k in at], 1), counts


def convolved(x, kernel, bias, groups=1, **options):
    result = None
    taps, each, filters = np.prod(kernel.shape[:3]), kernel.shape[3], kernel.shape[4]
    flat = kernel.reshape(taps, each, filters)
    for place, part, counts in windows(x, kernel.shape[:3], **options):
        if result is None:
            result = np.zeros((len(x), *counts, filters))
        for group in range(groups):
            some = slice(group * filters // groups, (group + 1) * filters // groups)
            given = part[:, :, group * each : (group + 1) * each]
            result[(slice(None), *place, some)] = np.einsum("btc,tcf->bf", given, flat[:, :, some])
    return result + bias


def pooled(x, function, value, size, strides=None, padding="valid"):
    result = None
    for place, part, counts in windows(x, size, size if strides is None else strides, padding, value=value):
        if result is None:
            result = np.zeros((len(x), *counts, x.shape[-1]))
        result[(slice(None), *place)] = function(part, 1)
    return result


CONVOLUTIONS = [
    {"filters": 5, "kernel_size": 3},
    {"filters": 6, "kernel_size": (2, 3, 3), "padding": "same", "strides": 2},
    {"filters": 6, "kernel_size": (3, 2, 1), "strides": (2, 3, 1), "groups": 2},
    {"filters": 3, "kernel_size": 2, "dilation_rate": 2, "padding": "same"},
    {"filters": 3, "kernel_size": (1, 3, 2), "strides": (1, 2, 3), "padding": "same"},
    {"filters": 1, "kernel_size": (5, 6, 7)},
    {"filters": 2, "kernel_size": 1},
]


@pytest.mark.parametrize("arguments", CONVOLUTIONS)
def test_convolution(arguments):
    layer = nn.Conv3D(**arguments, bias_initializer="random_normal")
    model = nn.Sequential([nn.Input(X.shape[1:]), layer])
    options = {key: arguments[key] for key in ("strides", "padding", "groups") if key in arguments}
    expected = convolved(X, *model.get_weights(), dilation=arguments.get("dilation_rate", 1), **options)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-4, atol=1e-5)
    again = nn.registry.from_list(nn.registry.to_list(layer))
    other = nn.Sequential([nn.Input(X.shape[1:]), again])
    other.set_weights(model.get_weights())
    np.testing.assert_array_equal(other.predict(X), model.predict(X))


@pytest.mark.parametrize("arguments", CONVOLUTIONS)
def test_gradients_of_convolution(arguments):
    """By input, kernel and bias, in float64, against differences."""
    nn.set_floatx("float64")
    try:
        begun = nn.Lambda(lambda t: t * 0.5, name="begun")
        model = nn.Sequential([nn.Input(X.shape[1:]), begun, nn.Conv3D(**arguments, name="conv")])
        model.compile("sgd", "mse")
        x = X.astype(np.float64)
        y = RNG.standard_normal(model.predict(x).shape)
        probe = model.probe(x, y)
        found = [0.5 * probe.gradients["begun"], *probe.parameter_gradients.values()]
        arrays = [x, *model.get_weights()]
        for number, (gradient, array) in enumerate(zip(found, arrays, strict=True)):
            for place in RNG.integers(0, array.size, 4):
                values = []
                for step in (1e-5, -1e-5):
                    changed = [a.copy() for a in arrays]
                    changed[number].flat[place] += step
                    model.set_weights(changed[1:])
                    values.append(model.evaluate(changed[0], y, verbose=0))
                expected = (values[0] - values[1]) / 2e-5
                assert gradient.flat[place] == pytest.approx(expected, rel=1e-4, abs=1e-8)
                model.set_weights(arrays[1:])
    finally:
        nn.set_floatx("float32")


@pytest.mark.parametrize(
    "size, strides, padding", [(2, None, "valid"), (3, 2, "same"), ((1, 3, 2), (2, 1, 3), "valid")]
)
def test_pooling(size, strides, padding):
    for kind, function, value in ((nn.MaxPooling3D, np.max, -np.inf), (nn.AveragePooling3D, np.nanmean, np.nan)):
        model = nn.Sequential([nn.Input(X.shape[1:]), kind(size, strides, padding)])
        expected = pooled(X, function, value, size, strides, padding)
        np.testing.assert_allclose(model.predict(X), expected, rtol=1e-5, atol=1e-6)


OTHERS = [
    (nn.GlobalMaxPooling3D, {}, lambda x: x.max((1, 2, 3))),
    (nn.GlobalAveragePooling3D, {"keepdims": True}, lambda x: x.mean((1, 2, 3), keepdims=True)),
    (nn.ZeroPadding3D, {"padding": (1, 2, 0)}, lambda x: np.pad(x, ((0, 0), (1, 1), (2, 2), (0, 0), (0, 0)))),
    (nn.Cropping3D, {}, lambda x: x[:, 1:-1, 1:-1, 1:-1]),
    (nn.Cropping3D, {"cropping": ((1, 0), (0, 2), (0, 0))}, lambda x: x[:, 1:, :-2]),
    (nn.UpSampling3D, {"size": (2, 1, 3)}, lambda x: x.repeat(2, 1).repeat(3, 3)),
    (nn.SpatialDropout3D, {"rate": 0.5}, lambda x: x),
]


@pytest.mark.parametrize("kind, arguments, reference", OTHERS)
def test_others(kind, arguments, reference):
    model = nn.Sequential([nn.Input(X.shape[1:]), kind(**arguments)])
    np.testing.assert_allclose(model.predict(X), reference(X), rtol=1e-5, atol=1e-6)
    first = nn.Sequential([nn.Input((4, 5, 6, 7)), kind(**arguments, data_format="channels_first")])
    got = first.predict(np.moveaxis(X, -1, 1))
    expected = reference(X) if got.ndim == 2 else np.moveaxis(reference(X), -1, 1)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_channels_are_dropped_whole():
    layer = nn.SpatialDropout3D(0.5)
    model = nn.Sequential([nn.Input((2, 3, 4, 50)), layer])
    model.compile("sgd", "mse")
    ones = np.ones((3, 2, 3, 4, 50), np.float32)
    got = model.probe(ones, ones, training=True)[layer.name]
    assert set(np.unique(got)) == {0, 2} and (got == got[:, :1, :1, :1]).all()


def test_a_network_of_volumes_learns_with_the_same_bits_on_any_threads(tmp_path):
    y = X.mean((1, 2, 3))[:, :1]
    before, results = nn.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            nn.set_num_threads(threads)
            nn.set_seed(1)
            stack = [nn.Conv3D(4, 3, padding="same", activation="relu"), nn.MaxPooling3D(), nn.Conv3D(3, 2)]
            model = nn.Sequential([nn.Input(X.shape[1:]), *stack, nn.Flatten(), nn.Dense(1)])
            model.compile(nn.Adam(0.01), "mse")
            history = model.fit(X, y, epochs=30, verbose=0).history["loss"]
            assert history[-1] < 0.2 * history[0]
            results.append(model.get_weights())
    finally:
        nn.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
    again = nn.load_model(model.save(tmp_path / "net.safetensors"))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def bilinear(x, factor, axis):
    count = x.shape[axis]
    places = np.clip((np.arange(count * factor) + 0.5) / factor - 0.5, 0, count - 1)
    low = np.minimum(places.astype(int), max(count - 2, 0))
    share = (places - low).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    return x.take(low, axis) * (1 - share) + x.take(np.minimum(low + 1, count - 1), axis) * share


@pytest.mark.parametrize("size", [2, 3, (1, 4), (5, 2)])
@pytest.mark.parametrize("shape", [(2, 5, 6, 3), (1, 1, 2, 1)])
def test_bilinear_upsampling(size, shape):
    images = RNG.standard_normal(shape).astype(np.float32)
    down, across = size if isinstance(size, tuple) else (size, size)
    expected = bilinear(bilinear(images, down, 1), across, 2)
    model = nn.Sequential([nn.Input(shape[1:]), nn.UpSampling2D(size, interpolation="bilinear")])
    np.testing.assert_allclose(model.predict(images), expected, rtol=1e-5, atol=1e-6)
    first = nn.UpSampling2D(size, "channels_first", "bilinear")
    other = nn.Sequential([nn.Input((shape[3], *shape[1:3])), first])
    got = np.moveaxis(other.predict(np.moveaxis(images, -1, 1)), 1, -1)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_bilinear_upsampling_trains():
    images = RNG.standard_normal((4, 5, 6, 3)).astype(np.float32)
    y = bilinear(bilinear(images, 2, 1), 2, 2)
    model = nn.Sequential([nn.Input((5, 6, 3)), nn.Conv2D(3, 1), nn.UpSampling2D(interpolation="bilinear")])
    model.compile(nn.Adam(0.05), "mse")
    losses = model.fit(images, y, epochs=150, verbose=0).history["loss"]
    assert losses[-1] < 1e-3 * losses[0]


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: nn.Conv3D(3, 6)(nn.Input((5, 8, 8, 1))), r"window of \(6, 6, 6\) does not fit into \(5, 8, 8\)"),
        (lambda: nn.Conv3D(3, 2)(nn.Input((8, 8, 1))), r"depth, height, width, channels\), got \(None, 8, 8, 1\)"),
        (lambda: nn.Conv3D(3, 2, groups=2), r"expected groups to divide the filters \(3\), got 2"),
        (lambda: nn.Conv3D(4, 2, groups=2)(nn.Input((4, 4, 4, 3))), r"expected channels that groups \(2\) divides"),
        (lambda: nn.Cropping3D(2)(nn.Input((4, 8, 8, 1))), "leaves nothing of"),
        (lambda: nn.UpSampling2D(interpolation="bicubic"), "'nearest' or 'bilinear', got 'bicubic'"),
    ],
)
def test_what_does_not_fit(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_other_names():
    assert layers.MaxPool3D is nn.MaxPooling3D and layers.AvgPool3D is nn.AveragePooling3D
    assert layers.GlobalAvgPool3D is nn.GlobalAveragePooling3D and layers.Convolution3D is nn.Conv3D
