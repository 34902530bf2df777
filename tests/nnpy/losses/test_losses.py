"""Losses: values against NumPy and Keras, gradients through every path, and the check of targets."""

import numpy as np
import pytest
from losscase import Case
from running import value

import nnpy as nn
from nnpy import losses, ops
from nnpy.layers import Input
from nnpy.registry import from_json, to_json

ROWS, CLASSES = 6, 5
RNG = np.random.default_rng(0)
LOGITS = 2 * RNG.standard_normal((ROWS, CLASSES))
LABELS = RNG.integers(CLASSES, size=ROWS)
ONE_HOT = np.eye(CLASSES)[LABELS]
SHARES = RNG.dirichlet(np.ones(CLASSES), ROWS)
BITS = (RNG.random((ROWS, CLASSES)) < 0.5).astype(float)
WEIGHTS = RNG.uniform(0.5, 2, ROWS)


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def crossentropy(t, p, smoothing=0.0):
    t = t * (1 - smoothing) + smoothing / CLASSES
    return -(t * np.log(p)).sum(1)


def binary(t, p, smoothing=0.0):
    t = t * (1 - smoothing) + smoothing / 2
    return -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(1)


# loss, targets, what makes predictions of logits, reference of (targets, probabilities or predictions)
SPARSE, CATEGORICAL, BINARY = (
    losses.SparseCategoricalCrossentropy, losses.CategoricalCrossentropy, losses.BinaryCrossentropy,
)  # fmt: skip
TABLE = [
    (SPARSE(from_logits=True), LABELS, None, lambda t, p: crossentropy(ONE_HOT, softmax(p))),
    (SPARSE(), LABELS, "softmax", lambda t, p: crossentropy(ONE_HOT, p)),
    (SPARSE(), LABELS, "sigmoid", lambda t, p: crossentropy(ONE_HOT, p / p.sum(1, keepdims=True))),
    (CATEGORICAL(from_logits=True), ONE_HOT, None, lambda t, p: crossentropy(t, softmax(p))),
    (CATEGORICAL(from_logits=True), SHARES, None, lambda t, p: crossentropy(t, softmax(p))),
    (CATEGORICAL(label_smoothing=0.1), SHARES, "softmax", lambda t, p: crossentropy(t, p, 0.1)),
    (CATEGORICAL(), SHARES, "sigmoid", lambda t, p: crossentropy(t, p / p.sum(1, keepdims=True))),
    (BINARY(from_logits=True), BITS, None, lambda t, p: binary(t, sigmoid(p))),
    (BINARY(label_smoothing=0.2), BITS, "sigmoid", lambda t, p: binary(t, p, 0.2)),
    (BINARY(label_smoothing=0.2), SHARES, "softmax", lambda t, p: binary(t, p, 0.2)),
    (losses.MeanSquaredError(), SHARES, None, lambda t, p: ((t - p) ** 2).mean(1)),
    (losses.MeanSquaredError(), SHARES, "tanh", lambda t, p: ((t - p) ** 2).mean(1)),
]
IDS = [f"{loss}-{function}-{number}" for number, (loss, _, function, _) in enumerate(TABLE)]


@pytest.fixture(params=TABLE, ids=IDS)
def row(request):
    return request.param


@pytest.mark.parametrize("dtype, tolerance", [("float32", 3e-6), ("float64", 3e-7)])  # epsilon is 1e-7
def test_values(row, dtype, tolerance):
    loss, targets, function, reference = row
    case = Case(loss, targets, LOGITS, function, dtype)
    got = case.run()
    prediction = case.predicted()
    assert got.shape == (ROWS,) and got.dtype == dtype
    np.testing.assert_allclose(got, reference(targets, prediction.astype(np.float64)), rtol=tolerance, atol=tolerance)
    weighted = Case(loss, targets, LOGITS, function, dtype, WEIGHTS)
    np.testing.assert_allclose(weighted.run(), got * WEIGHTS, rtol=tolerance)


