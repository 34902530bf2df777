"""Metrics: accumulators that a compiled step adds to, and what their totals mean. And reports on predictions.

Names, order and defaults are Keras 3's. A metric is given to ``compile``, by name or as an object, or used by itself on
arrays: ``update_state``, ``result``, ``reset_state``.
"""

from __future__ import annotations

import inspect
from typing import Any

from nnpy import losses
from nnpy.catalogue import offer
from nnpy.losses.base import is_function, refuse_function
from nnpy.metrics.accuracies import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)
from nnpy.metrics.auc import AUC
from nnpy.metrics.base import ALIASES, Accumulator, FunctionMetric, MeanMetric, Metric
from nnpy.metrics.fscores import F1Score, FBetaScore
from nnpy.metrics.matrices import (
    BinaryIoU,
    ConfusionMatrix,
    IoU,
    MatthewsCorrelation,
    MeanIoU,
    OneHotIoU,
    OneHotMeanIoU,
)
from nnpy.metrics.of_losses import LossMetric, of_loss
from nnpy.metrics.probabilities import ExpectedCalibrationError, Perplexity
from nnpy.metrics.reductions import Mean, Sum
from nnpy.metrics.regression import (
    ConcordanceCorrelation,
    CosineSimilarity,
    PearsonCorrelation,
    R2Score,
    RootMeanSquaredError,
)
from nnpy.metrics.reports import classification_report, confusion_matrix
from nnpy.metrics.scalar import CUSTOM, custom
from nnpy.metrics.thresholds import (
    FalseNegatives,
    FalsePositives,
    Precision,
    PrecisionAtRecall,
    Recall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
    TrueNegatives,
    TruePositives,
)
from nnpy.registry import find

# Every loss is a metric, but where a metric of its own has the name.
OF_LOSSES = {
    made.__name__: made
    for name in losses.__all__
    if name not in globals() and isinstance(found := getattr(losses, name), type) and issubclass(found, losses.Loss)
    if found is not losses.Loss
    for made in [of_loss(found)]
}
globals().update(OF_LOSSES)


def get(value: Any) -> Metric:
    """A metric from its name ("accuracy", "mse"), class, configuration, or itself. A name given becomes its name."""
    if inspect.isfunction(value) and value in losses.CLASSES:
        value = value.__name__
    if is_function(value):
        return FunctionMetric(value)
    if isinstance(value, str) and value in CUSTOM:
        return CUSTOM[value]
    refuse_function("metric", Metric, value, "call(self, y_true, y_pred)")
    metric = find(Metric, value, ALIASES)
    if isinstance(value, str):
        metric.name = value
    return metric


__all__ = [
    "AUC", "Accumulator", "Accuracy", "BinaryAccuracy", "BinaryIoU", "CategoricalAccuracy", "ConcordanceCorrelation",
    "ConfusionMatrix", "CosineSimilarity", "ExpectedCalibrationError", "F1Score", "FBetaScore", "FalseNegatives",
    "FalsePositives", "FunctionMetric", "IoU", "LossMetric", "MatthewsCorrelation", "Mean", "MeanIoU", "MeanMetric",
    "Metric", "OneHotIoU", "OneHotMeanIoU", "PearsonCorrelation", "Perplexity", "Precision", "PrecisionAtRecall",
    "R2Score", "Recall", "RecallAtPrecision", "RootMeanSquaredError", "SensitivityAtSpecificity",
    "SparseCategoricalAccuracy", "SparseTopKCategoricalAccuracy", "SpecificityAtSensitivity", "Sum",
    "TopKCategoricalAccuracy", "TrueNegatives", "TruePositives", "classification_report", "confusion_matrix", "custom",
    "get",
    *OF_LOSSES,
]  # fmt: skip

offer(__name__, __all__)
