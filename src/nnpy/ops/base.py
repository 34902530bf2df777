"""Operation: shape rule, gradient rule and kernel choice of one kind of node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nncore import Step
from nnpy.graph import Node, Shape, Tensor

if TYPE_CHECKING:
    from nnpy.compiler.lower import Item, Lowering
    from nnpy.compiler.memory import Slot


class At(NamedTuple):
    """Where an operand's elements are, as ``nncore.Operand`` has it. ``ld`` None: that of the item."""

    ld: int | None = None
    cs: int = 1
    div: int = 1
    mod: int = 0


MATRIX = At()  # laid out as the item's result
ROW = At(0)  # one row for all
COLUMN = At(1, 0)  # a number for each row


@dataclass(frozen=True, slots=True)
class StepSpec:
    """A ``nncore.Step`` whose operands are still tensors (or, while lowering, memory)."""

    kind: str
    p: Tensor | Any = None
    q: Tensor | Any = None
    p_at: At = MATRIX
    q_at: At = MATRIX
    s0: float = 0.0
    s1: float = 0.0
    stream: Node | None = None  # the dropout node whose random stream this is
    ready: Step | None = None  # a step whose operands are arrays already: the optimizer's

    @property
    def by_column(self) -> bool:
        """Whether it matters where a row ends."""
        return self.kind == "norm_grad" or self.p_at != MATRIX or self.q_at != MATRIX

    def operands(self) -> list[Tensor]:
        return [t for t in (self.p, self.q) if t is not None]


class Sums(NamedTuple):
    """What a convolution leaves for the node that reads its result (``Operation.summed``): sums by column over parts of
    the rows, [parts, 2, columns], and how many rows each part has."""

    partial: Slot
    counts: np.ndarray


def shares(count: int, parts: int) -> np.ndarray:
    """How many of ``count`` each part has, as nncore's ``split`` shares them out."""
    each = np.full(parts, count // parts)
    each[: count % parts] += 1
    return each


class Operation:
    """Subclasses say what an operation is; instances are shared constants without state."""

    name = ""
    #: its nodes can become the head of a fused group: the kernel applies steps to its result
    takes_steps = False
    #: it can read indices (class numbers); all other operations compute with real numbers
    takes_indices = False

    def infer(self, node: Node) -> list[Shape]:
        """The shapes of the outputs. Raises ValueError for inputs that do not fit."""
        raise TypeError(f"{self.name}: has no shape rule")

    def gradient(self, node: Node, upstream: Tensor, needs: Sequence[bool]) -> list[Tensor | None]:
        """For each input that ``needs`` it, the gradient of the loss by it, given that by the first output."""
        raise TypeError(f"{self.name} ({node.scope}): has no gradient rule")

    def lower(self, item: Item, low: Lowering) -> None:
        """Emit the kernel calls of a node and of the steps fused to it."""
        raise TypeError(f"{self.name}: has no kernel")

    def inference(self, node: Node, inputs: Sequence[Tensor]) -> Tensor | None:
        """What replaces the node's output in a Program for inference, given its inputs there; None: the node stays."""
        return None

    def summed(self, node: Node) -> tuple[Tensor, dict[str, Tensor]] | None:
        """The input whose ``Sums`` the node's kernels begin with, and what the kernel conv needs to gather them."""
        return None

    #: True where the output is the first input's memory in another shape
    is_alias = False


class Elementwise(Operation):
    """An operation that is some steps on its first input (on either, where ``commutative``)."""

    commutative = False

    def steps(self, node: Node, primary: int) -> list[StepSpec]:
        raise TypeError(f"{self.name}: has no steps")

    def infer(self, node: Node) -> list[Shape]:
        first = node.inputs[0].shape
        for other in node.inputs[1:]:
            if other.shape != first:
                raise ValueError(f"{label(node)}: expected inputs of one shape, got {first} and {other.shape}")
        return [first]


def label(node: Node) -> str:
    """How errors name a node: its layer if it has one."""
    return f"{node.scope} ({node.operation.name})" if node.scope else node.operation.name
