"""Reductions over any axes: max, min, prod, logsumexp, var, std, argmax, argmin; and cumsum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod as product
from typing import Any

import numpy as np

from nnpy.graph import Tensor, apply
from nnpy.ops import elementwise as e
from nnpy.ops.base import Operation
from nnpy.ops.broadcasting import GRADIENTS, REDUCTIONS, Reduce, count, mean, reduce_over, reduced, reduction
from nnpy.ops.broadcasting import sum as total
from nnpy.ops.constants import as_tensor
from nnpy.ops.indexing import to_real
from nnpy.ops.shape import normal_axis, reshape_sizes


class _Arg(Operation):
    """The place of the largest or smallest along an axis, int32; the first of several."""

    attributes = {"axis": int, "keepdims": bool}  # noqa: RUF012

    def __init__(self, name: str, numpy: Callable):
        super().__init__(name)
        self.numpy = numpy

    def infer(self, node):
        return [reduced(node.inputs[0].sizes, (node.attributes["axis"],), node.attributes["keepdims"])]

    def kinds(self, node):
        return "index"

    def gradient(self, node, upstreams, needs):
        return [None]

    def lower(self, item, low):
        memory, outer, mid, inner = low.middle(item.node.inputs[0], (item.node.attributes["axis"],))
        low.call(
            self.name,
            out=item.output,
            x=memory,
            outer=outer,
            mid=mid,
            inner=inner,
            stride_outer=mid * inner,
            stride_mid=inner,
            work=2 * outer * mid * inner,
        )

    def reference(self, x, axis, keepdims):
        return self.numpy(x, axis=axis, keepdims=keepdims).astype(np.int32)


class _CumSum(Operation):
    """Sums of all before (and, unless ``exclusive``, of) each element along an axis; ``reverse``: of all behind."""

    name = "cumsum"
    attributes = {"axis": int, "reverse": bool, "exclusive": bool}  # noqa: RUF012

    def infer(self, node):
        return [node.inputs[0].sizes]

    def gradient(self, node, upstreams, needs):
        return [apply(self, upstreams, **{**node.attributes, "reverse": not node.attributes["reverse"]})]

    def lower(self, item, low):
        x, axis = item.node.inputs[0], item.node.attributes["axis"]
        sizes = x.concrete(low.batch)
        low.call(
            "cumsum", out=item.output, x=x, outer=product(sizes[:axis]), mid=sizes[axis],
            inner=product(sizes[axis + 1 :]), stride_outer=product(sizes[axis:]),
            reverse=int(item.node.attributes["reverse"]),
            exclusive=int(item.node.attributes["exclusive"]), work=2 * product(sizes),
        )  # fmt: skip

    def reference(self, x, axis, reverse, exclusive):
        x = np.flip(x, axis) if reverse else x
        sums = np.cumsum(x, axis)
        sums = sums - x if exclusive else sums
        return np.flip(sums, axis) if reverse else sums


def _logsumexp(x, axis, keepdims):
    top = x.max(axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    result = np.log(np.exp(x - top).sum(axis, keepdims=True)) + top
    return result if keepdims else np.squeeze(result, axis)


REDUCTIONS.update(
    (name, Reduce(name, numpy))
    for name, numpy in (("max", np.max), ("min", np.min), ("prod", np.prod), ("logsumexp", _logsumexp))
)
_ARG = {"argmax": _Arg("argmax", np.argmax), "argmin": _Arg("argmin", np.argmin)}
_CUMSUM = _CumSum()


def _among_equals(u: Tensor, x: Tensor, y: Tensor, axes: Sequence[int]) -> Tensor:
    """Each of the largest has its share."""
    chosen = e.equal(x, y)
    return e.multiply(e.divide(u, reduce_over("sum", to_real(chosen), axes, True)), to_real(chosen))


def _product_gradient(u: Tensor, x: Tensor, y: Tensor, axes: Sequence[int]) -> Tensor:
    """The product of the others, right where some are 0."""
    zero = e.equal(x, 0.0)
    zeros = reduce_over("sum", to_real(zero), axes, True)
    others = reduce_over("prod", e.where(zero, 1.0, x), axes, True)
    one = e.where(e.logical_and(zero, e.equal(zeros, 1.0)), others, 0.0)
    return e.multiply(u, e.where(e.equal(zeros, 0.0), e.divide(others, e.where(zero, 1.0, x)), one))


def _exp_share(u: Tensor, x: Tensor, y: Tensor, axes: Sequence[int]) -> Tensor:
    return e.multiply(u, e.exp(e.subtract(x, y)))


GRADIENTS.update(max=_among_equals, min=_among_equals, prod=_product_gradient, logsumexp=_exp_share)


def max(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The largest over ``axis``; the gradient is shared among equals."""
    return reduction("max", x, axis, keepdims)


def min(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The smallest over ``axis``; the gradient is shared among equals."""
    return reduction("min", x, axis, keepdims)


def prod(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The product over ``axis``."""
    return reduction("prod", x, axis, keepdims)


def logsumexp(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over ``axis``, without overflow."""
    return reduction("logsumexp", x, axis, keepdims)


def var(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The biased variance over ``axis``."""
    centred = e.subtract(x, mean(x, axis, keepdims=True))
    return mean(e.square(centred), axis, keepdims)


def std(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The biased standard deviation over ``axis``; where it is 0 so is its gradient, as PyTorch's; Keras gives NaN
    there."""
    return e.root(var(x, axis, keepdims))


def _arg(name: str, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    x = to_real(as_tensor(name, x))
    if axis is None:
        x, axis = reshape_sizes(x, (count(x),)), 0
    return apply(_ARG[name], [x], axis=normal_axis(name, axis, x.rank), keepdims=bool(keepdims))


def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The place (int32) of the largest along ``axis``, or None: in all; the first of several."""
    return _arg("argmax", x, axis, keepdims)


def argmin(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The place (int32) of the smallest along ``axis``, or None: in all; the first of several."""
    return _arg("argmin", x, axis, keepdims)


def cumsum(x: Tensor, axis: int | None = None, reverse: bool = False, exclusive: bool = False) -> Tensor:
    """Running sums along ``axis``; ``reverse``: from the end; ``exclusive``: without the element itself."""
    x = to_real(as_tensor("cumsum", x))
    if axis is None:
        x, axis = reshape_sizes(x, (count(x),)), 0
    axis = normal_axis("cumsum", axis, x.rank)
    return apply(_CUMSUM, [x], axis=axis, reverse=bool(reverse), exclusive=bool(exclusive))


def norm(x: Tensor, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The vector norm over ``axis`` (None: of all elements): ord 2 or None, 1, or inf. ValueError for another one. At
    0 the gradient is 0, one of the subgradients, as PyTorch's; Keras gives NaN there for ord 2."""
    if ord in (None, 2, "fro", "euclidean"):
        return e.root(total(e.square(x), axis, keepdims))
    if ord == 1:
        return total(e.abs(x), axis, keepdims)
    if ord == float("inf"):
        return max(e.abs(x), axis, keepdims)
    raise ValueError(f"norm: expected ord to be None, 1, 2 or inf, got {ord!r}")
