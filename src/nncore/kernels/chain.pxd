# Steps: what is done to every element of a tile while it is in cache, at the end of a gemm or in the chain kernel.
# nncore/functions.py says what each function computes, nncore/reference_steps.py computes it in NumPy.
from libc.stdint cimport int64_t
from libc.string cimport memcpy
from nncore.kernels.lanes cimport LANE_NUMBER, fetch, load_part, store_part
from nncore.kernels.philox cimport dropout
from nncore.kernels.update cimport MOST_SLOTS, Rule, Update, columns_of, run_rule
from nncore.vector cimport LANES, real, vf, vge, vi, vload, vselect, vsplat, vstore

cdef enum:                  # kinds; nncore.kernels.steps exports them
    MAP                     # ``function`` does it
    STORE, SAVE, DROPOUT, NORM_GRAD, UPDATE, STEP_KINDS

cdef enum:
    TEMPORARIES = 8         # tiles that a chain can keep for later steps


cdef struct OperandRecord:  # nncore.steps.OPERAND: element (row, col) is at data[row' * ld + col * cs], where row' is
    const real* data        # row // div, and then its rest by mod if that is not 0
    int64_t ld
    int64_t cs
    int64_t div
    int64_t mod
    int64_t temporary       # 0: memory; 1 + the number of the temporary tile that it is

cdef struct Tile:           # rows x cols elements; cols is a multiple of LANES
    const real* v           # the first element of what is read, t in place; ldv: elements from one row to the next
    real* t                 # the first element of the result, with row stride ld
    const real* p           # the first of the operands, with row strides ldp and ldq
    const real* q
    int64_t ldv
    int64_t ld
    int64_t ldp
    int64_t ldq
    int64_t csp             # 1: an operand has an element for each column; 0: one number for a row
    int64_t csq
    int64_t rows
    int64_t cols
    real s0
    real s1

ctypedef void (*TileFunction)(const Tile* tile) noexcept nogil

cdef struct StepRecord:     # nncore.steps.RECORD
    int64_t kind
    TileFunction function   # of nncore.kernels.steps; update: the rule, of nncore.kernels.optimizer
    OperandRecord p
    OperandRecord q
    real* slots[MOST_SLOTS] # update: of the weights p, with the same row stride
    const int64_t* state    # dropout, update
    int64_t index           # dropout: number of the random stream; update: the rule's first column
    int64_t width           # dropout: elements in a row of the whole matrix; update: columns in the table
    double s0
    double s1


cdef inline int step_layout() noexcept nogil:
    """As nncore.op.layout, for families that apply steps: nncore.steps.LAYOUT."""
    return <int>sizeof(StepRecord) * 1000 + 10 * TEMPORARIES + STEP_KINDS


cdef enum:
    EDGE_ROWS = 16          # rows of a tile's edge that are packed at a time


cdef inline void pack_edge(real* edge, const real* x, int64_t ld, int64_t cs, int64_t rows, int64_t cols) noexcept nogil:
    cdef int64_t r, c
    for r in range(rows):
        for c in range(LANES):
            edge[r * LANES + c] = x[r * ld + c * cs] if c < cols else <real>0


cdef inline void unpack_edge(real* x, const real* edge, int64_t ld, int64_t rows, int64_t cols) noexcept nogil:
    cdef int64_t r, c
    for r in range(rows):
        for c in range(LANES):
            if c < cols:
                x[r * ld + c] = edge[r * LANES + c]


cdef inline void run_edge(TileFunction function, const Tile* tile) noexcept nogil:
    """One step on at most LANES columns, packed to whole vectors: the same code gives the same bits."""
    cdef real[EDGE_ROWS * 16] t, p, q
    cdef Tile edge = tile[0]
    cdef bint pack_p = tile.p != NULL and tile.csp != 0, pack_q = tile.q != NULL and tile.csq != 0
    cdef int64_t r, n
    edge.v = t
    edge.t = t
    edge.ldv = LANES
    edge.ld = LANES
    edge.cols = LANES
    if pack_p:
        edge.p = p
        edge.csp = 1
        edge.ldp = LANES if tile.ldp else 0
    if pack_q:
        edge.q = q
        edge.csq = 1
        edge.ldq = LANES if tile.ldq else 0
    for r in range(0, tile.rows, 16):
        n = tile.rows - r if tile.rows - r < EDGE_ROWS else EDGE_ROWS
        edge.rows = n
        pack_edge(t, tile.v + r * tile.ldv, tile.ldv, 1, n, tile.cols)
        if pack_p:
            pack_edge(p, tile.p + r * tile.ldp, tile.ldp, tile.csp, n if tile.ldp else 1, tile.cols)
        elif tile.p != NULL:
            edge.p = tile.p + r * tile.ldp
        if pack_q:
            pack_edge(q, tile.q + r * tile.ldq, tile.ldq, tile.csq, n if tile.ldq else 1, tile.cols)
        elif tile.q != NULL:
            edge.q = tile.q + r * tile.ldq
        function(&edge)
        unpack_edge(tile.t + r * tile.ld, t, tile.ld, n, tile.cols)


