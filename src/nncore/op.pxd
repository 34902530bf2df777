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
    int32_t once            # 1: only in the first step of a run
    int32_t padding

# The state of a running Program: an int64 array that kernels read through a pointer among their arguments.
cdef enum:
    STATE_STEP = 0          # optimizer steps done before this one: the step of Philox and of Adam's bias correction
    STATE_ROW = 1           # position in the row indices of this step's first sample
    STATE_BATCH = 2         # samples a step
    STATE_LOCAL = 3         # steps done since run() was called: position in the learning rates
    STATE_INDICES = 4       # address of int64 row indices, or 0: rows are taken in order
    STATE_RATES = 5         # address of double learning rates, one a step
    STATE_SEED = 6          # the seed of every random stream
    STATE_EPOCH = 7         # passes over the data before this one: images are changed in another way in each
    STATE_NUMBERS = 8       # address of int64: the number of each row's sample, or 0: the row itself
    STATE_SLOTS = 10        # from here on: addresses of the user's arrays
    STATE_SIZE = 66


cdef extern from *:
    """
    #ifndef NN_SIGNATURE
    #define NN_SIGNATURE 0      /* not a kernel family */
    #endif
    """
    const int NN_SIGNATURE


cdef inline int signature() noexcept nogil:
    """nncore.kernels.signatures.fingerprint of the family when it was compiled."""
    return NN_SIGNATURE


cdef inline int layout() noexcept nogil:
    """What a module was compiled against: every kernel family exports it, and nncore.kernels compares it."""
    return <int>sizeof(Op) * 100 + STATE_SLOTS


cdef inline void split(int64_t items, int thread, int threads, int64_t* first, int64_t* last) noexcept nogil:
    """The contiguous share [first, last) of ``items`` that belongs to ``thread``."""
    cdef int64_t each = items // threads, rest = items - each * threads
    first[0] = thread * each + (thread if thread < rest else rest)
    last[0] = first[0] + each + (1 if thread < rest else 0)
