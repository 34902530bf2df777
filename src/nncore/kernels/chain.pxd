# Steps: what is done to every element of a tile while it is in cache, at the end of a gemm or in the chain kernel.
# nncore/steps.py says what each kind computes and nncore/reference_steps.py computes it in NumPy.
from libc.stdint cimport int64_t
from nncore.vector cimport LANES, real, vand, vandnot, veq, vf, vge, vgt, vi, vload, vselect, vsplat, vstore
from nncore.vector cimport vabs, vsqrt
from libc.string cimport memcpy

cdef enum:                  # in the order of nncore.steps.KINDS
    ADD_ROW, MUL_ROW, ADD, SUB, MUL, DIV, SCALE, SHIFT, STORE, DROPOUT, MAXIMUM, MINIMUM, MAX_MASK
    SQUARE, SQRT, RECIPROCAL, ABS, SIGN, LOG
    RELU, LEAKY_RELU, ELU, SELU, GELU, GELU_TANH, SILU, SIGMOID, HARD_SIGMOID, TANH, SOFTPLUS, SOFTSIGN, MISH
    EXPONENTIAL
    D_RELU, D_LEAKY_RELU, D_ELU, D_SELU, D_GELU, D_GELU_TANH, D_SILU, D_SIGMOID, D_HARD_SIGMOID, D_TANH, D_SOFTPLUS
    D_SOFTSIGN, D_MISH, D_EXPONENTIAL

cdef struct StepRecord:     # nncore.steps.RECORD
    int64_t kind
    void* p
    void* q
    int64_t ld              # elements from one row of p and q to the next
    int64_t index           # dropout: number of the random stream
    int64_t width           # dropout: elements in a row of the whole matrix
    double s0
    double s1

cdef extern from *:
    """
    /* t = f(t, p, q, a) for rows x cols elements; cols is a multiple of LANES. A macro, so that f is a direct call. */
    #define each(f, t, ld, p, q, ldp, rows, cols, a) do { \\
        for (int64_t r_ = 0; r_ < (rows); ++r_) { \\
            real *t_ = (t) + r_ * (ld); const real *p_ = (p) + r_ * (ldp), *q_ = (q) + r_ * (ldp); \\
            for (int64_t c_ = 0; c_ < (cols); c_ += LANES) \\
                vstore(t_ + c_, f(vload(t_ + c_), vload(p_ + c_), vload(q_ + c_), a)); } } while (0)
    """
    ctypedef vf (*Each)(vf v, vf p, vf q, vf a) noexcept nogil
    void each(Each f, real* t, int64_t ld, const real* p, const real* q, int64_t ldp, int64_t rows, int64_t cols, vf a) noexcept nogil

# What each kind does to a lane vector v: p and q are the operands' elements, a is s0.
cdef inline vf do_add(vf v, vf p, vf q, vf a) noexcept nogil:
    return v + p

cdef inline vf do_sub(vf v, vf p, vf q, vf a) noexcept nogil:
    return v - p

cdef inline vf do_mul(vf v, vf p, vf q, vf a) noexcept nogil:
    return v * p

cdef inline vf do_scale(vf v, vf p, vf q, vf a) noexcept nogil:
    return v * a

cdef inline vf do_shift(vf v, vf p, vf q, vf a) noexcept nogil:
    return v + a

cdef inline vf do_relu(vf v, vf p, vf q, vf a) noexcept nogil:
    return vselect(vgt(vsplat(0), v), vsplat(0), v)     # this way round a NaN stays one

cdef inline vf do_d_relu(vf v, vf p, vf q, vf a) noexcept nogil:
    return vselect(vgt(p, vsplat(0)), v, vsplat(0))


