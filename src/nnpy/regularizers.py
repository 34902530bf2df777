"""Regularizers: penalties on weights, added to the loss."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from nnpy import ops
from nnpy.catalogue import offer
from nnpy.checks import real
from nnpy.compiler import evaluated
from nnpy.graph import Parameter, Tensor
from nnpy.registry import Configurable, find


class Regularizer(Configurable):
    """Base of regularizers. ``__call__`` gives the penalty that a weight adds to the loss, as a tensor of shape () made
    with ``nnpy.ops``; its gradient follows. On an array it gives a number."""

    group = "regularizer"

    def __call__(self, weights: Any) -> Any:
        if isinstance(weights, Tensor):
            return self.penalty(weights)
        weights = Parameter(np.array(weights, np.float64), "weights")
        return float(evaluated(self.penalty(weights)))

    def penalty(self, weights: Tensor) -> Tensor:
        """The penalty of a tensor."""
        raise NotImplementedError(f"{type(self).__name__}: a regularizer must define penalty(weights)")


class _L1L2(Regularizer):
    """l1 * sum(|w|) + l2 * sum(w^2)."""

    l1: float = 0.0
    l2: float = 0.0

    def penalty(self, weights):
        parts = []
        if self.l1:
            parts.append(ops.multiply(ops.sum(ops.abs(weights)), self.l1))
        if self.l2:
            parts.append(ops.multiply(ops.sum(ops.square(weights)), self.l2))
        return reduce(ops.add, parts) if parts else ops.full((), 0.0)


class L1(_L1L2):
    """Loss += l1 * sum(|w|): drives weights to zero (lasso; Tibshirani 1996). ValueError if l1 < 0."""

    def __init__(self, l1: float = 0.01):
        self.l1 = real("L1", "l1", l1, least=0)


class L2(_L1L2):
    """Loss += l2 * sum(w^2): keeps weights small (ridge; Hoerl & Kennard 1970). ValueError if l2 < 0."""

    def __init__(self, l2: float = 0.01):
        self.l2 = real("L2", "l2", l2, least=0)


class L1L2(_L1L2):
    """Loss += l1 * sum(|w|) + l2 * sum(w^2) (elastic net; Zou & Hastie 2005)."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0):
        self.l1 = real("L1L2", "l1", l1, least=0)
        self.l2 = real("L1L2", "l2", l2, least=0)


l1, l2, l1_l2 = L1, L2, L1L2  # Keras' other names


def get(value: Any) -> Regularizer | None:
    """A regularizer from its name ("l1", "l2", "l1_l2"), class, configuration, or itself; None for None."""
    return None if value is None else find(Regularizer, value)


__all__ = ["L1", "L1L2", "L2", "Regularizer", "get", "l1", "l1_l2", "l2"]

offer(__name__, __all__)
