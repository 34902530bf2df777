"""Softmax and its logarithm over the last axis."""

from __future__ import annotations

from nnpy.graph import Tensor, apply
from nnpy.ops.base import Operation, label


class _Softmax(Operation):
    def __init__(self, name: str):
        self.name = name

    def infer(self, node):
        if node.inputs[0].rank < 2:
            raise ValueError(f"{label(node)}: expected an input of rank 2 or more, got {node.inputs[0].shape}")
        return [node.inputs[0].shape]

    def gradient(self, node, upstream, needs):
        return [apply(_GRADIENTS[self.name], [upstream, node.output])]

    def lower(self, item, low):
        x = item.node.inputs[0]
        cols = x.shape[-1]
        low.call(self.name, y=item.output, x=x, rows=low.count(x) // max(1, cols), cols=cols, work=8 * low.count(x))


class _SoftmaxGradient(Operation):
    def __init__(self, name: str):
        self.name = name

    def infer(self, node):
        return [node.inputs[0].shape]

    def lower(self, item, low):
        dy, y = item.node.inputs
        cols = y.shape[-1]
        low.call(
            self.name, dx=item.output, dy=dy, y=y, rows=low.count(y) // max(1, cols), cols=cols, work=4 * low.count(y)
        )


_SOFTMAX = _Softmax("softmax")
_LOG_SOFTMAX = _Softmax("log_softmax")
_GRADIENTS = {name: _SoftmaxGradient(name + "_grad") for name in ("softmax", "log_softmax")}


def softmax(x: Tensor) -> Tensor:
    """exp(x) / sum(exp(x)) over the last axis, computed without overflow."""
    return apply(_SOFTMAX, [x])


def log_softmax(x: Tensor) -> Tensor:
    """log(softmax(x)) over the last axis, exact where softmax underflows."""
    return apply(_LOG_SOFTMAX, [x])
