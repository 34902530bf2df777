# Softmax over the last axis, and the losses: loss[rows] and, in the same pass, its gradient by the prediction.
#
# A thread owns whole rows. dx may be x itself: what is needed of a row is read before the row is written.
from libc.stdint cimport int32_t, int64_t
from nncore.op cimport Op, split
from nncore.vector cimport (INFINITY, LANES, real, vabs, vdiv, veq, vexp, vf, vge, vgt, vload, vlog, vlog1p_unit, vmax,
                            vselect, vsplat)
from nncore.kernels.lanes cimport (LANE_NUMBER, lanes_max, lanes_sum, load_part, store_part, vfirst)

cdef inline real largest(const real* x, int64_t cols, int64_t room) noexcept nogil:
    """The maximum of a row; ``room``: elements that may be read from x on."""
    cdef vf top = vsplat(-INFINITY)
    cdef int64_t c = 0
    while c < cols:
        top = vmax(load_part(x + c, cols - c, room - c, -INFINITY), top)
        c += LANES
    return lanes_max(top)


cdef inline real exponentials(real* y, const real* x, int64_t cols, int64_t room, real top) noexcept nogil:
    """y = exp(x - top) (y may be NULL), and its sum."""
    cdef vf total = vsplat(0), less = vsplat(top), v
    cdef int64_t c = 0
    while c < cols:
        v = vexp(load_part(x + c, cols - c, room - c, -INFINITY) - less)
        total = total + v
        if y != NULL:
            store_part(y + c, v, cols - c)
        c += LANES
    return lanes_sum(total)


cdef inline real log_of(real x) noexcept nogil:
    cdef vf v = vlog(vsplat(x))
    return vfirst(v)


# p: y, x. n: rows, cols
cdef void softmax(const Op* op, int thread, int threads) noexcept nogil:
    """y = exp(x - max) / sum of them, in each row. y may be x."""
    cdef int64_t rows = op.n[0], cols = op.n[1], r = 0, last = 0, c
    cdef real* y
    cdef const real* x
    cdef vf scale
    split(rows, thread, threads, &r, &last)
    while r < last:
        y = <real*>op.p[0] + r * cols
        x = <const real*>op.p[1] + r * cols
        scale = vsplat(1 / exponentials(y, x, cols, (rows - r) * cols, largest(x, cols, (rows - r) * cols)))
        c = 0
        while c < cols:
            # Room is the row itself: the next one is being written by its owner.
            store_part(y + c, load_part(y + c, cols - c, cols - c, 0) * scale, cols - c)
            c += LANES
        r += 1


# p: y, x. n: rows, cols
cdef void log_softmax(const Op* op, int thread, int threads) noexcept nogil:
    """y = x - max - log(sum(exp(x - max))), in each row. y may be x."""
    cdef int64_t rows = op.n[0], cols = op.n[1], r = 0, last = 0, c, room
    cdef real* y
    cdef const real* x
    cdef vf less, log_sum
    split(rows, thread, threads, &r, &last)
    while r < last:
        y = <real*>op.p[0] + r * cols
        x = <const real*>op.p[1] + r * cols
        room = (rows - r) * cols
        less = vsplat(largest(x, cols, room))
        log_sum = vsplat(log_of(exponentials(NULL, x, cols, room, vfirst(less))))
        c = 0
        while c < cols:
            store_part(y + c, (load_part(x + c, cols - c, room - c, 0) - less) - log_sum, cols - c)
            c += LANES
        r += 1


# p: dx, dy, y. n: rows, cols
cdef void softmax_grad(const Op* op, int thread, int threads) noexcept nogil:
    """dx = y * (dy - sum(dy * y)), in each row. dx may be dy."""
    cdef int64_t rows = op.n[0], cols = op.n[1], r = 0, last = 0, c, room
    cdef real* dx
    cdef const real* dy
    cdef const real* y
    cdef vf total
    split(rows, thread, threads, &r, &last)
    while r < last:
        dx = <real*>op.p[0] + r * cols
        dy = <const real*>op.p[1] + r * cols
        y = <const real*>op.p[2] + r * cols
        room = (rows - r) * cols
        total = vsplat(0)
        c = 0
        while c < cols:
            total = total + load_part(dy + c, cols - c, room - c, 0) * load_part(y + c, cols - c, room - c, 0)
            c += LANES
        total = vsplat(lanes_sum(total))
        c = 0
        while c < cols:
            store_part(dx + c, load_part(y + c, cols - c, room - c, 0) * (load_part(dy + c, cols - c, room - c, 0) - total),
                       cols - c)
            c += LANES
        r += 1


