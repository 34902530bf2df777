"""Batch and layer normalization against reference.py."""

import numpy as np
import pytest

from nncore import Step, reference

SIZES = [(1, 1), (2, 1), (3, 5), (7, 16), (33, 17), (256, 15), (257, 33), (600, 3)]
FACTOR = 200  # of conftest's tolerance: sums over rows, and the cancellation in x - mean


def _arrays(rng, dtype, rows, cols):
    x = (rng.standard_normal((rows, cols)) * 2 + 5).astype(dtype)
    gamma, beta, mean, variance = (rng.random(cols).astype(dtype) + dtype_half(dtype) for _ in range(4))
    return x, gamma, beta, mean, variance


def dtype_half(dtype):
    return np.dtype(dtype).type(0.5)


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(run, rng, dtype, isa, every_thread_count, assert_close, affine):
    for rows, cols in SIZES:
        x, gamma, beta, mean, variance = _arrays(rng, dtype, rows, cols)
        rows_of_parameters = dict(gamma=gamma, beta=beta) if affine else {}

        def compute(threads):
            y, moved, spread = np.empty_like(x), mean.copy(), variance.copy()
            kept, deviation = (np.empty(cols, dtype) for _ in range(2))
            run(
                "batch_norm", threads=threads, dtype=dtype, isa=isa, y=y, x=x, mean=kept, rstd=deviation,
                moving_mean=moved, moving_variance=spread,
                rows=rows, cols=cols, epsilon=1e-3, momentum=0.9, **rows_of_parameters,
            )  # fmt: skip
            return [y, kept, deviation, moved, spread]

        wide = [a.astype(np.float64) for a in ((x, gamma, beta) if affine else (x, np.ones(cols), np.zeros(cols)))]
        expected = reference.batch_norm(*wide, mean.astype(np.float64), variance.astype(np.float64), 1e-3, 0.9)
        for got, exact in zip(every_thread_count(compute), expected, strict=True):
            assert_close(got, exact, factor=FACTOR)


def test_batch_norm_applies_steps_and_may_have_no_rows(run, rng, isa):
    x = rng.standard_normal((9, 21)).astype("f")
    y, row = np.empty_like(x), [np.zeros(21, "f") for _ in range(4)]
    names = dict(zip(("mean", "rstd", "moving_mean", "moving_variance"), row, strict=True))
    run("batch_norm", isa=isa, y=y, x=x, rows=9, cols=21, epsilon=1e-3, momentum=0.9, steps=[Step("relu")], **names)
    plain = reference.batch_norm(x.astype(np.float64), 1.0, 0.0, 0.0, 0.0, 1e-3, 0.9)[0]
    np.testing.assert_allclose(y, np.maximum(plain, 0), rtol=1e-4, atol=1e-5)
    empty = np.empty((0, 21), "f")
    run("batch_norm", isa=isa, y=empty, x=empty, rows=0, cols=21, epsilon=1e-3, momentum=0.9, **names)
    assert np.isfinite(names["mean"]).all()


def test_batch_norm_grad(run, rng, dtype, isa, every_thread_count, assert_close):
    for rows, cols in SIZES:
        x, gamma, *_ = _arrays(rng, dtype, rows, cols)
        dy = rng.standard_normal((rows, cols)).astype(dtype)
        _, mean, rstd, *_ = reference.batch_norm(x, gamma, gamma, gamma, gamma, 1e-3, 0.9)

        def compute(threads):
            dx, dgamma, dbeta = np.empty_like(x), *(np.empty(cols, dtype) for _ in range(2))
            run(
                "batch_norm_grad", threads=threads, dtype=dtype, isa=isa, dx=dx, dgamma=dgamma, dbeta=dbeta, dy=dy, x=x,
                gamma=gamma, mean=mean.astype(dtype), rstd=rstd.astype(dtype), rows=rows, cols=cols,
            )  # fmt: skip
            return [dx, dgamma, dbeta]

        expected = reference.batch_norm_grad(*(a.astype(np.float64) for a in (dy, x, gamma, mean, rstd)))
        for got, exact in zip(every_thread_count(compute), expected, strict=True):
            assert_close(got, exact, scale=np.sqrt(rows) * 30, factor=FACTOR)


def test_batch_norm_fold(run, rng, dtype, isa, assert_close):
    _, gamma, beta, mean, variance = _arrays(rng, dtype, 1, 37)
    scale, shift = np.empty(37, dtype), np.empty(37, dtype)
    run(
        "batch_norm_fold", dtype=dtype, isa=isa, scale=scale, shift=shift, gamma=gamma, beta=beta, moving_mean=mean,
        moving_variance=variance, cols=37, epsilon=1e-3,
    )  # fmt: skip
    for got, exact in zip((scale, shift), reference.batch_norm_fold(gamma, beta, mean, variance, 1e-3), strict=True):
        assert_close(got, exact, factor=10)


def test_layer_norm(run, rng, dtype, isa, every_thread_count, assert_close):
    for rows, cols in SIZES:
        x, gamma, beta, *_ = _arrays(rng, dtype, rows, cols)
        dy = rng.standard_normal((rows, cols)).astype(dtype)

        def compute(threads):
            y, mean, rstd = np.empty_like(x), *(np.empty(rows, dtype) for _ in range(2))
            dx, dgamma, dbeta = np.empty_like(x), *(np.empty(cols, dtype) for _ in range(2))
            common = dict(threads=threads, dtype=dtype, isa=isa, x=x, mean=mean, rstd=rstd, rows=rows, cols=cols)
            run("layer_norm", y=y, gamma=gamma, beta=beta, epsilon=1e-3, **common)
            run("layer_norm_grad", dx=dx, dy=dy, gamma=gamma, **common)
            run("layer_norm_parameter_grad", dgamma=dgamma, dbeta=dbeta, dy=dy, **common)
            return [y, mean, rstd, dx, dgamma, dbeta]

        wide = [a.astype(np.float64) for a in (x, gamma, beta, dy)]
        y, mean, rstd = reference.layer_norm(*wide[:3], 1e-3)
        dx = reference.layer_norm_grad(wide[3], wide[0], wide[1], mean, rstd)
        expected = [y, mean, rstd, dx, *reference.layer_norm_parameter_grad(wide[3], wide[0], mean, rstd)]
        for got, exact in zip(every_thread_count(compute), expected, strict=True):
            assert_close(got, exact, scale=np.sqrt(rows) * 30, factor=FACTOR)


def test_long_sums_keep_their_digits(run, rng, isa):
    """65,536 numbers of a row, or pixels of a group: summed one by one, rstd would be off by 4e-6."""
    x = (rng.standard_normal((1, 1 << 18)) * 0.1 + 1).astype(np.float32)
    y, mean, rstd = np.empty_like(x), np.empty(1, np.float32), np.empty(1, np.float32)
    exact = 1 / np.sqrt(x.astype(np.float64).var() + 1e-3)
    run("layer_norm", isa=isa, y=y, x=x, mean=mean, rstd=rstd, rows=1, cols=x.size, epsilon=1e-3)
    np.testing.assert_allclose(rstd, exact, rtol=5e-7)
    pixels = dict(batch=1, pixels=x.size, cols=1, groups=1, share=2, epsilon=1e-3)
    run("group_norm", isa=isa, y=y, x=x, mean=mean, rstd=rstd, workspace=np.empty(2, np.float32), **pixels)
    np.testing.assert_allclose(rstd, exact, rtol=1e-6)
