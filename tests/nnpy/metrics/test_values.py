"""The values of all metrics, on arrays and in steps, against NumPy, scikit-learn and Keras."""

import copy
import doctest
import importlib
import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from metrictable import DATA, LABEL_WEIGHTS, TABLE, Row, expected

import nnpy as nn
from nnpy import losses, metrics
from nnpy.compiler import compile_step
from nnpy.layers import Activation, Input
from nnpy.metrics import arrays

IDS = [str(row) for row in TABLE]
KINDS = [(row, kind) for row in TABLE for kind in row.kinds.split()]


def compare(found, wanted, tolerance):
    assert isinstance(found, float if np.ndim(wanted) == 0 else np.ndarray)
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("row, kind", KINDS, ids=[f"{row}-{kind}" for row, kind in KINDS])
def test_of_arrays(row, kind):
    """In one piece and in several, in both dtypes, one after another by an object that is reset."""
    whole, pieces = row.make(), row.make()
    for name, (t, p, w) in DATA[kind].items():
        wanted = expected(row, t, p, w)
        compare(whole(t, p, w), wanted, 3e-6 if name == "perfect" or "PR" in str(row) else 1e-9)
        for piece in (slice(0, 20), slice(20, 20), slice(20, 40), slice(40, None)):
            pieces.update_state(t[piece], p[piece].astype(np.float32), None if w is None else w[piece])
        compare(pieces.result(), wanted, 2e-5)
        whole.reset_state()
        pieces.reset_state()


def identity(shape, loss, metric, weighted):
    x = Input(shape)
    net = nn.Model(x, Activation("linear")(x))
    given = {"weighted_metrics" if weighted else "metrics": [metric]}
    net.compile("sgd", loss, **given)
    return net


@pytest.mark.filterwarnings("ignore::nnpy.AdviceWarning")
@pytest.mark.parametrize("row, kind", KINDS, ids=[f"{row}-{kind}" for row, kind in KINDS])
def test_of_steps(row, kind):
    """``evaluate`` in batches and threads says what the formula says of all data at once, per row and per step."""
    loss = losses.SparseCategoricalCrossentropy() if kind == "labels" else losses.MeanSquaredError()
    for name, rows, threads, batch in (("random", (-1,), 1, 1000), ("some weights 0", (-1, 6), 2, 4)):
        t, p, w = DATA[kind][name]
        x, y = p.astype(np.float32).reshape(*rows, p.shape[-1]), t.reshape(*rows, *t.shape[1:])
        net = identity(x.shape[1:], loss, row.make(), w is not None)
        nn.set_num_threads(threads)
        logs = net.evaluate(x, y, batch, 0, sample_weight=None if w is None else w.reshape(rows), return_dict=True)
        compare(next(value for key, value in logs.items() if key != "loss"), expected(row, t, p, w), 2e-5)


@pytest.fixture(autouse=True)
def threads_as_before():
    count = nn.get_num_threads()
    yield
    nn.set_num_threads(count)


