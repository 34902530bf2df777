# Steps: what is done to every element of a tile while it is in cache, at the end of a gemm or in the chain kernel.
# nncore/steps.py says what each kind computes, nncore/reference_steps.py computes it in NumPy.
from libc.stdint cimport int64_t
from libc.string cimport memcpy
from nncore.kernels.lanes cimport fetch, load_part, store_part
from nncore.kernels.philox cimport dropout
from nncore.kernels.update cimport Rule, adam_step, momentum_step, sgd_step
from nncore.mathematics cimport (vd_elu, vd_gelu, vd_gelu_tanh, vd_hard_sigmoid, vd_mish, vd_selu, vd_sigmoid, vd_silu,
                                 vd_softsign, vd_tanh, velu, vgelu, vgelu_tanh, vhard_sigmoid, vleaky_relu, vmish,
                                 vrelu, vselu, vsilu, vsoftsign)
from nncore.vector cimport (LANES, real, vabs, vand, vdiv, veq, vexp, vf, vge, vgt, vi, vload, vlog, vselect, vsigmoid,
                            vsoftplus, vsplat, vsqrt, vstore, vtanh)

cdef enum:                  # in the order of nncore.steps.KINDS
    ADD_ROW, MUL_ROW, SCALE_SHIFT_ROW, NORM_GRAD, ADD, SUB, MUL, DIV, SCALE, SHIFT, STORE, DROPOUT, MAXIMUM, MINIMUM, MAX_MASK
    SQUARE, SQRT, RECIPROCAL, ABS, SIGN, LOG
    RELU, LEAKY_RELU, ELU, SELU, GELU, GELU_TANH, SILU, SIGMOID, HARD_SIGMOID, TANH, SOFTPLUS, SOFTSIGN, MISH
    EXPONENTIAL
    D_RELU, D_LEAKY_RELU, D_ELU, D_SELU, D_GELU, D_GELU_TANH, D_SILU, D_SIGMOID, D_HARD_SIGMOID, D_TANH, D_SOFTPLUS
    D_SOFTSIGN, D_MISH, D_EXPONENTIAL
    STEP_SGD, STEP_ADAM, STEP_KINDS

cdef struct StepRecord:     # nncore.steps.RECORD
    int64_t kind
    void* p
    void* q
    void* r
    void* rule              # sgd, adam: the numbers of this optimizer step
    int64_t ld              # elements from one row of p and q to the next
    int64_t index           # dropout: number of the random stream
    int64_t width           # dropout: elements in a row of the whole matrix
    double s0
    double s1


cdef inline int step_layout() noexcept nogil:
    """As nncore.op.layout, for families that apply steps: nncore.steps.LAYOUT."""
    return <int>sizeof(StepRecord) * 100 + STEP_KINDS


cdef struct Tile:           # rows x cols elements; cols is a multiple of LANES
    const real* v           # the first element of what is read, t in place; ldv: elements from one row to the next
    real* t                 # the first element of the result, with row stride ld
    const real* p           # the first of the operands (t where there is none), with row stride ldp
    const real* q
    int64_t ldv
    int64_t ld
    int64_t ldp
    int64_t rows
    int64_t cols

