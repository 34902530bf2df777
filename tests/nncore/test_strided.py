"""Copies between strided arrays, constants, conversions."""

import itertools

import numpy as np
import pytest
from guards import guarded

from nncore import Op, reference_arrays
from nncore.strides import AXES, copy_arguments, copy_sizes, simplify

SHAPES = [
    (0,), (1,), (5,), (3, 0), (1, 1), (7, 1), (17, 33), (64, 64), (3, 5, 7), (2, 16, 19), (2, 3, 4, 5), (40, 3, 21),
]  # fmt: skip
VIEWS = {
    "whole": lambda x: x,
    "part": lambda x: x[(slice(1, -1),) * x.ndim],
    "every second": lambda x: x[..., ::2],
    "flipped": lambda x: x[(slice(None, None, -1),) * x.ndim],
    "last axis flipped": lambda x: x[..., ::-1],
    "one row for all": lambda x: np.broadcast_to(x[:1], x.shape),
    "one column for all": lambda x: np.broadcast_to(x[..., :1], x.shape),
}


def numbers(rng, shape, dtype):
    return rng.integers(-1000, 1000, shape).astype(dtype)


def copy_of(run, out, x, **kind):
    run("copy", **copy_arguments(out, x, kind.pop("accumulate", False)), **kind)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("integers", [False, True])
def test_copy(run, rng, dtype, isa, view, integers, every_thread_count):
    kind = np.int32 if integers else dtype
    for shape in SHAPES:
        x = VIEWS[view](numbers(rng, tuple(n + 2 for n in shape), kind))
        for axes in itertools.permutations(range(x.ndim)) if x.ndim < 4 else [(0, 1, 2, 3), (0, 2, 1, 3), (3, 1, 0, 2)]:
            turned = x.transpose(axes)

            def compute(threads, turned=turned):
                out, check = guarded(turned.shape, kind)
                copy_of(run, out, turned, threads=threads, dtype=dtype, isa=isa)
                check()
                return [out]

            np.testing.assert_array_equal(every_thread_count(compute)[0], reference_arrays.copy(turned, turned))


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("view", ["part", "every second", "flipped", "last axis flipped"])
def test_copy_into_a_view(run, rng, dtype, isa, view, accumulate, every_thread_count):
    for shape in [(9,), (5, 40), (35, 34), (4, 20, 19)]:
        before = numbers(rng, shape, dtype)
        for turned in (False, True):
            target = VIEWS[view](before)
            x = numbers(rng, target.shape[::-1] if turned else target.shape, dtype)
            x = x.T if turned else x

            def compute(threads, x=x):
                whole = before.copy()
                copy_of(run, VIEWS[view](whole), x, threads=threads, dtype=dtype, isa=isa, accumulate=accumulate)
                return [whole]

            expected = before.copy()
            VIEWS[view](expected)[...] = reference_arrays.copy(target, x, accumulate)
            np.testing.assert_array_equal(every_thread_count(compute)[0], expected)


def test_copy_of_six_axes(run, rng, isa):
    x = numbers(rng, (3, 2, 4, 3, 2, 5), np.float32)
    for axes in [(5, 4, 3, 2, 1, 0), (1, 0, 3, 2, 5, 4), (0, 2, 4, 1, 3, 5)]:
        out = np.empty([x.shape[a] for a in axes], np.float32)
        copy_of(run, out, x.transpose(axes), isa=isa)
        np.testing.assert_array_equal(out, x.transpose(axes))


def test_copy_of_any_views(run, rng, isa):
    for _ in range(200):
        shape = tuple(rng.integers(1, 7, rng.integers(1, 6)))
        cut = tuple(slice(*sorted(rng.integers(0, n + 1, 2)), rng.integers(1, 3)) for n in shape)
        flip = tuple(slice(None, None, rng.choice([-1, 1])) for _ in shape)
        axes = rng.permutation(len(shape))
        x = numbers(rng, shape, np.float32)[cut][flip].transpose(axes)
        whole = np.zeros([2 * n + 1 for n in x.shape], np.float32)
        place = tuple(slice(None, 2 * n, 2) for n in x.shape)
        expected = whole.copy()
        expected[place] = x
        copy_of(run, whole[place], x, isa=isa, threads=int(rng.integers(1, 4)))
        np.testing.assert_array_equal(whole, expected)


