"""Element-wise operations: arithmetic, activations, dropout. All of them are steps that fuse into their producer."""

from __future__ import annotations

import math
import numbers

from nncore import jit
from nncore.steps import SAVES
from nnpy.checks import shown
from nnpy.graph import Node, Tensor, apply
from nnpy.ops.base import Elementwise, StepSpec, label


class _Binary(Elementwise):
    """x op y, element by element."""

    def __init__(self, name: str, kind: str, commutative: bool):
        self.name, self.kind, self.commutative = name, kind, commutative

    def steps(self, node, primary):
        return [StepSpec(self.kind, p=node.inputs[1 - primary])]

    def gradient(self, node, upstream, needs):
        x, y = node.inputs
        if self.kind == "add":
            return [upstream, upstream]
        if self.kind == "sub":
            return [upstream, affine(upstream, -1.0, 0.0) if needs[1] else None]
        if self.kind == "mul":
            return [multiply(upstream, y) if needs[0] else None, multiply(upstream, x) if needs[1] else None]
        if self.kind == "div":
            slope = divide(upstream, y)
            return [slope, affine(multiply(slope, node.output), -1.0, 0.0) if needs[1] else None]
        greater, less = (x, y) if self.kind == "maximum" else (y, x)
        mine = apply(_MASK, [upstream, greater, less])  # where they are equal, x takes the gradient
        return [mine, subtract(upstream, mine) if needs[1] else None]


class _Mask(Elementwise):
    """upstream where y >= z, else 0: the gradient of maximum and minimum."""

    name = "mask"

    def steps(self, node, primary):
        return [StepSpec("max_mask", p=node.inputs[1], q=node.inputs[2])]


class _Affine(Elementwise):
    """x * scale + shift."""

    name = "affine"

    def steps(self, node, primary):
        scale, shift = node.attributes["scale"], node.attributes["shift"]
        steps = [StepSpec("scale", s0=scale)] if scale != 1.0 else []
        return steps + ([StepSpec("shift", s0=shift)] if shift != 0.0 else [])

    def gradient(self, node, upstream, needs):
        return [affine(upstream, node.attributes["scale"], 0.0)]


class _Function(Elementwise):
    """A function of one argument that has a step of its name and a gradient written with other operations."""

    def __init__(self, name: str):
        self.name = name

    def steps(self, node, primary):
        return [StepSpec(self.name)]

    def gradient(self, node, upstream, needs):
        x, y = node.inputs[0], node.output
        if self.name == "log":
            return [divide(upstream, x)]
        if self.name == "square":
            return [affine(multiply(upstream, x), 2.0, 0.0)]
        if self.name == "sqrt":
            return [affine(divide(upstream, y), 0.5, 0.0)]
        if self.name == "abs":
            return [multiply(upstream, sign(x))]
        return [None]  # sign is flat


class _Activation(Elementwise):
    """f(x) for an activation function f with parameter s0."""

    name = "activation"

    def steps(self, node, primary):
        return [StepSpec(node.attributes["kind"], s0=node.attributes["s0"])]

    def gradient(self, node, upstream, needs):
        kind = node.attributes["kind"]
        saved = node.inputs[0] if SAVES[kind] == "x" else node.output
        return [apply(_ACTIVATION_GRADIENT, [upstream, saved], kind=kind, s0=node.attributes["s0"])]


class _ActivationGradient(Elementwise):
    """upstream * f'(saved)."""

    name = "activation_gradient"

    def steps(self, node, primary):
        return [StepSpec("d_" + node.attributes["kind"], p=node.inputs[1], s0=node.attributes["s0"])]


class _Dropout(Elementwise):
    """Zero with probability ``rate``, else x / (1 - rate) (Srivastava et al., 2014); the same mask going back."""

    name = "dropout"

    def inference(self, node, inputs):
        return None if node.attributes.get("always") else inputs[0]

    def steps(self, node, primary):
        rate = node.attributes["rate"]
        return [StepSpec("dropout", s0=rate, s1=1.0 / (1.0 - rate), stream=node.attributes["stream"] or node)]

    def gradient(self, node, upstream, needs):
        return [apply(self, [upstream], rate=node.attributes["rate"], stream=node.attributes["stream"] or node)]


class _Custom(Elementwise):
    """f(x) for a user's scalar Python function, which Numba makes a kernel of; not a step, so it does not fuse."""

    name = "custom"

    def gradient(self, node, upstream, needs):
        return [apply(_CUSTOM_GRADIENT, [upstream, node.inputs[0]], derivative=node.attributes["derivative"])]

    def lower(self, item, low):
        kernel = _compiled(jit.scalar_kernel, item.node, "forward", low.dtype)
        low.scalar_function(kernel, item.output, [item.node.inputs[0]])


