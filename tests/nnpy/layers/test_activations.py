"""Activations as layers, and Identity, Lambda, Permute, RepeatVector: values (Keras 3.15's formulas), gradients in
training, masks, sizes that may be any, files, and what they refuse."""

import numpy as np
import pytest
from running import value

import nnpy as nn
from nnpy import layers, ops
from nnpy.registry import from_json, to_json

X = np.random.default_rng(0).standard_normal((5, 4, 3)).astype(np.float32)


def softmax(x, axis):
    raised = np.exp(x - x.max(axis, keepdims=True))
    return raised / raised.sum(axis, keepdims=True)


def relu(x, most, slope, threshold):
    return np.where(x >= threshold, np.minimum(x, np.inf if most is None else most), slope * (x - threshold))


ROWS = [
    (layers.ReLU, {}, lambda x: np.maximum(x, 0)),
    (layers.ReLU, {"negative_slope": 0.1}, lambda x: relu(x, None, 0.1, 0)),
    (layers.ReLU, {"max_value": 1.0}, lambda x: relu(x, 1, 0, 0)),
    (layers.ReLU, {"max_value": 1.0, "negative_slope": 0.2, "threshold": 0.3}, lambda x: relu(x, 1, 0.2, 0.3)),
    (layers.LeakyReLU, {}, lambda x: np.where(x > 0, x, 0.3 * x)),
    (layers.LeakyReLU, {"negative_slope": 0.05}, lambda x: np.where(x > 0, x, 0.05 * x)),
    (layers.ELU, {}, lambda x: np.where(x > 0, x, np.expm1(x))),
    (layers.ELU, {"alpha": 0.5}, lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
    (layers.PReLU, {}, lambda x: np.maximum(x, 0)),
    (layers.PReLU, {"alpha_initializer": "ones", "shared_axes": 1}, lambda x: x),
    (layers.PReLU, {"alpha_initializer": nn.initializers.Constant(0.2)}, lambda x: np.where(x > 0, x, 0.2 * x)),
    (layers.Softmax, {}, lambda x: softmax(x, -1)),
    (layers.Softmax, {"axis": 1}, lambda x: softmax(x, 1)),
    (layers.Softmax, {"axis": [1, 2]}, lambda x: softmax(x, (1, 2))),
    (layers.Identity, {}, lambda x: x),
    (layers.Permute, {"dims": (2, 1)}, lambda x: x.transpose(0, 2, 1)),
]


@pytest.mark.parametrize("kind, arguments, reference", ROWS)
def test_values_and_files(kind, arguments, reference):
    layer = kind(**arguments)
    x = nn.Input((4, 3))
    y = layer(x)
    expected = reference(X)
    assert y.shape[1:] == expected.shape[1:]
    np.testing.assert_allclose(value(y, {x: X}), expected, rtol=1e-5, atol=1e-6)
    again = from_json(to_json(layer))
    np.testing.assert_allclose(value(again(x), {x: X}), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind, arguments, reference", [row for row in ROWS if row[0] is not layers.PReLU])
def test_of_any_number_of_steps(kind, arguments, reference):
    x = nn.Input((None, 3))
    model = nn.Model(x, kind(**arguments)(x))
    for steps in (4, 2):
        np.testing.assert_allclose(model.predict(X[:, :steps]), reference(X[:, :steps]), rtol=1e-5, atol=1e-6)


def test_repeat_vector():
    model = nn.Sequential([nn.Input((3,)), nn.RepeatVector(2)])
    np.testing.assert_array_equal(model.predict(X[:, 0]), np.repeat(X[:, :1], 2, axis=1))


@pytest.mark.parametrize("kind, arguments, reference", ROWS)
def test_gradients(kind, arguments, reference):
    """By the input of a layer, against differences of the reference."""
    weights = np.random.default_rng(1).standard_normal(reference(X).shape)
    x = nn.Input((4, 3))
    begun = layers.Lambda(lambda t: ops.multiply(t, 1.0), name="begun")(x)
    model = nn.Model(x, layers.Lambda(lambda t: ops.multiply(t, weights[0]))(kind(**arguments)(begun)))
    model.compile("sgd", lambda y_true, y_pred: ops.sum(ops.reshape(y_pred, (None, 12)), -1))
    gradient = model.probe(X, np.zeros_like(reference(X))).gradients["begun"]
    double, step = X.astype(np.float64), 1e-6
    for place in [(0, 0, 0), (1, 3, 2), (4, 2, 1)]:
        ahead, behind = double.copy(), double.copy()
        ahead[place] += step
        behind[place] -= step
        expected = ((reference(ahead) - reference(behind)) * weights[0]).sum() / (2 * step) / len(X)
        assert gradient[place] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_prelu_learns_its_slope():
    x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    model = nn.Sequential([nn.Input((1,)), nn.PReLU()])
    model.compile(nn.SGD(0.5), "mse")
    model.fit(x, np.where(x > 0, x, 0.25 * x), epochs=60, verbose=0)
    assert model.get_weights()[0] == pytest.approx(0.25, abs=1e-3)


def test_softmax_with_a_mask():
    """What is masked counts nowhere; where all is, nothing is left."""
    shown = np.ones((5, 4, 3), np.float32)
    shown[0, 0, :2] = shown[1, 1] = 0
    x, mask = nn.Input((4, 3)), nn.Input((4, 3))
    model = nn.Model([x, mask], nn.Softmax()(x, mask=ops.greater(mask, 0.5)))
    got = model.predict([X, shown])
    np.testing.assert_allclose(got[0, 0], [0, 0, 1], atol=1e-7)
    np.testing.assert_array_equal(got[1, 1], 0)
    np.testing.assert_allclose(got[2:], softmax(X[2:], -1), rtol=1e-5)


def test_lambda():
    """Arguments, training, and a result of the shape that was said."""

    def function(x, factor, training=None):
        return x * (factor if training else 1.0)

    x = nn.Input((3,))
    layer = nn.Lambda(function, output_shape=(3,), arguments={"factor": 2.0})
    given = X[:, 0]
    np.testing.assert_allclose(nn.Model(x, layer(x)).predict(given), given)
    np.testing.assert_allclose(nn.Model(x, layer(x, training=True)).predict(given), 2 * given)
    model = nn.Sequential([nn.Input((3,)), nn.Lambda(lambda t: ops.sum(t, -1, keepdims=True)), nn.Dense(1)])
    model.compile("adam", "mse")
    model.fit(given, given[:, :1], epochs=2, verbose=0)


def test_lambda_gives_a_mask():
    x = nn.Input((4, 3))
    masked = nn.Lambda(lambda t: t, mask=lambda inputs, mask: ops.greater(inputs[:, :, 0], 0.0))(x)
    np.testing.assert_array_equal(value(ops.cast(masked.mask, "real"), {x: X}), X[:, :, 0] > 0)


def test_a_lambda_cannot_be_stored(tmp_path):
    model = nn.Sequential([nn.Input((3,)), nn.Lambda(lambda t: t * 2.0, name="twice")])
    with pytest.raises(TypeError, match=r"Lambda 'twice': .*a function cannot be stored; derive a class from nnpy"):
        model.save(tmp_path / "net.safetensors")


MERGES = [
    (layers.add, np.add), (layers.subtract, np.subtract), (layers.multiply, np.multiply),
    (layers.average, lambda a, b: (a + b) / 2), (layers.maximum, np.maximum), (layers.minimum, np.minimum),
    (layers.concatenate, lambda a, b: np.concatenate([a, b], -1)),
]  # fmt: skip


@pytest.mark.parametrize("function, reference", MERGES, ids=lambda one: getattr(one, "__name__", ""))
def test_merging_functions(function, reference):
    a, b = nn.Input((4, 3)), nn.Input((4, 3))
    y = function([a, b], name="merged")
    assert y.call.layer.name == "merged"
    np.testing.assert_allclose(value(y, {a: X, b: X[::-1]}), reference(X, X[::-1]), rtol=1e-6)


def test_concatenate_along_another_axis():
    a, b = nn.Input((4, 3)), nn.Input((2, 3))
    assert layers.concatenate([a, b], axis=1).shape == (None, 6, 3)


def flat(*shape):
    return nn.Input(shape or (4,))


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: nn.ReLU(max_value=-1), ValueError, r"ReLU 're_lu\w*': expected max_value .* >= 0, got -1"),
        (lambda: nn.ReLU(threshold=-1), ValueError, "expected threshold .* >= 0, got -1"),
        (lambda: nn.LeakyReLU(-0.1), ValueError, "expected negative_slope .* >= 0, got -0.1"),
        (lambda: nn.ELU(-1.0), ValueError, "expected alpha .* >= 0, got -1.0"),
        (lambda: nn.PReLU(shared_axes=0), ValueError, "expected shared_axes to be a positive integer, got 0"),
        (lambda: nn.PReLU(shared_axes=3)(flat(4, 4)), ValueError, "expected shared_axes below 3, got .3."),
        (lambda: nn.PReLU()(flat(None, 4)), ValueError, "expected known sizes but along shared_axes"),
        (lambda: nn.Softmax(2)(flat()), ValueError, "expected an axis of .*, and not the batch, got 2"),
        (lambda: nn.Softmax(0)(flat()), ValueError, "and not the batch, got 0"),
        (lambda: nn.Softmax(()), ValueError, "expected at least one axis"),
        (lambda: nn.Permute(2), TypeError, r"expected dims to be a tuple of axes, as \(2, 1\), got 2"),
        (lambda: nn.Permute((1, 3)), ValueError, r"expected dims to be 1 ... 2 in any order, got \(1, 3\)"),
        (lambda: nn.Permute((2, 1))(flat()), ValueError, "expected samples of 2 axes, got input"),
        (lambda: nn.RepeatVector(0), ValueError, "expected n to be a positive integer, got 0"),
        (lambda: nn.RepeatVector(2)(flat(4, 4)), ValueError, r"expected input of shape \(batch, features\)"),
        (lambda: nn.Lambda(3), TypeError, "expected a function of tensors, got 3"),
        (lambda: nn.Lambda(abs, arguments=[1]), TypeError, "expected arguments to be a dict"),
        (lambda: nn.Lambda(lambda x: x, (3,))(flat()), ValueError, r"expected samples of \(3,\), its .* gives \(4,\)"),
    ],
)
def test_what_does_not_fit(make, error, text):
    with pytest.raises(error, match=text):
        make()