cdef inline int64_t locate(const OperandRecord* operand, const real* temporary, int64_t room, int64_t row, int64_t col,
                           int64_t cols, const real** data, int64_t* ld, int64_t* cs) noexcept nogil:
    """Where an operand's element (row, col) is, and its strides from there on. Returns for how many rows they hold.

    ``temporary``: the temporary tiles at that row of the tile, ``room`` elements apart, whose rows have ``cols``."""
    cdef int64_t group = row, left = 1 << 62
    cs[0] = operand.cs
    ld[0] = operand.ld
    if operand.temporary:
        data[0] = temporary + (operand.temporary - 1) * room
        ld[0] = cols
    elif operand.div == 1 and operand.mod == 0:
        data[0] = operand.data + row * operand.ld + col * operand.cs if operand.data != NULL else NULL
    else:
        group = row // operand.div
        if operand.div > 1:
            left = (group + 1) * operand.div - row
            ld[0] = 0
        if operand.mod:
            group = group % operand.mod
            if operand.div == 1:
                left = operand.mod - group
        data[0] = operand.data + group * operand.ld + col * operand.cs
    if cols == 1:           # so that a flat array may follow
        cs[0] = ld[0] != 0
    return left


cdef inline bint flat_with(const real* data, int64_t ld, int64_t cs, int64_t cols) noexcept nogil:
    """Whether an operand goes on from one row to the next as it does inside of a row."""
    return data == NULL or (ld == cols and cs == 1) or (ld == 0 and cs == 0)


cdef inline void run_rows(TileFunction function, const Tile* tile) noexcept nogil:
    """One step on rows whose operands have constant strides."""
    cdef Tile part = tile[0]
    cdef int64_t rest
    if (tile.p != NULL and tile.csp != 0 and tile.csp != 1) or (tile.q != NULL and tile.csq != 0 and tile.csq != 1):
        rest = tile.cols                            # strided: some columns at a time are packed
        while rest > 0:
            part.cols = rest if rest < LANES else LANES
            run_edge(function, &part)
            part.v += LANES
            part.t += LANES
            if part.p != NULL:
                part.p += LANES * part.csp
            if part.q != NULL:
                part.q += LANES * part.csq
            rest -= LANES
        return
    if (tile.ld == tile.cols and tile.ldv == tile.cols and flat_with(tile.p, tile.ldp, tile.csp, tile.cols)
            and flat_with(tile.q, tile.ldq, tile.csq, tile.cols)):
        part.rows = 1
        part.cols = tile.rows * tile.cols
    rest = part.cols % LANES
    part.cols -= rest
    if part.cols:
        function(&part)
    if rest:
        part.v += part.cols
        part.t += part.cols
        if part.p != NULL:
            part.p += part.cols * part.csp
        if part.q != NULL:
            part.q += part.cols * part.csq
        part.cols = rest
        run_edge(function, &part)


cdef inline void run_function(const StepRecord* step, Tile* tile, const real* temporary, int64_t room, int64_t row,
                              int64_t col) noexcept nogil:
    """One step on a tile that begins at (row, col), of which v, t and their strides are set."""
    cdef int64_t rows = tile.rows, left, other
    tile.s0 = <real>step.s0
    tile.s1 = <real>step.s1
    while rows > 0:
        left = locate(&step.p, temporary, room, row, col, tile.cols, &tile.p, &tile.ldp, &tile.csp)
        other = locate(&step.q, temporary, room, row, col, tile.cols, &tile.q, &tile.ldq, &tile.csq)
        left = left if left < other else other
        tile.rows = left if left < rows else rows
        run_rows(step.function, tile)
        rows -= tile.rows
        row += tile.rows
        tile.v += tile.rows * tile.ldv
        tile.t += tile.rows * tile.ld
        if temporary != NULL:
            temporary += tile.rows * tile.cols


cdef inline void norm_grad_tile(const StepRecord* step, real* t, int64_t ld, int64_t row0, int64_t rows, int64_t col0,
                                int64_t cols) noexcept nogil:
    """In place, a vector of columns at a time: its factors stay in registers. The last ones, fewer than a vector, go
    through one that begins before them, whose other lanes are kept."""
    cdef const real* x = step.p.data + row0 * step.p.ld + col0
    cdef const real* factors = step.q.data + col0
    cdef vf scale, slope, shift, old
    cdef vi fresh
    cdef int64_t c = 0, r, width
    while c < cols:
        width = cols - c
        if width < LANES <= cols:
            c = cols - LANES
            scale = vload(factors + c)
            slope = vload(factors + step.width + c)
            shift = vload(factors + 2 * step.width + c)
            fresh = vge(vload(LANE_NUMBER), vsplat(<real>(LANES - width)))
            for r in range(rows):
                old = vload(t + r * ld + c)
                vstore(t + r * ld + c, vselect(fresh, old * scale + (vload(x + r * step.p.ld + c) * slope + shift), old))
            return
        scale = load_part(factors + c, width, width, 0)
        slope = load_part(factors + step.width + c, width, width, 0)
        shift = load_part(factors + 2 * step.width + c, width, width, 0)
        if width >= LANES:
            for r in range(rows):
                vstore(t + r * ld + c, vload(t + r * ld + c) * scale + (vload(x + r * step.p.ld + c) * slope + shift))
        else:
            for r in range(rows):
                store_part(t + r * ld + c, load_part(t + r * ld + c, width, width, 0) * scale
                           + (load_part(x + r * step.p.ld + c, width, width, 0) * slope + shift), width)
        c += LANES