# p: dx, dy, y. n: rows, cols
cdef void log_softmax_grad(const Op* op, int thread, int threads) noexcept nogil:
    """dx = dy - exp(y) * sum(dy), in each row. dx may be dy."""
    cdef int64_t rows = op.n[0], cols = op.n[1], r = 0, last = 0, c, room
    cdef real* dx
    cdef const real* dy
    cdef const real* y
    cdef vf total
    split(rows, thread, threads, &r, &last)
    while r < last:
        dx = <real*>op.p[0] + r * cols
        dy = <const real*>op.p[1] + r * cols
        y = <const real*>op.p[2] + r * cols
        room = (rows - r) * cols
        total = vsplat(0)
        c = 0
        while c < cols:
            total = total + load_part(dy + c, cols - c, room - c, 0)
            c += LANES
        total = vsplat(lanes_sum(total))
        c = 0
        while c < cols:
            store_part(dx + c, load_part(dy + c, cols - c, room - c, 0)
                       - vexp(load_part(y + c, cols - c, room - c, 0)) * total, cols - c)
            c += LANES
        r += 1


cdef inline int64_t first_largest(const real* t, int64_t cols) noexcept nogil:
    cdef int64_t c, best = 0
    for c in range(1, cols):
        if t[c] > t[best]:
            best = c
    return best


cdef inline real is_first_largest(const real* x, int64_t label, real top) noexcept nogil:
    """1 if x[label] is the first element of the row that equals its maximum."""
    cdef int64_t c
    cdef int earlier = 0
    if not x[label] == top:
        return 0
    for c in range(label):
        earlier |= x[c] == top
    return 0 if earlier else 1


# p: loss, dx, hits, x, labels (int32), targets, weights. n: rows, cols. s: scale, smoothing
cdef void softmax_crossentropy(const Op* op, int thread, int threads) noexcept nogil:
    """With t the one-hot labels or the targets, smoothed to t (1 - smoothing) + smoothing / cols:
    loss[r] = weight * (sum(t) log(sum(exp(x))) - sum(t x)), x less its maximum; dx = (softmax(x) sum(t) - t) * weight * scale;
    hits[r] = 1 where the first maximum of x is the label (the first maximum of the targets), else 0."""
    cdef int64_t rows = op.n[0], cols = op.n[1], r = 0, last = 0, room, label
    cdef real* loss = <real*>op.p[0]
    cdef real* hits = <real*>op.p[2]
    cdef const int32_t* labels = <const int32_t*>op.p[4]
    cdef const real* weights = <const real*>op.p[6]
    cdef real* dx
    cdef const real* x
    cdef const real* t
    cdef real keep = <real>(1 - op.s[1]), spread = <real>(op.s[1] / cols if cols > 0 else 0)
    cdef real weight, factor, top, total, mass, cross, chosen
    split(rows, thread, threads, &r, &last)
    while r < last:
        dx = <real*>op.p[1] + r * cols if op.p[1] != NULL else NULL
        x = <const real*>op.p[3] + r * cols
        t = <const real*>op.p[5] + r * cols if op.p[5] != NULL else NULL
        room = (rows - r) * cols
        weight = weights[r] if weights != NULL else 1
        factor = weight * <real>op.s[0]
        top = largest(x, cols, room)
        label = labels[r] if t == NULL else first_largest(t, cols) if hits != NULL else 0
        if hits != NULL:
            hits[r] = is_first_largest(x, label, top)
        mass = 1
        cross = 0
        if t != NULL:
            mass = target_mass(&cross, x, t, cols, room, top, keep, spread)
        else:
            chosen = x[label] - top
            if spread > 0:
                cross = spread * centred_sum(x, cols, room, top)
            cross += keep * chosen
        total = exponentials(dx, x, cols, room, top)
        loss[r] = weight * (mass * log_of(total) - cross)
        if dx != NULL and t != NULL:
            target_gradient(dx, t, cols, room, mass * factor / total, factor, keep, spread)
        elif dx != NULL:
            label_gradient(dx, cols, factor / total, spread * factor)
            dx[label] -= keep * factor
        r += 1


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


