"""Tensors of one value: full, full_like, zeros_like, ones_like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnpy.graph import Dim, Tensor
from nnpy.ops import constants
from nnpy.ops.indexing import to_real


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