@pytest.mark.parametrize("weighted", [None, WEIGHTS], ids=["", "weighted"])
def test_gradients(row, weighted):
    """The objective is the mean over the samples; torch's tolerances."""
    loss, targets, function, _ = row
    case = Case(loss, targets, LOGITS, function, "float64", weighted)
    np.testing.assert_allclose(case.gradient(), case.differences(), rtol=1e-3, atol=1e-5)


def test_values_of_keras():
    """Keras 3.15, reduction=None."""
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], np.float32)
    t = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    q = np.array([[2, 1, 1], [1, 3, 6]], np.float32)
    table = [
        (SPARSE(), p, np.array([0, 1]), [0.356675, 1.203973]),
        (CATEGORICAL(label_smoothing=0.1), p, t, [0.463297, 1.217488]),
        (CATEGORICAL(), q, t, [0.693147, 1.203973]),  # not normalised
        (BINARY(label_smoothing=0.1), p, t, [0.30224, 0.757616]),
        (BINARY(from_logits=True, label_smoothing=0.1), q, t, [0.917817, 2.388108]),
        (losses.MeanSquaredError(), p, t, [0.046667, 0.286667]),
    ]
    for loss, prediction, targets, expected in table:
        x = Input((3,))
        y = Input(targets.shape[1:], dtype="int64" if loss.target_kind == "index" else None)
        got = value(loss.rows(y, x), {x: prediction, y: targets})
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6, err_msg=str(loss))


@pytest.mark.parametrize("loss, function", [(SPARSE(), "softmax"), (BINARY(), "sigmoid")])
def test_certain_and_wrong_predictions_are_exact(loss, function):
    """Where float32 probabilities are 0, the loss and its gradient come from the logits."""
    sparse = loss.target_kind == "index"
    targets = np.array([1]) if sparse else np.array([[0.0, 1.0]])
    case = Case(loss, targets, np.array([[200.0, -200.0]]), function, "float32")
    assert case.run()[0] == pytest.approx(400.0 if sparse else 200.0)
    np.testing.assert_allclose(case.gradient(), [[1, -1]] if sparse else [[0.5, -0.5]])


def test_probabilities_of_zero_give_a_finite_loss():
    x, y = Input((2,)), Input((), dtype="int64")
    got = value(SPARSE().rows(y, x), {x: np.array([[1, 0]], np.float32), y: np.array([1])})
    assert got[0] == pytest.approx(-np.log(1e-7), rel=1e-4)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
def test_rows_of_any_rank(weights):
    """The losses of rows are those of the same rows in a matrix, and so are the gradients."""
    logits = RNG.standard_normal((2, 3, CLASSES))
    labels = RNG.integers(CLASSES, size=(2, 3))
    shares = RNG.dirichlet(np.ones(CLASSES), (2, 3))
    for loss, targets in (
        (SPARSE(from_logits=True), labels), (CATEGORICAL(from_logits=True, label_smoothing=0.1), shares),
        (BINARY(from_logits=True), shares), (losses.MeanSquaredError(), shares),
    ):  # fmt: skip
        flat = targets.reshape(6, *targets.shape[2:])
        deep_weights = None if weights is None else weights.reshape(2, 3)
        deep = Case(loss, targets, logits, weighted=deep_weights)
        rows = Case(loss, flat, logits.reshape(6, CLASSES), weighted=weights)
        np.testing.assert_array_equal(deep.run(), rows.run().reshape(2, 3))
        np.testing.assert_array_equal(deep.gradient(), rows.gradient().reshape(2, 3, CLASSES))


def test_ignored_labels_have_no_loss_and_no_gradient():
    labels = np.where(np.arange(ROWS) % 3 == 1, -1, LABELS)
    ignored = labels == -1
    loss = SPARSE(from_logits=True, ignore_class=-1)
    case = Case(loss, labels, LOGITS)
    got, all_of_them = case.run(), Case(SPARSE(from_logits=True), LABELS, LOGITS)
    np.testing.assert_array_equal(got, np.where(ignored, 0, all_of_them.run()))
    np.testing.assert_array_equal(case.gradient(), np.where(ignored[:, None], 0, all_of_them.gradient()))
    y_true = Input((), dtype="int64")
    np.testing.assert_array_equal(value(loss.valid(y_true), {y_true: labels}), ~ignored)
    assert SPARSE().valid(y_true) is None


