"""gemm_narrow: values, untouched memory, and the same bits for any number of threads."""

import numpy as np
import pytest
from products import GUARD, around, data, tolerance

import nncore
from nncore import Op, Program, Step, kernels, new_state

MOST = kernels.family("narrow").COLS


@pytest.fixture(autouse=True)
def team():
    yield
    nncore.set_num_threads(0)


def multiply(a, b, *, isa=None, threads=1, b_t=False, steps=None, gap=3):
    """C computed by the kernel from rows of a that are ``gap`` further apart than they are long."""
    (m, k), n = a.shape, b.shape[1]
    wide = np.full((m, k + gap), np.nan, a.dtype)
    wide[:, :k] = a
    stored = np.ascontiguousarray(b.T) if b_t else b
    strides = dict(rs_b=1, cs_b=k) if b_t else dict(rs_b=n, cs_b=1)
    around_c = np.full(m * n + 2 * MOST, GUARD, a.dtype)
    c = around_c[MOST : MOST + m * n]
    nncore.set_num_threads(threads)
    arguments = dict(c=c, a=wide, b=stored, m=m, n=n, k=k, lda=k + gap, steps=steps, **strides)
    Program([Op("gemm_narrow", dtype=a.dtype, isa=isa, **arguments)], new_state()).run()
    assert (around_c[:MOST] == GUARD).all() and (around_c[MOST + m * n :] == GUARD).all(), "memory around C was written"
    return c.reshape(m, n).copy()


@pytest.mark.parametrize("b_t", [False, True])
def test_values(b_t, isa, dtype):
    block = 1024 // np.dtype(dtype).itemsize
    cases = [(7, n, 37) for n in range(MOST + 1)] + [(m, 5, 20) for m in around(0, 1, 3, 6, 12)]
    cases += [(4, n, k) for n in (1, 10, MOST) for k in around(0, 1, 16, 32, block, 2 * block)]
    for m, n, k in cases:
        a, b = data((m, k), dtype), data((k, n), dtype, 1)
        exact = a.astype(np.float64) @ b.astype(np.float64)
        error = np.abs(multiply(a, b, isa=isa, b_t=b_t) - exact).max(initial=0)
        assert error <= tolerance(a, b, dtype), f"m={m} n={n} k={k}: {error}"


def test_same_bits_for_any_number_of_threads(isa, dtype):
    for m, n, k in ((1, 1, 1), (5, 3, 40), (128, 10, 256), (31, 16, 700)):
        a, b = data((m, k), dtype), data((k, n), dtype, 1)
        alone = multiply(a, b, isa=isa).tobytes()
        for threads in (2, 3, 7, 16):
            assert alone == multiply(a, b, isa=isa, threads=threads).tobytes(), f"m={m} n={n} k={k} threads={threads}"


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("k", [0, 5, 700])
def test_steps_are_applied_once_to_the_finished_sum(k, threads):
    a, b = data((150, k), "float32"), data((k, 7), "float32", 1)
    bias, other = data((7,), "float32", 2), data((150, 7), "float32", 3)
    steps = [Step("add", p=bias), Step("relu"), Step("mul", p=other)]
    c = multiply(a, b, steps=steps, threads=threads)
    exact = np.maximum(a.astype(np.float64) @ b.astype(np.float64) + bias, 0) * other
    assert np.abs(c - exact).max() <= 10 * tolerance(a, b, "float32")
