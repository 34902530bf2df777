"""Sums and norms against reference.py."""

import numpy as np
import pytest

from nncore import kernels, reference
from nncore.reference import CHUNK

SIZES = [(0, 5), (5, 0), (0, 0), (1, 1), (3, 1), (1, 3), (2, 16), (7, 17), (511, 13), (512, 33), (1027, 65), (3, 1000)]


@pytest.mark.parametrize("accumulate", [0, 1])
@pytest.mark.parametrize("kernel", ["column_sum", "row_sum"])
def test_sums(run, rng, dtype, isa, kernel, accumulate, every_thread_count, assert_close):
    for rows, cols in SIZES:
        for ld in (cols, cols + 3):
            x = rng.standard_normal((rows, ld)).astype(dtype)[:, :cols]
            before = rng.standard_normal(cols if kernel == "column_sum" else rows).astype(dtype)

            def compute(threads):
                out = before.copy()
                sizes = dict(rows=rows, cols=cols, ld=ld, accumulate=accumulate)
                run(kernel, threads=threads, dtype=dtype, isa=isa, out=out, x=x, **sizes)
                return [out]

            exact = getattr(reference, kernel)(x.astype(np.float64)) + (before if accumulate else 0)
            assert_close(every_thread_count(compute)[0], exact, scale=np.sqrt(max(rows, cols)))


def test_column_sum_of_many_rows_keeps_its_digits(run, isa):
    x = np.full((1_000_000, 1), 0.1, np.float32)
    out = np.zeros(1, np.float32)
    run("column_sum", isa=isa, out=out, x=x, rows=1_000_000, cols=1, ld=1)
    assert abs(out[0] / 100_000 - 1) < 2e-5  # added one by one it would be off by 1e-2


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


@pytest.mark.parametrize("count", [0, 1, 15, 17, CHUNK - 1, CHUNK, CHUNK + 1, 6 * CHUNK + 21])
@pytest.mark.parametrize("l1, l2", [(0.0, 0.3), (0.2, 0.0), (0.2, 0.3)])
def test_penalty(run, rng, dtype, isa, count, l1, l2, every_thread_count):
    w = rng.standard_normal(count).astype(dtype)

    def compute(threads):
        partials, totals = np.full(-(-count // reference.CHUNK), -1.0), np.array([2.5, 7.0])
        run("penalty", threads=threads, dtype=dtype, isa=isa, partials=partials, w=w, count=count, l1=l1, l2=l2)
        sizes = dict(count=len(partials), rows=3)
        run("accumulate_penalty", threads=threads, dtype=dtype, isa=isa, totals=totals, partials=partials, **sizes)
        return [partials, totals]

    partials, totals = every_thread_count(compute)
    np.testing.assert_allclose(partials, reference.penalty(w, l1, l2), rtol=2e-6 if dtype == "float32" else 1e-13)
    expected = reference.accumulate_penalty(np.array([2.5, 7.0]), partials, 3)
    np.testing.assert_allclose(totals, expected, rtol=1e-13)


def test_partials_are_as_many_as_the_module_says(run, dtype, isa):
    """What Python allocates by CHUNK is what the kernels fill."""
    chunk = kernels.family("reduce", dtype, isa).CHUNK
    x = np.ones(2 * chunk + 1, dtype)
    for kernel, arguments in (("square_sums", dict(x=x)), ("penalty", dict(w=x, l2=1.0))):
        partials = np.full(4, -1.0)
        run(kernel, dtype=dtype, isa=isa, partials=partials, count=len(x), **arguments)
        assert partials.tolist() == [chunk, chunk, 1, -1]
