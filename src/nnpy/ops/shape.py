"""Operations on shapes. Reshaping, transposing, slicing and splitting look at the same memory in another
way; what cannot be seen so (and joining) copies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from nnpy.graph import Dim, Size, Tensor, apply, concrete, divided, size_of
from nnpy.ops.base import Operation, label
from nnpy.ops.constants import as_tensor, filled, full


class Alias(Operation):
    is_alias = True
    takes_indices = True

    def kinds(self, node):
        return node.inputs[0].kind

    def lower(self, item, low):
        """Where it cannot be seen without a copy: the elements in the input's order."""
        (x,) = item.node.inputs
        low.copy(item.output, x, 0, contiguous(x.concrete(low.batch)))


class Unchanged(Alias):
    """Its input's elements, on which nothing depends as far as gradients go."""

    def infer(self, node):
        return [node.inputs[0].sizes]

    def gradient(self, node, upstreams, needs):
        return [None]

    def view(self, node, shape, strides, batch):
        return 0, tuple(strides)

    def reference(self, x):
        return x


class _Reshape(Alias):
    """Attributes: ``sizes``."""

    name = "reshape"
    attributes = {"sizes": tuple}  # noqa: RUF012

    def infer(self, node):
        old, new = node.inputs[0].sizes, node.attributes["sizes"]
        if size_of(old) != size_of(new):
            raise ValueError(
                f"{label(node)}: cannot make {shown_sizes(new)} of {node.inputs[0].shape}: the numbers of elements "
                "differ"
            )
        return [new]

    def gradient(self, node, upstreams, needs):
        return [reshape_sizes(upstreams[0], node.inputs[0].sizes)]

    def view(self, node, shape, strides, batch):
        return _reshaped(shape, strides, concrete(node.attributes["sizes"], batch))

    def reference(self, x, sizes):
        return x.reshape([s if isinstance(s, int) else -1 for s in sizes])


class _Transpose(Alias):
    """Attributes: ``axes``: the place in x of each axis of the result."""

    name = "transpose"
    attributes = {"axes": tuple}  # noqa: RUF012

    def infer(self, node):
        return [[node.inputs[0].sizes[a] for a in node.attributes["axes"]]]

    def gradient(self, node, upstreams, needs):
        return [transpose(upstreams[0], [int(a) for a in np.argsort(node.attributes["axes"])])]

    def view(self, node, shape, strides, batch):
        return 0, tuple(strides[a] for a in node.attributes["axes"])

    def reference(self, x, axes):
        return x.transpose(axes)


class _Slice(Alias):
    """Attributes: for every axis ``starts``, ``counts`` and ``steps``."""

    name = "slice"
    attributes = {"starts": tuple, "counts": tuple, "steps": tuple}  # noqa: RUF012

    def infer(self, node):
        return [node.attributes["counts"]]

    def gradient(self, node, upstreams, needs):
        return [apply(_SLICE_GRADIENT, upstreams, sizes=node.inputs[0].sizes, **node.attributes)]

    def view(self, node, shape, strides, batch):
        starts, steps = concrete(node.attributes["starts"], batch), node.attributes["steps"]
        offset = sum(start * stride for start, stride in zip(starts, strides, strict=True))
        return offset, tuple(step * stride for step, stride in zip(steps, strides, strict=True))

    def reference(self, x, starts, counts, steps):
        places = [
            np.arange(n if isinstance(n, int) else x.shape[a]) * step + start
            for a, (start, n, step) in enumerate(zip(starts, counts, steps, strict=True))
        ]
        return x[np.ix_(*places)]


class _SliceGradient(Operation):
    """The upstream where it was cut out, zeros elsewhere. Attributes: also ``sizes``: of the result."""

    name = "slice_gradient"
    attributes = {"starts": tuple, "counts": tuple, "steps": tuple, "sizes": tuple}  # noqa: RUF012

    def infer(self, node):
        return [node.attributes["sizes"]]

    def gradient(self, node, upstreams, needs):
        attributes = {name: node.attributes[name] for name in ("starts", "counts", "steps")}
        return [apply(_SLICE, upstreams, **attributes)]

    def lower(self, item, low):
        attributes = item.node.attributes
        strides = contiguous(concrete(attributes["sizes"], low.batch))
        starts = concrete(attributes["starts"], low.batch)
        offset = sum(start * stride for start, stride in zip(starts, strides, strict=True))
        steps = tuple(step * stride for step, stride in zip(attributes["steps"], strides, strict=True))
        if size_of(attributes["counts"]) != size_of(attributes["sizes"]):
            low.fill(item.output, 0.0)
        low.copy(item.output, item.node.inputs[0], offset, steps)


