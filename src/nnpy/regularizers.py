"""Regularizers: penalties on weights, added to the loss: l1 * sum(|w|) + l2 * sum(w^2)."""

from __future__ import annotations

from typing import Any

from nnpy.checks import real
from nnpy.graph import Parameter
from nnpy.registry import Configurable, find


class Regularizer(Configurable):
    """Base of regularizers: ``apply`` marks a parameter; the compiled step adds the penalty and its gradient."""

    group = "regularizer"
    l1: float = 0.0
    l2: float = 0.0

    def apply(self, parameter: Parameter) -> None:
        parameter.l1, parameter.l2 = self.l1, self.l2

    def __call__(self, weights) -> float:
        """The penalty of an array."""
        import numpy as np

        weights = np.asarray(weights, np.float64)
        return float(self.l1 * np.abs(weights).sum() + self.l2 * np.square(weights).sum())


class L1(Regularizer):
    """Loss += l1 * sum(|w|): drives weights to zero (lasso; Tibshirani 1996). ValueError if l1 < 0."""

    def __init__(self, l1: float = 0.01):
        self.l1 = real("L1", "l1", l1, least=0)


class L2(Regularizer):
    """Loss += l2 * sum(w^2): keeps weights small (ridge; Hoerl & Kennard 1970). ValueError if l2 < 0."""

    def __init__(self, l2: float = 0.01):
        self.l2 = real("L2", "l2", l2, least=0)


class L1L2(Regularizer):
    """Loss += l1 * sum(|w|) + l2 * sum(w^2) (elastic net; Zou & Hastie 2005)."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0):
        self.l1 = real("L1L2", "l1", l1, least=0)
        self.l2 = real("L1L2", "l2", l2, least=0)


def get(value: Any) -> Regularizer | None:
    """A regularizer from its name ("l1", "l2", "l1_l2"), class, configuration, or itself; None for None."""
    return None if value is None else find(Regularizer, value)


__all__ = ["L1", "L1L2", "L2", "Regularizer", "get"]
