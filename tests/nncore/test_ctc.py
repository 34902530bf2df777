"""The kernel ctc against the sum over all paths and reference.py: lengths, repeats, what does not fit, threads."""

from itertools import product

import numpy as np
import pytest
from guards import guarded

from nncore import Op, Program, new_state, reference

SIZES = [(1, 1, 1, 1), (1, 1, 2, 1), (3, 7, 5, 3), (5, 12, 33, 8), (2, 40, 4, 19), (4, 9, 17, 0), (7, 5, 3, 4)]
EMPTY = [(0, 3, 4, 2), (3, 0, 4, 2), (0, 0, 0, 0), (2, 3, 0, 0)]


def sizes(rows, steps, cols, length, gradient=True):
    ld = 2 * length + 21
    share = steps + (4 + (steps if gradient else 2)) * ld
    return dict(rows=rows, times=steps, cols=cols, length=length, ld=ld, share=share)


def labels_of(rng, rows, steps, cols, length):
    """Labels with zeros behind; some do not fit, or have repeats."""
    found = np.zeros((rows, length), np.int32)
    for b in range(rows if cols > 1 else 0):
        count = rng.integers(0, length + 1)
        found[b, :count] = rng.integers(1, cols, count)
    return found


def collapsed(path):
    """What a path reads as."""
    kept = [k for i, k in enumerate(path) if k and (i == 0 or k != path[i - 1])]
    return tuple(kept)


def test_reference_is_the_sum_over_all_paths(rng):
    steps, cols = 5, 3
    x = rng.standard_normal((1, steps, cols))
    p = np.exp(reference.log_softmax(x))[0]
    for labels in ([], [1], [2, 2], [1, 2, 1], [1, 1, 1], [1, 1, 1, 1]):
        ways = [path for path in product(range(cols), repeat=steps) if collapsed(path) == tuple(labels)]
        chances = [np.prod([p[t, k] for t, k in enumerate(path)]) for path in ways]
        expected = -np.log(sum(chances)) if ways else np.inf
        row = np.array([[*labels, *[0] * (4 - len(labels))]])
        loss, dx = reference.ctc(x, row)
        np.testing.assert_allclose(loss, expected)
        share = np.zeros((steps, cols))
        for path, chance in zip(ways, chances, strict=True):
            share[range(steps), path] += chance / sum(chances)
        np.testing.assert_allclose(dx[0], p - share if ways else 0, atol=1e-12)


@pytest.mark.parametrize("shape", SIZES + EMPTY)
def test_ctc(run, rng, dtype, isa, shape, every_thread_count):
    rows, steps, cols, _ = shape
    x = (rng.standard_normal((rows, steps, cols)) * 2).astype(dtype)
    labels = labels_of(rng, *shape)
    upstream = rng.standard_normal(rows).astype(dtype)
    rtol, atol = (2e-5, 2e-5) if dtype == "float32" else (1e-10, 1e-12)
    for weights in (None, upstream):
        given = dict(x=x, labels=labels, scale=0.5) | ({} if weights is None else dict(upstream=weights))

        def compute(threads, given=given):
            made = sizes(*shape)
            loss, dx, alone = (np.full(s, 77, dtype) for s in (rows, x.shape, rows))
            workspace, check = guarded(made["share"] * threads, dtype)
            run("ctc", threads=threads, dtype=dtype, isa=isa, loss=loss, dx=dx, workspace=workspace, **made, **given)
            check()
            made = sizes(*shape, gradient=False)
            workspace, check = guarded(made["share"] * threads, dtype)
            workspace[:] = np.nan  # nothing of it is read before it is written
            run("ctc", threads=threads, dtype=dtype, isa=isa, loss=alone, workspace=workspace, **made, **given)
            check()
            np.testing.assert_array_equal(loss, alone)
            return [loss, dx]

        loss, dx = every_thread_count(compute)
        if cols:
            expected, slope = reference.ctc(x, labels, 0.5, None if weights is None else weights.astype(np.float64))
            np.testing.assert_allclose(loss, expected, rtol=rtol, atol=atol)
            np.testing.assert_allclose(dx, slope, rtol=rtol, atol=atol)
        else:
            assert np.isinf(loss).all()


