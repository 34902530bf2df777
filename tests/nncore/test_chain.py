"""The chain kernel and the steps that gemm shares with it: every kind, against NumPy and against differences."""

import numpy as np
import pytest

import nncore
from nncore import Op, Operand, Step, reference_steps
from nncore.functions import FUNCTIONS, SAVES
from nncore.memory import DRAW, SEED
from nncore.steps import KINDS

# update writes its operands and not the matrix: test_optimizer.py has it; save: below.
KINDS = [kind for kind in KINDS if kind not in ("update", "save")]
SHAPES = [(1, 1), (3, 5), (7, 16), (13, 33), (1, 9001), (9001, 1), (130, 100), (5000, 3)]
# Exact in both dtypes, but for the scale of dropout.
SCALARS = {
    "scale": (1.75, 0),
    "shift": (-0.25, 0),
    "leaky_relu": (0.125, 0),
    "elu": (1.25, 0),
    "celu": (1.25, 0),
    "threshold": (0.25, -2),
    "hard_shrink": (0.5, 0),
    "soft_shrink": (0.5, 0),
    "squareplus": (4, 0),
    "clip": (-0.5, 0.75),
    "maximum_scalar": (0.25, 0),
    "minimum_scalar": (0.25, 0),
    "power_scalar": (1.5, 0),
    "dropout": (0.3, 1 / 0.7),
}
SCALARS |= {f"d_{name}": numbers for name, numbers in SCALARS.items()}
POSITIVE = {"sqrt", "rsqrt", "log", "reciprocal", "rdiv", "power", "power_scalar"}
# Where this formula or the reference's subtracts nearly equal numbers, the error is relative to 1.
ABSOLUTE = {
    "scale_shift",
    "norm_grad",
    "gelu",
    "d_gelu",
    "d_gelu_tanh",
    "d_silu",
    "d_mish",
    "gelu_tanh",
    "hard_sigmoid",
    "hard_silu",
    "d_hard_silu",
    "tanh_shrink",
    "d_tanh",
    "d_elu",
    "d_selu",
    "d_celu",
    "d_cos",
    "d_erf",
    "sin",
    "cos",
}


def make_step(kind, shape, dtype, rng, seed=5, p_at=None, q_at=None):
    """A step of this kind with operands for a matrix of ``shape``, or of the shapes ``p_at`` and ``q_at``."""
    s0, s1 = SCALARS.get(kind, (0.0, 0.0))
    if kind == "dropout":
        state = nncore.new_state(seed=(seed << 32) + 99)
        state[DRAW] = 12
        return Step(kind, state=state, index=3, width=shape[1], s0=s0, s1=s1)
    if kind == "norm_grad":
        p, q = rng.normal(size=shape).astype(dtype), rng.normal(size=(3, shape[1])).astype(dtype)
        return Step(kind, p=p, q=q, width=shape[1])
    if kind.startswith("d_"):
        x = rng.normal(size=p_at or shape)
        x = np.abs(x) + 0.1 if kind[2:] in POSITIVE else np.abs(x) if kind == "d_log1p" else x
        forward = FUNCTIONS[kind[2:]].value
        saved = x if SAVES[kind[2:]] == "x" else reference_steps.evaluate(forward, v=x, s0=s0, s1=s1)
        return Step(kind, p=saved.astype(dtype), s0=s0, s1=s1)
    p, q = (rng.normal(size=at or shape).astype(dtype) for at in (p_at, q_at))
    if kind in ("eq", "ne", "le", "ge", "logical_and", "logical_or"):
        p = np.round(p)
    operands = FUNCTIONS[kind].operands if kind in FUNCTIONS else "p"
    return Step(kind, p=p if "p" in operands else None, q=q if "q" in operands else None, s0=s0, s1=s1)


def argument(kind, x):
    """x, in the range of a function."""
    if kind in ("eq", "ne", "le", "ge", "logical_and", "logical_or", "logical_not", "select", "round"):
        return np.round(2 * x) / 2
    return np.abs(x) + 0.1 if kind in POSITIVE else np.abs(x) if kind == "log1p" else x


