from libc.stdint cimport int64_t

cdef class Pace:
    cdef readonly bint alone    # one thread is the faster way
    cdef double took[2]         # seconds a step of the team and of one thread, as last seen; 0: not seen
    cdef double due             # when to look at the other way again
    cdef double best            # of the team, ever

    cdef (bint, double) next(self, double now, int threads) noexcept nogil
    cdef void note(self, bint alone, int64_t steps, double start, double end) noexcept nogil
