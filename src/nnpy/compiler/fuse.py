"""Fusion: nodes become items, each one kernel and the steps it applies to its result while that is in cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nnpy.graph import Node, Parameter, Tensor
from nnpy.ops.base import Elementwise, StepSpec
from nnpy.ops.elementwise import unfused
from nnpy.ops.linear import BY_WEIGHT

_WIDE = 32  # narrower weights are updated faster as part of the flat buffer than row by row


@dataclass(eq=False)
class Item:
    """``node``'s kernel, then ``steps``; ``output`` is the last step's result. A chain reads ``source`` instead.

    ``columns``: what a row has for the steps that work by column; None where no step has yet decided (in a chain).
    A reshape between two steps does not change it.
    """

    node: Node
    output: Tensor
    steps: list[StepSpec] = field(default_factory=list)
    source: Tensor | None = None
    columns: int | None = None

    @classmethod
    def of_kernel(cls, node: Node) -> Item:
        return cls(node, node.output, columns=node.output.shape[-1] if node.output.shape else 1)

    @classmethod
    def of_steps(cls, node: Node, steps: list[StepSpec]) -> Item:
        item = cls(node, node.output, source=node.inputs[0])
        item.extend(steps, node.output)
        return item

    def extend(self, steps: list[StepSpec], output: Tensor) -> None:
        """More steps, of which ``output`` is the result."""
        if by_column(steps):
            self.columns = output.shape[-1]
        self.steps += steps
        self.output = output

    def fits(self, steps: list[StepSpec], tensor: Tensor) -> bool:
        """Steps that work by column need the columns that the item has."""
        return not by_column(steps) or self.columns is None or self.columns == tensor.shape[-1]

    @property
    def open(self) -> bool:
        """Whether more steps can follow."""
        return self.source is not None or self.node.operation.takes_steps


def by_column(steps: Iterable[StepSpec]) -> bool:
    return any(step.by_column for step in steps)


class Aliases:
    """Which tensors are the same memory in other shapes."""

    def __init__(self, order: Sequence[Node]):
        self.roots: dict[Tensor, Tensor] = {}
        self.nodes: set[Node] = set()
        for node in order:
            if node.operation.is_alias:
                self.roots[node.output] = self.root(node.inputs[0])
                self.nodes.add(node)

    def root(self, tensor: Tensor) -> Tensor:
        return self.roots.get(tensor, tensor)


def parameters_first(order: Sequence[Node]) -> list[Node]:
    """What depends on parameters alone (a folded normalization, a penalty's gradient) moves to the front, so that it
    can be an operand of any fused step."""
    early: dict[Tensor, None] = {}
    for node in order:
        if all(isinstance(t, Parameter) or t in early for t in node.inputs):
            early.update(dict.fromkeys(node.outputs))
    return sorted(order, key=lambda node: node.output not in early)


def fuse(order: Sequence[Node], aliases: Aliases, held: Iterable[Tensor]) -> list[Item]:
    """Items in order. ``held`` tensors are read from outside and must exist in memory."""
    root = aliases.root
    uses = Counter(root(t) for node in order if node not in aliases.nodes for t in node.inputs)
    uses.update(root(t) for t in held)
    items: list[Item] = []
    made_at: dict[Tensor, int] = {}  # the item that makes a tensor; leaves are not in it
    head_of: dict[Tensor, int] = {}  # the open item whose last result a tensor is

    def emit(item: Item, results: Iterable[Tensor]) -> None:
        items.append(item)
        made_at.update((t, len(items) - 1) for t in results)
        if item.open:
            head_of[item.output] = len(items) - 1

    for node in order:
        operation = node.operation
        if node in aliases.nodes:
            continue
        if not isinstance(operation, Elementwise) or unfused(node):
            emit(Item.of_kernel(node), node.outputs)
            continue
        best: tuple[int, int] | None = None
        for primary in range(len(node.inputs) if operation.commutative else 1):
            at = head_of.get(root(node.inputs[primary]))
            if at is None:
                continue
            steps = operation.steps(node, primary)
            early = all(made_at.get(root(t), -1) < at for step in steps for t in step.operands())
            if early and items[at].fits(steps, node.inputs[primary]) and (best is None or at > best[0]):
                best = (at, primary)
        if best is None:
            emit(Item.of_steps(node, operation.steps(node, 0)), node.outputs)
            continue
        at, primary = best
        item, taken = items[at], root(node.inputs[primary])
        if uses[taken] > 1:
            item.steps.append(StepSpec("store", p=taken))
        item.extend(operation.steps(node, primary), node.output)
        del head_of[taken]
        made_at[node.output] = at
        head_of[node.output] = at
    return items


def fuse_updates(items: Sequence[Item], gradients: dict[Parameter, Tensor], step_of, root) -> set[Parameter]:
    """The optimizer's step goes right behind a weight gradient where nothing later reads the weight; which it did.

    ``step_of``: the ``nncore.Step`` that updates a parameter.
    """
    last_use: dict[Parameter, int] = {}
    for position, item in enumerate(items):
        reads = [*item.node.inputs, *(t for step in item.steps for t in step.operands())]
        last_use.update((t, position) for t in reads if isinstance(t, Parameter))
    made_at = {root(item.output): position for position, item in enumerate(items) if item.node.operation is BY_WEIGHT}
    done = set()
    for parameter, gradient in gradients.items():
        position = made_at.get(root(gradient), -1)
        if position >= last_use.get(parameter, -1) and position >= 0 and parameter.value.shape[-1] >= _WIDE:
            step = step_of(parameter)
            items[position].steps.append(StepSpec(step.kind, ready=step))
            done.add(parameter)
    return done
