"""Metrics: values, what they reuse of the loss, and reports on predictions."""

import numpy as np
import pytest
from running import compiled, start, value

import nnpy as nn
from nnpy import losses, metrics, ops
from nnpy.layers import Activation, Input
from nnpy.ops import effects
from nnpy.registry import to_json

RNG = np.random.default_rng(0)
SCORES = RNG.standard_normal((50, 4)).astype(np.float32)
LABELS = RNG.integers(4, size=50)
ONE_HOT = np.eye(4, dtype=np.float32)[LABELS]
BITS = (RNG.random((50, 4)) < 0.5).astype(np.float32)
RIGHT = (SCORES.argmax(1) == LABELS).astype(float)

SPARSE, BINARY = losses.SparseCategoricalCrossentropy, losses.BinaryCrossentropy
SPARSE_ACCURACY = metrics.SparseCategoricalAccuracy
HIGH = metrics.BinaryAccuracy(threshold=0.7)


def probabilities(function):
    x = Input((4,))
    return value(Activation(function)(x), {x: SCORES})


# metric, loss, the model's last function, targets, expected
TABLE = [
    ("accuracy", SPARSE(from_logits=True), None, LABELS, RIGHT),
    ("accuracy", SPARSE(), "softmax", LABELS, RIGHT),
    ("sparse_categorical_accuracy", SPARSE(), "sigmoid", LABELS, RIGHT),
    ("accuracy", losses.CategoricalCrossentropy(), "softmax", ONE_HOT, RIGHT),
    ("categorical_accuracy", losses.MeanSquaredError(), None, ONE_HOT, RIGHT),
    ("accuracy", losses.MeanSquaredError(), "softmax", ONE_HOT, RIGHT),
    ("accuracy", BINARY(from_logits=True), None, BITS, ((SCORES > 0) == BITS).mean(1)),
    ("accuracy", BINARY(), "sigmoid", BITS, ((SCORES > 0) == BITS).mean(1)),
    ("binary_accuracy", BINARY(), "softmax", BITS, ((probabilities("softmax") > 0.5) == BITS).mean(1)),
    ("binary_accuracy", losses.MeanSquaredError(), "sigmoid", BITS, ((SCORES > 0) == BITS).mean(1)),
    (HIGH, BINARY(), "sigmoid", BITS, ((probabilities("sigmoid") > 0.7) == BITS).mean(1)),
    (HIGH, BINARY(True), None, BITS, ((SCORES > 0.7) == BITS).mean(1)),
    ("mse", losses.MeanSquaredError(), None, BITS, ((SCORES - BITS) ** 2).mean(1)),
    ("mean_squared_error", BINARY(), "sigmoid", BITS, ((probabilities("sigmoid") - BITS) ** 2).mean(1)),
]


