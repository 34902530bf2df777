"""Program and its team: state, slices, barriers, the GIL, Python threads, fork, thread counts, denormals; Op."""

import itertools
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import nncore
from nncore import Op, Program, Ref, aligned, get_num_threads, new_state, set_num_threads
from nncore.barriers import place_barriers
from nncore.kernels.operands import EXTENTS, TYPES, extents
from nncore.kernels.signatures import SIGNATURES
from nncore.memory import BATCH, DRAW, ERROR_OP, LAYOUT, LOCAL, RATES, ROW, STEPS


def softmax(y, x, **options):
    return Op("softmax", y=y, x=x, rows=x.shape[0], cols=x.shape[1], **options)


def chained(rng, count=6, shape=(37, 21), **options):
    """A Program whose ops each need the one before, and its last result."""
    values = [rng.standard_normal(shape).astype(np.float32)] + [np.zeros(shape, np.float32) for _ in range(count)]
    ops = [softmax(y, x, **options) for x, y in itertools.pairwise(values)]
    return Program(ops, new_state()), values[-1]


def trainer(rng, count=40_000):
    """Adam on one buffer: a Program whose result depends on every step."""
    w, g = rng.standard_normal((2, count)).astype(np.float32)
    m, v = np.zeros((2, count), np.float32)
    state, columns = new_state(), np.tile([1e-2, 0, 0.1, 0.01, 1e-7], (1000, 1))
    state[RATES] = columns.ctypes.data
    op = Op("update", rule="adam", w=w, slot_0=m, slot_1=v, g=g, state=state, count=count)
    return Program([op], state), w, columns


# State and slices


def test_the_state_advances_once_a_step(rng):
    program, _ = chained(rng)
    program.state[BATCH], program.state[ROW], program.state[DRAW] = 32, 64, 5
    assert program.run() == 1
    assert program.run(9) == 9
    assert (program.state[DRAW], program.state[ROW], program.state[LOCAL]) == (15, 64 + 320, 10)


def test_many_steps_in_one_call_are_as_many_calls(rng):
    one, w, _one = trainer(np.random.default_rng(1))
    many, other, _many = trainer(np.random.default_rng(1))
    assert one.run(50) == 50
    for _ in range(50):
        many.run(1)
    assert w.tobytes() == other.tobytes()


def test_a_slice_ends_after_its_seconds_and_can_be_continued(rng):
    set_num_threads(1)  # on a busy machine a barrier may take as long as the slice
    program, _ = chained(rng)
    start = time.perf_counter()
    done = program.run(10**9, seconds=0.05)
    assert time.perf_counter() - start >= 0.05
    assert 1 <= done < 10**9 and program.state[DRAW] == done
    assert program.run(3, seconds=100.0) == 3
    assert program.run(10, seconds=1e-9) == 1
    assert program.state[DRAW] == done + 4


def test_nothing_to_do(rng):
    program, y = chained(rng)
    assert program.run(0) == program.run(-1) == 0 and not y.any()
    empty = Program([], new_state())
    assert len(empty) == 0 and empty.run(5) == 0


def test_a_program_keeps_its_memory_alive(rng):
    program = Program([softmax(np.zeros((50, 50), np.float32), np.ones((50, 50), np.float32))] * 3, new_state())
    assert len(program) == 3
    program.run(10)
    result = program.records[0].keep[0]
    np.testing.assert_allclose(result, 1 / 50, rtol=1e-6)


def test_a_thousand_ops(rng):
    set_num_threads(3)
    program, y = chained(rng, count=1000, shape=(5, 7))
    program.run()
    np.testing.assert_allclose(y, 1 / 7, rtol=1e-5)  # the fixed point


@pytest.mark.parametrize(
    "state",
    [
        None,
        [0] * LAYOUT["SIZE"],
        np.zeros(LAYOUT["SIZE"]),
        np.zeros(3, np.int64),
        np.zeros(2 * LAYOUT["SIZE"], np.int64)[::2],
        np.broadcast_to(np.int64(0), LAYOUT["SIZE"]),
    ],
    ids=["none", "list", "float", "short", "strided", "read-only"],
)
def test_a_wrong_state_is_refused(state):
    with pytest.raises(TypeError, match="expected state to be a writeable int64 array of shape"):
        Program([], state)


