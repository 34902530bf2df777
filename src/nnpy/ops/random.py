"""Random numbers in a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnpy.graph import Size, Tensor, apply
from nnpy.ops.base import Operation, Stream


class _Normal(Operation):
    """Numbers of the normal distribution of mean 0 and deviation 1. Attributes: ``sizes``, ``stream``."""

    name = "normal"
    is_random = True

    def infer(self, node):
        return [node.attributes["sizes"]]

    def lower(self, item, low):
        count, stream = low.count(item.output), low.stream(item.node.attributes["stream"])
        low.call("normal", out=item.output, state=low.state, count=count, index=stream, work=4 * count)

    def gradient(self, node, upstreams, needs):
        return []


_NORMAL = _Normal()


def normal(sizes: Sequence[Size | None], seed: int | None = None) -> Tensor:
    """Numbers of the normal distribution, of mean 0 and deviation 1, others at each draw. ``seed``: what is drawn does
    not depend on what else the graph draws."""
    given: Any = tuple(sizes)
    return apply(_NORMAL, [], sizes=given, stream=Stream(seed))
