"""Metrics of probabilities: calibration and perplexity."""

from __future__ import annotations

import math

import numpy as np

from nnpy import losses, ops
from nnpy.checks import flag, integer
from nnpy.metrics.base import Accumulator, MeanMetric, Metric, labels_of, probabilities, row_weights, truths
from nnpy.metrics.thresholds import ratio
from nnpy.ops import effects


class ExpectedCalibrationError(Metric):
    """How far confidence is from being right: the mean over ``num_bins`` equal bins of confidence of |share of right
    rows - mean confidence|, weighted by their rows (Guo et al., ICML 2017). *Ours.*

    ``y_pred``: (n, ..., classes), probabilities, of which the largest is the confidence, or (n, ..., 1): the
    probability of being 1, itself; under a loss with ``from_logits=True`` logits. ``y_true``: class numbers, or of the
    predictions' shape.

    >>> import nnpy as nn
    >>> round(nn.metrics.ExpectedCalibrationError(num_bins=2)([0, 1, 1, 1], [0.25, 0.35, 0.75, 0.85]), 6)
    0.2
    """

    direction = "min"

    def __init__(self, num_bins: int = 15, name: str | None = None):
        super().__init__(name)
        self.num_bins = integer("ExpectedCalibrationError", "num_bins", num_bins, least=1)

    def accumulators(self, output_shape):
        return {name: Accumulator((self.num_bins,)) for name in ("rows", "confidence", "right")}

    def update(self, variables, y_true, y_pred, weights=None):
        scores = probabilities(self, y_pred)
        if y_pred.shape[-1] == 1:
            confidence, right = scores[..., 0], truths(self, y_true, y_pred)[..., 0]
        else:
            confidence = ops.max(scores, -1)
            right = ops.correct(y_pred, labels_of(self, y_true) if y_true.kind == "index" else y_true)
        bins = ops.subtract(ops.ceil(ops.multiply(ops.minimum(confidence, 1.0), float(self.num_bins))), 1.0)
        places = ops.cast(ops.where(ops.greater(confidence, 0.0), bins, 0.0), "int32")
        weights = row_weights(weights, confidence)
        values = {"rows": None, "confidence": confidence, "right": right}
        made = []
        for name, value in values.items():
            if weights is not None:
                value = weights if value is None else ops.multiply(value, weights)
            made.append(effects.accumulate_at(variables[name], places, value))
        return made

    def compute(self, totals):
        rows = totals["rows"].sum()
        return float(ratio(np.abs(totals["confidence"] - totals["right"]).sum(), rows))


class Perplexity(MeanMetric):
    """exp of the mean cross-entropy of rows: of a language model, among how many tokens it seems to choose. *Ours.*

    ``y_true``: class numbers, of which ``ignore_class`` does not count, or one-hot; ``y_pred``: (n, ..., classes),
    probabilities, or logits with ``from_logits``, or under a loss with ``from_logits=True``.

    >>> import nnpy as nn
    >>> round(nn.metrics.Perplexity()([0, 1], [[0.25, 0.75], [0.75, 0.25]]), 4)
    4.0
    """

    direction = "min"
    _takes_classes = True

    def __init__(self, from_logits: bool = False, ignore_class: int | None = None, name: str | None = None):
        super().__init__(name)
        self.from_logits = flag("Perplexity", "from_logits", from_logits)
        self.ignore_class = None if ignore_class is None else integer("Perplexity", "ignore_class", ignore_class)

    def _loss(self, y_true):
        logits = self.from_logits or self._link is not None
        if y_true.kind == "real":
            return losses.CategoricalCrossentropy(logits)
        ignored = self._ignored if self.ignore_class is None else self.ignore_class
        return losses.SparseCategoricalCrossentropy(logits, ignored)

    def call(self, y_true, y_pred):
        return self._loss(y_true).call(y_true, y_pred)

    def valid(self, y_true):
        return self._loss(y_true).valid(y_true)

    def compute(self, totals):
        total, count = totals["mean"]
        return math.exp(min(total / count, 709.0)) if count else 0.0
