# Sums and norms. Each output has one owner, and the order of its additions is fixed by the sizes alone.
from libc.math cimport sqrt
from libc.stdint cimport int64_t
from nncore.op cimport Op, layout, signature, split
from nncore.vector cimport LANES, real, vabs, vf, vload, vsplat, vstore
from nncore.kernels.lanes cimport lanes_sum, load_part, store_part

cdef enum:
    BLOCK = 512         # rows summed before they are added to the total: rounding grows with BLOCK + rows / BLOCK
    CHUNK = 8192        # elements of one partial sum of squares or of a penalty
    WIDE = 4            # vectors of columns that one thread sums at once


cdef inline void sum_columns(const real* x, int64_t rows, int64_t ld, real* out, bint accumulate) noexcept nogil:
    """out[WIDE * LANES] (+)= the column sums: two accumulators a column, even and odd rows."""
    cdef vf even[WIDE]
    cdef vf odd[WIDE]
    cdef vf total[WIDE]
    cdef int64_t first, last, r
    cdef int j
    for j in range(WIDE):
        total[j] = vload(out + j * LANES) if accumulate else vsplat(0)
    first = 0
    while first < rows:
        last = min(rows, first + BLOCK)
        for j in range(WIDE):
            even[j] = vsplat(0)
            odd[j] = vsplat(0)
        r = first
        while r + 2 <= last:
            for j in range(WIDE):
                even[j] = even[j] + vload(x + r * ld + j * LANES)
                odd[j] = odd[j] + vload(x + (r + 1) * ld + j * LANES)
            r += 2
        if r < last:
            for j in range(WIDE):
                even[j] = even[j] + vload(x + r * ld + j * LANES)
        for j in range(WIDE):
            total[j] = total[j] + (even[j] + odd[j])
        first = last
    for j in range(WIDE):
        vstore(out + j * LANES, total[j])


cdef inline void sum_columns_part(const real* x, int64_t rows, int64_t ld, real* out, int64_t cols,
                                  bint accumulate) noexcept nogil:
    """The same for at most LANES columns, in the same order."""
    cdef vf even, odd, total
    cdef int64_t first, last, r
    total = vsplat(0)
    if accumulate:
        total = load_part(out, cols, cols, 0)
    first = 0
    while first < rows:
        last = min(rows, first + BLOCK)
        even = vsplat(0)
        odd = vsplat(0)
        r = first
        while r + 2 <= last:
            even = even + load_part(x + r * ld, cols, (rows - 1 - r) * ld + cols, 0)
            odd = odd + load_part(x + (r + 1) * ld, cols, (rows - 2 - r) * ld + cols, 0)
            r += 2
        if r < last:
            even = even + load_part(x + r * ld, cols, (rows - 1 - r) * ld + cols, 0)
        total = total + (even + odd)
        first = last
    store_part(out, total, cols)


# p: out, x. n: rows, cols, ld, accumulate
cdef void column_sum(const Op* op, int thread, int threads) noexcept nogil:
    """out[c] (+)= sum over r of x[r * ld + c]. Threads share the columns."""
    cdef real* out = <real*>op.p[0]
    cdef const real* x = <const real*>op.p[1]
    cdef int64_t rows = op.n[0], cols = op.n[1], ld = op.n[2], c = 0, end = 0, width
    split((cols + LANES - 1) // LANES, thread, threads, &c, &end)
    c *= LANES
    end = min(end * LANES, cols)
    while c < end:
        if end - c >= WIDE * LANES:
            width = WIDE * LANES
            sum_columns(x + c, rows, ld, out + c, op.n[3])
        else:
            width = min(<int64_t>LANES, end - c)
            sum_columns_part(x + c, rows, ld, out + c, width, op.n[3])
        c += width


# p: out, x. n: rows, cols, ld, accumulate
cdef void row_sum(const Op* op, int thread, int threads) noexcept nogil:
    """out[r] (+)= sum over c of x[r * ld + c]. Threads share the rows."""
    cdef real* out = <real*>op.p[0]
    cdef const real* x = <const real*>op.p[1]
    cdef int64_t rows = op.n[0], cols = op.n[1], ld = op.n[2], r = 0, last = 0, c, room
    cdef const real* row
    cdef vf a, b, d, e
    cdef real total
    split(rows, thread, threads, &r, &last)
    while r < last:
        row = x + r * ld
        room = (rows - 1 - r) * ld + cols
        a = vsplat(0)
        b = vsplat(0)
        d = vsplat(0)
        e = vsplat(0)
        c = 0
        while c + 4 * LANES <= cols:
            a = a + vload(row + c)
            b = b + vload(row + c + LANES)
            d = d + vload(row + c + 2 * LANES)
            e = e + vload(row + c + 3 * LANES)
            c += 4 * LANES
        while c < cols:
            a = a + load_part(row + c, cols - c, room - c, 0)
            c += LANES
        total = lanes_sum((a + b) + (d + e))
        out[r] = out[r] + total if op.n[3] else total
        r += 1


# p: totals (double[2]), values, weights. n: rows
cdef void accumulate(const Op* op, int thread, int threads) noexcept nogil:
    """totals[0] += sum(values); totals[1] += sum(weights), or rows. Thread 0 alone: a batch is small."""
    cdef double* totals = <double*>op.p[0]
    cdef const real* values = <const real*>op.p[1]
    cdef const real* weights = <const real*>op.p[2]
    cdef int64_t rows = op.n[0]
    if thread > 0:
        return
    totals[0] += sum_doubles(values, rows)
    totals[1] += sum_doubles(weights, rows) if weights != NULL else <double>rows


cdef inline double sum_doubles(const real* x, int64_t count) noexcept nogil:
    cdef double part[8]
    cdef int64_t i = 0
    cdef int j
    for j in range(8):
        part[j] = 0
    while i + 8 <= count:
        for j in range(8):
            part[j] += x[i + j]
        i += 8
    while i < count:
        part[i & 7] += x[i]
        i += 1
    return ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]))


