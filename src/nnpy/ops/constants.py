"""Constants in a graph: arrays, and values that fill a shape, which fold into what they are multiplied or added to."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnpy.checks import shown
from nnpy.graph import Size, Tensor, Variable, apply, count_of
from nnpy.ops.base import Elementwise, Operation, StepSpec


class _Constant(Operation):
    """An array of the user's, copied. Attributes: ``value``."""

    name = "constant"

    def infer(self, node):
        return [node.attributes["value"].shape]

    def kinds(self, node):
        return "index" if node.attributes["value"].dtype == np.int32 else "real"

    def lower(self, item, low):
        value = item.node.attributes["value"]
        low.bind(item.output, value if value.dtype == np.int32 else value.astype(low.dtype))


class _Full(Operation):
    """``value`` / (elements of a tensor of sizes ``per``) everywhere. Attributes: also ``sizes``."""

    name = "full"

    def infer(self, node):
        return [node.attributes["sizes"]]

    def lower(self, item, low):
        value, per = item.node.attributes["value"], item.node.attributes["per"]
        low.fill(item.output, value / max(1, count_of(per, low.batch)))


class _Affine(Elementwise):
    """x * scale / (elements of a tensor of sizes ``per``) + shift."""

    name = "affine"
    attributes = {"scale": float, "shift": float, "per": tuple}  # noqa: RUF012

    def steps(self, node, primary):
        scale, shift, per = (node.attributes[name] for name in ("scale", "shift", "per"))
        steps = [StepSpec("scale", s0=scale, per=per)] if scale != 1.0 or per else []
        return steps + ([StepSpec("shift", s0=shift)] if shift != 0.0 else [])

    def gradient(self, node, upstreams, needs):
        return [scaled(upstreams[0], node.attributes["scale"], node.attributes["per"])]

    def reference(self, x, scale, shift, per=()):
        return x * scale + shift


_CONSTANT = _Constant()
_FULL = _Full()
_AFFINE = _Affine()


def constant(value: Any) -> Tensor:
    """An array as a tensor; integers as int32 indices, all else as reals. Raises TypeError for all but numbers."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"constant: expected real numbers, got {shown(value)}")
    if array.dtype.kind in "iu" and array.size and not -(2**31) <= array.min() <= array.max() < 2**31:
        raise ValueError(f"constant: expected integers of 32 bits, got {array.min()} to {array.max()}")
    dtype = np.int32 if array.dtype.kind in "iu" else np.float64
    return apply(_CONSTANT, [], value=np.array(array, dtype, order="C"))


def full(sizes: Sequence[Size], value: float, per: Sequence[Size] = ()) -> Tensor:
    """``value``, divided by the elements of a tensor of sizes ``per``, everywhere."""
    return apply(_FULL, [], sizes=tuple(sizes), value=float(value), per=tuple(per))


def filled(x: Tensor) -> tuple[float, tuple[Size, ...]] | None:
    """(value, per) of a tensor that ``full`` made, perhaps in another shape; None for any other."""
    while x.node is not None and x.node.operation.is_alias:
        x = x.node.inputs[0]
    if x.node is None or x.node.operation is not _FULL:
        return None
    return x.node.attributes["value"], x.node.attributes["per"]


def scaled(x: Tensor, scale: float, per: Sequence[Size] = ()) -> Tensor:
    """x * scale / (elements of ``per``); folds into a scale before it, or into a constant."""
    if scale == 1.0 and not per:
        return x
    constant_ = filled(x)
    if constant_ is not None:
        return full(x.sizes, constant_[0] * scale, (*constant_[1], *per))
    node = x.node
    if node is not None and node.operation is _AFFINE and node.attributes["shift"] == 0.0:
        return scaled(node.inputs[0], node.attributes["scale"] * scale, (*node.attributes["per"], *per))
    return apply(_AFFINE, [x], scale=float(scale), shift=0.0, per=tuple(per))


def affine(x: Tensor, scale: float, shift: float) -> Tensor:
    """x * scale + shift with finite constants."""
    scale, shift = finite("affine", scale, x), finite("affine", shift, x)
    if shift == 0.0:
        return scaled(x, scale)
    return apply(_AFFINE, [x], scale=scale, shift=shift, per=())


def is_number(value: Any) -> bool:
    """A Python or NumPy number, or an array of one."""
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim == 0 and isinstance(value, np.ndarray)
    return isinstance(value, numbers.Real)


def finite(who: str, value: Any, beside: Tensor | None = None) -> float:
    """``value`` as a float. TypeError for what is no number (or a truth value), ValueError for NaN and infinity."""
    if isinstance(value, bool | np.bool_) or not is_number(value):
        raise _no_tensor(who, value, beside)
    if not math.isfinite(value):
        raise ValueError(f"{who}: expected finite numbers, got {value}")
    return float(value)


def as_tensor(who: str, value: Any, beside: Tensor | None = None) -> Tensor:
    """A Tensor as it is, numbers and arrays as constants. TypeError for anything else."""
    if isinstance(value, Tensor):
        return value
    if is_number(value):
        return full((), finite(who, value, beside))
    if isinstance(value, np.ndarray | list | tuple):
        return constant(value)
    raise _no_tensor(who, value, beside)


def _no_tensor(who: str, value: Any, beside: Tensor | None) -> TypeError:
    where = "" if beside is None else f" beside {beside!r}"
    return TypeError(f"{who}: expected a Tensor or a finite number{where}, got {shown(value)}")


def is_variable(x: Tensor) -> bool:
    return isinstance(x, Variable)
