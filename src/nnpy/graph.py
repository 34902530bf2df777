"""Graph: symbolic tensors and the nodes between them, left behind when layers are called on Inputs.

A shape's first axis is the batch, ``None`` until a Program is made for a batch size. An operation is a value of
``ops.Operation``: its shape rule, gradient rule and kernel choice stand side by side in ``ops/``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpy import freezing
from nnpy.checks import flag
from nnpy.config import floatx

if TYPE_CHECKING:
    from nnpy.ops.base import Operation

Shape = tuple[int | None, ...]
_counter = itertools.count()
#: What Python's operators on tensors mean, by the functions' names; ``nnpy.ops`` fills it.
operators: dict[str, Callable[..., Any]] = {}


def _operator(name: str, swapped: bool = False) -> Callable[..., Any]:
    def method(self: Tensor, *others: Any) -> Any:
        arguments = (*others, self) if swapped else (self, *others)
        return operators[name](*arguments)

    return method


@dataclass(frozen=True, slots=True)
class Dim:
    """A size that is known once the batch is: ``coefficient * batch ** power``; or (``open``) one that may be any, as
    of an ``Input((None, 4))``: Programs are made for graphs where it is known. Shapes show both as None."""

    coefficient: int = 1
    power: int = 1
    open: bool = False

    def at(self, batch: int) -> int:
        return self.coefficient * batch**self.power


BATCH = Dim()
ANY = Dim(open=True)
Size = int | Dim


def size_of(sizes: Iterable[Size]) -> Size:
    """The product of sizes."""
    coefficient, power, any_ = 1, 0, False
    for size in sizes:
        coefficient *= size if isinstance(size, int) else size.coefficient
        power += 0 if isinstance(size, int) else size.power
        any_ |= isinstance(size, Dim) and size.open
    return Dim(coefficient, power, any_) if power and coefficient else coefficient


def divided(size: Size, by: Size) -> Size | None:
    """size / by, or None if that is no whole number of elements for every batch."""
    a, b = (s if isinstance(s, Dim) else Dim(s, 0) for s in (size, by))
    if b.coefficient == 0 or a.coefficient % b.coefficient or a.power < b.power:
        return None
    coefficient, power = a.coefficient // b.coefficient, a.power - b.power
    return Dim(coefficient, power, a.open or b.open) if power else coefficient


def concrete(sizes: Iterable[Size], batch: int) -> tuple[int, ...]:
    """The sizes for a batch."""
    return tuple(size if isinstance(size, int) else size.at(batch) for size in sizes)


# What NumPy calls the operators between an array and a tensor: the method of the tensor, which comes second.
_OF_ARRAYS = {
    "add": "__radd__", "subtract": "__rsub__", "multiply": "__rmul__", "divide": "__rtruediv__", "power": "__rpow__",
    "matmul": "__rmatmul__", "greater": "__lt__", "greater_equal": "__le__", "less": "__gt__", "less_equal": "__ge__",
}  # fmt: skip


def _no_numbers(function: Any) -> TypeError:
    return TypeError(
        f"numpy.{function.__name__}: expected arrays, got a Tensor, which has no numbers while the graph is made; "
        "nnpy.ops has the functions of tensors"
    )


class Tensor:
    """A value in the graph. ``shape``: ``(None, ...)``, None being a size that the batch decides; ``kind``: "real",
    "index" (int32) or "bool" (kept as real 0 and 1)."""

    sizes: tuple[Size, ...]
    shape: Shape
    node: Node | None
    kind: str
    number: int  # creation order: operands come before results
    call: Any  # the layer call that made it (layers.base.Call)
    mask: Tensor | None  # which of its steps count, where a layer said so

    def __init__(self, shape: Sequence[Any], node: Node | None = None, name: str = "", kind: str = "real"):
        sizes = [(ANY if axis else BATCH) if size is None else size for axis, size in enumerate(shape)]
        self.sizes = tuple(sizes)
        self.shape = tuple([size if isinstance(size, int) else None for size in sizes])
        self.node, self._name, self.kind, self.number = node, name, kind, next(_counter)
        self.call = self.mask = None

    @property
    def name(self) -> str:
        """Its own, or that of the layers and the operation which it is a result of."""
        if self._name or self.node is None:
            return self._name
        scope = self.node.scope
        return f"{scope}/{self.node.operation.name}" if scope else self.node.operation.name

    @property
    def rank(self) -> int:
        return len(self.sizes)

    ndim = rank

    @property
    def is_open(self) -> bool:
        """Whether it has a size that may be any."""
        for size in self.sizes:  # noqa: SIM110  every call asks, and any() takes twice as long
            if isinstance(size, Dim) and size.open:
                return True
        return False

    @property
    def dtype(self) -> str:
        """The name of its dtype: "float32" or "float64" (``floatx()``; a Program's is that of its model), "int32" or
        "bool"."""
        return {"real": floatx(), "index": "int32"}.get(self.kind, self.kind)

    @property
    def made_by(self) -> Node:
        """The node that it is an output of. Raises ValueError for a leaf: an Input or a Parameter."""
        if self.node is None:
            raise ValueError(f"{self!r}: expected the result of an operation, got an input or a parameter")
        return self.node

    def concrete(self, batch: int) -> tuple[int, ...]:
        """The shape for a batch size."""
        return concrete(self.sizes, batch)

    def __len__(self) -> int:
        if not self.shape or self.shape[0] is None:
            raise TypeError(f"{self!r}: has no length: the batch is not known before it runs")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self!r}: has no truth value while the graph is made; nnpy.ops.where(condition, x, y) chooses by element"
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError(f"{self!r}: has no numbers while the graph is made; nnpy.ops has the functions of tensors")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """``array + tensor`` and its kin are the tensor's; NumPy's other functions take none."""
        if ufunc in (np.equal, np.not_equal):  # tensors are compared as objects
            return ufunc is np.not_equal
        operator = _OF_ARRAYS.get(ufunc.__name__, "")
        if method == "__call__" and not options and not isinstance(inputs[0], Tensor) and hasattr(Tensor, operator):
            return getattr(inputs[1], operator)(inputs[0])
        raise _no_numbers(ufunc)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NumPy's functions take variables, which have numbers, and no other tensors."""
        if all(issubclass(kind, Variable | np.ndarray) for kind in types):
            return function._implementation(*args, **kwargs)
        raise _no_numbers(function)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name or self.number} {self.shape}>"

    __add__, __radd__ = _operator("add"), _operator("add", True)
    __sub__, __rsub__ = _operator("subtract"), _operator("subtract", True)
    __mul__, __rmul__ = _operator("multiply"), _operator("multiply", True)
    __truediv__, __rtruediv__ = _operator("divide"), _operator("divide", True)
    __matmul__, __rmatmul__ = _operator("matmul"), _operator("matmul", True)
    __pow__, __rpow__ = _operator("power"), _operator("power", True)
    __lt__, __le__, __gt__, __ge__ = (_operator(name) for name in ("less", "less_equal", "greater", "greater_equal"))
    __neg__, __abs__, __getitem__ = _operator("negative"), _operator("abs"), _operator("getitem")


