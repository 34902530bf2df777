"""Where the team meets: between ops whose memory overlaps, and in no other place."""

import sys

import numpy as np
import pytest
from programs import chained

from nncore import Op, Ref, set_num_threads
from nncore.barriers import place_barriers


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