@pytest.mark.parametrize("row", TABLE, ids=IDS)
def test_is_saved_and_copied(row):
    t, p, w = DATA[row.kinds.split()[0]]["weighted"]
    metric = row.make()
    value = metric(t, p, w)
    stored = json.loads(json.dumps(metric.to_json()))
    for other in (metrics.get(stored), copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        assert repr(other) == repr(metric) and other.name == metric.name and other.direction == metric.direction
        np.testing.assert_array_equal(other(t, p, w), value)


def test_examples():
    folder = Path(metrics.__file__).parent
    for path in sorted(folder.glob("*.py")):
        found = doctest.testmod(importlib.import_module(f"nnpy.metrics.{path.stem}"))
        assert not found.failed, path
        assert found.attempted or path.stem in ("__init__", "arrays", "of_losses", "reports"), path


def test_the_table_has_every_metric():
    made = {type(row.make()) for row in TABLE}
    bases = {metrics.Metric, metrics.MeanMetric, metrics.FunctionMetric, metrics.LossMetric}
    others = {metrics.Mean, metrics.Sum}
    known = {value for name in metrics.__all__ if isinstance(value := getattr(metrics, name), type)}
    assert {c for c in known if issubclass(c, metrics.Metric)} - made - bases - others - {
        of for of in metrics.OF_LOSSES.values() if of not in made
    } == set()


@pytest.mark.parametrize("name", sorted(metrics.OF_LOSSES))
def test_every_loss_is_a_metric(name):
    """Of the same value as the loss where no weight is given, by the loss's arguments."""
    made = metrics.OF_LOSSES[name]
    kind = "labels" if made.of.target_kind == "index" else "one-hot"
    t, p, _ = DATA[kind]["random"]
    if name == "CTC":
        t, p = [[1, 2, 0, 0, 0]], np.random.default_rng(0).normal(size=(1, 5, 4))
    metric, loss = made(), made.of()
    assert metric(t, p) == pytest.approx(loss(t, p), rel=1e-6)
    assert metric.direction == "min" and metrics.get(metric.to_json()).get_config() == metric.get_config()


def test_mean_and_sum():
    mean, total = metrics.Mean(), metrics.Sum("all")
    for metric in (mean, total):
        assert metric.result() == 0
        metric.update_state([[1, 2], [3, 4]], sample_weight=[1, 0.5])
        metric.update_state(5)
    assert mean.result() == pytest.approx((3 + 3.5 + 5) / (2 + 1 + 1)) and total.result() == 11.5
    assert total.name == "all" and total(1) == 12.5
    mean.reset_state()
    assert mean(3) == 3
    with pytest.raises(ValueError, match=r"Mean 'mean': expected sample_weight that broadcasts .* \(2,\), got \(3,\)"):
        mean.update_state([1, 2], [1, 2, 3])
    x = Input((2,))
    with pytest.raises(TypeError, match=r"Mean 'mean': is of values by itself"):
        nn.Model(x, Activation("linear")(x)).compile("sgd", "mse", metrics=[metrics.Mean()])


def test_class_numbers_as_predictions():
    """IoU's are class numbers unless told otherwise, and sorted ones tell the best k."""
    t, p = np.array([0, 0, 1, 2, 2, 9]), np.array([0, 1, 1, 2, 0, 1])
    assert metrics.MeanIoU(3, ignore_class=9)(t, p) == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3)
    images = metrics.IoU(3, [1], ignore_class=9)(t.reshape(1, 2, 3), p.reshape(1, 2, 3))
    assert images == pytest.approx(1 / 2)
    ids = metrics.SparseTopKCategoricalAccuracy(2, from_sorted_ids=True)
    assert ids([7, 1], [[3, 7, 1], [3, 7, 1]]) == 0.5
    with pytest.raises(IndexError, match="expected indices from 0 to 2, got 3"):
        metrics.MeanIoU(3)([0, 3], [0, 1])
    with pytest.raises(ValueError, match=r"of one shape, got \(None,\) and \(None, 3\); sparse_y_pred=False is for"):
        metrics.MeanIoU(3)([0, 2], np.eye(3)[[0, 1]])


@pytest.mark.filterwarnings("ignore::nnpy.AdviceWarning")
@pytest.mark.parametrize("metric", [metrics.Precision(0.4), metrics.AUC(), metrics.ExpectedCalibrationError(),
                                    metrics.Perplexity(), metrics.F1Score("macro", 0.4)], ids=str)  # fmt: skip
def test_logits_become_probabilities(metric):
    """Under a loss of logits metrics of probabilities see what the loss sees."""
    labels, p, _ = DATA["labels"]["random"]
    sparse = losses.SparseCategoricalCrossentropy(from_logits=True)
    found = identity((3,), sparse, metric, False).evaluate(np.log(p).astype(np.float32), labels, 9, 0)[1]
    assert found == pytest.approx(metric(labels, p), rel=1e-5)
    if isinstance(metric, metrics.Perplexity):
        return
    metric.reset_state()
    t, p, _ = DATA["binary"]["random"]
    logits = np.log(p / (1 - p)).astype(np.float32)
    found = identity((1,), losses.BinaryCrossentropy(True), metric, False).evaluate(logits, t, 9, 0)[1]
    assert found == pytest.approx(metric(t, p), rel=1e-5)


def test_from_logits_of_auc():
    t, p, _ = DATA["binary"]["random"]
    assert metrics.AUC(from_logits=True)(t, np.log(p / (1 - p))) == pytest.approx(metrics.AUC()(t, p))


@pytest.mark.filterwarnings("ignore::nnpy.AdviceWarning")
@pytest.mark.parametrize("row", [row for row in TABLE if "labels" in row.kinds.split()],
                         ids=[str(row) for row in TABLE if "labels" in row.kinds.split()])  # fmt: skip
