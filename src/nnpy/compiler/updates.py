"""The end of a training step: gradients in one flat buffer, clipped, the optimizer's pass over it, and constraints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnpy.compiler.differentiate import in_order
from nnpy.compiler.fuse import fuse
from nnpy.compiler.lower import Lowering
from nnpy.compiler.views import Views
from nnpy.graph import Node, Tensor, Variable
from nnpy.ops.effects import assign

#: operations that read gradients from the flat buffer
GRADIENT_READERS = frozenset({"update", "clip_scale"})


def bind_gradients(updates: Sequence[Node], low: Lowering) -> list[Node]:
    """Let each gradient's memory be its place in the flat buffer; returns the updates whose gradients have to be copied
    there: two parameters with one gradient, one that is an input or a view."""
    apart = []
    for node in updates:
        gradient, parameter = node.inputs[0], node.attributes["parameter"]
        leaf = low.views.root(gradient).node is None
        if leaf or not low.views.is_whole(gradient) or low.is_bound(gradient):
            apart.append(node)
        else:
            low.bind(gradient, node.attributes["store"].gradient(parameter))
    return apart


def copy_gradients(updates: Sequence[Node], low: Lowering) -> None:
    """Gradients that could not be made in their place."""
    for node in updates:
        place = Variable(node.attributes["store"].gradient(node.attributes["parameter"]), "gradient", "gradient")
        low.copy(place, node.inputs[0], 0, low.views.of(place).strides)


def lower_updates(updates: Sequence[Node], low: Lowering) -> None:
    """One kernel for each run of neighbours that the same scale belongs to."""
    groups: dict[Tensor | None, list[Node]] = {}
    for node in updates:
        groups.setdefault(node.inputs[1] if len(node.inputs) > 1 else None, []).append(node)
    for scale, nodes in groups.items():
        store, optimizer = nodes[0].attributes["store"], nodes[0].attributes["optimizer"]
        low.node = nodes[0]
        given: dict[str, Any] = {} if scale is None else {"scale": scale}
        for first, last in store.stretches([node.attributes["parameter"] for node in nodes]):
            arguments = optimizer.update(store, first, last, low.state)
            low.call("update", work=3 * (last - first) // 4, **arguments, **given)


def lower_constraints(constraints: Sequence[Node], low: Lowering) -> None:
    """Constraints are a graph of their own: it reads the weights as the update has left them."""
    nodes = []
    for node in constraints:
        parameter, constraint = node.attributes["parameter"], node.attributes["constraint"]
        value = constraint(parameter)
        if not isinstance(value, Tensor) or value.sizes != parameter.sizes:
            got = value.shape if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{parameter.name}: expected {constraint} to give shape {parameter.shape}, got {got}")
        nodes.append(assign(parameter, value))
    order = in_order(nodes)
    views = Views(order, low.batch)
    used = {views.root(tensor) for node in order for tensor in node.inputs}
    inner = Lowering(low.batch, low.dtype, low.state, views, used, fixed=False)
    for item in fuse(order, views, []):
        inner.node = item.node
        if item.is_chain:
            inner.chain(item)
        else:
            item.node.operation.lower(item, inner)
    low.take(inner)
