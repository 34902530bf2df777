"""Softmax and the losses against reference.py: sizes around the vector length, extremes, weights, threads."""

import numpy as np
import pytest

from nncore import Op, Program, new_state, reference, set_num_threads

SIZES = [(1, 1), (1, 2), (7, 3), (128, 10), (5, 15), (6, 16), (7, 17), (3, 31), (4, 33), (2, 257), (13, 1000)]
EMPTY = [(0, 5), (0, 0), (4, 0)]


def outputs(*shapes, dtype):
    return [np.full(shape, 77, dtype) for shape in shapes]


@pytest.fixture
def logits(rng, dtype):
    return lambda shape: (rng.standard_normal(shape) * 3).astype(dtype)


@pytest.mark.parametrize("shape", SIZES + EMPTY)
@pytest.mark.parametrize("kernel", ["softmax", "log_softmax"])
def test_softmax(run, logits, dtype, isa, kernel, shape, every_thread_count, assert_close):
    x = logits(shape)

    def compute(threads):
        y = np.full(shape, 77, dtype)
        run(kernel, threads=threads, dtype=dtype, isa=isa, y=y, x=x, rows=shape[0], cols=shape[1])
        return [y]

    assert_close(every_thread_count(compute)[0], getattr(reference, kernel)(x))


@pytest.mark.parametrize("shape", SIZES + EMPTY)
@pytest.mark.parametrize("kernel", ["softmax_grad", "log_softmax_grad"])
def test_softmax_grad(run, logits, dtype, isa, kernel, shape, every_thread_count, assert_close):
    dy, y = logits(shape), getattr(reference, kernel[: -len("_grad")])(logits(shape))

    def compute(threads):
        dx = np.full(shape, 77, dtype)
        run(kernel, threads=threads, dtype=dtype, isa=isa, dx=dx, dy=dy, y=y, rows=shape[0], cols=shape[1])
        return [dx]

    assert_close(every_thread_count(compute)[0], getattr(reference, kernel)(dy, y), scale=10)


@pytest.mark.parametrize("threads", [1, 3])
def test_in_place(run, logits, dtype, isa, threads):
    for rows, cols in ((7, 10), (5, 40)):
        sizes = dict(threads=threads, dtype=dtype, isa=isa, rows=rows, cols=cols)
        x, dy = logits((rows, cols)), logits((rows, cols))
        apart, within = np.empty_like(x), x.copy()
        for kernel in ("softmax", "log_softmax"):
            within[:] = x
            run(kernel, y=apart, x=x, **sizes)
            run(kernel, y=within, x=within, **sizes)
            np.testing.assert_array_equal(within, apart)
            y, within_dy = apart.copy(), dy.copy()
            run(kernel + "_grad", dx=apart, dy=dy, y=y, **sizes)
            run(kernel + "_grad", dx=within_dy, dy=within_dy, y=y, **sizes)
            np.testing.assert_array_equal(within_dy, apart)
        loss, correct = outputs(rows, rows, dtype=dtype)
        labels = np.arange(rows, dtype=np.int32)
        for given in (dict(labels=labels), dict(targets=reference.softmax(dy))):
            within[:] = x
            run("softmax_crossentropy", loss=loss, dx=apart, x=x, scale=0.5, **given, **sizes)
            run("softmax_crossentropy", loss=loss, dx=within, correct=correct, x=within, scale=0.5, **given, **sizes)
            np.testing.assert_array_equal(within, apart)


def test_extreme_logits(run, dtype, isa):
    """Stable where exp alone would overflow or vanish; -inf has no probability; NaN stays."""
    big = 1e4 if dtype == "float32" else 1e6
    x = np.zeros((6, 10), dtype)
    x[0, 3], x[1], x[2], x[3, :9] = big, -big, big, -np.inf
    x[4, 5] = np.nan
    x[5] = np.linspace(-big, big, 10)
    y, log_y, loss = outputs(x.shape, x.shape, 6, dtype=dtype)
    sizes = dict(dtype=dtype, isa=isa, rows=6, cols=10)
    run("softmax", y=y, x=x, **sizes)
    run("log_softmax", y=log_y, x=x, **sizes)
    np.testing.assert_allclose(y[:4], reference.softmax(x[:4]), rtol=1e-6)
    np.testing.assert_allclose(log_y[[0, 1, 2, 5]], reference.log_softmax(x[[0, 1, 2, 5]]), rtol=1e-6)
    assert np.isnan(y[4]).all() and np.isnan(log_y[4]).all()
    np.testing.assert_array_equal(y[5], np.eye(10)[9])
    labels = np.array([3, 0, 0, 9, 0, 0], np.int32)
    run("softmax_crossentropy", loss=loss, x=x, labels=labels, scale=1.0, **sizes)
    np.testing.assert_allclose(loss[[0, 1, 2, 3, 5]], [0, np.log(10), np.log(10), 0, 2 * big], rtol=1e-6)
    assert np.isnan(loss[4])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("given", ["labels", "targets"])
