"""gemm: c = steps(a @ b), gemm_batched: many of them, and pack_b: b into panels.

How it works. The micro-kernel keeps a tile of mr x (2 vectors) of C in registers and runs over k: one broadcast of A
feeds two FMAs. Around it, from the inside out: the panels of a column block (the block of B stays in L2), the row tiles
of a thread's share (a tile's rows of A are copied to the stack first, so that they sit in L1 whatever the stride, unless
A is column-major and the panels are few), the blocks of k (their length depends on k alone: so do the sum's order and
bits), the column blocks. Threads split C into a grid of rows x panels; each element has one owner. Sums of the columns
(column_sums.pxd) are those of parts of the rows, of which each thread then has whole ones: a row tile joins them when it
is done, and still in L1.
"""
from libc.stdint cimport int64_t
from nncore.kernels.chain cimport StepRecord, apply_steps, step_layout
from nncore.kernels.column_sums cimport join_moments, join_slopes, join_sums
from nncore.kernels.gemm_micro cimport (NN_A_COPY, NN_AW, NN_B_EDGE, NN_IN_PLACE, NN_KC, NN_KPAD, NN_MR, NN_NC, NN_NR,
                                        NN_NR_MAX, NN_STREAM, NN_THIN, NN_TP, nn_fetch, nn_fetch_l2, nn_outlined, rows,
                                        stream, thin, transpose)
from nncore.op cimport Op, layout, signature, split
from nncore.vector cimport LANES, real, vf, vload, vsplat, vstore


cdef enum:
    APART = 512         # bytes between rows of B from which they share too few sets of L1


cdef nn_outlined tiles(int mr, int nv, int by_row, int64_t count, const real* a, int64_t sa, const real* b,
                       int64_t next_b, int64_t ldb, int64_t k, real* c, int64_t ldc, int add) noexcept nogil:
    """``count`` tiles of C side by side."""
    cdef int64_t np = NN_THIN if mr == 1 else 2, groups = count // np
    if mr <= NN_STREAM and nv == 2 and next_b == NN_NR:
        if by_row:
            if mr == 1: stream(1, 1, 2 * count, a, sa, b, ldb, k, c, ldc, add)
            else: stream(2, 1, 2 * count, a, sa, b, ldb, k, c, ldc, add)
        elif mr == 1: stream(1, 0, 2 * count, a, sa, b, ldb, k, c, ldc, add)
        else: stream(2, 0, 2 * count, a, sa, b, ldb, k, c, ldc, add)
        return
    if mr <= 3 and nv == 2 and groups > 0:
        if by_row:
            if mr == 1: thin(1, NN_THIN, 1, groups, a, sa, b, next_b, ldb, k, c, ldc, add)
            elif mr == 2: thin(2, 2, 1, groups, a, sa, b, next_b, ldb, k, c, ldc, add)
            else: thin(3, 2, 1, groups, a, sa, b, next_b, ldb, k, c, ldc, add)
        elif mr == 1: thin(1, NN_THIN, 0, groups, a, sa, b, next_b, ldb, k, c, ldc, add)
        elif mr == 2: thin(2, 2, 0, groups, a, sa, b, next_b, ldb, k, c, ldc, add)
        else: thin(3, 2, 0, groups, a, sa, b, next_b, ldb, k, c, ldc, add)
        b += groups * np * next_b
        c += groups * np * NN_NR
        count -= groups * np
        if count == 0:
            return
    if ldb == NN_NR:
        if by_row:
            if nv == 2:
                rows(mr, 2, 1, 1, count, a, sa, b, next_b, ldb, k, c, ldc, add)
            else:
                rows(mr, 1, 1, 1, count, a, sa, b, next_b, ldb, k, c, ldc, add)
        elif nv == 2:
            rows(mr, 2, 0, 1, count, a, sa, b, next_b, ldb, k, c, ldc, add)
        else:
            rows(mr, 1, 0, 1, count, a, sa, b, next_b, ldb, k, c, ldc, add)
    elif by_row:
        if nv == 2:
            rows(mr, 2, 1, 0, count, a, sa, b, next_b, ldb, k, c, ldc, add)
        else:
            rows(mr, 1, 1, 0, count, a, sa, b, next_b, ldb, k, c, ldc, add)
    elif nv == 2:
        rows(mr, 2, 0, 0, count, a, sa, b, next_b, ldb, k, c, ldc, add)
    else:
        rows(mr, 1, 0, 0, count, a, sa, b, next_b, ldb, k, c, ldc, add)


