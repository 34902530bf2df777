"""Constraints: what a weight is made to be after every step of the optimizer, inside the compiled step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnpy import ops
from nnpy.catalogue import offer
from nnpy.checks import integer, real
from nnpy.compiler import evaluated
from nnpy.graph import Parameter, Tensor
from nnpy.registry import Configurable, find

_EPSILON = 1e-7  # a norm of 0 divides nothing (Keras)


class Constraint(Configurable):
    """Base of constraints. One of your own defines ``constrained(weights)``: what becomes of a weight, as a tensor of
    its shape made with ``nnpy.ops``. Called on an array it gives an array."""

    group = "constraint"

    def __call__(self, weights: Any) -> Any:
        if isinstance(weights, Tensor):
            return self.constrained(weights)
        return evaluated(self.constrained(Parameter(np.array(weights, np.float64), "weights")))

    def constrained(self, weights: Tensor) -> Tensor:
        """What becomes of a tensor."""
        raise NotImplementedError(f"{type(self).__name__}: a constraint must define constrained(weights)")


class NonNeg(Constraint):
    """max(w, 0)."""

    def constrained(self, weights):
        return ops.maximum(weights, 0.0)


class _OfNorms(Constraint):
    """Weights scaled by their norms over ``axis`` (or several): 0 for the kernel of a Dense is the norm of the weights
    that lead to a unit, (0, 1, 2) for that of a Conv2D."""

    axis: int | list[int]

    def _set_axis(self, axis: int | Sequence[int]) -> None:
        kind = type(self).__name__
        several = isinstance(axis, list | tuple)
        self.axis = [integer(kind, "axis", one) for one in axis] if several else integer(kind, "axis", axis)  # type: ignore

    def _norms(self, weights: Tensor) -> Tensor:
        return ops.sqrt(ops.sum(ops.square(weights), self.axis, keepdims=True))


class MaxNorm(_OfNorms):
    """Norms of at most ``max_value``: w * min(norm, max_value) / norm (Srivastava et al., JMLR 2014)."""

    def __init__(self, max_value: float = 2.0, axis: int | Sequence[int] = 0):
        self.max_value = real("MaxNorm", "max_value", max_value, least=0)
        self._set_axis(axis)

    def constrained(self, weights):
        norms = self._norms(weights)
        return ops.multiply(weights, ops.divide(ops.minimum(norms, self.max_value), ops.add(norms, _EPSILON)))


class UnitNorm(_OfNorms):
    """Norms of 1: w / norm."""

    def __init__(self, axis: int | Sequence[int] = 0):
        self._set_axis(axis)

    def constrained(self, weights):
        return ops.divide(weights, ops.add(self._norms(weights), _EPSILON))


class MinMaxNorm(_OfNorms):
    """Norms from ``min_value`` to ``max_value``, to which each step goes a share ``rate`` of the way."""

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: int | Sequence[int] = 0
    ):
        self.min_value = real("MinMaxNorm", "min_value", min_value, least=0)
        self.max_value = real("MinMaxNorm", "max_value", max_value, least=self.min_value)
        self.rate = real("MinMaxNorm", "rate", rate, least=0, most=1)
        self._set_axis(axis)

    def constrained(self, weights):
        norms = self._norms(weights)
        wanted = ops.multiply(ops.clip(norms, self.min_value, self.max_value), self.rate)
        wanted = ops.add(wanted, ops.multiply(norms, 1.0 - self.rate))
        return ops.multiply(weights, ops.divide(wanted, ops.add(norms, _EPSILON)))


max_norm, min_max_norm, non_neg, unit_norm = MaxNorm, MinMaxNorm, NonNeg, UnitNorm  # Keras' other names


def get(value: Any) -> Constraint | None:
    """A constraint from its name ("non_neg", "max_norm"), class, configuration, or itself; None for None."""
    return None if value is None else find(Constraint, value)


__all__ = [
    "Constraint", "MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm", "get", "max_norm", "min_max_norm", "non_neg",
    "unit_norm",
]  # fmt: skip

offer(__name__, __all__)
