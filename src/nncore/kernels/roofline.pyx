# What the machine can do at most: floating-point work out of registers, and bytes a second through each cache level.
# Benchmarks measure the others against these; no training step calls them.
from libc.stdint cimport int64_t
from nncore.op cimport Op, layout, signature, split
from nncore.vector cimport LANES, real, vf, vload, vsplat, vstore

cdef extern from *:
    """
    /* Independent sums in flight: FMA latency times FMA units is 8 to 10 everywhere; with two operands they must fit
       the registers (32 in AVX-512, else 16). */
    #if NN_BYTES == 64
    #define SUMS 24
    #else
    #define SUMS 12
    #endif
    """
    const int SUMS


cdef void fma_peak(const Op* op, int thread, int threads) noexcept nogil:
    """sink[chains, LANES]: each chain does iterations * SUMS fused multiply-adds of LANES elements.

    2 * chains * iterations * SUMS * LANES operations in all; x * 0.5 + 0.5 stays near 1, far from denormals and infinity.
    """
    cdef real* sink = <real*>op.p[0]
    cdef int64_t chains = op.n[0], iterations = op.n[1], first = 0, last = 0, chain, _
    cdef vf sums[SUMS]
    cdef vf half = vsplat(0.5)
    cdef int j
    split(chains, thread, threads, &first, &last)
    for chain in range(first, last):
        for j in range(SUMS):
            sums[j] = vsplat(<real>(j + 1))
        for _ in range(iterations):
            for j in range(SUMS):
                sums[j] = sums[j] * half + half
        for j in range(1, SUMS):
            sums[0] = sums[0] + sums[j]
        vstore(sink + chain * LANES, sums[0])


cdef void triad(const Op* op, int thread, int threads) noexcept nogil:
    """a[count] = b[count] + s * c[count], passes times over each thread's share: 3 * count elements moved a pass."""
    cdef real* a = <real*>op.p[0]
    cdef const real* b = <const real*>op.p[1]
    cdef const real* c = <const real*>op.p[2]
    cdef int64_t count = op.n[0], passes = op.n[1], first = 0, last = 0, i, _
    cdef real s = <real>op.s[0]
    cdef vf scale = vsplat(s)
    split(count // LANES, thread, threads, &first, &last)
    first *= LANES
    last *= LANES
    for _ in range(passes):
        i = first
        while i < last:
            vstore(a + i, vload(b + i) + scale * vload(c + i))
            i += LANES
        if thread == 0:
            for i in range(count // LANES * LANES, count):
                a[i] = b[i] + s * c[i]


cdef void copy_peak(const Op* op, int thread, int threads) noexcept nogil:
    """a[count] = b[count], passes times over each thread's share: 2 * count elements moved a pass."""
    cdef real* a = <real*>op.p[0]
    cdef const real* b = <const real*>op.p[1]
    cdef int64_t count = op.n[0], passes = op.n[1], first = 0, last = 0, i, _
    split(count // LANES, thread, threads, &first, &last)
    first *= LANES
    last *= LANES
    for _ in range(passes):
        i = first
        while i < last:
            vstore(a + i, vload(b + i))
            i += LANES
        if thread == 0:
            for i in range(count // LANES * LANES, count):
                a[i] = b[i]


TABLE = {"fma_peak": <size_t>&fma_peak, "triad": <size_t>&triad, "copy_peak": <size_t>&copy_peak}
WORK = {"sums": SUMS, "lanes": LANES}     # what turns iterations into operations
LAYOUT = layout()
SIGNATURE = signature()
