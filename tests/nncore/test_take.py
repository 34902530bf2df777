"""Rows of tables by index, their gradients, one-hot rows and confusion counts."""

import numpy as np
import pytest
from guards import guarded

from nncore import Op, Program, new_state, reference_arrays, set_num_threads
from nncore.memory import ERROR_OP, ERROR_ROW, ERROR_VALUE

SIZES = [
    (0, 3, 4), (1, 1, 1), (5, 0, 3), (7, 3, 5), (40, 16, 9), (33, 17, 100), (9, 130, 3), (300, 64, 50), (4, 1000, 7),
]  # fmt: skip


def indices(rng, rows, count, strange=False):
    index = rng.integers(0, max(count, 1), rows).astype(np.int32)
    if strange and rows > 2:
        index[1], index[-1] = -1, count
    return index


def report(name, *, threads=1, state, **arguments):
    """A kernel, once, that reports to ``state``."""
    set_num_threads(threads)
    Program([Op(name, state=state, **arguments)], new_state()).run()


def first_error(state):
    """(op + 1, row, value), as the kernels report it."""
    return tuple(state[[ERROR_OP, ERROR_ROW, ERROR_VALUE]])


@pytest.mark.parametrize("strange", [False, True])
def test_take(rng, dtype, isa, strange, every_thread_count):
    for rows, cols, count in SIZES:
        table, index = rng.standard_normal((count, cols)).astype(dtype), indices(rng, rows, count, strange)

        def compute(threads):
            out, check = guarded((rows, cols), dtype)
            state = new_state()
            sizes = dict(rows=rows, cols=cols, table_rows=count)
            common = dict(threads=threads, dtype=dtype, isa=isa, state=state)
            report("take", out=out, table=table, index=index, **common, **sizes)
            check()
            assert first_error(state) == ((1, 1, -1) if strange and rows > 2 and cols else (0, 0, 0))
            return [out]

        np.testing.assert_array_equal(every_thread_count(compute)[0], reference_arrays.take(table, index))


@pytest.mark.parametrize("clear", [0, 1])
@pytest.mark.parametrize("strange", [False, True])
def test_take_grad(run, rng, dtype, isa, clear, strange, every_thread_count, assert_close):
    for rows, cols, count in SIZES:
        index, before = indices(rng, rows, count, strange), rng.standard_normal((count, cols)).astype(dtype)
        dy = rng.standard_normal((rows, cols)).astype(dtype)

        def compute(threads):
            out, check = guarded((count, cols), dtype)
            out[:] = before
            sizes = dict(rows=rows, cols=cols, table_rows=count, clear=clear)
            run("take_grad", threads=threads, dtype=dtype, isa=isa, dtable=out, dy=dy, index=index, **sizes)
            check()
            return [out]

        expected = reference_arrays.take_grad(dy.astype(np.float64), index, count) + (0 if clear else before)
        assert_close(every_thread_count(compute)[0], expected, scale=10)


def test_rows_are_added_in_order(run, isa, every_thread_count):
    """The sum in another order would round to another number."""
    dy = np.array([1e8, 1, -1e8, 1], np.float32)[:, None].repeat(40, 1)
    index = np.zeros(4, np.int32)

    def compute(threads):
        out = np.zeros((3, 40), np.float32)
        run("take_grad", threads=threads, isa=isa, dtable=out, dy=dy, index=index, rows=4, cols=40, table_rows=3)
        return [out]

    assert (every_thread_count(compute)[0][0] == 1).all()


@pytest.mark.parametrize("strange", [False, True])
def test_take_clear(run, rng, dtype, isa, strange, every_thread_count):
    for rows, cols, count in SIZES:
        index, before = indices(rng, rows, count, strange), rng.standard_normal((count, cols)).astype(dtype)

        def compute(threads):
            out, check = guarded((count, cols), dtype)
            out[:] = before
            sizes = dict(rows=rows, cols=cols, table_rows=count)
            run("take_clear", threads=threads, dtype=dtype, isa=isa, dtable=out, index=index, **sizes)
            check()
            return [out]

        np.testing.assert_array_equal(every_thread_count(compute)[0], reference_arrays.take_clear(before, index))


@pytest.mark.parametrize("strange", [False, True])
def test_take_along_and_one_hot(run, rng, dtype, isa, strange, every_thread_count):
    for rows, _, cols in SIZES:
        index, x = indices(rng, rows, cols, strange), rng.standard_normal((rows, cols)).astype(dtype)
        dy = rng.standard_normal(rows).astype(dtype)

        def compute(threads):
            out, dx, hot = (np.full(shape, 77, dtype) for shape in (rows, x.shape, x.shape))
            state, other = new_state(), new_state()
            common = dict(threads=threads, dtype=dtype, isa=isa, index=index, rows=rows, cols=cols)
            report("take_along", out=out, x=x, state=state, **common)
            run("take_along_grad", dx=dx, dy=dy, **common)
            report("one_hot", out=hot, state=other, **common)
            for cells in (state, other):
                assert first_error(cells) == ((1, 1, -1) if strange and rows > 2 else (0, 0, 0))
            return [out, dx, hot]

        out, dx, hot = every_thread_count(compute)
        np.testing.assert_array_equal(out, reference_arrays.take_along(x, index))
        np.testing.assert_array_equal(dx, reference_arrays.take_along_grad(dy, index, cols))
        np.testing.assert_array_equal(hot, reference_arrays.one_hot(index, cols, dtype))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [None, 0, 2])
def test_confusion(rng, dtype, isa, weighted, ignore, every_thread_count):
    labels, predictions = indices(rng, 200, 5), indices(rng, 200, 5)
    weights = dict(weights=rng.random(200).astype(dtype)) if weighted else {}
    kind = {} if ignore is None else dict(ignoring=1, ignore=ignore)

    def compute(threads):
        counts, state = np.arange(25.0).reshape(5, 5), new_state()
        arguments = dict(counts=counts, labels=labels, predictions=predictions, rows=200, cols=5)
        report("confusion", threads=threads, dtype=dtype, isa=isa, state=state, **arguments, **weights, **kind)
        assert first_error(state) == (0, 0, 0)
        return [counts]

    expected = reference_arrays.confusion(np.arange(25.0).reshape(5, 5), labels, predictions, ignore=ignore, **weights)
    np.testing.assert_allclose(every_thread_count(compute)[0], expected, rtol=1e-12)


@pytest.mark.parametrize(("label", "prediction", "value"), [(5, 0, 5), (-1, 0, -1), (0, 5, 5), (4, -2, -2)])
def test_confusion_of_classes_that_are_none(isa, label, prediction, value):
    counts, state = np.zeros((5, 5)), new_state()
    numbers = dict(labels=np.array([1, label], np.int32), predictions=np.array([2, prediction], np.int32))
    report("confusion", isa=isa, counts=counts, state=state, rows=2, cols=5, **numbers)
    assert counts[1, 2] == 1 and counts.sum() == 1
    assert first_error(state) == (1, 1, value)


def test_errors_stop_the_program(isa):
    state, table, out = new_state(), np.ones((4, 8), np.float32), np.empty((3, 8), np.float32)
    known, strange = (np.array(rows, np.int32) for rows in ([0, 3, 1], [0, 2, 4]))
    sizes = dict(isa=isa, out=out, table=table, state=state, rows=3, cols=8, table_rows=4)
    program = Program([Op("take", index=known, **sizes), Op("take", index=strange, **sizes)], state)
    assert program.run(5) == 0
    assert program.error() == (1, 2, 4)
    assert out.sum() == 16
