# The losses: loss[rows] and, in the same pass, its gradient by the prediction.
#
# A thread owns whole rows. An output may be an input itself: what is needed of a row is read before the row is written. An
# output overlaps no input partly. `room`, `ahead`: kernels/rows.pxd.
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset
from nncore.op cimport Op, layout, report, signature, split
from nncore.vector cimport (INFINITY, LANES, NAN, real, vabs, vand, vandnot, vdiv, veq, vexp, vf, vge, vgt, vi, vload, vlog,
                            vlog1p_unit, vmax, vselect, vsplat)
from nncore.kernels.gemm_micro cimport transpose
from nncore.kernels.lanes cimport LANE_NUMBER, lanes_sum, load_part, store_ahead, store_part
from nncore.kernels.rows cimport exponentials, largest, log_of


cdef extern from *:
    """
    #define NN_NO_LABEL ((int64_t)1 << 40)      /* more than an int32 is */
    """
    const int64_t NO_LABEL "NN_NO_LABEL"


cdef inline int64_t first_largest(const real* t, int64_t cols, int64_t room) noexcept nogil:
    cdef real top = largest(t, cols, room)
    cdef int64_t c = 0
    while c + 1 < cols and t[c] != top:
        c += 1
    return c


cdef inline real is_first_largest(const real* x, int64_t label, real top) noexcept nogil:
    """1 if x[label] is the first element of the row that equals its maximum."""
    cdef int64_t c
    cdef int earlier = 0
    if not x[label] == top:
        return 0
    for c in range(label):
        earlier |= x[c] == top
    return 0 if earlier else 1


cdef struct Block:
    # LANES rows (the last ones may be missing) of softmax_crossentropy, for rows of at most one vector.
    real* loss
    real* dx                # or NULL
    real* correct              # or NULL
    const real* x
    const real* t           # targets, or NULL: labels
    const int32_t* labels
    const real* weights     # or NULL
    const real* upstream    # or NULL
    int64_t ignore          # a label that counts for nothing, or one that none is
    int64_t rows
    int64_t cols
    int64_t room
    int64_t ahead
    real scale
    real keep               # 1 - smoothing
    real spread             # smoothing / cols


cdef inline void load_columns(vf* out, const real* x, int64_t rows, int64_t cols, int64_t room) noexcept nogil:
    """out[c] = column c of ``rows`` rows, a lane each."""
    cdef int i
    for i in range(LANES):
        out[i] = load_part(x + i * cols, cols, room - i * cols, 0) if i < rows else vsplat(0)
    transpose(out)
    for i in range(LANES, 16):      # never read, but GCC cannot know
        out[i] = vsplat(0)


cdef inline vf first_maximum(vf* top, const vf* x, int64_t cols) noexcept nogil:
    """The column of each row's first maximum, or -1 where all is NaN; and ``top``, the maxima."""
    cdef vf at = vsplat(-1)
    cdef int64_t c
    top[0] = vsplat(-INFINITY)
    for c in range(cols):
        top[0] = vmax(x[c], top[0])
    for c in range(cols - 1, -1, -1):
        at = vselect(veq(x[c], top[0]), vsplat(<real>c), at)
    return at


cdef inline void crossentropy_block(const Block* b) noexcept nogil:
    """LANES rows at once, each a lane: nothing is summed across lanes."""
    cdef vf x[16]
    cdef vf t[16]
    cdef vf zero = vsplat(0), top = zero, other = zero, total = zero, mass = vsplat(1), cross = zero
    cdef vf best, label, weight, factor, ignored = zero
    cdef vi known
    cdef real lane[16]
    cdef int64_t i, c
    load_columns(x, b.x, b.rows, b.cols, b.room)
    best = first_maximum(&top, x, b.cols)
    if b.t == NULL:
        for i in range(LANES):
            lane[i] = <real>b.labels[i] if i < b.rows else 0
        label = vload(lane)
        ignored = vand(veq(label, vsplat(<real>b.ignore)), vsplat(1))
        for c in range(b.cols):
            t[c] = vand(veq(label, vsplat(<real>c)), vsplat(b.keep)) + vsplat(b.spread)
        for c in range(b.cols, 16):
            t[c] = zero
    else:
        load_columns(t, b.t, b.rows, b.cols, b.room)
        label = first_maximum(&other, t, b.cols)
        mass = zero
        for c in range(b.cols):
            t[c] = t[c] * vsplat(b.keep) + vsplat(b.spread)
            mass = mass + t[c]
    if b.correct != NULL:
        store_part(b.correct, vand(veq(best, label), vsplat(1) - ignored), b.rows)
    for c in range(b.cols):
        x[c] = x[c] - top
        cross = cross + vselect(veq(t[c], zero), zero, t[c] * x[c])     # a zero of t silences an infinite x
        x[c] = vexp(x[c])
        total = total + x[c]
    weight = vsplat(1)
    if b.weights != NULL:
        weight = load_part(b.weights, b.rows, b.rows, 0)
    known = vge(label, zero) & vgt(vsplat(<real>b.cols), label)
    cross = vselect(known, weight * (mass * vlog(total) - cross), vsplat(NAN))
    store_part(b.loss, vandnot(veq(ignored, vsplat(1)), cross), b.rows)
    if b.dx == NULL:
        return
    if b.upstream != NULL:
        weight = weight * load_part(b.upstream, b.rows, b.rows, 0)
    factor = vandnot(veq(ignored, vsplat(1)), vand(known, weight * vsplat(b.scale)))
    total = vdiv(mass * factor, total)
    for c in range(b.cols):
        x[c] = x[c] * total - t[c] * factor
    transpose(x)
    for i in range(b.rows):
        store_ahead(b.dx + i * b.cols, x[i], b.cols, b.ahead - i * b.cols)


