"""The mean and the sum of values, outside of a model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnpy.metrics.arrays import numbers
from nnpy.metrics.base import Metric


class _Reduction(Metric):
    """Base of what is told of values, not of targets and predictions."""

    def __init__(self, name: str | None = None):
        super().__init__(name)
        self._total = self._count = 0.0

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Add numbers; ``sample_weight``: of a shape that broadcasts to theirs, or of their first axes."""
        array = numbers(self, "values", np.atleast_1d(values)).astype(np.float64)
        weight = np.ones(()) if sample_weight is None else np.asarray(sample_weight, np.float64)
        if weight.ndim and weight.shape == array.shape[: weight.ndim]:
            weight = weight.reshape(*weight.shape, *[1] * (array.ndim - weight.ndim))
        try:
            weight = np.broadcast_to(weight, array.shape)
        except ValueError:
            raise ValueError(
                f"{self}: expected sample_weight that broadcasts to values of shape {array.shape}, got {weight.shape}"
            ) from None
        self._total += float((array * weight).sum())
        self._count += float(weight.sum())

    def reset_state(self) -> None:
        self._total = self._count = 0.0

    def __call__(self, values: Any, sample_weight: Any = None) -> float:  # type: ignore[override]
        self.update_state(values, sample_weight)
        return self.result()

    def accumulators(self, output_shape):
        raise TypeError(
            f"{self}: is of values by itself, update_state(values); compile() takes a function of (y_true, y_pred), "
            "and tells the mean of what it gives"
        )


class Mean(_Reduction):
    """The weighted mean of all values so far, 0 of none.

    >>> import nnpy as nn
    >>> metric = nn.metrics.Mean()
    >>> metric.update_state([1, 3, 5, 7])
    >>> metric.update_state(9, sample_weight=4)
    >>> metric.result()
    6.5
    """

    def result(self):
        return self._total / self._count if self._count else math.nan if self._total else 0.0


class Sum(_Reduction):
    """The weighted sum of all values so far.

    >>> import nnpy as nn
    >>> nn.metrics.Sum()([1, 3, 5, 7], sample_weight=[1, 1, 0, 0])
    4.0
    """

    def result(self):
        return self._total