def chain(run, x, steps, *, isa=None, threads=1, out=None):
    """out = steps(x), through the kernel; ``x`` and ``out`` may have gaps between their rows."""
    out = np.full(x.shape, np.nan, x.dtype) if out is None else out
    rows, cols = x.shape
    sizes = dict(rows=rows, cols=cols, ld_out=out.strides[0] // x.itemsize, ld_x=x.strides[0] // x.itemsize)
    run("chain", dtype=x.dtype, isa=isa, threads=threads, out=out, x=x, steps=steps, **sizes)
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_values(kind, isa, dtype, rng, run):
    tolerance = 2e-6 if dtype == "float32" else 4e-15
    for shape in SHAPES:
        x = argument(kind, rng.normal(size=shape)).astype(dtype)
        step = make_step(kind, shape, dtype, rng)
        actual = chain(run, x, [step], isa=isa)
        expected = reference_steps.apply(x, [step])
        if kind == "store":
            np.testing.assert_array_equal(step.p.memory, x)
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance if kind in ABSOLUTE else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_bits_do_not_depend_on_threads_or_place(kind, isa, dtype, rng, run):
    """The same bits for every number of threads, for rows with gaps, in place, and for a part of the matrix alone."""
    shape = (61, 203)
    x = np.abs(rng.normal(size=shape)).astype(dtype)
    step = make_step(kind, shape, dtype, rng)
    expected = chain(run, x, [step], isa=isa)
    for threads in (2, 3, 7):
        assert chain(run, x, [step], isa=isa, threads=threads).tobytes() == expected.tobytes()
    room = np.full((61, 250), 7, dtype)
    room[:, 20:223] = x
    apart = np.full((61, 211), -3, dtype)
    chain(run, room[:, 20:223], [step], isa=isa, threads=2, out=apart[:, 5:208])
    assert apart[:, 5:208].tobytes() == expected.tobytes()
    assert (apart[:, :5] == -3).all() and (apart[:, 208:] == -3).all()
    in_place = x.copy()
    chain(run, in_place, [step], isa=isa, out=in_place)
    assert in_place.tobytes() == expected.tobytes()
    for cols in (1, 2, 15, 17, 100):
        alone = chain(run, x[:, :cols], [step], isa=isa)
        assert alone.tobytes() == np.ascontiguousarray(expected[:, :cols]).tobytes(), cols


@pytest.mark.parametrize("name", sorted(SAVES))
def test_derivatives_against_differences(name, isa, rng, run):
    """d_f times a gradient = gradient times the central difference of f, in float64, by the kernels alone."""
    h, (s0, s1) = 1e-6, SCALARS.get(name, (0.0, 0.0))
    x = argument(name, rng.normal(scale=2.0, size=(31, 37)))
    for corner in (0, 3, -3, 1, -1, 6, s0, -s0, s1):
        x[np.abs(x - corner) < 1e-3] = 0.3
    gradient = rng.normal(size=x.shape)
    forward = [Step(name, s0=s0, s1=s1)]
    saved = x if SAVES[name] == "x" else chain(run, x, forward, isa=isa)
    actual = chain(run, gradient, [Step("d_" + name, p=saved, s0=s0, s1=s1)], isa=isa)
    difference = (chain(run, x + h, forward, isa=isa) - chain(run, x - h, forward, isa=isa)) / (2 * h)
    np.testing.assert_allclose(actual, gradient * difference, rtol=1e-6, atol=1e-7)


def test_steps_in_order(isa, dtype, rng, run):
    shape = (37, 45)
    x, bias, residual = rng.normal(size=shape), rng.normal(size=45), rng.normal(size=shape)
    x, bias, residual = (a.astype(dtype) for a in (x, bias, residual))
    kept = np.zeros(shape, dtype)
    steps = [Step("add", p=bias), Step("store", p=kept), Step("tanh"), Step("add", p=residual)]
    steps += [make_step("dropout", shape, dtype, rng), Step("scale", s0=0.5)]
    tolerance = 2e-6 if dtype == "float32" else 4e-15
    actual = chain(run, x, steps, isa=isa, threads=3)
    np.testing.assert_array_equal(kept, x + bias)
    np.testing.assert_allclose(actual, reference_steps.apply(x, steps), rtol=tolerance, atol=tolerance)


def test_without_x_and_without_steps(isa, dtype, run, rng):
    out = np.full((3, 21), np.nan, dtype)
    run("chain", dtype=dtype, isa=isa, out=out, steps=[Step("shift", s0=2.0)], rows=3, cols=21, ld_out=21)
    assert (out == 2).all()
    x = rng.normal(size=(3, 21)).astype(dtype)
    assert chain(run, x, [], isa=isa).tobytes() == x.tobytes()


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_empty(shape, isa, dtype, run):
    out = np.full((5, 5), 3, dtype)
    steps = [Step("shift", s0=2.0)]
    run("chain", dtype=dtype, isa=isa, threads=3, out=out, steps=steps, rows=shape[0], cols=shape[1], ld_out=5)
    assert (out == 3).all()


def test_relu_and_extremes_keep_nan(isa, dtype, run):
    x = np.array([[np.nan, 1, -1, 0, np.inf, -np.inf] * 5], dtype)
    p = np.array([[1, np.nan, -2, 0, np.inf, 3] * 5], dtype)
    for kind in ("maximum", "minimum"):
        actual = chain(run, x, [Step(kind, p=p)], isa=isa)
        np.testing.assert_array_equal(actual, getattr(np, kind)(x, p))
    np.testing.assert_array_equal(chain(run, x, [Step("relu")], isa=isa), np.maximum(x, 0))
    np.testing.assert_array_equal(chain(run, x, [Step("sign")], isa=isa), np.sign(x))


def test_comparisons_with_nan(isa, dtype, run):
    """NaN is unequal to everything, and neither greater nor less."""
    x = np.array([[np.nan, 1, np.nan, 0, np.inf, -0.0] * 5], dtype)
    p = np.array([[1, np.nan, np.nan, 1, np.inf, 0] * 5], dtype)
    for kind, function in dict(
        eq=np.equal, ne=np.not_equal, lt=np.less, le=np.less_equal, gt=np.greater, ge=np.greater_equal,
        logical_and=np.logical_and, logical_or=np.logical_or,
    ).items():  # fmt: skip
        np.testing.assert_array_equal(chain(run, x, [Step(kind, p=p)], isa=isa), function(x, p), err_msg=kind)
    for kind, function in dict(is_finite=np.isfinite, is_nan=np.isnan, logical_not=np.logical_not).items():
        np.testing.assert_array_equal(chain(run, x, [Step(kind)], isa=isa), function(x), err_msg=kind)


UNARY_KEEP_NAN = [name for name, row in FUNCTIONS.items() if not row.operands and name not in ("is_finite", "is_nan",
                  "logical_not")]  # fmt: skip


@pytest.mark.parametrize("kind", UNARY_KEEP_NAN)
def test_nan_gives_nan(kind, isa, dtype, run):
    s0, s1 = SCALARS.get(kind, (0.0, 0.0))
    x = np.full((1, 21), np.nan, dtype)
    assert np.isnan(chain(run, x, [Step(kind, s0=s0, s1=s1)], isa=isa)).all()


@pytest.mark.parametrize("kind", sorted(SAVES))
def test_a_slope_does_not_hide_nan(kind, isa, dtype, run):
    """Where the argument, and so the result, is NaN, what comes back is NaN or what came, never 0."""
    s0, s1 = (-1.0, 1.0) if kind == "clip" else (0.5, 0.5)
    saved = np.full((1, 21), np.nan, dtype)
    for upstream in (2.0, np.nan):
        back = chain(run, np.full_like(saved, upstream), [Step(f"d_{kind}", p=saved, s0=s0, s1=s1)], isa=isa)
        assert (back != 0).all() and (np.isnan(back).all() or upstream == 2.0)


# Operands of a matrix [rows, cols]: what they are addressed by, made of (rows, cols), and as NumPy would have them.
ADDRESSES = {
    "row": (lambda r, c: (c,), lambda a, r, c: Operand(a, 0, 1)),
    "column": (lambda r, c: (r, 1), lambda a, r, c: Operand(a, 1, 0)),
    "number": (lambda r, c: (1, 1), lambda a, r, c: Operand(a, 0, 0)),
    "transposed": (lambda r, c: (c, r), lambda a, r, c: Operand(a, 1, r)),
    "every second": (lambda r, c: (r, 2 * c), lambda a, r, c: Operand(a, 2 * c, 2)),
    "row in a wider matrix": (lambda r, c: (r, c + 3), lambda a, r, c: Operand(a, c + 3)),
    "groups": (lambda r, c: (r, c), lambda a, r, c: Operand(a, c, div=3)),
    "cycle": (lambda r, c: (min(r, 5), c), lambda a, r, c: Operand(a, c, mod=min(r, 5))),
    "groups in a cycle": (lambda r, c: (2, c), lambda a, r, c: Operand(a, c, div=4, mod=2)),
    "a number for a group": (lambda r, c: (r, 1), lambda a, r, c: Operand(a, 1, 0, div=2)),
}


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("kind", ["add", "scale_shift", "d_gelu", "select"])
def test_addresses(address, kind, isa, dtype, rng, run):
    """Every address of p, and of q beside a plain p, for tiles of every shape, gives the bits that the operand written
    out as a matrix gives; threads or a part of the columns change nothing."""
    make, at = ADDRESSES[address]
    for shape in [*SHAPES, (0, 3), (61, 203), (4099, 17)]:
        x = np.round(rng.normal(size=shape)).astype(dtype)
        plain = rng.normal(size=shape).astype(dtype)
        operand = at(rng.normal(size=make(*shape)).astype(dtype), *shape)
        whole = reference_steps.broadcast(operand, *shape).astype(dtype)
        for names in ("p", "q") if "q" in FUNCTIONS[kind].operands else ("p",):
            other = {"q" if names == "p" else "p": plain} if "q" in FUNCTIONS[kind].operands else {}
            expected = chain(run, x, [Step(kind, **{names: whole}, **other)], isa=isa)
            for threads in (1, 3):
                actual = chain(run, x, [Step(kind, **{names: operand}, **other)], isa=isa, threads=threads)
                assert actual.tobytes() == expected.tobytes(), (shape, names)


def test_arrays_are_broadcast_as_numpy_does(isa, dtype, rng, run):
    x = rng.normal(size=(13, 37)).astype(dtype)
    for shape in ((), (1,), (37,), (1, 37), (13, 1), (13, 37), (1, 1)):
        p = rng.normal(size=shape).astype(dtype)
        np.testing.assert_array_equal(chain(run, x, [Step("add", p=p)], isa=isa), x + p)
    np.testing.assert_array_equal(chain(run, x, [Step("add", p=x.reshape(13, 1, 37))], isa=isa), x + x)
    turned, apart = rng.normal(size=(37, 13)).astype(dtype).T, rng.normal(size=(26, 74)).astype(dtype)[::2, ::2]
    for p in (turned, apart):
        np.testing.assert_array_equal(chain(run, x, [Step("mul", p=p)], isa=isa), x * p)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (61, 203), (1, 9001), (9001, 1), (700, 16)])