def test_ignored_rows_do_not_count(row):
    labels, p, _ = DATA["labels"]["random"]
    kept = np.arange(len(labels)) % 4 != 1
    loss = losses.SparseCategoricalCrossentropy(ignore_class=-1)
    metric = row.make()
    if isinstance(metric, metrics.SparseCategoricalCrossentropy):
        metric = metrics.SparseCategoricalCrossentropy(ignore_class=-1)
    net = identity((3,), loss, metric, False)
    found = net.evaluate(p.astype(np.float32), np.where(kept, labels, -1), 9, 0)[1]
    compare(found, expected(row, labels[kept], p[kept], None), 2e-5)


def test_no_number_is_not_positive():
    """NaN is as low as a score can be, and never right."""
    t, p = np.array([1, 0, 1, 0]), np.array([np.nan, np.nan, 0.9, 0.1])
    assert metrics.AUC()(t, p) == pytest.approx(metrics.AUC()(t, np.nan_to_num(p)))
    assert metrics.Recall()(t, p) == 0.5
    assert metrics.TopKCategoricalAccuracy(3)([[1, 0], [1, 0]], [[np.nan, 1], [0.0, 1]]) == 0.5
    assert metrics.ExpectedCalibrationError()(t, np.nan_to_num(p)) == pytest.approx((1 + 0.1 + 0.1) / 4)


def areas(t, p, w):
    """The chance that one that is on has a larger score than one that is not; and average precision."""
    on, off = t > 0.5, t <= 0.5
    larger = (p[on][:, None] > p[off]) + 0.5 * (p[on][:, None] == p[off])
    pairs = w[on][:, None] * w[off]
    precision = [(w * on * (p >= edge)).sum() / (w * (p >= edge)).sum() for edge in p[on]]
    return (larger * pairs).sum() / pairs.sum(), (w[on] * precision).sum() / w[on].sum()


def test_exact_areas():
    rng = np.random.default_rng(0)
    t, p, w = rng.random(300) < 0.3, np.round(rng.random(300), 2), rng.random(300) + 0.1
    for weights in (None, w):
        roc, pr = areas(t, p, np.ones(300) if weights is None else weights)
        for curve, wanted in (("ROC", roc), ("PR", pr)):
            metric = metrics.AUC(None, curve)
            assert metric(t, p, weights) == pytest.approx(wanted, rel=1e-12)
            metric.reset_state()
            for part in (slice(0, 100), slice(100, 100), slice(100, None)):
                metric.update_state(t[part], p[part], None if weights is None else weights[part])
            assert metric.result() == pytest.approx(wanted, rel=1e-12)
    again = metrics.get(metrics.AUC(None, "PR").to_json())
    assert again(t, -p, w) == pytest.approx(areas(t, -p, w)[1])


def test_exact_areas_of_labels_and_classes():
    t, p, w = DATA["multi-label"]["weighted"]
    each = [areas(t[:, i], p[:, i], w)[0] for i in range(3)]
    assert metrics.AUC(None, multi_label=True)(t, p, w) == pytest.approx(np.mean(each))
    weighted = metrics.AUC(None, multi_label=True, label_weights=LABEL_WEIGHTS)
    assert weighted(t, p, w) == pytest.approx(np.average(each, weights=LABEL_WEIGHTS))
    flat = metrics.AUC(None, label_weights=LABEL_WEIGHTS)
    assert flat(t, p, w) == pytest.approx(areas(t.ravel(), p.ravel(), np.outer(w, LABEL_WEIGHTS).ravel())[0])
    labels, p, _ = DATA["labels"]["random"]
    one_hot = np.eye(3)[labels]
    assert metrics.AUC(None)(labels, p) == pytest.approx(areas(one_hot.ravel(), p.ravel(), np.ones(one_hot.size))[0])
    for metric in (metrics.AUC(None), metrics.AUC(None, "PR")):
        assert metric([0, 0], [0.1, 0.2]) == 0
    assert metrics.AUC(None)([1, 0, 1], [np.nan, 0.1, 0.9]) == 0.5
    with pytest.raises(TypeError, match=r"AUC 'auc': num_thresholds=None keeps all scores, which a step cannot"):
        identity((1,), "mse", metrics.AUC(None), False)
    with pytest.raises(ValueError, match="has no value before update_state"):
        metrics.AUC(None).result()


def within_one(y_true, y_pred):
    return 1.0 if abs(y_true - y_pred) <= 1 else 0.0


