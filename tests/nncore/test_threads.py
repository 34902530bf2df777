"""The team of threads: how many, what limits them, Python's threads beside it, forked children."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from programs import chained, trainer

import nncore
from nncore import aligned, get_num_threads, set_num_threads


def test_more_threads_than_cores_and_than_work(rng):
    program, y = chained(rng, shape=(3, 5))
    program.run()
    expected = y.tobytes()
    for threads in (len(os.sched_getaffinity(0)) + 1, 16):
        set_num_threads(threads)
        y[:] = 0
        program.run(20)
        assert y.tobytes() == expected


def test_set_num_threads():
    default = get_num_threads()
    assert default >= 1
    set_num_threads(5)
    assert get_num_threads() == 5
    set_num_threads(np.int64(2))
    assert get_num_threads() == 2
    set_num_threads(0)
    assert get_num_threads() == default
    for wrong in (1.5, "2", None, True):
        with pytest.raises(TypeError, match="set_num_threads: expected a whole number, got "):
            set_num_threads(wrong)
    for wrong in (-1, 1025):
        with pytest.raises(ValueError, match=f"expected 0 .* to 1024, got {wrong}"):
            set_num_threads(wrong)
    assert get_num_threads() == default


def test_threadpoolctl_is_honoured(rng):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    default = get_num_threads()
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        assert get_num_threads() == 1
        chained(rng)[0].run(3)
    with threadpoolctl.threadpool_limits(3, user_api="openmp"):
        assert get_num_threads() == 3
        chained(rng)[0].run(3)
    assert get_num_threads() == default


def in_new_process(code, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


RUN = """
import numpy as np, nncore
x, y = np.ones((8, 4), np.float32), np.zeros((8, 4), np.float32)
ops = [nncore.Op("softmax", y=y, x=x, rows=8, cols=4), nncore.Op("softmax", y=x, x=y, rows=8, cols=4)]
nncore.Program(ops, nncore.new_state()).run(100)
print(nncore.get_num_threads(), x.sum())
"""


def test_environment_sets_the_team():
    assert in_new_process(RUN, OMP_NUM_THREADS="1") == ["1", "8.0"]
    assert in_new_process(RUN, OMP_NUM_THREADS="3") == ["3", "8.0"]


def test_a_team_smaller_than_asked_for():
    """OpenMP may grant fewer threads: all of the work is still done."""
    assert in_new_process(RUN, OMP_NUM_THREADS="4", OMP_THREAD_LIMIT="2")[1] == "8.0"
    assert in_new_process(RUN, OMP_NUM_THREADS="4", OMP_THREAD_LIMIT="1")[1] == "8.0"
    assert in_new_process(RUN, OMP_NUM_THREADS="4", OMP_DYNAMIC="true")[1] == "8.0"


WITH_FEW_THREADS = """
import os, resource
import nncore
limit = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE") + (250 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm") or nncore.debug_build(), reason="limits of Linux")
def test_threads_that_the_system_does_not_make():
    """OpenMP would end the process: there are room and processes for two stacks beside the first."""
    catch = "import warnings; warnings.simplefilter('error')\ntry:\n " + RUN.strip().replace("\n", "\n ")
    catch += "\nexcept RuntimeWarning as warning: print(warning)"
    settings = dict(OMP_NUM_THREADS="5", OMP_STACKSIZE="100m", MALLOC_ARENA_MAX="1")
    words = in_new_process(WITH_FEW_THREADS + catch, **settings)
    assert " ".join(words).startswith("nncore: 3 of 5 threads, because the system makes no more threads")
    assert in_new_process(WITH_FEW_THREADS + RUN, **settings) == ["3", "8.0"]


@pytest.mark.parametrize("size", ["64k", " 64 ", "65536B"])
def test_stacks_too_small_for_kernels_are_not_used(size):
    catch = "import warnings; warnings.simplefilter('ignore')" + RUN
    assert in_new_process(catch, OMP_NUM_THREADS="3", OMP_STACKSIZE=size) == ["1", "8.0"]
    loud = RUN.replace("import", "import warnings; warnings.simplefilter('error')\nimport", 1)
    result = subprocess.run(
        [sys.executable, "-c", loud],
        env=os.environ | dict(OMP_NUM_THREADS="3", OMP_STACKSIZE=size),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert f"1 of 3 threads, because OMP_STACKSIZE={size}: kernels need 256K or more" in result.stderr


def test_stacks_large_enough_are_used():
    for size in ("256k", "1M", "nonsense"):
        assert in_new_process(RUN, OMP_NUM_THREADS="3", OMP_STACKSIZE=size) == ["3", "8.0"]


def test_where_affinity_is_forbidden():
    forbid = """
import os
def no(pid): raise PermissionError(1, "not permitted")
os.sched_getaffinity = no
"""
    code = forbid + RUN + "\nprint(nncore.info()['cores'], os.cpu_count())"
    threads, total, cores, count = in_new_process(code, OMP_NUM_THREADS="2")
    assert (threads, total) == ("2", "8.0") and cores == count


def test_other_python_threads_go_on_meanwhile(rng):
    program, _ = chained(rng)
    count, stop = [0], threading.Event()

    def work():
        while not stop.is_set():
            count[0] += 1

    other = threading.Thread(target=work)
    other.start()
    try:
        before = count[0]
        program.run(10**9, seconds=0.5)
        during = count[0] - before
    finally:
        stop.set()
        other.join()
    assert during > 10_000


def test_two_programs_at_once_give_the_bits_of_one_after_the_other():
    set_num_threads(2)
    expected = []
    for seed in (1, 2):
        program, w, _rates = trainer(np.random.default_rng(seed))
        program.run(300)
        expected.append(w.tobytes())
    trainers = [trainer(np.random.default_rng(seed)) for seed in (1, 2)]

    def train(program):
        done = 0
        while done < 300:  # slices of different lengths, so that turns interleave
            done += program.run(min(7, 300 - done))

    threads = [threading.Thread(target=train, args=(program,)) for program, _, _ in trainers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert [w.tobytes() for _, w, _ in trainers] == expected


# Fork


def child_trains(send):
    program, w, _rates = trainer(np.random.default_rng(1))
    program.run(20)
    send.send((get_num_threads(), w.tobytes()))


def forked(target):
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=target, args=(send,))
    child.start()
    try:
        assert receive.poll(60), "the forked child hangs"
        result = receive.recv()
        child.join(30)
        assert child.exitcode == 0
        return result
    finally:
        if child.is_alive():
            child.kill()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_runs_on_one_thread():
    set_num_threads(2)
    program, w, _rates = trainer(np.random.default_rng(1))
    program.run(20)  # the parent's team exists
    assert forked(child_trains) == (1, w.tobytes())
    assert get_num_threads() == 2


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_while_a_program_runs(rng):
    set_num_threads(2)
    program, _ = chained(rng)
    runner = threading.Thread(target=program.run, args=(10**9, 1.0))
    runner.start()
    time.sleep(0.1)
    try:
        threads, bits = forked(child_trains)
    finally:
        runner.join()
    expected, w, _rates = trainer(np.random.default_rng(1))
    expected.run(20)
    assert (threads, bits) == (1, w.tobytes())


BIG = aligned(3 << 19)  # 6 MiB: pages of its own


def child_writes(send):
    BIG[:] = 7
    send.send(float(BIG.sum()))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_does_not_write_to_its_parents_arrays():
    BIG[:] = 1
    assert forked(child_writes) == 7.0 * BIG.size
    assert (BIG == 1).all()
