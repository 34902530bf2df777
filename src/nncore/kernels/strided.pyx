# Copies between strided arrays, constants, and conversions between reals and int32.
#
# `copy` walks up to six axes, the last one innermost; nncore/strides.py puts them into the order that is best. Elements are
# moved as they are, so int32 goes through lanes of reals of the same size.
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy
from nncore.kernels.gemm_micro cimport transpose
from nncore.op cimport Op, layout, signature, split_rows
from nncore.vector cimport LANES, real, vf, vload, vstore

cdef enum:
    AXES = 6
    HIGH = 16           # a tile of a transposition: a cache line of x (and more, for doubles) ...
    WIDE = 256          # ... by so many elements of out
    SHORT = 16          # elements that are copied faster than memcpy is called

ctypedef fused item:
    real
    int32_t

ctypedef fused source:
    real
    int32_t

cdef struct Walk:
    const int64_t* n
    const int64_t* o
    const int64_t* x
    bint accumulate


cdef inline void copy_line(item* out, int64_t so, const item* x, int64_t sx, int64_t count, bint accumulate) noexcept nogil:
    cdef int64_t i
    if accumulate:
        if so == 1 and sx == 1:
            for i in range(count):
                out[i] += x[i]
        else:
            for i in range(count):
                out[i * so] += x[i * sx]
    elif so == 1 and sx == 1:
        if count > SHORT:
            memcpy(out, x, count * sizeof(item))
        else:
            for i in range(count):
                out[i] = x[i]
    elif so == 1 and sx == 0:
        for i in range(count):
            out[i] = x[0]
    else:
        for i in range(count):
            out[i * so] = x[i * sx]


cdef inline void start(const Walk* w, int axes, int64_t line, int64_t* index, int64_t* out, int64_t* x) noexcept nogil:
    """The index of a line, counted along the first ``axes``, and where it is."""
    cdef int a
    for a in range(axes - 1, -1, -1):
        index[a] = line % w.n[a]
        line //= w.n[a]
        out[0] += index[a] * w.o[a]
        x[0] += index[a] * w.x[a]


cdef inline void step(const Walk* w, int axes, int64_t* index, int64_t* out, int64_t* x) noexcept nogil:
    """The next line."""
    cdef int a
    for a in range(axes - 1, -1, -1):
        index[a] += 1
        out[0] += w.o[a]
        x[0] += w.x[a]
        if index[a] < w.n[a]:
            return
        out[0] -= index[a] * w.o[a]
        x[0] -= index[a] * w.x[a]
        index[a] = 0


cdef void copy_lines(const Walk* w, item* out, const item* x, int64_t first, int64_t last) noexcept nogil:
    """Elements ``first`` to ``last`` in the order of the walk."""
    cdef int64_t index[AXES]
    cdef int64_t at = 0, source = 0, length = w.n[AXES - 1], so = w.o[AXES - 1], sx = w.x[AXES - 1], line, col, count
    if first >= last:
        return
    line = first // length
    col = first - line * length
    start(w, AXES - 1, line, index, &at, &source)
    while first < last:
        count = min(length - col, last - first)
        copy_line(out + at + col * so, so, x + source + col * sx, sx, count, w.accumulate)
        first += count
        col = 0
        step(w, AXES - 1, index, &at, &source)


cdef inline void turn_lanes(item* out, int64_t so, const item* x, int64_t sx, bint accumulate) noexcept nogil:
    """LANES x LANES elements: out[i * so + j] = x[j * sx + i]."""
    cdef vf t[16]
    cdef int i
    for i in range(LANES):
        t[i] = vload(<const real*>(x + i * sx))
    transpose(t)
    for i in range(LANES):
        if accumulate:
            t[i] = t[i] + vload(<const real*>(out + i * so))
        vstore(<real*>(out + i * so), t[i])


cdef inline void turn_tile(item* out, int64_t so, const item* x, int64_t sx, int64_t rows, int64_t cols,
                           bint accumulate) noexcept nogil:
    """out[i * so + j] = x[j * sx + i] for i < rows, j < cols."""
    cdef int64_t whole_rows = 0, whole_cols = 0, i, j = 0
    if sizeof(item) == sizeof(real):
        whole_rows = rows // LANES * LANES
        whole_cols = cols // LANES * LANES
        while j < whole_cols:
            i = 0
            while i < whole_rows:
                turn_lanes(out + i * so + j, so, x + j * sx + i, sx, accumulate)
                i += LANES
            j += LANES
    for i in range(whole_rows):
        copy_line(out + i * so + whole_cols, 1, x + whole_cols * sx + i, sx, cols - whole_cols, accumulate)
    for i in range(whole_rows, rows):
        copy_line(out + i * so, 1, x + i, sx, cols, accumulate)


cdef void copy_tiles(const Walk* w, item* out, const item* x, int64_t first, int64_t last) noexcept nogil:
    """Tiles ``first`` to ``last`` of matrices that the last two axes turn."""
    cdef int64_t index[AXES]
    cdef int64_t rows = w.n[AXES - 2], cols = w.n[AXES - 1], so = w.o[AXES - 2], sx = w.x[AXES - 1], at, source, i, j
    cdef int64_t down = (rows + HIGH - 1) // HIGH, across = (cols + WIDE - 1) // WIDE, tile, outer
    for tile in range(first, last):
        outer = tile // (down * across)
        at = 0
        source = 0
        start(w, AXES - 2, outer, index, &at, &source)
        i = tile // across % down * HIGH
        j = tile % across * WIDE
        turn_tile(out + at + i * so + j, so, x + source + j * sx + i, sx, min(<int64_t>HIGH, rows - i),
                  min(<int64_t>WIDE, cols - j), w.accumulate)


