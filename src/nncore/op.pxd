# Op: a kernel's address and its arguments. Kernel: what every thread of the team calls.
from libc.stdint cimport int32_t, int64_t

cdef enum:
    POINTERS = 16
    SIZES = 32
    SCALARS = 8

ctypedef void (*Kernel)(const Op* op, int thread, int threads) noexcept nogil

cdef struct Op:
    Kernel kernel
    void* p[POINTERS]       # buffers, in the order of the kernel's signature (kernels/signatures.py)
    int64_t n[SIZES]        # sizes, strides, flags
    double s[SCALARS]       # scalars
    int32_t threads         # how many threads may share it at most; the rest pass by
    int32_t barrier         # 1: all threads meet before it starts
    int32_t id              # its position in the Program + 1: what it reports errors under
    int32_t every           # 0: in every step; k > 0: where state[STATE_STEPS] % k == phase; ONCE: in the first of a run; COMMITS
    int32_t phase
    int32_t padding

cdef enum:
    ONCE = -1

# The state of a running Program: an int64 array that kernels read through a pointer among their arguments.
cdef enum:
    STATE_DRAW = 0          # draws of every random stream before this step's: the step of Philox
    STATE_ROW = 1           # position in the row indices of this step's first sample
    STATE_BATCH = 2         # samples a step
    STATE_LOCAL = 3         # steps done since run() was called: the row of the table of columns
    STATE_INDICES = 4       # address of int64 row indices, or 0: rows are taken in order
    STATE_RATES = 5         # address of a table of doubles, a row for each step: the columns of the optimizer's rule
    STATE_SEED = 6          # the seed of every random stream
    STATE_EPOCH = 7         # passes over the data before this one: images are changed in another way in each
    STATE_NUMBERS = 8       # address of int64: the number of each row's sample, or 0: the row itself
    STATE_STEPS = 9         # steps done with this state, of whatever run: what ``every`` looks at
    STATE_ERROR_OP = 10     # 0, or the id of an op that met a value it cannot use; the Program stops after that step
    STATE_ERROR_ROW = 11    # the row where it was
    STATE_ERROR_VALUE = 12  # and the value
    STATE_ERROR_LOCK = 13   # 1 while a thread writes the three
    STATE_BUSY = 14         # nncore.turns: a run works with this state
    STATE_SLOTS = 16        # from here on: addresses of the user's arrays
    STATE_SIZE = 72


cdef extern from *:
    """
    #define nn_get(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define nn_put(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define nn_taken(p) __atomic_exchange_n((p), 1, __ATOMIC_ACQUIRE)
    """
    int64_t nn_get(const int64_t* p) noexcept nogil
    void nn_put(int64_t* p, int64_t v) noexcept nogil
    int64_t nn_taken(int64_t* p) noexcept nogil


cdef inline bint precedes(const int64_t* state, int64_t id, int64_t row, int64_t value) noexcept nogil:
    """Whether this error comes before the one in the state, by (id, row, value)."""
    cdef int64_t before = nn_get(state + STATE_ERROR_OP)
    if before != id:
        return before == 0 or id < before
    before = nn_get(state + STATE_ERROR_ROW)
    return row < before or (row == before and value < nn_get(state + STATE_ERROR_VALUE))


cdef inline void report(int64_t* state, int64_t id, int64_t row, int64_t value) noexcept nogil:
    """An error met by the op ``id``: it goes on with a value that it can use, and the Program stops after the step.

    Of several in a step the one of the first op stays, of its first row: the same for any number of threads, if each
    reports the first of its share at least. Only threads that come at once with an earlier one wait for each other.
    """
    if not precedes(state, id, row, value):
        return
    while nn_taken(state + STATE_ERROR_LOCK):
        pass
    if precedes(state, id, row, value):
        nn_put(state + STATE_ERROR_VALUE, value)
        nn_put(state + STATE_ERROR_ROW, row)        # before the id: who reads the id first sees its row or an earlier one
        nn_put(state + STATE_ERROR_OP, id)
    nn_put(state + STATE_ERROR_LOCK, 0)


cdef extern from *:
    """
    #ifndef NN_SIGNATURE
    #define NN_SIGNATURE 0      /* not a kernel family */
    #endif
    """
    const int NN_SIGNATURE
    const int NN_LAYOUT


cdef inline int signature() noexcept nogil:
    """nncore.kernels.signatures.fingerprint of the family when it was compiled."""
    return NN_SIGNATURE


cdef inline int layout() noexcept nogil:
    """nncore.kernels.signatures.layout of this file when the module was compiled: every kernel family exports it, and
    nncore.kernels compares it."""
    return NN_LAYOUT


cdef inline void split(int64_t items, int thread, int threads, int64_t* first, int64_t* last) noexcept nogil:
    """The contiguous share [first, last) of ``items`` that belongs to ``thread``."""
    cdef int64_t each = items // threads, rest = items - each * threads
    first[0] = thread * each + (thread if thread < rest else rest)
    last[0] = first[0] + each + (1 if thread < rest else 0)


cdef inline void split_rows(int64_t rows, int64_t each, bint whole, int thread, int threads, int64_t* first,
                            int64_t* last) noexcept nogil:
    """The thread's share of ``rows`` of ``each`` items, counted in items; ``whole``: of whole rows."""
    split(rows if whole else rows * each, thread, threads, first, last)
    if whole:
        first[0] *= each
        last[0] *= each