cdef struct Row:
    # One row of softmax_crossentropy.
    real* dx                # or NULL
    const real* x
    const real* t           # targets, or NULL: label
    int64_t label           # of t: its first maximum, if correct are asked for
    int64_t cols
    int64_t room
    int64_t ahead
    real weight
    real factor             # weight * upstream * scale
    real keep               # 1 - smoothing
    real spread             # smoothing / cols


# p: loss, dx, correct, x, labels (int32), targets, weights, upstream, state. n: rows, cols, ignoring, ignore. s: scale,
# smoothing
cdef void softmax_crossentropy(const Op* op, int thread, int threads) noexcept nogil:
    """With t the one-hot labels or the targets, smoothed to t (1 - smoothing) + smoothing / cols:
    loss[r] = weight * (sum(t) log(sum(exp(x))) - sum(t x)), x less its maximum;
    dx = (softmax(x) sum(t) - t) * weight * upstream[r] * scale;
    correct[r] = 1 where the first maximum of x is the label (the first maximum of the targets), else 0.
    The label ``ignore`` (if ``ignoring``) gives 0, 0 and 0. Any other that is no column gives loss NaN and dx 0 and is
    reported, if there is a state."""
    cdef int64_t rows = op.n[0], cols = op.n[1], r = 0, last = 0
    cdef real* loss = <real*>op.p[0]
    cdef real* correct = <real*>op.p[2]
    cdef real right = 0
    cdef const int32_t* labels = <const int32_t*>op.p[4]
    cdef const real* weights = <const real*>op.p[6]
    cdef const real* upstream = <const real*>op.p[7]
    cdef int64_t ignore = op.n[3] if op.n[2] else NO_LABEL, i
    cdef bint apart = op.p[1] != op.p[3] and op.p[1] != op.p[5]
    cdef Row row
    row.cols = cols
    row.keep = <real>(1 - op.s[1])
    row.spread = <real>(op.s[1] / cols if cols > 0 else 0)
    cdef Block block
    split(rows, thread, threads, &r, &last)
    if labels != NULL and op.p[8] != NULL:
        for i in range(r, last):
            if not 0 <= labels[i] < cols and labels[i] != ignore:
                report(<int64_t*>op.p[8], op.id, i, labels[i])
                break
    block.cols = cols
    block.ignore = ignore
    block.scale = <real>op.s[0]
    block.keep = row.keep
    block.spread = row.spread
    while r < last and cols <= LANES:
        block.loss = loss + r
        block.dx = <real*>op.p[1] + r * cols if op.p[1] != NULL else NULL
        block.correct = correct + r if correct != NULL else NULL
        block.x = <const real*>op.p[3] + r * cols
        block.t = <const real*>op.p[5] + r * cols if op.p[5] != NULL else NULL
        block.labels = labels + r if labels != NULL else NULL
        block.weights = weights + r if weights != NULL else NULL
        block.upstream = upstream + r if upstream != NULL else NULL
        block.rows = min(<int64_t>LANES, last - r)
        block.room = (rows - r) * cols
        block.ahead = (last - r) * cols if apart else 0
        crossentropy_block(&block)
        r += LANES
    while r < last:
        row.dx = <real*>op.p[1] + r * cols if op.p[1] != NULL else NULL
        row.x = <const real*>op.p[3] + r * cols
        row.t = <const real*>op.p[5] + r * cols if op.p[5] != NULL else NULL
        row.room = (rows - r) * cols
        row.label = labels[r] if row.t == NULL else first_largest(row.t, cols, row.room) if correct != NULL else 0
        row.ahead = (last - r) * cols if apart else 0
        row.weight = weights[r] if weights != NULL else 1
        row.factor = row.weight * <real>op.s[0] * (upstream[r] if upstream != NULL else <real>1)
        if row.label < 0 or row.label >= cols or (labels != NULL and labels[r] == ignore):
            loss[r] = 0 if labels != NULL and labels[r] == ignore else NAN
            if correct != NULL:
                correct[r] = 0
            if row.dx != NULL:
                memset(row.dx, 0, cols * sizeof(real))
            r += 1
            continue
        loss[r] = crossentropy_row(&row, &right)
        if correct != NULL:
            correct[r] = right
        r += 1


