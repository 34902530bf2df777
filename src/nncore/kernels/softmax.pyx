# Softmax over the last axis, its logarithm, and their gradients.
#
# A thread owns whole rows. An output may be an input itself: what is needed of a row is read before the row is written. An
# output overlaps no input partly.
from libc.stdint cimport int64_t
from nncore.op cimport Op, layout, signature, split
from nncore.vector cimport INFINITY, LANES, real, vexp, vf, vlog, vsplat
from nncore.kernels.lanes cimport lanes_max, lanes_sum, load_part, store_ahead
from nncore.kernels.rows cimport exponentials, largest

# p: y, x. n: rows, cols
cdef void softmax(const Op* op, int thread, int threads) noexcept nogil:
    """y = exp(x - max) / sum of them, in each row. y may be x."""
    cdef int64_t rows = op.n[0], cols = op.n[1], r = 0, last = 0, c, room, ahead
    cdef bint apart = op.p[0] != op.p[1]
    cdef real* y
    cdef const real* x
    cdef vf e
    cdef real total
    split(rows, thread, threads, &r, &last)
    while r < last:
        y = <real*>op.p[0] + r * cols
        x = <const real*>op.p[1] + r * cols
        room = (rows - r) * cols
        ahead = (last - r) * cols if apart else 0
        if cols <= LANES:
            e = load_part(x, cols, room, -INFINITY)
            e = vexp(e - vsplat(lanes_max(e)))
            store_ahead(y, e * vsplat(1 / lanes_sum(e)), cols, ahead)
        else:
            total = exponentials(y, x, cols, room, ahead, largest(x, cols, room))
            c = 0
            while c < cols:
                store_ahead(y + c, load_part(y + c, cols - c, room - c, 0) * vsplat(1 / total), cols - c, ahead - c)
                c += LANES
        r += 1


# p: y, x. n: rows, cols
cdef void log_softmax(const Op* op, int thread, int threads) noexcept nogil:
    """y = x - max - log(sum(exp(x - max))), in each row. y may be x."""
    cdef int64_t rows = op.n[0], cols = op.n[1], r = 0, last = 0, c, room, ahead
    cdef bint apart = op.p[0] != op.p[1]
    cdef real* y
    cdef const real* x
    cdef real top
    cdef vf less, log_sum
    split(rows, thread, threads, &r, &last)
    while r < last:
        y = <real*>op.p[0] + r * cols
        x = <const real*>op.p[1] + r * cols
        room = (rows - r) * cols
        ahead = (last - r) * cols if apart else 0
        top = largest(x, cols, room)
        less = vsplat(top)
        log_sum = vlog(vsplat(exponentials(NULL, x, cols, room, 0, top)))
        c = 0
        while c < cols:
            store_ahead(y + c, (load_part(x + c, cols - c, room - c, 0) - less) - log_sum, cols - c, ahead - c)
            c += LANES
        r += 1


# p: dx, dy, y. n: rows, cols
cdef void softmax_grad(const Op* op, int thread, int threads) noexcept nogil:
    """dx = y * (dy - sum(dy * y)), in each row. dx may be dy."""
    cdef int64_t rows = op.n[0], cols = op.n[1], r = 0, last = 0, c, room, ahead
    cdef bint apart = op.p[0] != op.p[1] and op.p[0] != op.p[2]
    cdef real* dx
    cdef const real* dy
    cdef const real* y
    cdef vf total, v
    split(rows, thread, threads, &r, &last)
    while r < last:
        dx = <real*>op.p[0] + r * cols
        dy = <const real*>op.p[1] + r * cols
        y = <const real*>op.p[2] + r * cols
        room = (rows - r) * cols
        ahead = (last - r) * cols if apart else 0
        total = vsplat(0)
        c = 0
        while c < cols:
            total = total + load_part(dy + c, cols - c, room - c, 0) * load_part(y + c, cols - c, room - c, 0)
            c += LANES
        total = vsplat(lanes_sum(total))
        c = 0
        while c < cols:
            v = load_part(dy + c, cols - c, room - c, 0) - total
            store_ahead(dx + c, load_part(y + c, cols - c, room - c, 0) * v, cols - c, ahead - c)
            c += LANES
        r += 1


# p: dx, dy, y. n: rows, cols
cdef void log_softmax_grad(const Op* op, int thread, int threads) noexcept nogil:
    """dx = dy - exp(y) * sum(dy), in each row. dx may be dy."""
    cdef int64_t rows = op.n[0], cols = op.n[1], r = 0, last = 0, c, room, ahead
    cdef bint apart = op.p[0] != op.p[1] and op.p[0] != op.p[2]
    cdef real* dx
    cdef const real* dy
    cdef const real* y
    cdef vf total, v
    split(rows, thread, threads, &r, &last)
    while r < last:
        dx = <real*>op.p[0] + r * cols
        dy = <const real*>op.p[1] + r * cols
        y = <const real*>op.p[2] + r * cols
        room = (rows - r) * cols
        ahead = (last - r) * cols if apart else 0
        total = vsplat(0)
        c = 0
        while c < cols:
            total = total + load_part(dy + c, cols - c, room - c, 0)
            c += LANES
        total = vsplat(lanes_sum(total))
        c = 0
        while c < cols:
            v = vexp(load_part(y + c, cols - c, room - c, 0)) * total
            store_ahead(dx + c, load_part(dy + c, cols - c, room - c, 0) - v, cols - c, ahead - c)
            c += LANES
        r += 1


TABLE = {"softmax": <size_t>&softmax, "softmax_grad": <size_t>&softmax_grad, "log_softmax": <size_t>&log_softmax,
         "log_softmax_grad": <size_t>&log_softmax_grad}
LAYOUT = layout()
SIGNATURE = signature()
