"""chain: out = steps(x), element by element."""
from libc.stdint cimport int64_t
from libc.string cimport memset
from nncore.kernels.chain cimport TEMPORARIES, StepRecord, apply_steps_to, step_layout
from nncore.op cimport Op, layout, signature, split
from nncore.vector cimport real

cdef enum:
    TILE = 4096             # elements that are taken through all steps before the next ones: 16 or 32 KB
    SMALL_TILE = 1024       # the same where temporary tiles have to be in cache too


cdef inline void share(const Op* op, int thread, int threads, int64_t size, real* temporary) noexcept nogil:
    """The thread's tiles, of at most ``size`` elements."""
    cdef real* out = <real*>op.p[0]
    cdef const real* x = <const real*>op.p[1]
    cdef const StepRecord* steps = <const StepRecord*>op.p[2]
    cdef int64_t rows = op.n[0], cols = op.n[1], ld_out = op.n[2], ld_x = op.n[3], n_steps = op.n[4]
    cdef int64_t first = 0, last = 0, width, height, across, tile, row, col, h, w, r, row0 = 0
    cdef real* t
    width = cols if cols < size else size
    height = size // width
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
            apply_steps_to(t, ld_out, steps, n_steps, t, ld_out, row, h, col, w, temporary, size)
        else:
            apply_steps_to(x + row * ld_x + col, ld_x, steps, n_steps, t, ld_out, row, h, col, w, temporary, size)


cdef void share_with_temporaries(const Op* op, int thread, int threads) noexcept nogil:
    cdef real[TEMPORARIES * SMALL_TILE] temporary
    share(op, thread, threads, SMALL_TILE, temporary)


cdef void chain(const Op* op, int thread, int threads) noexcept nogil:
    """out[r, c] (row stride ld_out) = steps(x[r, c] (row stride ld_x)), or of 0 without x; out may be x.

    Threads share the tiles, or (``by_rows``) the rows.
    """
    cdef const StepRecord* steps = <const StepRecord*>op.p[2]
    cdef int64_t i
    if op.n[0] <= 0 or op.n[1] <= 0:
        return
    for i in range(op.n[4]):
        if steps[i].p.temporary or steps[i].q.temporary:
            share_with_temporaries(op, thread, threads)
            return
    share(op, thread, threads, TILE, NULL)


TABLE = {"chain": <size_t>&chain}
LAYOUT = layout()
SIGNATURE = signature()
STEP_LAYOUT = step_layout()
