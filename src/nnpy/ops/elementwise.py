"""Element-wise operations: arithmetic, comparisons, functions, activations, dropout. All of them are steps, which fuse
into their producer and into each other, and broadcast by NumPy's rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nncore.expr import evaluate
from nncore.functions import FUNCTIONS, SAVES
from nnpy.graph import Tensor, apply
from nnpy.ops.base import Elementwise, StepSpec, Stream
from nnpy.ops.broadcasting import summed_to
from nnpy.ops.constants import affine, as_tensor, filled, finite, full, is_number, scaled
from nnpy.ops.indexing import to_index, to_real

Rule = Callable[[Tensor, Tensor, Tensor, Tensor], "tuple[Tensor | None, Tensor | None]"]


class _Binary(Elementwise):
    """x op y, element by element. ``swapped``: the kind that computes y op x."""

    def __init__(self, name: str, kind: str, numpy: Callable, swapped: str = "", truth: bool = False):
        super().__init__(name)
        self.kind, self.swapped, self.numpy, self.truth = kind, swapped, numpy, truth
        self.commutative = bool(swapped)

    def kinds(self, node):
        return "bool" if self.truth else "real"

    def steps(self, node, primary):
        return [StepSpec(self.swapped if primary else self.kind, p=node.inputs[1 - primary])]

    def gradient(self, node, upstreams, needs):
        (upstream,) = upstreams
        x, y = node.inputs
        slopes = _SLOPES[self.name](upstream, x, y, node.output) if self.name in _SLOPES else (None, None)
        return [
            summed_to(slope(), t.sizes) if wanted and slope is not None else None
            for slope, t, wanted in zip(slopes, node.inputs, needs, strict=True)
        ]

    def reference(self, x, y):
        result = self.numpy(x, y)
        return result.astype(np.result_type(x, y, np.float32)) if self.truth else result


class _Flat(Elementwise):
    """A function of one argument whose gradient is 0 everywhere."""

    def __init__(self, name: str, kind: str, truth: bool = False):
        super().__init__(name)
        self.kind, self.truth = kind, truth

    def kinds(self, node):
        return "bool" if self.truth else "real"

    def steps(self, node, primary):
        return [StepSpec(self.kind)]

    def gradient(self, node, upstreams, needs):
        return [None]

    def reference(self, x):
        return evaluate(FUNCTIONS[self.kind].value, v=x)


class _Where(Elementwise):
    """x where the condition is not 0, else y. Inputs: condition, x, y."""

    name = "where"

    def steps(self, node, primary):
        return [StepSpec("select", p=node.inputs[1], q=node.inputs[2])]

    def gradient(self, node, upstreams, needs):
        condition, x, y = node.inputs
        zero = full((), 0.0)
        return [
            None,
            summed_to(where(condition, upstreams[0], zero), x.sizes) if needs[1] else None,
            summed_to(where(condition, zero, upstreams[0]), y.sizes) if needs[2] else None,
        ]

    def reference(self, condition, x, y):
        return np.where(condition != 0, x, y)


class _Activation(Elementwise):
    """f(x) for an activation function f with parameters s0 and s1."""

    name = "activation"
    attributes = {"kind": str, "s0": float, "s1": float}  # noqa: RUF012

    def steps(self, node, primary):
        return [StepSpec(node.attributes["kind"], s0=node.attributes["s0"], s1=node.attributes["s1"])]

    def gradient(self, node, upstreams, needs):
        saved = node.inputs[0] if SAVES[node.attributes["kind"]] == "x" else node.output
        return [apply(_ACTIVATION_GRADIENT, [upstreams[0], saved], **node.attributes)]

    def reference(self, x, kind, s0=0.0, s1=0.0):
        return evaluate(FUNCTIONS[kind].value, v=x, s0=s0, s1=s1)


class _ActivationGradient(Elementwise):
    """upstream * f'(saved)."""

    name = "activation_gradient"
    is_gradient = True

    def steps(self, node, primary):
        kind, s0, s1 = (node.attributes[name] for name in ("kind", "s0", "s1"))
        return [StepSpec("d_" + kind, p=node.inputs[1], s0=s0, s1=s1)]


