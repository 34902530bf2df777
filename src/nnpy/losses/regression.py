"""Losses of numbers."""

from __future__ import annotations

from nnpy import ops
from nnpy.losses.base import Loss


class _Regression(Loss):
    """The mean over a row's outputs, the last axis, of what two numbers differ by."""

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = None):
        super().__init__(name, reduction)


class MeanSquaredError(_Regression):
    """The mean over a row's outputs of (y_true - y_pred)^2."""

    def call(self, y_true, y_pred):
        return ops.mean_squared_error(y_pred, y_true)


class MeanAbsoluteError(_Regression):
    """The mean over a row's outputs of |y_true - y_pred|."""

    def call(self, y_true, y_pred):
        return ops.mean(ops.abs(ops.subtract(y_pred, y_true)), -1)
