"""The team: its size, its barrier, fork and denormals. The only file that knows OpenMP's API."""
from cython.parallel cimport parallel, threadid
cimport openmp
import os

cdef extern from *:
    """
    #if defined(__x86_64__)
    #define nn_pause() __builtin_ia32_pause()
    static inline unsigned nn_denormals_off(void) {
        unsigned before = __builtin_ia32_stmxcsr();
        __builtin_ia32_ldmxcsr(before | 0x8040u);   /* flush to zero, denormals are zero */
        return before;
    }
    static inline void nn_denormals_restore(unsigned before) { __builtin_ia32_ldmxcsr(before); }
    #elif defined(__aarch64__)
    #define nn_pause() __asm__ volatile("yield")
    static inline unsigned nn_denormals_off(void) {
        unsigned before = __builtin_aarch64_get_fpcr();
        __builtin_aarch64_set_fpcr(before | (1u << 24));
        return before;
    }
    static inline void nn_denormals_restore(unsigned before) { __builtin_aarch64_set_fpcr(before); }
    #else
    #define nn_pause() ((void)0)
    static inline unsigned nn_denormals_off(void) { return 0; }
    static inline void nn_denormals_restore(unsigned before) { (void)before; }
    #endif
    #if defined(__linux__)
    #include <linux/futex.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    /* Sleep while *p == v; wake all who do. */
    #define nn_sleep(p, v) ((void)syscall(SYS_futex, (p), FUTEX_WAIT_PRIVATE, (v), NULL, NULL, 0))
    #define nn_wake(p) ((void)syscall(SYS_futex, (p), FUTEX_WAKE_PRIVATE, 0x7fffffff, NULL, NULL, 0))
    #else
    #include <sched.h>
    #define nn_sleep(p, v) ((void)sched_yield())
    #define nn_wake(p) ((void)0)
    #endif
    #define nn_load(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
    #define nn_store(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
    #define nn_add(p, v) __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)
    """
    void nn_pause() noexcept nogil
    unsigned nn_denormals_off() noexcept nogil
    void nn_denormals_restore(unsigned before) noexcept nogil
    void nn_sleep(int* p, int v) noexcept nogil
    void nn_wake(int* p) noexcept nogil
    int nn_load(int* p) noexcept nogil
    void nn_store(int* p, int v) noexcept nogil
    int nn_add(int* p, int v) noexcept nogil


cdef bint barrier_enter(Barrier* barrier, int threads) noexcept nogil:
    """True for the last thread to arrive, which must call barrier_open; the others return when it has."""
    cdef int generation, spin = 0
    if threads == 1:
        return True
    generation = nn_load(&barrier.generation)
    if nn_add(&barrier.arrived, 1) == threads:
        return True
    # Spin, then sleep: on a busy machine the thread that is waited for gets the core.
    while spin < barrier.spins:
        if nn_load(&barrier.generation) != generation:
            return False
        nn_pause()
        spin += 1
    nn_add(&barrier.sleepers, 1)
    while nn_load(&barrier.generation) == generation:
        nn_sleep(&barrier.generation, generation)
    nn_add(&barrier.sleepers, -1)
    return False


cdef void barrier_open(Barrier* barrier, int threads) noexcept nogil:
    """Let the others go on."""
    if threads == 1:
        return
    barrier.arrived = 0
    nn_store(&barrier.generation, barrier.generation + 1)
    if nn_load(&barrier.sleepers):
        nn_wake(&barrier.generation)


cdef void run_member(TeamFunction function, void* argument, int thread, int threads) noexcept nogil:
    cdef unsigned before = nn_denormals_off()
    function(argument, thread, threads)
    nn_denormals_restore(before)


cdef void run_team(TeamFunction function, void* argument, int threads) noexcept nogil:
    """Call ``function(argument, thread, threads)`` on every thread of the team; one thread needs no OpenMP."""
    if threads == 1:
        run_member(function, argument, 0, 1)
        return
    with parallel(num_threads=threads):
        # OpenMP may grant fewer threads than asked for: the function must be told the truth.
        run_member(function, argument, threadid(), openmp.omp_get_num_threads())


_chosen = 0
_forked = False


def _after_fork():
    # libgomp's workers do not exist in a forked child and waiting for them would hang.
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_after_fork)


def get_num_threads():
    """The team's size: ``set_num_threads``'s, or what OpenMP says (OMP_NUM_THREADS, threadpoolctl, the CPUs of this
    process). 1 in a forked child, where OpenMP's workers are gone."""
    if _forked:
        return 1
    return _chosen or openmp.omp_get_max_threads()


def team_is_fixed():
    """True after ``set_num_threads(n)`` with n > 0: Programs do not try one thread for themselves."""
    return _chosen > 0


def set_num_threads(threads):
    """Fix the team's size. 0: back to OpenMP's choice, of which a Program uses one thread where that is faster. Raises
    TypeError or ValueError for anything but a whole number from 0 to 1024."""
    global _chosen
    if isinstance(threads, bool) or not hasattr(threads, "__index__"):
        raise TypeError(f"set_num_threads: expected a whole number, got {threads!r}")
    threads = threads.__index__()
    if not 0 <= threads <= 1024:
        raise ValueError(f"set_num_threads: expected 0 (OpenMP's choice) to 1024, got {threads}")
    _chosen = threads
