"""Hinge losses, which ask for a margin; the divergence of distributions."""

from __future__ import annotations

from nnpy import ops
from nnpy.graph import Tensor
from nnpy.losses.base import EPSILON, _PlainLoss, refuse, within_one


class Hinge(_PlainLoss):
    """The mean over a row's outputs of max(1 - y_true y_pred, 0), targets -1 and 1, or 0 and 1, of which 0 stands for
    -1 (Cortes and Vapnik, 1995). Other targets are refused, and -1 beside 0.

    >>> Hinge()([[1.0, -1.0]], [[0.5, 1.0]])
    1.25
    """

    def call(self, y_true, y_pred):
        return ops.mean(self.missing(y_true, y_pred), -1)

    def missing(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """What each output lacks to the margin."""
        sign = ops.where(ops.equal(y_true, 0.0), -1.0, y_true)
        return ops.relu(ops.subtract(1.0, ops.multiply(sign, y_pred)))

    def check_targets(self, y, output_shape, name="y"):
        y = super().check_targets(y, output_shape, name)
        message = f"{self}: expected {name} to be -1 and 1, or 0 and 1"
        negative = y == -1
        refuse(y, ~(negative | (y == 0) | (y == 1)), message)
        if negative.any():
            refuse(y, y == 0, f"{message}, not 0 beside -1")
        return y


class SquaredHinge(Hinge):
    """The mean over a row's outputs of max(1 - y_true y_pred, 0)^2; targets as of ``Hinge``.

    >>> SquaredHinge()([[1.0, -1.0]], [[0.5, 1.0]])
    2.125
    """

    def call(self, y_true, y_pred):
        return ops.mean(ops.square(self.missing(y_true, y_pred)), -1)


class CategoricalHinge(_PlainLoss):
    """max(0, 1 + the largest score of the wrong classes, or 0, - the score of the right one), the last axis being that
    of the classes; targets are one-hot: (n, ..., classes) -> (n, ...) (Crammer and Singer, 2001).

    >>> CategoricalHinge()([[0.0, 1.0, 0.0]], [[0.5, 1.0, -1.0]])
    0.5
    """

    def call(self, y_true, y_pred):
        right = ops.sum(ops.multiply(y_true, y_pred), -1)
        wrong = ops.max(ops.multiply(ops.subtract(1.0, y_true), y_pred), -1)
        return ops.relu(ops.add(ops.subtract(wrong, right), 1.0))

    def check_targets(self, y, output_shape, name="y"):
        return within_one(self, super().check_targets(y, output_shape, name), name)


class KLDivergence(_PlainLoss):
    """sum(y_true log(y_true / y_pred)) over the last axis, of probabilities kept in [1e-7, 1]: how far y_pred is from
    y_true in nats (Kullback and Leibler, 1951). Behind a softmax log(y_pred) is computed from what goes into it.

    >>> KLDivergence()([[0.5, 0.5]], [[0.25, 0.75]])
    0.143841...
    """

    def call(self, y_true, y_pred):
        target = ops.clip(y_true, EPSILON, 1.0)
        logits = ops.losses.behind(y_pred, "softmax")
        log = ops.log(ops.clip(y_pred, EPSILON, 1.0)) if logits is None else ops.log_softmax(logits)
        return ops.sum(ops.multiply(target, ops.subtract(ops.log(target), log)), -1)

    def check_targets(self, y, output_shape, name="y"):
        return within_one(self, super().check_targets(y, output_shape, name), name)
