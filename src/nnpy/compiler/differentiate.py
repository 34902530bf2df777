"""Reverse-mode differentiation: the graph of the losses becomes a bigger graph that also holds the gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nnpy import ops
from nnpy.graph import Node, Tensor, ordered
from nnpy.ops.losses import LossOperation, prediction_gradient


def by_creation(nodes: Iterable[Node]) -> list[Node]:
    """Nodes in the order they were made, which is a topological one: forward, then backward layer by layer."""
    return sorted(nodes, key=lambda node: node.output.number)


def differentiate(losses: Sequence[Tensor], wanted: Iterable[Tensor]) -> dict[Tensor, Tensor]:
    """The gradient of the weighted sum of ``losses`` by every tensor between them and ``wanted``, and by those.

    ``losses`` are outputs of loss operations, whose kernels deliver the first gradients; a value used twice sums its
    gradients. Raises TypeError for a loss that is something else.
    """
    order = by_creation(ordered(losses))
    needed = set(wanted)
    for node in order:
        if any(tensor in needed for tensor in node.inputs):
            needed.update(node.outputs)
    gradients: dict[Tensor, Tensor] = {}

    def accumulate(tensor: Tensor, gradient: Tensor | None) -> None:
        if gradient is not None and tensor in needed:
            gradients[tensor] = ops.add(gradients[tensor], gradient) if tensor in gradients else gradient

    for loss in losses:
        if loss.node is None or not isinstance(loss.node.operation, LossOperation):
            raise TypeError(f"expected the output of a loss operation, got {loss!r}")
        accumulate(loss.node.inputs[0], prediction_gradient(loss))
    for node in reversed(order):
        upstream = gradients.get(node.output)
        if upstream is None or isinstance(node.operation, LossOperation):
            continue
        needs = [tensor in needed for tensor in node.inputs]
        for tensor, gradient in zip(node.inputs, node.operation.gradient(node, upstream, needs), strict=False):
            accumulate(tensor, gradient)
    return gradients