cdef extern from *:
    """
    /* Macros, so that f is called directly, and inlined. The operands that f does not use are not loaded. */
    #define nn_each(tile, expression) do { \\
        for (int64_t r_ = 0; r_ < (tile)->rows; ++r_) { \\
            real *t_ = (tile)->t + r_ * (tile)->ld; \\
            const real *v_ = (tile)->v + r_ * (tile)->ldv; \\
            const real *p_ = (tile)->p + r_ * (tile)->ldp, *q_ = (tile)->q + r_ * (tile)->ldp; \\
            for (int64_t c_ = 0; c_ < (tile)->cols; c_ += LANES) { \\
                const vf v = vload(v_ + c_), p = vload(p_ + c_), q = vload(q_ + c_); \\
                (void)v; (void)p; (void)q; vstore(t_ + c_, expression); } } } while (0)
    #define each_map(tile, f) nn_each(tile, f(v))
    #define each_scaled(tile, f, a) nn_each(tile, f(v, a))
    #define each_pair(tile, f) nn_each(tile, f(v, p, q))
    #define each_slope(tile, f) nn_each(tile, v * f(p))
    #define each_scaled_slope(tile, f, a) nn_each(tile, v * f(p, a))
    """
    ctypedef vf (*Map)(vf v) noexcept nogil
    ctypedef vf (*Scaled)(vf v, vf a) noexcept nogil
    ctypedef vf (*Pair)(vf v, vf p, vf q) noexcept nogil
    void each_map(const Tile* tile, Map f) noexcept nogil                       # v = f(v)
    void each_scaled(const Tile* tile, Scaled f, vf a) noexcept nogil           # v = f(v, a)
    void each_pair(const Tile* tile, Pair f) noexcept nogil                     # v = f(v, p, q)
    void each_slope(const Tile* tile, Map f) noexcept nogil                     # v *= f(p)
    void each_scaled_slope(const Tile* tile, Scaled f, vf a) noexcept nogil     # v *= f(p, a)


cdef inline vf add(vf v, vf p, vf q) noexcept nogil:
    return v + p

cdef inline vf scale_shift(vf v, vf p, vf q) noexcept nogil:
    return v * p + q

cdef inline vf subtract(vf v, vf p, vf q) noexcept nogil:
    return v - p

cdef inline vf multiply(vf v, vf p, vf q) noexcept nogil:
    return v * p

cdef inline vf divide(vf v, vf p, vf q) noexcept nogil:
    return vdiv(v, p)

cdef inline vf maximum(vf v, vf p, vf q) noexcept nogil:
    return vselect(vgt(v, p) | ~veq(v, v), v, p)        # NaN if either is

cdef inline vf minimum(vf v, vf p, vf q) noexcept nogil:
    return vselect(vgt(p, v) | ~veq(v, v), v, p)

cdef inline vf max_mask(vf v, vf p, vf q) noexcept nogil:
    return vand(vge(p, q), v)

cdef inline vf d_relu(vf v, vf y, vf q) noexcept nogil:
    return vand(vgt(y, vsplat(0)), v)

cdef inline vf scale(vf v, vf a) noexcept nogil:
    return v * a

cdef inline vf shift(vf v, vf a) noexcept nogil:
    return v + a

cdef inline vf square(vf v) noexcept nogil:
    return v * v

cdef inline vf reciprocal(vf v) noexcept nogil:
    return vdiv(vsplat(1.0), v)

cdef inline vf sign(vf v) noexcept nogil:
    return vselect(vgt(v, vsplat(0)), vsplat(1.0), vselect(vgt(vsplat(0), v), vsplat(-1.0), v))

cdef inline vf d_leaky_relu(vf y, vf slope) noexcept nogil:
    return vselect(vgt(y, vsplat(0)), vsplat(1.0), slope)

cdef inline vf itself(vf y) noexcept nogil:
    return y


