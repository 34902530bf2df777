# Optimizers: one pass over the flat buffers of all parameters, at the speed of memory.
#
# Every element goes through the same vector code whatever the number of threads: shares are whole vectors, and the last
# elements, fewer than a vector, pass through padded copies.
from libc.stdint cimport int64_t
from nncore.kernels.update cimport MOST_SLOTS, Rule, Update, columns_of, run_rule
from nncore.op cimport Op, layout, signature, split
from nncore.powers cimport vpow
from nncore.vector cimport (
    LANES, real, vabs, vdiv, vf, vge, vload, vmax, vmin, vselect, vsign, vsplat, vsqrt, vstore,
)

cdef enum:
    CHUNK = 1024        # elements: a share is a multiple of it, so that no cache line has two writers

include "rules.pxi"


# p: w, slots, g, state, scale. n: rule, count, columns, column
cdef void update(const Op* op, int thread, int threads) noexcept nogil:
    """``rule``, the address of one of RULES, for w [count], the slots and the gradient, which is multiplied by scale[0]
    before if it is given. ``columns``: how many the table of the state's RATES has; ``column``: the rule's first."""
    cdef const real* scale = <const real*>op.p[7]
    cdef const int64_t* state = <const int64_t*>op.p[6]
    cdef int64_t first = 0, last = 0, i
    cdef Update part
    split((op.n[1] + CHUNK - 1) // CHUNK, thread, threads, &first, &last)
    first *= CHUNK
    last = min(last * CHUNK, op.n[1])
    if first >= last:
        return
    part.w = <real*>op.p[0] + first
    for i in range(MOST_SLOTS):
        part.slots[i] = <real*>op.p[1 + i] + first if op.p[1 + i] != NULL else NULL
    part.g = <const real*>op.p[5] + first
    part.columns = columns_of(state, op.n[2], op.n[3])
    part.ld = part.ldg = 0
    part.rows = 1
    part.cols = last - first
    part.scale = scale[0] if scale != NULL else <real>1
    run_rule(<Rule>op.n[0], &part)


TABLE = {"update": <size_t>&update}
LAYOUT = layout()
SIGNATURE = signature()
