"""reduce: reductions along the middle axis of x[outer, mid, inner], or of steps(x); what clipping and metrics add up.

Element (o, m, i) is at x[o * stride_outer + m * stride_mid + i]. Each output has one owner, and the order of additions is
fixed by the sizes alone. Where inner is 1 and mid contiguous, lanes run along mid; else along inner. With steps, x (which is
contiguous then) goes through them a tile at a time, and the tile is reduced while it is in L1.
"""
from libc.math cimport sqrt
from libc.stdint cimport int64_t
from libc.string cimport memset
from nncore.kernels.chain cimport TEMPORARIES, StepRecord, apply_steps_to, step_layout
from nncore.kernels.gemm_micro cimport nn_inlined, nn_outlined
from nncore.kernels.lanes cimport load_part, store_part, vfirst
from nncore.kernels.reductions cimport (BLOCK, EXPONENTIALS, LOGSUMEXP, MAX, MIN, PROD, SUM, WIDE, columns, identity,
                                        joined, row, shift_of)
from nncore.op cimport Op, layout, signature, split, split_rows
from nncore.vector cimport LANES, real, vf, vload, vlog, vsplat, vstore

cdef enum:
    CHUNK = 8192        # elements of one partial sum of squares
    TILE = 4096         # elements that are taken through all steps before the next ones: 16 or 32 KB
    SMALL_TILE = 1024   # the same where temporary tiles have to be in cache too
    ACROSS = 512        # columns of a tile at most, where columns are reduced: some rows of it fit


# ---- of x ----
cdef inline void store_result(int kind, real* out, vf total, int64_t width, bint accumulate, vf scale) noexcept nogil:
    if kind == SUM:
        total = total * scale
    if accumulate:
        total = total + load_part(out, width, width, 0)
    store_part(out, total, width)


cdef inline nn_inlined some_columns(int kind, int nv, const real* x, int64_t rows, int64_t ld, int64_t width, real* out,
                                    bint accumulate, vf scale) noexcept nogil:
    cdef vf total[WIDE]
    cdef vf shift[WIDE]
    cdef int j
    for j in range(WIDE):
        shift[j] = vsplat(0)
    if kind == LOGSUMEXP:
        columns(MAX, nv, x, rows, ld, width, shift, total)
        for j in range(nv):
            shift[j] = shift_of(total[j])
        columns(EXPONENTIALS, nv, x, rows, ld, width, shift, total)
        for j in range(nv):
            total[j] = vlog(total[j]) + shift[j]
    else:
        columns(kind, nv, x, rows, ld, width, shift, total)
    for j in range(nv):
        store_result(kind, out + j * LANES, total[j], width if nv == 1 else LANES, accumulate, scale)


cdef inline nn_inlined one_row(int kind, const real* x, int64_t count, int64_t room, real* out, bint accumulate,
                               vf scale) noexcept nogil:
    cdef real total = 0
    cdef vf shift
    if kind == LOGSUMEXP:
        row(MAX, x, count, room, 0, &total)
        shift = shift_of(vsplat(total))
        row(EXPONENTIALS, x, count, room, vfirst(shift), &total)
        shift = vlog(vsplat(total)) + shift
        total = vfirst(shift)
    else:
        row(kind, x, count, room, 0, &total)
    store_result(kind, out, vsplat(total), 1, accumulate, scale)


