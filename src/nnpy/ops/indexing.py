"""Indices: taking rows of a table, one-hot rows, slices and items, and indices as numbers and back."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from nnpy.graph import Dim, Size, Tensor, apply, size_of
from nnpy.ops.base import Operation, label
from nnpy.ops.constants import as_tensor, constant
from nnpy.ops.shape import Unchanged, expand_dims, moveaxis, normal_axis, part_of, reshape_sizes, squeeze, transpose


class _ToReal(Operation):
    """Indices (int32) as reals."""

    name = "to_real"
    takes_indices = True

    def infer(self, node):
        return [node.inputs[0].sizes]

    def gradient(self, node, upstreams, needs):
        return [None]

    def lower(self, item, low):
        low.cast(item.output, item.node.inputs[0])

    def reference(self, x):
        return x.astype(np.float64)


class _AsReal(Unchanged):
    """Truth values as reals 0 and 1, which they are in memory."""

    name = "as_real"

    def kinds(self, node):
        return "real"


class _ToIndex(Operation):
    """Reals as int32, towards zero."""

    name = "to_index"

    def infer(self, node):
        return [node.inputs[0].sizes]

    def kinds(self, node):
        return "index"

    def gradient(self, node, upstreams, needs):
        return [None]

    def lower(self, item, low):
        low.cast(item.output, item.node.inputs[0])

    def reference(self, x):
        return np.trunc(x).astype(np.int32)


class _Take(Operation):
    """Rows of a table (n, ...), by indices of any shape. Inputs: table, indices."""

    name = "take"
    takes_indices = True

    def infer(self, node):
        table, indices = node.inputs
        if table.rank < 1 or table.kind == "index" or indices.kind != "index":
            raise TypeError(
                f"{label(node)}: expected a table of reals and int32 indices, got {table.dtype} {table.shape} and "
                f"{indices.dtype} {indices.shape}"
            )
        return [(*indices.sizes, *table.sizes[1:])]

    def gradient(self, node, upstreams, needs):
        table, indices = node.inputs
        return [apply(_TAKE_GRADIENT, [upstreams[0], indices], sizes=table.sizes) if needs[0] else None, None]

    def lower(self, item, low):
        table, indices = item.node.inputs
        rows, *rest = table.concrete(low.batch)
        count, cols = low.count(indices), prod(rest)
        low.call(
            "take", out=item.output, table=table, index=indices, state=low.state, rows=count, cols=cols,
            table_rows=rows, work=2 * count * cols + count,
        )  # fmt: skip

    def reference(self, table, indices):
        return table[indices]


class _TakeGradient(Operation):
    """The sum, for each row of the table, of what was taken of it, in order. Attributes: ``sizes`` of the table."""

    name = "take_gradient"
    takes_indices = True
    is_gradient = True

    def infer(self, node):
        return [node.attributes["sizes"]]

    def lower(self, item, low):
        upstream, indices = item.node.inputs
        rows, *rest = item.node.output.concrete(low.batch)
        count, cols = low.count(indices), prod(rest)
        low.call(
            "take_grad", dtable=item.output, dy=upstream, index=indices, rows=count, cols=cols, table_rows=rows,
            clear=1, work=2 * count * cols + rows * cols // 4,
        )  # fmt: skip


class _OneHot(Operation):
    """1 at the index, else 0. Attributes: ``classes``."""

    name = "one_hot"
    attributes = {"classes": int}  # noqa: RUF012
    takes_indices = True

    def infer(self, node):
        return [(*node.inputs[0].sizes, node.attributes["classes"])]

    def gradient(self, node, upstreams, needs):
        return [None]

    def lower(self, item, low):
        (indices,) = item.node.inputs
        rows, cols = low.count(indices), item.node.attributes["classes"]
        low.call("one_hot", out=item.output, index=indices, state=low.state, rows=rows, cols=cols, work=rows * cols)

    def reference(self, indices, classes):
        return (indices[..., None] == np.arange(classes)).astype(np.float64)


_TO_REAL = _ToReal()
_AS_REAL = _AsReal()
_TO_INDEX = _ToIndex()
_TAKE = _Take()
_TAKE_GRADIENT = _TakeGradient()
_ONE_HOT = _OneHot()


def to_real(x: Tensor) -> Tensor:
    """Indices and truth values as reals."""
    if x.kind == "real":
        return x
    return apply(_AS_REAL if x.kind == "bool" else _TO_REAL, [x])


def to_index(x: Tensor) -> Tensor:
    """Reals as int32 indices, towards zero."""
    return x if x.kind == "index" else apply(_TO_INDEX, [to_real(x)])


def _indices(who: str, value: Any, size: Size) -> Tensor:
    """As a tensor; numbers that are known must be below ``size`` where that is known too."""
    tensor = value if isinstance(value, Tensor) else constant(np.asarray(value))
    if tensor.kind != "index":
        raise TypeError(f"{who}: expected int32 indices, got {tensor.dtype}; nnpy.ops.cast(x, 'int32') makes them")
    if not isinstance(value, Tensor) and isinstance(size, int):
        found = np.asarray(value)
        wrong = found[(found < 0) | (found >= size)]
        if wrong.size:
            raise IndexError(f"{who}: expected indices from 0 to {size - 1}, got {wrong.flat[0]}")
    return tensor


def take(x: Tensor, indices: Any, axis: int | None = None) -> Tensor:
    """``x`` at ``indices`` (an int32 tensor, array or list of any shape) along ``axis``; None: of x as one row.

    An index out of range is an IndexError: at once where it is known, else it stops the run and names the layer, the
    row and the value.
    """
    x = to_real(as_tensor("take", x))
    if axis is None:
        count = size_of(x.sizes)
        return apply(_TAKE, [reshape_sizes(x, (count,)), _indices("take", indices, count)])
    axis = normal_axis("take", axis, x.rank)
    indices = _indices("take", indices, x.sizes[axis])
    taken, rank = apply(_TAKE, [moveaxis(x, axis, 0), indices]), indices.rank
    return transpose(taken, [*range(rank, rank + axis), *range(rank), *range(rank + axis, taken.rank)])


def one_hot(x: Any, num_classes: int, axis: int = -1) -> Tensor:
    """Rows of ``num_classes`` with 1 at the index x (int32), 0 else. An index out of range stops the run with an
    IndexError; ValueError unless ``num_classes`` is 1 or more."""
    if isinstance(num_classes, bool) or not hasattr(num_classes, "__index__") or num_classes < 1:
        raise ValueError(f"one_hot: expected num_classes to be 1 or more, got {num_classes!r}")
    made = apply(_ONE_HOT, [_indices("one_hot", x, int(num_classes))], classes=int(num_classes))
    return made if axis in (-1, made.rank - 1) else moveaxis(made, -1, axis)


def getitem(x: Tensor, key: Any) -> Tensor:
    """``x[key]``: integers, slices (with steps), None and ``...``; or an index tensor: ``take`` along axis 0."""
    if isinstance(key, Tensor | np.ndarray | list):
        return take(x, key, axis=0)
    keys = list(key) if isinstance(key, tuple) else [key]
    fixed = sum(k is not None and k is not Ellipsis for k in keys)
    if sum(k is Ellipsis for k in keys) > 1 or fixed > x.rank:
        raise IndexError(f"{x!r}: expected at most {x.rank} indices and one ..., got {key!r}")
    if not any(k is Ellipsis for k in keys):
        keys.append(Ellipsis)
    place = next(i for i, k in enumerate(keys) if k is Ellipsis)
    keys[place : place + 1] = [slice(None)] * (x.rank - fixed)
    result, axis = x, 0
    gone: list[int] = []
    new: list[int] = []
    for k in keys:
        if k is None:
            new.append(axis + len(new) - len(gone))
            continue
        size = x.sizes[axis]
        if isinstance(k, slice):
            result = _sliced(result, axis, k, size) if k != slice(None) else result
        elif hasattr(k, "__index__") and not isinstance(k, bool):
            result = part_of(result, axis, _place(x, axis, k.__index__(), size), 1)
            gone.append(axis)
        else:
            raise TypeError(f"{x!r}: expected integers, slices, None or ... as indices, got {k!r}")
        axis += 1
    result = squeeze(result, gone) if gone else result
    return expand_dims(result, new) if new else result


def _place(x: Tensor, axis: int, index: int, size: Size) -> Size:
    if isinstance(size, Dim):
        if index != 0:
            raise IndexError(f"{x!r}: expected index 0 along axis {axis}, whose size the batch decides, got {index}")
        return 0
    if not -size <= index < size:
        raise IndexError(f"{x!r}: expected an index from {-size} to {size - 1} along axis {axis}, got {index}")
    return index % size


def _sliced(x: Tensor, axis: int, key: slice, size: Size) -> Tensor:
    if isinstance(size, Dim):
        raise IndexError(f"{x!r}: cannot slice axis {axis}, whose size the batch decides, by {key}")
    start, stop, step = key.indices(size)
    return part_of(x, axis, start, len(range(start, stop, step)), step)
