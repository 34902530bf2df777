"""Functions made of others: norms, tensors like others, and what stops a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnpy.graph import Dim, Tensor, apply
from nnpy.ops import constants
from nnpy.ops import elementwise as e
from nnpy.ops.broadcasting import sum
from nnpy.ops.indexing import to_real
from nnpy.ops.reduce import max
from nnpy.ops.shape import Unchanged


class _StopGradient(Unchanged):
    name = "stop_gradient"


_STOP_GRADIENT = _StopGradient()


def stop_gradient(x: Tensor) -> Tensor:
    """``x``, of which no gradient goes back."""
    return apply(_STOP_GRADIENT, [x])


def norm(x: Tensor, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The vector norm over ``axis`` (None: of all elements): ord 2 or None, 1, or inf. ValueError for another one. At
    0 the gradient is 0, one of the subgradients, as PyTorch's; Keras gives NaN there for ord 2."""
    if ord in (None, 2, "fro", "euclidean"):
        return e.root(sum(e.square(x), axis, keepdims))
    if ord == 1:
        return sum(e.abs(x), axis, keepdims)
    if ord == float("inf"):
        return max(e.abs(x), axis, keepdims)
    raise ValueError(f"norm: expected ord to be None, 1, 2 or inf, got {ord!r}")


def full(shape: Sequence[Any], fill_value: float) -> Tensor:
    """``fill_value`` in a shape; None is the batch. ValueError for a size below 0 and a value that is not finite."""
    sizes = [Dim() if size is None else size for size in shape]
    for size in sizes:
        if not isinstance(size, Dim) and not (isinstance(size, int) and size >= 0):
            raise ValueError(f"full: expected sizes of 0 or more, or None, got {size!r} in {tuple(shape)}")
    return constants.full(sizes, constants.finite("full", fill_value))


def full_like(x: Tensor, fill_value: float) -> Tensor:
    """``fill_value`` in the shape of x."""
    return constants.full(to_real(x).sizes, constants.finite("full_like", fill_value))


def zeros_like(x: Tensor) -> Tensor:
    """Zeros in the shape of x."""
    return full_like(x, 0.0)


def ones_like(x: Tensor) -> Tensor:
    """Ones in the shape of x."""
    return full_like(x, 1.0)
