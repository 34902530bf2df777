"""Losses on numbers: as functions, and as classes with reduction, weights and axis. And their values in training."""

import numpy as np
import pytest

import nnpy as nn
from nnpy import losses

RNG = np.random.default_rng(3)
SCORES = RNG.normal(size=(6, 4))
PROBABILITIES = np.exp(SCORES) / np.exp(SCORES).sum(1, keepdims=True)
LABELS = np.array([0, 3, 1, 2, 2, 0])
ONE_HOT = np.eye(4)[LABELS]
SHARES = RNG.uniform(0.1, 0.9, size=(6, 4))
WEIGHTS = np.array([0.0, 1.0, 2.0, 0.5, 1.0, 3.0])
SQUARES = ((SCORES - SHARES) ** 2).mean(1)

ROWS = [
    (losses.mean_squared_error, SHARES, SCORES, {}, SQUARES),
    (losses.mean_absolute_error, SHARES, SCORES, {}, np.abs(SCORES - SHARES).mean(1)),
    (
        losses.binary_crossentropy, ONE_HOT, SHARES, {},
        -(ONE_HOT * np.log(SHARES) + (1 - ONE_HOT) * np.log(1 - SHARES)).mean(1),
    ),
    (
        losses.binary_crossentropy, ONE_HOT, SCORES, {"from_logits": True, "label_smoothing": 0.2},
        (np.logaddexp(0, SCORES) - (ONE_HOT * 0.8 + 0.1) * SCORES).mean(1),
    ),
    (losses.categorical_crossentropy, ONE_HOT, PROBABILITIES, {}, -np.log(PROBABILITIES[range(6), LABELS])),
    (
        losses.categorical_crossentropy, ONE_HOT, SCORES, {"from_logits": True, "label_smoothing": 0.1},
        -((ONE_HOT * 0.9 + 0.025) * np.log(PROBABILITIES)).sum(1),
    ),
    (
        losses.sparse_categorical_crossentropy, LABELS, SCORES, {"from_logits": True},
        -np.log(PROBABILITIES[range(6), LABELS]),
    ),
    (
        losses.sparse_categorical_crossentropy, LABELS, PROBABILITIES, {"ignore_class": 2},
        np.where(LABELS == 2, 0, -np.log(PROBABILITIES[range(6), LABELS])),
    ),
]  # fmt: skip


@pytest.mark.parametrize("dtype, tolerance", [("float32", 3e-6), ("float64", 3e-7)])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].__name__)
def test_functions_give_the_losses_of_rows(row, dtype, tolerance):
    function, true, predicted, options, expected = row
    got = function(true, predicted.astype(dtype), **options)
    assert isinstance(got, np.ndarray) and got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
    x, y = nn.Input((4,)), nn.Input(true.shape[1:], dtype=None if true.ndim > 1 else "int32")
    assert isinstance(function(y, x, **options), nn.Tensor)


@pytest.mark.parametrize("function", losses.CLASSES, ids=lambda function: function.__name__)
def test_a_function_given_to_compile_is_its_class(function):
    assert type(losses.get(function)) is losses.CLASSES[function]


@pytest.mark.parametrize("function", [row[0] for row in ROWS[:3]] + [ROWS[4][0], ROWS[6][0]], ids=lambda f: f.__name__)
def test_a_function_is_a_metric(function):
    metric = nn.metrics.get(function)
    assert type(metric).__name__ == losses.CLASSES[function].__name__
    assert metric.name == function.__name__ and metric.direction == "min"


@pytest.mark.parametrize(
    "reduction, expected",
    [
        ("sum_over_batch_size", (WEIGHTS * SQUARES).sum() / 6),
        ("mean", (WEIGHTS * SQUARES).sum() / 6),
        ("sum", (WEIGHTS * SQUARES).sum()),
        ("mean_with_sample_weight", (WEIGHTS * SQUARES).sum() / WEIGHTS.sum()),
        (None, WEIGHTS * SQUARES),
        ("none", WEIGHTS * SQUARES),
    ],
)
def test_reductions(reduction, expected):
    loss = losses.MeanSquaredError(reduction)
    np.testing.assert_allclose(loss(SHARES, SCORES, WEIGHTS), expected, rtol=1e-6)
    if np.ndim(expected):
        return
    assert isinstance(loss(SHARES, SCORES), float)
    model = nn.Sequential([nn.Input((4,)), nn.Dense(4, use_bias=False, kernel_initializer="identity")])
    model.compile("sgd", loss)
    assert model.evaluate(SCORES, SHARES, sample_weight=WEIGHTS, verbose=0) == pytest.approx(expected, rel=1e-5)
    assert model.train_on_batch(SCORES, SHARES, sample_weight=WEIGHTS) == pytest.approx(expected, rel=1e-5)


def test_no_weight_at_all_is_no_loss():
    loss = losses.MeanSquaredError("mean_with_sample_weight")
    assert loss(SHARES, SCORES, np.zeros(6)) == 0


def test_rows_that_are_ignored_count_nowhere():
    rows = -np.log(PROBABILITIES[range(6), LABELS])
    kept = LABELS != 2
    for reduction, expected in (
        ("mean", (WEIGHTS * rows)[kept].sum() / kept.sum()),
        ("sum", (WEIGHTS * rows)[kept].sum()),
        ("mean_with_sample_weight", (WEIGHTS * rows)[kept].sum() / WEIGHTS[kept].sum()),
    ):
        loss = losses.SparseCategoricalCrossentropy(ignore_class=2, reduction=reduction)
        assert loss(LABELS, PROBABILITIES, WEIGHTS) == pytest.approx(expected, rel=1e-5)