@pytest.mark.parametrize("metric, loss, function, targets, expected", TABLE)
@pytest.mark.parametrize("training", [False, True])
def test_values(metric, loss, function, targets, expected, training):
    """Alone, and beside the loss, whose parts it may use."""
    x = Input((4,))
    y_true = Input(targets.shape[1:], dtype=str(targets.dtype))
    y_pred = x if function is None else Activation(function)(x)
    feeds = {x: SCORES, y_true: targets}
    metric = metrics.get(metric).resolve(y_true, y_pred, loss)
    np.testing.assert_allclose(value(metric(y_true, y_pred), feeds), expected, rtol=1e-5, atol=1e-6)
    result, beside = loss(y_true, y_pred), metric(y_true, y_pred)
    assert beside.shape == (None,)
    step = start(compiled([beside, result], feeds, training=training, loss=result))
    np.testing.assert_allclose(step.value(beside), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "metric, loss, function, targets",
    [
        ("accuracy", SPARSE(from_logits=True), None, LABELS),
        ("accuracy", SPARSE(), "softmax", LABELS),
        ("accuracy", losses.CategoricalCrossentropy(label_smoothing=0.1), "softmax", ONE_HOT),
        ("accuracy", BINARY(), "sigmoid", BITS),
        ("accuracy", BINARY(from_logits=True), None, BITS),
        ("mse", losses.MeanSquaredError(), None, BITS),
    ],
)
def test_what_the_loss_finds_is_not_computed_again(metric, loss, function, targets):
    x = Input((4,))
    y_true = Input(targets.shape[1:], dtype=str(targets.dtype))
    y_pred = x if function is None else Activation(function)(x)
    result = loss(y_true, y_pred)
    beside = metrics.get(metric).resolve(y_true, y_pred, loss)(y_true, y_pred)
    feeds = {x: SCORES, y_true: targets}
    alone, both = (
        compiled(outputs, feeds, training=True, loss=result, by=[x]) for outputs in ([result], [beside, result])
    )
    names = [[op.name for op in step.executable.program.records] for step in (alone, both)]
    assert names[0] == names[1]
    apart = compiled([beside, result], feeds, training=True, loss=result, by=[x], without=["share_losses"])
    assert len(apart.executable.program.records) > len(names[0])
    for tensor in (beside, result):
        np.testing.assert_array_equal(start(both).value(tensor), start(apart).value(tensor))
    np.testing.assert_array_equal(both.gradient(x), apart.gradient(x))


def test_one_output_is_binary():
    """As in Keras: one output means two classes, whatever the loss."""
    x, y_true = Input((1,)), Input((1,))
    scores, bits = SCORES[:, :1].copy(), BITS[:, :1].copy()
    metric = metrics.get("accuracy")
    metric = metric.resolve(y_true, x, losses.MeanSquaredError())
    got = value(metric(y_true, x), {x: scores, y_true: bits})
    np.testing.assert_array_equal(got, ((scores > 0.5) == bits)[:, 0])


def test_ties_take_the_first():
    x, y_true = Input((3,)), Input((), dtype="int64")
    scores = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]], np.float32)
    got = value(SPARSE_ACCURACY()(y_true, x), {x: scores, y_true: np.array([0, 1, 0])})
    np.testing.assert_array_equal(got, [1, 0, 1])


def test_names():
    assert metrics.get("acc").name == "acc"
    assert metrics.get("accuracy").name == "accuracy"
    assert metrics.get(metrics.Accuracy).name == "accuracy"
    assert metrics.get(SPARSE_ACCURACY("top")).name == "top"
    assert SPARSE_ACCURACY().name == "sparse_categorical_accuracy"


def test_refuses():
    x, labels, bits = Input((4,)), Input((), dtype="int64"), Input((4,))
    with pytest.raises(ValueError, match="CategoricalAccuracy 'categorical_accuracy': expected targets that are of"):
        metrics.CategoricalAccuracy()(labels, x)
    with pytest.raises(ValueError, match="expected targets that are class numbers, the loss takes numbers"):
        SPARSE_ACCURACY()(bits, x)
    with pytest.raises(ValueError, match="unknown metric 'acuracy'; did you mean 'accuracy'"):
        metrics.get("acuracy")
    with pytest.raises(TypeError, match="BinaryAccuracy: expected threshold to be a finite number, got 'x'"):
        metrics.BinaryAccuracy(threshold="x")


def measured(loss, targets, metric, weights=None, batch_size=16):
    """What ``evaluate`` says of the metric, unweighted and weighted, of a model that gives its inputs."""
    x = Input(SCORES.shape[1:])
    net = nn.Model(x, Activation("linear")(x))
    net.compile("sgd", loss, metrics=[metric], weighted_metrics=[metric])
    logs = net.evaluate(SCORES, targets, sample_weight=weights, batch_size=batch_size, return_dict=True, verbose=0)
    return logs[metric.name], logs[f"weighted_{metric.name}"]


W = RNG.uniform(0, 2, 50)


def test_weights_count_in_weighted_metrics_alone():
    plain, weighted = measured(SPARSE(True), LABELS, SPARSE_ACCURACY("hits"), W)
    assert plain == pytest.approx(RIGHT.mean()) and weighted == pytest.approx((W * RIGHT).sum() / W.sum(), rel=1e-6)


