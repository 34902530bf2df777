"""Sums, means and broadcasting, each other's gradients; the base of all reductions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnpy.graph import Dim, Size, Tensor, apply, concrete, size_of
from nnpy.ops.base import Operation, label
from nnpy.ops.constants import as_tensor, filled, full, scaled
from nnpy.ops.indexing import to_real
from nnpy.ops.shape import Alias, expand_dims, normal_axis, reshape_sizes, shown_sizes


class Reduce(Operation):
    """Over ``axes`` (increasing), which stay as 1 where ``keepdims``."""

    attributes = {"axes": tuple, "keepdims": bool}  # noqa: RUF012
    reads_chains = True

    def __init__(self, name: str, numpy: Callable):
        super().__init__(name)
        self.numpy = numpy

    def infer(self, node):
        x, axes = node.inputs[0], node.attributes["axes"]
        if self.name in ("max", "min") and any(x.sizes[a] == 0 for a in axes):
            raise ValueError(f"{label(node)}: expected something to reduce, got {x.shape}")
        return [reduced(x.sizes, axes, node.attributes["keepdims"])]

    def gradient(self, node, upstreams, needs):
        (x,), y, axes = node.inputs, node.output, node.attributes["axes"]
        kept = reduced(x.sizes, axes, True)
        upstream = reshape_sizes(upstreams[0], kept)
        return [GRADIENTS[self.name](upstream, x, reshape_sizes(y, kept), axes)]

    def summed(self, node):
        x, axes = node.inputs[0], node.attributes["axes"]
        by_column = self.name in ("sum", "mean") and tuple(axes) == tuple(range(x.rank - 1))
        return (x, "sums", {}) if by_column else None

    def lower(self, item, low):
        low.reduce(item, self.name, item.node.inputs[0], item.node.attributes["axes"])

    def reference(self, x, axes, keepdims):
        return self.numpy(x, axis=tuple(axes), keepdims=keepdims)


class _BroadcastTo(Alias):
    """Repeats axes of size 1, and adds axes in front. Attributes: ``sizes``."""

    name = "broadcast_to"
    attributes = {"sizes": tuple}  # noqa: RUF012

    def infer(self, node):
        old, new = node.inputs[0].sizes, node.attributes["sizes"]
        if len(old) > len(new) or any(s not in (1, n) for s, n in zip(old, new[len(new) - len(old) :], strict=True)):
            raise ValueError(f"{label(node)}: cannot broadcast {node.inputs[0].shape} to {shown_sizes(new)}")
        return [new]

    def gradient(self, node, upstreams, needs):
        return [summed_to(upstreams[0], node.inputs[0].sizes)]

    def view(self, node, shape, strides, batch):
        new = concrete(node.attributes["sizes"], batch)
        extra = len(new) - len(shape)
        kept = (0 if s == 1 != n else stride for s, n, stride in zip(shape, new[extra:], strides, strict=True))
        return 0, (*[0] * extra, *kept)

    def reference(self, x, sizes):
        return np.broadcast_to(x, [s if isinstance(s, int) else x.shape[a - len(sizes)] for a, s in enumerate(sizes)])


_BROADCAST_TO = _BroadcastTo()


def reduced(sizes: Sequence[Size], axes: Sequence[int], keepdims: bool) -> tuple[Size, ...]:
    """Sizes without (or with 1 in place of) some axes."""
    return tuple(1 if a in axes else s for a, s in enumerate(sizes) if keepdims or a not in axes)


def axes_of(who: str, x: Tensor, axis: Any) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(x.rank))
    given = tuple(axis) if isinstance(axis, list | tuple) else (axis,)
    axes = tuple(sorted(normal_axis(who, a, x.rank) for a in given))
    if len(set(axes)) < len(axes):
        raise ValueError(f"{who}: expected different axes, got {axis!r}")
    return axes


def reduce_over(name: str, x: Tensor, axes: Sequence[int], keepdims: bool) -> Tensor:
    if not axes:
        return x
    value = filled(x)
    if value is not None and name == "mean":
        return full(reduced(x.sizes, axes, keepdims), *value)
    return apply(REDUCTIONS[name], [x], axes=tuple(axes), keepdims=bool(keepdims))


def reduction(name: str, x: Any, axis: Any, keepdims: bool) -> Tensor:
    x = to_real(as_tensor(name, x))
    return reduce_over(name, x, axes_of(name, x, axis), keepdims)


def sum(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The sum over ``axis``: a number, several, or None: all."""
    return reduction("sum", x, axis, keepdims)


def mean(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The mean over ``axis``."""
    return reduction("mean", x, axis, keepdims)


def count(x: Tensor) -> Size:
    """How many elements it has."""
    return size_of(x.sizes)


def summed_to(x: Tensor, sizes: Sequence[Size]) -> Tensor:
    """The gradient of broadcasting from ``sizes``: x summed over the axes that it repeated."""
    if x.sizes == tuple(sizes):
        return x
    extra = x.rank - len(sizes)
    axes = [a for a, s in enumerate(x.sizes) if a < extra or (sizes[a - extra] == 1 and s != 1)]
    return reshape_sizes(reduce_over("sum", x, axes, True), sizes)


def broadcast_to(x: Tensor, shape: Sequence[Any]) -> Tensor:
    """Repeated along axes of size 1 and new ones in front. ValueError for a shape that x does not broadcast to.
    No data moves."""
    x = as_tensor("broadcast_to", x)
    sizes = tuple(Dim() if size is None else size for size in shape)
    if x.sizes == sizes:
        return x
    value = filled(x)
    return full(sizes, *value) if value is not None else apply(_BROADCAST_TO, [x], sizes=sizes)


def repeat(x: Tensor, repeats: int, axis: int) -> Tensor:
    """Each element ``repeats`` times in a row along ``axis``."""
    axis = normal_axis("repeat", axis, x.rank)
    wide = broadcast_to(expand_dims(x, axis + 1), (*x.sizes[: axis + 1], int(repeats), *x.sizes[axis + 1 :]))
    return reshape_sizes(wide, (*x.sizes[:axis], size_of((x.sizes[axis], int(repeats))), *x.sizes[axis + 1 :]))


def tile(x: Tensor, repeats: Sequence[int] | int) -> Tensor:
    """The whole repeated along each axis."""
    times = [repeats] if isinstance(repeats, int) else list(repeats)
    times = [1] * (x.rank - len(times)) + times
    while x.rank < len(times):
        x = expand_dims(x, 0)
    for axis, n in enumerate(times):
        if n != 1:
            wide = broadcast_to(expand_dims(x, axis), (*x.sizes[:axis], int(n), *x.sizes[axis:]))
            x = reshape_sizes(wide, (*x.sizes[:axis], size_of((int(n), x.sizes[axis])), *x.sizes[axis + 1 :]))
    return x


GRADIENTS: dict[str, Callable[..., Tensor]] = {
    "sum": lambda u, x, y, axes: broadcast_to(u, x.sizes),
    "mean": lambda u, x, y, axes: broadcast_to(scaled(u, 1.0, [x.sizes[a] for a in axes]), x.sizes),
}
REDUCTIONS = {name: Reduce(name, numpy) for name, numpy in (("sum", np.sum), ("mean", np.mean))}
