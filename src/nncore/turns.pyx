"""Turns: which runs of Programs may go on at once.

One run at a time works with a state. One team works at a time: two of them on the same cores would wait for each other's
time slices. Runs on one thread wait neither for each other nor, where cores are left, for a team. Who waits longest comes
first, and waits outside of the interpreter: no signal handler runs meanwhile, which could come back for the same turn.
"""
from libc.stdint cimport int64_t
import os

cdef extern from *:
    """
    #include <pthread.h>
    static pthread_mutex_t nn_mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t nn_changed = PTHREAD_COND_INITIALIZER;
    static _Thread_local int nn_inside;
    #define nn_lock() ((void)pthread_mutex_lock(&nn_mutex))
    #define nn_unlock() ((void)pthread_mutex_unlock(&nn_mutex))
    #define nn_wait() ((void)pthread_cond_wait(&nn_changed, &nn_mutex))
    #define nn_notify() ((void)pthread_cond_broadcast(&nn_changed))
    #define nn_renew() (pthread_mutex_init(&nn_mutex, NULL), (void)pthread_cond_init(&nn_changed, NULL))
    """
    int inside "nn_inside"      # this thread is in a run
    void lock "nn_lock"() noexcept nogil
    void unlock "nn_unlock"() noexcept nogil
    void wait "nn_wait"() noexcept nogil
    void notify "nn_notify"() noexcept nogil
    void renew "nn_renew"() noexcept nogil

cdef int64_t era = 1            # a state is busy if it says so in this era: those of another process's threads are not
cdef int working = 0            # threads in runs
cdef int teams = 0              # runs of more than one, 0 or 1
cdef int waiting = 0            # threads in wait()
cdef int64_t next_number = 0    # of whoever comes next and must wait
cdef int64_t now_served = 0     # of whoever waits longest


def _cores():
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):       # not Linux; forbidden
        return os.cpu_count() or 1


cdef int cores = _cores()


def core_count():
    """The cores that this process could use when it started."""
    return cores


cdef int enter_state(int64_t* busy) noexcept nogil:
    """Wait for the run that uses the state whose cell this is. -1, at once, if this thread is in a run already."""
    global waiting
    if inside:
        return -1
    lock()
    while busy[0] == era:
        waiting += 1
        wait()
        waiting -= 1
    busy[0] = era
    (&inside)[0] = 1
    unlock()
    return 0


cdef void leave_state(int64_t* busy) noexcept nogil:
    lock()
    busy[0] = 0
    (&inside)[0] = 0
    if waiting:
        notify()
    unlock()


cdef inline bint room(int threads) noexcept nogil:
    if threads == 1:
        return teams == 0 or working < cores
    return working == 0 or (teams == 0 and working + threads <= cores)


cdef void enter_cores(int threads) noexcept nogil:
    """Wait until so many threads may work."""
    global working, teams, waiting, next_number, now_served
    cdef int64_t mine
    lock()
    if now_served < next_number or not room(threads):
        mine = next_number
        next_number += 1
        waiting += 1
        while now_served != mine or not room(threads):
            wait()
        waiting -= 1
        now_served += 1
        if waiting:
            notify()    # the next in line may have room too
    working += threads
    teams += threads > 1
    unlock()


cdef void leave_cores(int threads) noexcept nogil:
    global working, teams
    lock()
    working -= threads
    teams -= threads > 1
    if waiting:
        notify()
    unlock()


def _after_fork():
    """The threads that were in runs, or waited, do not exist in the child."""
    global era, working, teams, waiting, next_number, now_served
    renew()
    era += 1
    working = teams = waiting = 0
    next_number = now_served = 0
    (&inside)[0] = 0


os.register_at_fork(after_in_child=_after_fork)
