"""Program: an array of Ops and its one parallel region."""
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from nncore.op cimport (Kernel, ONCE, Op, POINTERS, SCALARS, SIZES, STATE_BATCH, STATE_BUSY, STATE_DRAW, STATE_EPOCH,
                        STATE_ERROR_OP, STATE_ERROR_ROW, STATE_ERROR_VALUE, STATE_INDICES,
                        STATE_LOCAL, STATE_NUMBERS, STATE_RATES, STATE_ROW, STATE_SEED, STATE_SIZE, STATE_SLOTS,
                        STATE_STEPS, layout, nn_get, report, split)
from nncore.pace cimport Pace
from nncore.threads cimport Barrier, barrier_enter, barrier_open, ready_team, run_team, team_is_fixed, team_size
from nncore.turns cimport cores, enter_cores, enter_state, leave_cores, leave_state
import numpy as np
from nncore.barriers import place_barriers

cdef extern from "time.h" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec* time)
    int CLOCK_MONOTONIC

cdef extern from *:
    """
    #ifndef NNCORE_DEBUG
    #define NNCORE_DEBUG 0
    #endif
    """
    const int NNCORE_DEBUG

cdef enum:
    SPINS = 1000        # 10 to 40 us: longer than the gap between two ops, short where another process has the core

cdef enum:              # of ``every``: from here down in a step, or every k-th, in which no op has reported an error
    COMMITS = -2        # COMMITS + 1 - k: every k-th

cdef enum:              # instead of the number of steps done
    INSIDE = -2
    ERROR = -3


cdef struct Stretch:
    int64_t done
    double start
    double end


cdef double now() noexcept nogil:
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec + 1e-9 * time.tv_nsec


cdef struct Run:
    Op* ops
    int64_t count
    int64_t* state
    int64_t steps           # to do
    int64_t done
    int64_t before          # steps that the run has done in other stretches
    double until            # stop after the step that passes this time; 0: never
    int more
    double* seconds         # of each op, for walk_timed; and when the last of them ended
    double clock
    Barrier barrier


cdef inline bint due(const Op* op, const Run* run) noexcept nogil:
    """Whether an op that has ``every`` runs in this step. All threads meet between the reports and the ops that commit,
    so that they see the same."""
    if op.every <= COMMITS:
        if nn_get(run.state + STATE_ERROR_OP) != 0:
            return False
        return op.every == COMMITS or run.state[STATE_STEPS] % (COMMITS + 1 - op.every) == op.phase
    if op.every == ONCE:
        return run.done + run.before == 0
    return run.state[STATE_STEPS] % op.every == op.phase


cdef inline void walk_ops(Run* run, int thread, int threads, bint timed) noexcept nogil:
    cdef Op* op
    cdef int64_t i
    cdef int share
    cdef double end
    while True:
        for i in range(run.count):
            op = &run.ops[i]
            if op.barrier and barrier_enter(&run.barrier, threads):
                barrier_open(&run.barrier, threads)
            share = op.threads if op.threads < threads else threads
            if thread < share and (op.every == 0 or due(op, run)):
                op.kernel(op, thread, share)
            if timed:       # an op's time is that of the thread that takes longest
                if barrier_enter(&run.barrier, threads):
                    end = now()
                    run.seconds[i] += end - run.clock
                    run.clock = end
                    barrier_open(&run.barrier, threads)
        if barrier_enter(&run.barrier, threads):        # whoever comes last prepares the next step for all
            run.more = 0
            if run.state[STATE_ERROR_OP] == 0:      # else the step counts for nothing
                run.state[STATE_DRAW] += 1
                run.state[STATE_STEPS] += 1
                run.state[STATE_ROW] += run.state[STATE_BATCH]
                run.state[STATE_LOCAL] += 1
                run.done += 1
                run.more = run.done < run.steps and (run.until == 0 or now() < run.until)
            barrier_open(&run.barrier, threads)
        if not run.more:
            return


cdef void walk(void* run, int thread, int threads) noexcept nogil:
    walk_ops(<Run*>run, thread, threads, False)


cdef void walk_timed(void* run, int thread, int threads) noexcept nogil:
    walk_ops(<Run*>run, thread, threads, True)


