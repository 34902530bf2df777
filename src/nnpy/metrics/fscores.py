"""F-scores: precision and recall of every output as one number."""

from __future__ import annotations

import numpy as np

from nnpy import ops
from nnpy.checks import real, shown
from nnpy.metrics.base import Accumulator, Metric, element_weights, outputs, probabilities, truths
from nnpy.metrics.thresholds import ratio
from nnpy.ops import effects

_AVERAGES = (None, "micro", "macro", "weighted")
_SUMS = ("both", "true", "predicted")


class FBetaScore(Metric):
    """(1 + beta²) precision recall / (beta² precision + recall) of every output; 0 where both are 0.

    ``average``: None: an array of the outputs; "micro": of all decisions together; "macro": their mean; "weighted":
    weighted by how often each is true. ``threshold=None``: of each row the largest output is predicted (all of several
    equal ones; none of a row of zeros); else all above it. ``y_true``: (n, ..., outputs), 0 or 1, or class numbers.

    >>> import nnpy as nn
    >>> metric = nn.metrics.FBetaScore(average="macro", beta=2.0, threshold=0.5)
    >>> round(metric([[1, 1, 1], [1, 0, 0], [1, 1, 0]], [[0.2, 0.6, 0.7], [0.2, 0.6, 0.6], [0.6, 0.8, 0.0]]), 4)
    0.709
    """

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = "fbeta_score",
    ):
        super().__init__(name)
        who = type(self).__name__
        if average not in _AVERAGES:
            known = ", ".join(map(repr, _AVERAGES))
            raise ValueError(f"{who}: expected average to be one of {known}, got {shown(average)}")
        self.average = average
        self.beta = real(who, "beta", beta, above=0)
        self.threshold = None if threshold is None else real(who, "threshold", threshold)
        self.direction = None if average is None else "max"

    def accumulators(self, output_shape):
        return {name: Accumulator((outputs(self, output_shape),)) for name in _SUMS}

    def update(self, variables, y_true, y_pred, weights=None):
        truth = truths(self, y_true, y_pred)
        if self.threshold is None:
            top = ops.max(y_pred, -1, keepdims=True)
            chosen = ops.logical_and(ops.greater_equal(y_pred, top), ops.greater(ops.abs(y_pred), 1e-9))
        else:
            chosen = ops.greater(probabilities(self, y_pred), self.threshold)
        chosen = ops.cast(chosen, "real")
        values = {"both": ops.multiply(truth, chosen), "true": truth, "predicted": chosen}
        weight = element_weights(weights, y_pred)
        rows, places = tuple(range(y_pred.rank - 1)), ops.constant(np.arange(y_pred.shape[-1], dtype=np.int32))
        return [
            effects.accumulate_at(
                variables[name], places, ops.sum(value if weight is None else ops.multiply(value, weight), rows)
            )
            for name, value in values.items()
        ]

    def compute(self, totals):
        both, true, predicted = (totals[name] for name in _SUMS)
        if self.average == "micro":
            both, true, predicted = both.sum(), true.sum(), predicted.sum()
        square = self.beta**2
        scores = ratio((1 + square) * both, square * true + predicted)
        if self.average == "macro":
            return float(scores.mean())
        if self.average == "weighted":
            return float(ratio(scores @ true, true.sum()))
        return scores if self.average is None else float(scores)


class F1Score(FBetaScore):
    """2 precision recall / (precision + recall): ``FBetaScore`` with beta 1.

    >>> import nnpy as nn
    >>> metric = nn.metrics.F1Score(threshold=0.5)
    >>> metric([[1, 1, 1], [1, 0, 0], [1, 1, 0]], [[0.2, 0.6, 0.7], [0.2, 0.6, 0.6], [0.6, 0.8, 0.0]])
    array([0.5       , 0.8       , 0.66666667])
    """

    def __init__(self, average: str | None = None, threshold: float | None = None, name: str | None = "f1_score"):
        super().__init__(average, 1.0, threshold, name)
