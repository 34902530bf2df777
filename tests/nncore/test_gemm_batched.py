"""Batches of matrix products: strides, remainders, steps, threads."""

import numpy as np
import pytest
from products import around, data, tolerance

from nncore import Op, Operand, Program, Step, kernels, new_state, reference_arrays, set_num_threads
from nncore.kernels.signatures import SIGNATURES
from nncore.products import workspace


def strides(array):
    """Of matrices [outer, inner, rows, cols], in elements."""
    return [s // array.itemsize for s in array.strides]


def batched(c, a, b, isa=None, threads=1, **kind):
    """The Op of c = a @ b for views [outer, inner, m, k] and [outer, inner, k, n]."""
    outer, inner, m, k = a.shape
    n = b.shape[-1]
    numbers = dict(m=m, n=n, k=k, outer=outer, inner=inner)
    numbers |= zip(("a_outer", "a_inner", "rs_a", "cs_a"), strides(a), strict=True)
    numbers |= zip(("b_outer", "b_inner", "rs_b", "cs_b"), strides(b), strict=True)
    c_outer, c_inner, ldc, one = strides(c)
    assert one == 1 or not c.size
    share = workspace(n, k, a.dtype, isa)
    kind.setdefault("workspace", np.full(threads * share, np.nan, a.dtype))
    sizes = dict(c_outer=c_outer, c_inner=c_inner, ldc=ldc, share=share)
    return Op("gemm_batched", dtype=a.dtype, isa=isa, c=c, a=a, b=b, **numbers, **sizes, **kind)


# Views [batch, heads, rows, cols]: as they come, transposed, split from [batch, rows, heads * cols], and so transposed.
LAYOUTS = {
    "plain": lambda x: x,
    "transposed": lambda x: np.ascontiguousarray(x.swapaxes(2, 3)).swapaxes(2, 3),
    "heads": lambda x: np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2),
    "heads transposed": lambda x: np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
    "any": lambda x: np.ascontiguousarray(x.transpose(2, 3, 0, 1)).transpose(2, 3, 0, 1),
    "one for all": lambda x: np.broadcast_to(x[:1, :1], x.shape),
}


@pytest.mark.parametrize("layout_a", LAYOUTS)
@pytest.mark.parametrize("layout_b", LAYOUTS)
def test_layouts(isa, dtype, layout_a, layout_b, every_thread_count):
    for m, n, k in [(1, 1, 1), (7, 5, 3), (3, 1, 9), (50, 17, 1), (33, 64, 300)]:
        a, b = LAYOUTS[layout_a](data((2, 3, m, k), dtype)), LAYOUTS[layout_b](data((2, 3, k, n), dtype, 1))

        def compute(threads, a=a, b=b, shape=(2, 3, m, n)):
            set_num_threads(threads)
            whole = np.full((shape[0], shape[2], shape[1], shape[3] + 2), 7, dtype)  # heads go back to where they were
            c = whole[..., :-2].swapaxes(1, 2)
            Program([batched(c, a, b, isa, threads)], new_state()).run()
            assert (whole[..., -2:] == 7).all()
            return [np.ascontiguousarray(c)]

        out = (every_thread_count(compute) if m == 33 else compute(1))[0]
        exact = a.astype(np.float64) @ b.astype(np.float64)
        assert np.abs(out - exact).max() <= tolerance(a.reshape(6 * m, k), b[0, 0], dtype) * 2


def test_sizes_around_the_blocks(isa, dtype):
    module = kernels.family("gemm", dtype, isa)
    for m in [0, *around(1, module.MR)]:
        for n in around(module.LANES, module.NR):
            for k in (0, 1, module.KC, module.KC + 1):
                a, b = data((1, 2, m, k), dtype), data((1, 2, k, n), dtype, 1)

                def compute(threads, a=a, b=b, shape=(1, 2, m, n)):
                    set_num_threads(threads)
                    c = np.full(shape, np.nan, dtype)
                    Program([batched(c, a, b, isa, threads)], new_state()).run()
                    return [c]

                out = compute(1)[0]
                assert out.tobytes() == compute(3)[0].tobytes()
                exact = a.astype(np.float64) @ b.astype(np.float64)
                assert np.abs(out - exact).max(initial=0) <= tolerance(a.reshape(2 * m, k), b[0, 0], dtype) * 2


def test_steps_and_accumulation(isa, dtype, every_thread_count):
    a, b = data((2, 3, 20, 30), dtype), data((2, 3, 30, 25), dtype, 1)
    before, other = data((2, 3, 20, 25), dtype, 2), data((120, 25), dtype, 3)
    steps = [Step("scale", s0=0.25), Step("add", p=Operand(other, 25)), Step("relu")]

    def compute(threads):
        set_num_threads(threads)
        c = before.copy()
        Program([batched(c, a, b, isa, threads, accumulate=1, steps=steps)], new_state()).run()
        return [c]

    exact = reference_arrays.gemm_batched(*(x.astype(np.float64) for x in (a, b, before)), steps)
    np.testing.assert_allclose(every_thread_count(compute)[0], exact, atol=1e-4 if dtype == "float32" else 1e-12)


def test_one_mask_for_every_matrix(isa, dtype):
    """The rows that steps see are those of all matrices: an operand says how often it comes again."""
    a, b, mask = data((2, 3, 20, 30), dtype), data((2, 3, 30, 25), dtype, 1), data((20, 25), dtype, 2)
    c = np.empty((2, 3, 20, 25), dtype)
    set_num_threads(2)
    steps = [Step("add", p=Operand(mask, ld=25, mod=20))]
    Program([batched(c, a, b, isa, 2, steps=steps)], new_state()).run()
    np.testing.assert_allclose(c, a @ b + mask, atol=1e-4 if dtype == "float32" else 1e-12)


def test_room_is_what_it_takes(isa, dtype):
    """No more is written, whatever the shape."""
    module = kernels.family("gemm", dtype, isa)
    set_num_threads(1)
    for n, k in [(5, 7), (module.NR + 1, module.KC + 3), (module.NR * 3, 2 * module.KC)]:
        a, b = data((1, 1, 9, k), dtype), LAYOUTS["transposed"](data((1, 1, k, n), dtype))
        share, c = workspace(n, k, dtype, isa), np.empty((1, 1, 9, n), dtype)
        whole = np.full(share + 64, 77, dtype)
        Program([batched(c, a, b, isa, workspace=whole[32:-32])], new_state()).run()
        assert (whole[:32] == 77).all() and (whole[-32:] == 77).all() and (whole[32:-32] != 77).any()


@pytest.mark.parametrize("short", ["a", "b", "c", "workspace"])
def test_memory_that_is_too_short_is_refused(short):
    a, b, c = data((2, 3, 5, 4), "float32"), data((2, 3, 4, 6), "float32"), np.empty((2, 3, 5, 6), np.float32)
    op = batched(c, a, b)
    memory = dict(a=a, b=b, c=c, workspace=np.empty(workspace(6, 4), np.float32))
    numbers = dict(zip(SIGNATURES["gemm_batched"].sizes, op.sizes, strict=True))
    assert Op("gemm_batched", **memory, **numbers).sizes == op.sizes
    memory[short] = memory[short].ravel()[:-1]
    with pytest.raises(ValueError, match=f"'gemm_batched'.*'{short}'"):
        Op("gemm_batched", **memory, **numbers)
