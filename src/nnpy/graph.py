"""Graph: symbolic tensors and the nodes between them, left behind when layers are called on Inputs.

A shape's first axis is the batch, ``None`` until a Program is made for a batch size. An operation is a value of
``ops.Operation``: its shape rule, gradient rule and kernel choice stand side by side in ``ops/``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nnpy.ops.base import Operation

Shape = tuple[int | None, ...]
_counter = itertools.count()


class Tensor:
    """A value in the graph. ``shape``: ``(None, ...)``, None being the batch; ``kind``: "real" or "index" (int32)."""

    __array_ufunc__ = None  # array + tensor is an error, not an array of tensors

    def __init__(self, shape: Shape, node: Node | None = None, name: str = "", kind: str = "real"):
        self.shape = tuple(shape)
        self.node = node
        self.name = name
        self.kind = kind
        self.number = next(_counter)  # creation order: operands come before results
        self.call: Any = None  # the layer call that made it (layers.base.Call)
        self.mask: Tensor | None = None  # which of its steps count, where a layer said so

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def made_by(self) -> Node:
        """The node that it is an output of. Raises ValueError for a leaf: an Input or a Parameter."""
        if self.node is None:
            raise ValueError(f"{self!r}: expected the result of an operation, got an input or a parameter")
        return self.node

    def concrete(self, batch: int) -> tuple[int, ...]:
        """The shape for a batch size."""
        return tuple(batch if size is None else size for size in self.shape)

    def __add__(self, other):
        from nnpy import ops

        return ops.add(self, other) if isinstance(other, Tensor) else ops.affine(self, 1.0, other)

    __radd__ = __add__

    def __sub__(self, other):
        from nnpy import ops

        return ops.subtract(self, other) if isinstance(other, Tensor) else ops.affine(self, 1.0, -other)

    def __rsub__(self, other):
        from nnpy import ops

        return ops.affine(self, -1.0, other)

    def __mul__(self, other):
        from nnpy import ops

        return ops.multiply(self, other) if isinstance(other, Tensor) else ops.affine(self, other, 0.0)

    __rmul__ = __mul__

    def __truediv__(self, other):
        from nnpy import ops

        return ops.divide(self, other) if isinstance(other, Tensor) else ops.affine(self, 1.0 / other, 0.0)

    def __neg__(self):
        from nnpy import ops

        return ops.affine(self, -1.0, 0.0)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name or self.number} {self.shape}>"


class Parameter(Tensor):
    """A tensor that a layer owns and an optimizer changes (or, not ``trainable``, a kernel: running statistics).

    ``value`` is the array itself; once the model is built it is a view of the model's flat buffer. It may be set, to an
    array of its shape; ``numpy()`` is a copy.
    """

    def __init__(self, value: np.ndarray, name: str, trainable: bool = True):
        super().__init__(value.shape, None, name)
        self.value = value
        self.trainable = trainable
        self.owner: Any = None  # the layer that made it
        self.l1 = 0.0  # regularization: loss += l1 * sum(|w|) + l2 * sum(w^2)
        self.l2 = 0.0

    def __setattr__(self, name: str, value: Any) -> None:
        # Not a property: a prediction reads the values of all parameters, and an attribute is quicker to read.
        if name == "value" and "value" in self.__dict__:
            value = self._checked(value)
        super().__setattr__(name, value)

    def _checked(self, value: Any) -> np.ndarray:
        """``value`` as an array of the parameter's shape and of real numbers. TypeError, ValueError otherwise."""
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{self.name}: expected real numbers, got dtype {array.dtype}")
        if array.shape != self.value.shape:
            raise ValueError(f"{self.name}: expected shape {self.value.shape}, got {array.shape}")
        return array if array.dtype.kind == "f" else array.astype(self.value.dtype)

    def assign(self, value: Any) -> None:
        """Copy ``value`` in. Raises ValueError if the shape differs, TypeError for what holds no real numbers."""
        self.value[...] = self._checked(value)

    def numpy(self) -> np.ndarray:
        """A copy of the value."""
        return np.array(self.value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.value, dtype, copy=copy)