class _Concatenate(Operation):
    """Joins along ``axis``; each input is a run of columns of the result's rows."""

    name = "concatenate"
    attributes = {"axis": int}  # noqa: RUF012
    takes_indices = True

    def kinds(self, node):
        return node.inputs[0].kind

    def infer(self, node):
        axis, first = node.attributes["axis"], node.inputs[0].sizes
        for other in (t.sizes for t in node.inputs):
            if len(other) != len(first) or other[:axis] + other[axis + 1 :] != first[:axis] + first[axis + 1 :]:
                shapes = ", ".join(str(t.shape) for t in node.inputs)
                raise ValueError(f"{label(node)}: expected shapes that differ in axis {axis} alone, got {shapes}")
        if len({t.kind for t in node.inputs}) > 1:
            raise TypeError(f"{label(node)}: expected tensors of one dtype, got {[t.dtype for t in node.inputs]}")
        return [(*first[:axis], total(t.sizes[axis] for t in node.inputs), *first[axis + 1 :])]

    def gradient(self, node, upstreams, needs):
        axis, grads = node.attributes["axis"], []
        start: Size = 0
        for tensor, wanted in zip(node.inputs, needs, strict=True):
            grads.append(part_of(upstreams[0], axis, start, tensor.sizes[axis]) if wanted else None)
            start = total((start, tensor.sizes[axis]))
        return grads

    def lower(self, item, low):
        axis, out = item.node.attributes["axis"], item.output
        strides, start = contiguous(out.concrete(low.batch)), 0
        for tensor in item.node.inputs:
            low.copy(out, tensor, start * strides[axis], strides)
            start += tensor.concrete(low.batch)[axis]

    def reference(self, *arrays, axis):
        return np.concatenate(arrays, axis)


class _Open(Operation):
    """The result of a layer on inputs of sizes that may be any. Attribute: ``shape``. No Program has it: for one the
    layers are called on inputs of known sizes."""

    name = "open"
    takes_indices = True

    def infer(self, node):
        return [node.attributes["shape"]]


class _LeftOut(_Open):
    """The result of a model nested deep, as its call is seen from outside: its layers are called where a Program, or
    somebody who looks, wants the whole graph. Its inputs are the model's, and the parameters that it reads."""

    name = "left_out"


_OPEN = _Open()
LEFT_OUT = _LeftOut()
_RESHAPE = _Reshape()
_TRANSPOSE = _Transpose()
_SLICE = _Slice()
_SLICE_GRADIENT = _SliceGradient()
_CONCATENATE = _Concatenate()


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides, in elements, of a C-contiguous array."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def _reshaped(old: Sequence[int], strides: Sequence[int], new: Sequence[int]) -> tuple[int, tuple[int, ...]] | None:
    """Strides of the shape ``new`` over the same elements in the same order, as NumPy finds them; None: a copy."""
    if prod(old) == 0:
        return 0, contiguous(new)
    kept = [(n, s) for n, s in zip(old, strides, strict=True) if n != 1]
    result: list[int] = []
    a = b = 0
    sizes = [n for n in new if n != 1]
    while a < len(kept) and b < len(sizes):
        first_a, first_b = a, b
        have, want = kept[a][0], sizes[b]
        while have != want:
            if have < want:
                a += 1
                have *= kept[a][0]
            else:
                b += 1
                want *= sizes[b]
        for axis in range(first_a, a):
            if kept[axis][1] != kept[axis + 1][0] * kept[axis + 1][1]:
                return None
        step, steps = kept[a][1], []
        for size in reversed(sizes[first_b : b + 1]):
            steps.append(step)
            step *= size
        result += reversed(steps)
        a, b = a + 1, b + 1
    places = iter(result)
    return 0, tuple(next(places) if n != 1 else 1 for n in new)


def shown_sizes(sizes: Sequence[Size]) -> tuple[int | None, ...]:
    return tuple(s if isinstance(s, int) else None for s in sizes)


def total(sizes: Any) -> Size:
    """The sum of sizes. Raises ValueError for a sum that is no multiple of the batch."""
    whole, parts = 0, dict[int, int]()
    for size in sizes:
        if isinstance(size, int):
            whole += size
        else:
            parts[size.power] = parts.get(size.power, 0) + size.coefficient
    if not parts:
        return whole
    if whole or len(parts) > 1:
        raise ValueError("cannot join the batch and a fixed number of rows: its size would not be known")
    ((power, coefficient),) = parts.items()
    return Dim(coefficient, power)


