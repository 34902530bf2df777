"""Losses of numbers: what two of them differ by, the mean over a row's outputs; and of directions."""

from __future__ import annotations

import math

from nnpy import ops
from nnpy.checks import integer, real
from nnpy.graph import Tensor
from nnpy.losses.base import EPSILON, Loss, _PlainLoss, at_least, last, refuse


class MeanSquaredError(_PlainLoss):
    """The mean over a row's outputs of (y_true - y_pred)^2, (n, ..., outputs) -> (n, ...).

    >>> MeanSquaredError()([[0.0, 1.0]], [[1.0, 1.0]])
    0.5
    """

    def call(self, y_true, y_pred):
        return ops.mean_squared_error(y_pred, y_true)


class MeanAbsoluteError(_PlainLoss):
    """The mean over a row's outputs of |y_true - y_pred|, (n, ..., outputs) -> (n, ...).

    >>> MeanAbsoluteError()([[0.0, 1.0]], [[2.0, 1.0]])
    1.0
    """

    def call(self, y_true, y_pred):
        return ops.mean(ops.abs(ops.subtract(y_pred, y_true)), -1)


class MeanAbsolutePercentageError(_PlainLoss):
    """100 times the mean over a row's outputs of |y_true - y_pred| / max(|y_true|, 1e-7): targets of 0 make it huge.

    >>> MeanAbsolutePercentageError()([[2.0, 4.0]], [[1.0, 4.0]])
    25.0
    """

    def call(self, y_true, y_pred):
        shares = ops.divide(ops.subtract(y_pred, y_true), at_least(ops.abs(y_true), EPSILON))
        return ops.multiply(ops.mean(ops.abs(shares), -1), 100.0)


class MeanSquaredLogarithmicError(_PlainLoss):
    """The mean over a row's outputs of (log(1 + y_true) - log(1 + y_pred))^2, of numbers below 1e-7 that of 1e-7: of
    counts and prices, where a factor matters and not a difference.

    >>> MeanSquaredLogarithmicError()([[0.0, 1.0]], [[0.0, 3.0]])  # log(2)^2 / 2
    0.240226...
    """

    def call(self, y_true, y_pred):
        logs = [ops.log1p(at_least(each, EPSILON)) for each in (y_pred, y_true)]
        return ops.mean(ops.square(ops.subtract(*logs)), -1)


class Huber(Loss):
    """The mean over a row's outputs of e^2 / 2 where |e| <= delta, e = y_true - y_pred, and of delta (|e| - delta / 2)
    elsewhere: outliers pull with no more than ``delta`` (Huber, 1964). ValueError unless ``delta`` > 0.

    >>> Huber()([[0.0, 0.0]], [[1.0, 3.0]])  # (1 / 2 + 5 / 2) / 2
    1.5
    """

    def __init__(
        self, delta: float = 1.0, reduction: str | None = "sum_over_batch_size", name: str | None = None
    ):  # fmt: skip
        super().__init__(name or "huber_loss", reduction)
        self.delta = real("Huber", "delta", delta, above=0)

    def call(self, y_true, y_pred):
        error = ops.subtract(y_pred, y_true)
        near = ops.clip(error, -self.delta, self.delta)
        return ops.mean(ops.multiply(near, ops.subtract(error, ops.multiply(near, 0.5))), -1)


class LogCosh(_PlainLoss):
    """The mean over a row's outputs of log(cosh(y_pred - y_true)): e^2 / 2 near 0, |e| - log(2) far from it. Written as
    |e| + log(1 + exp(-2 |e|)) - log(2), so that no error is too large.

    >>> LogCosh()([[0.0, 0.0]], [[0.0, 1000.0]])
    499.653426...
    """

    def call(self, y_true, y_pred):
        distance = ops.abs(ops.subtract(y_pred, y_true))
        far = ops.activation(ops.multiply(distance, -2.0), "softplus")
        return ops.mean(ops.subtract(ops.add(distance, far), math.log(2.0)), -1)


class Quantile(Loss):
    """The mean over a row's outputs of max(q e, (q - 1) e), e = y_true - y_pred: the pinball loss, which the ``q``
    quantile of the targets makes smallest, 0.5 the median (Koenker and Bassett, 1978). ValueError unless 0 < q < 1.

    >>> Quantile(0.75)([[1.0, 1.0]], [[0.0, 3.0]])  # (0.75 + 0.25 * 2) / 2
    0.625
    """

    def __init__(self, q: float = 0.5, reduction: str | None = "sum_over_batch_size", name: str | None = None):
        super().__init__(name, reduction)
        self.q = real("Quantile", "q", q, above=0, below=1)

    def call(self, y_true, y_pred):
        error = ops.subtract(y_true, y_pred)
        return ops.mean(ops.maximum(ops.multiply(error, self.q), ops.multiply(error, self.q - 1.0)), -1)


class Poisson(_PlainLoss):
    """The mean over a row's outputs of y_pred - y_true log(y_pred + 1e-7): the negative log-likelihood of counts whose
    rate is y_pred, without what the targets alone decide. For outputs that are never negative (``softplus``,
    ``exponential``); targets below 0 are refused.

    >>> Poisson()([[2.0, 0.0]], [[1.0, 3.0]])
    1.9999999...
    """

    def call(self, y_true, y_pred):
        return ops.mean(ops.subtract(y_pred, ops.multiply(y_true, ops.log(ops.add(y_pred, EPSILON)))), -1)

    def check_targets(self, y, output_shape, name="y"):
        y = super().check_targets(y, output_shape, name)
        refuse(y, y < 0, f"{self}: expected {name} to be counts of 0 or more")
        return y


class CosineSimilarity(Loss):
    """-cos of the angle between y_true and y_pred along ``axis``: -1 for the same direction, 0 for a right angle or a
    vector of zeros, 1 for opposite ones.

    >>> CosineSimilarity()([[0.0, 2.0], [1.0, 0.0]], [[0.0, 1.0], [-3.0, 0.0]])
    0.0
    """

    def __init__(
        self, axis: int = -1, reduction: str | None = "sum_over_batch_size", name: str | None = None
    ):  # fmt: skip
        super().__init__(name, reduction)
        self.axis = integer("CosineSimilarity", "axis", axis)

    def call(self, y_true, y_pred):
        target, predicted = (last(self, self.axis, tensor) for tensor in (y_true, y_pred))
        product = ops.negative(ops.sum(ops.multiply(target, predicted), -1))
        return ops.multiply(ops.multiply(product, _scale(target)), _scale(predicted))


def _scale(x: Tensor) -> Tensor:
    """What makes rows one long: 1 / their norm, of 1e-12 at least."""
    return ops.rsqrt(at_least(ops.sum(ops.square(x), -1), 1e-24))