def test_softmax_crossentropy(
    run, rng, logits, dtype, isa, given, weighted, smoothing, every_thread_count, assert_close
):
    for rows, cols in SIZES:
        x = logits((rows, cols))
        target = dict(labels=rng.integers(0, cols, rows).astype(np.int32))
        if given == "targets":  # sums other than 1, and zeros
            target = dict(targets=np.maximum(rng.standard_normal((rows, cols)), 0).astype(dtype))
        if weighted:
            target["weights"] = rng.random(rows).astype(dtype)
        settings = dict(scale=1 / rows, smoothing=smoothing)

        def compute(threads):
            loss, dx, correct = outputs(rows, (rows, cols), rows, dtype=dtype)
            out = dict(loss=loss, dx=dx, correct=correct, x=x)
            shape = dict(rows=rows, cols=cols)
            run("softmax_crossentropy", threads=threads, dtype=dtype, isa=isa, **shape, **out, **target, **settings)
            return [loss, dx, correct]

        results = every_thread_count(compute)
        for actual, expected in zip(results, reference.softmax_crossentropy(x, **target, **settings), strict=True):
            assert_close(actual, expected, scale=cols)


def test_the_first_of_equal_maxima_is_the_prediction(run, dtype, isa):
    for cols in (3, 16, 37):
        x = np.zeros((cols, cols), dtype)
        loss, correct = outputs(cols, cols, dtype=dtype)
        sizes = dict(dtype=dtype, isa=isa, rows=cols, cols=cols, scale=1.0)
        run("softmax_crossentropy", loss=loss, correct=correct, x=x, labels=np.arange(cols, dtype=np.int32), **sizes)
        np.testing.assert_array_equal(correct, np.eye(cols)[0])
        targets = np.eye(cols, dtype=dtype)
        run("softmax_crossentropy", loss=loss, correct=correct, x=x, targets=targets, **sizes)
        np.testing.assert_array_equal(correct, np.eye(cols)[0])


def test_a_loss_without_gradient_is_the_same(run, rng, logits, dtype, isa):
    rows, cols = 9, 21
    x, targets = logits((rows, cols)), rng.random((rows, cols)).astype(dtype)
    for kernel in ("softmax_crossentropy", "binary_crossentropy", "mean_squared_error"):
        alone, with_dx, dx = outputs(rows, rows, (rows, cols), dtype=dtype)
        given = dict(dtype=dtype, isa=isa, x=x, targets=targets, rows=rows, cols=cols, scale=1.0)
        run(kernel, loss=alone, **given)
        run(kernel, loss=with_dx, dx=dx, **given)
        np.testing.assert_array_equal(alone, with_dx)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kernel", ["binary_crossentropy", "mean_squared_error"])
def test_elementwise_losses(run, rng, logits, dtype, isa, kernel, weighted, every_thread_count, assert_close):
    smoothings = (0.0, 0.2) if kernel == "binary_crossentropy" else (None,)
    for rows, cols in SIZES:
        for smoothing in smoothings:
            given = dict(x=logits((rows, cols)) * 5, targets=rng.integers(0, 2, (rows, cols)).astype(dtype))
            given["scale"] = 1 / rows
            if smoothing is not None:
                given["smoothing"] = smoothing
            if weighted:
                given["weights"] = rng.random(rows).astype(dtype)
            shapes = [rows, (rows, cols), rows][: 3 if smoothing is not None else 2]

            def compute(threads):
                results = outputs(*shapes, dtype=dtype)
                names = dict(zip(("loss", "dx", "correct"), results, strict=False))
                run(kernel, threads=threads, dtype=dtype, isa=isa, rows=rows, cols=cols, **names, **given)
                return results

            results = every_thread_count(compute)
            for actual, expected in zip(results, getattr(reference, kernel)(**given), strict=True):
                assert_close(actual, expected, scale=5)


def test_binary_crossentropy_of_confident_logits(run, dtype, isa):
    """Small losses keep their digits: log(1 + exp(-x)), not log of a rounded 1."""
    x = np.array([[8.0], [30.0], [80.0], [-80.0], [1e4], [-1e4], [0.0]], dtype)
    targets = np.array([[1], [1], [1], [1], [1], [0], [1]], dtype)
    loss, dx, correct = outputs(7, (7, 1), 7, dtype=dtype)
    out = dict(loss=loss, dx=dx, correct=correct)
    run("binary_crossentropy", dtype=dtype, isa=isa, x=x, targets=targets, rows=7, cols=1, scale=1.0, **out)
    exact = np.log1p(np.exp(-np.where(targets == 1, x, -x).astype(np.float64)))[:, 0]
    np.testing.assert_allclose(loss, np.where(x[:, 0] == -80, 80, exact), rtol=1e-5 if dtype == "float32" else 1e-12)
    np.testing.assert_array_equal(correct, [1, 1, 1, 0, 1, 1, 0])


