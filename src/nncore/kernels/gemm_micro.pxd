# The inner loops of gemm and the sizes that they need. Everything here is inlined into gemm.pyx.
from libc.stdint cimport int64_t
from nncore.vector cimport LANES, real, vf, vload, vsplat, vstore

cdef extern from *:
    """
    /* What a function returns that must be inlined: a micro-kernel's accumulators become registers where mr and nv
       are literals, and only there. */
    #define nn_inlined __attribute__((always_inline)) void
    #if defined(__clang__)
    #define nn_outlined __attribute__((noinline)) void
    #else
    #define nn_outlined __attribute__((noinline, noclone)) void     /* one copy of all the micro-kernels */
    #endif
    #if NN_BYTES == 64 || defined(__aarch64__)
    #define NN_MR 14            /* 28 accumulators of 32 registers */
    #define NN_AW 16            /* a column of the copy of A, padded to whole vectors */
    #define NN_THIN 8           /* panels that a single row takes at a time */
    #define NN_IN_PLACE 8       /* panels up to which columns of A are read where they lie */
    #else
    #define NN_MR 6             /* 12 of 16 */
    #define NN_AW 8
    #define NN_THIN 4
    #define NN_IN_PLACE 2
    #endif
    #define NN_STREAM 2         /* rows for which B is read row by row; GCC spills more */
    #define NN_KC ((int)(1024 / sizeof(real)))      /* a row of the copy of A: 1 KB */
    #define NN_TP 8             /* panels that pay for the transposition of a tile's rows of A */
    #define NN_KPAD (NN_KC + (int)(64 / sizeof(real)))  /* the next row starts in another L1 set */
    #define NN_NR (2 * LANES)
    #define NN_NR_MAX (2 * LANES)
    #define NN_COLUMNS 1024         /* in a column block, unless the op says: 1 MB of B in L2 */
    #define NN_NC (NN_COLUMNS / NN_NR)
    /* Room for the copy of A, by rows or by columns, and for a panel of B that ends inside a vector. */
    #define NN_A_COPY (NN_KC * NN_AW > NN_MR * NN_KPAD ? NN_KC * NN_AW : NN_MR * NN_KPAD)
    #define NN_B_EDGE (NN_KC * NN_NR)
    /* Interleave the lower or the upper halves of two vectors. */
    #if NN_BYTES == 64 && defined(NN_f32)
    #define NN_STAGES 4
    #define nn_low(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
    #define nn_high(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
    #elif NN_BYTES == 64 || (NN_BYTES == 32 && defined(NN_f32))
    #define NN_STAGES 3
    #define nn_low(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
    #define nn_high(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
    #elif NN_BYTES == 32 || defined(NN_f32)
    #define NN_STAGES 2
    #define nn_low(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
    #define nn_high(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
    #else
    #define NN_STAGES 1
    #define nn_low(a, b) __builtin_shufflevector(a, b, 0, 2)
    #define nn_high(a, b) __builtin_shufflevector(a, b, 1, 3)
    #endif
    #define NN_PF 16             /* lines of B that the prefetch runs ahead */
    #define nn_fetch(p) __builtin_prefetch((p), 0, 3)
    #define nn_fetch_l2(p) __builtin_prefetch((p), 0, 2)
    #define nn_fetch_w(p) __builtin_prefetch((p), 1, 3)
    /* A copy of x that GCC takes for another number: what is computed from it after a loop is not kept in registers,
       which the loop needs, from before it. */
    static inline int64_t nn_anew(int64_t x) { __asm__ volatile("" : "+r"(x)); return x; }
    """
    const int NN_MR, NN_AW, NN_KC, NN_KPAD, NN_NR, NN_PF, NN_NC, NN_STAGES, NN_TP, NN_IN_PLACE
    enum: NN_A_COPY, NN_B_EDGE, NN_COLUMNS, NN_NR_MAX, NN_STREAM, NN_THIN
    vf nn_low(vf a, vf b) noexcept nogil
    vf nn_high(vf a, vf b) noexcept nogil
    ctypedef void nn_inlined
    ctypedef void nn_outlined
    void nn_fetch(const real* p) noexcept nogil
    void nn_fetch_l2(const real* p) noexcept nogil
    void nn_fetch_w(const real* p) noexcept nogil
    int64_t nn_anew(int64_t x) noexcept nogil