def normal_axis(who: str, axis: Any, rank: int) -> int:
    """``axis`` counted from the start. TypeError for no integer, ValueError for one out of range."""
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise TypeError(f"{who}: expected axis to be an integer, got {axis!r}")
    axis = axis.__index__()
    if not -rank <= axis < rank:
        raise ValueError(f"{who}: expected an axis from {-rank} to {rank - 1}, got {axis}")
    return axis % rank


def reshape_sizes(x: Tensor, sizes: Sequence[Size]) -> Tensor:
    """The same elements in another shape."""
    if x.sizes == tuple(sizes):
        return x
    value = filled(x)
    if value is not None:
        return full(sizes, *value)
    if x.node is not None and x.node.operation is _RESHAPE:
        return reshape_sizes(x.node.inputs[0], sizes)
    return view_of(x, sizes)


def view_of(x: Tensor, sizes: Sequence[Size]) -> Tensor:
    """A new tensor that is ``x`` in another shape, or in the same one."""
    return apply(_RESHAPE, [x], sizes=tuple(sizes))


def reshape(x: Tensor, newshape: Sequence[Any]) -> Tensor:
    """The same elements in another shape, the batch among them: -1 (once) is what is left, None the batch. ValueError
    where their numbers differ. No data moves, unless x is a view whose elements are not in order."""
    x = as_tensor("reshape", x)
    given = tuple(newshape) if isinstance(newshape, list | tuple) else (newshape,)
    for size in given:
        whole = isinstance(size, Dim) or (hasattr(size, "__index__") and not isinstance(size, bool) and size >= -1)
        if size is not None and not whole:
            raise ValueError(f"reshape: expected sizes of 0 or more, -1 or None, got {size!r} in {newshape}")
    sizes: list[Any] = [Dim() if size is None else size if isinstance(size, Dim) else int(size) for size in given]
    unknown = [place for place, size in enumerate(sizes) if size == -1]
    if len(unknown) > 1:
        raise ValueError(f"reshape: expected -1 once, got {newshape}")
    if unknown:
        rest = divided(size_of(x.sizes), size_of(size for size in sizes if size != -1))
        if rest is None:
            raise ValueError(f"reshape: cannot make {newshape} of {x.shape}: the numbers of elements do not divide")
        sizes[unknown[0]] = rest
    return reshape_sizes(x, sizes)


def open_result(inputs: Iterable[Tensor], like: Tensor, other: Sequence[int | None]) -> Tensor:
    """What a layer gives for inputs of any size: of the shape of ``like``, None where the shape ``other`` differs."""
    shape = tuple(a if a == b else None for a, b in zip(like.shape, other, strict=True))
    return apply(_OPEN, inputs, shape=shape)


def flatten(x: Tensor) -> Tensor:
    """Each sample as one row."""
    return x if x.rank == 2 else reshape_sizes(x, (x.sizes[0], size_of(x.sizes[1:])))


