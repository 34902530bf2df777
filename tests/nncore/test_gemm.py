"""gemm and pack_b: values, untouched memory, and the same bits for any number of threads."""

import numpy as np
import pytest
from products import GUARD, around, data, tolerance

import nncore
from nncore import Op, Program, Step, kernels, new_state, reference_images


def pack(b, *, transposed=False, isa=None):
    """B[k, n] packed; stored column by column if ``transposed``."""
    k, n = b.shape
    nr = kernels.family("gemm", b.dtype, isa).NR
    out = np.full(-(-n // nr) * nr * k, np.nan, b.dtype)
    stored = np.ascontiguousarray(b.T) if transposed else b
    strides = dict(rs=1, cs=k) if transposed else dict(rs=n, cs=1)
    return Op("pack_b", dtype=b.dtype, isa=isa, out=out, b=stored, k=k, n=n, **strides), out


@pytest.fixture(autouse=True)
def team():
    yield
    nncore.set_num_threads(0)


def multiply(
    a, b, *, a_t=False, b_t=False, packed=True, isa=None, accumulate=0, threads=1, margin=3, steps=None, **sums
):
    """C computed by the kernel into the left of a wider array; checks that the rest of that array is untouched.
    ``sums``: arguments of those of its columns."""
    (m, k), n = a.shape, b.shape[1]
    wide = np.full((m + 2, n + margin), GUARD, a.dtype)
    ops, operand = [], b
    strides = dict(ldb=n)
    if packed == 2:
        module = kernels.family("gemm", a.dtype, isa)
        share = min(module.WORKSPACE, -(-n // module.NR) * module.NR * min(k, module.KC))
        operand = np.ascontiguousarray(b.T) if b_t else b
        workspace = np.full(share * threads, np.nan, a.dtype)
        strides = dict(ldb=1 if b_t else n, cs_b=k if b_t else 1, share=share, workspace=workspace)
    elif packed:
        op, operand = pack(b, transposed=b_t, isa=isa)
        ops.append(op)
    stored = np.ascontiguousarray(a.T) if a_t else a
    ops.append(
        Op("gemm", dtype=a.dtype, isa=isa, c=wide[1 : m + 1], a=stored, b=operand, m=m, n=n, k=k, rs_a=1 if a_t else k,
           cs_a=m if a_t else 1, packed=int(packed), ldc=n + margin, accumulate=accumulate, steps=steps, **strides,
           **sums)
    )  # fmt: skip
    nncore.set_num_threads(threads)
    Program(ops, new_state()).run()
    c = wide[1 : m + 1, :n].copy()
    wide[1 : m + 1, :n] = GUARD
    assert (wide == GUARD).all(), "memory around C was written"
    return c


def shapes(isa, dtype):
    """Zeros, ones, primes, and one under and over every block size, one dimension at a time and a few together."""
    module = kernels.family("gemm", dtype, isa)
    mr, nr, kc, lanes = module.MR, module.NR, module.KC, module.LANES
    for m in around(0, 1, mr, 2 * mr, 4 * mr):
        yield m, 2 * nr + 3, 19
    for n in around(0, 1, lanes, nr, nr + lanes, 3 * nr):
        yield mr + 2, n, 23
    for k in around(0, 1, lanes, kc, 2 * kc):
        yield mr + 1, nr + lanes + 1, k
    yield from ((1, 1, 1), (2, 3, 5), (31, 37, 41), (3, 1, 2 * kc + 7), (1, 4 * nr + 1, kc + 1), (97, 89, 101))


@pytest.mark.parametrize(
    "layout",
    [dict(a_t=a_t, b_t=b_t, packed=p) for a_t in (0, 1) for b_t, p in ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2))],
    ids=str,
)
def test_values(layout, isa, dtype):
    for m, n, k in shapes(isa, dtype):
        a, b = data((m, k), dtype), data((k, n), dtype, 1)
        exact = a.astype(np.float64) @ b.astype(np.float64)
        for accumulate in (0, 1):
            c = multiply(a, b, isa=isa, accumulate=accumulate, **layout)
            error = np.abs(c - exact - accumulate * GUARD).max(initial=0)
            assert error <= tolerance(a, b, dtype), f"m={m} n={n} k={k} accumulate={accumulate}: {error}"


@pytest.mark.parametrize("packed", [0, 1, 2])
def test_wide_matrix_crosses_column_blocks(isa, packed):
    module = kernels.family("gemm", "float32", isa)
    block = module.NC * module.NR
    for n in (block - 1, block, block + 1, 2 * block + 5):
        a, b = data((5, 9), "float32"), data((9, n), "float32", 1)
        c = multiply(a, b, isa=isa, packed=packed)
        assert np.abs(c - a.astype(np.float64) @ b.astype(np.float64)).max() <= tolerance(a, b, "float32")


@pytest.mark.parametrize(
    "layout",
    [dict(packed=p, **t) for p, t in ((0, {}), (1, {}), (1, {"a_t": 1}), (1, {"b_t": 1}), (2, {}), (2, {"b_t": 1}))],
    ids=str,
)
def test_same_bits_for_any_number_of_threads(layout, isa, dtype):
    for m, n, k in ((1, 1, 1), (1, 300, 700), (3, 2, 40), (128, 10, 256), (97, 203, 531), (256, 64, 1)):
        a, b = data((m, k), dtype), data((k, n), dtype, 1)
        alone = multiply(a, b, isa=isa, **layout)
        for threads in (2, 3, 7, 16):
            shared = multiply(a, b, isa=isa, threads=threads, **layout)
            assert alone.tobytes() == shared.tobytes(), f"m={m} n={n} k={k} threads={threads}"


def test_packed_and_direct_have_the_same_bits(isa):
    for m, n, k in ((1, 100, 50), (4, 33, 600), (60, 70, 80)):
        a, b = data((m, k), "float32"), data((k, n), "float32", 1)
        direct = multiply(a, b, isa=isa, packed=0).tobytes()
        for packed in (1, 2):
            assert direct == multiply(a, b, isa=isa, packed=packed).tobytes()


@pytest.mark.parametrize("transposed", [False, True])
def test_pack_b(transposed, isa, dtype):
    module = kernels.family("gemm", dtype, isa)
    nr = module.NR
    for k in around(0, 1, module.LANES, 2 * module.LANES, 130):
        for n in around(0, 1, module.LANES, nr, 3 * nr):
            b = data((k, n), dtype)
            panels = -(-n // nr)
            padded = np.zeros((k, panels * nr), dtype)
            padded[:, :n] = b
            expected = padded.reshape(k, panels, nr).transpose(1, 0, 2).ravel()
            for threads in (1, 2, 3, 7):
                nncore.set_num_threads(threads)
                op, out = pack(b, transposed=transposed, isa=isa)
                Program([op], new_state()).run()
                np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("packed", [0, 1])
@pytest.mark.parametrize("k", [0, 5, 700])
def test_steps_are_applied_once_to_the_finished_sum(k, packed, threads):
    a, b = data((50, k), "float32"), data((k, 77), "float32", 1)
    bias, other = data((77,), "float32", 2), data((50, 77), "float32", 3)
    steps = [Step("add", p=bias), Step("relu"), Step("mul", p=other)]
    c = multiply(a, b, packed=packed, steps=steps, threads=threads, accumulate=1)
    exact = np.maximum(a.astype(np.float64) @ b.astype(np.float64) + GUARD + bias, 0) * other
    assert np.abs(c - exact).max() <= 10 * tolerance(a, b, "float32")


def test_only_the_strides_named_are_read():
    """A, B and C are corners of larger arrays whose other elements are NaN."""
    m, n, k = 33, 45, 300
    large_a, large_b, large_c = (np.full((400, 400), np.nan, np.float32) for _ in range(3))
    large_a[:m, :k], large_b[:k, :n] = data((m, k), "float32"), data((k, n), "float32", 1)
    for packed in (0, 1):
        ops, b = [], large_b
        if packed:
            b = np.empty(-(-n // kernels.family("gemm").NR) * kernels.family("gemm").NR * k, np.float32)
            ops = [Op("pack_b", out=b, b=large_b, k=k, n=n, rs=400, cs=1)]
        strides = dict(rs_a=400, cs_a=1, ldb=400, ldc=400)
        ops.append(Op("gemm", c=large_c, a=large_a, b=b, m=m, n=n, k=k, packed=packed, **strides))
        Program(ops, new_state()).run()
        exact = large_a[:m, :k].astype(np.float64) @ large_b[:k, :n].astype(np.float64)
        assert np.abs(large_c[:m, :n] - exact).max() <= tolerance(large_a[:m, :k], large_b[:k, :n], "float32")
        large_c[:m, :n] = np.nan
        assert np.isnan(large_c).all()


# (m, n, k) and the parts of the rows whose columns are summed
PARTS = [
    ((0, 5, 3), 0), ((1, 1, 1), 1), ((5, 3, 7), 2), ((7, 16, 0), 7), ((64, 33, 20), 1), ((97, 101, 40), 3),
    ((130, 70, 600), 7), ((40, 200, 9), 40), ((200, 1, 5), 6),
]  # fmt: skip


@pytest.mark.parametrize("layout", [dict(packed=0), dict(packed=1), dict(packed=2), dict(packed=2, a_t=True)], ids=str)
@pytest.mark.parametrize("sizes, parts", PARTS, ids=str)
def test_sums_of_the_columns_of_the_result(sizes, parts, layout, isa, dtype, every_thread_count, close):
    """Of c after its steps, whole parts of the rows; c is what it would be without."""
    (m, n, k), options = sizes, dict(isa=isa, margin=0, **layout)
    a, b = data((m, k), dtype), data((k, n), dtype, 1)
    steps = [Step("add", p=20 + data((n,), dtype, 2)), Step("relu")]
    normal, mean, rstd = data((m, n), dtype, 3), data((n,), dtype, 4), data((n,), dtype, 5)

    def compute(threads):
        c = multiply(a, b, steps=steps, threads=threads, **options)
        made = [np.full((parts, n), np.nan, dtype), *(np.full((parts, 2, n), np.nan, dtype) for _ in range(2))]
        slopes = dict(partial=made[2], normal=normal, mean=mean, rstd=rstd)
        for sums in (dict(sums=made[0]), dict(partial=made[1]), slopes):
            again = multiply(a, b, steps=steps, threads=threads, parts=parts, **sums, **options)
            assert again.tobytes() == c.tobytes()
        return [c, *made]

    c, sums, moments, slopes = every_thread_count(compute)
    wide = [x.astype(np.float64) for x in (c, normal, mean, rstd)]
    rows = np.array_split(wide[0], parts) if parts else []
    terms = 60 * max(1, m // max(1, parts))
    close(sums, np.array([part.sum(0) for part in rows]).reshape(parts, n), terms)
    if m:
        close(moments, reference_images.moments(wide[0], parts), terms)
        close(slopes, reference_images.gradient_moments(*wide, parts), terms)


@pytest.mark.parametrize("distance", [100, 10_000])
def test_moments_far_from_zero_keep_their_digits(isa, distance):
    """Sums of squares would lose them all: (10,000 / 1)**2 has more digits than float32."""
    a, b = data((300, 40), "float32"), data((40, 50), "float32", 1)
    partial, steps = np.empty((4, 2, 50), np.float32), [Step("shift", s0=float(distance))]
    c = multiply(a, b, isa=isa, margin=0, steps=steps, parts=4, partial=partial).astype(np.float64)
    exact = reference_images.moments(c, 4)
    np.testing.assert_allclose(partial[:, 0], exact[:, 0], rtol=3e-7)
    np.testing.assert_allclose(partial[:, 1], exact[:, 1], rtol=1e-4)