def test_axes_are_merged():
    def merged(shape, out, x):
        sizes = copy_sizes(shape, out, x)
        return [tuple(sizes[f"{k}{a}"] for k in "nox") for a in range(AXES) if sizes[f"n{a}"] != 1]

    assert merged((2, 3, 4), (12, 4, 1), (12, 4, 1)) == [(24, 1, 1)]
    assert merged((2, 1, 4), (4, 4, 1), (8, 9, 1)) == [(2, 4, 8), (4, 1, 1)]
    assert merged((2, 3, 4), (12, 4, 1), (0, 0, 0)) == [(24, 1, 0)]
    assert merged((5, 7), (7, 1), (1, 5)) == [(5, 7, 1), (7, 1, 5)]
    assert merged((2, 5, 3, 7), (105, 21, 7, 1), (105, 1, 35, 5)) == [(2, 105, 105), (5, 21, 1), (21, 1, 5)]
    assert simplify([]) == []
    flipped = copy_sizes((5,), (-1,), (1,), out_offset=4)
    assert (flipped["out_offset"], flipped["x_offset"], flipped["o5"], flipped["x5"]) == (0, 4, 1, -1)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (((2, 3), (0, 1), (3, 1)), {}, "expected axis 0 of out to have a stride, got 0 for 2 elements"),
        ((range(2, 9), [3**k for k in range(7)], [5**k for k in range(7)]), {}, "at most 6 axes .* got 7"),
        (((2, 3), (3, 1), (3, 1)), dict(rows=True, x_offset=1), "rows of x are 3 elements apart, and elements 1 to 3"),
        (((2, 3), (-3, 1), (3, 1)), dict(rows=True, out_offset=3), "rows of x are -3 elements apart"),
    ],
)
def test_copies_that_cannot_be(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        copy_sizes(*arguments, **options)
    with pytest.raises(TypeError, match="elements of one size"):
        copy_arguments(np.zeros(3), np.zeros(3, np.float32))


@pytest.mark.parametrize("integer", [0, 1])
def test_fill(run, dtype, isa, integer, every_thread_count):
    for rows, cols, ld in [(0, 3, 3), (3, 0, 0), (1, 1, 1), (5, 7, 7), (5, 7, 9), (1, 5000, 5000)]:

        def compute(threads):
            out, check = guarded((rows, ld), np.int32 if integer else dtype)
            sizes = dict(rows=rows, cols=cols, ld=ld, integer=integer)
            run("fill", threads=threads, dtype=dtype, isa=isa, out=out, value=-3, **sizes)
            check()
            return [out]

        out = every_thread_count(compute)[0]
        assert (out[:, :cols] == -3).all() and (out[:, cols:] == 77).all()


def test_conversions(run, rng, dtype, isa, every_thread_count):
    special = [0.0, -0.0, 0.9, -0.9, 1.5, -2.5, 2.2e9, -2.2e9, 3e30, np.inf, -np.inf, np.nan, 2**31 - 128, 0.0, 0.0]
    for x in (np.array([special], dtype), (rng.standard_normal((9, 37)) * 1e4).astype(dtype), np.empty((0, 4), dtype)):
        size = dict(rows=len(x), cols=x.shape[1] - 2, ld_out=x.shape[1], ld_x=x.shape[1], dtype=dtype, isa=isa)

        def compute(threads):
            out = np.full(x.shape, 77, np.int32)
            back = np.full(x.shape, 77, dtype)
            run("real_to_int", threads=threads, out=out, x=x, **size)
            run("int_to_real", threads=threads, out=back, x=out, **size)
            return [out, back]

        out, back = every_thread_count(compute)
        np.testing.assert_array_equal(out[:, :-2], reference_arrays.real_to_int(x[:, :-2]))
        np.testing.assert_array_equal(back[:, :-2], reference_arrays.int_to_real(out[:, :-2], dtype))
        assert (out[:, -2:] == 77).all() and (back[:, -2:] == 77).all()


def test_threads_share_rows_that_lie_apart():
    """A copy by rows says so, and only then."""
    x, out = np.zeros((8, 12), np.float32), np.zeros((8, 5), np.float32)
    sizes = copy_sizes((8, 4), (5, 1), (12, 1), x_offset=3, rows=True)
    op = Op("copy", out=out, x=x, **sizes | dict(by_rows=1))
    assert op.writes[0].rows.nbytes == 20 and op.reads[0].rows.nbytes == 48 and op.reads[0].rows.total == 8
    assert Op("copy", out=out, x=x, **sizes).writes[0].rows is None
