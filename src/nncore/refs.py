"""Pieces of memory: what ops point to, and what their threads touch of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Ref(NamedTuple):
    """``nbytes`` of memory at ``address``; ``owner`` keeps it alive."""

    address: int
    nbytes: int
    owner: Any = None


def ref(array: np.ndarray | Ref) -> Ref:
    """The memory that an array spans."""
    if isinstance(array, Ref):
        return array
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected a NumPy array or Ref, got {type(array).__name__}")
    address = array.__array_interface__["data"][0]
    if array.size == 0:
        return Ref(address, 0, array)
    if array.flags.c_contiguous:
        return Ref(address, array.nbytes, array)
    # np.lib.array_utils.byte_bounds, which NumPy 1 has elsewhere
    steps = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    low = address + sum(step for step in steps if step < 0)
    return Ref(low, sum(abs(step) for step in steps) + array.itemsize, array)


class Rows(NamedTuple):
    """Memory of which a thread touches the rows that are its share: ``total`` rows (0: one for each thread), ``nbytes``
    from one to the next."""

    address: int
    nbytes: int
    total: int


class Touch(NamedTuple):
    """Memory from byte ``start`` to ``end`` that an op reads or writes; ``rows``: how threads share it, or None."""

    start: int
    end: int
    rows: Rows | None