cdef inline nn_inlined reduce_kind(int kind, const Op* op, int thread, int threads) noexcept nogil:
    cdef real* out = <real*>op.p[0]
    cdef const real* x = <const real*>op.p[1]
    cdef const real* y
    cdef int64_t outer = op.n[2], mid = op.n[3], inner = op.n[4], stride_outer = op.n[5], stride_mid = op.n[6]
    cdef int64_t chunk = op.n[7] if op.n[7] > 0 else max(mid, <int64_t>1), first = 0, last = 0, item, c, width, count, m
    cdef int64_t pieces = max(<int64_t>1, (mid + chunk - 1) // chunk)
    cdef bint in_rows = inner == 1 and stride_mid == 1, accumulate = op.n[8]
    cdef int64_t blocks = (inner + WIDE * LANES - 1) // (WIDE * LANES)
    cdef int64_t extent = (outer - 1) * stride_outer + (mid - 1) * stride_mid + inner
    cdef vf scale = vsplat(<real>op.s[0])
    split_rows(outer, pieces * blocks, op.n[9], thread, threads, &first, &last)
    for item in range(first, last):
        m = item // blocks % pieces * chunk
        count = min(chunk, mid - m)
        y = x + item // blocks // pieces * stride_outer + m * stride_mid
        if in_rows:
            one_row(kind, y, count, extent - (y - x), out + item, accumulate, scale)
            continue
        c = item % blocks * WIDE * LANES
        if inner - c >= WIDE * LANES:
            some_columns(kind, WIDE, y + c, count, stride_mid, WIDE * LANES, out + item // blocks * inner + c, accumulate,
                         scale)
            continue
        while c < inner:
            width = min(<int64_t>LANES, inner - c)
            some_columns(kind, 1, y + c, count, stride_mid, width, out + item // blocks * inner + c, accumulate, scale)
            c += width


# ---- of steps(x) ----
cdef struct Source:
    # steps(x), a matrix of rows of ``cols`` elements, and where its tiles are made
    const real* x           # NULL: 0
    real* y                 # where the whole of it is wanted; else NULL, and tiles are made in ``tile``
    const StepRecord* steps
    int64_t n_steps
    int64_t cols
    real* tile
    real* temporary         # NULL: no step has a temporary tile
    int64_t size            # elements of a tile at most


cdef nn_outlined make(const Source* s, int64_t row0, int64_t rows, int64_t col, int64_t cols, real* tile,
                      int64_t ld) noexcept nogil:
    """tile = this part of steps(x)."""
    cdef int64_t r
    if s.x == NULL:
        for r in range(rows):
            memset(tile + r * ld, 0, cols * sizeof(real))
        apply_steps_to(tile, ld, s.steps, s.n_steps, tile, ld, row0, rows, col, cols, s.temporary, s.size)
    else:
        apply_steps_to(s.x + row0 * s.cols + col, s.cols, s.steps, s.n_steps, tile, ld, row0, rows, col, cols,
                       s.temporary, s.size)


cdef const real* make_stretch(const Source* s, int64_t start, int64_t count) noexcept nogil:
    """``count`` elements of steps(x) from ``start`` on, in the order of memory: whole rows at once where there are."""
    cdef real* tile = s.y + start if s.y != NULL else s.tile
    cdef const real* made = tile
    cdef int64_t first, col, rows, n
    while count > 0:
        first = start // s.cols
        col = start - first * s.cols
        rows = count // s.cols if col == 0 else 0
        if rows:
            n = rows * s.cols
            make(s, first, rows, 0, s.cols, tile, s.cols)
        else:
            n = min(count, s.cols - col)
            make(s, first, 1, col, n, tile, n)
        start += n
        tile += n
        count -= n
    return made


cdef inline nn_inlined stretch(int kind, const Source* s, int64_t start, int64_t count, real* out, bint accumulate,
                               vf scale) noexcept nogil:
    """``count`` elements of steps(x) reduced, tile by tile."""
    cdef int64_t most = s.size // s.cols * s.cols if s.cols <= s.size else s.size, n
    cdef double sum = 0
    cdef real part = 0
    cdef vf total = vsplat(identity(kind))
    while count > 0:
        n = min(count, most)
        row(kind, make_stretch(s, start, n), n, n, 0, &part)
        if kind == SUM:
            sum += part
        else:
            total = joined(kind, total, vsplat(part))
        start += n
        count -= n
    store_result(kind, out, vsplat(<real>sum) if kind == SUM else total, 1, accumulate, scale)


cdef inline nn_inlined band(int kind, const Source* s, int64_t row0, int64_t rows, int64_t col, int64_t width, real* out,
                            bint accumulate, vf scale) noexcept nogil:
    """The columns from ``col`` on reduced over these rows of steps(x), tile by tile: some tiles, of BLOCK rows together,
    before they are added to the total."""
    cdef real[ACROSS] total, part
    cdef vf[WIDE] more
    cdef vf[WIDE] shift
    cdef const real* t
    cdef int64_t height = max(<int64_t>1, s.size // width), r = 0, n, c, ld = s.cols if s.y != NULL else width, since = 0
    cdef int64_t i, vectors = (width + LANES - 1) // LANES
    cdef int j, nv
    for j in range(WIDE):
        shift[j] = vsplat(0)
    for i in range(vectors):
        c = i * LANES
        vstore(total + c, vsplat(identity(kind)))
        vstore(part + c, vsplat(identity(kind)))
    while r < rows:
        n = min(height, rows - r)
        t = s.y + (row0 + r) * ld + col if s.y != NULL else s.tile
        make(s, row0 + r, n, col, width, <real*>t, ld)
        c = 0
        while c < width:
            nv = WIDE if width - c >= WIDE * LANES else 1
            if nv == WIDE:
                columns(kind, WIDE, t + c, n, ld, WIDE * LANES, shift, more)
            else:
                columns(kind, 1, t + c, n, ld, min(<int64_t>LANES, width - c), shift, more)
            for j in range(nv):
                vstore(part + c + j * LANES, joined(kind, vload(part + c + j * LANES), more[j]))
            c += nv * LANES
        r += n
        since += n
        if since >= BLOCK or r == rows:
            since = 0
            for i in range(vectors):
                c = i * LANES
                vstore(total + c, joined(kind, vload(total + c), vload(part + c)))
                vstore(part + c, vsplat(identity(kind)))
    for i in range(vectors):
        c = i * LANES
        store_result(kind, out + c, vload(total + c), min(<int64_t>LANES, width - c), accumulate, scale)


cdef inline nn_inlined reduce_steps(int kind, const Op* op, const Source* s, int thread, int threads) noexcept nogil:
    cdef real* out = <real*>op.p[0]
    cdef int64_t outer = op.n[2], mid = op.n[3], inner = op.n[4], first = 0, last = 0, item, m, c, n, i
    cdef int64_t chunk = op.n[7] if op.n[7] > 0 else max(mid, <int64_t>1)
    cdef int64_t pieces = max(<int64_t>1, (mid + chunk - 1) // chunk), blocks = (inner + ACROSS - 1) // ACROSS
    cdef const real* t
    cdef bint accumulate = op.n[8]
    cdef vf scale = vsplat(<real>op.s[0])
    split_rows(outer, pieces * blocks, op.n[9], thread, threads, &first, &last)
    item = first
    while item < last:
        m = item // blocks % pieces * chunk
        n = min(chunk, mid - m)
        if inner > 1:
            c = item % blocks * ACROSS
            band(kind, s, item // blocks // pieces * mid + m, n, c, min(<int64_t>ACROSS, inner - c),
                 out + item // blocks * inner + c, accumulate, scale)
        elif 0 < 2 * mid <= s.size and pieces == 1:         # some short rows together
            n = min(last - item, s.size // mid)
            t = make_stretch(s, item * mid, n * mid)
            for i in range(n):
                one_row(kind, t + i * mid, mid, (n - i) * mid, out + item + i, accumulate, scale)
            item += n - 1
        else:
            stretch(kind, s, item // pieces * mid + m, n, out + item, accumulate, scale)
        item += 1


cdef void of_steps(const Op* op, const Source* given, int thread, int threads) noexcept nogil:
    cdef real[TILE] tile
    cdef Source source = given[0]
    cdef Source* s = &source
    s.tile = tile
    if op.n[1] == SUM:
        reduce_steps(SUM, op, s, thread, threads)
    elif op.n[1] == MAX:
        reduce_steps(MAX, op, s, thread, threads)
    elif op.n[1] == MIN:
        reduce_steps(MIN, op, s, thread, threads)
    elif op.n[1] == PROD:
        reduce_steps(PROD, op, s, thread, threads)


cdef void of_steps_with_temporaries(const Op* op, const Source* given, int thread, int threads) noexcept nogil:
    cdef real[TEMPORARIES * SMALL_TILE] temporary
    cdef Source s = given[0]
    s.temporary = temporary
    s.size = SMALL_TILE
    of_steps(op, &s, thread, threads)


# p: out, x, y, steps. n: rows, kind, outer, mid, inner, stride_outer, stride_mid, chunk, accumulate, by_rows, n_steps, cols.
# s: scale
cdef void reduce(const Op* op, int thread, int threads) noexcept nogil:
    """out[outer, pieces, inner] (+)= x reduced over each piece of the middle axis: ``chunk`` elements of it, the last one
    what is left; 0: one piece. Sums are multiplied by ``scale``. Of no elements: 0, -inf, inf, 1, -inf.

    With ``cols``: of steps(x) instead, or of steps(0) without x; to the steps it is a matrix of rows of so many elements
    (where inner is more than 1: of inner). Where there is a y, steps(x) is left in it. Not LOGSUMEXP, which would do the
    steps twice."""
    cdef Source s
    cdef const StepRecord* steps = <const StepRecord*>op.p[3]
    cdef int64_t i
    if op.n[11]:
        s.x = <const real*>op.p[1]
        s.y = <real*>op.p[2]
        s.steps = steps
        s.n_steps = op.n[10]
        s.cols = op.n[11]
        s.temporary = NULL
        s.size = TILE
        for i in range(s.n_steps):
            if steps[i].p.temporary or steps[i].q.temporary:
                of_steps_with_temporaries(op, &s, thread, threads)
                return
        of_steps(op, &s, thread, threads)
    elif op.n[1] == SUM:
        reduce_kind(SUM, op, thread, threads)
    elif op.n[1] == MAX:
        reduce_kind(MAX, op, thread, threads)
    elif op.n[1] == MIN:
        reduce_kind(MIN, op, thread, threads)
    elif op.n[1] == PROD:
        reduce_kind(PROD, op, thread, threads)
    elif op.n[1] == LOGSUMEXP:
        reduce_kind(LOGSUMEXP, op, thread, threads)


# ---- sums in double ----
# p: totals (double[2]), values, weights, finite (double). n: rows
cdef void accumulate(const Op* op, int thread, int threads) noexcept nogil:
    """totals[0] += sum(values); totals[1] += sum(weights), or rows. finite += 1 as long as totals[0] is: it tells how many
    steps there were before the first that was not. Thread 0 alone: a batch is small."""
    cdef double* totals = <double*>op.p[0]
    cdef const real* values = <const real*>op.p[1]
    cdef const real* weights = <const real*>op.p[2]
    cdef double* finite = <double*>op.p[3]
    cdef int64_t rows = op.n[0]
    if thread > 0:
        return
    totals[0] += sum_doubles(values, rows)
    totals[1] += sum_doubles(weights, rows) if weights != NULL else <double>rows
    if finite != NULL and totals[0] - totals[0] == 0:
        finite[0] += 1


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


TABLE = {"reduce": <size_t>&reduce, "accumulate": <size_t>&accumulate, "square_sums": <size_t>&square_sums,
         "clip_scale": <size_t>&clip_scale}
LAYOUT = layout()
SIGNATURE = signature()
STEP_LAYOUT = step_layout()
globals().update(CHUNK=CHUNK)      # for whoever allocates partials
