"""Sizes of the kernel ``reduce``: one op, or two where few results come of many elements, which threads then share."""

from __future__ import annotations

from typing import Any

from nncore.kernels.signatures import REDUCTIONS

_MANY = 16384  # elements from which a second op pays
_OWNERS = 16  # results that are enough for any team
_ACROSS, _ACROSS_STEPS = 64, 512  # columns that have one owner, and with steps


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
    cols: int = 0,
) -> dict[str, int | float]:
    """The sizes of ``Op("reduce")`` over the middle axis of x[outer, mid, inner], contiguous unless strides say
    otherwise. ``chunk``: out is [outer, ceil(mid / chunk), inner]. ``cols``: steps go first, for which x is a matrix of
    so many columns. Raises ValueError for an unknown kind, for columns or strides that steps cannot work with, and for
    logsumexp of steps, which would do them twice."""
    if kind not in REDUCTIONS:
        raise ValueError(f"reduce: unknown kind {kind!r}; expected one of {', '.join(REDUCTIONS)}")
    stride_mid = stride_mid or inner
    stride_outer = stride_outer or mid * stride_mid
    apart = not chunk and (mid - 1) * stride_mid + inner <= stride_outer
    if cols:
        if kind == "logsumexp":
            raise ValueError(f"reduce: expected no steps before {kind!r}, got cols={cols}")
        count = outer * mid * inner
        if (inner > 1 and cols != inner) or count % cols or (stride_outer, stride_mid) != (mid * inner, inner):
            expected = f"rows of {inner}" if inner > 1 else f"rows that {count} elements are a number of"
            raise ValueError(f"reduce: expected contiguous {expected} for the steps, got cols={cols}")
        apart = apart and inner == 1 and cols == mid  # a row of the steps is one of what threads share
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
        cols=cols,
    )


def pieces(outer: int, mid: int, inner: int, steps: int = 0) -> int:
    """How many parts of the middle axis a first op had better reduce, for a second one to combine (1: one op will do).
    They depend on the sizes, and on how many ``steps`` go before, alone, and so do the bits of the result."""
    owners = outer * -(-inner // (_ACROSS_STEPS if steps else _ACROSS))
    work = outer * mid * inner * (1 + steps)
    if owners >= _OWNERS or work <= _MANY:
        return 1
    return max(1, min(4 * _OWNERS // owners, work // (_MANY // 4), mid // 2))


def stages(
    kind: str, outer: int, mid: int, inner: int, *, stride_outer: int = 0, stride_mid: int = 0, cols: int = 0,
    steps: int = 0, **last
) -> list[dict[str, int | float]]:  # fmt: skip
    """The sizes of one op, or of two: the first one's out is a buffer [outer, parts, inner], where parts is the second
    one's ``mid``. ``last`` (accumulate, scale) is for the last op; ``cols``, and how many ``steps``, for the first."""
    strides: dict[str, Any] = dict(stride_outer=stride_outer, stride_mid=stride_mid, cols=cols)
    parts = pieces(outer, mid, inner, steps)
    if parts == 1:
        return [reduce_sizes(kind, outer, mid, inner, **strides, **last)]
    chunk = -(-mid // parts)
    first = reduce_sizes(kind, outer, mid, inner, chunk=chunk, **strides)
    return [first, reduce_sizes(kind, outer, -(-mid // chunk), inner, **last)]
