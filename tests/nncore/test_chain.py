"""The chain kernel and the steps that gemm shares with it: every kind, against NumPy and against differences."""

import numpy as np
import pytest

import nncore
from nncore import Step, reference_steps
from nncore.memory import DRAW, SEED
from nncore.steps import KINDS, SAVES, UPDATES

# The optimizers' steps write their operands and not the matrix: test_optimizer.py has them.
KINDS = [kind for kind in KINDS if kind not in UPDATES]
SHAPES = [(1, 1), (3, 5), (7, 16), (13, 33), (1, 9001), (9001, 1), (130, 100), (5000, 3)]
# Exact in both dtypes, but for the scale of dropout.
SCALARS = {
    "scale": (1.75, 0),
    "shift": (-0.25, 0),
    "leaky_relu": (0.125, 0),
    "elu": (1.25, 0),
    "dropout": (0.3, 1 / 0.7),
}
SCALARS |= {"d_leaky_relu": SCALARS["leaky_relu"], "d_elu": SCALARS["elu"]}
POSITIVE = {"sqrt", "log", "reciprocal"}
WITH_P = {"add_row", "mul_row", "add", "sub", "mul", "div", "maximum", "minimum", "max_mask", "store"}
# Where this formula or the reference's subtracts nearly equal numbers, the error is relative to 1.
ABSOLUTE = {
    "scale_shift_row",
    "norm_grad",
    "gelu",
    "d_gelu",
    "d_gelu_tanh",
    "d_silu",
    "d_mish",
    "gelu_tanh",
    "hard_sigmoid",
}


def make_step(kind, shape, dtype, rng, seed=5):
    """A step of this kind with operands for a matrix of ``shape``."""
    s0, s1 = SCALARS.get(kind, (0.0, 0.0))
    if kind == "dropout":
        state = nncore.new_state(seed=(seed << 32) + 99)
        state[DRAW] = 12
        return Step(kind, p=state, index=3, width=shape[1], s0=s0, s1=s1)
    if kind == "scale_shift_row":
        return Step(kind, p=rng.normal(size=shape[1]).astype(dtype), q=rng.normal(size=shape[1]).astype(dtype))
    if kind == "norm_grad":
        p, q = rng.normal(size=shape).astype(dtype), rng.normal(size=(3, shape[1])).astype(dtype)
        return Step(kind, p=p, q=q, ld=shape[1], width=shape[1])
    if kind.endswith("_row"):
        return Step(kind, p=rng.normal(size=shape[1]).astype(dtype))
    if kind.startswith("d_"):
        x = rng.normal(size=shape)
        saved = x if SAVES[kind[2:]] == "x" else reference_steps.FUNCTIONS[kind[2:]](x, s0)
        return Step(kind, p=saved.astype(dtype), ld=shape[1], s0=s0)
    if kind in WITH_P:
        p, q = (rng.normal(size=shape).astype(dtype) for _ in range(2))
        return Step(kind, p=p, q=q if kind == "max_mask" else None, ld=shape[1], s0=s0)
    return Step(kind, s0=s0)


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
        x = rng.normal(size=shape)
        x = (np.abs(x) + 0.1 if kind in POSITIVE else x).astype(dtype)
        step = make_step(kind, shape, dtype, rng)
        actual = chain(run, x, [step], isa=isa)
        expected = reference_steps.apply(x, [step])
        if kind == "store":
            np.testing.assert_array_equal(step.p, x)
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
    h, s0 = 1e-6, SCALARS.get(name, (0.0, 0.0))[0]
    x = rng.normal(scale=2.0, size=(31, 37))
    x = x[:, np.abs(x).min(axis=0) > 1e-3]  # away from the corners at 0
    x = np.ascontiguousarray(x)
    if name == "hard_sigmoid":
        x[np.abs(np.abs(x) - 3) < 1e-3] = 0
    gradient = rng.normal(size=x.shape)
    forward = [Step(name, s0=s0)]
    saved = x if SAVES[name] == "x" else chain(run, x, forward, isa=isa)
    actual = chain(run, gradient, [Step("d_" + name, p=saved, ld=x.shape[1], s0=s0)], isa=isa)
    difference = (chain(run, x + h, forward, isa=isa) - chain(run, x - h, forward, isa=isa)) / (2 * h)
    np.testing.assert_allclose(actual, gradient * difference, rtol=1e-6, atol=1e-8)


def test_steps_in_order(isa, dtype, rng, run):
    shape = (37, 45)
    x, bias, residual = rng.normal(size=shape), rng.normal(size=45), rng.normal(size=shape)
    x, bias, residual = (a.astype(dtype) for a in (x, bias, residual))
    kept = np.zeros(shape, dtype)
    steps = [Step("add_row", p=bias), Step("store", p=kept, ld=45), Step("tanh"), Step("add", p=residual, ld=45)]
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
        actual = chain(run, x, [Step(kind, p=p, ld=30)], isa=isa)
        np.testing.assert_array_equal(actual, reference_steps.BINARY[kind](x, p))
    np.testing.assert_array_equal(chain(run, x, [Step("relu")], isa=isa), np.maximum(x, 0))
    np.testing.assert_array_equal(chain(run, x, [Step("sign")], isa=isa), np.sign(x))


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
    steps = [Step("dropout", p=state, index=index, width=n // 100, s0=rate, s1=2.0) for index in (0, 1)]
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


def test_dropout_beyond_32_bits(isa, dtype, run):
    """Element numbers above 2**35, so that the counter's second word counts."""
    width = 1 << 34
    state = nncore.new_state(seed=1)
    out = np.ones((5, 100), dtype)
    chain(run, out, [Step("dropout", p=state, index=0, width=width, s0=0.5, s1=1.0)], isa=isa, out=out)
    expected = reference_steps.dropout_mask(5, 100, width, 0, 0.5, state)
    np.testing.assert_array_equal(out > 0, expected)
