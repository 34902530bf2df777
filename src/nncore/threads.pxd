ctypedef void (*TeamFunction)(void* argument, int thread, int threads) noexcept nogil

cdef struct Barrier:
    int arrived
    int generation
    int sleepers
    int spins               # how long to spin before going to sleep
    int padding[12]         # a cache line of its own

cdef bint barrier_enter(Barrier* barrier, int threads) noexcept nogil
cdef void barrier_open(Barrier* barrier, int threads) noexcept nogil
cdef bint team_is_fixed() noexcept nogil
cdef int team_size() noexcept nogil
cdef int ready_team(int threads) except -1
cdef void run_team(TeamFunction function, void* argument, int threads) noexcept nogil