def test_more_arguments_than_an_op_holds_are_refused():
    x = np.zeros(4)
    for what, arguments in (
        ("pointers", dict(reads=[x] * (LAYOUT["POINTERS"] + 1))),
        ("sizes", dict(sizes=[1] * (LAYOUT["SIZES"] + 1))),
        ("scalars", dict(scalars=[1.0] * (LAYOUT["SCALARS"] + 1))),
    ):
        with pytest.raises(ValueError, match=f"Op 'mine' has .* {what}, and .* fit"):
            Program([Op.custom("mine", 1, **arguments)], new_state())


# Ops that do not run in every step


def count_up(total, **options):
    """total += 1, whenever it runs."""
    one = np.ones(1, np.float32)
    return Op("column_sum", out=total, x=one, rows=1, cols=1, ld=1, accumulate=1, **options)


def test_ops_run_once_or_every_few_steps_of_the_state():
    totals = np.zeros((5, 1), np.float32)
    when = [{}, dict(once=True), dict(every=3), dict(every=3, phase=2), dict(every=1)]
    program = Program([count_up(total, **options) for total, options in zip(totals, when, strict=True)], new_state())
    assert program.run(4) == 4  # steps 0 to 3
    assert totals[:, 0].tolist() == [4, 1, 2, 1, 4]
    assert program.run(5) == 5  # 4 to 8: the counter of the state goes on
    assert totals[:, 0].tolist() == [9, 2, 3, 3, 9]
    program.state[STEPS] = 2
    program.run()
    assert totals[:, 0].tolist() == [10, 3, 3, 4, 10]
    assert program.state[STEPS] == 3


def test_wrong_times_of_an_op_are_refused():
    total = np.zeros(1, np.float32)
    for options in (dict(every=0), dict(every=-1), dict(every=2, phase=2), dict(phase=-1), dict(every=1 << 31)):
        with pytest.raises(ValueError, match="'column_sum': expected every to be 1 or more and phase to be 0 to"):
            count_up(total, **options)
    with pytest.raises(ValueError, match="expected once or every, got both"):
        count_up(total, once=True, every=2)
    with pytest.raises(ValueError, match="'mine': expected every to be 1 or more"):
        Op.custom("mine", 1, every=0)


# Errors


def reporter(state, values, least):
    """An op that reports the rows of ``values`` that are below ``least``."""
    address = nncore.program.TABLE["report_small"]
    return Op.custom("report_small", address, writes=[state[ERROR_OP:]], reads=[values], sizes=[len(values), least])


def reporting(values, least=0):
    """A Program of three ops whose middle one and last report; what the first counts."""
    state, total = new_state(), np.zeros(1, np.float32)
    ops = [count_up(total), reporter(state, values, least), reporter(state, values, least + 1)]
    for op in ops[1:]:
        op.pointers[0] = state.ctypes.data
    return Program(ops, state), total


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_reported_error_ends_the_run_after_its_step(threads):
    set_num_threads(threads)
    values = np.zeros(1000, np.int64)
    program, total = reporting(values)
    values[[300, 301, 999]] = -7, -5, -9
    assert program.error() is None
    assert program.run(10) == 1 and total[0] == 1
    assert program.error() == (1, 300, -7)  # the first op and row, whoever came first
    with pytest.raises(RuntimeError, match=r"error\(\) is \(1, 300, -7\); clear\(\) it first"):
        program.run()
    program.clear()
    assert program.error() is None
    values[300:302] = 1
    values[999] = 0
    assert program.run(10) == 1 and program.error() == (2, 0, 0)
    program.clear()
    values[:] = 1
    assert program.run(10) == 10 and program.error() is None and total[0] == 12


def test_every_row_wrong_on_many_threads():
    set_num_threads(8)
    values = -np.arange(1, 200_001)
    program, _ = reporting(values)
    for _ in range(20):
        assert program.run(3) == 1 and program.error() == (1, 0, -1)
        program.clear()


def test_an_error_ends_a_run_whose_team_is_not_fixed():
    values = np.full(5, -1)
    program, total = reporting(values)
    assert program.run(10**6) == 1 and total[0] == 1


# Profile


@pytest.mark.parametrize("threads", [1, 3])
def test_the_profile_tells_the_ops_that_take_time(threads):
    set_num_threads(threads)
    x, y = np.ones((2, 400, 400), np.float32)
    small, total = np.zeros((1, 1), np.float32), np.zeros(1, np.float32)
    ops = [softmax(small, small), softmax(y, x), count_up(total, every=2), softmax(small, small)]
    program = Program(ops, new_state())
    profiles = [program.profile(2) for _ in range(10)]
    times = np.min(profiles, axis=0)  # without what other processes took
    assert times.shape == (4,) and times.dtype == np.float64 and (times > 0).all()
    if threads == 1:
        assert times[1] > 20_000 and times[1] > 0.5 * times.sum()  # 160,000 exponentials
    assert program.state[DRAW] == 20 and total[0] == 10  # it does what run does
    np.testing.assert_allclose(y, 1 / 400, rtol=1e-5)
    assert program.profile(0).tolist() == [0] * 4
    assert Program([], new_state()).profile(3).shape == (0,)


