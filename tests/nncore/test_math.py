"""Every function on lanes holds the error that vector.pxd and functions.py state, over the whole range of its dtype.

The kernels are called directly, not by a Program: so denormals are on, and the edges of the range are seen too.
"""

import ctypes

import numpy as np
import pytest

from nncore import kernels
from nncore.encoding import encode
from nncore.steps import SAVES, Step

real = np.longdouble
PI = real("3.14159265358979323846264338327950288")
pytestmark = [
    pytest.mark.skipif(np.finfo(real).nmant < 63, reason="the references need a long double of 64 bits"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]


class CallRecord(ctypes.Structure):
    """nncore.op.Op."""

    _fields_ = (
        ("kernel", ctypes.c_void_p),
        ("p", ctypes.c_void_p * 16),
        ("n", ctypes.c_int64 * 24),
        ("s", ctypes.c_double * 8),
        ("threads", ctypes.c_int32),
        ("barrier", ctypes.c_int32),
    )


def call(name, x, isa, s0=0.0, p=None):
    """The function ``name`` of every element of x [n] (and of p [n]), by the chain kernel."""
    out, op = np.full_like(x, -77), CallRecord()
    op.p[0], op.p[1] = out.ctypes.data, x.ctypes.data
    steps = encode([Step(name, p=None if p is None else p.reshape(1, -1), s0=s0)], x.dtype, isa)
    op.p[2] = steps.ctypes.data
    op.n[0:5] = (1, x.size, x.size, x.size, 1)
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
    kernel(kernels.address("chain", x.dtype, isa))(ctypes.addressof(op), 0, 1)
    return out


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def softplus(x):
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def erf(x):
    """A series of positive terms: no cancellation."""
    y = np.minimum(np.abs(x), 7)
    term, total = y, y
    for k in range(1, 160):
        term = term * 2 * y * y / (2 * k + 1)
        total = total + term
    return np.sign(x) * np.where(y >= 7, 1, 2 / np.sqrt(PI) * np.exp(-y * y) * total)


def normal_tail(a):
    """1 - Phi(a), a >= 0: the series of erf below 3, a continued fraction above."""
    a = np.minimum(a, 150)
    small, y = np.minimum(a, 3), np.maximum(a, 3)
    term, total = small, small
    for k in range(1, 80):
        term = term * small * small / (2 * k + 1)
        total = total + term
    f = np.zeros_like(y)
    for k in range(200, 0, -1):
        f = k / (y + f)
    below = real(0.5) - total * np.exp(-small * small / 2) / np.sqrt(2 * PI)
    return np.where(a < 3, below, np.exp(-y * y / 2) / np.sqrt(2 * PI) / (y + f))


def gelu(x):
    tail = normal_tail(np.abs(x))
    return np.maximum(x, -1e4) * np.where(x < 0, tail, 1 - tail)


def gelu_tanh(x):
    x = np.maximum(x, -1e3)
    return x * sigmoid(2 * np.sqrt(2 / PI) * (x + real("0.044715") * x**3))


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def product(f):
    """x * f(x) with its limit 0 at -inf."""
    return lambda x: np.maximum(x, -1e6) * f(x)


# name: (reference, ULP stated). The errors grow with the argument in gelu_tanh alone, as stated there.
FUNCTIONS = {
    "exponential": (np.exp, 1.5),
    "log": (np.log, 1.0),
    "sqrt": (np.sqrt, 0.5),
    "tanh": (np.tanh, 3.0),
    "sigmoid": (sigmoid, 3.0),
    "softplus": (softplus, 3.0),
    "erf": (erf, 2.0),
    "elu": (elu, 2.0),
    "silu": (product(sigmoid), 4.0),
    "mish": (product(lambda x: np.tanh(softplus(x))), 5.0),
    "gelu": (gelu, 9.0),
    "gelu_tanh": (gelu_tanh, 4.0),
    "expm1": (np.expm1, 4.0),
    "log1p": (np.log1p, 3.0),
    "log_sigmoid": (lambda x: -softplus(-x), 3.0),
    "sin": (np.sin, 2.5),
    "cos": (np.cos, 2.5),
    "softsign": (lambda x: np.where(np.isinf(x), np.sign(x), x / (1 + np.abs(x))), 1.5),
}
# Correct where results are denormal.
EXACT_AT_THE_EDGE = {"exponential", "log", "sqrt", "tanh", "erf", "softsign", "sin", "cos"}


def samples(dtype):
    """Numbers from the whole range: bit patterns evenly, the parts where functions bend densely, and the edges."""
    if dtype == "float32":
        bits = np.arange(0, 1 << 32, 20_011, dtype=np.uint64).astype(np.uint32)
    else:
        bits = np.random.default_rng(1).integers(0, 1 << 64, 60_000, dtype=np.uint64)
    info = np.finfo(dtype)
    last = 110 if dtype == "float32" else 760
    edges = [0.0, np.inf, np.nan, info.tiny, info.smallest_subnormal, info.max, info.eps, 1.0]
    edges += [np.log(info.max), np.log(info.tiny), np.log(info.smallest_subnormal), 14.5, 13.266, 37.656, 38.6]
    edges = np.array(edges, dtype)
    infinity = edges.dtype.type(np.inf)
    edges = [edges, np.nextafter(edges, infinity), np.nextafter(edges, -infinity)]
    ranges = [np.linspace(-end, end, 80_000).astype(dtype) for end in (last, 7, 1)]
    x = np.concatenate([bits.view(dtype), *ranges, *edges, *(-edge for edge in edges)])
    return np.concatenate([x, np.zeros(-x.size % 16, dtype)])


def near_roots(dtype):
    """Numbers about the multiples of pi / 2, where sines need the most digits of pi; the C library is left some."""
    most = 8200 if dtype == "float32" else 1_050_000
    x = (np.arange(-most, most, most // 8000, dtype=real) * PI / 2).astype(dtype)
    beside = [np.nextafter(x, x.dtype.type(side)) for side in (-np.inf, np.inf)]
    x = np.concatenate([x, *beside, np.linspace(-1.6 * most, 1.6 * most, 100_000).astype(dtype)])
    return x[: x.size // 16 * 16]


@pytest.fixture(scope="module")
def reference():
    """reference(name, dtype) -> (x, f(x) in long double), computed once."""
    known = {}

    def get(name, dtype):
        if (name, dtype) not in known:
            x = samples(dtype)
            if name in {"sin", "cos"}:
                x = np.concatenate([x, near_roots(dtype)])
            known[name, dtype] = x, FUNCTIONS[name][0](x.astype(real))
        return known[name, dtype]

    return get


@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_as_stated(name, isa, dtype, reference):
    x, expected = reference(name, dtype)
    actual = call(name, x, isa, s0=1.0)
    info = np.finfo(dtype)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    rounded = expected.astype(dtype)
    infinite = np.isinf(rounded)
    np.testing.assert_array_equal(actual[infinite], rounded[infinite])
    finite = np.isfinite(rounded)
    assert np.isfinite(actual[finite & (np.abs(expected) < real(info.max) * (1 - real(4 * info.eps)))]).all()
    finite &= np.isfinite(actual)
    x, actual, expected = x[finite], actual[finite], expected[finite]
    stated = np.full(x.size, FUNCTIONS[name][1])
    if name == "gelu_tanh":
        below = np.clip(x, -30, 0).astype(np.float64)
        stated = stated + 6 * np.abs(np.sqrt(2 / np.pi) * (below + 0.044715 * below**3))
    allowed = stated * np.spacing(np.abs(expected.astype(dtype))).astype(real)
    if name not in EXACT_AT_THE_EDGE:  # what is below the normal range may be 0, also as a factor of the result
        allowed = allowed + real(info.tiny) * np.maximum(1, np.minimum(np.abs(x), 1e3).astype(real))
    error = np.abs(actual.astype(real) - expected)
    worst = np.argmax(error / allowed)
    assert error[worst] <= allowed[worst], f"{name}({x[worst]!r}) = {actual[worst]!r}, expected {expected[worst]!r}"


def test_power(isa, dtype):
    """As C's pow, for all pairs of numbers that are special, and for some that are not, within 1 ULP."""
    info, rng = np.finfo(dtype), np.random.default_rng(2)
    whole = 1.0 / info.epsneg  # from here on all numbers are
    special = [0, 0.5, 1, 1.5, 2, 3, 1 - info.epsneg, 1 + info.eps, whole - 1, whole, whole + 2, whole / 2 - 0.5, 1e30]
    special += [info.max, info.tiny, info.smallest_subnormal, np.inf, np.nan]
    special = np.array([sign * number for number in special for sign in (1, -1)], dtype)
    bases = [np.abs(rng.standard_normal(40_000)) * 3, 1 + rng.uniform(-1e-3, 1e-3, 40_000), rng.uniform(-5, 5, 40_000)]
    powers = [rng.uniform(-80, 80, 40_000), rng.uniform(-9e4, 9e4, 40_000), rng.integers(-9, 9, 40_000)]
    x, y = (a.ravel() for a in np.meshgrid(special, special))
    x, y = (np.concatenate([a, *b]).astype(dtype) for a, b in ((x, bases), (y, powers)))
    x, y = (a[: a.size // 16 * 16] for a in (x, y))
    expected = np.power(x.astype(real), y.astype(real))
    actual, rounded = call("power", x, isa, p=y), expected.astype(dtype)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(rounded))
    some = ~np.isnan(rounded)
    np.testing.assert_array_equal(np.signbit(actual[some]), np.signbit(rounded[some]))
    edge = np.isinf(rounded) | np.isinf(actual)
    beyond = np.abs(expected[edge & some]) > real(info.max) * (1 - real(info.eps))
    assert beyond.all() and np.isinf(actual[np.isinf(expected)]).all()
    some &= ~edge
    error = np.abs(actual[some].astype(real) - expected[some]) / np.spacing(np.abs(rounded[some])).astype(real)
    worst = np.argmax(error)
    assert error[worst] <= 1, f"{x[some][worst]!r} ** {y[some][worst]!r} = {actual[some][worst]!r}"


@pytest.mark.parametrize(
    "name, at_minus_infinity, at_infinity",
    [
        ("exponential", 0, np.inf),
        ("log", np.nan, np.inf),
        ("tanh", -1, 1),
        ("sigmoid", 0, 1),
        ("softplus", 0, np.inf),
        ("erf", -1, 1),
        ("relu", 0, np.inf),
        ("elu", -1, np.inf),
        ("selu", -1.7580993408473766, np.inf),
        ("gelu", 0, np.inf),
        ("gelu_tanh", 0, np.inf),
        ("silu", 0, np.inf),
        ("mish", 0, np.inf),
        ("softsign", -1, 1),
        ("sin", np.nan, np.nan),
        ("cos", np.nan, np.nan),
        ("hard_sigmoid", 0, 1),
        ("expm1", -1, np.inf),
        ("log1p", np.nan, np.inf),
        ("relu6", 0, 6),
        ("celu", -1, np.inf),
        ("hard_silu", 0, np.inf),
        ("hard_tanh", -1, 1),
        ("log_sigmoid", -np.inf, 0),
        ("squareplus", 0, np.inf),
        ("hard_shrink", -np.inf, np.inf),
        ("soft_shrink", -np.inf, np.inf),
        ("tanh_shrink", -np.inf, np.inf),
    ],
)
def test_limits(name, at_minus_infinity, at_infinity, isa, dtype):
    """At infinity, for NaN, and a zero keeps its sign where the function is odd there."""
    x = np.array([-np.inf, np.inf, np.nan, -0.0] * 4, dtype)
    actual = call(name, x, isa, s0=1.0)
    np.testing.assert_array_equal(actual[:2], np.array([at_minus_infinity, at_infinity], dtype))
    assert np.isnan(actual[2])
    if name in {"tanh", "erf", "softsign", "log1p", "sin"}:
        assert actual[3] == 0 and np.signbit(actual[3])


SLOPES = {  # at -inf and inf
    **dict.fromkeys(("gelu", "gelu_tanh", "silu", "mish", "softplus", "elu", "celu", "hard_silu"), (0, 1)),
    "squareplus": (0, 1),
    **dict.fromkeys(("tanh", "sigmoid", "softsign", "hard_tanh", "relu6", "erf"), (0, 0)),
    "selu": (0, 1.0507009873554805),
    "log_sigmoid": (1, 0),
    "tanh_shrink": (1, 1),
}


@pytest.mark.parametrize("name", SLOPES)
def test_derivatives_at_infinity(name, isa, dtype, run):
    """Saved is what the function gives there."""
    x = np.array([[-np.inf, np.inf] * 20], dtype)
    saved = x if SAVES[name] == "x" else call(name, x[0], isa, s0=1.0).reshape(x.shape)
    out = np.ones_like(x)
    step = Step("d_" + name, p=saved, s0=1.0)
    run("chain", dtype=dtype, isa=isa, out=out, x=out, steps=[step], rows=1, cols=40, ld_out=40, ld_x=40)
    np.testing.assert_allclose(out, np.array([SLOPES[name] * 20], dtype), rtol=1e-6, atol=1e-6)
