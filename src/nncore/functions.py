"""What a fused step computes: one row for each function, of which ``generate.py`` makes the vector code when the wheel
is built and ``reference_steps`` the values in NumPy, and whose derivative follows.

A row is an expression of v, the element itself, of the operands p and q, and of the numbers s0 and s1. A function that
is differentiated by v (``smooth``) has a second kind, d_NAME: v *= f'(p), of its argument x or its result y at p, which
is the one that ``saves`` names; gradients need the other no longer. The derivative is symbolic unless it is given, by x
or by y, because it is cheaper or more precise so.

NaN gives NaN, and its slope is no 0 that would hide it. Clamps keep infinity times zero away: every function has its
limit at +-inf. The errors stated, in units in the last place, are the largest seen over the whole range on every ISA;
tests/nncore/test_math.py holds them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from nncore.expr import (
    Expr,
    absolute,
    ceil,
    constant,
    cosine,
    derivative,
    equal,
    erf,
    exp,
    exp_bounded,
    expm1,
    expm1_bounded,
    floor,
    gauss,
    largest,
    log,
    log1p,
    nearest,
    power,
    sigmoid,
    sign,
    sine,
    smallest,
    softplus,
    sqrt,
    substitute,
    symbol,
    symbols,
    tail,
    tail_ratio,
    tanh,
    times,
    unequal,
    where,
)  # fmt: skip

v, p, q, s0, s1 = (symbol(name) for name in ("v", "p", "q", "s0", "s1"))
x = y = p  # what d_NAME reads at p
INFINITY = constant(float("inf"))


@dataclass(frozen=True)
class Function:
    """``slope``: f'(p) where p is what ``saves`` says; None for what is not differentiated."""

    name: str
    value: Expr
    slope: Expr | None = None
    saves: str = ""

    @property
    def operands(self) -> str:
        """Which of p and q it reads."""
        return "".join(name for name in "pq" if name in symbols(self.value))


FUNCTIONS: dict[str, Function] = {}
SAVES: dict[str, str] = {}


def plain(name: str, value: Expr) -> None:
    FUNCTIONS[name] = Function(name, value)


def smooth(name: str, value: Expr, by_x: Expr | None = None, by_y: Expr | None = None) -> None:
    """A row with a derivative: symbolic, or ``by_x`` or ``by_y``."""
    slope = by_y if by_y is not None else by_x
    if slope is None:
        slope = substitute(derivative(value, "v"), {"v": p})
    SAVES[name] = "y" if by_y is not None else "x"
    FUNCTIONS[name] = Function(name, value, slope, SAVES[name])
    FUNCTIONS["d_" + name] = Function("d_" + name, times(v, slope))


def kept_if(mask: Expr) -> Expr:
    return where(mask, 1, 0)


def cut_if(mask: Expr) -> Expr:
    """0 where the mask is set, else 1: of a comparison with NaN, which no mask has, 1."""
    return where(mask, 0, 1)


def bottom(z: Expr) -> Expr:
    """z, or where it is less a number whose exp is 0 (and stays 0 times that number)."""
    return largest(constant(-110.0, -760.0), z)


def within(z: Expr, limit: Expr | float) -> Expr:
    return largest(-limit, smallest(limit, z))


# ---- operands: broadcast along rows or columns as they are addressed ----
plain("load", p)
plain("add", v + p)
plain("sub", v - p)
plain("rsub", p - v)
plain("mul", v * p)
plain("div", v / p)
plain("rdiv", p / v)
plain("scale_shift", v * p + q)
plain("power", power(v, p))  # 1 ULP
plain("maximum", where((v > p) | ~equal(v, v), v, p))  # NaN if either is
plain("minimum", where((p > v) | ~equal(v, v), v, p))
plain("select", where(unequal(v, 0), p, q))

# ---- comparisons: 1 or 0; NaN is unequal to everything, and neither greater nor less ----
plain("eq", kept_if(equal(v, p)))
plain("ne", kept_if(unequal(v, p)))
plain("lt", kept_if(v < p))
plain("le", kept_if(v <= p))
plain("gt", kept_if(v > p))
plain("ge", kept_if(v >= p))
plain("logical_and", kept_if(unequal(v, 0) & unequal(p, 0)))
plain("logical_or", kept_if(unequal(v, 0) | unequal(p, 0)))
plain("logical_not", kept_if(equal(v, 0)))
plain("is_finite", kept_if(absolute(v) < INFINITY))
plain("is_nan", kept_if(unequal(v, v)))

# ---- numbers ----
plain("scale", v * s0)
plain("shift", v + s0)
plain("neg", -v)
plain("sign", sign(v))
plain("floor", floor(v))
plain("ceil", ceil(v))
plain("round", nearest(v))  # half to even
smooth("maximum_scalar", largest(s0, v), by_x=cut_if(x <= s0))
smooth("minimum_scalar", smallest(s0, v), by_x=cut_if(x >= s0))
smooth("clip", largest(s0, smallest(s1, v)), by_x=cut_if((x < s0) | (x > s1)))
smooth("power_scalar", power(v, s0), by_x=s0 * power(x, s0 - 1))

# ---- functions ----
smooth("square", v * v)
smooth("sqrt", sqrt(v), by_y=0.5 / y)
smooth("rsqrt", 1 / sqrt(v), by_y=-0.5 * y * y * y)
smooth("reciprocal", 1 / v, by_y=-y * y)
smooth("abs", absolute(v))
smooth("exponential", exp(v), by_y=y)  # 1.5 ULP
smooth("expm1", expm1(v), by_y=y + 1)  # 4 ULP
smooth("log", log(v))  # 1 ULP
smooth("log1p", log1p(v))  # 3 ULP
smooth("erf", erf(v))  # 2 ULP
smooth("sin", sine(v))  # 2.5 ULP
smooth("cos", cosine(v))  # 2.5 ULP