def test_the_profile_of_one_step_is_that_of_an_error():
    program, total = reporting(np.full(5, -1))
    assert (program.profile(10) > 0).all() and total[0] == 1
    with pytest.raises(RuntimeError, match="clear"):
        program.profile()


# Barriers


def op(writes=(), reads=(), threads=0):
    return Op.custom("op", 0, writes=writes, reads=reads, threads=threads)


A, B, C = Ref(1000, 100), Ref(2000, 100), Ref(3000, 100)


@pytest.mark.parametrize(
    "ops, expected",
    [
        ([], []),
        ([op([A])], [False]),
        ([op([A]), op([B], [A])], [False, True]),  # read after write
        ([op([A]), op([A])], [False, True]),  # write after write
        ([op([B], [A]), op([A])], [False, True]),  # write after read
        ([op([B], [A]), op([C], [A])], [False, False]),  # both read
        ([op([A]), op([B]), op([C])], [False, False, False]),
        ([op([A]), op([B]), op([C], [A])], [False, False, True]),  # not only the last
        ([op([A]), op([B], [A]), op([C], [A])], [False, True, False]),  # a barrier clears what was before it
        ([op([A]), op([B], [A]), op([C], [B])], [False, True, True]),
        ([op([A]), op([C], [Ref(1099, 1)])], [False, True]),  # the last byte
        ([op([A]), op([C], [Ref(1100, 50)])], [False, False]),  # one beyond
        ([op([A]), op([C], [Ref(950, 50)])], [False, False]),
        ([op([A]), op([C], [Ref(950, 51)])], [False, True]),
        ([op([A]), op([C], [Ref(900, 500)])], [False, True]),  # around it
        ([op([A]), op([C], [Ref(1050, 0)])], [False, False]),  # nothing
        ([op([A], threads=1), op([B], [A], threads=1)], [False, False]),  # the same thread, in order
        ([op([A], threads=1), op([B], [A])], [False, True]),
        ([op([A]), op([B], [A], threads=1)], [False, True]),
        ([op([A], threads=2), op([B], [A], threads=2)], [False, True]),  # two threads split by work, not by place
    ],
)
def test_barriers(ops, expected):
    assert place_barriers(ops) == expected


def test_views_of_one_array_overlap_where_their_memory_does():
    whole = np.zeros((4, 10), np.float32)
    left, right = whole[:, :5], whole[:, 5:]  # interleaved rows: the spans overlap
    assert place_barriers([op([left]), op([right])]) == [False, True]
    assert place_barriers([op([whole[:2]]), op([whole[2:]])]) == [False, False]
    assert place_barriers([op([whole[::-1]]), op(reads=[whole[3]])]) == [False, True]
    assert place_barriers([op([whole[:0]]), op([whole])]) == [False, False]


def test_dependent_ops_give_the_same_bits_at_any_thread_count(every_thread_count):
    def compute(threads):
        set_num_threads(threads)
        program, y = chained(np.random.default_rng(3), shape=(64, 33))
        program.run(200)
        return [y]

    every_thread_count(compute)


# Threads


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


@pytest.mark.parametrize("shape", [0, 1, (3, 5), (0, 4), 1 << 20, (1 << 10, 1 << 10)])
@pytest.mark.parametrize("kind", ["float32", "float64", "int32"])
def test_aligned_arrays(shape, kind):
    array = aligned(shape, kind)
    assert array.shape == ((shape,) if isinstance(shape, int) else shape) and array.dtype == kind
    assert not array.any() and array.flags.c_contiguous and array.flags.writeable
    if array.size and not nncore.debug_build():
        assert array.ctypes.data % 64 == 0


# Floating-point mode


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_denormals_are_flushed_inside_and_the_callers_mode_is_restored(threads, run, dtype, isa):
    tiny = np.finfo(dtype).smallest_subnormal * 1000
    x, out = np.full((3, 4), tiny, dtype), np.full(3, 9, dtype)
    run("row_sum", threads=threads, dtype=dtype, isa=isa, out=out, x=x, rows=3, cols=4, ld=4)
    np.testing.assert_array_equal(out, 0)
    assert (x.sum(1) > 0).all() and (x * x.dtype.type(0.5) > 0).all()