cdef inline nn_inlined micro(int mr, int nv, int by_row, int panel, int64_t count, const real* a_tile,
                             int64_t sa, const real* b_panel, int64_t next_b, int64_t ldb, int64_t k, real* c,
                             int64_t ldc, int add) noexcept nogil:
    """c[mr, nv vectors] (+)= a @ b over k, for ``count`` panels of B, ``next_b`` apart.

    a[i, p] is at a[i*NN_KPAD + p] (by_row) or a[i + p*sa]; a row of b is ldb elements, or (panel) NN_NR, from the
    one before. The loop over panels is in here because GCC takes the accumulators out of memory only if the loops over
    them are inside another.
    """
    cdef vf acc[14][2]
    cdef vf b0, b1, x
    cdef const real* a
    cdef const real* b
    cdef const real* end
    cdef real* row
    cdef int i, v
    cdef int64_t _, stride
    for _ in range(count):
        a = a_tile
        b = b_panel
        row = c
        for i in range(mr):
            for v in range(nv):
                nn_fetch_w(row + v * LANES)
                acc[i][v] = vsplat(0)
            row += ldc
        end = a + (k if by_row else k * sa)
        while a < end:
            b0 = vload(b)
            b1 = vload(b + LANES) if nv > 1 else b0
            nn_fetch(b + NN_PF * (NN_NR if panel else ldb))
            if nv > 1 and LANES * sizeof(real) == 64:
                nn_fetch(b + NN_PF * (NN_NR if panel else ldb) + LANES)
            for i in range(mr):
                x = vsplat(a[i * NN_KPAD] if by_row else a[i])
                acc[i][0] = acc[i][0] + x * b0
                if nv > 1:
                    acc[i][1] = acc[i][1] + x * b1
            a += 1 if by_row else sa
            b += NN_NR if panel else ldb
        stride = nn_anew(ldc)
        row = c
        if add:
            for i in range(mr):
                for v in range(nv):
                    acc[i][v] = acc[i][v] + vload(row + v * LANES)
                row += stride
        row = c
        for i in range(mr):
            for v in range(nv):
                vstore(row + v * LANES, acc[i][v])
            row += stride
        b_panel += next_b
        c += NN_NR