@pytest.mark.parametrize("kernel", ["softmax_crossentropy", "binary_crossentropy", "mean_squared_error"])
def test_no_rows(run, dtype, isa, kernel):
    loss, x = np.zeros(0, dtype), np.zeros((0, 4), dtype)
    run(kernel, threads=2, dtype=dtype, isa=isa, loss=loss, dx=x, x=x, targets=x, rows=0, cols=4, scale=1.0)


@pytest.mark.parametrize("cols", [3, 10, 40])
def test_labels_that_are_no_columns_touch_no_memory(cols, rng, run, dtype, isa):
    """They are checked when data comes in, but a callback may change them afterwards."""
    x = rng.normal(size=(9, cols)).astype(dtype)
    labels = np.array([0, -1, 2**30, cols, cols - 1, -(2**31), 1, 2**31 - 1, 2], np.int32)
    good = (labels >= 0) & (labels < cols)
    loss, correct, dx = np.full(9, 7, dtype), np.full(9, 7, dtype), np.full((9, cols), 7, dtype)
    sizes = dict(rows=9, cols=cols, scale=1.0, dtype=dtype, isa=isa)
    run("softmax_crossentropy", loss=loss, dx=dx, correct=correct, x=x, labels=labels, **sizes)
    assert np.array_equal(np.isnan(loss), ~good) and (correct[~good] == 0).all() and (dx[~good] == 0).all()
    expected, slope, _ = reference.softmax_crossentropy(x[good], labels[good], scale=1.0)
    np.testing.assert_allclose(loss[good], expected, rtol=1e-5)
    np.testing.assert_allclose(dx[good], slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kernel", ["softmax_crossentropy", "binary_crossentropy", "mean_squared_error"])
def test_upstream_scales_the_gradient(run, rng, logits, dtype, isa, kernel, every_thread_count, assert_close):
    for rows, cols in SIZES:
        weights, upstream = (rng.standard_normal(rows).astype(dtype) for _ in range(2))
        given = dict(x=logits((rows, cols)), targets=rng.random((rows, cols)).astype(dtype), weights=weights)
        given |= dict(scale=0.5, upstream=upstream)

        def compute(threads):
            loss, dx = outputs(rows, (rows, cols), dtype=dtype)
            run(kernel, threads=threads, dtype=dtype, isa=isa, rows=rows, cols=cols, loss=loss, dx=dx, **given)
            return [loss, dx]

        exact = getattr(reference, kernel)(**given)[:2]
        for actual, expected in zip(every_thread_count(compute), exact, strict=True):
            assert_close(actual, expected, scale=10, factor=4)


@pytest.mark.parametrize("ignore", [0, 2, -1, 1000])
def test_ignored_labels(run, rng, logits, dtype, isa, ignore, every_thread_count, assert_close):
    for rows, cols in [(1, 3), (9, 3), (40, 10), (33, 17), (5, 200)]:
        labels = rng.integers(0, min(cols, 4), rows).astype(np.int32)
        labels[rng.random(rows) < 0.4] = ignore
        given = dict(x=logits((rows, cols)), labels=labels, weights=rng.random(rows).astype(dtype), scale=0.5)

        def compute(threads):
            loss, dx, correct = outputs(rows, (rows, cols), rows, dtype=dtype)
            sizes = dict(rows=rows, cols=cols, ignoring=1, ignore=ignore)
            out = dict(loss=loss, dx=dx, correct=correct)
            run("softmax_crossentropy", threads=threads, dtype=dtype, isa=isa, **given, **sizes, **out)
            assert (dx[labels == ignore] == 0).all() and (loss[labels == ignore] == 0).all()
            return [loss, dx, correct]

        exact = reference.softmax_crossentropy(**given, ignore=ignore)
        for actual, expected in zip(every_thread_count(compute), exact, strict=True):
            assert_close(actual, expected, scale=10, factor=4)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("cols", [5, 40])
def test_a_label_out_of_range_is_reported(rng, isa, cols, threads):
    set_num_threads(threads)
    labels = np.array([0, 1, 99, -1, 2, -7, 3, 99, 0], np.int32)  # 99 is ignored
    state, loss = new_state(), np.empty(9, np.float32)
    arguments = dict(loss=loss, x=rng.standard_normal((9, cols)).astype(np.float32), labels=labels, state=state)
    sizes = dict(rows=9, cols=cols, ignoring=1, ignore=99, scale=1.0)
    program = Program([Op("softmax_crossentropy", isa=isa, **arguments, **sizes)], state)
    assert program.run(3) == 0
    assert program.error() == (0, 3, -1)
    assert np.isnan(loss).tolist() == [label in (-1, -7) for label in labels]
