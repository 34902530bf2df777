"""Reductions, also of steps, sums and norms, against NumPy."""

import numpy as np
import pytest

from nncore import Op, Operand, Program, Step, kernels, new_state, reference, reference_arrays, set_num_threads
from nncore.kernels.signatures import REDUCTIONS
from nncore.reductions import reduce_sizes, stages
from nncore.reference import CHUNK

SIZES = [
    (0, 3, 2), (1, 0, 3), (2, 0, 1), (3, 4, 0), (1, 1, 1), (1, 7, 1), (5, 16, 1), (5, 17, 1), (3, 100, 1), (1, 33, 5),
    (4, 3, 3), (2, 9, 16), (2, 5, 65), (1, 1027, 33), (3, 513, 130), (1, 5000, 1),
]  # fmt: skip


def apart(rng, outer, mid, inner, dtype, by=3):
    """x[outer, mid, inner] with rows ``by`` elements further apart than they need."""
    return rng.standard_normal((outer, mid, inner + by)).astype(dtype)[:, :, :inner]


def strides(x, inner, by=3):
    return dict(stride_outer=x.shape[1] * (inner + by), stride_mid=inner + by)


@pytest.mark.parametrize("by", [0, 3])
@pytest.mark.parametrize("kind", REDUCTIONS)
def test_reduce(run, rng, dtype, isa, kind, by, every_thread_count, assert_close):
    for outer, mid, inner in SIZES:
        x = apart(rng, outer, mid, inner, dtype, by)
        if kind == "prod":
            x = (1 + x / 8).astype(dtype)
            x = np.ascontiguousarray(x) if not by else np.pad(x, ((0, 0), (0, 0), (0, by)))[:, :, :inner]

        def compute(threads):
            out = np.full((outer, inner), 77, dtype)
            sizes = reduce_sizes(kind, outer, mid, inner, scale=0.5, **strides(x, inner, by))
            run("reduce", threads=threads, dtype=dtype, isa=isa, out=out, x=x, **sizes)
            return [out]

        exact = reference_arrays.reduce(x.astype(np.float64), kind, 0.5)
        assert_close(every_thread_count(compute)[0], exact, scale=np.sqrt(mid + 1), factor=40 if kind == "prod" else 1)


