"""The team: its size, its barrier, fork and denormals. The only file that knows OpenMP's API."""
from cython.parallel cimport parallel, threadid
cimport openmp
import os
import re
import warnings

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
    #include <pthread.h>
    static _Thread_local int nn_proven = 1;
    static void* nn_wait_for(void* mutex) {
        pthread_mutex_lock((pthread_mutex_t*)mutex);
        pthread_mutex_unlock((pthread_mutex_t*)mutex);
        return NULL;
    }
    /* How many of so many threads exist at once if they are made with such a stack (0: the system's choice). */
    static int nn_try_threads(int count, size_t stack) {
        pthread_t threads[1024];
        pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
        pthread_attr_t attributes;
        int made = 0, i;
        pthread_attr_init(&attributes);
        if (stack) (void)pthread_attr_setstacksize(&attributes, stack);
        pthread_mutex_lock(&mutex);
        while (made < count && made < 1024 && pthread_create(threads + made, &attributes, nn_wait_for, &mutex) == 0) made++;
        pthread_mutex_unlock(&mutex);
        for (i = 0; i < made; i++) pthread_join(threads[i], NULL);
        pthread_attr_destroy(&attributes);
        return made;
    }
    #define nn_load(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
    #define nn_store(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
    #define nn_add(p, v) __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)
    """
    int proven "nn_proven"      # threads of this thread's teams that could be made
    int nn_try_threads(int count, size_t stack) noexcept nogil
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


cdef int chosen = 0             # by set_num_threads
cdef int most = 1 << 20         # threads that this process can have
cdef bint forked = False

STACK_LEAST = 1 << 18           # bytes of a thread's stack: kernels keep tiles on it


def _after_fork():
    # libgomp's workers do not exist in a forked child and waiting for them would hang.
    global forked
    forked = True


os.register_at_fork(after_in_child=_after_fork)


def _stack_size():
    """Bytes that OpenMP gives the stacks of its threads, from the environment as OpenMP reads it; 0: the system's choice."""
    for name in ("OMP_STACKSIZE", "GOMP_STACKSIZE"):
        found = re.fullmatch(r"\s*\+?(\d+)\s*([BKMG]?)\s*", os.environ.get(name, ""), re.IGNORECASE)
        if found:
            return int(found[1]) << {"B": 0, "": 10, "K": 10, "M": 20, "G": 30}[found[2].upper()]
    return 0


cdef size_t stack_size = min(_stack_size(), 1 << 62)


cdef int ready_team(int threads) except -1:
    """How many threads the team can have: OpenMP ends the process where it cannot make one, so they are tried before a
    calling thread's first team. Warns where it is fewer than asked for."""
    global most
    cdef int made
    if threads <= proven or threads == 1:
        return threads
    if 0 < stack_size < <size_t>STACK_LEAST:
        most = 1
        why = f"OMP_STACKSIZE={os.environ.get('OMP_STACKSIZE')}: kernels need {STACK_LEAST >> 10}K or more"
    else:
        with nogil:
            made = nn_try_threads(threads - proven, stack_size)
        if made == threads - proven:
            (&proven)[0] = threads
            return threads
        most = proven + made
        (&proven)[0] = most
        why = "the system makes no more threads (its limit of processes or memory)"
    warnings.warn(f"nncore: {most} of {threads} threads, because {why}", RuntimeWarning, stacklevel=1)
    return most


cdef int team_size() noexcept nogil:
    cdef int threads = chosen
    if forked:
        return 1
    return min(threads if threads else openmp.omp_get_max_threads(), most)


cdef bint team_is_fixed() noexcept nogil:
    """True after ``set_num_threads(n)`` with n > 0: Programs do not try one thread for themselves."""
    return chosen > 0


def get_num_threads():
    """The team's size: ``set_num_threads``'s, or what OpenMP says (OMP_NUM_THREADS, threadpoolctl, the CPUs of this
    process). 1 in a forked child, where OpenMP's workers are gone; fewer where the system has made no more."""
    return team_size()


def set_num_threads(threads):
    """Fix the team's size. 0: back to OpenMP's choice, of which a Program uses one thread where that is faster. Raises
    TypeError or ValueError for anything but a whole number from 0 to 1024."""
    global chosen
    if isinstance(threads, bool) or not hasattr(threads, "__index__"):
        raise TypeError(f"set_num_threads: expected a whole number, got {threads!r}")
    threads = threads.__index__()
    if not 0 <= threads <= 1024:
        raise ValueError(f"set_num_threads: expected 0 (OpenMP's choice) to 1024, got {threads}")
    chosen = threads