def test_an_epoch_is_the_mean_of_its_batches_by_their_samples():
    model = nn.Sequential([nn.Input((4,)), nn.Dense(4, use_bias=False, kernel_initializer="identity")])
    model.compile(nn.SGD(0.0), losses.MeanSquaredError("sum"))
    sums = [SQUARES[:4].sum(), SQUARES[4:].sum()]
    expected = (sums[0] * 4 + sums[1] * 2) / 6
    assert model.evaluate(SCORES, SHARES, batch_size=4, verbose=0) == pytest.approx(expected, rel=1e-5)
    history = model.fit(SCORES, SHARES, batch_size=4, shuffle=False, verbose=0)
    assert history.history["loss"][0] == pytest.approx(expected, rel=1e-5)


def test_the_sum_trains_as_a_mean_of_another_rate():
    def trained(reduction, rate):
        model = nn.Sequential([nn.Input((4,)), nn.Dense(4, kernel_initializer="ones")])
        model.compile(nn.SGD(rate), losses.MeanSquaredError(reduction))
        model.fit(SCORES, SHARES, batch_size=6, epochs=3, verbose=0)
        return model.get_weights()

    for one, other in zip(trained("sum", 0.01), trained("mean", 0.06), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_without_a_reduction_nothing_is_trained():
    model = nn.Sequential([nn.Input((4,)), nn.Dense(4)])
    with pytest.raises(ValueError, match="expected a reduction, 'none' leaves nothing to make small"):
        model.compile("sgd", losses.MeanSquaredError("none"))


SMALL = RNG.normal(size=(3, 4, 5))  # classes in axis 1


@pytest.mark.parametrize("name", ["binary", "categorical", "sparse_categorical"])
def test_axis(name):
    """As with the axis put last, in values, in training, and for the shape of targets."""
    moved = np.moveaxis(SMALL, 1, -1)
    labels = RNG.integers(0, 4, (3, 5))
    hot = labels if name == "sparse_categorical" else np.moveaxis(np.eye(4)[labels], -1, 1)
    last = labels if name == "sparse_categorical" else np.eye(4)[labels]
    function, kind = getattr(losses, f"{name}_crossentropy"), losses.get(f"{name}_crossentropy")
    expected = function(last, moved, from_logits=True)
    np.testing.assert_allclose(function(hot, SMALL, from_logits=True, axis=1), expected, rtol=1e-6)
    model = nn.Sequential([nn.Input((4, 5)), nn.Dense(5, use_bias=False, kernel_initializer="identity")])
    model.compile("sgd", type(kind)(from_logits=True, axis=1))
    assert model.evaluate(SMALL, hot, verbose=0) == pytest.approx(expected.mean(), rel=1e-5)
    assert model.fit(SMALL, hot, epochs=9, verbose=0).history["loss"][-1] < expected.mean()


def test_axis_of_probabilities_is_that_of_the_softmax():
    """A softmax over another axis, and its loss over the same."""
    labels = RNG.integers(0, 4, (3, 5))
    shares = np.exp(SMALL) / np.exp(SMALL).sum(1, keepdims=True)
    expected = losses.sparse_categorical_crossentropy(labels, SMALL, from_logits=True, axis=1)
    np.testing.assert_allclose(
        losses.sparse_categorical_crossentropy(labels, shares, axis=1), expected, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("short, kind", [("mse", "MeanSquaredError"), ("mae", "MeanAbsoluteError"),
                                         ("bce", "BinaryCrossentropy"), ("MAE", "MeanAbsoluteError")])  # fmt: skip
def test_short_names(short, kind):
    assert type(losses.get(short)).__name__ == type(nn.metrics.get(short)).__name__ == kind


def test_crossentropies_are_metrics():
    model = nn.Sequential([nn.Input((4,)), nn.Dense(4, activation="softmax")])
    metrics = [nn.metrics.SparseCategoricalCrossentropy(), "accuracy"]
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=metrics)
    values = model.evaluate(SCORES, LABELS, verbose=0, return_dict=True)
    assert values["sparse_categorical_crossentropy"] == pytest.approx(values["loss"], rel=1e-5)
    hot = [nn.metrics.CategoricalCrossentropy(label_smoothing=0.1), "bce", "mae"]
    model.compile("sgd", losses.CategoricalCrossentropy(label_smoothing=0.1), metrics=hot)
    values = model.evaluate(SCORES, ONE_HOT, verbose=0, return_dict=True)
    assert values["categorical_crossentropy"] == pytest.approx(values["loss"], rel=1e-5)
    predicted = model.predict(SCORES)
    assert values["bce"] == pytest.approx(losses.BinaryCrossentropy()(ONE_HOT, predicted), rel=1e-5)
    assert values["mae"] == pytest.approx(np.abs(ONE_HOT - predicted).mean(), rel=1e-5)


def test_a_metric_ignores_a_class_too():
    model = nn.Sequential([nn.Input((4,)), nn.Dense(4)])
    kind = losses.SparseCategoricalCrossentropy(from_logits=True)
    metrics = [nn.metrics.SparseCategoricalCrossentropy(from_logits=True, ignore_class=2)]
    model.compile("sgd", kind, weighted_metrics=metrics)
    got = model.evaluate(SCORES, LABELS, sample_weight=WEIGHTS, verbose=0)[1]
    kept = LABELS != 2
    rows = losses.sparse_categorical_crossentropy(LABELS, model.predict(SCORES), from_logits=True)
    assert got == pytest.approx((rows * WEIGHTS)[kept].sum() / WEIGHTS[kept].sum(), rel=1e-5)