@pytest.mark.parametrize("targets", [LABELS, ONE_HOT], ids=["labels", "one-hot"])
def test_confusion_matrix_of_a_step(targets):
    loss = SPARSE(True) if targets is LABELS else losses.CategoricalCrossentropy(True)
    plain, weighted = measured(loss, targets, metrics.ConfusionMatrix("matrix"), W)
    predicted = SCORES.argmax(1)
    np.testing.assert_array_equal(plain, metrics.confusion_matrix(LABELS, predicted, 4))
    expected = np.zeros((4, 4))
    np.add.at(expected, (LABELS, predicted), W)
    np.testing.assert_allclose(weighted, expected, rtol=1e-6)


def test_a_function_is_a_metric():
    def spread(y_true, y_pred):
        return ops.max(y_pred, axis=-1)

    metric = metrics.get(spread)
    plain, weighted = measured("mse", BITS, metric, W)
    assert metric.name == "spread"
    assert plain == pytest.approx(SCORES.max(1).mean(), rel=1e-5)
    assert weighted == pytest.approx((W * SCORES.max(1)).sum() / W.sum(), rel=1e-5)
    with pytest.raises(TypeError, match=r"metric spread: a function cannot be stored; derive a class from nnpy"):
        to_json(metric)


class Extremes(metrics.Metric):
    """The number of rows, and the largest sum of one."""

    def accumulators(self, output_shape):
        return {"rows": metrics.Accumulator((2,)), "matrix": metrics.Accumulator((4, 4))}

    def update(self, variables, y_true, y_pred, weights=None):
        rows = ops.sum(y_true, axis=-1)
        labels = ops.argmax(y_true, -1)
        return [
            effects.accumulate(variables["rows"], rows),
            effects.accumulate_confusion(variables["matrix"], labels, labels),
        ]

    def compute(self, totals):
        return {"sum": totals["rows"][0], "count": totals["rows"][1], "trace": np.trace(totals["matrix"])}


def test_a_metric_that_is_called_loss_is_not_the_loss():
    def loss(y_true, y_pred):
        return nn.ops.mean(y_pred * 0 + 7.0, axis=-1)

    x = np.ones((6, 3), "f4")
    net = nn.Sequential([nn.Input((3,)), nn.Dense(2, kernel_initializer="zeros")])
    net.compile("sgd", "mse", metrics=[loss])
    assert net.evaluate(x, x[:, :2], verbose=0, return_dict=True) == {"loss": 1.0, "loss_1": 7.0}


def test_a_metric_of_several_accumulators():
    plain, weighted = measured("mse", ONE_HOT, Extremes("extremes"))
    assert plain == weighted == {"sum": 50, "count": 50, "trace": 50}


def test_ignored_rows_count_in_no_metric():
    labels = np.where(np.arange(50) % 4 == 1, -1, LABELS)
    kept = labels >= 0
    plain, weighted = measured(SPARSE(True, ignore_class=-1), labels, SPARSE_ACCURACY("hits"), W)
    matrix, _ = measured(SPARSE(True, ignore_class=-1), labels, metrics.ConfusionMatrix("matrix"))
    np.testing.assert_array_equal(matrix, metrics.confusion_matrix(LABELS[kept], SCORES.argmax(1)[kept], 4))
    assert plain == pytest.approx(RIGHT[kept].mean(), rel=1e-6)
    assert weighted == pytest.approx((W * RIGHT)[kept].sum() / W[kept].sum(), rel=1e-6)


def test_metrics_of_rows_of_any_rank():
    x = Input((5, 4))
    net = nn.Model(x, Activation("linear")(x))
    net.compile("sgd", SPARSE(True), metrics=["accuracy", metrics.ConfusionMatrix("matrix")])
    x, y = SCORES.reshape(10, 5, 4), LABELS.reshape(10, 5)
    logs = net.evaluate(x, y, batch_size=4, return_dict=True, verbose=0)
    assert logs["accuracy"] == pytest.approx(RIGHT.mean())
    np.testing.assert_array_equal(logs["matrix"], metrics.confusion_matrix(LABELS, SCORES.argmax(1), 4))


