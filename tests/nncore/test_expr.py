"""The language of scalar expressions, and every row of nncore.functions against formulas written apart from it."""

import math
from pathlib import Path

import numba
import numpy as np
import pytest

from nncore import Step, encoding, expr, functions, kernels, steps
from nncore.expr import apply, code, constant, derivative, evaluate, python_function, substitute, symbol, times, where
from nncore.functions import FUNCTIONS, SAVES

a, b = symbol("a"), symbol("b")
X = np.array([-7.5, -3.25, -2.5, -1.0, -0.75, -0.25, -1e-3, 0.0, 1e-3, 0.3, 0.5, 1.0, 1.5, 2.5, 3.5, 6.5, 9.0])
S0, S1 = 0.5, 2.0
_erf = np.vectorize(math.erf)


def test_a_node_exists_once():
    assert a + b * 2 is a + b * 2 and constant(0.0) is not constant(-0.0)
    assert apply("neg", -a) is a and a + 0 is a and a * 1 is a
    assert where(a > b, 3, 3) is constant(3) and constant(2) * 3 is constant(6)
    with pytest.raises(TypeError, match="has no truth value"):
        bool(a > b)
    with pytest.raises(TypeError, match="max: expected 2 arguments, got 1"):
        apply("max", a)
    assert substitute(a * a - b, {"a": b + 1}) is (b + 1) * (b + 1) - b


def test_code_shares_what_is_used_twice():
    parts, result = code(apply("exp", a) * (apply("exp", a) + 1), "vector")
    assert parts == [("t0", "vexp(a)")] and result == "(t0 * (t0 + 1.0))"
    assert code(where(a > 0, b, 0), "vector") == ([], "vand(vgt(a, vsplat(0.0)), b)")
    assert code(apply("max", constant(-1.0, -2.0), a), "vector") == ([], "vmax(vsplat(-1.0 if F32 else -2.0), a)")


def test_times_chooses_where_a_slope_is_a_mask():
    """Infinity times a slope of 0 is 0 where the slope is a choice."""
    assert times(a, where(b > 0, 1, 0)) is where(b > 0, a, 0)
    assert times(a, where(b > 0, 2, 0)) is a * where(b > 0, 2, 0)


SMOOTH = [name for name, primitive in expr.PRIMITIVES.items() if primitive.slopes is not None]


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_of_primitives(name):
    """Against central differences, by each argument."""
    arity = expr.PRIMITIVES[name].arity
    names = "abc"[:arity]
    given = [symbol(n) for n in names]
    node = apply(name, given[0] > 0.4, *given[1:]) if name == "where" else apply(name, *given)
    points = np.array([0.1, 0.35, 0.8, 0.9]), np.array([0.7, 1.3, 0.2, 0.5]), np.full(4, 0.25)
    values = dict(zip(names, points, strict=False))
    for n in names:
        h = 1e-6
        difference = evaluate(node, **values | {n: values[n] + h}) - evaluate(node, **values | {n: values[n] - h})
        actual = evaluate(derivative(node, n), **values) * np.ones(4)
        np.testing.assert_allclose(actual, difference / (2 * h), rtol=1e-7, atol=1e-8)