def _compiled(make, node: Node, which: str, dtype) -> jit.ScalarKernel:
    """The kernel of a user's function; errors name the layer."""
    try:
        return make(node.attributes[which], dtype=dtype)
    except TypeError as error:
        raise TypeError(f"{label(node)}: {error}") from None


class _CustomGradient(Elementwise):
    name = "custom_gradient"

    def lower(self, item, low):
        kernel = _compiled(jit.gradient_kernel, item.node, "derivative", low.dtype)
        low.scalar_function(kernel, item.output, item.node.inputs)


_ADD = _Binary("add", "add", True)
_SUBTRACT = _Binary("subtract", "sub", False)
_MULTIPLY = _Binary("multiply", "mul", True)
_DIVIDE = _Binary("divide", "div", False)
_MAXIMUM = _Binary("maximum", "maximum", True)
_MINIMUM = _Binary("minimum", "minimum", True)
_MASK = _Mask()
_AFFINE = _Affine()
_FUNCTIONS = {name: _Function(name) for name in ("log", "square", "sqrt", "abs", "sign")}
_ACTIVATION = _Activation()
_ACTIVATION_GRADIENT = _ActivationGradient()
_DROPOUT = _Dropout()
_CUSTOM = _Custom()
_CUSTOM_GRADIENT = _CustomGradient()


def add(x: Tensor, y: Tensor) -> Tensor:
    """x + y; the shapes must be equal."""
    return apply(_ADD, [x, y])


def subtract(x: Tensor, y: Tensor) -> Tensor:
    """x - y; the shapes must be equal."""
    return apply(_SUBTRACT, [x, y])


def multiply(x: Tensor, y: Tensor) -> Tensor:
    """x * y element by element; the shapes must be equal."""
    return apply(_MULTIPLY, [x, y])


def divide(x: Tensor, y: Tensor) -> Tensor:
    """x / y element by element; the shapes must be equal."""
    return apply(_DIVIDE, [x, y])


def maximum(x: Tensor, y: Tensor) -> Tensor:
    """The larger of x and y; where they are equal the gradient goes to x."""
    return apply(_MAXIMUM, [x, y])


def minimum(x: Tensor, y: Tensor) -> Tensor:
    """The smaller of x and y; where they are equal the gradient goes to x."""
    return apply(_MINIMUM, [x, y])


def affine(x: Tensor, scale: float, shift: float) -> Tensor:
    """x * scale + shift with finite constants."""
    for value in (scale, shift):
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(f"expected a Tensor or a finite number beside {x!r}, got {shown(value)}")
    scale, shift = float(scale), float(shift)
    if not (math.isfinite(scale) and math.isfinite(shift)):
        raise ValueError(f"affine: expected finite constants, got scale {scale} and shift {shift}")
    return x if scale == 1.0 and shift == 0.0 else apply(_AFFINE, [x], scale=scale, shift=shift)


def log(x: Tensor) -> Tensor:
    """The natural logarithm."""
    return apply(_FUNCTIONS["log"], [x])


def square(x: Tensor) -> Tensor:
    return apply(_FUNCTIONS["square"], [x])


def sqrt(x: Tensor) -> Tensor:
    return apply(_FUNCTIONS["sqrt"], [x])


def abs(x: Tensor) -> Tensor:
    """The absolute value; its gradient at 0 is 0."""
    return apply(_FUNCTIONS["abs"], [x])


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1; its gradient is 0."""
    return apply(_FUNCTIONS["sign"], [x])


def activation(x: Tensor, kind: str, s0: float = 0.0) -> Tensor:
    """The activation ``kind``, one of ``nncore.steps.SAVES``; ``s0`` is leaky_relu's slope or elu's alpha."""
    if kind not in SAVES:
        raise ValueError(f"activation: expected one of {', '.join(sorted(SAVES))}, got {kind!r}")
    return apply(_ACTIVATION, [x], kind=kind, s0=float(s0))


def dropout(x: Tensor, rate: float, always: bool = False) -> Tensor:
    """Dropout while training, x itself in inference unless ``always``; 0 <= rate < 1."""
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"dropout: expected a rate in [0, 1), got {rate}")
    return apply(_DROPOUT, [x], rate=float(rate), stream=None, always=always) if rate else x


def custom(x: Tensor, forward, derivative) -> Tensor:
    """``forward(x)`` for a scalar Python function that Numba compiles; ``derivative`` is its derivative."""
    return apply(_CUSTOM, [x], forward=forward, derivative=derivative)


def unfused(node: Node) -> bool:
    """True for the element-wise nodes that have a kernel of their own."""
    return isinstance(node.operation, _Custom | _CustomGradient)


__all__ = [
    "abs", "activation", "add", "affine", "custom", "divide", "dropout", "label", "log", "maximum", "minimum",
    "multiply", "sign", "sqrt", "square", "subtract",
]  # fmt: skip
