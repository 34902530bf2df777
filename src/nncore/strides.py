"""Sizes of the kernel ``copy``: axes of two strided arrays, as few as say the same.

Strides and offsets count elements. ``nncore.kernels.strided`` is what reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nncore.refs import Ref, ref

AXES = 6  # that the kernel walks


class Axis(NamedTuple):
    """``n`` elements, each ``out`` elements behind the one before it in the result, ``x`` in the operand."""

    n: int
    out: int
    x: int


def simplify(axes: Sequence[Axis]) -> list[Axis]:
    """The same elements with axes of 1 dropped, in order of the result's strides, neighbours merged where both sides
    run on from one to the next. An axis along which x is contiguous comes last or, if the result's is another, second
    to last. Strides of the result must be positive."""
    some = sorted((axis for axis in axes if axis.n != 1), key=lambda axis: (-axis.out, -abs(axis.x)))
    merged: list[Axis] = []
    for axis in some:
        before = merged[-1] if merged else None
        if before and before.out == axis.out * axis.n and before.x == axis.x * axis.n:
            merged[-1] = Axis(before.n * axis.n, axis.out, axis.x)
        else:
            merged.append(axis)
    if merged and merged[-1].out == 1 and merged[-1].x not in (0, 1):
        unit = next((axis for axis in merged if axis.x == 1), None)
        if unit:
            merged.remove(unit)
            merged.insert(-1, unit)
    return merged


def copy_sizes(
    shape: Sequence[int],
    out_strides: Sequence[int],
    x_strides: Sequence[int],
    *,
    out_offset: int = 0,
    x_offset: int = 0,
    itemsize: int = 4,
    accumulate: bool = False,
    rows: bool = False,
) -> dict[str, int]:
    """The sizes of ``Op("copy")``: out[out_offset + i . out_strides] = x[x_offset + i . x_strides] for all indices i
    below ``shape``; with ``accumulate`` they are added (reals only). Strides of x may be 0 or negative, those of out
    negative.

    ``rows``: the first axis is kept apart, for threads to share its rows if the scheduler wants so (a thread then
    touches nothing of other rows).

    Raises ValueError where elements of out would be written twice (stride 0), where more than six axes remain, and for
    ``rows`` that reach into their neighbours.
    """
    axes = [Axis(*sizes) for sizes in zip(shape, out_strides, x_strides, strict=True)]
    for number, axis in enumerate(axes):
        if axis.n > 1 and axis.out == 0:
            raise ValueError(f"copy: expected axis {number} of out to have a stride, got 0 for {axis.n} elements")
        if axis.n > 1 and axis.out < 0:
            out_offset += (axis.n - 1) * axis.out
            x_offset += (axis.n - 1) * axis.x
            axes[number] = Axis(axis.n, -axis.out, -axis.x)
    if any(axis.n == 0 for axis in axes):
        axes, rows = [Axis(0, 1, 1)], False
    first = axes[:1] if rows else []
    if rows:
        for what, offset, stride, strides in (
            ("out", out_offset, first[0].out, [(a.n, a.out) for a in axes[1:]]),
            ("x", x_offset, first[0].x, [(a.n, a.x) for a in axes[1:]]),
        ):
            low = offset + sum((n - 1) * s for n, s in strides if s < 0)
            high = offset + sum((n - 1) * s for n, s in strides if s > 0)
            if stride < 0 or low < 0 or (stride > 0 and high >= stride):
                raise ValueError(
                    f"copy: rows of {what} are {stride} elements apart, and elements {low} to {high} of each are used"
                )
    rest = simplify(axes[len(first) :])
    if len(first) + len(rest) > AXES:
        raise ValueError(f"copy: expected at most {AXES} axes that cannot be merged, got {len(first) + len(rest)}")
    whole = first + [Axis(1, 0, 0)] * (AXES - len(first) - len(rest)) + rest
    sizes = dict(
        rows=first[0].n if rows else 0,
        itemsize=itemsize,
        accumulate=int(accumulate),
        out_offset=out_offset,
        x_offset=x_offset,
    )
    for number, axis in enumerate(whole):
        sizes |= {f"n{number}": axis.n, f"o{number}": axis.out, f"x{number}": axis.x}
    return sizes


def copy_arguments(out: np.ndarray, x: np.ndarray, accumulate: bool = False) -> dict[str, int | Ref]:
    """All arguments of ``Op("copy")`` for views of arrays; x is broadcast to the shape of out."""
    x = np.broadcast_to(x, out.shape)
    if out.itemsize != x.itemsize:
        raise TypeError(f"copy: expected elements of one size, got {out.dtype} and {x.dtype}")
    size = out.itemsize
    memory = {"out": ref(out), "x": ref(x)}
    offsets = {
        f"{name}_offset": (array.__array_interface__["data"][0] - memory[name].address) // size
        for name, array in (("out", out), ("x", x))
    }
    strides = [[stride // size for stride in array.strides] for array in (out, x)]
    return memory | copy_sizes(out.shape, *strides, itemsize=size, accumulate=accumulate, **offsets)
