"""Metrics of numbers: how far predictions are off, and how they vary with the targets."""

from __future__ import annotations

import math

import numpy as np

from nnpy import ops
from nnpy.checks import integer, shown
from nnpy.graph import Tensor
from nnpy.hints import advise
from nnpy.metrics.base import Accumulator, MeanMetric, Metric, element_weights, last_size, outputs
from nnpy.metrics.thresholds import ratio
from nnpy.ops import effects


class RootMeanSquaredError(MeanMetric):
    """The root of the mean over all rows and outputs of (y_true - y_pred)^2.

    >>> import nnpy as nn
    >>> nn.metrics.RootMeanSquaredError()([[0, 1], [0, 0]], [[1, 1], [0, 0]])
    0.5
    """

    direction = "min"

    def call(self, y_true, y_pred):
        self._expect(y_true, "real", "of the output's shape")
        return ops.mean_squared_error(y_pred, y_true)

    def compute(self, totals):
        return math.sqrt(super().compute(totals))


class R2Score(Metric):
    """The coefficient of determination, 1 - sum((y_true - y_pred)^2) / sum((y_true - mean(y_true))^2), of every output.

    ``class_aggregation``: "uniform_average", "variance_weighted_average", or None: an array of the outputs.
    ``num_regressors`` p: adjusted to 1 - (1 - R²) (n - 1) / (n - p - 1), n samples (an AdviceWarning where that is
    not possible). An output whose targets are all the same has 0, or 1 where it is met exactly, as in scikit-learn.

    >>> import nnpy as nn
    >>> round(nn.metrics.R2Score()([1, 4, 3], [2, 4, 4]), 4)
    0.5714
    """

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str | None = None,
    ):
        super().__init__(name)
        known = ("uniform_average", "variance_weighted_average", None)
        if class_aggregation not in known:
            text = ", ".join(map(repr, known))
            raise ValueError(f"R2Score: expected class_aggregation to be one of {text}, got {shown(class_aggregation)}")
        self.class_aggregation = class_aggregation
        self.num_regressors = integer("R2Score", "num_regressors", num_regressors, least=0)
        self.direction = None if class_aggregation is None else "max"

    def accumulators(self, output_shape):
        count = outputs(self, output_shape)
        return {"rows": Accumulator((2,)), **{name: Accumulator((count,)) for name in ("sum", "squares", "residuals")}}

    def update(self, variables, y_true, y_pred, weights=None):
        self._expect(y_true, "real", "of the output's shape")
        weight = element_weights(weights, y_pred)
        places = ops.cast(ops.add(ops.zeros_like(y_pred), ops.constant(np.arange(last_size(y_pred)))), "int32")
        # Squares in float64, of two halves that have exact products: their sum is nearly that of the mean's square.
        large = ops.multiply(y_true, 4097.0)
        upper = ops.subtract(large, ops.subtract(large, y_true))
        lower = ops.subtract(y_true, upper)
        squares = [ops.square(upper), ops.multiply(ops.multiply(upper, lower), 2.0), ops.square(lower)]
        values = [("residuals", ops.square(ops.subtract(y_true, y_pred))), ("sum", y_true)]
        ones = ops.ones_like(y_pred[..., 0])
        counted = ones if weights is None else ops.broadcast_to(weights, ones.sizes)
        return [
            effects.accumulate(variables["rows"], counted, ones),
            *(
                effects.accumulate_at(
                    variables[name], places, value if weight is None else ops.multiply(value, weight)
                )
                for name, value in [*values, *(("squares", part) for part in squares)]
            ),
        ]

    def compute(self, totals):
        (weight, rows), squares, residuals = totals["rows"], totals["squares"], totals["residuals"]
        if not weight:
            return np.zeros_like(squares) if self.class_aggregation is None else 0.0
        spread = np.maximum(squares - ratio(totals["sum"] ** 2, weight), 0)
        same = spread <= (1e-12 if weight == rows else 3e-7) * squares  # up to rounding, of products with weights too
        scores = np.where(same, np.where(residuals <= 1e-12 * squares, 1.0, 0.0), 1 - ratio(residuals, spread))
        if self.class_aggregation == "uniform_average":
            scores = scores.mean()
        elif self.class_aggregation == "variance_weighted_average":
            scores = ratio(scores @ spread, spread.sum()) if spread.sum() else scores.mean()
        left = rows - self.num_regressors - 1
        if self.num_regressors and left > 0:
            scores = 1 - (1 - scores) * (rows - 1) / left
        elif self.num_regressors:
            advise(
                f"{self}: to adjust for {self.num_regressors} regressors takes more than {self.num_regressors + 1} "
                f"rows, got {int(rows)}: R² is as it is"
            )
        return scores if self.class_aggregation is None else float(scores)


