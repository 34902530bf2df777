"""Layers: values against NumPy, shapes, names, weights, configuration, and what they refuse."""

import numpy as np
import pytest
from running import value

from nnpy import activations, layers, ops, regularizers
from nnpy.graph import Tensor
from nnpy.layers import Dense, Input, Layer, reset_names
from nnpy.registry import from_json, to_json

X = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((5, 2, 3)).astype(np.float32)

# layer, its arguments, what it does to X (and Y)
UNARY = [
    (layers.Flatten, {}, lambda x: x.reshape(5, 6)),
    (layers.Reshape, {"target_shape": (3, 2)}, lambda x: x.reshape(5, 3, 2)),
    (layers.Reshape, {"target_shape": (-1, 1)}, lambda x: x.reshape(5, 6, 1)),
    (layers.Reshape, {"target_shape": 6}, lambda x: x.reshape(5, 6)),
    (layers.Activation, {"activation": "relu"}, lambda x: np.maximum(x, 0)),
    (layers.Activation, {"activation": None}, lambda x: x),
    (layers.Dropout, {"rate": 0.5}, lambda x: x),  # not training
]
BINARY = [
    (layers.Add, {}, lambda x, y: x + y),
    (layers.Subtract, {}, lambda x, y: x - y),
    (layers.Multiply, {}, lambda x, y: x * y),
    (layers.Average, {}, lambda x, y: (x + y) / 2),
    (layers.Maximum, {}, np.maximum),
    (layers.Minimum, {}, np.minimum),
    (layers.Concatenate, {}, lambda x, y: np.concatenate([x, y], -1)),
    (layers.Concatenate, {"axis": 1}, lambda x, y: np.concatenate([x, y], 1)),
]
# Keras 3.15's activations at these points
POINTS = np.array([[-4.0, -1.0, -0.5, 0.0, 0.5, 1.0, 4.0]], np.float32)
KERAS = {
    "linear": [-4.0, -1.0, -0.5, 0.0, 0.5, 1.0, 4.0],
    "relu": [0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 4.0],
    "leaky_relu": [-0.8, -0.2, -0.1, 0.0, 0.5, 1.0, 4.0],
    "elu": [-0.981684, -0.632121, -0.393469, 0.0, 0.5, 1.0, 4.0],
    "selu": [-1.725899, -1.111331, -0.691758, 0.0, 0.52535, 1.050701, 4.202804],
    "gelu": [-0.000127, -0.158655, -0.154269, 0.0, 0.345731, 0.841345, 3.999874],
    "silu": [-0.071945, -0.268941, -0.18877, 0.0, 0.31123, 0.731059, 3.928055],
    "swish": [-0.071945, -0.268941, -0.18877, 0.0, 0.31123, 0.731059, 3.928055],
    "sigmoid": [0.017986, 0.268941, 0.377541, 0.5, 0.622459, 0.731059, 0.982014],
    "hard_sigmoid": [0.0, 0.333333, 0.416667, 0.5, 0.583333, 0.666667, 1.0],
    "tanh": [-0.999329, -0.761594, -0.462117, 0.0, 0.462117, 0.761594, 0.999329],
    "softplus": [0.01815, 0.313262, 0.474077, 0.693147, 0.974077, 1.313262, 4.01815],
    "softsign": [-0.8, -0.5, -0.333333, 0.0, 0.333333, 0.5, 0.8],
    "mish": [-0.072592, -0.303401, -0.220744, 0.0, 0.375245, 0.865098, 3.997413],
    "exponential": [0.018316, 0.367879, 0.606531, 1.0, 1.648721, 2.718282, 54.598152],
    "relu6": [0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 4.0],
    "celu": [-0.981684, -0.632121, -0.393469, 0.0, 0.5, 1.0, 4.0],
    "hard_silu": [0.0, -0.333333, -0.208333, 0.0, 0.291667, 0.666667, 4.0],
    "hard_swish": [0.0, -0.333333, -0.208333, 0.0, 0.291667, 0.666667, 4.0],
    "hard_tanh": [-1.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.0],
    "hard_shrink": [-4.0, -1.0, 0.0, 0.0, 0.0, 1.0, 4.0],
    "soft_shrink": [-3.5, -0.5, 0.0, 0.0, 0.0, 0.5, 3.5],
    "tanh_shrink": [-3.000671, -0.238406, -0.037883, 0.0, 0.037883, 0.238406, 3.000671],
    "log_sigmoid": [-4.01815, -1.313262, -0.974077, -0.693147, -0.474077, -0.313262, -0.01815],
    "squareplus": [0.236068, 0.618034, 0.780776, 1.0, 1.280776, 1.618034, 4.236068],
    "softmax": [0.0003, 0.006035, 0.00995, 0.016405, 0.027047, 0.044593, 0.89567],
    "log_softmax": [-8.110183, -5.110183, -4.610183, -4.110183, -3.610183, -3.110183, -0.110183],
}


