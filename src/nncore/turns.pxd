from libc.stdint cimport int64_t

cdef int enter_state(int64_t* busy) noexcept nogil
cdef void leave_state(int64_t* busy) noexcept nogil
cdef void enter_cores(int threads) noexcept nogil
cdef void leave_cores(int threads) noexcept nogil
cdef int cores
