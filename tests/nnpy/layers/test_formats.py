"""data_format="channels_first", and normalization over any axis or axes: as with the channels last."""

import numpy as np
import pytest

import nnpy as nn
from nnpy import layers

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((3, 7, 6, 4)).astype(np.float32)
STEPS = RNG.standard_normal((3, 7, 4)).astype(np.float32)

ROWS = [
    (layers.Conv2D, {"filters": 5, "kernel_size": 3, "activation": "relu"}, IMAGES),
    (layers.Conv2D, {"filters": 4, "kernel_size": (3, 2), "strides": 2, "padding": "same", "groups": 2}, IMAGES),
    (layers.Conv1D, {"filters": 5, "kernel_size": 3, "padding": "causal"}, STEPS),
    (layers.Conv2DTranspose, {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same"}, IMAGES),
    (layers.DepthwiseConv2D, {"kernel_size": 3, "depth_multiplier": 2}, IMAGES),
    (layers.SeparableConv2D, {"filters": 5, "kernel_size": 3}, IMAGES),
    (layers.MaxPooling2D, {"pool_size": (2, 3)}, IMAGES),
    (layers.MaxPooling1D, {"pool_size": 2}, STEPS),
    (layers.AveragePooling2D, {"padding": "same"}, IMAGES),
    (layers.AveragePooling1D, {}, STEPS),
    (layers.GlobalMaxPooling2D, {}, IMAGES),
    (layers.GlobalAveragePooling2D, {"keepdims": True}, IMAGES),
    (layers.GlobalAveragePooling1D, {"keepdims": True}, STEPS),
    (layers.GlobalMaxPooling1D, {}, STEPS),
    (layers.ZeroPadding2D, {"padding": ((1, 0), (2, 1))}, IMAGES),
    (layers.ZeroPadding1D, {"padding": (1, 2)}, STEPS),
    (layers.Cropping2D, {"cropping": (1, 2)}, IMAGES),
    (layers.Cropping1D, {}, STEPS),
    (layers.UpSampling2D, {"size": (2, 3)}, IMAGES),
    (layers.SpatialDropout2D, {"rate": 0.5}, IMAGES),
    (layers.Flatten, {}, IMAGES),
]


def first(x):
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim > 2 else x


@pytest.mark.parametrize("kind, arguments, x", ROWS, ids=lambda value: getattr(value, "__name__", ""))
def test_channels_first(kind, arguments, x):
    """Values, shapes and a step of training, from the same weights."""
    nn.set_seed(0)  # whatever was drawn before: some weights make a step whose rounding is larger than what is allowed
    models = []
    for data_format, given in (("channels_last", x), ("channels_first", first(x))):
        layer = kind(**arguments, data_format=data_format, name="layer")
        layer = nn.registry.from_list(nn.registry.to_list(layer))
        ending = nn.layers.Lambda(lambda t: nn.ops.sum(nn.ops.reshape(t, (t.sizes[0], -1)), -1, keepdims=True))
        models.append((nn.Sequential([nn.Input(given.shape[1:]), layer]), ending, given))
    (last, end, x), (other, other_end, turned) = models
    other.set_weights(last.get_weights())
    expected = last.predict(x)
    np.testing.assert_allclose(other.predict(turned), first(expected), rtol=1e-5, atol=1e-6)
    assert other.output_shape[1:] == first(expected).shape[1:]
    if last.weights:
        for model, ending, given in ((last, end, x), (other, other_end, turned)):
            whole = nn.Sequential([nn.Input(given.shape[1:]), model, ending])
            whole.compile(nn.SGD(0.01), "mse")
            whole.fit(given, np.ones((3, 1)), epochs=2, verbose=0)
        for a, b in zip(last.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # of weights of about 1, some near 0


def test_layers_in_a_row_convert_their_input_once():
    """What is between them is views."""
    model = nn.Sequential([nn.Input((8, 16, 16))])
    for _ in range(2):
        model.add(nn.Conv2D(8, 3, padding="same", data_format="channels_first", activation="relu"))
        model.add(nn.BatchNormalization(axis=1))
        model.add(nn.MaxPooling2D(data_format="channels_first"))
    model.add(nn.GlobalAveragePooling2D(data_format="channels_first"))
    names = [line.kernel for line in nn.explain(model, batch_size=4).lines]
    assert names.count("copy") + names.count("transpose") == 1, names


def test_of_any_number_of_steps():
    model = nn.Sequential([nn.Input((4, None)), nn.Conv1D(3, 3, data_format="channels_first")])
    assert model.output_shape == (None, 3, None)
    for steps in (7, 5):
        assert model.predict(first(STEPS)[:, :, :steps]).shape == (3, 3, steps - 2)


NORMALIZED = [
    (layers.BatchNormalization, {"axis": 1}, (0, 2, 3), (1,)),
    (layers.BatchNormalization, {"axis": -2}, (0, 1, 3), (2,)),
    (layers.LayerNormalization, {"axis": 1}, (1,), (1,)),
    (layers.LayerNormalization, {"axis": [1, 2, 3]}, (1, 2, 3), (1, 2, 3)),
    (layers.LayerNormalization, {"axis": (-1, 1)}, (1, 3), (1, 3)),
]


@pytest.mark.parametrize("kind, arguments, over, features", NORMALIZED)
def test_normalization_over_axes(kind, arguments, over, features):
    layer = kind(**arguments)
    model = nn.Sequential([nn.Input(IMAGES.shape[1:]), layer])
    sizes = tuple(IMAGES.shape[axis] for axis in features)
    assert layer.gamma.shape == layer.beta.shape == sizes
    gamma, beta = RNG.standard_normal(sizes), RNG.standard_normal(sizes)
    layer.set_weights([gamma, beta, *layer.get_weights()[2:]])
    mean, variance = IMAGES.mean(over, keepdims=True), IMAGES.var(over, keepdims=True)
    wide = [IMAGES.shape[axis] if axis in features else 1 for axis in range(4)]
    expected = (IMAGES - mean) / np.sqrt(variance + 1e-3) * gamma.reshape(wide) + beta.reshape(wide)
    got = model.probe(IMAGES, training=True)[layer.name]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    model.compile(nn.SGD(0.1), "mse")
    before = model.evaluate(IMAGES, np.zeros_like(IMAGES), verbose=0)
    model.fit(IMAGES, np.zeros_like(IMAGES), epochs=3, verbose=0)
    assert model.evaluate(IMAGES, np.zeros_like(IMAGES), verbose=0) < before


def test_groups_of_another_axis():
    a, b = nn.GroupNormalization(2), nn.GroupNormalization(2, axis=1)
    one, other = (nn.Sequential([nn.Input(x.shape[1:]), n]) for x, n in ((IMAGES, a), (first(IMAGES), b)))
    np.testing.assert_allclose(other.predict(first(IMAGES)), first(one.predict(IMAGES)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_last_batch_of_one_is_normalized_to_beta(batch):
    """As in Keras: one sample has no spread; its variance of 0 moves the running one."""
    x = RNG.standard_normal((2 * batch + 1, 3)).astype(np.float32)
    layer = nn.BatchNormalization(momentum=0.5)
    model = nn.Sequential([nn.Input((3,)), layer])
    model.compile(nn.SGD(0.0), "mse")
    history = model.fit(x[:1], np.zeros((1, 3)), verbose=0)
    assert history.history["loss"][0] < 1e-9  # beta
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.5)
    np.testing.assert_allclose(layer.moving_mean.numpy(), x[0] / 2, rtol=1e-6)
    history = model.fit(x, np.zeros_like(x), batch_size=2 * batch, shuffle=False, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all() and np.isfinite(model.predict(x)).all()


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: nn.Conv2D(3, 3, data_format="NCHW"), ValueError, "'channels_last' or 'channels_first', got 'NCHW'"),
        (
            lambda: nn.Conv2D(3, 3, data_format="channels_first")(nn.Input((8, 8))), ValueError,
            r"expected input of shape \(batch, channels, height, width\), got \(None, 8, 8\)",
        ),
        (lambda: nn.BatchNormalization(axis=0), ValueError, "axis to be of features, not the batch, got 0"),
        (lambda: nn.BatchNormalization(axis=[1, 2]), TypeError, r"expected axis to be an integer, got \[1, 2\]"),
        (lambda: nn.LayerNormalization(axis=[1, -1])(nn.Input((4,))), ValueError, "expected different axes"),
        (lambda: nn.LayerNormalization(axis=3)(nn.Input((4,))), ValueError, "of an input of rank 2, not the batch"),
        (lambda: nn.LayerNormalization(axis=1)(nn.Input((None, 4))), ValueError, "expected known sizes of axis 1"),
    ],
)  # fmt: skip
def test_what_does_not_fit(make, error, text):
    with pytest.raises(error, match=text):
        make()
