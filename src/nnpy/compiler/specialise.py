"""Specialisation: the graph as inference sees it. Dropout goes, normalization becomes a scale and a shift."""

from __future__ import annotations

from collections.abc import Iterable

from nnpy.compiler.differentiate import by_creation
from nnpy.graph import Node, Tensor, apply, ordered, scope


def specialise(tensors: Iterable[Tensor], training: bool) -> dict[Tensor, Tensor]:
    """For each of ``tensors`` the one that takes its place. The graph itself is not changed.

    While training only layers that are frozen are replaced.
    """
    tensors = list(tensors)
    final: dict[Tensor, Tensor] = {}
    for node in by_creation(ordered(tensors)):
        inputs = [final.get(t, t) for t in node.inputs]
        with scope(node.scope):
            replaced = not training or node.attributes.get("frozen", _never)()
            replacement = node.operation.inference(node, inputs) if replaced else None
            if replacement is not None:
                final[node.output] = replacement
            elif any(new is not old for new, old in zip(inputs, node.inputs, strict=True)):
                final.update(zip(node.outputs, _again(node, inputs).outputs, strict=True))
    return {t: final.get(t, t) for t in tensors}


def _never() -> bool:
    return False


def _again(node: Node, inputs: list[Tensor]) -> Node:
    return apply(node.operation, inputs, **node.attributes).made_by
