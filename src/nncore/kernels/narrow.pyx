"""gemm_narrow: c = steps(a @ b) for a row-major a and few columns of b, as the last layer of a classifier has.

gemm's tiles would leave most of their lanes empty. Here the lanes run along k: each element of C is a dot product of a
row of A and a row of b', kept as a vector of partial sums while k lasts. Up to GROUP of these become one vector while
they are still in registers, and a row's LANES / GROUP vectors become one vector of C: column q + e * LANES / GROUP is
element e of group q, which is how the shuffles bring them into order.
"""
from libc.stdint cimport int64_t
from nncore.kernels.chain cimport StepRecord, apply_steps, step_layout
from nncore.kernels.gemm_micro cimport nn_fetch, nn_high, nn_inlined, nn_low, transpose
from nncore.kernels.lanes cimport load_part, store_ahead
from nncore.op cimport Op, layout, signature, split
from nncore.vector cimport LANES, real, vf, vload, vsplat, vstore

cdef extern from *:
    """
    #if NN_BYTES == 64 || defined(__aarch64__)
    #define NN_DOT_ROWS 6       /* 24 accumulators of 32 registers */
    #else
    #define NN_DOT_ROWS 3       /* 12 of 16 */
    #endif
    #define NN_DOT_BLOCK ((int)(1024 / sizeof(real)))   /* of k: rows in the same L1 sets must not drive each other out */
    #define NN_GROUP (LANES < 4 ? LANES : 4)
    #define NN_GROUPS (LANES / NN_GROUP)
    """
    enum:
        DOT_ROWS "NN_DOT_ROWS"
        DOT_BLOCK "NN_DOT_BLOCK"
    const int GROUP "NN_GROUP", GROUPS "NN_GROUPS"

cdef enum:
    MOST_COLS = 16          # columns of b
    BAND = 64               # rows that get their steps together, while they are in L1


cdef inline vf merge(vf x, vf y) noexcept nogil:
    """Half of the sums over the lanes of x (in the even lanes) and y (in the odd ones)."""
    return nn_low(x, y) + nn_high(x, y)


cdef inline nn_inlined dots(int mr, int nb, int64_t k, const real* a, int64_t lda, const real* b, int64_t ldb,
                            vf* out) noexcept nogil:
    """out[i * GROUPS]: lanes e, e + GROUP, ... add up to the product of row i of a and row e of b, zero from nb on. Rows
    of b are padded with zeros to whole vectors."""
    cdef vf acc[DOT_ROWS][4]
    cdef vf x[DOT_ROWS]
    cdef vf y
    cdef int i, e
    cdef int64_t p
    for i in range(mr):
        for e in range(4):
            acc[i][e] = vsplat(0)
    p = 0
    while p <= k - LANES:
        for i in range(mr):
            x[i] = vload(a + i * lda + p)
            nn_fetch(a + (i + mr) * lda + p)        # of the next tile
        for e in range(nb):
            y = vload(b + e * ldb + p)
            for i in range(mr):
                acc[i][e] = acc[i][e] + x[i] * y
        p += LANES
    if p < k:
        for i in range(mr):
            x[i] = load_part(a + i * lda + p, k - p, k - p, 0)
        for e in range(nb):
            y = vload(b + e * ldb + p)
            for i in range(mr):
                acc[i][e] = acc[i][e] + x[i] * y
    for i in range(mr):
        if GROUP == 4:
            out[i * GROUPS] = merge(merge(acc[i][0], acc[i][2]), merge(acc[i][1], acc[i][3]))
        else:
            out[i * GROUPS] = merge(acc[i][0], acc[i][1])


cdef inline nn_inlined group(int mr, int nb, int64_t k, const real* a, int64_t lda, const real* b, int64_t ldb,
                             vf* out) noexcept nogil:
    """dots with nb as a literal."""
    if nb == 1: dots(mr, 1, k, a, lda, b, ldb, out)
    elif nb == 2: dots(mr, 2, k, a, lda, b, ldb, out)
    elif GROUP > 2:
        if nb == 3: dots(mr, 3, k, a, lda, b, ldb, out)
        else: dots(mr, 4, k, a, lda, b, ldb, out)


cdef void tile(int mr, int nb, int64_t k, const real* a, int64_t lda, const real* b, int64_t ldb, vf* out) noexcept nogil:
    """dots with mr and nb as literals."""
    if mr == 1: group(1, nb, k, a, lda, b, ldb, out)
    elif mr == 2: group(2, nb, k, a, lda, b, ldb, out)
    elif mr == 3: group(3, nb, k, a, lda, b, ldb, out)
    elif DOT_ROWS > 3:
        if mr == 4: group(4, nb, k, a, lda, b, ldb, out)
        elif mr == 5: group(5, nb, k, a, lda, b, ldb, out)
        else: group(6, nb, k, a, lda, b, ldb, out)


