"""chain: out = steps(x), element by element."""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset
from nncore.kernels.chain cimport StepRecord, Tile, apply_steps, apply_steps_to, each_map, step_layout
from nncore.op cimport Op, layout, signature, split
from nncore.vector cimport real, verf

cdef enum:
    TILE = 4096             # elements that are taken through all steps before the next ones: 16 or 32 KB


cdef void chain(const Op* op, int thread, int threads) noexcept nogil:
    """out[r, c] (row stride ld_out) = steps(x[r, c] (row stride ld_x)), or of 0 without x; out may be x.

    Threads share the tiles, or (``by_rows``) the rows.
    """
    cdef real* out = <real*>op.p[0]
    cdef const real* x = <const real*>op.p[1]
    cdef const StepRecord* steps = <const StepRecord*>op.p[2]
    cdef int64_t rows = op.n[0], cols = op.n[1], ld_out = op.n[2], ld_x = op.n[3], n_steps = op.n[4]
    cdef int64_t first = 0, last = 0, width, height, across, tile, row, col, h, w, r, row0 = 0
    cdef real* t
    if rows <= 0 or cols <= 0:
        return
    width = cols if cols < TILE else TILE
    height = TILE // width
    across = (cols + width - 1) // width
    if op.n[5]:
        split(rows, thread, threads, &row0, &rows)
        last = across * ((rows - row0 + height - 1) // height)
    else:
        split(across * ((rows + height - 1) // height), thread, threads, &first, &last)
    for tile in range(first, last):
        row = row0 + tile // across * height
        col = tile % across * width
        h = rows - row if rows - row < height else height
        w = cols - col if cols - col < width else width
        t = out + row * ld_out + col
        if x == NULL:
            for r in range(h):
                memset(t + r * ld_out, 0, w * sizeof(real))
            apply_steps(steps, n_steps, t, ld_out, row, h, col, w)
        else:
            apply_steps_to(x + row * ld_x + col, ld_x, steps, n_steps, t, ld_out, row, h, col, w)


cdef void erf(const Op* op, int thread, int threads) noexcept nogil:
    """out[i] = erf(x[i]) for count elements, a multiple of LANES: no step is made of verf, so its test needs this."""
    cdef Tile tile
    if thread > 0:
        return
    memcpy(op.p[0], op.p[1], op.n[0] * sizeof(real))
    memset(&tile, 0, sizeof(Tile))
    tile.t = <real*>op.p[0]
    tile.v = tile.t
    tile.p = tile.t
    tile.q = tile.t
    tile.rows = 1
    tile.cols = op.n[0]
    each_map(&tile, verf)


TABLE = {"chain": <size_t>&chain, "erf": <size_t>&erf}
LAYOUT = layout()
SIGNATURE = signature()
STEP_LAYOUT = step_layout()
