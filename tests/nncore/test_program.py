"""Program: state, slices, times, errors, profile, memory, floating-point mode."""

import time

import numpy as np
import pytest
from programs import chained, softmax, trainer

import nncore
from nncore import Op, Program, aligned, new_state, set_num_threads
from nncore.memory import BATCH, DRAW, ERROR_OP, LAYOUT, LOCAL, ROW, STEPS
from nncore.reductions import reduce_sizes

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
    return Op("reduce", out=total, x=one, **reduce_sizes("sum", 1, 1, 1, accumulate=True), **options)


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
        with pytest.raises(ValueError, match="'reduce': expected every to be 1 or more and phase to be 0 to"):
            count_up(total, **options)
    with pytest.raises(ValueError, match="expected once or every, got both"):
        count_up(total, once=True, every=2)
    with pytest.raises(ValueError, match="expected commits or once, got both"):
        count_up(total, commits=True, once=True)
    with pytest.raises(ValueError, match="'mine': expected every to be 1 or more"):
        Op.custom("mine", 1, every=0)


# Errors


def reporter(state, values, least):
    """An op that reports the rows of ``values`` that are below ``least``."""
    address = nncore.program.TABLE["report_small"]
    sizes = [len(values), least]
    return Op.custom("report_small", address, writes=[state[ERROR_OP:]], reads=[values], sizes=sizes, reports=True)


def reporting(values, least=0):
    """A Program of four ops whose middle ones report; what the first counts, and the last, which commits."""
    state, total, committed = new_state(), np.zeros(1, np.float32), np.zeros(1, np.float32)
    ops = [
        count_up(total), reporter(state, values, least), reporter(state, values, least + 1),
        count_up(committed, commits=True),
    ]  # fmt: skip
    for op in ops[1:3]:
        op.pointers[0] = state.ctypes.data
    return Program(ops, state), total, committed


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_reported_error_ends_the_run_after_its_step(threads):
    set_num_threads(threads)
    values = np.zeros(1000, np.int64)
    program, total, committed = reporting(values)
    values[[300, 301, 999]] = -7, -5, -9
    assert program.error() is None
    assert program.run(10) == 0 and total[0] == 1 and committed[0] == 0
    assert program.state[DRAW] == program.state[LOCAL] == program.state[ROW] == 0  # the step counts for nothing
    assert program.error() == (1, 300, -7)  # the first op and row, whoever came first
    with pytest.raises(RuntimeError, match=r"error\(\) is \(1, 300, -7\); clear\(\) it first"):
        program.run()
    program.clear()
    assert program.error() is None
    values[300:302] = 1
    values[999] = 0
    assert program.run(10) == 0 and program.error() == (2, 0, 0)
    program.clear()
    values[:] = 1
    assert program.run(10) == 10 and program.error() is None and total[0] == 12
    assert committed[0] == program.state[LOCAL] == 10


@pytest.mark.parametrize("threads", [1, 3])
def test_an_op_commits_every_few_steps(threads):
    set_num_threads(threads)
    values, total = np.ones(1000, np.int64), np.zeros(1, np.float32)
    program, *_ = reporting(values)
    ops = [*program.records[1:3], count_up(total, commits=True, every=3, phase=2)]
    program = Program(ops, program.state)
    assert program.run(7) == 7 and total[0] == 2  # steps 2 and 5
    values[7] = 0  # an error in what would be step 8
    program.run(10)
    assert program.state[STEPS] == 7 and total[0] == 2
    values[7], program.state[STEPS] = 0, 8
    program.clear()
    program.run(10)
    assert total[0] == 2 and program.error() == (1, 7, 0)
    program.clear()
    values[7] = 1
    assert program.run(1) == 1 and total[0] == 3


def test_every_row_wrong_on_many_threads():
    set_num_threads(8)
    values = -np.arange(1, 200_001)
    program, _, committed = reporting(values)
    for _ in range(20):
        assert program.run(3) == 0 and committed[0] == 0 and program.error() == (1, 0, -1)
        program.clear()


def test_an_error_ends_a_run_whose_team_is_not_fixed():
    values = np.full(5, -1)
    program, total, _ = reporting(values)
    assert program.run(10**6) == 0 and total[0] == 1


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
    program, total, committed = reporting(np.full(5, -1))
    assert (program.profile(10)[:3] > 0).all() and total[0] == 1 and committed[0] == 0
    with pytest.raises(RuntimeError, match="clear"):
        program.profile()


# Memory and floating-point mode


@pytest.mark.parametrize("shape", [0, 1, (3, 5), (0, 4), 1 << 20, (1 << 10, 1 << 10)])
@pytest.mark.parametrize("kind", ["float32", "float64", "int32"])
def test_aligned_arrays(shape, kind):
    array = aligned(shape, kind)
    assert array.shape == ((shape,) if isinstance(shape, int) else shape) and array.dtype == kind
    assert not array.any() and array.flags.c_contiguous and array.flags.writeable
    if array.size and not nncore.debug_build():
        assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_denormals_are_flushed_inside_and_the_callers_mode_is_restored(threads, run, dtype, isa):
    tiny = np.finfo(dtype).smallest_subnormal * 1000
    x, out = np.full((3, 4), tiny, dtype), np.full(3, 9, dtype)
    run("reduce", threads=threads, dtype=dtype, isa=isa, out=out, x=x, **reduce_sizes("sum", 3, 4, 1))
    np.testing.assert_array_equal(out, 0)
    assert (x.sum(1) > 0).all() and (x * x.dtype.type(0.5) > 0).all()
