"""Which runs go on at once, by kernels that call Python: they meet, or find that they are alone."""

import ctypes
import signal
import threading

import numpy as np
import pytest
from nncore.turns import core_count

import nncore
from nncore import Op, Program, new_state, set_num_threads

KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)


def calling(function, threads=1, state=None):
    """A Program that calls function(thread) once a step on each thread of its team."""
    kernel = KERNEL(lambda op, thread, threads: function(thread))
    address = ctypes.cast(kernel, ctypes.c_void_p).value
    return Program(
        [Op.custom("python", address, threads=threads, keep=kernel)], new_state() if state is None else state
    )


def at_once(*runs):
    """Call these in a thread each."""
    errors = []

    def call(run):
        try:
            run()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not errors


class Alone:
    """Counts who is inside, and the most that ever were."""

    def __init__(self):
        self.lock, self.inside, self.most, self.calls = threading.Lock(), 0, 0, 0

    def __call__(self, thread=0):
        if thread == 0:
            with self.lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
                self.calls += 1
            threading.Event().wait(0.001)
            with self.lock:
                self.inside -= 1


@pytest.mark.parametrize("count", [2, core_count() + 2])
def test_programs_of_one_thread_run_side_by_side(count):
    meeting = threading.Barrier(count)
    programs = [calling(lambda thread: meeting.wait(30)) for _ in range(count)]
    at_once(*(lambda program=program: program.run(3) for program in programs))
    assert not meeting.broken


def test_one_team_runs_at_a_time():
    set_num_threads(2)
    alone = Alone()
    programs = [calling(alone, threads=2) for _ in range(3)]
    at_once(*(lambda p=program: [p.run(2) for _ in range(10)] for program in programs))
    assert (alone.most, alone.calls) == (1, 60)


def test_a_team_of_all_cores_runs_alone():
    cores = max(2, core_count())
    set_num_threads(cores)
    alone = Alone()
    team, one = calling(alone, threads=cores), calling(alone)
    at_once(*(lambda p=program: [p.run(2) for _ in range(20)] for program in (team, one)))
    assert (alone.most, alone.calls) == (1, 80)


def test_runs_with_one_state_take_turns():
    state, alone = new_state(), Alone()
    programs = [calling(alone, state=state) for _ in range(3)]
    at_once(*(lambda p=program: [p.run(2) for _ in range(10)] for program in programs))
    assert (alone.most, alone.calls) == (1, 60)
    assert state[nncore.memory.ROW] == 60


def test_everybody_gets_a_turn():
    """Two threads that train on teams and two that run on one thread: all of them come to their ends."""
    set_num_threads(2)
    calls = [Alone() for _ in range(4)]
    programs = [calling(call, threads=1 + position % 2) for position, call in enumerate(calls)]
    at_once(*(lambda p=program: [p.run(1) for _ in range(50)] for program in programs))
    assert [call.calls for call in calls] == [50] * 4


def test_a_run_inside_of_a_run_is_an_error():
    errors = []

    def kernel(thread):
        for program in (inner, outer):
            try:
                program.run()
            except RuntimeError as error:
                errors.append(str(error))

    inner, outer = calling(lambda thread: None), calling(kernel)
    outer.run()
    assert len(errors) == 2 and all("expected no run inside of a run" in error for error in errors)
    assert inner.run() == outer.run() == 1


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_a_signal_handler_can_run_programs(threads):
    """Whatever it interrupts, the same state included: runs are over when a handler begins."""
    set_num_threads(threads)
    x, y = np.ones((64, 64), np.float32), np.zeros((64, 64), np.float32)
    state = new_state()
    long, short = (
        Program([Op("softmax", y=y, x=x, rows=64, cols=64, threads=2)], state if same else new_state())
        for same in (True, False)
    )
    handled = [0]

    def handler(signum, frame):
        handled[0] += 1
        assert long.run() == short.run() == 1
        signal.setitimer(signal.ITIMER_REAL, 0.0005)  # the next once this one is done, however long it waited

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
    try:
        total = 0
        while handled[0] < 100:
            total += long.run(200, seconds=0.001)
            total += long.run(1)
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # a handler that runs just now may set the timer again
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert state[nncore.memory.DRAW] == total + handled[0]


def test_a_signal_handler_while_another_thread_has_the_cores():
    set_num_threads(2)
    x, y = np.ones((256, 256), np.float32), np.zeros((256, 256), np.float32)
    mine, other = (Program([Op("softmax", y=y, x=x, rows=256, cols=256, threads=2)], new_state()) for _ in range(2))
    handled, stop = [0], threading.Event()

    def handler(signum, frame):
        handled[0] += 1
        mine.run()
        signal.setitimer(signal.ITIMER_REAL, 0.001)

    def work():
        while not stop.is_set():
            other.run(10**6, seconds=0.002)

    thread = threading.Thread(target=work)
    before = signal.signal(signal.SIGALRM, handler)
    thread.start()
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    try:
        while handled[0] < 30:
            mine.run(10)
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # a handler that runs just now may set the timer again
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