cdef inline void update_tile(const StepRecord* step, const real* g, int64_t ld, int64_t row0, int64_t rows, int64_t col0,
                             int64_t cols) noexcept nogil:
    """The optimizer's step for the weights whose gradient the tile is."""
    cdef Update part
    cdef int64_t i, at = row0 * step.p.ld + col0
    part.w = <real*>step.p.data + at
    for i in range(MOST_SLOTS):
        part.slots[i] = step.slots[i] + at if step.slots[i] != NULL else NULL
    part.g = g
    part.columns = columns_of(step.state, step.width, step.index)
    part.ld = step.p.ld
    part.ldg = ld
    part.rows = rows
    part.cols = cols
    part.scale = 1
    run_rule(<Rule>step.function, &part)


cdef inline void copy_tile(real* t, int64_t ld, const real* x, int64_t ldx, int64_t rows, int64_t cols) noexcept nogil:
    cdef int64_t r
    if ld == cols and ldx == cols:
        cols *= rows
        rows = 1
    for r in range(rows):
        memcpy(t + r * ld, x + r * ldx, cols * sizeof(real))


cdef inline void apply_steps_to(const real* x, int64_t ldx, const StepRecord* steps, int64_t n_steps, real* tile,
                                int64_t ld, int64_t row0, int64_t rows, int64_t col0, int64_t cols, real* temporary,
                                int64_t room) noexcept nogil:
    """tile = steps(x), ``x`` being the same tile of another matrix; else as apply_steps. ``temporary``: memory for
    TEMPORARIES tiles, ``room`` elements apart; NULL where no step has one."""
    cdef const StepRecord* step
    cdef Tile part
    cdef int64_t i, kind
    cdef bint flat
    for i in range(n_steps):
        step = &steps[i]
        kind = step.kind
        if kind == MAP:
            part.v = x
            part.t = tile
            part.ldv = ldx
            part.ld = ld
            part.rows = rows
            part.cols = cols
            run_function(step, &part, temporary, room, row0, col0)
            x = tile
            ldx = ld
            continue
        if x != tile:                   # the others work in place
            copy_tile(tile, ld, x, ldx, rows, cols)
            x = tile
            ldx = ld
        if kind == DROPOUT:
            flat = ld == cols and step.width == cols
            dropout(tile, ld, row0 * step.width + col0, step.width, 1 if flat else rows, rows * cols if flat else cols,
                    step.state, step.index, step.s0, step.s1)
        elif kind == NORM_GRAD:
            norm_grad_tile(step, tile, ld, row0, rows, col0, cols)
        elif kind == STORE:
            copy_tile(<real*>step.p.data + row0 * step.p.ld + col0, step.p.ld, tile, ld, rows, cols)
        elif kind == SAVE:
            copy_tile(temporary + (step.p.temporary - 1) * room, cols, tile, ld, rows, cols)
        else:
            update_tile(step, tile, ld, row0, rows, col0, cols)
    if x != tile:
        copy_tile(tile, ld, x, ldx, rows, cols)


cdef inline void apply_steps(const StepRecord* steps, int64_t n_steps, real* tile, int64_t ld, int64_t row0,
                             int64_t rows, int64_t col0, int64_t cols) noexcept nogil:
    """Do the steps, in order, in place, on a tile of a matrix.

    ``tile`` points at element (row0, col0) and has row stride ``ld``; operands are of the whole matrix. An element's
    bits do not depend on the tile that it is in.
    """
    apply_steps_to(tile, ld, steps, n_steps, tile, ld, row0, rows, col0, cols, NULL, 0)


cdef inline void fetch_operands(const StepRecord* steps, int64_t n_steps, int64_t row0, int64_t rows, int64_t col0,
                                int64_t cols) noexcept nogil:
    """Let what the steps will read of whole matrices for this tile be in L2 soon."""
    cdef const OperandRecord* p
    cdef int64_t i
    for i in range(n_steps):
        p = &steps[i].p
        if steps[i].kind == MAP and p.data != NULL and p.ld != 0 and p.cs == 1 and p.div == 1 and p.mod == 0:
            fetch(p.data + row0 * p.ld + col0, rows, p.ld, cols)
