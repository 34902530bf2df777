# What an optimizer does to weights: used by the kernel update over flat buffers, and as the last step of a weight-gradient
# GEMM, while the gradient is in cache. Both call the same function of the rule, so they give the same bits.
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset
from nncore.kernels.lanes cimport MOST_LANES
from nncore.op cimport STATE_LOCAL, STATE_RATES
from nncore.vector cimport LANES, real

cdef enum:
    MOST_SLOTS = 4          # nncore.rules.MOST_SLOTS

cdef struct Update:         # rows x cols weights; for a rule's function cols is a multiple of LANES
    real* w                 # with row stride ld, as the slots
    real* slots[MOST_SLOTS] # NULL from the first on that the rule has not
    const real* g           # with row stride ldg
    const double* columns   # of this step, as many as the rule has
    int64_t ld
    int64_t ldg
    int64_t rows
    int64_t cols
    real scale              # of the gradient

ctypedef void (*Rule)(const Update* update) noexcept nogil


cdef inline const double* columns_of(const int64_t* state, int64_t width, int64_t first) noexcept nogil:
    """This step's row of the table of ``width`` columns, from column ``first`` on."""
    return <const double*>state[STATE_RATES] + state[STATE_LOCAL] * width + first


cdef inline void exchange(real* array, real* padded, int64_t count, bint back) noexcept nogil:
    """Copy ``count`` elements to the padded copy, or back."""
    memcpy(array if back else padded, padded if back else array, count * sizeof(real))


cdef inline void run_rule(Rule rule, const Update* update) noexcept nogil:
    """Any number of columns: the last, fewer than a vector, pass through padded copies, row by row."""
    cdef Update part
    cdef real padded[MOST_SLOTS + 2][MOST_LANES]
    cdef int64_t r, i, at, whole = update.cols // LANES * LANES, rest = update.cols - whole
    if rest == 0:
        rule(update)
        return
    part = update[0]
    if whole > 0:
        part.cols = whole
        rule(&part)
    part.rows = 1
    part.cols = LANES
    part.w = padded[0]
    part.g = padded[1]
    for i in range(MOST_SLOTS):
        if update.slots[i] != NULL:
            part.slots[i] = padded[2 + i]
    memset(padded, 0, sizeof(padded))
    for r in range(update.rows):
        at = r * update.ld + whole
        exchange(update.w + at, padded[0], rest, False)
        memcpy(padded[1], update.g + r * update.ldg + whole, rest * sizeof(real))
        for i in range(MOST_SLOTS):
            if update.slots[i] != NULL:
                exchange(update.slots[i] + at, padded[2 + i], rest, False)
        rule(&part)
        exchange(update.w + at, padded[0], rest, True)
        for i in range(MOST_SLOTS):
            if update.slots[i] != NULL:
                exchange(update.slots[i] + at, padded[2 + i], rest, True)
