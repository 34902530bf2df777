"""Places of extremes and running sums along an axis."""

import numpy as np
import pytest

from nncore import reference_arrays

SIZES = [
    (0, 3, 2), (1, 0, 3), (2, 0, 1), (3, 4, 0), (1, 1, 1), (1, 7, 1), (5, 16, 1), (5, 17, 1), (3, 100, 1), (1, 33, 5),
    (37, 130, 1), (4, 3, 3), (2, 9, 16), (2, 5, 65), (1, 1027, 33), (3, 513, 130), (1, 5000, 1),
]  # fmt: skip


def apart(rng, outer, mid, inner, dtype, by=3):
    """x[outer, mid, inner] with rows ``by`` elements further apart than they need."""
    return rng.standard_normal((outer, mid, inner + by)).astype(dtype)[:, :, :inner]


def strides(x, inner, by=3):
    return dict(stride_outer=x.shape[1] * (inner + by), stride_mid=inner + by)


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
