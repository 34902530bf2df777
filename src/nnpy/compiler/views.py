"""Views: which tensors are the same memory looked at in another way, and how a kernel's steps address an operand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple

from nnpy.graph import Node, Tensor
from nnpy.ops.shape import contiguous


class View(NamedTuple):
    """``root``'s memory from element ``offset`` on, with ``strides`` in elements."""

    root: Tensor
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def is_contiguous(self) -> bool:
        """Its elements lie one behind the other."""
        return prod(self.shape) == 0 or all(
            n == 1 or s == c for n, s, c in zip(self.shape, self.strides, contiguous(self.shape), strict=True)
        )


class Views:
    """The views of a graph's tensors at a batch size. ``aliases``: nodes that need no kernel."""

    def __init__(self, order: Iterable[Node], batch: int):
        self.batch = batch
        self.aliases: set[Node] = set()
        self._views: dict[Tensor, View] = {}
        for node in order:
            if not node.operation.is_alias:
                continue
            base = self.of(node.inputs[0])
            seen = node.operation.view(node, base.shape, base.strides, batch)
            if seen is not None:
                offset, strides = seen
                shape = node.output.concrete(batch)
                self._views[node.output] = View(base.root, base.offset + offset, shape, tuple(strides))
                self.aliases.add(node)

    def of(self, tensor: Tensor) -> View:
        found = self._views.get(tensor)
        if found is None:
            shape = tensor.concrete(self.batch)
            found = self._views[tensor] = View(tensor, 0, shape, contiguous(shape))
        return found

    def root(self, tensor: Tensor) -> Tensor:
        """The tensor whose memory it is."""
        return self.of(tensor).root

    def is_whole(self, tensor: Tensor) -> bool:
        """Whether it is all of its root, in the same order."""
        view = self.of(tensor)
        return view.root is tensor or (
            view.offset == 0 and view.is_contiguous and prod(view.shape) == prod(view.root.concrete(self.batch))
        )


class Address(NamedTuple):
    """Where the operand of a step is for (row, col): ((row // div) % mod, or row // div) * ld + col * cs."""

    ld: int
    cs: int = 1
    div: int = 1
    mod: int = 0


def merged(shape: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """(size, stride) of as few axes as give the same addresses in the same order."""
    axes: list[tuple[int, int]] = []
    for size, stride in zip(shape, strides, strict=True):
        if size == 1:
            continue
        if axes and axes[-1][1] == size * stride:
            axes[-1] = (axes[-1][0] * size, stride)
        else:
            axes.append((size, stride))
    return axes


def address(shape: Sequence[int], strides: Sequence[int], cols: int) -> Address | None:
    """How rows of ``cols`` elements of ``shape`` find an operand of ``strides`` (0 where it is broadcast); None: it
    must be copied first."""
    if min(strides, default=0) < 0:
        return None
    axes = merged(shape, strides)
    if len(axes) <= 1 and (not axes or axes[0][1] in (0, 1)):  # one number, or all of it
        return Address(cols * axes[0][1], axes[0][1]) if axes else Address(0, 0)
    inner, place = 1, len(shape)
    while place and inner < cols:
        place -= 1
        inner *= shape[place]
    if inner != cols:
        return None
    along, down = merged(shape[place:], strides[place:]), merged(shape[:place], strides[:place])
    if len(along) > 1 or (along and along[0][1] not in (0, 1)):
        return None
    cs = along[0][1] if along else 1 if cols == 1 else 0
    still = [stride == 0 for _, stride in down]
    if len(down) == 0:
        return Address(0, cs)
    if len(down) == 1:
        return Address(down[0][1], cs)
    if len(down) == 2 and still[1]:
        return Address(down[0][1], cs, div=down[1][0])
    if len(down) == 2 and still[0]:
        return Address(down[1][1], cs, mod=down[1][0])
    if len(down) == 3 and still[0] and still[2]:
        return Address(down[1][1], cs, div=down[2][0], mod=down[1][0])
    return None


def broadcast_strides(view: View, shape: Sequence[int]) -> tuple[int, ...]:
    """The strides with which it fills ``shape``, 0 along axes that are repeated. A view of as many elements in another
    shape is looked at as it is."""
    if prod(view.shape) == prod(shape) and view.is_contiguous:
        return contiguous(shape)
    extra = len(shape) - len(view.shape)
    own = (0 if n == 1 else stride for n, stride in zip(view.shape, view.strides, strict=True))
    return (*[0] * extra, *own)