cdef void edge_tile(int mr, int width, int by_row, const real* a, int64_t sa, const real* b, int64_t ldb, int64_t k,
                    real* c, int64_t ldc, int add) noexcept nogil:
    """A tile that ends inside a vector: computed beside C, so that nothing right of C is touched."""
    cdef real beside[14 * NN_NR_MAX]
    cdef int i, j
    tiles(mr, 1 if width <= LANES else 2, by_row, 1, a, sa, b, 0, ldb, k, beside, NN_NR, 0)
    for i in range(mr):
        for j in range(width):
            c[j] = c[j] + beside[i * NN_NR + j] if add else beside[i * NN_NR + j]
        c += ldc


# ---- copies to the stack ----


cdef inline int64_t readable(int64_t start, int64_t width, int64_t extent, int64_t ld, int64_t count) noexcept nogil:
    """How many of ``count`` rows of ``extent`` elements, ``ld`` apart, can be read from ``start`` on for ``width``
    elements without leaving the matrix (running over into the next row is no harm)."""
    cdef int64_t room = (count - 1) * ld + extent - start - width
    if room < 0 or ld <= 0:
        return count if room >= 0 else 0
    return min(count, room // ld + 1)


cdef void copy_rows(int mr, int64_t k, const real* a, int64_t sa, int64_t ahead, real* out) noexcept nogil:
    """out[i, p] at out[i*NN_KPAD + p] = a[i*sa + p]; what is ``ahead`` comes into L2."""
    cdef int _
    cdef int64_t p
    for _ in range(mr):
        if k >= LANES:
            p = 0
            while p <= k - LANES:
                vstore(out + p, vload(a + p))
                nn_fetch_l2(a + ahead + p)
                p += LANES
            if p < k:
                vstore(out + k - LANES, vload(a + k - LANES))
        else:
            for p in range(k):
                out[p] = a[p]
        a += sa
        out += NN_KPAD


cdef void copy_transposed(int mr, int64_t k, const real* a, int64_t sa, int64_t ahead, real* out) noexcept nogil:
    """out[i, p] at out[p*NN_AW + i] = a[i*sa + p]; what is ``ahead`` comes into L2."""
    cdef vf t[16]
    cdef int part, i
    cdef int64_t p = 0
    while p <= k - LANES:
        for part in range(NN_AW // LANES):
            for i in range(LANES):
                t[i] = vsplat(0)
                if part * LANES + i < mr:
                    t[i] = vload(a + (part * LANES + i) * sa + p)
                    nn_fetch_l2(a + (part * LANES + i) * sa + ahead + p)
            transpose(t)
            for i in range(LANES):
                vstore(out + i * NN_AW + part * LANES, t[i])
        out += LANES * NN_AW
        p += LANES
    while p < k:
        for i in range(mr):
            out[i] = a[i * sa + p]
        out += NN_AW
        p += 1


cdef void copy_lines(int64_t k, int64_t whole, int width, int wide, const real* x, int64_t sx, int ahead,
                     real* out) noexcept nogil:
    """out[p, j] at out[p*wide + j] = x[p*sx + j], j < width; in the first ``whole`` lines all ``wide`` can be read."""
    cdef int64_t p
    cdef int j
    for p in range(k):
        if p < whole:
            nn_fetch_l2(x + ahead)
            for j in range(wide // LANES):
                vstore(out + j * LANES, vload(x + j * LANES))
        else:
            for j in range(width):
                out[j] = x[j]
        x += sx
        out += wide


cdef void copy_any(int mr, int64_t k, const real* a, int64_t rs, int64_t cs, real* out) noexcept nogil:
    """out[i, p] at out[p*NN_AW + i] = a[i*rs + p*cs]."""
    cdef int64_t p
    cdef int i
    for p in range(k):
        for i in range(mr):
            out[i] = a[i * rs + p * cs]
        out += NN_AW


# ---- B into panels ----
cdef void pack_lines(const real* b, int64_t k, int width, int64_t rs, int64_t whole, real* out) noexcept nogil:
    """A panel's rows from row-major B."""
    cdef int64_t p
    cdef int j
    cdef vf x, y
    for p in range(k):
        if p < whole:
            x = vload(b)
            y = vload(b + LANES)
            nn_fetch(b + 8 * rs)
        else:
            x = vsplat(0)
            y = vsplat(0)
            vstore(out, x)
            vstore(out + LANES, y)
            for j in range(width):
                out[j] = b[j]
            x = vload(out)
            y = vload(out + LANES)
        vstore(out, x)
        vstore(out + LANES, y)
        b += rs
        out += NN_NR


cdef void pack_any(const real* b, int64_t k, int width, int64_t rs, int64_t cs, real* out) noexcept nogil:
    """A panel's rows from B of any strides."""
    cdef int64_t p
    cdef int j
    for p in range(k):
        for j in range(NN_NR):
            out[j] = b[p * rs + j * cs] if j < width else 0
        out += NN_NR


cdef void pack_columns(const real* b, int64_t k, int width, int64_t cs, real* out) noexcept nogil:
    """A panel's rows from column-major B: LANES x LANES blocks, transposed in registers."""
    cdef vf t[16]
    cdef int64_t p = 0
    cdef int half, i, j
    while p <= k - LANES:
        for half in range(2):
            if width >= (half + 1) * LANES:
                for i in range(LANES):
                    t[i] = vload(b + (half * LANES + i) * cs + p)
            else:
                for i in range(LANES):
                    t[i] = vsplat(0)
                for i in range(LANES):
                    if half * LANES + i < width:
                        t[i] = vload(b + (half * LANES + i) * cs + p)
            transpose(t)
            for i in range(LANES):
                vstore(out + i * NN_NR + half * LANES, t[i])
        out += LANES * NN_NR
        p += LANES
    while p < k:
        for j in range(NN_NR):
            out[j] = b[j * cs + p] if j < width else 0
        out += NN_NR
        p += 1


cdef inline void pack_panel(const real* b, int64_t k, int width, int64_t rs, int64_t cs, real* out) noexcept nogil:
    """out[k][NR] = b[k, width], zero padded."""
    if cs == 1:
        pack_lines(b, k, width, rs, k if width == NN_NR else 0, out)
    elif rs == 1:
        pack_columns(b, k, width, cs, out)
    else:
        pack_any(b, k, width, rs, cs, out)


# ---- the share of a thread ----
cdef struct Grid:
    int64_t row0, row1, panel0, panel1      # where sums are gathered: parts of the rows, not rows


cdef void share(Grid* grid, int64_t m, int64_t each, int64_t panels, bint by_rows, int thread, int threads) noexcept nogil:
    """The thread's share of m rows, or of m parts of so many rows ``each``, and its panels: of all grids of threads, that
    with the least work for the busiest.

    ``by_rows``: whole rows where that is no worse: two cores that write parts of a row prefetch each other's lines."""
    cdef int64_t cost, least = 0, r, q
    cdef int down, across, best_down = 1, best_across = 1
    for down in range(1, threads + 1):
        across = <int>min(<int64_t>(threads // down), panels)
        r = (m + down - 1) // down * each
        q = (panels + across - 1) // across
        # multiply-adds, then what is read and copied; a tile of less than 4 rows takes as long as one of 4
        cost = 16 * q * max(r, 4 * ((r + NN_MR - 1) // NN_MR)) + r + q * NN_NR
        if down == 1 or cost < least or (cost == least and by_rows):
            least = cost
            best_down = down
            best_across = across
        if down >= m:
            break
    if thread >= best_down * best_across:
        grid.row0 = grid.row1 = 0
        return
    split(m, thread % best_down, best_down, &grid.row0, &grid.row1)
    split(panels, thread // best_down, best_across, &grid.panel0, &grid.panel1)


cdef struct Product:
    # c[m, n] = steps(a[m, k] @ b[k, n])
    real* c
    const real* a
    const real* b
    real* workspace         # of this thread, where it packs b on the way
    const StepRecord* steps
    int64_t n_steps
    int64_t row             # of the matrix that the steps see: the first of c
    int64_t m, n, k
    int64_t rs_a, cs_a
    int64_t ldb, cs_b
    int64_t ldc
    int64_t most            # panels in a column block
    bint packed             # b is as pack_b leaves it
    bint packing            # or it is packed on the way
    bint accumulate
    int64_t parts           # of the rows, whose columns are summed; 0: no sums
    real* sums
    real* partial
    const real* normal
    const real* mean
    const real* rstd


cdef nn_outlined gather(const Product* p, int64_t part, int64_t before, int64_t row, int64_t rows, int64_t col,
                        int64_t cols) noexcept nogil:
    """Add these finished rows of c to the sums of a part, which has so many rows ``before`` them."""
    cdef int64_t at = row * p.ldc + col, first = 2 * part * p.n + col, second = first + p.n
    if p.sums != NULL:
        join_sums(p.sums + part * p.n + col, before, p.c + at, rows, p.ldc, cols)
    elif p.normal != NULL:
        join_slopes(p.partial + first, p.partial + second, before, p.c + at, p.normal + at, p.mean + col, p.rstd + col, rows,
                    p.ldc, cols)
    else:
        join_moments(p.partial + first, p.partial + second, before, p.c + at, rows, p.ldc, cols)


cdef void product(const Product* p, const Grid* g) noexcept nogil:
    """A thread's rows and panels of a product."""
    cdef int64_t n = p.n, k = p.k, rs_a = p.rs_a, cs_a = p.cs_a, ldb = p.ldb, ldc = p.ldc, q
    cdef const real* a = p.a
    cdef const real* b = p.b
    cdef real a_copy[NN_A_COPY]
    cdef real b_edge[NN_B_EDGE]
    cdef int by_row = cs_a == 1 and not (rs_a == 1 and k == 1)
    cdef int mr, width, add, transposing, rows_copied, in_place
    cdef int64_t k_blocks, kb, k0 = 0, k1 = 0, block, blocks, q0 = 0, q1 = 0, row_tiles, t, i0 = 0, i1 = 0, ahead_a
    cdef int64_t row0 = g.row0, row1 = g.row1, part, parts = g.row1 - g.row0 if p.parts else 1
    cdef int64_t whole, sa, sb = NN_NR if p.packed or p.packing else ldb, next_b = k * NN_NR if p.packed else NN_NR
    cdef const real* block_b
    cdef const real* tile_a
    cdef const real* y
    cdef real* z
    k_blocks = max(<int64_t>1, (k + NN_KC - 1) // NN_KC)
    blocks = (g.panel1 - g.panel0 + p.most - 1) // p.most
    # Lines of A with a column of the tile each read faster than rows; it takes some panels to earn the transposition.
    transposing = by_row and g.panel1 - g.panel0 >= NN_TP
    rows_copied = by_row and not transposing
    # Columns of A are read where they lie by so few panels that a copy would not be earned.
    in_place = rs_a == 1 and not by_row and g.panel1 - g.panel0 <= NN_IN_PLACE
    sa = cs_a if in_place else NN_AW
    tile_a = a_copy
    for block in range(blocks):
        split(g.panel1 - g.panel0, block, blocks, &q0, &q1)
        q0 += g.panel0
        q1 += g.panel0
        width = <int>min(<int64_t>NN_NR, n - (q1 - 1) * NN_NR)      # of the last panel
        for kb in range(k_blocks):
            split(k, kb, k_blocks, &k0, &k1)
            add = p.accumulate or kb > 0
            if p.packing:
                next_b = (k1 - k0) * NN_NR
                for q in range(q0, q1):
                    pack_panel(b + k0 * ldb + q * NN_NR * p.cs_b, k1 - k0, width if q == q1 - 1 else NN_NR, ldb, p.cs_b,
                               p.workspace + (q - q0) * next_b)
                block_b = p.workspace
            elif p.packed:
                block_b = b + (q0 * k + k0) * NN_NR
            else:
                block_b = b + k0 * ldb + q0 * NN_NR
                if width % LANES != 0:
                    copy_lines(k1 - k0, readable((q1 - 1) * NN_NR, NN_NR, n, ldb, k) - k0, width, NN_NR,
                               b + k0 * ldb + (q1 - 1) * NN_NR, ldb, 0, b_edge)
            for part in range(g.row0, g.row0 + parts):
                if p.parts:
                    split(p.m, part, p.parts, &row0, &row1)
                row_tiles = (row1 - row0 + NN_MR - 1) // NN_MR
                for t in range(row_tiles):
                    split(row1 - row0, t, row_tiles, &i0, &i1)
                    i0 += row0
                    mr = <int>(i1 + row0 - i0)
                    # The rows of the next tile; of another thread's they would only be taken away.
                    ahead_a = mr * rs_a if t + 1 < row_tiles or part + 1 < g.row0 + parts else 0
                    if transposing:
                        copy_transposed(mr, k1 - k0, a + i0 * rs_a + k0, rs_a, ahead_a, a_copy)
                    elif by_row:
                        copy_rows(mr, k1 - k0, a + i0 * rs_a + k0, rs_a, ahead_a, a_copy)
                    elif in_place:
                        tile_a = a + i0 + k0 * cs_a
                    elif rs_a != 1:
                        copy_any(mr, k1 - k0, a + i0 * rs_a + k0 * cs_a, rs_a, cs_a, a_copy)
                    else:
                        copy_lines(k1 - k0, readable(i0, NN_AW, p.m, cs_a, k) - k0, mr, NN_AW, a + i0 + k0 * cs_a,
                                   cs_a, 2 * ahead_a, a_copy)
                    y = block_b
                    z = p.c + i0 * ldc + q0 * NN_NR
                    whole = q1 - q0 - (width < NN_NR)
                    if whole > 0:
                        tiles(mr, 2, rows_copied, whole, tile_a, sa, y, next_b, sb, k1 - k0, z, ldc, add)
                    y += whole * next_b
                    z += whole * NN_NR
                    if width == LANES:
                        tiles(mr, 1, rows_copied, 1, tile_a, sa, y, next_b, sb, k1 - k0, z, ldc, add)
                    elif width < NN_NR:
                        edge_tile(mr, width, rows_copied, tile_a, sa, y if p.packed or p.packing else b_edge, NN_NR,
                                  k1 - k0, z, ldc, add)
                    if p.n_steps > 0 and kb == k_blocks - 1:
                        # A band of C as wide as the column block: still in L2, mostly in L1.
                        apply_steps(p.steps, p.n_steps, p.c + i0 * ldc + q0 * NN_NR, ldc, p.row + i0, mr, q0 * NN_NR,
                                    min((q1 - q0) * NN_NR, n - q0 * NN_NR))
                    if p.parts and kb == k_blocks - 1:
                        gather(p, part, i0 - row0, i0, mr, q0 * NN_NR, min((q1 - q0) * NN_NR, n - q0 * NN_NR))


cdef void gemm(const Op* op, int thread, int threads) noexcept nogil:
    """c[m, n] = steps(a[m, k] @ b[k, n]), or c += with accumulate. Sizes: kernels/signatures.py.

    ``packed``: 0: b is row-major with row stride ldb. 1: as pack_b leaves it. 2: element (p, j) is at b[p*ldb + j*cs_b],
    one of the strides 1, and each thread packs the blocks that it uses into its part of ``workspace``: ``share`` elements,
    which WORKSPACE always suffices for. ``by_rows``: threads split the rows alone.

    With ``parts`` (at most m; ldc is n), for each part of the rows of c, in sums[part, n] the sums of its columns; or in
    partial[part, 2, n] their mean and the sum of squared distances from it; or there, with ``normal`` [m, n], the sums of
    c and of c * (normal - mean) * rstd. Threads share the parts, where they would the rows.
    """
    cdef Product p
    cdef Grid g
    cdef int64_t rows, panels = (op.n[1] + NN_NR - 1) // NN_NR
    p.c = <real*>op.p[0]
    p.a = <const real*>op.p[1]
    p.b = <const real*>op.p[2]
    p.steps = <const StepRecord*>op.p[3]
    p.workspace = <real*>op.p[4] + thread * op.n[12] if op.p[4] != NULL else NULL
    p.n_steps = op.n[9]
    p.row = 0
    p.m, p.n, p.k = op.n[0], op.n[1], op.n[2]
    p.rs_a, p.cs_a = op.n[3], op.n[4]
    p.ldb, p.cs_b = op.n[5], op.n[11]
    p.ldc = op.n[7]
    p.most = max(<int64_t>1, min(op.n[10] // NN_NR, <int64_t>NN_NC)) if op.n[10] > 0 else NN_NC
    p.packed, p.packing = op.n[6] == 1, op.n[6] == 2
    p.accumulate = op.n[8] != 0
    p.parts = op.n[14]
    rows = p.m
    if p.m == 0 or p.n == 0:
        return
    if p.parts:
        rows = p.parts
        p.sums = <real*>op.p[5]
        p.partial = <real*>op.p[6]
        p.normal = <const real*>op.p[7]
        p.mean = <const real*>op.p[8]
        p.rstd = <const real*>op.p[9]
    if threads == 1 or op.n[13]:
        split(rows, thread, threads, &g.row0, &g.row1)
        g.panel0, g.panel1 = 0, panels
    else:
        share(&g, rows, (p.m + rows - 1) // rows, panels, not p.packing, thread, threads)
    if g.row0 < g.row1:
        product(&p, &g)


cdef void gemm_batched(const Op* op, int thread, int threads) noexcept nogil:
    """c[i] = steps(a[i] @ b[i]), or c[i] += with accumulate, for matrices i = (o, h) of outer x inner, of which each begins
    at o * outer stride + h * inner stride. Element (p, j) of a matrix is at p * rs + j * cs, of c at p * ldc + j. To the
    steps, matrix i is rows i * m to (i + 1) * m of one matrix.

    Threads share the tiles of rows of all matrices. ``workspace``: ``share`` elements for each
    (nncore.products.workspace), for what is packed of b where its rows do not lie close together.
    """
    cdef Product p
    cdef Grid g
    cdef int64_t m = op.n[0], n = op.n[1], k = op.n[2], inner = op.n[4], rs_b = op.n[11], cs_b = op.n[12]
    cdef int64_t tiles_of_one = (m + NN_MR - 1) // NN_MR, first = 0, last = 0, i, t, end = 0, start = 0
    if m == 0 or n == 0:
        return
    p.steps = <const StepRecord*>op.p[3]
    p.workspace = <real*>op.p[4] + thread * op.n[18]
    p.n_steps = op.n[17]
    p.m, p.n, p.k = m, n, k
    p.rs_a, p.cs_a = op.n[7], op.n[8] if k > 1 else 1       # where there is one row or column, any stride will do
    p.ldb, p.cs_b = rs_b if k > 1 else 1, cs_b if n > 1 else 1
    p.ldc = op.n[15]
    p.most = NN_NC
    p.packed = 0
    p.parts = 0
    p.accumulate = op.n[16] != 0
    g.panel0, g.panel1 = 0, (n + NN_NR - 1) // NN_NR
    split(op.n[3] * inner * tiles_of_one, thread, threads, &first, &last)
    while first < last:
        i = first // tiles_of_one
        t = first - i * tiles_of_one
        split(m, t, tiles_of_one, &g.row0, &end)
        t = min(tiles_of_one, t + last - first)
        split(m, t - 1, tiles_of_one, &start, &g.row1)
        first = i * tiles_of_one + t
        p.c = <real*>op.p[0] + i // inner * op.n[13] + i % inner * op.n[14]
        p.a = <const real*>op.p[1] + i // inner * op.n[5] + i % inner * op.n[6]
        p.b = <const real*>op.p[2] + i // inner * op.n[9] + i % inner * op.n[10]
        p.row = i * m
        p.packing = p.cs_b != 1 or (p.ldb * <int64_t>sizeof(real) >= APART and g.row1 - g.row0 > 2 * NN_MR)
        product(&p, &g)


# ---- pack_b ----
cdef void pack_b(const Op* op, int thread, int threads) noexcept nogil:
    """out[panel][k][NR] = b[k, n], zero padded to whole panels. Threads share panels and stretches of k."""
    cdef real* out = <real*>op.p[0]
    cdef const real* b = <const real*>op.p[1]
    cdef int64_t k = op.n[0], n = op.n[1], rs = op.n[2], cs = op.n[3]
    cdef int64_t panels = (n + NN_NR - 1) // NN_NR, chunks = max(<int64_t>1, k // 64), item, first = 0, last = 0, q
    cdef int64_t k0 = 0, k1 = 0
    split(panels * chunks, thread, threads, &first, &last)
    for item in range(first, last):
        q = item // chunks
        split(k, item - q * chunks, chunks, &k0, &k1)
        pack_panel(b + k0 * rs + q * NN_NR * cs, k1 - k0, <int>min(<int64_t>NN_NR, n - q * NN_NR), rs, cs,
                   out + (q * k + k0) * NN_NR)


TABLE = {"gemm": <size_t>&gemm, "gemm_batched": <size_t>&gemm_batched, "pack_b": <size_t>&pack_b}
LAYOUT = layout()
SIGNATURE = signature()
STEP_LAYOUT = step_layout()
# Block sizes, for whoever allocates packed panels or tests the edges: rows of a tile, columns of a panel, elements of a
# lane vector, the longest block of k (and its bytes), panels in a column block.
globals().update(MR=NN_MR, NR=NN_NR, LANES=LANES, KC=NN_KC, KC_BYTES=NN_KC * sizeof(real), NC=NN_NC,
                 WORKSPACE=NN_NC * NN_NR * NN_KC)