class Node:
    """One operation applied to tensors. ``attributes`` are its constants; ``scope``: the path of layers that made it,
    "model/block/dense"."""

    def __init__(self, operation: Operation, inputs: Sequence[Tensor], attributes: dict[str, Any] | None = None):
        self.operation = operation
        self.inputs = tuple(inputs)
        self.attributes = attributes or {}
        self.scope = path()
        self.outputs: tuple[Tensor, ...] = ()

    @property
    def output(self) -> Tensor:
        return self.outputs[0]

    def __repr__(self) -> str:
        before, after = ([t.shape for t in tensors] for tensors in (self.inputs, self.outputs))
        return f"<Node {self.operation.name} {self.scope} {before} -> {after}>"


class Scope:
    """A stretch of making nodes: the ``path`` of layers, and what came up in it and in the scopes inside it.

    ``losses``: tensors to be added to the loss; ``effects``: nodes that are there for what they do, not for an output;
    ``asks``: whether something asked if it trains.
    """

    __slots__ = ("asks", "effects", "losses", "path")

    def __init__(self, path: str):
        self.path, self.asks = path, False
        self.losses: list[Tensor] = []
        self.effects: list[Node] = []


_scope: ContextVar[Scope | None] = ContextVar("nnpy_scope", default=None)


def path() -> str:
    """Of the layers whose calls are under way, the outermost first: "model/block/dense"."""
    current = _scope.get()
    return "" if current is None else current.path


def current_scope() -> Scope | None:
    return _scope.get()


@contextmanager
def scope(name: str) -> Iterator[Scope]:
    """Nodes made inside belong to the layer ``name``; its errors and probes speak of it. Each thread has its own."""
    outer = _scope.get()
    inner = Scope(f"{outer.path}/{name}" if outer is not None and outer.path else name)
    _scope.set(inner)
    try:
        yield inner
    finally:
        _scope.set(outer)
    if outer is not None:
        outer.losses += inner.losses
        outer.effects += inner.effects
        outer.asks = outer.asks or inner.asks


@contextmanager
def apart() -> Iterator[None]:
    """What comes up inside belongs to no call that is under way; errors still give its path."""
    outer = _scope.get()
    _scope.set(None if outer is None else Scope(outer.path))
    try:
        yield
    finally:
        _scope.set(outer)


def record(effect: Node) -> Node:
    """An effect that was made: the layer call that is under way keeps it."""
    current = _scope.get()
    if current is not None:
        current.effects.append(effect)
    return effect


def apply(operation: Operation, inputs: Iterable[Tensor], **attributes) -> Tensor:
    """Make a node; the shape rule checks the inputs. Returns the first output; all are ``.made_by.outputs``."""
    inputs = tuple(inputs)
    for position, tensor in enumerate(inputs):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{operation.name}: expected input {position} to be a Tensor, got {type(tensor).__name__}")
    node = Node(operation, inputs, attributes)
    if not operation.takes_indices and any(tensor.kind == "index" for tensor in inputs):
        raise TypeError(
            f"{node.scope or operation.name}: expected real numbers, got the indices of an Input of integers; "
            "without its dtype, Input takes integers too and converts them"
        )
    results = operation.infer(node)
    node.outputs = tuple(
        Tensor(shape, node, f"{node.scope}/{operation.name}" if node.scope else operation.name) for shape in results
    )
    return node.outputs[0]


def ordered(outputs: Iterable[Tensor]) -> list[Node]:
    """The nodes that ``outputs`` depend on, operands first (iterative: depth is not bounded by Python's stack)."""
    done: set[int] = set()
    order: list[Node] = []
    stack: list[tuple[Node, bool]] = [(t.node, False) for t in reversed(list(outputs)) if t.node is not None]
    while stack:
        node, expanded = stack.pop()
        if id(node) in done:
            continue
        if expanded:
            done.add(id(node))
            order.append(node)
            continue
        stack.append((node, True))
        stack.extend((t.node, False) for t in reversed(node.inputs) if t.node is not None and id(t.node) not in done)
    return order
