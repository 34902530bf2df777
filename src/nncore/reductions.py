"""Sizes of the kernel ``reduce``: one op, or two where few results come of many elements, which threads then share."""

from __future__ import annotations

from typing import Any

from nncore.kernels.signatures import REDUCTIONS

_MANY = 16384  # elements from which a second op pays
_OWNERS = 16  # results (vectors of them) that are enough for any team


def reduce_sizes(
    kind: str,
    outer: int,
    mid: int,
    inner: int,
    *,
    stride_outer: int = 0,
    stride_mid: int = 0,
    chunk: int = 0,
    accumulate: bool = False,
    scale: float = 1.0,
) -> dict[str, int | float]:
    """The sizes of ``Op("reduce")`` over the middle axis of x[outer, mid, inner], contiguous unless strides say
    otherwise. ``chunk``: out is [outer, ceil(mid / chunk), inner]. Raises ValueError for an unknown kind."""
    if kind not in REDUCTIONS:
        raise ValueError(f"reduce: unknown kind {kind!r}; expected one of {', '.join(REDUCTIONS)}")
    stride_mid = stride_mid or inner
    stride_outer = stride_outer or mid * stride_mid
    apart = not chunk and (mid - 1) * stride_mid + inner <= stride_outer
    return dict(
        rows=outer if apart else 0,
        kind=REDUCTIONS.index(kind),
        outer=outer,
        mid=mid,
        inner=inner,
        stride_outer=stride_outer,
        stride_mid=stride_mid,
        chunk=chunk,
        accumulate=int(accumulate),
        scale=scale,
    )


def pieces(outer: int, mid: int, inner: int) -> int:
    """How many parts of the middle axis a first op had better reduce, for a second one to combine (1: one op will do).
    They depend on the sizes alone, and so do the bits of the result."""
    owners = outer * -(-inner // 64)
    if owners >= _OWNERS or outer * mid * inner < _MANY:
        return 1
    return max(1, min(4 * _OWNERS // owners, mid * outer * inner // (_MANY // 4), mid // 2))


def stages(
    kind: str, outer: int, mid: int, inner: int, *, stride_outer: int = 0, stride_mid: int = 0, **last
) -> list[dict[str, int | float]]:
    """The sizes of one op, or of two: the first one's out is a buffer [outer, parts, inner], where parts is the second
    one's ``mid``. ``last`` (accumulate, scale) is for the last op."""
    strides: dict[str, Any] = dict(stride_outer=stride_outer, stride_mid=stride_mid)
    parts = pieces(outer, mid, inner)
    if parts == 1:
        return [reduce_sizes(kind, outer, mid, inner, **strides, **last)]
    chunk = -(-mid // parts)
    first = reduce_sizes(kind, outer, mid, inner, chunk=chunk, **strides)
    return [first, reduce_sizes(kind, outer, -(-mid // chunk), inner, **last)]
