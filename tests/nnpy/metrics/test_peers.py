"""Metrics against scikit-learn's and Keras's own, where these are installed: the table's formulas are ours."""

import numpy as np
import pytest
from metrictable import DATA, TABLE

from nnpy import metrics

CASES = ("random", "weighted", "some weights 0", "perfect", "all wrong", "absent")
# What Keras has not, what ours differs in on purpose (docs/from-keras.md), or what Keras refuses (k of fewer classes).
OURS = ("ConfusionMatrix", "Matthews", "Calibration", "Perplexity", " Accuracy(", "num_regressors=2", "k=5",
        "top_k=9")  # fmt: skip
# Correlations are NaN in Keras where nothing varies; an R² of targets all the same is 0 there, and 1 in scikit-learn.
CONSTANT = ("R2Score", "Pearson", "Concordance")
KERAS = [(row, kind) for row in TABLE for kind in row.kinds.split()
         if not any(name in f" {row}" for name in OURS)]  # fmt: skip


def theirs(keras, ours):
    """The same metric of Keras's, from the configuration."""
    config = {key: value for key, value in ours.get_config().items() if value is not None or key == "average"}
    if config.get("thresholds") and type(ours).__name__ == "AUC":
        del config["num_thresholds"]
    if type(ours).__name__ == "BinaryCrossentropy":
        del config["axis"]
    if getattr(ours, "class_aggregation", "") is None:
        config["class_aggregation"] = None
    return getattr(keras.metrics, type(ours).__name__)(**config, dtype="float64")


@pytest.mark.parametrize("row, kind", KERAS, ids=[f"{row}-{kind}" for row, kind in KERAS])
def test_keras(row, kind):
    keras = pytest.importorskip("keras")
    ours = row.make()
    sparse = "Sparse" in str(row) or "IoU" in str(row)
    by_element = not isinstance(ours, metrics.MeanMetric | metrics.FBetaScore | metrics.R2Score | metrics.IoU)
    for name in CASES:
        t, p, w = DATA[kind][name]
        if name in ("absent", "all wrong") and any(part in str(row) for part in CONSTANT):
            continue
        given = np.eye(3)[t] if kind == "labels" and not sparse else t
        weight = w
        if w is not None and by_element and getattr(ours, "class_id", None) is None:
            weight = np.repeat(w[:, None], p.shape[1], 1)
        if isinstance(ours, metrics.BinaryIoU):
            given, p, weight = given.ravel(), p.ravel(), None if weight is None else weight.ravel()
        metric = theirs(keras, ours)
        metric.update_state(given, p, sample_weight=weight)
        found = np.asarray(metric.result())
        np.testing.assert_allclose(found, row.make()(t, *DATA[kind][name][1:]), rtol=1e-5, atol=1e-5, err_msg=name)


def test_scikit_learn():
    sk = pytest.importorskip("sklearn.metrics")
    t, p, w = DATA["binary"]["weighted"]
    labels, scores, _ = DATA["labels"]["weighted"]
    found, on = scores.argmax(1), p[:, 0] > 0.5
    multi, several, _ = DATA["multi-label"]["weighted"]
    x, y, _ = DATA["numbers"]["weighted"]
    m, beta = metrics, {"average": None, "beta": 2, "sample_weight": w, "zero_division": 0}
    for ours, wanted in (
        (m.AUC(None)(t, p, w), sk.roc_auc_score(t, p, sample_weight=w)),
        (m.AUC(None, "PR")(t, p, w), sk.average_precision_score(t, p, sample_weight=w)),
        (m.AUC(None, multi_label=True)(multi, several, w), sk.roc_auc_score(multi, several, sample_weight=w)),
        (m.Precision()(t, p, w), sk.precision_score(t, on, sample_weight=w)),
        (m.Recall()(t, p, w), sk.recall_score(t, on, sample_weight=w)),
        (m.F1Score("macro")(labels, scores, w), sk.f1_score(labels, found, average="macro", sample_weight=w)),
        (m.F1Score("weighted")(labels, scores, w), sk.f1_score(labels, found, average="weighted", sample_weight=w)),
        (m.FBetaScore(None, 2.0, 0.5)(multi, several, w), sk.fbeta_score(multi, several > 0.5, **beta)),
        (m.MatthewsCorrelation()(labels, scores, w), sk.matthews_corrcoef(labels, found, sample_weight=w)),
        (m.MatthewsCorrelation()(t, p, w), sk.matthews_corrcoef(t[:, 0], on, sample_weight=w)),
        (m.ConfusionMatrix()(labels, scores, w), sk.confusion_matrix(labels, found, sample_weight=w)),
        (m.MeanIoU(3, sparse_y_pred=False)(labels, scores), sk.jaccard_score(labels, found, average="macro")),
        (m.TopKCategoricalAccuracy(2)(np.eye(3)[labels], scores, w), sk.top_k_accuracy_score(
            labels, scores, k=2, sample_weight=w)),
        (m.CategoricalCrossentropy()(np.eye(3)[labels], scores, w), sk.log_loss(labels, scores, sample_weight=w)),
        (m.R2Score()(x, y, w), sk.r2_score(x, y, sample_weight=w)),
        (m.R2Score(None)(x, y, w), sk.r2_score(x, y, sample_weight=w, multioutput="raw_values")),
        (m.R2Score("variance_weighted_average")(x, y, w), sk.r2_score(
            x, y, sample_weight=w, multioutput="variance_weighted")),
        (m.R2Score()([2, 2, 2], [2, 2, 2]), sk.r2_score([2, 2, 2], [2, 2, 2])),
        (m.RootMeanSquaredError()(x, y, w), sk.mean_squared_error(x, y, sample_weight=w) ** 0.5),
        (m.MeanAbsoluteError()(x, y, w), sk.mean_absolute_error(x, y, sample_weight=w)),
    ):  # fmt: skip
        np.testing.assert_allclose(ours, wanted, rtol=1e-9)