class _Dropout(Elementwise):
    """Zero with probability ``rate``, else x / (1 - rate) (Srivastava et al., 2014); the same mask going back."""

    name = "dropout"
    is_random = True

    def inference(self, node, inputs):
        return None if node.attributes.get("always") else inputs[0]

    def steps(self, node, primary):
        rate = node.attributes["rate"]
        return [StepSpec("dropout", s0=rate, s1=1.0 / (1.0 - rate), stream=node.attributes["stream"])]

    def gradient(self, node, upstreams, needs):
        return [apply(self, upstreams, rate=node.attributes["rate"], stream=node.attributes["stream"])]


# The gradients of x op y by x and by y, given that by the result z; made when they are asked for.
_SLOPES: dict[str, Callable[..., tuple[Callable[[], Tensor] | None, ...]]] = {
    "add": lambda u, x, y, z: (lambda: u, lambda: u),
    "subtract": lambda u, x, y, z: (lambda: u, lambda: negative(u)),
    "multiply": lambda u, x, y, z: (lambda: multiply(u, y), lambda: multiply(u, x)),
    "divide": lambda u, x, y, z: (lambda: divide(u, y), lambda: negative(multiply(divide(u, y), z))),
    # where they are equal, x takes the gradient; where one is NaN, both
    "maximum": lambda u, x, y, z: (
        lambda: where(less(x, y), 0.0, u), lambda: where(greater_equal(x, y), 0.0, u),
    ),
    "minimum": lambda u, x, y, z: (
        lambda: where(greater(x, y), 0.0, u), lambda: where(less_equal(x, y), 0.0, u),
    ),
    "power": lambda u, x, y, z: (
        lambda: multiply(u, multiply(y, power(x, subtract(y, 1.0)))),
        lambda: multiply(u, multiply(z, where(greater(x, 0.0), log(where(greater(x, 0.0), x, 1.0)), 0.0))),
    ),
}  # fmt: skip

_BINARY = {
    row[0]: _Binary(*row)
    for row in (
        ("add", "add", np.add, "add"), ("subtract", "sub", np.subtract, "rsub"),
        ("multiply", "mul", np.multiply, "mul"), ("divide", "div", np.divide, "rdiv"),
        ("maximum", "maximum", np.maximum, "maximum"), ("minimum", "minimum", np.minimum, "minimum"),
        ("power", "power", np.power),
        ("equal", "eq", np.equal, "eq", True), ("not_equal", "ne", np.not_equal, "ne", True),
        ("less", "lt", np.less, "gt", True), ("less_equal", "le", np.less_equal, "ge", True),
        ("logical_and", "logical_and", np.logical_and, "logical_and", True),
        ("logical_or", "logical_or", np.logical_or, "logical_or", True),
        ("greater", "gt", np.greater, "lt", True), ("greater_equal", "ge", np.greater_equal, "le", True),
    )
}  # fmt: skip
_FLAT = {
    row[0]: _Flat(*row)
    for row in (
        ("sign", "sign"), ("floor", "floor"), ("ceil", "ceil"), ("round", "round"), ("isfinite", "is_finite", True),
        ("isnan", "is_nan", True), ("logical_not", "logical_not", True),
    )
}  # fmt: skip
_WHERE = _Where()
_ACTIVATION = _Activation()
_ACTIVATION_GRADIENT = _ActivationGradient()
_DROPOUT = _Dropout()


def _two(name: str, x: Any, y: Any) -> Tensor:
    """x op y, at least one of them a tensor."""
    beside = x if isinstance(x, Tensor) else y if isinstance(y, Tensor) else None
    return apply(_BINARY[name], [real(as_tensor(name, x, beside)), real(as_tensor(name, y, beside))])


def _flat(name: str, x: Any) -> Tensor:
    return apply(_FLAT[name], [real(as_tensor(name, x))])


def _smooth(kind: str, x: Any, s0: float = 0.0, s1: float = 0.0) -> Tensor:
    return activation(as_tensor(kind, x), kind, s0, s1)


def real(x: Tensor) -> Tensor:
    """Indices and truth values as reals; anything else as it is."""
    return x if x.kind == "real" else to_real(x)


