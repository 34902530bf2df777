"""Scalar expressions: written once, they become vector code for Cython, NumPy, Python for Numba, and their derivative.

``functions.py`` has a row for each function of a fused step; when the wheel is built ``generate.py`` turns them into
Cython. So this file needs nothing but Python itself.

``Expr`` overloads + - * / < <= > >= and unary -; comparisons and ``& | ~`` of them are masks, for ``where``. A node
exists once: equal expressions are the same object.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

LANGUAGES = ("vector", "numpy", "python")


class Expr:
    """A node: a primitive's name and its arguments; a "symbol" has a name and a "constant" a number (or two of them:
    in float32 and in float64) as ``value``."""

    __slots__ = ("args", "op", "value")
    op: str
    args: tuple[Expr, ...]
    value: Any

    def __add__(self, other):
        return apply("add", self, other)

    def __radd__(self, other):
        return apply("add", other, self)

    def __sub__(self, other):
        return apply("sub", self, other)

    def __rsub__(self, other):
        return apply("sub", other, self)

    def __mul__(self, other):
        return apply("mul", self, other)

    def __rmul__(self, other):
        return apply("mul", other, self)

    def __truediv__(self, other):
        return apply("div", self, other)

    def __rtruediv__(self, other):
        return apply("div", other, self)

    def __neg__(self):
        return apply("neg", self)

    def __gt__(self, other):
        return apply("gt", self, other)

    def __lt__(self, other):
        return apply("gt", other, self)

    def __ge__(self, other):
        return apply("ge", self, other)

    def __le__(self, other):
        return apply("ge", other, self)

    def __and__(self, other):
        return apply("both", self, other)

    def __or__(self, other):
        return apply("either", self, other)

    def __invert__(self):
        return apply("not", self)

    def __bool__(self):
        raise TypeError(f"{self}: an expression has no truth value; use where(mask, a, b)")

    def __repr__(self) -> str:
        return str(self.value) if not self.args else f"{self.op}({', '.join(map(repr, self.args))})"


_nodes: dict[tuple, Expr] = {}


def _node(op: str, args: tuple[Expr, ...] = (), value: Any = None) -> Expr:
    key = (op, args, repr(value))  # repr: -0.0 is not 0.0
    if key not in _nodes:
        made = Expr()
        made.op, made.args, made.value = op, args, value
        _nodes[key] = made
    return _nodes[key]


def symbol(name: str) -> Expr:
    return _node("symbol", (), name)


def constant(value: float, in_float64: float | None = None) -> Expr:
    """A number; with ``in_float64`` another one there."""
    return _node("constant", (), float(value) if in_float64 is None else (float(value), float(in_float64)))


def _expr(value: Any) -> Expr:
    return value if isinstance(value, Expr) else constant(value)


def is_number(node: Expr, number: float) -> bool:
    return node.op == "constant" and node.value == number


def apply(op: str, *arguments: Any) -> Expr:
    """A primitive of expressions and numbers, without what adds, multiplies or chooses nothing."""
    args = tuple(_expr(a) for a in arguments)
    if len(args) != PRIMITIVES[op].arity:
        raise TypeError(f"{op}: expected {PRIMITIVES[op].arity} arguments, got {len(args)}")
    a, b = args[0], args[-1]
    if op in ("add", "sub", "mul", "div") and all(isinstance(x.value, float) and x.op == "constant" for x in args):
        return constant(getattr(a.value, f"__{'truediv' if op == 'div' else op}__")(b.value))
    if op == "neg" and isinstance(a.value, float):
        return constant(-a.value)
    if op == "neg" and a.op == "neg":
        return a.args[0]
    if (op == "add" and is_number(a, 0)) or (op == "mul" and is_number(a, 1)):
        return b
    if (op in ("add", "sub") and is_number(b, 0)) or (op in ("mul", "div") and is_number(b, 1)):
        return a
    if op == "sub" and is_number(a, 0):
        return -b
    if op == "mul" and (is_number(a, 0) or is_number(b, 0)):
        return constant(0)
    if op == "div" and is_number(a, 0):
        return constant(0)
    if op == "where" and args[1] is args[2]:
        return args[1]
    return _node(op, args)


class Primitive(NamedTuple):
    """``vector``: on lanes, with the primitives of vector.pxd; ``numpy`` and ``python`` (Numba): of arrays and of
    numbers. ``slopes``: the derivatives by each argument, given the arguments and the result; None: it has none, or
    they are 0 (masks, and what is flat). ``infix``: a constant among the arguments need not be made a vector."""

    arity: int
    vector: str
    numpy: str
    python: str
    slopes: Callable[..., Sequence[Any]] | None = None
    infix: bool = False


def _of(name: str) -> Callable[..., Expr]:
    def made(*arguments):
        return apply(name, *arguments)

    made.__name__ = name
    return made


exp, exp_bounded, expm1, expm1_bounded, log, log1p, log1p_unit = map(
    _of, ("exp", "exp_bounded", "expm1", "expm1_bounded", "log", "log1p", "log1p_unit")
)
sqrt, absolute, tanh, sigmoid, softplus, erf = map(_of, ("sqrt", "abs", "tanh", "sigmoid", "softplus", "erf"))
gauss, tail, tail_ratio = map(_of, ("gauss", "tail", "tail_ratio"))
largest, smallest, where, equal, unequal, power = map(_of, ("max", "min", "where", "eq", "ne", "pow"))
floor, ceil, nearest, sine, cosine, sign = map(_of, ("floor", "ceil", "round", "sin", "cos", "sign"))

_ROOT_2_PI = 0.39894228040143268  # 1 / sqrt(2 pi)
_TAIL = "0.5 * {0}erfc({{0}} * 0.7071067811865476)"
PRIMITIVES = {
    "add": Primitive(2, "({0} + {1})", "({0} + {1})", "({0} + {1})", lambda a, b, y: (1, 1), True),
    "sub": Primitive(2, "({0} - {1})", "({0} - {1})", "({0} - {1})", lambda a, b, y: (1, -1), True),
    "mul": Primitive(2, "({0} * {1})", "({0} * {1})", "({0} * {1})", lambda a, b, y: (b, a), True),
    "div": Primitive(2, "vdiv({0}, {1})", "({0} / {1})", "({0} / {1})", lambda a, b, y: (1 / b, -y / b)),
    "neg": Primitive(1, "(-{0})", "(-{0})", "(-{0})", lambda a, y: (-1,)),
    # masks
    "gt": Primitive(2, "vgt({0}, {1})", "({0} > {1})", "({0} > {1})"),
    "ge": Primitive(2, "vge({0}, {1})", "({0} >= {1})", "({0} >= {1})"),
    "eq": Primitive(2, "veq({0}, {1})", "({0} == {1})", "({0} == {1})"),
    "ne": Primitive(2, "(~veq({0}, {1}))", "({0} != {1})", "({0} != {1})"),
    "both": Primitive(2, "({0} & {1})", "({0} & {1})", "({0} and {1})"),
    "either": Primitive(2, "({0} | {1})", "({0} | {1})", "({0} or {1})"),
    "not": Primitive(1, "(~{0})", "(~{0})", "(not {0})"),
    "where": Primitive(
        3, "vselect({0}, {1}, {2})", "np.where({0}, {1}, {2})", "({1} if {0} else {2})",
        lambda m, a, b, y: (0, where(m, 1, 0), where(m, 0, 1)),
    ),
    # the second where either is NaN
    "max": Primitive(
        2, "vmax({0}, {1})", "np.where({0} > {1}, {0}, {1})", "({0} if {0} > {1} else {1})",
        lambda a, b, y: (where(a > b, 1, 0), where(a > b, 0, 1)),
    ),
    "min": Primitive(
        2, "vmin({0}, {1})", "np.where({0} < {1}, {0}, {1})", "({0} if {0} < {1} else {1})",
        lambda a, b, y: (where(a < b, 1, 0), where(a < b, 0, 1)),
    ),
    "abs": Primitive(1, "vabs({0})", "np.abs({0})", "abs({0})", lambda a, y: (sign(a),)),
    "sign": Primitive(1, "vsign({0})", "np.sign({0})", "(1.0 if {0} > 0.0 else -1.0 if {0} < 0.0 else {0})"),
    "floor": Primitive(1, "vfloor({0})", "np.floor({0})", "np.floor({0})"),
    "ceil": Primitive(1, "vceil({0})", "np.ceil({0})", "np.ceil({0})"),
    "round": Primitive(1, "vround({0})", "np.rint({0})", "np.rint({0})"),  # half to even
    "sqrt": Primitive(1, "vsqrt({0})", "np.sqrt({0})", "math.sqrt({0})", lambda a, y: (0.5 / y,)),
    "exp": Primitive(1, "vexp({0})", "np.exp({0})", "math.exp({0})", lambda a, y: (y,)),
    "exp_bounded": Primitive(1, "vexp_bounded({0})", "np.exp({0})", "math.exp({0})", lambda a, y: (y,)),  # up to 88
    "expm1": Primitive(1, "vexpm1({0})", "np.expm1({0})", "math.expm1({0})", lambda a, y: (y + 1,)),
    "expm1_bounded": Primitive(
        1, "vexpm1_bounded({0})", "np.expm1({0})", "math.expm1({0})", lambda a, y: (y + 1,)
    ),  # up to 88
    "log": Primitive(1, "vlog({0})", "np.log({0})", "math.log({0})", lambda a, y: (1 / a,)),
    "log1p": Primitive(1, "vlog1p({0})", "np.log1p({0})", "math.log1p({0})", lambda a, y: (1 / (1 + a),)),
    "log1p_unit": Primitive(  # of 0 to 1
        1, "vlog1p_unit({0})", "np.log1p({0})", "math.log1p({0})", lambda a, y: (1 / (1 + a),)
    ),
    "sin": Primitive(1, "vsin({0})", "np.sin({0})", "math.sin({0})", lambda a, y: (cosine(a),)),
    "cos": Primitive(1, "vcos({0})", "np.cos({0})", "math.cos({0})", lambda a, y: (-sine(a),)),
    "pow": Primitive(
        2, "vpow({0}, {1})", "np.power({0}, {1})", "math.pow({0}, {1})",
        lambda a, b, y: (b * power(a, b - 1), y * log(a)),
    ),
    "tanh": Primitive(1, "vtanh({0})", "np.tanh({0})", "math.tanh({0})", lambda a, y: ((1 - y) * (1 + y),)),
    "sigmoid": Primitive(
        1, "vsigmoid({0})", "np.where({0} < 0, np.exp(-np.abs({0})), 1.0) / (1 + np.exp(-np.abs({0})))",
        "((math.exp(-abs({0})) if {0} < 0.0 else 1.0) / (1.0 + math.exp(-abs({0}))))", lambda a, y: (y * (1 - y),),
    ),
    "softplus": Primitive(
        1, "vsoftplus({0})", "(np.log1p(np.exp(-np.abs({0}))) + np.maximum({0}, 0))",
        "(math.log1p(math.exp(-abs({0}))) + (0.0 if {0} < 0.0 else {0}))", lambda a, y: (sigmoid(a),),
    ),
    "erf": Primitive(
        1, "verf({0})", "np_erf({0})", "math.erf({0})", lambda a, y: (1.1283791670955126 * exp(-a * a),)
    ),
    # of the normal distribution, for x >= 0: exp(-x^2 / 2), 1 - Phi(x), and this over that
    "gauss": Primitive(
        1, "vgauss({0})", "np.exp(-0.5 * {0} * {0})", "math.exp(-0.5 * {0} * {0})", lambda a, y: (-a * y,)
    ),
    "tail": Primitive(
        1, "vtail({0})", f"({_TAIL.format('np_')})", f"({_TAIL.format('math.')})",
        lambda a, y: (-_ROOT_2_PI * gauss(a),),
    ),
    "tail_ratio": Primitive(
        1, "vtail_ratio({0})", f"({_TAIL.format('np_')} / np.exp(-0.5 * {{0}} * {{0}}))",
        f"({_TAIL.format('math.')} / math.exp(-0.5 * {{0}} * {{0}}))", lambda a, y: (a * y - _ROOT_2_PI,),
    ),
}  # fmt: skip


def symbols(node: Expr) -> set[str]:
    """The names of the symbols in an expression."""
    return {n.value for n in _in_order([node]) if n.op == "symbol"}


def substitute(node: Expr, values: dict[str, Expr]) -> Expr:
    """The expression with other expressions in place of symbols."""
    made: dict[Expr, Expr] = {}
    for n in _in_order([node]):
        if n.op == "symbol":
            made[n] = values.get(n.value, n)
        else:
            made[n] = apply(n.op, *(made[a] for a in n.args)) if n.args else n
    return made[node]


def derivative(node: Expr, name: str) -> Expr:
    """d node / d name. Where it jumps: the derivative of the branch that is taken there."""
    slopes: dict[Expr, Expr] = {}
    for n in _in_order([node]):
        by_argument = PRIMITIVES[n.op].slopes if n.args else None
        total = constant(1.0 if n.op == "symbol" and n.value == name else 0.0)
        if by_argument is not None and any(not is_number(slopes[a], 0) for a in n.args):
            for argument, slope in zip(n.args, by_argument(*n.args, n), strict=True):
                if not is_number(slopes[argument], 0):
                    total = total + times(slopes[argument], slope)
        slopes[n] = total
    return slopes[node]


def times(factor: Expr, slope: Any) -> Expr:
    """factor * slope; where the slope is a choice of 1 or 0 the factor or 0, whatever the factor is."""
    slope = _expr(slope)
    if slope.op == "where":
        mask, a, b = slope.args
        if all(is_number(x, 0) or is_number(x, 1) for x in (a, b)):
            return where(mask, times(factor, a), times(factor, b))
    return factor * slope


def _in_order(roots: Sequence[Expr]) -> list[Expr]:
    """Every node once, arguments before what they are arguments of."""
    order: dict[Expr, None] = {}

    def visit(node: Expr) -> None:
        if node not in order:
            for argument in node.args:
                visit(argument)
            order[node] = None

    for root in roots:
        visit(root)
    return list(order)


def code(root: Expr, language: str) -> tuple[list[tuple[str, str]], str]:
    """([(name, text) of each part that is used more than once], text of the whole), in one of ``LANGUAGES``."""
    uses: dict[Expr, int] = {}
    order = _in_order([root])
    for node in order:
        for argument in node.args:
            uses[argument] = uses.get(argument, 0) + (2 if language == "numpy" and node.op in _REPEATS else 1)
    texts: dict[Expr, str] = {}
    parts: list[tuple[str, str]] = []
    for node in order:
        texts[node] = _text(node, texts, language)
        if node.args and uses.get(node, 0) > 1 and node.op not in _MASKS:
            parts.append((f"t{len(parts)}", texts[node]))
            texts[node] = parts[-1][0]
    return parts, texts[root]


_REPEATS = {name for name, primitive in PRIMITIVES.items() if primitive.numpy.count("{0}") > 1}
_MASKS = {"gt", "ge", "eq", "ne", "both", "either", "not"}


def _text(node: Expr, texts: dict[Expr, str], language: str) -> str:
    if node.op == "symbol":
        return node.value
    if node.op == "constant":
        return _number(node.value, language)
    primitive = PRIMITIVES[node.op]
    arguments = [texts[a] for a in node.args]
    if language != "vector":
        return getattr(primitive, language).format(*arguments)
    if node.op == "where" and is_number(node.args[2], 0):
        return f"vand({arguments[0]}, {_lanes(node.args[1], arguments[1])})"
    if node.op == "where" and is_number(node.args[1], 0):
        return f"vandnot({arguments[0]}, {_lanes(node.args[2], arguments[2])})"
    if not primitive.infix:
        arguments = [_lanes(a, text) for a, text in zip(node.args, arguments, strict=True)]
    return primitive.vector.format(*arguments)


def _number(value: Any, language: str) -> str:
    if isinstance(value, tuple):
        return f"vsplat({value[0]!r} if F32 else {value[1]!r})" if language == "vector" else repr(value[1])
    if math.isinf(value):
        name = {"vector": "INFINITY", "numpy": "np.inf", "python": "math.inf"}[language]
        return name if value > 0 else f"(-{name})"
    return repr(value) if value >= 0 and math.copysign(1, value) > 0 else f"({value!r})"


def _lanes(node: Expr, text: str) -> str:
    """The text of an argument that must be a vector."""
    return f"vsplat({text})" if node.op == "constant" and not isinstance(node.value, tuple) else text


def python_function(root: Expr, arguments: Sequence[str]) -> Callable[..., Any]:
    """A Python function of numbers, which Numba can compile (with error_model="numpy", or a division by 0 raises)."""
    return _function(root, tuple(arguments), "python")


@lru_cache(maxsize=1024)
def _function(root: Expr, arguments: tuple[str, ...], language: str) -> Callable[..., Any]:
    import numpy as np

    parts, result = code(root, language)
    lines = [*(f"    {name} = {text}" for name, text in parts), f"    return {result}"]
    scope: dict[str, Any] = {"math": math, "np": np}
    if language == "numpy":
        scope |= {f"np_{f.__name__}": np.vectorize(f, otypes=[np.float64]) for f in (math.erf, math.erfc)}
    exec(f"def function({', '.join(arguments)}):\n" + "\n".join(lines), scope)
    return scope["function"]


def evaluate(root: Expr, dtype: Any = "float64", **values: Any) -> Any:
    """The value by NumPy, in ``dtype``, of arrays or numbers by the names of the symbols."""
    import numpy as np

    with np.errstate(all="ignore"):
        given = {name: np.asarray(value, dtype) for name, value in values.items()}
        return _function(root, tuple(given), "numpy")(*given.values())
