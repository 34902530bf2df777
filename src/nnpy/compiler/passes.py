"""Passes from graph to graph that make steps cheaper; each can be switched off, and the values stay."""

from __future__ import annotations

from collections.abc import Sequence

from nnpy.compiler.differentiate import in_order
from nnpy.compiler.specialise import rewrite
from nnpy.graph import Node, Tensor, make, scope
from nnpy.ops.losses import PARTS, LossKernel


def share_losses(roots: Sequence[Tensor | Node]) -> tuple[dict[Tensor, Tensor], dict[Node, Node]]:
    """The loss of a prediction, its gradient and the correct predictions come from one node where their kernel gives
    them all in one pass."""
    order = in_order(roots)
    groups: dict[tuple, dict[str, list[Node]]] = {}
    for node in order:
        if isinstance(node.operation, LossKernel) and len(node.attributes["parts"]) == 1:
            attributes = node.attributes
            key = (node.operation, *node.inputs[:2], attributes["ignore"])
            # The correct predictions do not depend on smoothing.
            groups.setdefault(key, {}).setdefault(attributes["parts"][0], []).append(node)
    shared: dict[Node, Node] = {}
    for parts in groups.values():
        # The same loss may be there twice, as a metric; a second gradient has another scale.
        members = [n for part, nodes in parts.items() for n in (nodes[:1] if part == "gradient" else nodes)]
        smoothings = {n.attributes["smoothing"] for n in members if n.attributes["parts"] != ("correct",)}
        if len(members) < 2 or len(smoothings) > 1:
            continue
        gradient = parts["gradient"][0] if "gradient" in parts else None
        if gradient is not None and len(gradient.inputs) > 2 and _depends(gradient.inputs[2], set(members)):
            continue
        first = min(members, key=lambda n: n.number)
        main = gradient or parts.get("loss", [first])[0]
        with scope(first.scope):
            made = make(
                first.operation, main.inputs,
                **{**main.attributes, "parts": tuple(part for part in PARTS if part in parts)},
            )  # fmt: skip
        made.number = first.number
        shared.update(dict.fromkeys(members, made))
    if not shared:
        return rewrite(roots, lambda node, inputs: None)

    def replacement(node: Node, inputs: list[Tensor]) -> Sequence[Tensor] | None:
        whole = shared.get(node)
        if whole is None:
            return None
        (part,) = node.attributes["parts"]
        return [whole.outputs[whole.attributes["parts"].index(part)]]

    return rewrite(roots, replacement)


def _depends(tensor: Tensor, nodes: set[Node]) -> bool:
    """Whether a tensor is made of what one of the nodes gives."""
    return any(node in nodes for node in in_order([tensor]))


#: by name, in the order in which they are done
PASSES = {"share_losses": share_losses}