cdef inline void run_step(const StepRecord* step, real* t, int64_t ld, const real* p, const real* q, int64_t ldp,
                          int64_t row0, int64_t rows, int64_t col0, int64_t cols) noexcept nogil:
    """One step on whole lane vectors: ``cols`` is a multiple of LANES; ``t``, ``p``, ``q`` point at the tile's first element."""
    cdef int64_t kind = step.kind, r
    cdef vf a = vsplat(<real>step.s0)
    if kind == ADD_ROW or kind == ADD:
        each(do_add, t, ld, p, q, ldp, rows, cols, a)
    elif kind == MUL_ROW or kind == MUL:
        each(do_mul, t, ld, p, q, ldp, rows, cols, a)
    elif kind == SUB:
        each(do_sub, t, ld, p, q, ldp, rows, cols, a)
    elif kind == SCALE:
        each(do_scale, t, ld, p, q, ldp, rows, cols, a)
    elif kind == SHIFT:
        each(do_shift, t, ld, p, q, ldp, rows, cols, a)
    elif kind == STORE:
        for r in range(rows):
            memcpy(<real*>p + r * ldp, t + r * ld, cols * sizeof(real))
    elif kind == RELU:
        each(do_relu, t, ld, p, q, ldp, rows, cols, a)
    elif kind == D_RELU:
        each(do_d_relu, t, ld, p, q, ldp, rows, cols, a)


cdef enum:
    EDGE_ROWS = 32          # rows of a tile's edge that are packed at a time


cdef inline void pack_edge(real* edge, const real* x, int64_t ld, int64_t rows, int64_t cols) noexcept nogil:
    cdef int64_t r, c
    for r in range(rows):
        for c in range(LANES):
            edge[r * LANES + c] = x[r * ld + c] if c < cols else <real>0


cdef inline void unpack_edge(real* x, const real* edge, int64_t ld, int64_t rows, int64_t cols) noexcept nogil:
    cdef int64_t r, c
    for r in range(rows):
        for c in range(cols):
            x[r * ld + c] = edge[r * LANES + c]


cdef inline void run_edge(const StepRecord* step, real* t, int64_t ld, const real* p, const real* q, int64_t ldp,
                          int64_t row0, int64_t rows, int64_t col0, int64_t cols) noexcept nogil:
    """One step on fewer than LANES columns: packed to whole vectors, so that the same code gives the same bits."""
    cdef real[EDGE_ROWS * 16] t_lanes, p_lanes, q_lanes
    cdef real* t_edge = t_lanes
    cdef real* p_edge = t_lanes
    cdef real* q_edge = t_lanes
    cdef int64_t r, n, ld_edge = LANES if ldp else 0
    if p != t:
        p_edge = p_lanes
    if q != t:
        q_edge = q_lanes
    for r in range(0, rows, 32):
        n = rows - r if rows - r < EDGE_ROWS else EDGE_ROWS
        pack_edge(t_edge, t + r * ld, ld, n, cols)
        if step.kind == STORE:
            unpack_edge(<real*>p + r * ldp, t_edge, ldp, n, cols)
            continue
        if p != t:
            pack_edge(p_edge, p + r * ldp, ldp, n if ldp else 1, cols)
        if q != t:
            pack_edge(q_edge, q + r * ldp, ldp, n if ldp else 1, cols)
        run_step(step, t_edge, LANES, p_edge, q_edge, ld_edge, row0 + r, n, col0, LANES)
        unpack_edge(t + r * ld, t_edge, ld, n, cols)


cdef inline void apply_steps(const StepRecord* steps, int64_t n_steps, real* tile, int64_t ld, int64_t row0,
                             int64_t rows, int64_t col0, int64_t cols) noexcept nogil:
    """Do the steps, in order, in place, on a tile of a matrix.

    ``tile`` points at element (row0, col0) and has row stride ``ld``; operands are whole matrices (or, for add_row and
    mul_row, whole rows). An element's bits do not depend on the tile that it is in.
    """
    cdef const StepRecord* step
    cdef const real* p
    cdef const real* q
    cdef int64_t i, ldp, full = cols - cols % LANES
    for i in range(n_steps):
        step = &steps[i]
        p = tile
        q = tile
        ldp = ld
        if step.kind == ADD_ROW or step.kind == MUL_ROW:
            p = <const real*>step.p + col0
            ldp = 0
        elif step.p != NULL and step.kind != DROPOUT:
            p = <const real*>step.p + row0 * step.ld + col0
            ldp = step.ld
            if step.q != NULL:
                q = <const real*>step.q + row0 * step.ld + col0
        if full:
            run_step(step, tile, ld, p, q, ldp, row0, rows, col0, full)
        if full < cols:
            run_edge(step, tile + full, ld, p + full, q + full, ldp, row0, rows, col0 + full, cols - full)