cdef inline real crossentropy_row(const Row* row, real* right) noexcept nogil:
    """The loss of a row of any length."""
    cdef real top = largest(row.x, row.cols, row.room), total, mass = 1, cross = 0
    right[0] = is_first_largest(row.x, row.label, top)
    if row.t != NULL:
        mass = target_mass(&cross, row.x, row.t, row.cols, row.room, top, row.keep, row.spread)
    else:
        if row.spread > 0:
            cross = row.spread * centred_sum(row.x, row.cols, row.room, top)
        cross += row.keep * (row.x[row.label] - top)
    total = exponentials(row.dx, row.x, row.cols, row.room, row.ahead, top)
    if row.dx != NULL and row.t != NULL:
        target_gradient(row, mass * row.factor / total)
    elif row.dx != NULL:
        label_gradient(row, row.factor / total)
    return row.weight * (mass * log_of(total) - cross)


cdef inline real centred_sum(const real* x, int64_t cols, int64_t room, real top) noexcept nogil:
    """sum(x - top)."""
    cdef vf total = vsplat(0)
    cdef int64_t c = 0
    while c < cols:
        total = total + (load_part(x + c, cols - c, room - c, top) - vsplat(top))
        c += LANES
    return lanes_sum(total)


cdef inline real target_mass(real* cross, const real* x, const real* t, int64_t cols, int64_t room, real top, real keep,
                             real spread) noexcept nogil:
    """sum(t'), and cross = sum(t' (x - top)), where t' = t * keep + spread. A zero of t' silences an infinite x."""
    cdef vf mass = vsplat(0), total = vsplat(0), ti, vi
    cdef int64_t c = 0
    while c < cols:
        ti = load_part(t + c, cols - c, room - c, 0) * vsplat(keep) + vsplat(spread)
        vi = load_part(x + c, cols - c, room - c, top) - vsplat(top)
        if cols - c < LANES:
            ti = vselect(vge(vload(LANE_NUMBER), vsplat(<real>(cols - c))), vsplat(0), ti)
        mass = mass + ti
        total = total + vselect(veq(ti, vsplat(0)), vsplat(0), ti * vi)
        c += LANES
    cross[0] = lanes_sum(total)
    return lanes_sum(mass)


cdef inline void target_gradient(const Row* row, real scale) noexcept nogil:
    """dx = dx * scale - (t * keep + spread) * factor."""
    cdef vf t
    cdef int64_t c = 0, left
    while c < row.cols:
        left = row.cols - c
        t = load_part(row.t + c, left, row.room - c, 0) * vsplat(row.keep) + vsplat(row.spread)
        t = load_part(row.dx + c, left, row.room - c, 0) * vsplat(scale) - t * vsplat(row.factor)
        store_ahead(row.dx + c, t, left, row.ahead - c)
        c += LANES


cdef inline void label_gradient(const Row* row, real scale) noexcept nogil:
    """dx = dx * scale - spread * factor, and keep * factor less at the label."""
    cdef vf less = vsplat(row.spread * row.factor), y
    cdef int64_t c = 0, left
    while c < row.cols:
        left = row.cols - c
        y = load_part(row.dx + c, left, row.room - c, 0)
        store_ahead(row.dx + c, y * vsplat(scale) - less, left, row.ahead - c)
        c += LANES
    row.dx[row.label] -= row.keep * row.factor