cdef inline vf lane_sums(vf* v) noexcept nogil:
    """The columns of C that v[GROUPS] are the partial sums of."""
    if GROUPS == 4:
        return merge(merge(v[0], v[2]), merge(v[1], v[3]))
    if GROUPS == 2:
        return merge(v[0], v[1])
    return v[0]


cdef inline void turn(const real* b, int64_t rs, int64_t cs, int64_t k, int64_t n, real* out, int64_t ldb) noexcept nogil:
    """out[j, p] at out[j * ldb + p] = b[p * rs + j * cs], zero from k to ldb; whole vectors are read in the rows of b
    that have room behind them."""
    cdef vf t[16]
    cdef int64_t p = 0, j
    cdef int i
    if cs == 1 and n <= LANES:
        while p <= k - 2 * LANES:       # the last rows are no room for LANES elements
            for i in range(LANES):
                t[i] = vload(b + (p + i) * rs)
            transpose(t)
            for j in range(n):
                vstore(out + j * ldb + p, t[j])
            p += LANES
    for j in range(n):
        for i in range(p, ldb):
            out[j * ldb + i] = b[i * rs + j * cs] if i < k else <real>0


# p: c, a, b, steps. n: m, n, k, lda, rs_b, cs_b, n_steps
cdef void gemm_narrow(const Op* op, int thread, int threads) noexcept nogil:
    """c[m, n] = steps(a[m, k] @ b[k, n]), n at most MOST_COLS. Rows of a are lda apart, those of c contiguous; element
    (p, j) of b is at b[p * rs_b + j * cs_b]. Threads share the rows."""
    cdef real* c = <real*>op.p[0]
    cdef const real* a = <const real*>op.p[1]
    cdef const real* b = <const real*>op.p[2]
    cdef int64_t n = op.n[1], k = op.n[2], lda = op.n[3], rs_b = op.n[4], cs_b = op.n[5], n_steps = op.n[6]
    cdef int64_t first = 0, last = 0, blocks, block, k0 = 0, k1 = 0, ldb, row, end, col, width, i
    cdef real turned[DOT_BLOCK * MOST_COLS]
    cdef vf sums[DOT_ROWS * 8]
    cdef vf* part
    cdef vf total
    cdef real* out
    cdef int mr, nb, q
    split(op.n[0], thread, threads, &first, &last)
    if first == last or n == 0:
        return
    blocks = max(<int64_t>1, (k + DOT_BLOCK - 1) // DOT_BLOCK)
    for block in range(blocks):
        split(k, block, blocks, &k0, &k1)
        ldb = (k1 - k0 + LANES - 1) // LANES * LANES
        turn(b + k0 * rs_b, rs_b, cs_b, k1 - k0, n, turned, ldb)
        row = first
        while row < last:
            mr = <int>min(<int64_t>DOT_ROWS, last - row)
            part = sums
            col = 0
            while col < n:
                width = min(<int64_t>LANES, n - col)
                for q in range(GROUPS):
                    nb = <int>((width - q + GROUPS - 1) // GROUPS)
                    if nb > 0:
                        tile(mr, nb, k1 - k0, a + row * lda + k0, lda, turned + (col + q) * ldb, GROUPS * ldb, part + q)
                    else:
                        for i in range(mr):
                            part[i * GROUPS + q] = vsplat(0)
                part += mr * GROUPS
                col += LANES
            for i in range(mr):
                col = 0
                while col < n:
                    total = lane_sums(sums + (col // LANES * mr + i) * GROUPS)
                    out = c + (row + i) * n + col
                    width = n - col
                    if block > 0:
                        total = total + load_part(out, width, width, 0)
                    # Elements of rows that are written later may be overwritten, unless they are to be added to.
                    store_ahead(out, total, width, 0 if block > 0 else (last - row - i) * n - col)
                    col += LANES
            row += mr
    if n_steps:
        for row in range(first, last, 64):
            end = min(last, row + BAND)
            apply_steps(<const StepRecord*>op.p[3], n_steps, c + row * n, n, row, end - row, 0, n)


TABLE = {"gemm_narrow": <size_t>&gemm_narrow}
LAYOUT = layout()
SIGNATURE = signature()
STEP_LAYOUT = step_layout()
# The most columns that the kernel takes, and up to which it is faster than gemm where k is at least 8 times as many.
globals().update(COLS=MOST_COLS, FASTER=LANES * 5 // 8)