cdef inline void run_step(int64_t kind, vf a, const Tile* tile) noexcept nogil:
    """One step on whole lane vectors; ``a`` is s0."""
    if kind == ADD_ROW or kind == ADD:
        each_pair(tile, add)
    elif kind == MUL_ROW or kind == MUL:
        each_pair(tile, multiply)
    elif kind == SCALE_SHIFT_ROW:
        each_pair(tile, scale_shift)
    elif kind == SUB:
        each_pair(tile, subtract)
    elif kind == DIV:
        each_pair(tile, divide)
    elif kind == SCALE:
        each_scaled(tile, scale, a)
    elif kind == SHIFT:
        each_scaled(tile, shift, a)
    elif kind == MAXIMUM:
        each_pair(tile, maximum)
    elif kind == MINIMUM:
        each_pair(tile, minimum)
    elif kind == MAX_MASK:
        each_pair(tile, max_mask)
    elif kind == SQUARE:
        each_map(tile, square)
    elif kind == SQRT:
        each_map(tile, vsqrt)
    elif kind == RECIPROCAL:
        each_map(tile, reciprocal)
    elif kind == ABS:
        each_map(tile, vabs)
    elif kind == SIGN:
        each_map(tile, sign)
    elif kind == LOG:
        each_map(tile, vlog)
    elif kind == RELU:
        each_map(tile, vrelu)
    elif kind == LEAKY_RELU:
        each_scaled(tile, vleaky_relu, a)
    elif kind == ELU:
        each_scaled(tile, velu, a)
    elif kind == SELU:
        each_map(tile, vselu)
    elif kind == GELU:
        each_map(tile, vgelu)
    elif kind == GELU_TANH:
        each_map(tile, vgelu_tanh)
    elif kind == SILU:
        each_map(tile, vsilu)
    elif kind == SIGMOID:
        each_map(tile, vsigmoid)
    elif kind == HARD_SIGMOID:
        each_map(tile, vhard_sigmoid)
    elif kind == TANH:
        each_map(tile, vtanh)
    elif kind == SOFTPLUS:
        each_map(tile, vsoftplus)
    elif kind == SOFTSIGN:
        each_map(tile, vsoftsign)
    elif kind == MISH:
        each_map(tile, vmish)
    elif kind == EXPONENTIAL:
        each_map(tile, vexp)
    elif kind == D_RELU:
        each_pair(tile, d_relu)
    elif kind == D_LEAKY_RELU:
        each_scaled_slope(tile, d_leaky_relu, a)
    elif kind == D_ELU:
        each_scaled_slope(tile, vd_elu, a)
    elif kind == D_SELU:
        each_slope(tile, vd_selu)
    elif kind == D_GELU:
        each_slope(tile, vd_gelu)
    elif kind == D_GELU_TANH:
        each_slope(tile, vd_gelu_tanh)
    elif kind == D_SILU:
        each_slope(tile, vd_silu)
    elif kind == D_SIGMOID:
        each_slope(tile, vd_sigmoid)
    elif kind == D_HARD_SIGMOID:
        each_slope(tile, vd_hard_sigmoid)
    elif kind == D_TANH:
        each_slope(tile, vd_tanh)
    elif kind == D_SOFTPLUS:
        each_slope(tile, vsigmoid)
    elif kind == D_SOFTSIGN:
        each_slope(tile, vd_softsign)
    elif kind == D_MISH:
        each_slope(tile, vd_mish)
    elif kind == D_EXPONENTIAL:
        each_slope(tile, itself)


cdef enum:
    EDGE_ROWS = 16          # rows of a tile's edge that are packed at a time


cdef inline void pack_edge(real* edge, const real* x, int64_t ld, int64_t rows, int64_t cols) noexcept nogil:
    cdef int64_t r, c
    for r in range(rows):
        for c in range(LANES):
            edge[r * LANES + c] = x[r * ld + c] if c < cols else <real>0


cdef inline void unpack_edge(real* x, const real* edge, int64_t ld, int64_t rows, int64_t cols) noexcept nogil:
    cdef int64_t r, c
    for r in range(rows):
        for c in range(LANES):
            if c < cols:
                x[r * ld + c] = edge[r * LANES + c]


cdef inline void run_edge(int64_t kind, vf a, const Tile* tile) noexcept nogil:
    """One step on fewer than LANES columns, packed to whole vectors: the same code gives the same bits."""
    cdef real[EDGE_ROWS * 16] t, p, q
    cdef Tile edge
    cdef bint has_p = tile.p != tile.v, has_q = tile.q != tile.v
    cdef int64_t r, n
    edge.v = t
    edge.t = t
    edge.p = t
    edge.q = t
    if has_p:
        edge.p = p
    if has_q:
        edge.q = q
    edge.ldv = LANES
    edge.ld = LANES
    edge.ldp = LANES if tile.ldp else 0
    edge.cols = LANES
    for r in range(0, tile.rows, 16):
        n = tile.rows - r if tile.rows - r < EDGE_ROWS else EDGE_ROWS
        edge.rows = n
        pack_edge(t, tile.v + r * tile.ldv, tile.ldv, n, tile.cols)
        if has_p:
            pack_edge(p, tile.p + r * tile.ldp, tile.ldp, n if tile.ldp else 1, tile.cols)
        if has_q:
            pack_edge(q, tile.q + r * tile.ldp, tile.ldp, n, tile.cols)
        run_step(kind, a, &edge)
        unpack_edge(tile.t + r * tile.ld, t, tile.ld, n, tile.cols)


