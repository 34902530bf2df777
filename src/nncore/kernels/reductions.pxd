# Reductions of what is in cache: of columns over rows, and of a row. Inlined into reduce.pyx, once for each kind. The order of
# additions is fixed by the sizes alone. Where a row is reduced lanes run along it; else along the columns.
from libc.stdint cimport int64_t
from nncore.kernels.gemm_micro cimport nn_inlined
from nncore.kernels.lanes cimport load_part, vfirst
from nncore.vector cimport INFINITY, LANES, real, vand, veq, vexp, vf, vgt, vload, vselect, vsplat

cdef extern from *:
    """
    /* The lanes turned by so many places, where there are more. */
    #if NN_BYTES == 64 && defined(NN_f32)
    #define nn_turn8(v) __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
    #define nn_turn4(v) __builtin_shufflevector(v, v, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3)
    #define nn_turn2(v) __builtin_shufflevector(v, v, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1)
    #define nn_turn1(v) __builtin_shufflevector(v, v, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0)
    #elif NN_BYTES == 64 || (NN_BYTES == 32 && defined(NN_f32))
    #define nn_turn8(v) (v)
    #define nn_turn4(v) __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3)
    #define nn_turn2(v) __builtin_shufflevector(v, v, 2, 3, 4, 5, 6, 7, 0, 1)
    #define nn_turn1(v) __builtin_shufflevector(v, v, 1, 2, 3, 4, 5, 6, 7, 0)
    #elif NN_BYTES == 32 || defined(NN_f32)
    #define nn_turn8(v) (v)
    #define nn_turn4(v) (v)
    #define nn_turn2(v) __builtin_shufflevector(v, v, 2, 3, 0, 1)
    #define nn_turn1(v) __builtin_shufflevector(v, v, 1, 2, 3, 0)
    #else
    #define nn_turn8(v) (v)
    #define nn_turn4(v) (v)
    #define nn_turn2(v) (v)
    #define nn_turn1(v) __builtin_shufflevector(v, v, 1, 0)
    #endif
    """
    vf nn_turn8(vf v) noexcept nogil
    vf nn_turn4(vf v) noexcept nogil
    vf nn_turn2(vf v) noexcept nogil
    vf nn_turn1(vf v) noexcept nogil

cdef enum:
    BLOCK = 512         # terms of a lane summed before they are added to the total: rounding grows with BLOCK + mid / BLOCK
    WIDE = 4            # vectors of columns, or of a row, that are reduced at once
    # kinds, in the order of signatures.REDUCTIONS; EXPONENTIALS: sum(exp(x - shift)), the second half of LOGSUMEXP
    SUM = 0
    MAX = 1
    MIN = 2
    PROD = 3
    LOGSUMEXP = 4
    EXPONENTIALS = 5


cdef inline real identity(int kind) noexcept nogil:
    if kind == MAX:
        return -INFINITY
    if kind == MIN:
        return INFINITY
    return 1 if kind == PROD else 0


cdef inline vf combine(int kind, vf total, vf x, vf shift) noexcept nogil:
    """The reduction of what came so far and x. NaN wins over every number."""
    if kind == SUM:
        return total + x
    if kind == PROD:
        return total * x
    if kind == EXPONENTIALS:
        return total + vexp(x - shift)
    if kind == MAX:
        return vselect(veq(x, x), vselect(vgt(x, total), x, total), x)
    return vselect(veq(x, x), vselect(vgt(total, x), x, total), x)


cdef inline vf joined(int kind, vf a, vf b) noexcept nogil:
    """The reduction of two of them."""
    return a + b if kind == EXPONENTIALS else combine(kind, a, b, a)


cdef inline vf shift_of(vf top) noexcept nogil:
    """What logsumexp takes off: the maximum, or 0 where it is not finite."""
    return vand(veq(top - top, vsplat(0)), top)


cdef inline vf part(int nv, const real* x, int64_t r, int64_t rows, int64_t ld, int64_t width, int j) noexcept nogil:
    """Vector j of row r; where there is one, it may end within ``width`` columns, and so may the matrix."""
    if nv > 1:
        return vload(x + r * ld + j * LANES)
    return load_part(x + r * ld, width, (rows - 1 - r) * ld + width, 0)


cdef inline nn_inlined columns(int kind, int nv, const real* x, int64_t rows, int64_t ld, int64_t width, const vf* shift,
                               vf* total) noexcept nogil:
    """total[nv] = each column reduced over ``rows`` rows: two accumulators a column, even and odd rows."""
    cdef vf even[WIDE]
    cdef vf odd[WIDE]
    cdef int64_t first = 0, last, r
    cdef int j
    for j in range(nv):
        total[j] = vsplat(identity(kind))
    while first < rows:
        last = min(rows, first + BLOCK)
        for j in range(nv):
            even[j] = vsplat(identity(kind))
            odd[j] = even[j]
        r = first
        while r + 2 <= last:
            for j in range(nv):
                even[j] = combine(kind, even[j], part(nv, x, r, rows, ld, width, j), shift[j])
                odd[j] = combine(kind, odd[j], part(nv, x, r + 1, rows, ld, width, j), shift[j])
            r += 2
        if r < last:
            for j in range(nv):
                even[j] = combine(kind, even[j], part(nv, x, r, rows, ld, width, j), shift[j])
        for j in range(nv):
            total[j] = joined(kind, total[j], joined(kind, even[j], odd[j]))
        first = last


cdef inline real across(int kind, vf v) noexcept nogil:
    """The lanes reduced, halves onto halves."""
    if LANES > 8:
        v = joined(kind, v, nn_turn8(v))
    if LANES > 4:
        v = joined(kind, v, nn_turn4(v))
    if LANES > 2:
        v = joined(kind, v, nn_turn2(v))
    v = joined(kind, v, nn_turn1(v))
    return vfirst(v)


cdef inline nn_inlined row(int kind, const real* x, int64_t count, int64_t room, real shift, real* out) noexcept nogil:
    """out[0] = the reduction of ``count`` elements; ``room``: how many may be read."""
    cdef vf total = vsplat(identity(kind)), less = vsplat(shift), v
    cdef vf sums[WIDE]
    cdef int64_t c = 0, end
    cdef int j
    while c + WIDE * LANES <= count:
        end = min(count, c + BLOCK * WIDE * LANES)
        for j in range(WIDE):
            sums[j] = vsplat(identity(kind))
        while c + WIDE * LANES <= end:
            for j in range(WIDE):
                sums[j] = combine(kind, sums[j], vload(x + c + j * LANES), less)
            c += WIDE * LANES
        total = joined(kind, total, joined(kind, joined(kind, sums[0], sums[1]), joined(kind, sums[2], sums[3])))
    while c < count:
        v = load_part(x + c, count - c, room - c, -INFINITY if kind == EXPONENTIALS else identity(kind))
        total = combine(kind, total, v, less)
        c += LANES
    out[0] = across(kind, total)
