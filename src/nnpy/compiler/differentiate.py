"""Reverse-mode differentiation: the graph of a scalar becomes a bigger graph that also holds its gradients."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from nnpy import ops
from nnpy.graph import Node, Tensor, ordered
from nnpy.ops.constants import full


def in_order(roots: Iterable[Tensor | Node]) -> list[Node]:
    """The nodes that ``roots`` depend on, operands first, else in the order they were made: forward, then backward
    layer by layer."""
    nodes = ordered(roots)
    waiting = {}
    readers: dict[Node, list[Node]] = {}
    ready: list[tuple[int, int, Node]] = []
    for position, node in enumerate(nodes):
        makers = {t.node for t in node.inputs if t.node is not None}
        waiting[node] = len(makers)
        for maker in makers:
            readers.setdefault(maker, []).append(node)
        if not makers:
            ready.append((node.number, position, node))
    heapq.heapify(ready)
    order = []
    while ready:
        *_, node = heapq.heappop(ready)
        order.append(node)
        for reader in readers.get(node, ()):
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, (reader.number, 0, reader))
    return order


def differentiate(scalar: Tensor, wanted: Iterable[Tensor]) -> dict[Tensor, Tensor]:
    """The gradient of ``scalar``, of shape (), by every tensor between it and ``wanted``, and by those; a value that is
    used twice sums its gradients. What it does not depend on is not there.

    Raises ValueError for what is no scalar, TypeError for an operation on the way that has no gradient rule.
    """
    if scalar.sizes:
        raise ValueError(f"differentiate: expected a scalar, got {scalar!r}: take the mean or the sum")
    order = in_order([scalar])
    needed = set(wanted)
    for node in order:
        if any(tensor in needed for tensor in node.inputs):
            needed.update(node.outputs)
    gradients: dict[Tensor, Tensor] = {scalar: full((), 1.0)}
    for node in reversed(order):
        upstreams = [gradients.get(output) for output in node.outputs]
        if all(upstream is None for upstream in upstreams):
            continue
        needs = [tensor in needed for tensor in node.inputs]
        if not any(needs):
            continue
        for tensor, gradient in zip(node.inputs, node.operation.gradient(node, upstreams, needs), strict=False):
            if gradient is not None and tensor in needed:
                gradients[tensor] = ops.add(gradients[tensor], gradient) if tensor in gradients else gradient
    return gradients
