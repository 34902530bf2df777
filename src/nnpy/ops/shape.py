"""Operations on shapes: reshape is free; concatenation and slicing copy rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from nnpy.graph import Tensor, apply
from nnpy.ops.base import Operation, label


class _Reshape(Operation):
    """Attributes: ``shape``: of samples, or where ``whole`` of all."""

    name = "reshape"

    is_alias = True

    def infer(self, node):
        old, new = node.inputs[0].shape, node.attributes["shape"]
        if node.attributes.get("whole"):
            if None in old or prod(old) != prod(new):
                raise ValueError(f"{label(node)}: cannot make {new} of {old}")
            return [new]
        if new == old[1:]:
            return [old]
        if None in old[1:] or prod(old[1:]) != prod(new):
            raise ValueError(
                f"{label(node)}: cannot make {new} of samples of shape {old[1:]}: {prod(old[1:])} elements are not "
                f"{prod(new)}"
            )
        return [(old[0], *new)]

    def gradient(self, node, upstream, needs):
        if node.attributes.get("whole"):
            return [apply(self, [upstream], shape=node.inputs[0].shape, whole=True)]
        return [apply(self, [upstream], shape=node.inputs[0].shape[1:])]


class _Concatenate(Operation):
    """Joins along ``axis``, counted without the batch; each input is a run of columns of the result's rows."""

    name = "concatenate"

    def infer(self, node):
        axis, first = node.attributes["axis"], node.inputs[0].shape
        for other in (t.shape for t in node.inputs):
            if len(other) != len(first) or other[:axis] + other[axis + 1 :] != first[:axis] + first[axis + 1 :]:
                shapes = ", ".join(str(t.shape) for t in node.inputs)
                raise ValueError(f"{label(node)}: expected shapes that differ in axis {axis} alone, got {shapes}")
        return [(*first[:axis], sum(t.shape[axis] for t in node.inputs), *first[axis + 1 :])]

    def gradient(self, node, upstream, needs):
        axis, start, grads = node.attributes["axis"], 0, []
        for tensor, wanted in zip(node.inputs, needs, strict=True):
            size = tensor.shape[axis]
            grads.append(apply(_SLICE, [upstream], axis=axis, start=start, size=size) if wanted else None)
            start += size
        return grads

    def lower(self, item, low):
        axis, out = item.node.attributes["axis"], item.output
        width, start = prod(out.shape[axis:]), 0
        for tensor in item.node.inputs:
            cols = prod(tensor.shape[axis:])
            rows = low.count(tensor) // max(1, cols)
            low.call(
                "chain", out=low.at(out, start), x=tensor, rows=rows, cols=cols, ld_out=width, ld_x=cols,
                work=rows * cols,
            )  # fmt: skip
            start += cols


class _Slice(Operation):
    """Elements [start, start + size) of ``axis``."""

    name = "slice"

    def infer(self, node):
        shape, axis = node.inputs[0].shape, node.attributes["axis"]
        return [(*shape[:axis], node.attributes["size"], *shape[axis + 1 :])]

    def lower(self, item, low):
        x, axis = item.node.inputs[0], item.node.attributes["axis"]
        inner = prod(x.shape[axis + 1 :])
        width, cols = x.shape[axis] * inner, item.node.attributes["size"] * inner
        rows = low.count(x) // max(1, width)
        start = item.node.attributes["start"] * inner
        low.call(
            "chain", out=item.output, x=low.at(x, start), rows=rows, cols=cols, ld_out=cols, ld_x=width,
            work=rows * cols,
        )  # fmt: skip


class _Open(Operation):
    """The result of a layer on inputs of sizes that may be any. Attribute: ``shape``. No Program has it: for one the
    layers are called on inputs of known sizes."""

    name = "open"
    takes_indices = True

    def infer(self, node):
        return [node.attributes["shape"]]


_OPEN = _Open()
_RESHAPE = _Reshape()
_CONCATENATE = _Concatenate()
_SLICE = _Slice()


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The same elements in samples of ``shape`` (without the batch)."""
    return apply(_RESHAPE, [x], shape=tuple(shape))


def reshape_whole(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The same elements in another shape; for parameters, which have no batch."""
    return apply(_RESHAPE, [x], shape=tuple(shape), whole=True)


def open_result(inputs: Iterable[Tensor], like: Tensor, other: Sequence[int | None]) -> Tensor:
    """What a layer gives for inputs of any size: of the shape of ``like``, None where the shape ``other`` differs."""
    shape = tuple(a if a == b else None for a, b in zip(like.shape, other, strict=True))
    return apply(_OPEN, inputs, shape=shape)


def flatten(x: Tensor) -> Tensor:
    """Each sample as one row."""
    return x if x.rank == 2 else reshape(x, (prod(x.concrete(1)[1:]),))


def concatenate(tensors: Sequence[Tensor], axis: int = -1) -> Tensor:
    """Join tensors along ``axis``; not along the batch."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError("concatenate: expected at least one tensor")
    rank = tensors[0].rank
    if isinstance(axis, bool) or not isinstance(axis, int) or not -rank <= axis < rank or axis % rank == 0:
        raise ValueError(f"concatenate: expected an axis from 1 to {rank - 1} (or counted from the end), got {axis!r}")
    return tensors[0] if len(tensors) == 1 else apply(_CONCATENATE, tensors, axis=axis % rank)