class _Along(MeanMetric):
    """Base of similarities of two vectors along ``axis``, the mean over all others."""

    direction = "max"

    def __init__(self, name: str | None = None, *, axis: int = -1):
        super().__init__(name)
        self.axis = integer(type(self).__name__, "axis", axis)

    def call(self, y_true, y_pred):
        self._expect(y_true, "real", "of the output's shape")
        if self.axis == 0 or not 1 - y_pred.rank <= self.axis < y_pred.rank:
            raise ValueError(f"{self}: expected an axis of {y_pred.shape}, and not the batch, got {self.axis}")
        return self._similarity(y_true, y_pred)

    def _similarity(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        raise NotImplementedError

    def _cosine(self, x: Tensor, y: Tensor) -> Tensor:
        """0 where one of them is 0."""
        norms = (ops.norm(each, axis=self.axis) for each in (x, y))
        return _divided(ops.sum(ops.multiply(x, y), self.axis), ops.multiply(*norms))

    def _centred(self, x: Tensor) -> Tensor:
        return ops.subtract(x, ops.mean(x, self.axis, keepdims=True))


class CosineSimilarity(_Along):
    """sum(y_true * y_pred) / (|y_true| |y_pred|) along ``axis``, the mean over rows; 0 where one is 0. (The loss of
    this name is -1 times that.)

    >>> import nnpy as nn
    >>> round(nn.metrics.CosineSimilarity()([[0, 1], [1, 1]], [[1, 0], [1, 1]]), 6)
    0.5
    """

    def _similarity(self, y_true, y_pred):
        return self._cosine(y_true, y_pred)


class PearsonCorrelation(_Along):
    """The correlation of targets and predictions along ``axis``, the mean over rows (not over samples: of one output it
    is 0); 0 where one does not vary.

    >>> import nnpy as nn
    >>> round(nn.metrics.PearsonCorrelation()([[0, 1, 0.5], [1, 1, 0.2]], [[0.1, 0.9, 0.5], [1, 0.9, 0.2]]), 4)
    0.9967
    """

    def _similarity(self, y_true, y_pred):
        return self._cosine(self._centred(y_true), self._centred(y_pred))


class ConcordanceCorrelation(_Along):
    """2 cov(y_true, y_pred) / (var(y_true) + var(y_pred) + (mean(y_true) - mean(y_pred))^2) along ``axis`` (Lin,
    Biometrics 1989), the mean over rows; 0 where nothing varies.

    >>> import nnpy as nn
    >>> round(nn.metrics.ConcordanceCorrelation()([[0, 1, 0.5], [1, 1, 0.2]], [[0.1, 0.9, 0.5], [1, 0.9, 0.2]]), 4)
    0.9816
    """

    def _similarity(self, y_true, y_pred):
        x, y = self._centred(y_true), self._centred(y_pred)
        apart = ops.square(ops.subtract(ops.mean(y_true, self.axis), ops.mean(y_pred, self.axis)))
        spread = ops.add(ops.mean(ops.add(ops.square(x), ops.square(y)), self.axis), apart)
        return _divided(ops.multiply(ops.mean(ops.multiply(x, y), self.axis), 2.0), spread)


def _divided(x: Tensor, y: Tensor) -> Tensor:
    """x / y, 0 where y is 0."""
    none = ops.equal(y, 0.0)
    return ops.where(none, 0.0, ops.divide(x, ops.where(none, 1.0, y)))