def test_temporary_tiles(shape, isa, dtype, rng, run):
    """softplus(x) * tanh(softplus(x) + x) - x, with x and softplus(x) kept: any expression in one pass."""
    x = rng.normal(size=shape).astype(dtype)
    first, last = Operand(temp=0), Operand(temp=7)
    steps = [
        Step("save", p=first), Step("softplus"), Step("save", p=last), Step("add", p=first), Step("tanh"),
        Step("mul", p=last), Step("sub", p=first), Step("save", p=first), Step("load", p=last),
        Step("select", p=first, q=x),
    ]  # fmt: skip
    actual = chain(run, x, steps, isa=isa, threads=2)
    soft = np.log1p(np.exp(x.astype(np.float64)))
    tolerance = 5e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(actual, soft * np.tanh(soft + x) - x, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(actual, reference_steps.apply(x, steps), rtol=tolerance, atol=tolerance)
    assert chain(run, x, steps, isa=isa).tobytes() == actual.tobytes()


ONE = np.ones((1, 1))
BAD_OPERANDS = [
    (lambda: Operand(), ValueError, "expected memory, or the number of a temporary tile"),
    (lambda: Operand(np.ones(3), temp=1), ValueError, "expected memory, or the number of a temporary tile"),
    (lambda: Operand(temp=8), ValueError, "expected temp from 0 to 7, got 8"),
    (lambda: Operand(np.ones(3), ld=-1), ValueError, "expected ld, cs and mod of at least 0"),
    (lambda: Operand(np.ones(3), div=0), ValueError, "div of at least 1, got ld 0, cs 1, div 0"),
    (lambda: Step("add"), TypeError, "Step 'add': 'p' is missing"),
    (lambda: Step("add", p=3), TypeError, "Step 'add': p: expected a NumPy array or an Operand, got int"),
    (lambda: Step("add", p=np.ones((2, 2, 4))[..., ::2]), ValueError, r"to be contiguous, got shape \(2, 2, 2\)"),
    (lambda: Step("store", p=Operand(np.ones(3), 1, 3)), TypeError, "Step 'store': expected p to be a matrix"),
    (lambda: Step("save", p=np.ones(3)), TypeError, "Step 'save': expected p to be a temporary tile"),
    (lambda: Step("frobnicate"), ValueError, "unknown kind 'frobnicate'; expected one of store, save"),
    (lambda: Op("chain", out=ONE, rows=1, cols=1, dtype="float64", steps=[Step("add", p=np.ones(1, "f4"))]),
     TypeError, "Step 'add': expected p to be of dtype float64, got float32"),
    (lambda: Op("gemm", c=ONE, a=ONE, b=ONE, steps=[Step("add", p=Operand(temp=0))]), TypeError,
     "Op 'gemm': step 'add' works with a temporary tile, which only chain and reduce have"),
]  # fmt: skip


@pytest.mark.parametrize("make, error, text", BAD_OPERANDS)
def test_operands_that_are_none(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_philox_known_answers():
    """From the Random123 distribution (kat_vectors, philox4x32 10)."""
    ones, pi = 0xFFFFFFFF, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    for counter, key, expected in [
        ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones,) * 4, (ones, ones), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (pi, (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ]:
        assert tuple(reference_steps.philox(np.array([counter], np.uint32), key)[0]) == expected


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.999, 1.0])
def test_dropout_rate(rate, isa, dtype, run):
    """The share that stays, no two streams or steps alike, and dropped infinities are zeros."""
    n = 200_000
    x = np.ones((100, n // 100), dtype)
    x[0] = np.inf
    state = nncore.new_state(seed=-17)
    steps = [Step("dropout", state=state, index=index, width=n // 100, s0=rate, s1=2.0) for index in (0, 1)]
    one, other = (chain(run, x, [step], isa=isa, threads=2) for step in steps)
    assert set(np.unique(one)) <= {0, 2, np.inf}
    kept = np.mean(one > 0)
    assert abs(kept - (1 - rate)) < 4 * np.sqrt(max(rate * (1 - rate), 1e-12) / n) + 1 / 65536
    if 0 < rate < 1:
        state[DRAW] += 1
        later = chain(run, x, [steps[0]], isa=isa)
        state[SEED] += 1
        reseeded = chain(run, x, [steps[0]], isa=isa)
        assert len({a.tobytes() for a in (one, other, later, reseeded)}) == 4


@pytest.mark.parametrize("rate", [5e-6, 0.3, 0.99999])
def test_dropout_as_the_reference_has_it(rate, isa, run):
    """Elements whose first 16 bits do not decide are among these."""
    state = nncore.new_state(seed=11)
    x = np.ones((500, 601), np.float32)
    out = chain(run, x, [Step("dropout", state=state, index=3, width=601, s0=rate, s1=1.0)], isa=isa, threads=2)
    np.testing.assert_array_equal(out > 0, reference_steps.dropout_mask(500, 601, 601, 3, rate, state))


@pytest.mark.parametrize("rare", [5e-6, 1e-5])
def test_rates_near_0_and_1(rare, isa, run):
    """16 bits would never drop at 5e-6, and keep half as many again at 0.99999."""
    n, state = 16_000_000, nncore.new_state(seed=5)
    out = np.ones((4000, n // 4000), np.float32)
    step = Step("dropout", state=state, index=0, width=n // 4000, s0=rare if rare < 1e-5 else 1 - rare, s1=1.0)
    chain(run, out, [step], isa=isa, out=out, threads=2)
    count = np.count_nonzero(out == (0 if rare < 1e-5 else 1))
    assert abs(count - n * rare) < 4 * np.sqrt(n * rare)


def test_dropout_beyond_32_bits(isa, dtype, run):
    """Element numbers above 2**35, so that the counter's second word counts."""
    width = 1 << 34
    state = nncore.new_state(seed=1)
    out = np.ones((5, 100), dtype)
    chain(run, out, [Step("dropout", state=state, index=0, width=width, s0=0.5, s1=1.0)], isa=isa, out=out)
    expected = reference_steps.dropout_mask(5, 100, width, 0, 0.5, state)
    np.testing.assert_array_equal(out > 0, expected)