def add(x: Any, y: Any) -> Tensor:
    """x + y; tensors, arrays or numbers that broadcast together."""
    if is_number(y) and isinstance(x, Tensor):
        return affine(real(x), 1.0, y)
    if is_number(x) and isinstance(y, Tensor):
        return affine(real(y), 1.0, x)
    return _two("add", x, y)


def subtract(x: Any, y: Any) -> Tensor:
    """x - y; tensors, arrays or numbers that broadcast together."""
    if is_number(y) and isinstance(x, Tensor):
        return affine(real(x), 1.0, -finite("subtract", y, x))
    if is_number(x) and isinstance(y, Tensor):
        return affine(real(y), -1.0, x)
    return _two("subtract", x, y)


def multiply(x: Any, y: Any) -> Tensor:
    """x * y element by element; tensors, arrays or numbers that broadcast together."""
    for a, b in ((x, y), (y, x)):
        if isinstance(a, Tensor) and is_number(b):
            return scaled(real(a), finite("multiply", b, a))
        value = filled(b) if isinstance(a, Tensor) and isinstance(b, Tensor) else None
        if value is not None and (b.sizes == a.sizes or not b.sizes):
            return scaled(real(a), *value)
    return _two("multiply", x, y)


def divide(x: Any, y: Any) -> Tensor:
    """x / y element by element; tensors, arrays or numbers that broadcast together."""
    if is_number(y) and isinstance(x, Tensor) and y:
        return scaled(real(x), 1.0 / finite("divide", y, x))
    return _two("divide", x, y)


def power(x: Any, y: Any) -> Tensor:
    """x ** y. Where x is negative and y no whole number it is NaN, as NumPy's; the gradient by y is 0 where x <= 0."""
    if is_number(y) and isinstance(x, Tensor):
        exponent = finite("power", y, x)
        simple = {0.0: None, 0.5: sqrt, 1.0: real, 2.0: square, -0.5: rsqrt, -1.0: reciprocal}
        if exponent == 0.0:
            return full(x.sizes, 1.0)
        made = simple.get(exponent)
        return made(x) if made is not None else _smooth("power_scalar", x, exponent)
    return _two("power", x, y)


def maximum(x: Any, y: Any) -> Tensor:
    """The larger of x and y; where they are equal the gradient goes to x. NaN where either is."""
    return _two("maximum", x, y)


def minimum(x: Any, y: Any) -> Tensor:
    """The smaller of x and y; where they are equal the gradient goes to x. NaN where either is."""
    return _two("minimum", x, y)


def equal(x: Any, y: Any) -> Tensor:
    """x == y as truth values."""
    return _two("equal", x, y)


def not_equal(x: Any, y: Any) -> Tensor:
    """x != y as truth values."""
    return _two("not_equal", x, y)


def less(x: Any, y: Any) -> Tensor:
    """x < y as truth values."""
    return _two("less", x, y)


def less_equal(x: Any, y: Any) -> Tensor:
    """x <= y as truth values."""
    return _two("less_equal", x, y)


def greater(x: Any, y: Any) -> Tensor:
    """x > y as truth values."""
    return _two("greater", x, y)


def greater_equal(x: Any, y: Any) -> Tensor:
    """x >= y as truth values."""
    return _two("greater_equal", x, y)


def logical_and(x: Any, y: Any) -> Tensor:
    """Whether both are not 0."""
    return _two("logical_and", x, y)


def logical_or(x: Any, y: Any) -> Tensor:
    """Whether one of them is not 0."""
    return _two("logical_or", x, y)


def logical_not(x: Any) -> Tensor:
    """Whether it is 0."""
    return _flat("logical_not", x)


def isfinite(x: Any) -> Tensor:
    """Whether it is neither NaN nor infinite."""
    return _flat("isfinite", x)


def root(x: Tensor) -> Tensor:
    """The square root of a sum of squares: where that is 0, the least it can be, its gradient is 0, not infinite."""
    zero = equal(x, 0.0)
    return where(zero, 0.0, sqrt(where(zero, 1.0, x)))


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """x where the condition is true (not 0), else y; all broadcast together."""
    return apply(_WHERE, [real(as_tensor("where", each)) for each in (condition, x, y)])