def test_long_sequences_keep_their_precision(run, rng, dtype, isa):
    """Where the probability of all is far below the least number, of a float64 too."""
    rows, steps, cols, length = shape = 1, 3000, 20, 400
    x = (rng.standard_normal((rows, steps, cols))).astype(dtype)
    labels = rng.integers(1, cols, (rows, length)).astype(np.int32)
    made = sizes(*shape)
    results = []
    for kind in ("float64", dtype):
        loss, dx, workspace = np.zeros(rows, kind), np.zeros(x.shape, kind), np.zeros(made["share"], kind)
        given = dict(x=x.astype(kind), labels=labels, workspace=workspace, scale=1.0)
        run("ctc", dtype=kind, isa=isa, loss=loss, dx=dx, **given, **made)
        results.append((loss, dx))
    (exact, slope), (loss, dx) = results
    assert loss[0] > 3000
    np.testing.assert_allclose(loss, exact, rtol=1e-6)
    np.testing.assert_allclose(dx, slope, atol=2e-4)
    np.testing.assert_allclose(slope.sum(-1), 0, atol=1e-12)


def test_certain_logits(run, dtype, isa):
    """Of classes that are as good as certain, and of classes that are ruled out."""
    x = np.full((3, 2, 3), -1e4, dtype)
    x[0, 0, 1] = x[0, 1, 2] = x[1, :, 0] = 1e4
    x[2] = [[-np.inf, 0, 0], [0, -np.inf, 0]]
    labels = np.array([[1, 2], [1, 2], [1, 2]], np.int32)
    made = sizes(*x.shape, 2)
    loss, dx, workspace = np.zeros(3, dtype), np.zeros(x.shape, dtype), np.zeros(made["share"], dtype)
    run("ctc", dtype=dtype, isa=isa, loss=loss, dx=dx, x=x, labels=labels, workspace=workspace, scale=1.0, **made)
    np.testing.assert_allclose(loss, [0, 4e4, 2 * np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(dx[0], 0, atol=1e-6)
    np.testing.assert_allclose(dx[1], [[1, -1, 0], [1, 0, -1]], atol=1e-6)
    np.testing.assert_allclose(dx[2], [[0, -0.5, 0.5], [0.5, 0, -0.5]], atol=1e-6)


def test_nan_is_no_number(run, dtype, isa):
    x = np.zeros((2, 3, 2), dtype)
    x[0, 1, 1] = np.nan
    made = sizes(*x.shape, 1)
    loss, workspace = np.zeros(2, dtype), np.zeros(made["share"], dtype)
    run("ctc", dtype=dtype, isa=isa, loss=loss, x=x, labels=np.ones((2, 1), np.int32), workspace=workspace, **made)
    assert np.isnan(loss[0]) and np.isfinite(loss[1])


def test_labels_out_of_range_are_reported(dtype, isa):
    x = np.zeros((3, 4, 3), dtype)
    labels = np.array([[1, 2], [1, 3], [-1, 1]], np.int32)
    made = sizes(*x.shape, 2)
    state = new_state()
    loss, dx, workspace = np.zeros(3, dtype), np.ones(x.shape, dtype), np.zeros(made["share"], dtype)
    op = Op(
        "ctc", dtype=dtype, isa=isa, loss=loss, dx=dx, x=x, labels=labels, workspace=workspace, state=state, scale=1.0,
        **made,
    )  # fmt: skip
    program = Program([op], state)
    program.run()
    assert program.error() == (0, 1, 3)
    assert np.isfinite(loss[0]) and np.isnan(loss[1:]).all() and not dx[1:].any()
