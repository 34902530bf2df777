"""The end of a training step: gradients in one flat buffer, clipped, the optimizer's pass over it, and what comes after
(averages, constraints)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnpy.compiler.differentiate import in_order
from nnpy.compiler.fuse import Item, fuse
from nnpy.compiler.lower import Lowering
from nnpy.compiler.views import Views
from nnpy.graph import Node, Tensor, Variable

#: operations that read gradients from the flat buffer
GRADIENT_READERS = frozenset({"update", "clip_scale", "gradient"})


def bind_gradients(nodes: Sequence[Node], low: Lowering) -> list[Node]:
    """Let each gradient's memory be its place in the flat buffer; returns the nodes whose gradients have to be copied
    there: two parameters with one gradient, one that is an input or a view."""
    apart = []
    for node in nodes:
        if node.operation.name not in ("update", "gradient"):
            continue
        gradient = node.inputs[0]
        root, place = low.views.root(gradient), _place(node)
        if isinstance(root, Variable) and root.value.ctypes.data == place.ctypes.data:
            continue  # it is there already
        if root.node is None or not low.views.is_whole(gradient) or low.is_bound(gradient):
            apart.append(node)
        else:
            low.bind(gradient, place)
    return apart


def _place(node: Node) -> Any:
    return node.attributes["store"].view(node.attributes["flat"], node.attributes["parameter"])


def _copy_gradients(nodes: Sequence[Node], low: Lowering) -> None:
    """Gradients that could not be made in their place."""
    for node in nodes:
        place = Variable(_place(node), "gradient", "gradient")
        low.copy(place, node.inputs[0], 0, low.views.of(place).strides)


def lower_items(items: Sequence[Item], low: Lowering, apart: Sequence[Node]) -> None:
    """The kernel calls of items in order; ``apart``: of ``bind_gradients``."""
    left: list[Node] = []  # updates, which are done together
    for item in items:
        low.node, name = item.node, item.node.operation.name
        if apart and name in GRADIENT_READERS:
            _copy_gradients(apart, low)
            apart = []
        if name == "update":
            left.append(item.node)
            continue
        if name in ("sweep", "then"):
            _lower_updates(left, low)
            left = []
        if name == "then":
            _lower_then(item.node, low)
        elif item.is_chain:
            low.chain(item)
        elif name != "gradient":
            item.node.operation.lower(item, low)
    _lower_updates(left, low)


def _lower_updates(updates: Sequence[Node], low: Lowering) -> None:
    """One kernel for each run of neighbours that the same scale and the same columns belong to."""
    groups: dict[tuple[Tensor | None, str], list[Node]] = {}
    for node in updates:
        scale = node.inputs[1] if len(node.inputs) > 1 else None
        groups.setdefault((scale, node.attributes["block"]), []).append(node)
    for (scale, block), nodes in groups.items():
        store, optimizer, flat = (nodes[0].attributes[name] for name in ("store", "optimizer", "flat"))
        low.node = nodes[0]
        given: dict[str, Any] = {} if scale is None else {"scale": scale}
        for first, last in store.stretches([node.attributes["parameter"] for node in nodes]):
            arguments = optimizer.update(store, flat, first, last, low.state, block)
            low.call("update", work=3 * (last - first) // 4, **arguments, **given)


def _lower_then(node: Node, low: Lowering) -> None:
    nodes = node.attributes["effects"]()
    order = in_order(nodes)
    views = Views(order, low.batch)
    used = {views.root(tensor) for node in order for tensor in node.inputs}
    inner = Lowering(low.batch, low.dtype, low.state, views, used, fixed=False, values=low.values)
    apart = bind_gradients(nodes, inner)
    lower_items(fuse(order, views, []), inner, apart)
    low.take(inner, node.attributes["every"], node.attributes["phase"])