# p: loss, dx, correct, x, targets, weights, upstream. n: rows, cols. s: scale, smoothing
cdef void binary_crossentropy(const Op* op, int thread, int threads) noexcept nogil:
    """With t the targets smoothed to t (1 - smoothing) + smoothing / 2: loss[r] = weight * mean over columns of
    max(x, 0) - x t + log(1 + exp(-|x|)); dx = (sigmoid(x) - t) * weight * upstream[r] * scale / cols;
    correct[r] = the share of columns where x > 0 and targets > 0.5 agree."""
    cdef int64_t rows = op.n[0], cols = op.n[1], r = 0, last = 0, c, room, ahead
    cdef real* loss = <real*>op.p[0]
    cdef real* correct = <real*>op.p[2]
    cdef const real* weights = <const real*>op.p[5]
    cdef const real* upstream = <const real*>op.p[6]
    cdef bint apart = op.p[1] != op.p[3] and op.p[1] != op.p[4]
    cdef real* dx
    cdef const real* x
    cdef const real* t
    cdef vf keep = vsplat(<real>(1 - op.s[1])), spread = vsplat(<real>(op.s[1] / 2)), zero = vsplat(0), one = vsplat(1)
    cdef vf total, agree, factor, xi, raw, ti, e, value
    cdef real weight, share = <real>(1.0 / cols if cols > 0 else 0)
    split(rows, thread, threads, &r, &last)
    while r < last:
        dx = <real*>op.p[1] + r * cols if op.p[1] != NULL else NULL
        x = <const real*>op.p[3] + r * cols
        t = <const real*>op.p[4] + r * cols
        room = (rows - r) * cols
        ahead = (last - r) * cols if apart else 0
        weight = weights[r] if weights != NULL else 1
        factor = vsplat(weight * <real>(op.s[0] * share) * (upstream[r] if upstream != NULL else <real>1))
        total = zero
        agree = zero
        c = 0
        while c < cols:
            xi = load_part(x + c, cols - c, room - c, 0)
            raw = load_part(t + c, cols - c, room - c, 0)
            ti = raw * keep + spread
            e = vexp(-vabs(xi))
            value = vmax(xi, zero) - xi * ti + vlog1p_unit(e)
            raw = vselect(veq(vselect(vgt(xi, zero), one, zero), vselect(vgt(raw, vsplat(0.5)), one, zero)), one, zero)
            if cols - c < LANES:
                value = vselect(vge(vload(LANE_NUMBER), vsplat(<real>(cols - c))), zero, value)
                raw = vselect(vge(vload(LANE_NUMBER), vsplat(<real>(cols - c))), zero, raw)
            total = total + value
            agree = agree + raw
            if dx != NULL:
                store_ahead(dx + c, (vdiv(vselect(vge(xi, zero), one, e), one + e) - ti) * factor, cols - c, ahead - c)
            c += LANES
        loss[r] = weight * lanes_sum(total) * share
        if correct != NULL:
            correct[r] = lanes_sum(agree) * share
        r += 1


# p: loss, dx, x, targets, weights, upstream. n: rows, cols. s: scale
cdef void mean_squared_error(const Op* op, int thread, int threads) noexcept nogil:
    """loss[r] = weight * mean over columns of (x - t)^2; dx = 2 (x - t) * weight * upstream[r] * scale / cols."""
    cdef int64_t rows = op.n[0], cols = op.n[1], r = 0, last = 0, c, room, ahead
    cdef real* loss = <real*>op.p[0]
    cdef const real* weights = <const real*>op.p[4]
    cdef const real* upstream = <const real*>op.p[5]
    cdef bint apart = op.p[1] != op.p[2] and op.p[1] != op.p[3]
    cdef real* dx
    cdef const real* x
    cdef const real* t
    cdef vf total, factor, miss
    cdef real weight, share = <real>(1.0 / cols if cols > 0 else 0)
    split(rows, thread, threads, &r, &last)
    while r < last:
        dx = <real*>op.p[1] + r * cols if op.p[1] != NULL else NULL
        x = <const real*>op.p[2] + r * cols
        t = <const real*>op.p[3] + r * cols
        room = (rows - r) * cols
        ahead = (last - r) * cols if apart else 0
        weight = weights[r] if weights != NULL else 1
        factor = vsplat(weight * <real>(2 * op.s[0] * share) * (upstream[r] if upstream != NULL else <real>1))
        total = vsplat(0)
        c = 0
        while c < cols:
            miss = load_part(x + c, cols - c, room - c, 0) - load_part(t + c, cols - c, room - c, 0)
            total = total + miss * miss
            if dx != NULL:
                store_ahead(dx + c, miss * factor, cols - c, ahead - c)
            c += LANES
        loss[r] = weight * lanes_sum(total) * share
        r += 1


TABLE = {"softmax_crossentropy": <size_t>&softmax_crossentropy, "binary_crossentropy": <size_t>&binary_crossentropy,
         "mean_squared_error": <size_t>&mean_squared_error}
LAYOUT = layout()
SIGNATURE = signature()