class Variable(Tensor):
    """An array that outlives a step. ``role``: "weight" (an optimizer changes it), "statistic", "slot" (of an
    optimizer), "accumulator" (of a metric) or "state" (carried from step to step).

    ``value`` is the array itself; it may be set, to an array of its shape; ``numpy()`` is a copy.
    """

    value: np.ndarray
    role: str

    def __init__(self, value: np.ndarray, name: str, role: str = "state", kind: str = "real"):
        shape = value.shape
        self.__dict__.update(  # past __setattr__: a deep network has thousands
            sizes=shape, shape=shape, node=None, _name=name, kind=kind, number=next(_counter), call=None, mask=None,
            value=value, role=role,
        )  # fmt: skip

    @property
    def dtype(self) -> str:
        return self.value.dtype.name

    def __setattr__(self, name: str, value: Any) -> None:
        # Not a property: a prediction reads the values of all parameters, and an attribute is quicker to read.
        if name == "value" and "value" in self.__dict__:
            value = self._checked(value)
        super().__setattr__(name, value)

    def _checked(self, value: Any) -> np.ndarray:
        """``value`` as an array of the variable's shape and of real numbers. TypeError, ValueError otherwise."""
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


class Parameter(Variable):
    """A variable of a layer: what an optimizer changes, or, not ``trainable``, a kernel: running statistics.

    Once the model is built its value is a view of the model's flat buffer. ``regularizer``: what adds a penalty on it
    to the loss; ``constraint``: what it is made to be after each update.
    """

    trainable: bool
    owner: Any  # the layer that made it
    regularizer: Any
    constraint: Any

    def __init__(
        self, value: np.ndarray, name: str, trainable: bool = True, owner: Any = None, regularizer: Any = None,
        constraint: Any = None,
    ):  # fmt: skip
        super().__init__(value, name, "weight")
        self.__dict__.update(trainable=trainable, owner=owner, regularizer=regularizer, constraint=constraint)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "trainable":
            super().__setattr__(name, value)
        elif flag(self.name, name, value) != self.trainable:
            self.__dict__[name] = bool(value)
            freezing.changed()