cdef inline nn_inlined thin(int mr, int np, int by_row, int64_t groups, const real* a_tile,
                            int64_t sa, const real* b_panel, int64_t next_b, int64_t ldb, int64_t k, real* c, int64_t ldc,
                            int add) noexcept nogil:
    """micro for up to 3 rows, ``np`` panels at a time: enough sums in flight to hide the FMA's latency, and long runs
    of a row-major B."""
    cdef vf acc[3][2 * NN_THIN]
    cdef vf y
    cdef const real* a
    cdef const real* b
    cdef const real* line
    cdef int i, v
    cdef int64_t _, left
    for _ in range(groups):
        a = a_tile
        b = b_panel
        for i in range(mr):
            for v in range(2 * np):
                acc[i][v] = vsplat(0)
        left = k
        while left > 0:
            for v in range(2 * np):
                line = b + (v // 2) * next_b + (v % 2) * LANES
                nn_fetch(line + NN_PF * ldb)
                y = vload(line)
                for i in range(mr):
                    acc[i][v] = acc[i][v] + vsplat(a[i * NN_KPAD] if by_row else a[i]) * y
            a += 1 if by_row else sa
            b += ldb
            left -= 1
        for i in range(mr):
            for v in range(2 * np):
                if add:
                    acc[i][v] = acc[i][v] + vload(c + i * ldc + v * LANES)
                vstore(c + i * ldc + v * LANES, acc[i][v])
        b_panel += np * next_b
        c += np * NN_NR


cdef inline nn_inlined stream(int mr, int by_row, int64_t vectors, const real* a, int64_t sa, const real* b, int64_t ldb, int64_t k,
                              real* c, int64_t ldc, int add) noexcept nogil:
    """micro for few rows and a row-major B: whole rows of B, four at a time, so that memory is read in order."""
    cdef real acc[NN_STREAM * NN_COLUMNS]
    cdef vf x[NN_STREAM][4]
    cdef vf y
    cdef real* row
    cdef int i, j
    cdef int64_t v, p = 0
    for i in range(mr):
        for v in range(vectors):
            vstore(acc + i * NN_COLUMNS + v * LANES, vsplat(0))
    while p <= k - 4:
        for i in range(mr):
            for j in range(4):
                x[i][j] = vsplat(a[i * NN_KPAD + p + j] if by_row else a[i + (p + j) * sa])
        for v in range(vectors):
            for i in range(mr):
                row = acc + i * NN_COLUMNS + v * LANES
                y = vload(row)
                for j in range(4):
                    y = y + x[i][j] * vload(b + j * ldb + v * LANES)
                vstore(row, y)
        b += 4 * ldb
        p += 4
    while p < k:
        for v in range(vectors):
            for i in range(mr):
                row = acc + i * NN_COLUMNS + v * LANES
                vstore(row, vload(row) + vsplat(a[i * NN_KPAD + p] if by_row else a[i + p * sa]) * vload(b + v * LANES))
        b += ldb
        p += 1
    for i in range(mr):
        for v in range(vectors):
            y = vload(acc + i * NN_COLUMNS + v * LANES)
            if add:
                y = y + vload(c + i * ldc + v * LANES)
            vstore(c + i * ldc + v * LANES, y)


cdef inline nn_inlined rows(int mr, int nv, int by_row, int panel, int64_t count, const real* a, int64_t sa, const real* b,
                      int64_t next_b, int64_t ldb, int64_t k, real* c, int64_t ldc, int add) noexcept nogil:
    """micro with mr as a literal."""
    if mr == 1: micro(1, nv, by_row, panel, count, a, sa, b, next_b, ldb, k, c, ldc, add)
    elif mr == 2: micro(2, nv, by_row, panel, count, a, sa, b, next_b, ldb, k, c, ldc, add)
    elif mr == 3: micro(3, nv, by_row, panel, count, a, sa, b, next_b, ldb, k, c, ldc, add)
    elif mr == 4: micro(4, nv, by_row, panel, count, a, sa, b, next_b, ldb, k, c, ldc, add)
    elif mr == 5: micro(5, nv, by_row, panel, count, a, sa, b, next_b, ldb, k, c, ldc, add)
    elif mr == 6: micro(6, nv, by_row, panel, count, a, sa, b, next_b, ldb, k, c, ldc, add)
    elif NN_MR > 6:
        if mr == 7: micro(7, nv, by_row, panel, count, a, sa, b, next_b, ldb, k, c, ldc, add)
        elif mr == 8: micro(8, nv, by_row, panel, count, a, sa, b, next_b, ldb, k, c, ldc, add)
        elif mr == 9: micro(9, nv, by_row, panel, count, a, sa, b, next_b, ldb, k, c, ldc, add)
        elif mr == 10: micro(10, nv, by_row, panel, count, a, sa, b, next_b, ldb, k, c, ldc, add)
        elif mr == 11: micro(11, nv, by_row, panel, count, a, sa, b, next_b, ldb, k, c, ldc, add)
        elif mr == 12: micro(12, nv, by_row, panel, count, a, sa, b, next_b, ldb, k, c, ldc, add)
        elif mr == 13: micro(13, nv, by_row, panel, count, a, sa, b, next_b, ldb, k, c, ldc, add)
        elif mr == 14: micro(14, nv, by_row, panel, count, a, sa, b, next_b, ldb, k, c, ldc, add)


cdef inline nn_inlined transpose(vf* t) noexcept nogil:
    """LANES x LANES in registers: log2(LANES) perfect shuffles of the rows."""
    cdef vf u[16]
    cdef int _, i
    for _ in range(NN_STAGES):
        for i in range(LANES // 2):
            u[2 * i] = nn_low(t[i], t[i + LANES // 2])
            u[2 * i + 1] = nn_high(t[i], t[i + LANES // 2])
        for i in range(LANES):
            t[i] = u[i]
