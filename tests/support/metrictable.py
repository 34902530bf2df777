"""Every metric beside its formula in plain NumPy, in float64: what the tests of metrics walk.

A formula takes targets, predictions and weights of rows, (rows, outputs) or (rows,) class numbers: per step and per
pixel is the same with more rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnpy import metrics as m


def over(above, below):
    return above / below if below else 0.0


def mean(values, w):
    return over((values * w).sum(), w.sum())


def weighted_mean_of(rows: Callable) -> Callable:
    return lambda t, p, w: mean(rows(t, p), w)


def elements(t, p, w):
    """All outputs of all rows: truth, score, weight."""
    if t.ndim == 1:
        t = np.eye(p.shape[1])[t]
    return t.ravel() > 0.5, p.ravel(), np.repeat(w, p.shape[1])


def counts(t, p, w, threshold):
    truth, score, weight = elements(t, p, w)
    on = score > threshold
    return tuple((weight * each).sum() for each in (on & truth, on & ~truth, ~on & truth, ~on & ~truth))


def precision(tp, fp, fn, tn):
    return over(tp, tp + fp)


def recall(tp, fp, fn, tn):
    return over(tp, tp + fn)


def specificity(tp, fp, fn, tn):
    return over(tn, tn + fp)


def at(threshold, value):
    return lambda t, p, w: value(*counts(t, p, w, threshold))


def several(thresholds, value):
    return lambda t, p, w: np.array([value(*counts(t, p, w, threshold)) for threshold in thresholds])


def among_top(k, value, threshold=None):
    def formula(t, p, w):
        chosen = np.zeros(p.shape)
        np.put_along_axis(chosen, np.argsort(-p, -1, kind="stable")[:, :k], 1.0, -1)
        return value(*counts(t, np.where(chosen > 0, p if threshold is not None else 2.0, -1.0), w, threshold or 0.0))

    return formula


def of_class(number, value):
    def formula(t, p, w):
        t = np.eye(p.shape[1])[t] if t.ndim == 1 else t
        return value(*counts(t[:, number : number + 1], p[:, number : number + 1], w, 0.5))

    return formula


def best_at(least, constrained, value, thresholds=200):
    def formula(t, p, w):
        found = [counts(t, p, w, edge) for edge in np.linspace(0, 1, thresholds)]
        return max((value(*each) for each in found if constrained(*each) >= least), default=0.0)

    return formula


def curve(t, p, w, thresholds=200):
    edges = [-1e-7, *np.linspace(0, 1, thresholds)[1:-1], 1 + 1e-7]
    return np.array([counts(t, p, w, edge) for edge in edges]).T


def roc(t, p, w, thresholds=200, heights=lambda left, right: (left + right) / 2):
    found = curve(t, p, w, thresholds).T
    x, y = (np.array([value(*each) for each in found]) for value in (lambda *c: 1 - specificity(*c), recall))
    if not found[0][1] + found[0][3]:
        x = np.zeros_like(x)
    return ((x[:-1] - x[1:]) * heights(y[:-1], y[1:])).sum()


def pr(t, p, w):
    """Davis & Goadrich: precision between two thresholds, integrated over true positives, a step at a time."""
    tp, fp, fn, _ = curve(t, p, w)
    total, area = tp[0] + fn[0], 0.0
    for i in range(len(tp) - 1):
        a, b = tp[i] - tp[i + 1], fp[i] - fp[i + 1]
        if a <= 0 or total <= 0:
            continue
        grid = np.linspace(0, 1, 4001)
        above, all_ = tp[i + 1] + a * grid, tp[i + 1] + fp[i + 1] + (a + b) * grid
        values = np.divide(above, all_, out=np.full(grid.shape, a / (a + b)), where=all_ > 0)
        area += a * ((values[1:] + values[:-1]) / 2).mean()
    return over(area, total)


def by_label(formula, weights=None):
    def found(t, p, w):
        areas = [formula(t[:, i : i + 1], p[:, i : i + 1], w) for i in range(p.shape[1])]
        return np.average(areas, weights=weights)

    return found


def numbers(t, p, threshold=0.5):
    """True and predicted class of every row."""
    if p.shape[1] == 1:
        return (t[:, 0] > 0.5).astype(int), (p[:, 0] > threshold).astype(int), 2
    return (t if t.ndim == 1 else t.argmax(1)), p.argmax(1), p.shape[1]


def matrix(t, p, w):
    true, chosen, classes = numbers(t, p)
    return np.array(
        [[w[(true == i) & (chosen == j)].sum() for j in range(classes)] for i in range(classes)]
    )  # fmt: skip


def matthews(t, p, w):
    """The covariance of one-hot rows, by its definition."""
    true, chosen, classes = numbers(t, p)
    if not w.sum():
        return 0.0
    x, y = (np.eye(classes)[each] - np.average(np.eye(classes)[each], 0, w) for each in (true, chosen))
    both, one, other = ((w[:, None] * a * b).sum() for a, b in ((x, y), (x, x), (y, y)))
    return over(both, np.sqrt(max(0, one) * max(0, other))) if min(one, other) > 1e-12 else 0.0


def iou(true, chosen, w, classes):
    found = []
    for number in classes:
        both = w[(true == number) & (chosen == number)].sum()
        either = w[(true == number) | (chosen == number)].sum()
        if either > 0:
            found.append(both / either)
    return np.mean(found) if found else 0.0


def iou_of_scores(classes):
    def formula(t, p, w):
        true, chosen, _ = numbers(t, p)
        return iou(true, chosen, w, classes)

    return formula


def binary_iou(threshold, classes=(0, 1)):
    def formula(t, p, w):
        truth, score, weight = elements(t, p, w)
        return iou(truth.astype(int), (score >= threshold).astype(int), weight, classes)

    return formula


def fscore(average, beta=1.0, threshold=None):
    def formula(t, p, w):
        t = np.eye(p.shape[1])[t] if t.ndim == 1 else t
        on = p > threshold if threshold is not None else (p == p.max(1, initial=-9, keepdims=True)) & (np.abs(p) > 1e-9)
        both, true, chosen = ((w[:, None] * x).sum(0) for x in (t * on, t, on))
        if average == "micro":
            both, true, chosen = (x.sum(keepdims=True) for x in (both, true, chosen))
        scores = []
        for b, s, c in zip(both, true, chosen, strict=True):
            precise, found = over(b, c), over(b, s)
            scores.append(over((1 + beta**2) * precise * found, beta**2 * precise + found))
        if average == "weighted":
            return over((np.array(scores) * true).sum(), true.sum())
        return np.array(scores) if average is None else np.mean(scores)

    return formula


def r2(aggregation, regressors=0):
    def formula(t, p, w):
        if not w.sum():
            return np.zeros(t.shape[1]) if aggregation is None else 0.0
        spread = (w[:, None] * (t - np.average(t, 0, w)) ** 2).sum(0)
        left = (w[:, None] * (t - p) ** 2).sum(0)
        scores = np.array(
            [1 - x / s if s > 1e-12 else float(x < 1e-12) for s, x in zip(spread, left, strict=True)]
        )  # fmt: skip
        if aggregation == "variance_weighted_average" and spread.sum() > 1e-12:
            scores = (scores * spread).sum() / spread.sum()
        elif aggregation:
            scores = scores.mean()
        if regressors and len(t) > regressors + 1:
            scores = 1 - (1 - scores) * (len(t) - 1) / (len(t) - regressors - 1)
        return scores

    return formula


def cosine(x, y):
    norms = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.divide((x * y).sum(1), norms, out=np.zeros(len(x)), where=norms > 1e-12)


def pearson(t, p):
    return cosine(t - t.mean(1, keepdims=True), p - p.mean(1, keepdims=True))


def concordance(t, p):
    x, y = t - t.mean(1, keepdims=True), p - p.mean(1, keepdims=True)
    spread = x.var(1) + y.var(1) + (t.mean(1) - p.mean(1)) ** 2
    return np.divide(2 * (x * y).mean(1), spread, out=np.zeros(len(x)), where=spread > 1e-12)


def calibration(bins):
    def formula(t, p, w):
        if p.shape[1] == 1:
            sure, right = p[:, 0], (t[:, 0] > 0.5) * 1.0
        else:
            true, chosen, _ = numbers(t, p)
            sure, right = p.max(1, initial=0), (true == chosen) * 1.0
        error = 0.0
        for i in range(bins):
            inside = (sure > i / bins) & (sure <= (i + 1) / bins) | ((i == 0) & (sure <= 0))
            error += abs((w * (right - sure))[inside].sum())
        return over(error, w.sum())

    return formula


def log_of_truth(t, p):
    p = np.maximum(p / p.sum(1, keepdims=True), 1e-7)
    return -np.log(p[np.arange(len(p)), t]) if t.ndim == 1 else -(t * np.log(p)).sum(1)


def perplexity(t, p, w):
    return np.exp(mean(log_of_truth(t, p), w)) if w.sum() else 0.0


def top(k):
    def rows(t, p):
        true = t if t.ndim == 1 else t.argmax(1)
        own = p[np.arange(len(p)), true]
        return ((p > own[:, None]).sum(1) < k) * 1.0

    return weighted_mean_of(rows)


@dataclass(frozen=True)
class Row:
    """A metric, the kinds of data that it is of, and its formula."""

    make: Callable[[], m.Metric]
    kinds: str
    formula: Callable

    def __str__(self) -> str:
        return repr(self.make())


row = Row

ANY = "binary labels one-hot multi-label"
MANY = "labels one-hot"
T = [0.7, 0.25, 0.5]
LABEL_WEIGHTS = [1.0, 0.0, 2.0]

TABLE = [
    row(m.BinaryAccuracy, "binary multi-label", weighted_mean_of(lambda t, p: ((p > 0.5) == (t > 0.5)).mean(1))),
    row(m.CategoricalAccuracy, "one-hot", top(1)),
    row(m.SparseCategoricalAccuracy, "labels", top(1)),
    row(m.Accuracy, MANY, top(1)),
    row(lambda: m.TopKCategoricalAccuracy(2), "one-hot", top(2)),
    row(lambda: m.SparseTopKCategoricalAccuracy(3), "labels", top(3)),
    row(m.SparseTopKCategoricalAccuracy, "labels", top(5)),
    row(m.TruePositives, ANY, at(0.5, lambda tp, fp, fn, tn: tp)),
    row(m.FalsePositives, ANY, at(0.5, lambda tp, fp, fn, tn: fp)),
    row(lambda: m.FalseNegatives(T), ANY, several(T, lambda tp, fp, fn, tn: fn)),
    row(lambda: m.TrueNegatives(0.3), ANY, at(0.3, lambda tp, fp, fn, tn: tn)),
    row(m.Precision, ANY, at(0.5, precision)),
    row(lambda: m.Precision(T), ANY, several(T, precision)),
    row(lambda: m.Precision(top_k=2), MANY, among_top(2, precision)),
    row(lambda: m.Precision(0.4, top_k=2), MANY, among_top(2, precision, 0.4)),
    row(lambda: m.Recall(class_id=1), MANY, of_class(1, recall)),
    row(lambda: m.Recall(0.25), ANY, at(0.25, recall)),
    row(lambda: m.Recall(top_k=9), MANY, among_top(9, recall)),
    row(lambda: m.SensitivityAtSpecificity(0.6), "binary multi-label", best_at(0.6, specificity, recall)),
    row(lambda: m.SpecificityAtSensitivity(0.6, 50), "binary", best_at(0.6, recall, specificity, 50)),
    row(lambda: m.PrecisionAtRecall(0.7), "binary labels", best_at(0.7, recall, precision)),
    row(lambda: m.RecallAtPrecision(0.6), "binary multi-label", best_at(0.6, precision, recall)),
    row(m.AUC, ANY, roc),
    row(lambda: m.AUC(20, summation_method="majoring"), "binary", lambda *a: roc(*a, 20, np.maximum)),
    row(lambda: m.AUC(20, summation_method="minoring"), "binary", lambda *a: roc(*a, 20, np.minimum)),
    row(lambda: m.AUC(curve="PR"), "binary multi-label", pr),
    row(lambda: m.AUC(multi_label=True), "multi-label", by_label(roc)),
    row(
        lambda: m.AUC(multi_label=True, num_labels=3, label_weights=LABEL_WEIGHTS), "multi-label",
        by_label(roc, LABEL_WEIGHTS),
    ),
    row(m.ConfusionMatrix, "binary labels one-hot", matrix),
    row(m.MatthewsCorrelation, "binary labels one-hot", matthews),
    row(lambda: m.IoU(3, [0, 2], sparse_y_pred=False), "labels", iou_of_scores([0, 2])),
    row(lambda: m.MeanIoU(3, sparse_y_pred=False), "labels", iou_of_scores(range(3))),
    row(lambda: m.OneHotIoU(3, [1]), "one-hot", iou_of_scores([1])),
    row(lambda: m.OneHotMeanIoU(3), "one-hot", iou_of_scores(range(3))),
    row(m.BinaryIoU, "binary multi-label", binary_iou(0.5)),
    row(lambda: m.BinaryIoU([1], 0.3), "binary", binary_iou(0.3, [1])),
    row(m.F1Score, ANY, fscore(None)),
    row(lambda: m.F1Score("macro", 0.5), ANY, fscore("macro", threshold=0.5)),
    row(lambda: m.FBetaScore("micro", 2.0), "labels one-hot multi-label", fscore("micro", 2.0)),
    row(lambda: m.FBetaScore("weighted", 0.5, 0.4), ANY, fscore("weighted", 0.5, 0.4)),
    row(m.RootMeanSquaredError, "numbers", lambda t, p, w: np.sqrt(mean(((t - p) ** 2).mean(1), w))),
    row(m.R2Score, "numbers", r2("uniform_average")),
    row(lambda: m.R2Score(None), "numbers", r2(None)),
    row(lambda: m.R2Score("variance_weighted_average", 2), "numbers", r2("variance_weighted_average", 2)),
    row(m.CosineSimilarity, "numbers", weighted_mean_of(cosine)),
    row(m.PearsonCorrelation, "numbers", weighted_mean_of(pearson)),
    row(m.ConcordanceCorrelation, "numbers", weighted_mean_of(concordance)),
    row(lambda: m.ExpectedCalibrationError(7), "binary labels one-hot", calibration(7)),
    row(m.Perplexity, MANY, perplexity),
    row(m.MeanSquaredError, "numbers", weighted_mean_of(lambda t, p: ((t - p) ** 2).mean(1))),
    row(m.MeanAbsoluteError, "numbers", weighted_mean_of(lambda t, p: np.abs(t - p).mean(1))),
    row(
        m.BinaryCrossentropy, "binary multi-label",
        weighted_mean_of(lambda t, p: -np.log(np.clip(np.where(t > 0.5, p, 1 - p), 1e-7, 1)).mean(1)),
    ),
    row(m.CategoricalCrossentropy, "one-hot", weighted_mean_of(log_of_truth)),
    row(m.SparseCategoricalCrossentropy, "labels", weighted_mean_of(log_of_truth)),
]  # fmt: skip

ROWS = 60
RNG = np.random.default_rng(3)


def _scores(shape):
    """Away from the thresholds that the table uses and from the edges of bins, which rounding may cross."""
    grid = (RNG.integers(0, 1000, shape) + 0.37) / 1000
    return np.where(np.abs(grid * 199 - np.round(grid * 199)) < 0.02, grid + 0.0004, grid)


def _data(kind):
    if kind == "binary":
        return (RNG.random((ROWS, 1)) < 0.4) * 1.0, _scores((ROWS, 1))
    if kind == "multi-label":
        return (RNG.random((ROWS, 3)) < 0.4) * 1.0, _scores((ROWS, 3))
    if kind == "numbers":
        t = RNG.standard_normal((ROWS, 3))
        return t, t + RNG.standard_normal((ROWS, 3)) * [0.3, 0.6, 1.2]
    labels = RNG.integers(3, size=ROWS)
    p = RNG.dirichlet(np.ones(3), ROWS)
    return (labels, p) if kind == "labels" else (np.eye(3)[labels], p)


def _perfect(t, p, kind):
    if kind == "numbers":
        return t, t
    return t, (np.eye(3)[t] if kind == "labels" else t) * 0.86 + 0.07


def _wrong(t, p, kind):
    if kind == "numbers":
        return t, -t
    right = np.eye(3)[t] if kind == "labels" else t
    return t, (1 - right) * 0.86 + 0.07


def _absent(t, p, kind):
    """The class 1, or whatever is on, never occurs; nor does a number vary."""
    if kind == "labels":
        return np.where(t == 1, 2, t), p
    if kind == "one-hot":
        return np.eye(3)[np.where(t.argmax(1) == 1, 2, t.argmax(1))], p
    return np.full_like(t, 1.0 if kind == "numbers" else 0.0), p


def cases(kind: str) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Targets, predictions and weights, in float64, by name."""
    t, p = _data(kind)
    weights = RNG.integers(1, 9, ROWS) / 4
    return {
        "random": (t, p, None),
        "perfect": (*_perfect(t, p, kind), None),
        "all wrong": (*_wrong(t, p, kind), None),
        "absent": (*_absent(t, p, kind), None),
        "one": (t[:1], p[:1], None),
        "empty": (t[:0], p[:0], None),
        "weighted": (t, p, weights),
        "some weights 0": (t, p, weights * (np.arange(ROWS) % 3 > 0)),
        "all weights 0": (t, p, weights * 0),
    }


DATA = {kind: cases(kind) for kind in ("binary", "labels", "one-hot", "multi-label", "numbers")}


def expected(row: Row, t: np.ndarray, p: np.ndarray, w: np.ndarray | None) -> Any:
    return row.formula(t, p, np.ones(len(t)) if w is None else w)