def test_custom():
    """A scalar function: by itself, in a step, weighted, and by its name in files."""
    metric = metrics.custom(within_one, "max")
    t, p, w = DATA["numbers"]["weighted"]
    wanted = expected(Row(None, "", lambda t, p, w: np.average((np.abs(t - p) <= 1).mean(1), weights=w)), t, p, w)
    assert metric(t, p, w) == pytest.approx(wanted)
    net = identity((3,), "mse", "within_one", True)
    assert net.evaluate(p.astype(np.float32), t, 7, 0, sample_weight=w)[1] == pytest.approx(wanted, abs=1e-6)
    assert metric.direction == "max" and metrics.get(json.loads(json.dumps(metric.to_json()))) is metric
    with pytest.raises(TypeError, match="to be saved it needs a name of its own"):
        metrics.custom(lambda y_true, y_pred: y_pred).to_json()
    with pytest.raises(ValueError, match=r"metrics.custom\(mse\): 'mse' is the name of another metric"):
        metrics.custom(within_one, name="mse")
    with pytest.raises(ValueError, match="expected direction to be 'max', 'min' or None, got 'up'"):
        metrics.custom(within_one, "up")
    with pytest.raises(TypeError, match=r"metrics.custom\(<lambda>\): expected the function to take"):
        metrics.custom(lambda x: x)
    stored = metric.to_json()
    stored["config"]["name"] = "gone"
    with pytest.raises(ValueError, match=r"unknown custom metric 'gone'; call metrics\.custom"):
        metrics.get(stored)


REFUSED = [
    (lambda: metrics.Precision(1.5), ValueError, "Precision: expected thresholds to be a finite number >= 0 and <= 1"),
    (lambda: metrics.Recall([]), ValueError, "Recall: expected thresholds to be a number or a list of numbers"),
    (lambda: metrics.Precision(top_k=0), ValueError, "Precision: expected top_k to be a positive integer, got 0"),
    (lambda: metrics.Recall(class_id=3)([0, 1], np.eye(3)[:2]), ValueError, "expected class_id below 3, how many"),
    (lambda: metrics.AUC(curve="XY"), ValueError, "AUC: expected curve to be 'ROC', 'PR' or 'PRGAIN', got 'XY'"),
    (lambda: metrics.AUC(summation_method="x"), ValueError, "expected summation_method to be one of"),
    (lambda: metrics.AUC(1), ValueError, "AUC: expected num_thresholds to be an integer >= 2, got 1"),
    (lambda: metrics.AUC(num_labels=2), ValueError, "expected num_labels to be None without multi_label=True, got 2"),
    (lambda: metrics.AUC(multi_label=True, num_labels=2)([[1, 0, 1]], [[1, 0, 1]]), ValueError, "expected 2 outputs"),
    (lambda: metrics.F1Score("mean"), ValueError, "F1Score: expected average to be one of None, 'micro', 'macro'"),
    (lambda: metrics.FBetaScore(beta=0), ValueError, "FBetaScore: expected beta to be a finite number > 0, got 0"),
    (lambda: metrics.R2Score("sum"), ValueError, "R2Score: expected class_aggregation to be one of"),
    (lambda: metrics.IoU(3, [3]), ValueError, r"IoU: expected target_class_ids in 0 ... 2, got \(3,\)"),
    (lambda: metrics.IoU(3, 1), TypeError, "IoU: expected target_class_ids to be a list of class numbers, got 1"),
    (lambda: metrics.MeanIoU(4, sparse_y_pred=False)([0], np.eye(3)[:1]), ValueError, "expected predictions of 4 cla"),
    (lambda: metrics.CosineSimilarity(axis=0)([[1.0]], [[1.0]]), ValueError, "expected an axis of .*, and not the ba"),
    (lambda: metrics.AUC().result(), ValueError, r"AUC 'auc': has no value before update_state\(y_true, y_pred\)"),
    (lambda: metrics.AUC()([0, 1], [[1, 2, 3]]), ValueError, r"expected y_true of shape \(1, 3\), or class numbers of"),
    (lambda: metrics.AUC()(["a"], [1.0]), TypeError, "AUC 'auc': expected y_true to be real numbers, got dtype"),
    (lambda: metrics.AUC()([np.nan], [1.0]), ValueError, "expected y_true to be finite, got nan in row 0"),
    (lambda: metrics.Accuracy()([0, 3], np.eye(3)[:2]), ValueError, r"expected y_true in 0 ... 2, got 3 in row 1"),
    (lambda: metrics.Accuracy()([0, 0.5], np.eye(3)[:2]), ValueError, "expected y_true to be whole class numbers, got"),
    (lambda: metrics.AUC()([0, 1], [0, 1], [1, -1]), ValueError, "expected sample_weight >= 0, got -1.0 in row 1"),
    (lambda: metrics.AUC()([0, 1], [0, 1], [1]), ValueError, r"expected sample_weight of the samples, \(2,\), or of"),
    (lambda: metrics.SparseCategoricalAccuracy()(np.eye(3), np.eye(3)), ValueError, "expected targets that are class"),
    (lambda: metrics.AUC()(Input((1,)), Input((1,))), TypeError, "AUC 'auc': expected arrays, got Tensors"),
    (lambda: metrics.AUC(tresholds=3), TypeError, "unexpected argument 'tresholds'; did you mean 'thresholds'"),
]


