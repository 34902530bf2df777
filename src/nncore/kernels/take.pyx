# Rows of a table by index, what goes back to them, one-hot rows, and counts of pairs of classes.
#
# An index that is none of a row is never followed: it gives 0 and is reported through the state (op.pxd). Sums into rows
# that occur several times have one owner, who adds in the order of the index.
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset
from nncore.kernels.lanes cimport LINE, load_part, nn_soon, store_part
from nncore.op cimport Op, layout, report, signature, split, split_rows
from nncore.vector cimport LANES, real

cdef enum:
    AHEAD = 4           # rows that are asked for before they are read: their places are known, but not to the CPU
    FIRST = 512         # elements of them: the CPU sees to the rest


# p: out, table, index (int32), state. n: rows, cols, table_rows, by_rows
cdef void take(const Op* op, int thread, int threads) noexcept nogil:
    """out[r, :] = table[index[r], :], or zeros. Threads share the elements of out, or (by_rows) its rows."""
    cdef real* out = <real*>op.p[0]
    cdef const real* table = <const real*>op.p[1]
    cdef const int32_t* index = <const int32_t*>op.p[2]
    cdef int64_t rows = op.n[0], cols = op.n[1], known = op.n[2], first = 0, last = 0, row, col, count, c
    split_rows(rows, cols, op.n[3], thread, threads, &first, &last)
    while first < last:
        row = first // cols
        col = first - row * cols
        count = min(cols - col, last - first)
        if first + AHEAD * cols < last and 0 <= index[row + AHEAD] < known:
            c = 0
            while c < min(cols, <int64_t>FIRST):
                nn_soon(table + index[row + AHEAD] * cols + c)
                c += LINE
        if 0 <= index[row] < known:
            memcpy(out + first, table + index[row] * cols + col, count * sizeof(real))
        else:
            memset(out + first, 0, count * sizeof(real))
            if col == 0:
                report(<int64_t*>op.p[3], op.id, row, index[row])
        first += count


cdef struct Part:
    # What a thread owns of a table: columns col0 to col1 of the rows r with r % classes == number.
    int64_t col0, col1, number, classes