cdef class Program:
    """Ops in order, run by one team in one parallel region.

    ``ops``: a sequence of ``nncore.Op``. ``state``: int64 array of ``STATE_SIZE`` (``nncore.new_state()``), read by
    kernels, advanced after every step; Programs may share it, and one of them runs at a time.
    The arrays that the ops name are kept alive by the Program.
    """
    cdef Op* ops
    cdef int64_t count
    cdef int64_t* cells             # the state array's memory
    cdef readonly object state
    cdef readonly tuple records
    cdef readonly int threads       # the most threads that any op can use
    cdef readonly Pace pace

    def __cinit__(self, ops, state):
        self.ops = NULL

    def __init__(self, ops, state):
        cdef Op* op
        cdef Py_ssize_t i, j
        if not (isinstance(state, np.ndarray) and state.dtype == np.int64 and state.shape == (STATE_SIZE,)
                and state.flags.c_contiguous and state.flags.writeable):
            raise TypeError(f"Program: expected state to be a writeable int64 array of shape ({STATE_SIZE},), got {state!r}")
        self.records = tuple(ops)
        self.state = state
        self.cells = <int64_t*><size_t>state.ctypes.data
        free(self.ops)      # of an earlier __init__
        self.count = 0
        self.ops = <Op*>calloc(max(1, len(self.records)), sizeof(Op))
        if self.ops == NULL:
            raise MemoryError(f"Program: no memory for {len(self.records)} ops")
        self.count = len(self.records)
        self.pace = Pace()
        barriers = place_barriers(self.records)
        self.threads = 1
        for i in range(self.count):
            record = self.records[i]
            op = &self.ops[i]
            for what, numbers, most in (("pointers", record.pointers, POINTERS), ("sizes", record.sizes, SIZES),
                                        ("scalars", record.scalars, SCALARS)):
                if len(numbers) > most:
                    raise ValueError(f"Program: Op {record.name!r} has {len(numbers)} {what}, and {most} fit")
            op.kernel = <Kernel><size_t>record.address
            for j in range(len(record.pointers)):
                op.p[j] = <void*><size_t>record.pointers[j]
            for j in range(len(record.sizes)):
                op.n[j] = record.sizes[j]
            for j in range(len(record.scalars)):
                op.s[j] = record.scalars[j]
            op.threads = record.threads
            op.barrier = barriers[i]
            if record.commits:
                op.every = COMMITS + 1 - record.every
            else:
                op.every = ONCE if record.once else record.every if record.every > 1 else 0
            op.phase = record.phase
            op.id = i + 1
            self.threads = max(self.threads, op.threads)

    def __dealloc__(self):
        free(self.ops)

    def __len__(self):
        return self.count

    def run(self, int64_t steps=1, double seconds=0.0):
        """Run up to ``steps`` steps, at least one, without the GIL; stop early after ``seconds`` (0: no limit).

        Returns the number of steps done: fewer than asked for too where an op has reported an error, which ``error``
        tells and ``clear`` forgets; until then run raises RuntimeError. The state's counters advance by that many steps:
        the one with the error is not among them, and its ops that commit did not run.
        Unless ``set_num_threads`` has fixed the team, the Program finds out whether it is faster on one thread.
        Signals are handled before or after, and so is what another thread does with the same state; on teams see
        nncore.turns.
        """
        cdef int team
        if steps < 1 or self.count == 0:
            return 0
        team = self.team()
        with nogil:
            steps = self.take_state_and_run(steps, seconds, team, NULL)
        return self.checked(steps)

    def profile(self, int64_t steps=1):
        """Run ``steps`` steps as ``run`` does, slowly: nanoseconds a step of each op, float64 of shape (ops,).

        All threads meet after each op, so that its time is that of the thread which takes longest."""
        cdef int team
        times = np.zeros(self.count)
        cdef double* seconds = <double*><size_t>times.ctypes.data
        if steps < 1 or self.count == 0:
            return times
        team = 1 if self.pace.alone and not team_is_fixed() else self.team()
        with nogil:
            steps = self.take_state_and_run(steps, 0, team, seconds)
        return times * (1e9 / max(1, self.checked(steps)))

    cdef int team(self) except -1:
        """How many threads it may use."""
        return min(ready_team(min(team_size(), self.threads)), self.threads)

    cdef int64_t checked(self, int64_t done) except -1:
        if done == INSIDE:
            raise RuntimeError("Program: expected no run inside of a run, and a kernel called Python, which called one")
        if done == ERROR:
            raise RuntimeError(f"Program: error() is {self.error()}; clear() it first")
        return done

    cdef int64_t take_state_and_run(self, int64_t steps, double seconds, int team, double* times) noexcept nogil:
        """The steps done, INSIDE or ERROR. The interpreter runs nothing from here on."""
        cdef int64_t done
        if enter_state(self.cells + STATE_BUSY) < 0:
            return INSIDE
        if self.cells[STATE_ERROR_OP]:
            done = ERROR
        elif team == 1 or team_is_fixed() or times != NULL:
            done = self.stretch(steps, seconds, team, 0, times).done
        else:
            done = self.stretches(steps, seconds, team)
        leave_state(self.cells + STATE_BUSY)
        return done

    cdef int64_t stretches(self, int64_t steps, double seconds, int team) noexcept nogil:
        """At the pace that it finds; waiting for a turn is not the Program's time."""
        cdef double left = seconds if seconds > 0 else 1e300, time
        cdef int64_t done = 0
        cdef bint alone
        cdef Stretch last
        last.end = now()
        while True:
            alone, time = self.pace.next(last.end, team)
            last = self.stretch(steps - done, min(time, left), 1 if alone else team, done, NULL)
            self.pace.note(alone, max(<int64_t>1, last.done), last.start, last.end)
            done += last.done
            left -= last.end - last.start
            if done == steps or left <= 0 or self.cells[STATE_ERROR_OP]:
                return done

    cdef Stretch stretch(self, int64_t steps, double seconds, int threads, int64_t before, double* times) noexcept nogil:
        cdef Run run
        cdef Stretch result
        memset(&run, 0, sizeof(Run))
        run.ops = self.ops
        run.count = self.count
        run.state = self.cells
        run.steps = steps
        run.before = before
        run.seconds = times
        run.barrier.spins = SPINS if threads <= cores else 0
        enter_cores(threads)
        run.clock = result.start = now()
        run.until = result.start + seconds if seconds > 0 else 0
        run_team(walk if times == NULL else walk_timed, &run, threads)
        result.end = now()
        leave_cores(threads)
        result.done = run.done
        return result

    def error(self):
        """What an op reported: (its position among the ops, the row, the value that it cannot use); None if none did.

        The ops after it went on to the end of the step, but for those that commit. Of several errors the one of the first op and row."""
        if self.cells[STATE_ERROR_OP] == 0:
            return None
        return self.cells[STATE_ERROR_OP] - 1, self.cells[STATE_ERROR_ROW], self.cells[STATE_ERROR_VALUE]

    def clear(self):
        """Forget the error, so that the Program can run again."""
        self.cells[STATE_ERROR_OP] = 0