def test_a_function_is_a_loss():
    def absolute(y_true, y_pred):
        return ops.mean(ops.abs(y_true - y_pred), axis=-1)

    loss = losses.get(absolute)
    case = Case(loss, SHARES, LOGITS)
    np.testing.assert_allclose(case.run(), np.abs(SHARES - LOGITS).mean(1))
    np.testing.assert_allclose(case.gradient(), np.sign(LOGITS - SHARES) / (ROWS * CLASSES))
    assert loss.name == "absolute"
    with pytest.raises(TypeError, match=r"loss absolute: a function cannot be stored; derive a class from nnpy"):
        to_json(loss)


@pytest.mark.parametrize(
    "name, kind",
    [("mse", losses.MeanSquaredError), ("mean_squared_error", losses.MeanSquaredError), ("binary_crossentropy", BINARY),
     ("sparse_categorical_crossentropy", SPARSE), ("categorical_crossentropy", CATEGORICAL),
     ("CategoricalCrossentropy", CATEGORICAL), (BINARY, BINARY)],
)  # fmt: skip
def test_get(name, kind):
    assert type(losses.get(name)) is kind


def test_get_refuses():
    with pytest.raises(ValueError, match="unknown loss 'mean_squared'; did you mean 'mean_squared_error'"):
        losses.get("mean_squared")
    with pytest.raises(TypeError, match="expected loss to be a name, Loss or its configuration, got None"):
        losses.get(None)
    with pytest.raises(ValueError, match=r"BinaryCrossentropy: expected label_smoothing to be .*>= 0 and <= 1, got 2"):
        BINARY(label_smoothing=2)
    with pytest.raises(TypeError, match="expected from_logits to be True or False, got 'yes'"):
        SPARSE(from_logits="yes")


def test_configuration_round_trip():
    loss = losses.get(to_json(CATEGORICAL(from_logits=True, label_smoothing=0.1)))
    assert loss.from_logits and loss.label_smoothing == 0.1
    assert from_json(to_json(losses.MeanSquaredError(name="error"))).name == "error"


@pytest.mark.parametrize(
    "loss, y, shape, expected",
    [
        (SPARSE(), [[0], [2]], (None, 3), [0, 2]),
        (SPARSE(), [0.0, 2.0], (None, 3), [0, 2]),
        (SPARSE(), [True, False], (None, 2), [1, 0]),
        (BINARY(), [0, 1], (None, 1), [[0], [1]]),
        (BINARY(), [[True, False]], (None, 2), [[1, 0]]),
        (CATEGORICAL(), [[0, 1], [1, 0]], (None, 2), [[0, 1], [1, 0]]),
        (losses.MeanSquaredError(), [1.5, 2.5], (None, 1), [[1.5], [2.5]]),
        (losses.MeanSquaredError(), np.ones((2, 3, 4)), (None, 3, 4), np.ones((2, 3, 4))),
        (losses.MeanSquaredError(), np.ones((2, 3, 4)), (None, None, 4), np.ones((2, 3, 4))),
        (SPARSE(), [[[0], [2]]], (None, 2, 3), [[0, 2]]),
        (SPARSE(), [[0, 2]], (None, None, 3), [[0, 2]]),
        (SPARSE(ignore_class=-1), [0, -1, 2], (None, 3), [0, -1, 2]),
        (CATEGORICAL(), [np.eye(3)], (None, 3, 3), [np.eye(3)]),
    ],
)
def test_targets_accepted(loss, y, shape, expected):
    got = loss.check_targets(np.array(y), shape)
    np.testing.assert_array_equal(got, expected)
    assert len(got.shape) == len(loss.target_shape(shape))
    assert all(size in (None, n) for size, n in zip(loss.target_shape(shape), got.shape, strict=True))