# p: partials (double[ceil(count / CHUNK)]), x. n: count
cdef void square_sums(const Op* op, int thread, int threads) noexcept nogil:
    """partials[i] = the sum of squares of the i-th chunk of CHUNK elements. Threads share the chunks."""
    cdef double* partials = <double*>op.p[0]
    cdef const real* x = <const real*>op.p[1]
    cdef int64_t count = op.n[0], chunk = 0, last = 0, i, end
    cdef real lane[16]
    cdef vf a, b, d, e, part
    split((count + CHUNK - 1) // CHUNK, thread, threads, &chunk, &last)
    while chunk < last:
        i = chunk * CHUNK
        end = min(i + CHUNK, count)
        a = vsplat(0)
        b = vsplat(0)
        d = vsplat(0)
        e = vsplat(0)
        while i + 4 * LANES <= end:
            part = vload(x + i)
            a = a + part * part
            part = vload(x + i + LANES)
            b = b + part * part
            part = vload(x + i + 2 * LANES)
            d = d + part * part
            part = vload(x + i + 3 * LANES)
            e = e + part * part
            i += 4 * LANES
        while i < end:
            part = load_part(x + i, end - i, end - i, 0)
            a = a + part * part
            i += LANES
        vstore(lane, (a + b) + (d + e))
        partials[chunk] = sum_doubles(lane, LANES)
        if partials[chunk] - partials[chunk] != 0:      # the squares, not the numbers, are out of range
            partials[chunk] = 0
            for i in range(chunk * CHUNK, end):
                partials[chunk] += <double>x[i] * <double>x[i]
        chunk += 1


# p: partials (double[ceil(count / CHUNK)]), w. n: count. s: l1, l2
cdef void penalty(const Op* op, int thread, int threads) noexcept nogil:
    """partials[i] = the sum of l1 * |w| + l2 * w^2 of the i-th chunk of CHUNK elements. Threads share the chunks."""
    cdef double* partials = <double*>op.p[0]
    cdef const real* w = <const real*>op.p[1]
    cdef int64_t count = op.n[0], chunk = 0, last = 0, i, end
    cdef real lane[16]
    cdef vf l1 = vsplat(<real>op.s[0]), l2 = vsplat(<real>op.s[1])
    cdef vf a, b, d, e, size
    split((count + CHUNK - 1) // CHUNK, thread, threads, &chunk, &last)
    while chunk < last:
        i = chunk * CHUNK
        end = min(i + CHUNK, count)
        a = vsplat(0)
        b = vsplat(0)
        d = vsplat(0)
        e = vsplat(0)
        while i + 4 * LANES <= end:
            size = vabs(vload(w + i))
            a = a + size * (l2 * size + l1)
            size = vabs(vload(w + i + LANES))
            b = b + size * (l2 * size + l1)
            size = vabs(vload(w + i + 2 * LANES))
            d = d + size * (l2 * size + l1)
            size = vabs(vload(w + i + 3 * LANES))
            e = e + size * (l2 * size + l1)
            i += 4 * LANES
        while i < end:
            size = vabs(load_part(w + i, end - i, end - i, 0))
            a = a + size * (l2 * size + l1)
            i += LANES
        vstore(lane, (a + b) + (d + e))
        partials[chunk] = sum_doubles(lane, LANES)
        chunk += 1


# p: totals (double[2]), partials (double[count]). n: count, rows
cdef void accumulate_penalty(const Op* op, int thread, int threads) noexcept nogil:
    """totals[0] += rows * sum(partials); totals[1] += rows: each sample of a batch has the penalty. Thread 0 alone."""
    cdef double* totals = <double*>op.p[0]
    cdef const double* partials = <const double*>op.p[1]
    cdef double total = 0
    cdef int64_t i
    if thread > 0:
        return
    for i in range(op.n[0]):
        total += partials[i]
    totals[0] += <double>op.n[1] * total
    totals[1] += <double>op.n[1]


# p: scale (real), partials (double[count]), norm (double). n: count. s: clip
cdef void clip_scale(const Op* op, int thread, int threads) noexcept nogil:
    """norm = sqrt(sum(partials)); scale = min(1, clip / norm), or 1 where clip <= 0. Thread 0 alone."""
    cdef real* scale = <real*>op.p[0]
    cdef const double* partials = <const double*>op.p[1]
    cdef double* norm = <double*>op.p[2]
    cdef double total = 0, clip = op.s[0]
    cdef int64_t i
    if thread > 0:
        return
    for i in range(op.n[0]):
        total += partials[i]
    total = sqrt(total)
    scale[0] = <real>(clip / total) if clip > 0 and total > clip else 1
    if norm != NULL:
        norm[0] = total


TABLE = {"column_sum": <size_t>&column_sum, "row_sum": <size_t>&row_sum, "accumulate": <size_t>&accumulate,
         "square_sums": <size_t>&square_sums, "penalty": <size_t>&penalty,
         "accumulate_penalty": <size_t>&accumulate_penalty, "clip_scale": <size_t>&clip_scale}
LAYOUT = layout()
globals().update(CHUNK=CHUNK)      # for whoever allocates partials
SIGNATURE = signature()