# What the rows compute, written by hand, of v, p, q and the numbers S0 and S1.
FORMULAS = {
    "load": lambda v, p, q: p,
    "add": lambda v, p, q: v + p,
    "sub": lambda v, p, q: v - p,
    "rsub": lambda v, p, q: p - v,
    "mul": lambda v, p, q: v * p,
    "div": lambda v, p, q: v / p,
    "rdiv": lambda v, p, q: p / v,
    "scale_shift": lambda v, p, q: v * p + q,
    "power": np.power,
    "maximum": lambda v, p, q: np.maximum(v, p),
    "minimum": lambda v, p, q: np.minimum(v, p),
    "select": lambda v, p, q: np.where(v != 0, p, q),
    "eq": lambda v, p, q: v == p,
    "ne": lambda v, p, q: v != p,
    "lt": lambda v, p, q: v < p,
    "le": lambda v, p, q: v <= p,
    "gt": lambda v, p, q: v > p,
    "ge": lambda v, p, q: v >= p,
    "logical_and": lambda v, p, q: np.logical_and(v, p),
    "logical_or": lambda v, p, q: np.logical_or(v, p),
    "logical_not": lambda v, p, q: np.logical_not(v),
    "is_finite": lambda v, p, q: np.isfinite(v),
    "is_nan": lambda v, p, q: np.isnan(v),
    "scale": lambda v, p, q: v * S0,
    "shift": lambda v, p, q: v + S0,
    "neg": lambda v, p, q: -v,
    "sign": lambda v, p, q: np.sign(v),
    "floor": lambda v, p, q: np.floor(v),
    "ceil": lambda v, p, q: np.ceil(v),
    "round": lambda v, p, q: np.round(v),
    "maximum_scalar": lambda v, p, q: np.maximum(v, S0),
    "minimum_scalar": lambda v, p, q: np.minimum(v, S0),
    "clip": lambda v, p, q: np.clip(v, S0, S1),
    "power_scalar": lambda v, p, q: v**S0,
    "square": lambda v, p, q: v**2,
    "sqrt": lambda v, p, q: np.sqrt(v),
    "rsqrt": lambda v, p, q: v**-0.5,
    "reciprocal": lambda v, p, q: 1 / v,
    "abs": lambda v, p, q: np.abs(v),
    "exponential": lambda v, p, q: np.exp(v),
    "expm1": lambda v, p, q: np.expm1(v),
    "log": lambda v, p, q: np.log(v),
    "log1p": lambda v, p, q: np.log1p(v),
    "erf": lambda v, p, q: _erf(v),
    "sin": lambda v, p, q: np.sin(v),
    "cos": lambda v, p, q: np.cos(v),
    "relu": lambda v, p, q: np.maximum(v, 0),
    "relu6": lambda v, p, q: np.clip(v, 0, 6),
    "leaky_relu": lambda v, p, q: np.where(v > 0, v, S0 * v),
    "threshold": lambda v, p, q: np.where(v > S0, v, S1),
    "elu": lambda v, p, q: np.where(v > 0, v, S0 * (np.exp(v) - 1)),
    "celu": lambda v, p, q: np.where(v > 0, v, S0 * (np.exp(v / S0) - 1)),
    "selu": lambda v, p, q: 1.0507009873554805 * np.where(v > 0, v, 1.6732632423543772 * (np.exp(v) - 1)),
    "gelu": lambda v, p, q: v * 0.5 * (1 + _erf(v / np.sqrt(2))),
    "gelu_tanh": lambda v, p, q: 0.5 * v * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3))),
    "silu": lambda v, p, q: v / (1 + np.exp(-v)),
    "sigmoid": lambda v, p, q: 1 / (1 + np.exp(-v)),
    "hard_sigmoid": lambda v, p, q: np.clip(v / 6 + 0.5, 0, 1),
    "hard_silu": lambda v, p, q: v * np.clip(v / 6 + 0.5, 0, 1),
    "log_sigmoid": lambda v, p, q: -np.log1p(np.exp(-v)),
    "tanh": lambda v, p, q: np.tanh(v),
    "hard_tanh": lambda v, p, q: np.clip(v, -1, 1),
    "softplus": lambda v, p, q: np.log1p(np.exp(v)),
    "softsign": lambda v, p, q: v / (1 + np.abs(v)),
    "mish": lambda v, p, q: v * np.tanh(np.log1p(np.exp(v))),
    "squareplus": lambda v, p, q: (v + np.sqrt(v**2 + S0)) / 2,
    "hard_shrink": lambda v, p, q: np.where(np.abs(v) > S0, v, 0),
    "soft_shrink": lambda v, p, q: np.sign(v) * np.maximum(np.abs(v) - S0, 0),
    "tanh_shrink": lambda v, p, q: v - np.tanh(v),
}


