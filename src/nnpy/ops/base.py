"""Operation: shape rule, gradient rule, kernel choice and NumPy reference of one kind of node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from nnpy.graph import Node, Size, Tensor, Variable

if TYPE_CHECKING:
    from nnpy.compiler.lower import Item, Lowering
    from nnpy.compiler.memory import Slot


@dataclass(frozen=True, slots=True)
class StepSpec:
    """A ``nncore.Step`` whose operands are still tensors (or, while lowering, memory). Tensors are broadcast to what
    the step is done to; memory is a row that holds for all rows. ``per``: s0 is divided by the elements of a tensor of
    these sizes."""

    kind: str
    p: Tensor | Any = None
    q: Tensor | Any = None
    s0: float = 0.0
    s1: float = 0.0
    stream: Stream | None = None  # what dropout draws from
    update: Node | None = None  # the optimizer's step behind a weight gradient
    per: tuple[Size, ...] = ()
    at: tuple[int, ...] = ()  # the shape of what it is done to, which operands are broadcast to
    temporary: int = -1  # the tile of a chain that the step "save" fills; operands that are numbers are such tiles

    def replaced(self, **changes: Any) -> StepSpec:
        return replace(self, **changes)

    def operands(self) -> list[Tensor]:
        return [t for t in (self.p, self.q) if isinstance(t, Tensor)]


class Stream:
    """What a node draws from: one of its own for each layer's call, shared by the node and its gradient. ``seed``: of a
    stream whose number does not depend on the place of the node in the graph."""

    def __init__(self, seed: int | None = None):
        self.seed = seed


class Sums(NamedTuple):
    """What a product or a convolution leaves for a node that reads its result (``Operation.summed``): sums by column
    over parts of the rows, [parts, columns] or [parts, 2, columns], and how many rows each part has."""

    partial: Slot
    counts: np.ndarray


def shares(count: int, parts: int) -> np.ndarray:
    """How many of ``count`` each part has, as nncore's ``split`` shares them out."""
    each = np.full(parts, count // parts)
    each[: count % parts] += 1
    return each


class Operation:
    """Subclasses say what an operation is; instances are shared constants without state, in ``registry`` by name.

    ``attributes``: names and types of a node's constants. Files, tests and ``explain`` walk the registry.
    """

    registry: ClassVar[dict[str, Operation]] = {}

    name = ""
    #: a node's constants and their types; what JSON cannot hold (a function, a window) keeps it out of files
    attributes: ClassVar[dict[str, type]] = {}
    #: its nodes can become the head of a fused group: the kernel applies steps to its result
    takes_steps = False
    #: its kernel can do the steps of a chain that makes its first input (``Item.before``)
    reads_chains = False
    #: it can read indices (class numbers); all other operations compute with real numbers
    takes_indices = False
    #: the output is the first input's memory, looked at in another way (``Operation.view``)
    is_alias = False
    #: it is done for what it does, not for its outputs: ``compile_step`` begins with such nodes
    is_effect = False
    #: it has numbers of its own at every draw: two nodes of one graph never share a stream
    is_random = False
    #: the optimizer may update the weight whose gradient it is at the end of its kernel
    updates_behind = False
    #: it is a gradient of another operation and has none itself
    is_gradient = False

    def __init__(self, name: str = ""):
        self.name = name or self.name
        if self.name in Operation.registry:
            raise ValueError(f"two operations are named {self.name!r}")
        Operation.registry[self.name] = self

    def infer(self, node: Node) -> Sequence[Sequence[Size | None]]:
        """The shapes of the outputs. Raises ValueError for inputs that do not fit."""
        raise TypeError(f"{self.name}: has no shape rule")

    def kinds(self, node: Node) -> str:
        """The kind of its outputs."""
        return "real"

    def gradient(
        self, node: Node, upstreams: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        """For each input that ``needs`` it, the gradient of a scalar by it, given those by the outputs (None: the
        scalar does not depend on this one)."""
        raise TypeError(f"{label(node)}: has no gradient rule")

    def lower(self, item: Item, low: Lowering) -> None:
        """Emit the kernel calls of a node and of the steps fused to it."""
        raise TypeError(f"{self.name}: has no kernel")

    def view(self, node: Node, shape: tuple[int, ...], strides: tuple[int, ...], batch: int) -> Any:
        """Of an alias: (offset, strides) of the output in elements, where the input has ``shape`` and ``strides``; None
        where it cannot be seen so without a copy."""
        raise TypeError(f"{self.name}: is no alias")

    def reference(self, *arrays: Any, **attributes: Any) -> Any:
        """What it computes, in NumPy: the first output, or a tuple of all."""
        raise TypeError(f"{self.name}: has no reference")

    def inference(self, node: Node, inputs: Sequence[Tensor]) -> Tensor | None:
        """What replaces the node's output in a Program for inference, given its inputs there; None: the node stays."""
        return None

    def frozen(self, node: Node) -> bool:
        """Whether the node is replaced by that while training too."""
        return False

    def summed(self, node: Node) -> tuple[Tensor, str, dict[str, Tensor]] | None:
        """The input whose ``Sums`` the node's kernels begin with, the pointer of the kernels gemm and conv that leaves
        them ("sums", which gemm alone has, or "partial") and what else these need to gather them."""
        return None

    def mutated(self, node: Node) -> Sequence[Variable]:
        """Variables that it changes."""
        return ()


class Elementwise(Operation):
    """An operation that is some steps on its first input (on either, where ``commutative``), all of them broadcast to
    one shape."""

    commutative = False

    def steps(self, node: Node, primary: int) -> list[StepSpec]:
        raise TypeError(f"{self.name}: has no steps")

    def infer(self, node: Node) -> Sequence[Sequence[Size | None]]:
        return [broadcast(node, *(t.sizes for t in node.inputs))]


def broadcast(node: Node, *shapes: Sequence[Size]) -> tuple[Size, ...]:
    """The shape that they have together by NumPy's rule. Raises ValueError where there is none."""
    if shapes.count(shapes[0]) == len(shapes):
        return tuple(shapes[0])
    if len(shapes) == 2:  # a bias: there may be thousands
        long, short = shapes if len(shapes[0]) > len(shapes[1]) else reversed(shapes)
        if tuple(long[len(long) - len(short) :]) == tuple(short):
            return tuple(long)
    result: list[Size] = []
    for place in range(-max(map(len, shapes)), 0):
        sizes = {shape[place] for shape in shapes if len(shape) >= -place} - {1}
        if len(sizes) > 1:
            shown = " and ".join(str(tensor.shape) for tensor in node.inputs)
            raise ValueError(f"{label(node)}: expected shapes that broadcast together, got {shown}")
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def label(node: Node) -> str:
    """How errors name a node: its layer if it has one."""
    return f"{node.scope} ({node.operation.name})" if node.scope else node.operation.name