# ---- activations ----
smooth("relu", where(v < 0, 0, v), by_y=cut_if(y <= 0))
smooth("relu6", largest(0, smallest(6, v)), by_y=cut_if((y <= 0) | (y >= 6)))
smooth("leaky_relu", where(v < 0, v * s0, v), by_y=where(y <= 0, s0, 1))  # slope s0
smooth("threshold", where(v <= s0, s1, v), by_x=cut_if(x <= s0))  # v where it is above s0, else s1
# alpha * (exp(x) - 1) below 0; 2 ULP
smooth("elu", where(v > 0, v, s0 * expm1_bounded(smallest(0, v))), by_y=where(y > 0, 1, y + s0))
smooth("celu", where(v > 0, v, s0 * expm1_bounded(smallest(0, v) / s0)), by_y=where(y > 0, 1, (y + s0) / s0))
smooth(
    "selu", where(v > 0, v * 1.0507009873554805, 1.7580993408473766 * expm1_bounded(smallest(0, v))),
    by_y=where(y > 0, 1.0507009873554805, y + 1.7580993408473766),
)  # fmt: skip
_tail = tail(absolute(v))
_a = smallest(constant(13.266, 37.656), absolute(x))
_upper = gauss(_a) * tail_ratio(_a)
_bell = _a * gauss(_a) * 0.39894228040143268
# x * Phi(x), Phi the normal distribution function; 9 ULP, also far below 0. Its derivative: Phi(x) + x * Phi'(x)
smooth(
    "gelu", largest(-40, v) * where(v < 0, _tail, 1 - _tail), by_x=where(x < 0, _upper - _bell, 1 - _upper + _bell)
)  # fmt: skip
_c, _d = largest(-25, v), within(x, 25.0)
_s = sigmoid(_d * (_d * _d * 0.071354816272600248 + 1.5957691216057308))
# x * (1 + tanh(u)) / 2 = x * sigmoid(2 u), u = sqrt(2 / pi) * (x + 0.044715 * x**3); 4 + 6 |u| ULP: the rounding of u
# counts that often far below 0
smooth(
    "gelu_tanh", _c * sigmoid(_c * (_c * _c * 0.071354816272600248 + 1.5957691216057308)),
    by_x=_s + _d * _s * (1 - _s) * (_d * _d * 0.21406444881780074 + 1.5957691216057308),
)  # fmt: skip
_c = within(x, constant(110.0, 760.0))
_s = sigmoid(_c)
smooth("silu", bottom(v) * sigmoid(bottom(v)), by_x=_s + _c * _s * (1 - _s))  # 4 ULP
smooth("sigmoid", sigmoid(v), by_y=y * (1 - y))  # 3 ULP
smooth("hard_sigmoid", largest(0, smallest(1, v * 0.16666666666666667 + 0.5)),
       by_y=where((y <= 0) | (y >= 1), 0, 0.16666666666666667))  # fmt: skip
smooth("hard_silu", largest(-3, v) * largest(0, smallest(1, v * 0.16666666666666667 + 0.5)),
       by_x=where(x <= -3, 0, where(x >= 3, 1, x * 0.3333333333333333 + 0.5)))  # fmt: skip
smooth("log_sigmoid", -softplus(-v), by_x=sigmoid(-x))  # 3 ULP
smooth("tanh", tanh(v), by_y=(1 - y) * (1 + y))  # 3 ULP; the derivative unlike 1 - y * y without cancellation
smooth("hard_tanh", largest(-1, smallest(1, v)), by_y=cut_if((y <= -1) | (y >= 1)))
smooth("softplus", softplus(v), by_x=sigmoid(x))  # 3 ULP
_c = within(v, 1e20)  # far where the result is 1
smooth("softsign", _c / (absolute(_c) + 1), by_y=(1 - absolute(y)) * (1 - absolute(y)))
_e = exp_bounded(smallest(30, v))
_n = _e * (_e + 2)
_c = smallest(constant(20.0, 40.0), bottom(x))
_f = exp_bounded(_c)
_m = _f * (_f + 2)
_o = 1 / (_m + 2)
# x * tanh(softplus(x)), 5 ULP: with e = exp(x) and n = e * (e + 2) the tanh is n / (n + 2)
smooth("mish", bottom(v) * (_n / (_n + 2)), by_x=_o * (_m + _o * _c * _f * (_f + 1) * 4))
# (x + sqrt(x^2 + s0)) / 2, written so that nothing cancels and the square may overflow
smooth("squareplus", where(v < 0, 0, v) + s0 * 0.5 / (sqrt(v * v + s0) + absolute(v)),
       by_y=1 / (1 + s0 * 0.25 / (y * y)))  # fmt: skip
smooth("hard_shrink", where(absolute(v) <= s0, 0, v), by_y=kept_if(unequal(y, 0)))
smooth("soft_shrink", where(v > s0, v - s0, where(v < -s0, v + s0, where(equal(v, v), 0, v))),
       by_y=kept_if(unequal(y, 0)))  # fmt: skip
smooth("tanh_shrink", v - tanh(v), by_x=tanh(x) * tanh(x))


def fingerprint() -> int:
    """Changes with the rows: the module that was made of them exports it, and one made of others is not loaded."""
    return zlib.crc32(repr([(row.name, row.value) for row in FUNCTIONS.values()]).encode()) & 0x7FFFFFFF