def test_every_row_has_a_formula():
    assert {name for name in FUNCTIONS if not name.startswith("d_")} == set(FORMULAS)
    assert {f"d_{name}" for name in SAVES} == {name for name in FUNCTIONS if name.startswith("d_")}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", FORMULAS)
def test_values(name):
    """By NumPy, and as Numba compiles it."""
    p, q = np.roll(X, 5) + 0.125, X[::-1].copy()
    x = np.where(np.arange(X.size) % 3 == 0, p, X)  # some are equal
    formula = FORMULAS[name]
    expected = np.asarray(formula(x, p) if name == "power" else formula(x, p, q), np.float64)
    row = FUNCTIONS[name]
    actual = evaluate(row.value, v=x, p=p, q=q, s0=S0, s1=S1)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-15)
    compiled = numba.njit(error_model="numpy")(python_function(row.value, ("v", "p", "q", "s0", "s1")))
    by_numba = [compiled(*numbers, S0, S1) for numbers in zip(x, p, q, strict=True)]
    np.testing.assert_allclose(by_numba, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", sorted(SAVES))
def test_slopes_are_the_symbolic_derivatives(name):
    """What is written for the result or for the argument, against the derivative of the value."""
    x = X[X != 0] + 0.0625
    if name in ("sqrt", "rsqrt", "log", "power_scalar", "log1p"):
        x = np.linspace(0.03, 5.47, 100)
    row = FUNCTIONS[name]
    saved = x if SAVES[name] == "x" else evaluate(row.value, v=x, s0=S0, s1=S1)
    actual = evaluate(row.slope, p=saved, s0=S0, s1=S1) * np.ones(x.size)
    expected = evaluate(derivative(row.value, "v"), v=x, s0=S0, s1=S1) * np.ones(x.size)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)
    upstream = np.linspace(-2, 2, x.size)
    given = evaluate(FUNCTIONS[f"d_{name}"].value, v=upstream, p=saved, s0=S0, s1=S1)
    np.testing.assert_allclose(given, upstream * expected, rtol=1e-9, atol=1e-12)


def test_an_activation_is_one_row():
    """All that there is of hard_shrink: its row makes kernels, derivative, oracle and Numba code."""
    source = Path(functions.__file__).read_text()
    assert source.count("hard_shrink") == 1
    row = FUNCTIONS["hard_shrink"]
    assert code(row.value, "vector") == ([], "vandnot(vge(s0, vabs(v)), v)")
    assert code(FUNCTIONS["d_hard_shrink"].value, "vector") == ([], "vand((~veq(p, vsplat(0.0))), v)")
    assert {"hard_shrink", "d_hard_shrink"} <= set(kernels.family("steps").FUNCTIONS) & set(steps.KINDS)
    assert python_function(row.value, ["v", "p", "q", "s0", "s1"])(0.25, 0, 0, 0.5, 0) == 0.0


def test_kernels_of_other_rows_are_not_loaded(monkeypatch):
    """What was compiled from rows in another order, or from others, is stale."""
    module = kernels.family("steps")
    kernels.check_layout(module)
    order = dict(reversed(FUNCTIONS.items()))
    monkeypatch.setattr(functions, "FUNCTIONS", order)
    with pytest.raises(ImportError, match=r"steps is stale: its ROWS is"):
        kernels.check_layout(module)


def test_tables_of_the_module_are_complete():
    core = kernels.family("steps")
    assert set(core.FUNCTIONS) == set(FUNCTIONS) and len(set(core.FUNCTIONS.values())) == len(FUNCTIONS)
    assert set(core.CODES) - {"function"} == set(steps.KINDS) - set(FUNCTIONS)
    assert sorted(core.CODES.values()) == list(range(len(core.CODES)))
    assert encoding.encode([Step("add", p=np.ones(3, "f4"))])["function"][0] == core.FUNCTIONS["add"]