class Node:
    """One operation applied to tensors. ``attributes`` are its constants."""

    def __init__(self, operation: Operation, inputs: Sequence[Tensor], attributes: dict[str, Any] | None = None):
        self.operation = operation
        self.inputs = tuple(inputs)
        self.attributes = attributes or {}
        self.made_in = _scope.get()
        self.number = next(_counter)
        self.outputs: tuple[Tensor, ...] = ()

    @property
    def output(self) -> Tensor:
        return self.outputs[0]

    @property
    def scope(self) -> str:
        """The path of layers that made it: "model/block/dense"."""
        return "" if self.made_in is None else self.made_in.path

    def __repr__(self) -> str:
        before, after = ([t.shape for t in tensors] for tensors in (self.inputs, self.outputs))
        return f"<Node {self.operation.name} {self.scope} {before} -> {after}>"


class Scope:
    """A stretch of making nodes: the layer ``name`` in the scope ``outer``, and what came up in it and inside it.

    Nodes made inside of ``with`` belong to its layer; errors and probes speak of it. Each thread has its own.
    ``losses``: tensors to be added to the loss; ``effects``: nodes that are there for what they do, not for an output;
    ``asks``: whether something asked if it trains.
    """

    __slots__ = ("asks", "effects", "losses", "name", "outer")

    def __init__(self, name: str, outer: Scope | None = None):
        self.name, self.outer, self.asks = name, outer, False
        self.losses: list[Tensor] = []
        self.effects: list[Node] = []

    @property
    def path(self) -> str:
        """Of the layers whose calls were under way, the outermost first: "model/block/dense". Made where it is asked
        for: of a model in a model in a model, ... it is as long as they are deep."""
        names: list[str] = []
        scope: Scope | None = self
        while scope is not None:
            names.append(scope.name)
            scope = scope.outer
        return "/".join(name for name in reversed(names) if name)

    def __enter__(self) -> Scope:
        _scope.set(self)
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        outer = self.outer
        _scope.set(outer)
        if outer is not None and kind is None:
            outer.losses += self.losses
            outer.effects += self.effects
            outer.asks = outer.asks or self.asks


_scope: ContextVar[Scope | None] = ContextVar("nnpy_scope", default=None)


def current_scope() -> Scope | None:
    return _scope.get()


def scope(name: str) -> Scope:
    """The scope of the layer ``name`` in the one that is under way: ``with scope(name) as made``."""
    return Scope(name, _scope.get())


@contextmanager
def apart() -> Iterator[None]:
    """What comes up inside belongs to no call that is under way; errors still give its path."""
    outer = _scope.get()
    _scope.set(None if outer is None else Scope("", outer))
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
    return _made(operation, tuple(inputs), attributes).outputs[0]


def make(operation: Operation, inputs: Iterable[Tensor], **attributes) -> Node:
    """The node itself. Raises TypeError for inputs that are no tensors, or class numbers where reals are computed with,
    ValueError for shapes that do not fit."""
    return _made(operation, tuple(inputs), attributes)


def _made(operation: Operation, inputs: tuple[Tensor, ...], attributes: dict[str, Any]) -> Node:
    for position, tensor in enumerate(inputs):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{operation.name}: expected input {position} to be a Tensor, got {type(tensor).__name__}")
    node = Node(operation, inputs, attributes)
    if not operation.takes_indices and "index" in [tensor.kind for tensor in inputs]:
        raise TypeError(
            f"{node.scope or operation.name}: expected real numbers, got the indices of an Input of integers; "
            "without its dtype, Input takes integers too and converts them"
        )
    results = operation.infer(node)
    kinds = operation.kinds(node)
    node.outputs = tuple([Tensor(shape, node, "", kinds) for shape in results])
    return node


def ordered(outputs: Iterable[Tensor | Node]) -> list[Node]:
    """The nodes that ``outputs`` depend on, operands first (iterative: depth is not bounded by Python's stack)."""
    done: set[int] = set()
    order: list[Node] = []
    roots = [made for t in outputs if (made := t if isinstance(t, Node) else t.node) is not None]
    stack: list[tuple[Node, bool]] = [(node, False) for node in reversed(roots)]
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


def count_of(sizes: Iterable[Size], batch: int) -> int:
    """Elements of a shape at a batch size, 1 where there are none: what a mean divides by."""
    return max(1, prod(concrete(sizes, batch)))