cdef inline void own(Part* part, int64_t cols, int thread, int threads) noexcept nogil:
    """Whole cache lines of columns while there are enough: rows that are wanted often are then shared out too."""
    cdef int64_t lines = max(<int64_t>1, cols // LINE)
    cdef int across = threads, down
    if across > lines:
        across = <int>lines
    down = threads // across
    part.classes = down
    part.number = thread // across
    split(lines, thread % across, across, &part.col0, &part.col1)
    part.col0 *= LINE
    part.col1 = cols if part.col1 == lines else part.col1 * LINE
    if thread >= across * down:
        part.col1 = part.col0


cdef inline bint mine(const Part* part, int64_t row, int64_t rows) noexcept nogil:
    return 0 <= row < rows and (part.classes == 1 or row % part.classes == part.number)


# p: dtable, dy, index (int32). n: rows, cols, table_rows, clear
cdef void take_grad(const Op* op, int thread, int threads) noexcept nogil:
    """dtable[index[r], :] += dy[r, :] for every r in order; with ``clear`` dtable is zeroed first. Threads share the columns
    of dtable, or also its rows."""
    cdef real* dtable = <real*>op.p[0]
    cdef const real* dy = <const real*>op.p[1]
    cdef const int32_t* index = <const int32_t*>op.p[2]
    cdef int64_t cols = op.n[1], known = op.n[2], r, c, width
    cdef real* row
    cdef Part part
    own(&part, cols, thread, threads)
    width = part.col1 - part.col0
    if width <= 0:
        return
    if op.n[3] and width == cols and part.classes == 1:
        memset(dtable, 0, known * cols * sizeof(real))
    elif op.n[3]:
        r = part.number
        while r < known:
            memset(dtable + r * cols + part.col0, 0, width * sizeof(real))
            r += part.classes
    for r in range(op.n[0]):
        if not mine(&part, index[r], known):
            continue
        row = dtable + index[r] * cols
        c = part.col0
        while c < part.col1:
            width = part.col1 - c
            store_part(row + c, load_part(row + c, width, width, 0) + load_part(dy + r * cols + c, width, width, 0), width)
            c += LANES


# p: dtable, index (int32). n: rows, cols, table_rows
cdef void take_clear(const Op* op, int thread, int threads) noexcept nogil:
    """dtable[index[r], :] = 0 for every r: a large table that few rows were added to is zero again."""
    cdef const int32_t* index = <const int32_t*>op.p[1]
    cdef int64_t cols = op.n[1], r
    cdef Part part
    own(&part, cols, thread, threads)
    if part.col1 <= part.col0:
        return
    for r in range(op.n[0]):
        if mine(&part, index[r], op.n[2]):
            memset(<real*>op.p[0] + index[r] * cols + part.col0, 0, (part.col1 - part.col0) * sizeof(real))


# p: out, x, index (int32), state. n: rows, cols
cdef void take_along(const Op* op, int thread, int threads) noexcept nogil:
    """out[r] = x[r, index[r]], or 0. Threads share the rows."""
    cdef real* out = <real*>op.p[0]
    cdef const real* x = <const real*>op.p[1]
    cdef const int32_t* index = <const int32_t*>op.p[2]
    cdef int64_t cols = op.n[1], r, first = 0, last = 0
    split(op.n[0], thread, threads, &first, &last)
    for r in range(first, last):
        if 0 <= index[r] < cols:
            out[r] = x[r * cols + index[r]]
        else:
            out[r] = 0
            report(<int64_t*>op.p[3], op.id, r, index[r])


cdef inline void scatter(real* out, const int32_t* index, const real* values, int64_t* state, int64_t id, int64_t rows,
                         int64_t cols, int thread, int threads) noexcept nogil:
    """out[r, :] = values[r], or 1, at index[r], else 0; what is not in a row is reported where there is a state."""
    cdef int64_t r, first = 0, last = 0
    split(rows, thread, threads, &first, &last)
    for r in range(first, last):
        memset(out + r * cols, 0, cols * sizeof(real))
        if 0 <= index[r] < cols:
            out[r * cols + index[r]] = values[r] if values != NULL else <real>1
        elif state != NULL:
            report(state, id, r, index[r])


# p: dx, dy, index (int32). n: rows, cols
cdef void take_along_grad(const Op* op, int thread, int threads) noexcept nogil:
    """dx[r, :] = dy[r] at index[r], else 0. Threads share the rows."""
    scatter(<real*>op.p[0], <const int32_t*>op.p[2], <const real*>op.p[1], NULL, op.id, op.n[0], op.n[1], thread, threads)


# p: out, index (int32), state. n: rows, cols
cdef void one_hot(const Op* op, int thread, int threads) noexcept nogil:
    """out[r, :] = 1 at index[r], else 0. Threads share the rows."""
    scatter(<real*>op.p[0], <const int32_t*>op.p[1], NULL, <int64_t*>op.p[2], op.id, op.n[0], op.n[1], thread, threads)


# p: counts (double[cols, cols]), labels (int32), predictions (int32), weights, state. n: rows, cols, ignoring, ignore
cdef void confusion(const Op* op, int thread, int threads) noexcept nogil:
    """counts[labels[r], predictions[r]] += weights[r], or 1, for every r whose label is not ``ignore`` (if ``ignoring``).
    Without counts it only looks for what is out of range. Thread 0 alone: a batch is small."""
    cdef double* counts = <double*>op.p[0]
    cdef const int32_t* labels = <const int32_t*>op.p[1]
    cdef const int32_t* predictions = <const int32_t*>op.p[2]
    cdef const real* weights = <const real*>op.p[3]
    cdef int64_t cols = op.n[1], r
    if thread > 0:
        return
    for r in range(op.n[0]):
        if op.n[2] and labels[r] == op.n[3]:
            continue
        if not 0 <= labels[r] < cols:
            report(<int64_t*>op.p[4], op.id, r, labels[r])
        elif not 0 <= predictions[r] < cols:
            report(<int64_t*>op.p[4], op.id, r, predictions[r])
        elif counts != NULL:
            counts[labels[r] * cols + predictions[r]] += weights[r] if weights != NULL else <real>1


TABLE = {"take": <size_t>&take, "take_grad": <size_t>&take_grad, "take_clear": <size_t>&take_clear,
         "take_along": <size_t>&take_along, "take_along_grad": <size_t>&take_along_grad, "one_hot": <size_t>&one_hot,
         "confusion": <size_t>&confusion}
LAYOUT = layout()
SIGNATURE = signature()