# Op


def test_wrong_arguments_of_an_op():
    x = np.zeros((2, 3), np.float32)
    locked = x.copy()
    locked.flags.writeable = False
    sizes = dict(rows=2, cols=3)
    for error, match, call in (
        (ValueError, "unknown kernel 'sofmax'; expected one of .*softmax", lambda: Op("sofmax", y=x, x=x)),
        (TypeError, "'x' is missing", lambda: Op("softmax", y=x, **sizes)),
        (TypeError, "unknown arguments axis, z; it takes y! x", lambda: Op("softmax", y=x, x=x, z=1, axis=2)),
        (TypeError, "expected 'x' to be a NumPy array or Ref, got list", lambda: Op("softmax", y=x, x=[1])),
        (TypeError, "expected 'y' to be .*, got int", lambda: Op("softmax", y=5, x=x)),
        (TypeError, "it writes 'y', and got a read-only array", lambda: Op("softmax", y=locked, x=x)),
        (TypeError, "expected 'rows' to be a whole number, got 2.5", lambda: Op("softmax", y=x, x=x, rows=2.5)),
        (TypeError, "expected 'clip' to be a number, got 'a'", lambda: Op("clip_scale", scale=x, partials=x, clip="a")),
        (ValueError, "expected threads to be 0 .* or more, got -1", lambda: Op("softmax", y=x, x=x, threads=-1)),
        (TypeError, "expected a NumPy array or Ref, got str", lambda: Op.custom("mine", 1, writes=["x"])),
    ):
        with pytest.raises(error, match=match):
            call()
    Op("softmax", y=x, x=locked, **sizes)  # what is only read may be read-only


def refused(error, match, name, **arguments):
    with pytest.raises(error, match=match):
        Op(name, **arguments)


GEMM = dict(m=4, n=6, k=5, rs_a=5, cs_a=1, ldb=6, ldc=6)


def operands(dtype=np.float32):
    return dict(c=np.zeros((4, 6), dtype), a=np.zeros((4, 5), dtype), b=np.zeros((5, 6), dtype))


def test_memory_of_another_type_is_refused(dtype):
    other = "float64" if dtype == "float32" else "float32"
    Op("gemm", dtype=dtype, **operands(dtype), **GEMM)
    for name in "abc":
        wrong = operands(dtype) | {name: operands(other)[name]}
        refused(TypeError, f"'gemm': expected '{name}' of dtype {dtype} in a kernel of {dtype}, got {other}", "gemm",
                dtype=dtype, **wrong, **GEMM)  # fmt: skip
    x, y = np.zeros((2, 2, 3), dtype)
    loss = np.zeros(2, dtype)
    given = dict(loss=loss, x=x, rows=2, cols=3, dtype=dtype)
    Op("softmax_crossentropy", labels=np.zeros(2, np.int32), **given)
    refused(TypeError, "expected 'labels' of dtype int32 .*, got int64", "softmax_crossentropy",
            labels=np.zeros(2, np.int64), **given)  # fmt: skip
    refused(TypeError, "expected 'totals' of dtype float64 .*, got int32", "accumulate", totals=np.zeros(2, np.int32),
            values=loss, rows=2, dtype=dtype)  # fmt: skip
    refused(TypeError, "expected 'state' of dtype int64 .*, got float64", "scatter", x=x, rows=2, cols=3, dtype=dtype,
            state=np.zeros(LAYOUT["SIZE"]))  # fmt: skip
    swapped = np.dtype(dtype).newbyteorder()
    refused(TypeError, f"expected 'x' of dtype {dtype} .*, got {swapped}", "softmax", y=y, x=x.astype(swapped), rows=2,
            cols=3, dtype=dtype)  # fmt: skip


def test_memory_that_is_too_short_is_refused():
    for name, elements in (("c", 24), ("a", 20), ("b", 30)):
        short = operands() | {name: operands()[name].reshape(-1)[: elements - 1]}
        refused(ValueError, f"'gemm': expected '{name}' to hold {elements} elements .*, got {elements - 1} ", "gemm",
                **short, **GEMM)  # fmt: skip
        array = short[name]
        piece = Ref(array.ctypes.data, array.nbytes, array)
        refused(ValueError, f"expected '{name}' to hold {elements}", "gemm", **short | {name: piece}, **GEMM)
    refused(ValueError, "expected 'a' to hold 35 elements", "gemm", **operands(), **GEMM | dict(rs_a=10))
    Op("gemm", **operands(), **GEMM | dict(k=0))  # of nothing nothing is needed
    x = np.zeros((2, 3), np.float32)
    refused(
        ValueError, "expected 'x' to hold 8 elements", "softmax", y=np.zeros((2, 4), np.float32), x=x, rows=2, cols=4
    )
    refused(ValueError, r"'dx' to hold 8 elements \(rows=2, cols=4\), got 6 \(24 bytes\)", "mean_squared_error",
            loss=x, x=np.zeros(8, np.float32), targets=np.zeros(8, np.float32), dx=x, rows=2, cols=4)  # fmt: skip
    refused(ValueError, "expected 'state' to hold", "scatter", x=x, state=np.zeros(3, np.int64), rows=2, cols=3)


