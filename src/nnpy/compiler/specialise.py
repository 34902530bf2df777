"""Rewriting a graph: the graph as inference sees it, where dropout goes and normalization is a scale and a shift."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from nnpy.compiler.differentiate import in_order
from nnpy.graph import Node, Tensor, make, scope

Replacement = Callable[[Node, list[Tensor]], "Sequence[Tensor] | None"]


def rewrite(
    roots: Iterable[Tensor | Node], replacement: Replacement
) -> tuple[dict[Tensor, Tensor], dict[Node, Node]]:
    """What takes the place of each tensor and each node (effects) among ``roots``. The graph itself is not changed.

    ``replacement(node, inputs)``: for the outputs of a node others, made of its inputs as they are now; None: it stays.
    """
    roots = list(roots)
    final: dict[Tensor, Tensor] = {}
    nodes: dict[Node, Node] = {}
    for node in in_order(roots):
        inputs = [final.get(t, t) for t in node.inputs]
        with scope(node.scope):
            replaced = replacement(node, inputs)
            if replaced is None and any(new is not old for new, old in zip(inputs, node.inputs, strict=True)):
                nodes[node] = again(node, inputs)
                replaced = nodes[node].outputs
        if replaced is not None:
            final.update(zip(node.outputs, replaced, strict=False))
    return (
        {t: final.get(t, t) for t in roots if isinstance(t, Tensor)},
        {n: nodes.get(n, n) for n in roots if isinstance(n, Node)},
    )


def again(node: Node, inputs: Sequence[Tensor]) -> Node:
    """The same operation on other inputs, at the same place in the order of things."""
    made = make(node.operation, inputs, **node.attributes)
    made.number = node.number
    return made


def specialise(
    roots: Iterable[Tensor | Node], training: bool
) -> tuple[dict[Tensor, Tensor], dict[Node, Node]]:
    """The graph for inference. While training only what is frozen is replaced."""

    def replacement(node: Node, inputs: list[Tensor]) -> Sequence[Tensor] | None:
        if training and not node.operation.frozen(node):
            return None
        replaced = node.operation.inference(node, inputs)
        return None if replaced is None else [replaced]

    return rewrite(roots, replacement)
