"""Users' functions of numbers, compiled by Numba: of a tensor's elements, and of those of two."""

from __future__ import annotations

from typing import Any

from nncore import jit
from nnpy.graph import Node, Tensor, apply
from nnpy.ops.base import Operation, label
from nnpy.ops.constants import as_tensor
from nnpy.ops.elementwise import real


class _Custom(Operation):
    """f(x), or f(t, x), for a user's scalar Python function, which Numba makes a kernel of; not a step, so it does not
    fuse. The derivative is that by x."""

    name = "custom"

    def infer(self, node):
        sizes = [t.sizes for t in node.inputs]
        if sizes.count(sizes[0]) < len(sizes):
            shapes = " and ".join(str(t.shape) for t in node.inputs)
            raise ValueError(f"{label(node)}: expected tensors of one shape, got {shapes}")
        return sizes[:1]

    def gradient(self, node, upstreams, needs):
        if any(needs[:-1]):
            name = node.attributes["forward"].__name__
            raise TypeError(f"{label(node)}: {name} has no derivative by its first argument; nn.ops.stop_gradient")
        slope = apply(_CUSTOM_GRADIENT, [upstreams[0], *node.inputs], derivative=node.attributes["derivative"])
        return [*[None] * (len(needs) - 1), slope]

    def lower(self, item, low):
        kernel = _compiled(jit.scalar_kernel, item.node, "forward", len(item.node.inputs), low.dtype)
        low.scalar_function(kernel, item.output, item.node.inputs)


class _CustomGradient(Operation):
    name = "custom_gradient"
    is_gradient = True

    def infer(self, node):
        return [node.inputs[0].sizes]

    def lower(self, item, low):
        kernel = _compiled(jit.gradient_kernel, item.node, "derivative", len(item.node.inputs) - 1, low.dtype)
        low.scalar_function(kernel, item.output, item.node.inputs)


def _compiled(make, node: Node, which: str, arity: int, dtype) -> jit.ScalarKernel:
    """The kernel of a user's function; errors name the layer."""
    try:
        return make(node.attributes[which], arity, dtype)
    except TypeError as error:
        raise TypeError(f"{label(node)}: {error}") from None


_CUSTOM = _Custom()
_CUSTOM_GRADIENT = _CustomGradient()


def custom(x: Tensor, forward, derivative) -> Tensor:
    """``forward(x)`` for a scalar Python function that Numba compiles; ``derivative`` is its derivative."""
    return apply(_CUSTOM, [x], forward=forward, derivative=derivative)


def custom_pairs(y_true: Any, y_pred: Tensor, forward, derivative=None) -> Tensor:
    """``forward(y_true, y_pred)`` for a scalar Python function that Numba compiles, of two tensors of one shape;
    ``derivative(y_true, y_pred)`` is that by y_pred; without it there is no gradient."""
    target = real(as_tensor("custom", y_true, y_pred))
    return apply(_CUSTOM, [target, real(y_pred)], forward=forward, derivative=derivative)