cdef inline void norm_grad_tile(const StepRecord* step, real* t, int64_t ld, int64_t row0, int64_t rows, int64_t col0,
                                int64_t cols) noexcept nogil:
    """In place, a vector of columns at a time: its factors stay in registers."""
    cdef const real* x = <const real*>step.p + row0 * step.ld + col0
    cdef const real* factors = <const real*>step.q + col0
    cdef vf scale, slope, shift
    cdef int64_t c = 0, r, width
    while c < cols:
        width = cols - c
        scale = load_part(factors + c, width, width, 0)
        slope = load_part(factors + step.width + c, width, width, 0)
        shift = load_part(factors + 2 * step.width + c, width, width, 0)
        if width >= LANES:
            for r in range(rows):
                vstore(t + r * ld + c, vload(t + r * ld + c) * scale + (vload(x + r * step.ld + c) * slope + shift))
        else:
            for r in range(rows):
                store_part(t + r * ld + c, load_part(t + r * ld + c, width, width, 0) * scale
                           + (load_part(x + r * step.ld + c, width, width, 0) * slope + shift), width)
        c += LANES


cdef inline void update_part(const Rule* rule, int64_t kind, real* w, real* m, real* v, const real* g,
                             int64_t width) noexcept nogil:
    """The optimizer's step for at most LANES weights."""
    cdef vf gi = load_part(g, width, width, 0), wi = load_part(w, width, width, 0), mi, vi
    if kind == STEP_ADAM:
        mi = load_part(m, width, width, 0)
        vi = load_part(v, width, width, 0)
        wi = adam_step(rule, wi, &mi, &vi, gi)
        store_part(m, mi, width)
        store_part(v, vi, width)
    elif m != NULL:
        mi = load_part(m, width, width, 0)
        wi = momentum_step(rule, wi, &mi, gi)
        store_part(m, mi, width)
    else:
        wi = sgd_step(rule, wi, gi)
    store_part(w, wi, width)


cdef inline void update_tile(const StepRecord* step, const real* g, int64_t ld, int64_t row0, int64_t rows, int64_t col0,
                             int64_t cols) noexcept nogil:
    """The optimizer's step for the weights whose gradient the tile is."""
    cdef Rule rule = (<const Rule*>step.rule)[0]
    cdef real* w = <real*>step.p
    cdef real* m = <real*>step.q
    cdef real* v = <real*>step.r
    cdef int64_t i, r, c
    for r in range(rows):
        i = (row0 + r) * step.ld + col0
        c = 0
        if step.kind == STEP_ADAM:
            while c <= cols - LANES:
                update_part(&rule, STEP_ADAM, w + i + c, m + i + c, v + i + c, g + r * ld + c, LANES)
                c += LANES
        while c < cols:
            update_part(&rule, step.kind, w + i + c, m + i + c if m != NULL else NULL, v + i + c if v != NULL else NULL,
                        g + r * ld + c, cols - c)
            c += LANES


cdef inline void copy_tile(real* t, int64_t ld, const real* x, int64_t ldx, int64_t rows, int64_t cols) noexcept nogil:
    cdef int64_t r
    if ld == cols and ldx == cols:
        cols *= rows
        rows = 1
    for r in range(rows):
        memcpy(t + r * ld, x + r * ldx, cols * sizeof(real))