@pytest.mark.parametrize("inner", [1, 3, 70])
@pytest.mark.parametrize("kind", REDUCTIONS)
def test_reduce_in_pieces_and_added(run, rng, dtype, isa, kind, inner, every_thread_count, assert_close):
    x = rng.random((2, 50, inner)).astype(dtype) + dtype_half(dtype)
    for chunk in (1, 7, 49, 50, 60):
        parts = -(-50 // chunk)

        def compute(threads):
            out = np.full((2, parts, inner), 2, dtype)
            sizes = reduce_sizes(kind, 2, 50, inner, chunk=chunk, accumulate=True)
            run("reduce", threads=threads, dtype=dtype, isa=isa, out=out, x=x, **sizes)
            return [out]

        wide = x.astype(np.float64)
        pieces = [reference_arrays.reduce(wide[:, c * chunk : (c + 1) * chunk], kind) for c in range(parts)]
        assert_close(every_thread_count(compute)[0], 2 + np.stack(pieces, 1), factor=10)


def dtype_half(dtype):
    return np.dtype(dtype).type(0.5)


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize(
    "shape", [(1, 200_001, 1), (1, 30_000, 5), (2, 60_000, 1), (1, 100, 7), (64, 500, 1), (3, 0, 2)]
)
def test_stages(rng, isa, kind, shape, every_thread_count, assert_close):
    """A reduction in two ops is that in one."""
    x = rng.standard_normal(shape).astype(np.float32)
    x = 1 + x / np.float32(1e5) if kind == "prod" else x
    ops = stages(kind, *shape, scale=0.25)
    assert len(ops) == (2 if x.size > 20_000 and shape[0] < 16 else 1)

    def compute(threads):
        set_num_threads(threads)
        source, out, made = x, np.empty((shape[0], shape[2]), np.float32), []
        for number, sizes in enumerate(ops):
            target = out if number == len(ops) - 1 else np.empty((shape[0], ops[-1]["mid"], shape[2]), np.float32)
            made.append(Op("reduce", isa=isa, out=target, x=source, **sizes))
            source = target
        Program(made, new_state()).run()
        return [out]

    exact = reference_arrays.reduce(x.astype(np.float64), kind, 0.25)
    factor = 20 if kind == "prod" else 1
    assert_close(every_thread_count(compute)[0], exact, scale=0.25 * np.sqrt(shape[1]), factor=factor)


@pytest.mark.parametrize("shape", [(1, 1_000_000, 1), (1, 1_000_000, 2)])
def test_sums_of_many_keep_their_digits(run, isa, shape):
    x, out = np.full(shape, 0.1, np.float32), np.zeros(shape[2], np.float32)
    run("reduce", isa=isa, out=out, x=x, **reduce_sizes("sum", *shape))
    assert abs(out / 100_000 - 1).max() < 2e-5  # added one by one they would be off by 1e-2


@pytest.mark.parametrize("inner", [1, 5, 20, 70])
def test_nan_and_infinity(run, rng, dtype, isa, inner):
    for mid in (1, 3, 16, 40, 200):
        for value in (np.nan, np.inf, -np.inf):
            for place in {0, mid // 2, mid - 1}:
                x = rng.standard_normal((2, mid, inner)).astype(dtype)
                x[1, place, :] = value
                for kind in ("sum", "max", "min", "logsumexp"):
                    out = np.empty((2, inner), dtype)
                    run("reduce", dtype=dtype, isa=isa, out=out, x=x, **reduce_sizes(kind, 2, mid, inner))
                    with np.errstate(invalid="ignore"):
                        exact = reference_arrays.reduce(x.astype(np.float64), kind)
                    np.testing.assert_allclose(out, exact, rtol=1e-4, atol=1e-5)
    x = np.full((1, 9, inner), -np.inf, dtype)
    out = np.zeros((1, inner), dtype)
    run("reduce", dtype=dtype, isa=isa, out=out, x=x, **reduce_sizes("logsumexp", 1, 9, inner))
    assert (out == -np.inf).all()


def test_logsumexp_of_large_numbers(run, isa):
    x, out = np.array([1000, 1001, 999], np.float32), np.empty(1, np.float32)
    run("reduce", isa=isa, out=out, x=x, **reduce_sizes("logsumexp", 1, 3, 1))
    np.testing.assert_allclose(out, 1001.40760596, rtol=1e-6)


def test_unknown_kind():
    with pytest.raises(ValueError, match="unknown kind 'median'; expected one of sum, max"):
        reduce_sizes("median", 1, 1, 1)


# of steps(x)

# (outer, mid, inner), the columns of the matrix that steps see, and how many elements of the middle axis a piece has
STEP_SIZES = [
    ((0, 3, 1), 3, 0), ((2, 0, 1), 1, 0), ((3, 0, 4), 4, 0), ((61, 7, 1), 7, 0), ((9, 100, 1), 25, 0),
    ((2, 5000, 1), 5000, 0), ((2, 3000, 1), 30, 77), ((5, 6, 1), 30, 0), ((4, 3, 3), 3, 2), ((2, 70, 65), 65, 16),
    ((1, 1100, 33), 33, 0), ((1, 10, 600), 600, 3),
]  # fmt: skip

def some_steps(matrix, dtype, rng, stored):
    """Steps with operands of each layout, a store, and numbers near 1, so that products stay in range."""
    rows, cols = matrix
    beside, row, column = (rng.random(shape).astype(dtype) for shape in ((rows, cols), (cols,), (rows, 1)))
    return [
        Step("sub", p=beside), Step("store", p=Operand(stored, cols)), Step("add", p=row), Step("mul", p=column),
        Step("square"), Step("scale", s0=0.01), Step("shift", s0=1.0),
    ]  # fmt: skip


def with_temporaries(matrix, dtype, rng, stored):
    """x * (x + p) by way of a temporary tile, without x: loaded by the first step."""
    cols = matrix[1]
    x, p = (rng.random(matrix).astype(dtype) / 20000 for _ in range(2))
    return [
        Step("load", p=x), Step("shift", s0=1.0), Step("save", p=Operand(temp=3)), Step("add", p=p),
        Step("mul", p=Operand(temp=3)), Step("store", p=Operand(stored, cols)),
    ]  # fmt: skip


@pytest.mark.parametrize("steps_of", [some_steps, with_temporaries])
@pytest.mark.parametrize("kind", [kind for kind in REDUCTIONS if kind != "logsumexp"])
def test_reduce_of_steps(run, rng, dtype, isa, kind, steps_of, every_thread_count, assert_close):
    """As the steps, then the reduction: for all threads the same bits; with y, steps(x) is left there, bit for bit as
    the kernel chain leaves it."""
    cases = []
    for (outer, mid, inner), cols, chunk in STEP_SIZES:
        matrix = (outer * mid * inner // cols, cols)
        x, stored = rng.standard_normal(matrix).astype(dtype), np.zeros(matrix, dtype)
        steps = steps_of(matrix, dtype, rng, stored)
        given = {"x": x} if steps_of is some_steps else {}
        chained, apart = np.full(matrix, 77, dtype), dict(rows=matrix[0], cols=cols, ld_out=cols, ld_x=cols)
        run("chain", dtype=dtype, isa=isa, out=chained, steps=steps, **apart, **given)
        sizes = reduce_sizes(kind, outer, mid, inner, cols=cols, chunk=chunk, scale=0.5)
        made = np.full((outer, -(-mid // chunk) if chunk else 1, inner), 77, dtype)
        cases.append((dict(steps=steps, **given, **sizes), made, chained, stored, stored.copy()))

    def compute(threads):
        set_num_threads(threads)
        ops, results = [], []
        for arguments, made, chained, stored, _ in cases:
            stored[...] = 5
            out, beside, y = made.copy(), made.copy(), np.full_like(chained, 77)
            ops.append(Op("reduce", dtype=dtype, isa=isa, out=out, **arguments))
            ops.append(Op("reduce", dtype=dtype, isa=isa, out=beside, y=y, **arguments))
            results.append((out, beside, y))
        Program(ops, new_state()).run()
        for (out, beside, y), (_, _, chained, stored, kept) in zip(results, cases, strict=True):
            assert y.tobytes() == chained.tobytes() and stored.tobytes() == kept.tobytes()
            assert out.tobytes() == beside.tobytes()
        return [out for out, _, _ in results]

    outs = every_thread_count(compute)
    for out, ((outer, mid, inner), _, chunk), (_, _, chained, _, _) in zip(outs, STEP_SIZES, cases, strict=True):
        wide, size = chained.astype(np.float64).reshape(outer, mid, inner), chunk or mid
        exact = [reference_arrays.reduce(wide[:, m : m + size], kind, 0.5) for m in range(0, max(1, mid), max(1, size))]
        factor = size + 40 if kind == "prod" else 1
        assert_close(out, np.stack(exact, 1), scale=np.sqrt(size + 1), factor=factor)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_rows_of_steps_by_rows(run, rng, isa, threads):
    x, row = rng.standard_normal((37, 90)).astype("f"), rng.standard_normal(90).astype("f")
    out, y = np.zeros(37, "f"), np.zeros((37, 90), "f")
    sizes = reduce_sizes("max", 37, 90, 1, cols=90) | dict(by_rows=1)
    run("reduce", isa=isa, threads=threads, out=out, y=y, x=x, steps=[Step("add", p=row)], **sizes)
    np.testing.assert_array_equal(y, x + row)
    np.testing.assert_array_equal(out, (x + row).max(1))


@pytest.mark.parametrize("shape", [(1, 1_000_000, 1), (1, 1_000_000, 2), (1, 50_000, 300)])
@pytest.mark.parametrize("temporary", [False, True])
def test_sums_of_many_steps_keep_their_digits(run, isa, shape, temporary):
    x, out = np.full(shape, 0.2, np.float32), np.zeros(shape[2], np.float32)
    cols = shape[2] if shape[2] > 1 else shape[1]
    kept = Operand(temp=0)
    steps = [Step("scale", s0=0.5), *([Step("save", p=kept), Step("add", p=kept)] if temporary else [])]
    run("reduce", isa=isa, out=out, x=x, steps=steps, **reduce_sizes("sum", *shape, cols=cols))
    exact = shape[1] * (0.2 if temporary else 0.1)
    assert abs(out / exact - 1).max() < 2e-5


@pytest.mark.parametrize("inner", [1, 5, 70])
def test_nan_and_infinity_of_steps(run, isa, rng, inner):
    for value in (np.nan, np.inf, -np.inf):
        x = rng.standard_normal((2, 40, inner)).astype("f")
        x[1, 17] = value
        for kind in ("sum", "max", "min"):
            out = np.zeros((2, inner), "f")
            sizes = reduce_sizes(kind, 2, 40, inner, cols=inner if inner > 1 else 40)
            run("reduce", isa=isa, out=out, x=x, steps=[Step("scale", s0=2.0)], **sizes)
            with np.errstate(invalid="ignore"):
                exact = reference_arrays.reduce(2 * x.astype(np.float64), kind)
            np.testing.assert_allclose(out, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "kind, sizes, given, text",
    [("sum", (2, 30, 4), dict(cols=120), "rows of 4 for the steps, got cols=120"),
     ("sum", (2, 30, 1), dict(cols=7), "rows that 60 elements are a number of for the steps, got cols=7"),
     ("sum", (2, 30, 4), dict(cols=4, stride_mid=5), "contiguous rows of 4"),
     ("logsumexp", (2, 30, 4), dict(cols=4), "expected no steps before 'logsumexp', got cols=4")],
)  # fmt: skip
def test_what_steps_cannot_have(kind, sizes, given, text):
    with pytest.raises(ValueError, match=text):
        reduce_sizes(kind, *sizes, **given)


# metrics and clipping


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 128, 1001])
@pytest.mark.parametrize("weighted", [False, True])
def test_accumulate(run, rng, dtype, isa, rows, weighted, every_thread_count):
    values = rng.standard_normal(rows).astype(dtype)
    weights = dict(weights=rng.random(rows).astype(dtype)) if weighted else {}

    def compute(threads):
        totals = np.array([2.5, 7.0])
        run("accumulate", threads=threads, dtype=dtype, isa=isa, totals=totals, values=values, rows=rows, **weights)
        return [totals]

    expected = reference.accumulate(np.array([2.5, 7.0]), values, **weights)
    np.testing.assert_allclose(every_thread_count(compute)[0], expected, rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_accumulate_counts_the_steps_before_one_that_is_not_finite(run, dtype, isa, bad):
    totals, finite = np.zeros(2), np.array([3.0])
    for value in (1.0, 2.0, bad, 1.0):
        values = np.array([1.0, value], dtype)
        expected = reference.accumulate(totals, values, finite=finite)
        run("accumulate", dtype=dtype, isa=isa, totals=totals, values=values, rows=2, finite=finite)
        np.testing.assert_equal((totals, finite), expected)
    assert finite == [5.0]


@pytest.mark.parametrize("count", [0, 1, 15, 17, CHUNK - 1, CHUNK, CHUNK + 1, 6 * CHUNK + 21])
def test_norm_and_clipping(run, rng, dtype, isa, count, every_thread_count):
    x = rng.standard_normal(count).astype(dtype)

    def compute(threads):
        partials = np.full(-(-count // reference.CHUNK), -1.0)
        run("square_sums", threads=threads, dtype=dtype, isa=isa, partials=partials, x=x, count=count)
        results = [partials]
        for clip in (0.0, 0.5, 1e6):
            scale, norm = np.full(1, 9, dtype), np.full(1, 9.0)
            sizes = dict(count=len(partials), clip=clip)
            run("clip_scale", threads=threads, dtype=dtype, isa=isa, scale=scale, partials=partials, norm=norm, **sizes)
            expected, expected_norm = reference.clip_scale(partials, clip)
            np.testing.assert_allclose(scale[0], expected, rtol=1e-6)
            np.testing.assert_allclose(norm[0], expected_norm, rtol=1e-12)
            results += [scale, norm]
        return results

    partials = every_thread_count(compute)[0]
    np.testing.assert_allclose(partials, reference.square_sums(x), rtol=2e-6 if dtype == "float32" else 1e-13)


def test_norm_of_numbers_whose_squares_overflow(run, isa):
    """An exploding gradient is clipped, not taken for an infinite one."""
    x = np.zeros(20000, np.float32)
    x[[5, 9000]] = 3e25, 4e25
    partials, scale, norm = np.zeros(3), np.zeros(1, np.float32), np.zeros(1)
    run("square_sums", partials=partials, x=x, count=len(x), isa=isa)
    run("clip_scale", scale=scale, partials=partials, norm=norm, count=3, clip=1.0, isa=isa)
    np.testing.assert_allclose(norm, 5e25, rtol=1e-6)
    np.testing.assert_allclose(scale, 1 / 5e25, rtol=1e-6)


def test_partials_are_as_many_as_the_module_says(run, dtype, isa):
    """What Python allocates by CHUNK is what the kernels fill."""
    chunk = kernels.family("reduce", dtype, isa).CHUNK
    x = np.ones(2 * chunk + 1, dtype)
    partials = np.full(4, -1.0)
    run("square_sums", dtype=dtype, isa=isa, partials=partials, count=len(x), x=x)
    assert partials.tolist() == [chunk, chunk, 1, -1]
