# What softmax and the losses do with a row: its maximum, its exponentials. `room` counts the elements that may be read from
# a place on, `ahead` those that this thread has yet to write (none if the output is an input): partial vectors at the end of
# a row use both.
from libc.stdint cimport int64_t
from nncore.kernels.lanes cimport lanes_max, lanes_sum, load_part, store_ahead, vfirst
from nncore.vector cimport INFINITY, LANES, real, vexp, vf, vlog, vmax, vsplat


cdef inline real largest(const real* x, int64_t cols, int64_t room) noexcept nogil:
    """The maximum of a row; ``room``: elements that may be read from x on."""
    cdef vf top = vsplat(-INFINITY)
    cdef int64_t c = 0
    while c < cols:
        top = vmax(load_part(x + c, cols - c, room - c, -INFINITY), top)
        c += LANES
    return lanes_max(top)


cdef inline real exponentials(real* y, const real* x, int64_t cols, int64_t room, int64_t ahead,
                              real top) noexcept nogil:
    """y = exp(x - top) (y may be NULL), and its sum."""
    cdef vf total = vsplat(0), less = vsplat(top), v
    cdef int64_t c = 0
    while c < cols:
        v = vexp(load_part(x + c, cols - c, room - c, -INFINITY) - less)
        total = total + v
        if y != NULL:
            store_ahead(y + c, v, cols - c, ahead - c)
        c += LANES
    return lanes_sum(total)


cdef inline real log_of(real x) noexcept nogil:
    cdef vf v = vlog(vsplat(x))
    return vfirst(v)
