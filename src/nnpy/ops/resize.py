"""Images enlarged by whole factors, linearly between the centres of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

from nnpy.graph import Tensor
from nnpy.ops.elementwise import add, multiply
from nnpy.ops.indexing import getitem
from nnpy.ops.shape import concatenate, reshape, stack


def enlarged(x: Tensor, times: Sequence[int]) -> Tensor:
    """x (batch, ..., channels) with its axes between made so many times as long: each new pixel is what lies between
    the centres of the two nearest; beyond the outermost centres it is as there."""
    for axis, factor in enumerate(times, start=1):
        if factor > 1:
            x = _along(x, axis, factor)
    return x


def _along(x: Tensor, axis: int, factor: int) -> Tensor:
    count = x.shape[axis]
    assert count is not None

    def part(tensor: Tensor, first: int, size: int) -> Tensor:
        return getitem(tensor, (*[slice(None)] * axis, slice(first, first + size)))

    wide = concatenate([part(x, 0, 1), x, part(x, count - 1, 1)], axis)
    phases = []
    for phase in range(factor):
        place = (phase + 0.5) / factor - 0.5  # of its centre, from that of the old pixel on
        share = place - floor(place)
        low = part(wide, floor(place) + 1, count)
        high = multiply(part(wide, floor(place) + 2, count), share) if share else None
        phases.append(low if high is None else add(multiply(low, 1.0 - share), high))
    together = stack(phases, axis + 1)
    return reshape(together, (*x.sizes[:axis], count * factor, *x.sizes[axis + 1 :]))