@pytest.mark.parametrize("call, error, text", REFUSED)
def test_refuses(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_other_shapes_need_a_reset():
    metric = metrics.F1Score()
    metric([0, 1], np.eye(3)[:2])
    with pytest.raises(ValueError, match=r"as many outputs as before, \(None, 3\), got \(None, 4\)"):
        metric.update_state([0, 1], np.eye(4)[:2])
    assert len(metric.result()) == 3
    metric.update_state([[0, 1]], np.eye(3)[:2][None])  # another rank and dtype are no other shape
    np.testing.assert_array_equal(metric.result(), [1, 1, 0])
    metric.reset_state()
    assert len(metric([0, 1], np.eye(4)[:2])) == 4


def test_arrays_of_the_user_stay_as_they_are():
    t, p, w = (np.array(each) for each in DATA["binary"]["weighted"])
    kept = [each.copy() for each in (t, p, w)]
    metrics.AUC()(t, p, w)
    for before, after in zip(kept, (t, p, w), strict=True):
        np.testing.assert_array_equal(before, after)


def test_batches_of_many_sizes(monkeypatch):
    """Steps are compiled for a few sizes, of which all others are made up."""
    made = []
    monkeypatch.setattr(arrays, "compile_step", lambda *a: made.append(a[1]) or compile_step(*a))
    rng, metric = np.random.default_rng(0), metrics.AUC()
    t, p = rng.integers(0, 2, 3000), rng.random(3000)
    ends = np.cumsum(rng.permutation(60))
    for start, end in itertools.pairwise(ends):
        metric.update_state(t[start:end], p[start:end])
    assert metric.result() == pytest.approx(metrics.AUC()(t[ends[0] : ends[-1]], p[ends[0] : ends[-1]]), abs=1e-12)
    assert len(set(made)) < 12


def test_many_rows():
    """More than fit in one step."""
    rng = np.random.default_rng(1)
    t, p = rng.integers(0, 2, 10_001), rng.random(10_001)
    assert metrics.BinaryAccuracy()(t, p) == pytest.approx(((p > 0.5) == t).mean(), abs=1e-12)
    assert metrics.Precision([0.2, 0.9])(t, p) == pytest.approx([t[p > 0.2].mean(), t[p > 0.9].mean()], abs=1e-12)


def test_adjusted_r2_of_too_few_rows_advises():
    metric = metrics.R2Score(num_regressors=5)
    with pytest.warns(nn.AdviceWarning, match="to adjust for 5 regressors takes more than 6 rows, got 3"):
        assert metric([1, 4, 3], [2, 4, 4]) == pytest.approx(0.5714, abs=1e-4)


@pytest.mark.parametrize("metric, name, direction", [
    (metrics.AUC(), "auc", "max"), (metrics.F1Score("macro"), "f1_score", "max"), (metrics.Recall(), "recall", "max"),
    (metrics.FalsePositives(), "false_positives", "min"), (metrics.ExpectedCalibrationError(), None, "min"),
    (metrics.F1Score(), "f1_score", None), (metrics.Precision([0.1, 0.2]), "precision", None),
    (metrics.ConfusionMatrix(), "confusion_matrix", None), (metrics.FBetaScore(), "fbeta_score", None),
    (metrics.R2Score(), "r2_score", "max"), (metrics.OneHotMeanIoU(2), "one_hot_mean_io_u", "max"),
])  # fmt: skip
def test_directions(metric, name, direction):
    """Which value is better the metric says, and callbacks ask; what is an array has none, and they want ``mode``."""
    assert metric.direction == direction and name in (None, metric.name)
    net = identity((2,), "mse", metric, False)
    stop = nn.EarlyStopping(monitor=metric.name, patience=1)
    x = np.eye(2, dtype=np.float32)
    if direction is None:
        with pytest.raises(ValueError, match=r"its metric does not say.*mode"):
            net.fit(x, x, verbose=0, callbacks=[stop])
    else:
        net.fit(x, x, verbose=0, callbacks=[stop])
        assert stop.best is not None