def clip(x: Tensor, x_min: Any, x_max: Any) -> Tensor:
    """x cut to [x_min, x_max]: numbers, or tensors that broadcast with it."""
    if isinstance(x_min, Tensor) or isinstance(x_max, Tensor):
        return minimum(maximum(x, x_min), x_max)
    low, high = (float(value) for value in (x_min, x_max))
    if not low <= high:
        raise ValueError(f"clip: expected x_min <= x_max, got {x_min} and {x_max}")
    return _smooth("clip", x, low, high)


def cast(x: Any, dtype: str) -> Tensor:
    """x as "float32" or "float64" (reals: the dtype of the model), "bool" (x != 0) or "int32" (towards zero)."""
    x = as_tensor("cast", x)
    kind = {"float32": "real", "float64": "real", "float": "real", "real": "real", "bool": "bool", "int32": "index"}
    if dtype not in kind:
        raise ValueError(f"cast: expected 'float32', 'float64', 'int32' or 'bool', got {dtype!r}")
    if x.kind == kind[dtype]:
        return x
    if kind[dtype] == "index":
        return to_index(x)
    return real(x) if kind[dtype] == "real" else not_equal(x, 0.0)


def negative(x: Any) -> Tensor:
    """-x."""
    return scaled(real(as_tensor("negative", x)), -1.0)


def exp(x: Any) -> Tensor:
    """e ** x."""
    return _smooth("exponential", x)


def expm1(x: Any) -> Tensor:
    """exp(x) - 1, exact near 0."""
    return _smooth("expm1", x)


def log(x: Any) -> Tensor:
    """The natural logarithm."""
    return _smooth("log", x)


def log1p(x: Any) -> Tensor:
    """log(1 + x), exact near 0."""
    return _smooth("log1p", x)


def square(x: Any) -> Tensor:
    """x * x."""
    return _smooth("square", x)


def sqrt(x: Any) -> Tensor:
    """The square root; NaN below 0."""
    return _smooth("sqrt", x)


def rsqrt(x: Any) -> Tensor:
    """1 / sqrt(x)."""
    return _smooth("rsqrt", x)


def sin(x: Any) -> Tensor:
    """The sine."""
    return _smooth("sin", x)


def cos(x: Any) -> Tensor:
    """The cosine."""
    return _smooth("cos", x)


def erf(x: Any) -> Tensor:
    """The error function."""
    return _smooth("erf", x)


def reciprocal(x: Any) -> Tensor:
    """1 / x."""
    return _smooth("reciprocal", x)


def abs(x: Any) -> Tensor:
    """The absolute value; its gradient at 0 is 0."""
    return _smooth("abs", x)


def sign(x: Any) -> Tensor:
    """-1, 0 or 1; its gradient is 0."""
    return _flat("sign", x)


def floor(x: Any) -> Tensor:
    """The largest whole number that is not larger; its gradient is 0."""
    return _flat("floor", x)


def ceil(x: Any) -> Tensor:
    """The smallest whole number that is not smaller; its gradient is 0."""
    return _flat("ceil", x)


def round(x: Any) -> Tensor:
    """The nearest whole number, halves to even ones; its gradient is 0."""
    return _flat("round", x)


def activation(x: Tensor, kind: str, s0: float = 0.0, s1: float = 0.0) -> Tensor:
    """The activation ``kind``, one of ``nncore.functions.SAVES``; ``s0`` and ``s1`` are its parameters (leaky_relu's
    slope, elu's alpha)."""
    if kind not in SAVES:
        raise ValueError(f"activation: expected one of {', '.join(sorted(SAVES))}, got {kind!r}")
    return apply(_ACTIVATION, [real(x)], kind=kind, s0=float(s0), s1=float(s1))


def dropout(x: Tensor, rate: float, always: bool = False, seed: int | None = None) -> Tensor:
    """Dropout while training, x itself in inference unless ``always``; 0 <= rate < 1. ``seed``: what is drawn does not
    depend on what else the graph draws."""
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"dropout: expected a rate in [0, 1), got {rate}")
    return apply(_DROPOUT, [real(x)], rate=float(rate), stream=Stream(seed), always=bool(always)) if rate else x


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return activation(x, "tanh")


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return activation(x, "sigmoid")


def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return activation(x, "relu")


def isnan(x: Any) -> Tensor:
    """Whether it is NaN."""
    return _flat("isnan", x)
