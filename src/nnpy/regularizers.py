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


class OrthogonalRegularizer(Regularizer):
    """Loss += factor * the mean of |cosine| between the rows of a matrix (``mode="rows"``) or its columns, over pairs:
    makes them orthogonal (Brock et al., ICLR 2017; as in Keras of vectors of length 1, with the mean over pairs).

    Raises ValueError for factor < 0, another mode, or a weight that is no matrix.

    >>> nn.regularizers.OrthogonalRegularizer(0.1)(np.array([[1.0, 0.0], [1.0, 1.0]])).__round__(4)
    0.0707
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows"):
        self.factor = real("OrthogonalRegularizer", "factor", factor, least=0)
        if mode not in ("rows", "columns"):
            raise ValueError(f"OrthogonalRegularizer: expected mode to be 'rows' or 'columns', got {mode!r}")
        self.mode = mode

    def penalty(self, weights):
        if weights.rank != 2:
            raise ValueError(f"OrthogonalRegularizer: expected a matrix, got a weight of shape {weights.shape}")
        vectors = weights if self.mode == "rows" else ops.transpose(weights)
        (count, _) = vectors.concrete(1)
        lengths = ops.sqrt(ops.maximum(ops.sum(ops.square(vectors), -1, keepdims=True), 1e-24))
        vectors = ops.divide(vectors, lengths)
        cosines = ops.sum(ops.abs(ops.matmul(vectors, ops.transpose(vectors))))
        own = ops.sum(ops.square(vectors))  # the diagonal
        return ops.multiply(ops.subtract(cosines, own), self.factor / max(1, count * (count - 1)))


l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer  # Keras' other names


def get(value: Any) -> Regularizer | None:
    """A regularizer from its name ("l1", "l2", "l1_l2"), class, configuration, or itself; None for None."""
    return None if value is None else find(Regularizer, value)


__all__ = [
    "L1", "L1L2", "L2", "OrthogonalRegularizer", "Regularizer", "get", "l1", "l1_l2", "l2", "orthogonal_regularizer",
]  # fmt: skip

offer(__name__, __all__)