cdef inline void apply_steps_to(const real* x, int64_t ldx, const StepRecord* steps, int64_t n_steps, real* tile,
                                int64_t ld, int64_t row0, int64_t rows, int64_t col0, int64_t cols) noexcept nogil:
    """tile = steps(x), ``x`` being the same tile of another matrix; else as apply_steps."""
    cdef const StepRecord* step
    cdef const real* p
    cdef Tile part
    cdef int64_t i, kind, rest
    cdef vf a
    cdef bint flat
    for i in range(n_steps):
        step = &steps[i]
        kind = step.kind
        # These work in place.
        if x != tile and (kind == DROPOUT or kind == STORE or kind == NORM_GRAD or kind >= STEP_SGD):
            copy_tile(tile, ld, x, ldx, rows, cols)
            x = tile
            ldx = ld
        if kind == DROPOUT:
            flat = ld == cols and step.width == cols
            dropout(tile, ld, row0 * step.width + col0, step.width, 1 if flat else rows, rows * cols if flat else cols,
                    <const int64_t*>step.p, step.index, step.s0, step.s1)
            continue
        if kind == STEP_SGD or kind == STEP_ADAM:
            update_tile(step, tile, ld, row0, rows, col0, cols)
            continue
        if kind == NORM_GRAD:
            norm_grad_tile(step, tile, ld, row0, rows, col0, cols)
            continue
        p = <const real*>step.p
        if kind == STORE:
            copy_tile(<real*>p + row0 * step.ld + col0, step.ld, tile, ld, rows, cols)
            continue
        a = vsplat(<real>step.s0)
        part.v = x
        part.t = tile
        part.p = x
        part.q = x
        part.ldv = ldx
        part.ld = ld
        part.ldp = ldx
        part.rows = rows
        part.cols = cols
        if kind == ADD_ROW or kind == MUL_ROW:
            if cols == 1:                   # the same number for all: a flat array may follow
                a = vsplat(p[col0])
                kind = SHIFT if kind == ADD_ROW else SCALE
            else:
                part.p = p + col0
                part.ldp = 0
        elif kind == SCALE_SHIFT_ROW:
            part.p = p + col0
            part.q = <const real*>step.q + col0
            part.ldp = 0
        elif p != NULL:
            part.p = p + row0 * step.ld + col0
            part.ldp = step.ld
            if step.q != NULL:
                part.q = <const real*>step.q + row0 * step.ld + col0
        if ld == cols and ldx == cols and part.ldp == cols:
            part.rows = 1
            part.cols = rows * cols
        rest = part.cols % LANES
        part.cols -= rest
        if part.cols:
            run_step(kind, a, &part)
        if rest:
            part.v += part.cols
            part.t += part.cols
            part.p += part.cols
            part.q += part.cols
            part.cols = rest
            run_edge(kind, a, &part)
        x = tile
        ldx = ld
    if x != tile:
        copy_tile(tile, ld, x, ldx, rows, cols)


cdef inline void apply_steps(const StepRecord* steps, int64_t n_steps, real* tile, int64_t ld, int64_t row0,
                             int64_t rows, int64_t col0, int64_t cols) noexcept nogil:
    """Do the steps, in order, in place, on a tile of a matrix.

    ``tile`` points at element (row0, col0) and has row stride ``ld``; operands are whole matrices (or, for add_row and
    mul_row, one whole row). An element's bits do not depend on the tile that it is in.
    """
    apply_steps_to(tile, ld, steps, n_steps, tile, ld, row0, rows, col0, cols)


cdef inline void fetch_operands(const StepRecord* steps, int64_t n_steps, int64_t row0, int64_t rows, int64_t col0,
                                int64_t cols) noexcept nogil:
    """Let what the steps will read of whole matrices for this tile be in L2 soon."""
    cdef const StepRecord* step
    cdef int64_t i
    for i in range(n_steps):
        step = &steps[i]
        if (ADD <= step.kind <= DIV or MAXIMUM <= step.kind <= MAX_MASK or D_RELU <= step.kind <= D_EXPONENTIAL):
            fetch(<const real*>step.p + row0 * step.ld + col0, rows, step.ld, cols)