def test_accumulators_merge_by_their_rule():
    for merge, expected in (("sum", 7.0), ("max", 5.0), ("min", 2.0)):
        accumulator = metrics.Accumulator((3,), merge, initial=1.5)
        np.testing.assert_array_equal(accumulator.new(), [1.5] * 3)
        np.testing.assert_array_equal(accumulator.merged(np.full(3, 2.0), np.full(3, 5.0)), [expected] * 3)


TRUE = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])
PREDICTED = np.array([0, 0, 1, 1, 2, 2, 2, 2, 0, 2])


def test_confusion_matrix():
    expected = [[2, 1, 0], [0, 1, 1], [1, 0, 4]]
    np.testing.assert_array_equal(metrics.confusion_matrix(TRUE, PREDICTED), expected)
    np.testing.assert_array_equal(metrics.confusion_matrix(TRUE[:, None], list(PREDICTED), 3), expected)
    assert metrics.confusion_matrix(TRUE, PREDICTED, 5).shape == (5, 5)
    assert metrics.confusion_matrix([], []).shape == (0, 0)


def test_classification_report():
    report = metrics.classification_report(TRUE, PREDICTED, 4)
    rows = report["classes"]
    assert [row["support"] for row in rows] == [3, 2, 5, 0]
    np.testing.assert_allclose([row["precision"] for row in rows], [2 / 3, 1 / 2, 4 / 5, 0])
    np.testing.assert_allclose([row["recall"] for row in rows], [2 / 3, 1 / 2, 4 / 5, 0])
    np.testing.assert_allclose([row["f1"] for row in rows], [2 / 3, 1 / 2, 4 / 5, 0])
    assert report["accuracy"] == pytest.approx(0.7)
    assert report["macro"]["f1"] == pytest.approx((2 / 3 + 1 / 2 + 4 / 5) / 3)  # class 3 is nowhere
    assert report["weighted"]["recall"] == pytest.approx(0.7)
    assert [row["class"] for row in rows] == [0, 1, 2, 3]


@pytest.mark.parametrize("classes", [None, 9])
def test_macro_means_are_of_classes_that_are_there(classes):
    """Values of scikit-learn 1.9 (macro avg of classification_report)."""
    perfect = metrics.classification_report([0, 1, 6, 6], [0, 1, 6, 6], classes)
    assert perfect["macro"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    report = metrics.classification_report([0, 0, 3, 5], [0, 3, 3, 6], classes)
    assert report["macro"] == pytest.approx({"precision": 0.375, "recall": 0.375, "f1": 1 / 3})
    assert [row["support"] for row in report["classes"]][:7] == [2, 0, 0, 1, 0, 1, 0]


def test_report_where_precision_and_recall_differ():
    row = metrics.classification_report([1, 1, 1, 0], [1, 0, 0, 0])["classes"][1]
    assert row == {"class": 1, "precision": 1.0, "recall": pytest.approx(1 / 3), "f1": pytest.approx(0.5), "support": 3}


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        (([0, 1], [0]), ValueError, "expected as many y_pred as y_true, got 1 and 2"),
        (([0, 3], [0, 1], 3), ValueError, r"expected y_true in 0 \.\.\. 2, got 3 in row 1"),
        (([0, 1], [0, -1]), ValueError, "expected y_pred in .*, got -1 in row 1"),
        (([0.5, 1], [0, 1]), TypeError, "expected y_true to be whole numbers, got 'float64'"),
        ((np.eye(2), [0, 1]), ValueError, r"expected y_true of shape \(n,\), class numbers, got \(2, 2\)"),
    ],
)
def test_reports_refuse(arguments, error, text):
    for function in (metrics.confusion_matrix, metrics.classification_report):
        with pytest.raises(error, match=text):
            function(*arguments)