@pytest.fixture(autouse=True)
def fresh_names():
    reset_names()


@pytest.mark.parametrize("kind, options, expected", UNARY)
def test_one_input(kind, options, expected):
    x = Input((2, 3))
    y = kind(**options)(x)
    assert y.shape == (None, *expected(X).shape[1:])
    np.testing.assert_array_equal(value(y, {x: X}), expected(X))


@pytest.mark.parametrize("kind, options, expected", BINARY)
def test_two_inputs(kind, options, expected):
    x, y = Input((2, 3)), Input((2, 3))
    z = kind(**options)([x, y])
    assert z.shape == (None, *expected(X, Y).shape[1:])
    np.testing.assert_allclose(value(z, {x: X, y: Y}), expected(X, Y), rtol=1e-6)


def test_three_inputs():
    tensors = [Input((2, 3)) for _ in range(3)]
    feeds = dict(zip(tensors, (X, Y, X * Y), strict=True))
    np.testing.assert_allclose(value(layers.Average()(tensors), feeds), (X + Y + X * Y) / 3, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("use_bias", [True, False])
def test_dense(use_bias):
    x = Input((6,))
    layer = Dense(4, activation="relu", use_bias=use_bias, bias_initializer="random_normal")
    y = layer(x)
    kernel, *bias = layer.get_weights()
    assert kernel.shape == (6, 4) and len(bias) == use_bias
    flat = X.reshape(5, 6)
    expected = np.maximum(flat @ kernel + (bias[0] if bias else 0), 0)
    np.testing.assert_allclose(value(y, {x: flat}), expected, rtol=1e-5, atol=1e-6)
    assert layer.count_params() == 24 + 4 * use_bias


def test_alpha_of_celu():
    with pytest.raises(ValueError, match="activation celu: expected alpha > 0, got 0"):
        activations.celu(alpha=0)


def test_every_activation_is_tested():
    assert set(KERAS) - {"swish", "hard_swish"} == set(activations._PARAMETERS)


@pytest.mark.parametrize("name", KERAS)
def test_activation_values(name):
    x = Input((7,))
    got = value(layers.Activation(name)(x), {x: POINTS})
    np.testing.assert_allclose(got[0], KERAS[name], rtol=3e-6, atol=1.1e-6)


def test_activation_parameters():
    x = Input((7,))
    slope = activations.leaky_relu(negative_slope=0.5)
    expected = np.where(POINTS < 0, POINTS / 2, POINTS)
    np.testing.assert_allclose(value(slope(x), {x: POINTS}), expected)
    np.testing.assert_allclose(value(activations.leaky_relu(x, negative_slope=0.5), {x: POINTS}), expected)
    assert from_json(to_json(slope)).parameters == {"negative_slope": 0.5}
    tanh = 0.5 * POINTS * (1 + np.tanh(np.sqrt(2 / np.pi) * (POINTS + 0.044715 * POINTS**3)))
    np.testing.assert_allclose(value(activations.gelu(x, approximate=True), {x: POINTS}), tanh, rtol=1e-5, atol=1e-6)
    assert to_json(activations.relu) == "relu"
    with pytest.raises(TypeError, match="activation relu: unknown parameter 'slope'; it has none"):
        activations.relu(slope=1)


def test_dropout_while_training():
    x = Input((1000,))
    data = np.full((20, 1000), 3.0, np.float32)
    y = value(layers.Dropout(0.25)(x), {x: data}, training=True)
    kept = y != 0
    np.testing.assert_allclose(y[kept], 4.0, rtol=1e-6)
    assert abs(kept.mean() - 0.75) < 0.02  # six standard deviations


def cube(x):
    return x * x * x


def cube_slope(x):
    return 3 * x * x


def test_custom_activation():
    function = activations.custom(cube, cube_slope)
    x = Input((7,))
    np.testing.assert_allclose(value(Dense(7, function, False, "identity")(x), {x: POINTS}), POINTS**3, rtol=1e-5)
    layer = layers.Activation(function)
    assert layers.Activation.from_config(layer.get_config()).activation is function
    assert activations.get("cube") is function
    nameless = layers.Activation(activations.custom(lambda x: x, lambda x: 1.0))
    with pytest.raises(TypeError, match="to be saved it needs a name"):
        nameless.get_config()


@pytest.mark.parametrize(
    "arguments, text",
    [
        ((cube,), "expected its derivative"),
        ((3, cube), "expected the function to be a Python function of one number, got 3"),
        ((cube, "x"), "expected the derivative to be a Python function of one number, got 'x'"),
        ((lambda x, y: x, cube), r"expected the function to take one number, got parameters \['x', 'y'\]"),
        ((cube, lambda: 1), r"expected the derivative to take one number, got parameters \[\]"),
    ],
)
def test_custom_activation_refuses(arguments, text):
    with pytest.raises(TypeError, match=text):
        activations.custom(*arguments)


def test_residual():
    x = Input((6,))
    block = layers.Residual([Dense(8, "relu"), Dense(6)])
    y = block(x)
    w0, b0, w1, b1 = block.get_weights()
    flat = X.reshape(5, 6)
    expected = flat + np.maximum(flat @ w0 + b0, 0) @ w1 + b1
    np.testing.assert_allclose(value(y, {x: flat}), expected, rtol=1e-5, atol=1e-5)
    assert y.call.layer is block
    with pytest.raises(ValueError, match=r"Residual 'residual_1': expected its layers to keep the shape \(None, 6\)"):
        layers.Residual([Dense(5)])(x)


def test_names():
    assert [Dense(1).name, Dense(1).name, layers.Flatten().name, Dense(1, name="out").name] == [
        "dense", "dense_1", "flatten", "out",
    ]  # fmt: skip
    layer = Dense(2, name="hidden")
    layer(Input((3,)))
    assert [p.name for p in layer.weights] == ["hidden/kernel", "hidden/bias"]
    for bad, error in (("a/b", ValueError), ("", ValueError), (3, TypeError)):
        with pytest.raises(error, match="Dense: expected"):
            Dense(1, name=bad)


def test_calls_lead_back_to_the_input():
    x = Input((2, 3), name="image")
    flat = layers.Flatten()
    y = flat(x)
    assert y.call.layer is flat and y.call.inputs == (x,) and y.call.output is y and y.call.args == (x,)
    assert x.call.layer.name == "image" and x.call.inputs == ()
    z = layers.Add()([y, y])
    assert z.call.args == ([y, y],) and z.call.inputs == (y, y)


def test_a_layer_that_returns_its_input_has_a_result_of_its_own():
    x = Input((6,))
    y = layers.Activation("linear")(x)
    assert y is not x and x.call.inputs == ()
    flat = X.reshape(5, 6)
    np.testing.assert_array_equal(value(layers.Flatten()(y), {x: flat}), flat)


def test_shared_layer_has_one_set_of_weights():
    a, b = Input((3,)), Input((3,))
    layer = Dense(2)
    layer(a), layer(b)
    assert len(layer.weights) == 2
    with pytest.raises(ValueError, match=r"Dense 'dense': built for 3 features, got \(None, 4\)"):
        layer(Input((4,)))


def test_frozen_layers():
    block = layers.Residual([Dense(3), Dense(3)])
    block(Input((3,)))
    assert len(block.trainable_weights) == 4
    block.trainable = False
    assert block.trainable_weights == [] and len(block.non_trainable_weights) == 4
    frozen = Dense(3, trainable=False)
    frozen(Input((3,)))
    assert frozen.trainable_weights == []
    frozen.trainable = True
    assert len(frozen.trainable_weights) == 2


def test_weights_are_set_as_a_whole_or_not_at_all():
    layer = Dense(2)
    layer(Input((3,)))
    before = layer.get_weights()
    with pytest.raises(ValueError, match=r"dense/bias: expected shape \(2,\), got \(3,\)"):
        layer.set_weights([np.ones((3, 2)), np.ones(3)])
    with pytest.raises(ValueError, match="expected 2 arrays, got 1"):
        layer.set_weights([np.ones((3, 2))])
    np.testing.assert_array_equal(layer.get_weights()[0], before[0])
    layer.set_weights([np.ones((3, 2)), np.ones(2)])
    assert layer.get_weights()[0].sum() == 6


class Scaled(Layer):
    """A user's layer that forgets super().__init__()."""

    def __init__(self, factor):
        self.factor = factor
        self.inner = {"parts": [Dense(3)]}

    def build(self, input_shape):
        self.offset = self.add_weight((3,), "ones", "offset")
        self.count = self.add_weight((1,), "zeros", trainable=False)

    def call(self, x):
        return ops.add(self.inner["parts"][0](x) * self.factor, self.offset)


def test_subclass():
    x = Input((4,))
    layer = Scaled(2.0)
    y = layer(x)
    assert layer.name == "scaled"
    assert [p.name for p in layer.weights] == ["scaled/offset", "scaled/weight_1", "dense/kernel", "dense/bias"]
    assert [p.name for p in layer.non_trainable_weights] == ["scaled/weight_1"]
    data = X.reshape(5, 6)[:, :4].copy()
    kernel = layer.weights[2].value
    np.testing.assert_allclose(value(y, {x: data}), data @ kernel * 2 + 1, rtol=1e-5, atol=1e-5)


def test_subclass_without_call_or_with_a_wrong_result():
    class Nothing(Layer):
        pass

    class Wrong(Layer):
        def call(self, x):
            return 3

    with pytest.raises(NotImplementedError, match="Nothing 'nothing': a layer must define call"):
        Nothing()(Input((2,)))
    with pytest.raises(TypeError, match=r"Wrong 'wrong': expected call\(\) to return a Tensor or a list .*, got 3"):
        Wrong()(Input((2,)))


def test_wrong_initial_shape():
    with pytest.raises(ValueError, match=r"expected the initializer of kernel to return shape \(3, 2\), got \(2,\)"):
        Dense(2, kernel_initializer=lambda shape: np.zeros(2))(Input((3,)))


def test_compute_output_shape():
    assert Dense(4).compute_output_shape((None, 3)) == (None, 4)
    assert layers.Concatenate().compute_output_shape([(None, 3), (None, 2)]) == (None, 5)


@pytest.mark.parametrize(
    "layer",
    [
        Dense(3, "gelu", False, "he_normal", kernel_regularizer=regularizers.L1L2(0.1, 0.2), name="a"),
        layers.Activation(activations.elu(alpha=0.5), name="b"),
        layers.Dropout(0.25, name="c"),
        layers.Reshape((2, -1), name="d"),
        layers.Concatenate(1, name="e"),
        layers.Residual([Dense(2, name="f"), Dense(3, name="g")], name="h"),
        *(kind(name="i") for kind in (layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Flatten)),
    ],
    ids=str,
)
def test_configuration_round_trip(layer):
    again = from_json(to_json(layer))
    assert type(again) is type(layer) and again.get_config() == layer.get_config()


def test_configuration_of_a_layer_that_keeps_no_arguments():
    class Loose(Layer):
        def __init__(self, width):
            super().__init__()

    with pytest.raises(TypeError, match=r"Loose: has no configuration: keep the constructor's arguments \['width'\]"):
        to_json(Loose(3))


IMAGE, ROW = Tensor((32, 28, 28)), Tensor((None, 4))
BAD = [
    (lambda: Dense(3, name="hidden")(Tensor((None,))), ValueError,
     r"Dense 'hidden': expected input of rank 2 or more \(batch, ..., features\), got \(None,\)"),
    (lambda: Dense(3, name="hidden")(Input((4, None))), ValueError,
     r"Dense 'hidden': expected a known number of features, the last size, got \(None, 4, None\)"),
    (lambda: layers.Conv2D(3, 3)(Input((8, 8, None))), ValueError,
     r"Conv2D 'conv2d': expected a known number of channels, the last size, got \(None, 8, 8, None\)"),
    (lambda: layers.SeparableConv2D(3, 3)(Input((8, 8, None))), ValueError, "expected a known number of channels"),
    (lambda: Dense(0), ValueError, "Dense 'dense': expected units to be a positive integer, got 0"),
    (lambda: Dense(2.5), TypeError, "expected units to be a positive integer, got 2.5"),
    (lambda: Dense(True), TypeError, "expected units to be a positive integer, got True"),
    (lambda: Dense(2, "rulu"), ValueError, "Dense 'dense': unknown activation 'rulu'; did you mean 'relu'"),
    (lambda: Dense(2, np.tanh), TypeError, "make one of it with nnpy.activations.custom"),
    (lambda: Dense(2, kernel_initializer="he"), ValueError, "unknown initializer 'he'.*expected one of .*he_normal"),
    (lambda: Dense(2, kernel_initializer=None), TypeError, "expected initializer to be"),
    (lambda: Dense(2, kernel_regularizer="l3"), ValueError, "unknown regularizer 'l3'"),
    (lambda: Dense(2, use_bias=1), TypeError, "expected use_bias to be True or False, got 1"),
    (lambda: Dense(2)([ROW]), ValueError, "expected one tensor, got a list of 1"),
    (lambda: Dense(2)(X), TypeError, r"expected a Tensor \(from Input or a layer\), got ndarray"),
    (lambda: layers.Dropout(1.0), ValueError, "Dropout 'dropout': expected rate to be a finite number >= 0 and < 1"),
    (lambda: layers.Dropout("x"), TypeError, "expected rate to be"),
    (lambda: layers.Dropout(float("nan")), ValueError, "expected rate to be"),
    (lambda: layers.Reshape((3, 5))(ROW), ValueError, r"cannot make samples of shape \(3, 5\) of \(4,\)"),
    (lambda: layers.Reshape((-1, 3))(ROW), ValueError, r"cannot make samples of shape \(-1, 3\) of \(4,\)"),
    (lambda: layers.Reshape((-1, -1)), ValueError, "expected target_shape to be a tuple of positive integers"),
    (lambda: layers.Add()([ROW, IMAGE]), ValueError, r"Add 'add': expected inputs of one shape, got .*\(input 1\)"),
    (lambda: layers.Add()(ROW), ValueError, "a list of at least 2 tensors, as .a, b., got one tensor"),
    (lambda: layers.Subtract()([ROW] * 3), ValueError, "expected a list of 2 tensors, got 3"),
    (lambda: layers.Concatenate(0), ValueError, "expected axis to be another than 0"),
    (lambda: layers.Concatenate(2)([ROW, ROW]), ValueError, "expected inputs of more axes for axis 2"),
    (lambda: layers.Concatenate()([ROW, IMAGE]), ValueError, "differ in axis -1 alone"),
    (lambda: layers.Residual([]), ValueError, "expected at least one layer"),
    (lambda: layers.Residual([3]), TypeError, "expected layers to be a list of layers, got 3"),
    (lambda: Input("ab"), TypeError, "expected shape to be a tuple of positive integers or None, got 'ab'"),
    (lambda: Input((3, 0)), ValueError, "expected shape to be a tuple of positive integers"),
    (lambda: Input((3,), dtype="complex64"), TypeError, "expected a real or integer dtype, got 'complex64'"),
    (lambda: Input((3,), dtype="flaot"), TypeError, "expected dtype to be the name of a NumPy dtype, got 'flaot'"),
]  # fmt: skip


@pytest.mark.parametrize("make, error, text", BAD)
def test_refuses(make, error, text):
    with pytest.raises(error, match=text):
        make()