cdef inline void copy_share(const Op* op, item* out, const item* x, int thread, int threads) noexcept nogil:
    cdef Walk w
    cdef int64_t first = 0, last = 0, each = 1
    cdef int a
    cdef bint turned
    w.accumulate = op.n[2]
    w.n = &op.n[6]
    w.o = &op.n[6 + AXES]
    w.x = &op.n[6 + 2 * AXES]
    turned = w.o[AXES - 1] == 1 and w.x[AXES - 2] == 1 and w.n[AXES - 2] > 1 and w.x[AXES - 1] != 0
    for a in range(1, AXES - 2):
        each *= w.n[a]
    if turned:
        each *= (w.n[AXES - 2] + HIGH - 1) // HIGH * ((w.n[AXES - 1] + WIDE - 1) // WIDE)
    else:
        each *= w.n[AXES - 2] * w.n[AXES - 1]
    split_rows(w.n[0], each, op.n[3], thread, threads, &first, &last)
    if turned:
        copy_tiles(&w, out + op.n[4], x + op.n[5], first, last)
    else:
        copy_lines(&w, out + op.n[4], x + op.n[5], first, last)


# p: out, x. n: rows, itemsize, accumulate, by_rows, out_offset, x_offset, n0..n5, o0..o5, x0..x5
cdef void copy(const Op* op, int thread, int threads) noexcept nogil:
    """out[out_offset + sum(i * o)] = (or, accumulate: +=) x[x_offset + sum(i * x)] for all indices i below n. ``itemsize``:
    4, or 8 in the modules of doubles; what is added is reals. Threads share the elements, or (by_rows) the first axis."""
    if op.n[1] == sizeof(real):
        copy_share(op, <real*>op.p[0], <const real*>op.p[1], thread, threads)
    else:
        copy_share(op, <int32_t*>op.p[0], <const int32_t*>op.p[1], thread, threads)


cdef inline void fill_rows(item* out, item value, int64_t ld, int64_t cols, int64_t first, int64_t last) noexcept nogil:
    """Elements ``first`` to ``last`` of a matrix."""
    cdef int64_t row, col, count, i
    cdef item* line
    while first < last:
        row = first // cols
        col = first - row * cols
        count = last - first if ld == cols else min(cols - col, last - first)
        line = out + row * ld + col
        for i in range(count):
            line[i] = value
        first += count


# p: out. n: rows, cols, ld, integer, by_rows. s: value
cdef void fill(const Op* op, int thread, int threads) noexcept nogil:
    """out[rows, cols] (row stride ld) = value; ``integer``: out is int32."""
    cdef int64_t first = 0, last = 0
    split_rows(op.n[0], op.n[1], op.n[4], thread, threads, &first, &last)
    if op.n[3]:
        fill_rows(<int32_t*>op.p[0], <int32_t>op.s[0], op.n[2], op.n[1], first, last)
    else:
        fill_rows(<real*>op.p[0], <real>op.s[0], op.n[2], op.n[1], first, last)


cdef inline int32_t truncated(real x) noexcept nogil:
    """Toward zero; what is beyond int32 becomes its end, NaN 0: the same on every CPU."""
    cdef double d = x, top = <double><int32_t>0x7FFFFFFF, low = -top - 1       # literals would be single precision
    d = d if d > low else low       # NaN too
    d = d if d < top else top
    return <int32_t>d if x == x else 0


cdef inline void convert_share(const Op* op, item* out, const source* x, int thread, int threads) noexcept nogil:
    """A matrix of one type into one of the other."""
    cdef int64_t cols = op.n[1], first = 0, last = 0, row, col, count, i
    cdef item* to
    cdef const source* line
    split_rows(op.n[0], cols, op.n[4], thread, threads, &first, &last)
    while first < last:
        row = first // cols
        col = first - row * cols
        count = min(cols - col, last - first)
        to = out + row * op.n[2] + col
        line = x + row * op.n[3] + col
        for i in range(count):
            if item is int32_t:
                to[i] = truncated(<real>line[i])
            else:
                to[i] = <item>line[i]
        first += count


# p: out (int32), x. n: rows, cols, ld_out, ld_x, by_rows
cdef void real_to_int(const Op* op, int thread, int threads) noexcept nogil:
    """out[rows, cols] = x[rows, cols], truncated; beyond the range of int32 its nearest number, and 0 for NaN."""
    convert_share(op, <int32_t*>op.p[0], <const real*>op.p[1], thread, threads)


# p: out, x (int32). n: rows, cols, ld_out, ld_x, by_rows
cdef void int_to_real(const Op* op, int thread, int threads) noexcept nogil:
    """out[rows, cols] = x[rows, cols]."""
    convert_share(op, <real*>op.p[0], <const int32_t*>op.p[1], thread, threads)


TABLE = {"copy": <size_t>&copy, "fill": <size_t>&fill, "real_to_int": <size_t>&real_to_int,
         "int_to_real": <size_t>&int_to_real}
LAYOUT = layout()
SIGNATURE = signature()