def transpose(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in another order; None: reversed. No data moves."""
    x = as_tensor("transpose", x)
    order = tuple(range(x.rank))[::-1] if axes is None else tuple(normal_axis("transpose", a, x.rank) for a in axes)
    if sorted(order) != list(range(x.rank)):
        raise ValueError(f"transpose: expected each axis of {x.shape} once, got {axes}")
    if order == tuple(range(x.rank)):
        return x
    return apply(_TRANSPOSE, [x], axes=order)


def swapaxes(x: Tensor, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged."""
    order = list(range(x.rank))
    a, b = (normal_axis("swapaxes", axis, x.rank) for axis in (axis1, axis2))
    order[a], order[b] = b, a
    return transpose(x, order)


def moveaxis(x: Tensor, source: int, destination: int) -> Tensor:
    """An axis at another place, the others in their order."""
    order = list(range(x.rank))
    moved = order.pop(normal_axis("moveaxis", source, x.rank))
    order.insert(normal_axis("moveaxis", destination, x.rank), moved)
    return transpose(x, order)


def expand_dims(x: Tensor, axis: int | Sequence[int]) -> Tensor:
    """Axes of size 1 at the places ``axis`` of the result."""
    axes = tuple(axis) if isinstance(axis, list | tuple) else (axis,)
    rank = x.rank + len(axes)
    new = {normal_axis("expand_dims", a, rank) for a in axes}
    old = iter(x.sizes)
    return reshape_sizes(x, [1 if a in new else next(old) for a in range(rank)])


def squeeze(x: Tensor, axis: int | Sequence[int] | None = None) -> Tensor:
    """Without axes of size 1: those named, or all. ValueError for one of another size."""
    given = (
        [a for a, s in enumerate(x.sizes) if s == 1]
        if axis is None
        else list(axis)
        if isinstance(axis, list | tuple)
        else [axis]
    )
    gone = {normal_axis("squeeze", a, x.rank) for a in given}
    for a in gone:
        if x.sizes[a] != 1:
            raise ValueError(f"squeeze: expected axis {a} of size 1, got {x.shape}")
    return reshape_sizes(x, [s for a, s in enumerate(x.sizes) if a not in gone])


def part_of(x: Tensor, axis: int, start: Size, count: Size, step: int = 1) -> Tensor:
    """``count`` elements of an axis, every ``step``-th from ``start`` on."""
    if count == x.sizes[axis] and step == 1:
        return x
    value = filled(x)
    sizes = (*x.sizes[:axis], count, *x.sizes[axis + 1 :])
    if value is not None:
        return full(sizes, *value)
    starts: list[Size] = [0] * x.rank
    steps = [1] * x.rank
    starts[axis], steps[axis] = start, step
    return apply(_SLICE, [x], starts=tuple(starts), counts=sizes, steps=tuple(steps))


def split(x: Tensor, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Parts along ``axis``: a number of equal ones, or those between places. ValueError for a number that does
    not divide the size, places that do not increase, and the axis of the batch. No data moves."""
    axis = normal_axis("split", axis, x.rank)
    size = x.sizes[axis]
    if isinstance(size, Dim):
        raise ValueError(f"split: expected an axis of known size, got axis {axis} of {x.shape}")
    if isinstance(indices_or_sections, int):
        if indices_or_sections < 1 or size % indices_or_sections:
            raise ValueError(f"split: expected a number that divides {size}, got {indices_or_sections}")
        each = size // indices_or_sections
        places = list(range(0, size + 1, each)) if each else [0] * (indices_or_sections + 1)
    else:
        places = [0, *(min(int(i), size) for i in indices_or_sections), size]
        if places != sorted(places):
            raise ValueError(f"split: expected increasing places from 0 to {size}, got {indices_or_sections}")
    return [part_of(x, axis, a, b - a) for a, b in pairwise(places)]


def concatenate(tensors: Sequence[Tensor], axis: int = -1) -> Tensor:
    """Join tensors along ``axis``. ValueError unless they differ in that axis alone."""
    tensors = [as_tensor("concatenate", t) for t in tensors]
    if not tensors:
        raise ValueError("concatenate: expected at least one tensor")
    axis = normal_axis("concatenate", axis, tensors[0].rank)
    return tensors[0] if len(tensors) == 1 else apply(_CONCATENATE, tensors, axis=axis)


def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Join tensors of one shape along a new ``axis``. ValueError for other shapes."""
    tensors = [as_tensor("stack", t) for t in tensors]
    if not tensors:
        raise ValueError("stack: expected at least one tensor")
    for t in tensors:
        if t.sizes != tensors[0].sizes:
            raise ValueError(f"stack: expected tensors of one shape, got {tensors[0].shape} and {t.shape}")
    axis = normal_axis("stack", axis, tensors[0].rank + 1)
    return concatenate([expand_dims(t, axis) for t in tensors], axis)


def flip(x: Tensor, axis: int | Sequence[int] | None = None) -> Tensor:
    """The elements along some axes (None: all) in the opposite order."""
    axes = range(x.rank) if axis is None else axis if isinstance(axis, list | tuple) else [axis]
    for a in (normal_axis("flip", each, x.rank) for each in axes):
        size = x.sizes[a]
        if isinstance(size, Dim):
            raise ValueError(f"flip: expected an axis of known size, got axis {a} of {x.shape}")
        x = part_of(x, a, max(size - 1, 0), size, -1)
    return x


def pad(x: Tensor, pad_width: Any, mode: str = "constant", constant_values: float = 0.0) -> Tensor:
    """x with ``constant_values`` around it. ``pad_width``: for each axis (before, after), or one number for both; 0 for
    axes that the batch decides. ValueError for other ones, and for another mode."""
    if not isinstance(pad_width, list | tuple):
        raise ValueError(f"pad: expected (before, after) for each axis of {x.shape}, got {pad_width!r}")
    if mode != "constant":
        raise ValueError(f"pad: expected mode='constant', got {mode!r}")
    pairs = [tuple(p) if isinstance(p, list | tuple) else (p, p) for p in pad_width]
    if len(pairs) != x.rank or any(len(p) != 2 or min(p) < 0 for p in pairs):
        raise ValueError(f"pad: expected (before, after) of 0 or more for each axis of {x.shape}, got {pad_width}")
    for axis, (before, after) in enumerate(pairs):
        if not before and not after:
            continue
        sides = [
            full((*x.sizes[:axis], n, *x.sizes[axis + 1 :]), float(constant_values)) if n else None
            for n in (before, after)
        ]
        x = concatenate([part for part in (sides[0], x, sides[1]) if part is not None], axis)
    return x
