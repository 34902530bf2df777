"""Softmax and its logarithm over the last axis, or any."""

from __future__ import annotations

import numpy as np

from nnpy.graph import Tensor, apply
from nnpy.ops.base import Operation, label
from nnpy.ops.shape import moveaxis, normal_axis


class _Softmax(Operation):
    def infer(self, node):
        if node.inputs[0].rank < 1:
            raise ValueError(f"{label(node)}: expected an input of rank 1 or more, got {node.inputs[0].shape}")
        return [node.inputs[0].sizes]

    def gradient(self, node, upstreams, needs):
        return [apply(_GRADIENTS[self.name], [upstreams[0], node.output])]

    def lower(self, item, low):
        x = item.node.inputs[0]
        cols = x.concrete(low.batch)[-1]
        low.call(self.name, y=item.output, x=x, rows=low.count(x) // max(1, cols), cols=cols, work=8 * low.count(x))

    def reference(self, x):
        less = x - x.max(-1, keepdims=True)
        log = less - np.log(np.exp(less).sum(-1, keepdims=True))
        return np.exp(log) if self.name == "softmax" else log


class _SoftmaxGradient(Operation):
    is_gradient = True

    def infer(self, node):
        return [node.inputs[0].sizes]

    def lower(self, item, low):
        dy, y = item.node.inputs
        cols = y.concrete(low.batch)[-1]
        low.call(
            self.name, dx=item.output, dy=dy, y=y, rows=low.count(y) // max(1, cols), cols=cols, work=4 * low.count(y)
        )


_SOFTMAX = _Softmax("softmax")
_LOG_SOFTMAX = _Softmax("log_softmax")
_GRADIENTS = {name: _SoftmaxGradient(name + "_grad") for name in ("softmax", "log_softmax")}


def _over(operation: Operation, x: Tensor, axis: int) -> Tensor:
    axis = normal_axis(operation.name, axis, x.rank)
    if axis == x.rank - 1:
        return apply(operation, [x])
    return moveaxis(apply(operation, [moveaxis(x, axis, -1)]), -1, axis)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) over ``axis``, computed without overflow."""
    return _over(_SOFTMAX, x, axis)


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """log(softmax(x)) over ``axis``, exact where softmax underflows."""
    return _over(_LOG_SOFTMAX, x, axis)
