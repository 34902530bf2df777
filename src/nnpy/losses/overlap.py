"""Losses of how far two regions overlap, for segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnpy import ops
from nnpy.checks import integer, real, several
from nnpy.losses.base import EPSILON, Loss, within_one


class _Overlap(Loss):
    """Sums over ``axis``: one or several, None for all, the batch included."""

    axis: int | tuple[int, ...] | None

    def _over(self, axis: int | Sequence[int] | None) -> int | tuple[int, ...] | None:
        who = type(self).__name__
        if axis is None or isinstance(axis, int):
            found = None if axis is None else integer(who, "axis", axis)
            self.of_batch = found in (None, 0)
            return found
        axes = tuple(integer(who, "axis", each) for each in several(who, "axis", axis))
        self.of_batch = 0 in axes
        return axes

    def _sum(self, x: Any) -> Any:
        return ops.sum(x, axis=self.axis)

    def check_targets(self, y, output_shape, name="y"):
        return within_one(self, super().check_targets(y, output_shape, name), name)


class Dice(_Overlap):
    """1 - 2 sum(y_true y_pred) / (sum(y_true) + sum(y_pred) + 1e-7), sums over ``axis`` (Dice, 1945; Milletari et al.,
    2016). Targets in [0, 1] of the output's shape; outputs are probabilities.

    ``axis=None``, Keras's default, sums over the whole batch; of masks (n, height, width, classes) ``axis=(1, 2)``
    gives a loss for each sample and class, ``(1, 2, 3)`` one for each sample.

    >>> Dice(axis=-1)([[1.0, 1.0, 0.0, 0.0]], [[1.0, 0.0, 1.0, 0.0]])
    0.50000001...
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        axis: int | Sequence[int] | None = None,
    ):
        super().__init__(name, reduction)
        self.axis = self._over(axis)

    def call(self, y_true, y_pred):
        both = self._sum(ops.multiply(y_true, y_pred))
        total = ops.add(ops.add(self._sum(y_true), self._sum(y_pred)), EPSILON)
        return ops.subtract(1.0, ops.divide(ops.multiply(both, 2.0), total))


class Tversky(_Overlap):
    """1 - I / (I + alpha sum(y_true (1 - y_pred)) + beta sum((1 - y_true) y_pred) + 1e-7), I = sum(y_true y_pred), sums
    over ``axis`` (Tversky, 1977; Salehi et al., 2017): as in Keras ``alpha`` weighs what is missed and ``beta`` what is
    found and not there; 0.5 and 0.5 are ``Dice``. Targets and ``axis`` as there. ValueError for weights below 0.

    >>> Tversky(alpha=0.75, beta=0.25, axis=-1)([[1.0, 1.0, 1.0, 0.0]], [[1.0, 0.0, 0.0, 0.0]])  # 1 - 1 / 2.5
    0.60000001...
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        axis: int | Sequence[int] | None = None,
    ):
        super().__init__(name, reduction)
        self.alpha = real("Tversky", "alpha", alpha, least=0)
        self.beta = real("Tversky", "beta", beta, least=0)
        self.axis = self._over(axis)

    def call(self, y_true, y_pred):
        both = self._sum(ops.multiply(y_true, y_pred))
        missed = self._sum(ops.multiply(y_true, ops.subtract(1.0, y_pred)))
        extra = self._sum(ops.multiply(ops.subtract(1.0, y_true), y_pred))
        total = ops.add(both, ops.add(ops.multiply(missed, self.alpha), ops.multiply(extra, self.beta)))
        return ops.subtract(1.0, ops.divide(both, ops.add(total, EPSILON)))