cdef inline void target_gradient(real* dx, const real* t, int64_t cols, int64_t room, real scale, real factor, real keep,
                                 real spread) noexcept nogil:
    """dx = dx * scale - (t * keep + spread) * factor."""
    cdef vf ti
    cdef int64_t c = 0
    while c < cols:
        ti = load_part(t + c, cols - c, room - c, 0) * vsplat(keep) + vsplat(spread)
        store_part(dx + c, load_part(dx + c, cols - c, cols - c, 0) * vsplat(scale) - ti * vsplat(factor), cols - c)
        c += LANES


cdef inline void label_gradient(real* dx, int64_t cols, real scale, real less) noexcept nogil:
    """dx = dx * scale - less."""
    cdef int64_t c = 0
    while c < cols:
        store_part(dx + c, load_part(dx + c, cols - c, cols - c, 0) * vsplat(scale) - vsplat(less), cols - c)
        c += LANES


# p: loss, dx, hits, x, targets, weights. n: rows, cols. s: scale, smoothing
cdef void binary_crossentropy(const Op* op, int thread, int threads) noexcept nogil:
    """With t the targets smoothed to t (1 - smoothing) + smoothing / 2: loss[r] = weight * mean over columns of
    max(x, 0) - x t + log(1 + exp(-|x|)); dx = (sigmoid(x) - t) * weight * scale / cols;
    hits[r] = the share of columns where x > 0 and targets > 0.5 agree."""
    cdef int64_t rows = op.n[0], cols = op.n[1], r = 0, last = 0, c, room
    cdef real* loss = <real*>op.p[0]
    cdef real* hits = <real*>op.p[2]
    cdef const real* weights = <const real*>op.p[5]
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
        weight = weights[r] if weights != NULL else 1
        factor = vsplat(weight * <real>(op.s[0] * share))
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
                store_part(dx + c, (vdiv(vselect(vge(xi, zero), one, e), one + e) - ti) * factor, cols - c)
            c += LANES
        loss[r] = weight * lanes_sum(total) * share
        if hits != NULL:
            hits[r] = lanes_sum(agree) * share
        r += 1


# p: loss, dx, x, targets, weights. n: rows, cols. s: scale
cdef void mean_squared_error(const Op* op, int thread, int threads) noexcept nogil:
    """loss[r] = weight * mean over columns of (x - t)^2; dx = 2 (x - t) * weight * scale / cols."""
    cdef int64_t rows = op.n[0], cols = op.n[1], r = 0, last = 0, c, room
    cdef real* loss = <real*>op.p[0]
    cdef const real* weights = <const real*>op.p[4]
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
        weight = weights[r] if weights != NULL else 1
        factor = vsplat(weight * <real>(2 * op.s[0] * share))
        total = vsplat(0)
        c = 0
        while c < cols:
            miss = load_part(x + c, cols - c, room - c, 0) - load_part(t + c, cols - c, room - c, 0)
            total = total + miss * miss
            if dx != NULL:
                store_part(dx + c, miss * factor, cols - c)
            c += LANES
        loss[r] = weight * lanes_sum(total) * share
        r += 1


TABLE = {"softmax": <size_t>&softmax, "softmax_grad": <size_t>&softmax_grad, "log_softmax": <size_t>&log_softmax,
         "log_softmax_grad": <size_t>&log_softmax_grad, "softmax_crossentropy": <size_t>&softmax_crossentropy,
         "binary_crossentropy": <size_t>&binary_crossentropy, "mean_squared_error": <size_t>&mean_squared_error}