def test_layouts_that_the_kernel_does_not_follow_are_refused():
    whole = np.zeros((4, 10), np.float32)
    part, y = whole[:, :5], np.zeros((4, 5), np.float32)
    refused(TypeError, r"'softmax': expected 'x' C-contiguous, got strides of \(40, 4\) bytes", "softmax", y=y, x=part,
            rows=4, cols=5)  # fmt: skip
    refused(TypeError, "expected 'x' C-contiguous", "softmax", y=y, x=np.zeros((5, 4), np.float32).T, rows=4, cols=5)
    strided = operands() | dict(a=part)
    Op("gemm", **strided, **GEMM | dict(rs_a=10))
    refused(TypeError, r"expected 'a' C-contiguous or with the strides rs_a=5 and cs_a=1, got strides of \(40, 4\)",
            "gemm", **strided, **GEMM)  # fmt: skip
    turned = operands() | dict(a=np.zeros((5, 4), np.float32).T)
    Op("gemm", **turned, **GEMM | dict(rs_a=1, cs_a=4))
    refused(TypeError, "expected 'a' C-contiguous or", "gemm", **turned, **GEMM)
    backward = operands() | dict(a=np.zeros((4, 5), np.float32)[::-1])
    refused(TypeError, "expected 'a' C-contiguous or", "gemm", **backward, **GEMM)


def test_the_tables_of_operands_name_arguments_of_kernels():
    names = {kernel: {p.rstrip("!?") for p in signature.pointers} for kernel, signature in SIGNATURES.items()}
    for kernel, known in EXTENTS.items():
        assert set(known) & names[kernel], kernel
        call = extents(kernel, tuple(names[kernel]))
        assert len(call(*[1] * len(SIGNATURES[kernel].sizes))) == len(names[kernel])
    for pointer in TYPES:
        kernel, _, name = pointer.rpartition(".")
        assert name in (names[kernel] if kernel else set().union(*names.values())), pointer


@pytest.mark.parametrize("threads", [1, 2])
def test_making_ops_and_placing_barriers_takes_work_in_proportion(threads):
    """A network of a thousand layers has ten thousand ops: ten times as many take ten times the work, not a hundred."""
    owner = np.zeros(1)

    def lines(function):
        """(result, lines of Python that ran)."""
        ran = [0]

        def trace(frame, event, argument):
            ran[0] += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            result = function()
        finally:
            sys.settrace(before)
        return result, ran[0]

    def work(count):
        pieces = [Ref(1 << 40 | position << 12, 1 << 12, owner) for position in range(count + 1)]
        sizes = dict(rows=32, cols=32, ld_x=32, ld_out=32)
        # Many of more than one thread that no barrier parts: each its own memory, and all of them one that they read.
        ops, made = lines(lambda: [
            Op("chain", out=pieces[2 * i + 1], x=pieces[0 if threads > 1 else 2 * i], threads=threads, **sizes)
            for i in range(count // 2)
        ])  # fmt: skip
        barriers, placed = lines(lambda: place_barriers(ops))
        assert not any(barriers)
        return made, placed

    few, many = work(200), work(2000)
    assert few[0] > 100 and few[1] > 100
    assert many[0] < 11 * few[0] and many[1] < 15 * few[1], (few, many)


def test_optional_arguments_may_be_absent():
    x, loss = np.zeros((2, 3), np.float32), np.zeros(2, np.float32)
    Program([Op("mean_squared_error", loss=loss, x=x, targets=x + 2, rows=2, cols=3)], new_state()).run()
    np.testing.assert_array_equal(loss, [4, 4])


def test_an_op_limited_to_one_thread_runs_once():
    totals, values = np.zeros(2), np.ones(5, np.float32)
    set_num_threads(3)
    for threads in (0, 1):
        Program([Op("accumulate", totals=totals, values=values, rows=5, threads=threads)], new_state()).run(10)
    np.testing.assert_array_equal(totals, [100, 100])
