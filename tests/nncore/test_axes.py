"""Reductions and running sums along an axis."""

import numpy as np
import pytest

from nncore import Op, Program, new_state, reference_arrays, set_num_threads
from nncore.kernels.signatures import REDUCTIONS
from nncore.reductions import reduce_sizes, stages

SIZES = [
    (0, 3, 2), (1, 0, 3), (2, 0, 1), (3, 4, 0), (1, 1, 1), (1, 7, 1), (5, 16, 1), (5, 17, 1), (3, 100, 1), (1, 33, 5),
    (37, 130, 1), (4, 3, 3), (2, 9, 16), (2, 5, 65), (1, 1027, 33), (3, 513, 130), (1, 5000, 1),
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


@pytest.mark.parametrize("kernel", ["argmax", "argmin"])
@pytest.mark.parametrize("special", [(), np.nan, np.inf, -np.inf, (np.inf, -np.inf), (np.nan, np.inf, -np.inf)])
def test_arguments(run, rng, dtype, isa, kernel, special, every_thread_count):
    for by in (0, 2):
        for outer, mid, inner in SIZES:
            x = apart(rng, outer, mid, inner, dtype, by)
            x[:] = np.round(x * 2)  # many are equal
            for value in np.atleast_1d(special):
                x[rng.random(x.shape) < 0.3] = value

            def compute(threads):
                out = np.full((outer, inner), 77, np.int32)
                sizes = dict(outer=outer, mid=mid, inner=inner, **strides(x, inner, by))
                run(kernel, threads=threads, dtype=dtype, isa=isa, out=out, x=x, **sizes)
                return [out]

            np.testing.assert_array_equal(every_thread_count(compute)[0], getattr(reference_arrays, kernel)(x))


@pytest.mark.parametrize("kernel", ["argmax", "argmin"])
def test_argument_of_one_in_a_long_row(run, dtype, isa, kernel):
    """Wherever it is; where all are equal it is the first; NaN wins over what is before it."""
    for count in (65, 257, 300):
        for fill in (0, np.inf, -np.inf):
            x, out = np.full((count + 1, count), fill, dtype), np.full((count + 1, 1), 77, np.int32)
            sizes = dict(outer=count + 1, mid=count, inner=1, stride_outer=count, stride_mid=1)
            for value in (np.nan, 1 if kernel == "argmax" else -1):
                x[np.arange(count), np.arange(count)] = value
                run(kernel, dtype=dtype, isa=isa, out=out, x=x, **sizes)
                np.testing.assert_array_equal(out, getattr(reference_arrays, kernel)(x[:, :, None]))


@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("exclusive", [0, 1])
def test_cumsum(run, rng, dtype, isa, reverse, exclusive, every_thread_count, assert_close):
    for outer, mid, inner in SIZES:
        x = rng.standard_normal((outer, mid, inner)).astype(dtype)
        sizes = dict(outer=outer, mid=mid, inner=inner, stride_outer=mid * inner, reverse=reverse, exclusive=exclusive)

        def compute(threads):
            out, same = np.full(x.shape, 77, dtype), x.copy()
            run("cumsum", threads=threads, dtype=dtype, isa=isa, out=out, x=x, **sizes)
            run("cumsum", threads=threads, dtype=dtype, isa=isa, out=same, x=same, **sizes)
            return [out, same]

        out, same = every_thread_count(compute)
        assert_close(out, reference_arrays.cumsum(x, reverse, exclusive), scale=np.sqrt(mid))
        assert out.tobytes() == same.tobytes()


def test_unknown_kind():
    with pytest.raises(ValueError, match="unknown kind 'median'; expected one of sum, max"):
        reduce_sizes("median", 1, 1, 1)