def debug_build():
    """True in a build with NNCORE_DEBUG: AddressSanitizer watches every buffer."""
    return bool(NNCORE_DEBUG)


def state_layout():
    """Positions in the state array, by name."""
    return dict(DRAW=STATE_DRAW, ROW=STATE_ROW, BATCH=STATE_BATCH, LOCAL=STATE_LOCAL, INDICES=STATE_INDICES,
                RATES=STATE_RATES, SEED=STATE_SEED, EPOCH=STATE_EPOCH, NUMBERS=STATE_NUMBERS, STEPS=STATE_STEPS,
                ERROR_OP=STATE_ERROR_OP, ERROR_ROW=STATE_ERROR_ROW, ERROR_VALUE=STATE_ERROR_VALUE, SLOTS=STATE_SLOTS,
                SIZE=STATE_SIZE,
                POINTERS=POINTERS, SIZES=SIZES, SCALARS=SCALARS, OP_BYTES=sizeof(Op), LAYOUT=layout())


# p: state, values (int64). n: rows, least
cdef void report_small(const Op* op, int thread, int threads) noexcept nogil:
    """Reports the rows of its share whose value is below ``least``: how a kernel reports, for tests."""
    cdef const int64_t* values = <const int64_t*>op.p[1]
    cdef int64_t first = 0, last = 0, row
    split(op.n[0], thread, threads, &first, &last)
    for row in range(first, last):
        if values[row] < op.n[1]:
            report(<int64_t*>op.p[0], op.id, row, values[row])


TABLE = {"report_small": <size_t>&report_small}