NAN, INF = float("nan"), float("inf")
REFUSED = [
    (SPARSE(), [0, 1, 5, 7], (None, 5), r"expected y in 0 \.\.\. 4, the output has 5 classes, got 5 in row 2"),
    (SPARSE(), [0, -1], (None, 5), "got -1 in row 1"),
    (SPARSE(), [0, 1.5], (None, 5), "expected y to be whole class numbers, got 1.5 in row 1"),
    (SPARSE(), [0, NAN], (None, 5), "expected y to be whole class numbers, got nan in row 1"),
    (SPARSE(), [0, INF], (None, 5), "got inf in row 1"),
    (SPARSE(), np.eye(5), (None, 5), r"expected y of shape \(n,\).*got \(5, 5\); for one-hot targets use Categ"),
    (SPARSE(), [0, 0], (None, 1), r"an output of shape \(batch, \.\.\., classes\), 2 classes or more, got \(None, 1"),
    (SPARSE(), [], (None, 5), "expected y to have at least one row"),
    (CATEGORICAL(), [0, 1], (None, 5), "for class numbers use SparseCategoricalCrossentropy"),
    (CATEGORICAL(), np.eye(4), (None, 5), r"expected y of shape \(n, 5\), like the output, got \(4, 4\)"),
    (CATEGORICAL(), [[0.5, 1.5]], (None, 2), r"expected y to be in \[0, 1\], got 1.5 in row 0"),
    (BINARY(), [1, -1], (None, 1), r"expected y to be in \[0, 1\], got -1 in row 1"),
    (BINARY(), [[1], [NAN]], (None, 1), "expected y to be finite, got nan in row 1"),
    (losses.MeanSquaredError(), [[1.0, 2.0], [INF, 0.0]], (None, 2), "expected y to be finite, got inf in row 1"),
    (losses.MeanSquaredError(), [1.0, 2.0], (None, 2), r"expected y of shape \(n, 2\), like the output, got \(2,\)"),
    (SPARSE(), np.zeros((2, 4), int), (None, 3, 5), r"expected y of shape \(n, 3\), class numbers, got \(2, 4\)"),
    (SPARSE(), np.zeros((2, 3, 5)), (None, 3, 5), r"got \(2, 3, 5\); for one-hot targets use Categorical"),
    (SPARSE(), [[0, 1], [2, 5]], (None, 2, 5), r"got 5 in row 1, column 1"),
    (SPARSE(ignore_class=-1), [0, -2], (None, 5), r"expected y in 0 \.\.\. 4, .*got -2 in row 1"),
    (CATEGORICAL(), np.zeros((2, 3)), (None, 3, 5), "for class numbers use SparseCategoricalCrossentropy"),
    (losses.MeanSquaredError(), 1.0, (None, 2), r"expected y to have at least one row, got shape \(\)"),
]


@pytest.mark.parametrize("loss, y, shape, text", REFUSED)
def test_targets_refused(loss, y, shape, text):
    with pytest.raises(ValueError, match=text) as caught:
        loss.check_targets(np.array(y), shape)
    assert str(caught.value).startswith(type(loss).__name__)


@pytest.mark.parametrize("y", [np.array(["a", "b"]), np.array([1j, 2j]), np.array([None, 1])])
def test_target_dtypes_refused(y):
    with pytest.raises(TypeError, match="SparseCategoricalCrossentropy: expected labels to be real numbers, got dtype"):
        SPARSE().check_targets(y, (None, 3), "labels")


@pytest.mark.parametrize("fit", [False, True])
def test_targets_of_another_length_than_open_inputs(fit):
    """What the sizes of the inputs alone tell is refused before anything is read."""
    model = nn.Sequential([nn.Input((None, 4)), nn.Dense(3)])
    model.compile("sgd", SPARSE(from_logits=True))
    x, y = np.zeros((6, 9, 4), "f4"), np.zeros((6, 5), int)
    with pytest.raises(ValueError, match=r"target: expected samples of shape \(9,\) for these inputs, got \(5,\)"):
        model.fit(x, y, verbose=0) if fit else model.evaluate(x, y, verbose=0)
