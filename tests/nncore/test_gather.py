"""gather, gather_index, scatter: values for every source dtype and layout, and the position in the data."""

import numpy as np
import pytest

from nncore import Op, Program, new_state, reference, reference_images, set_num_threads
from nncore.memory import BATCH, EPOCH, INDICES, NUMBERS, ROW, SLOTS

SOURCES = dict(
    float32=0, float64=1, uint8=2, int8=3, uint16=4, int16=5, uint32=6, int32=7, uint64=8, int64=9, float16=10
)
SIZES = [(0, 3), (3, 0), (1, 1), (5, 1), (7, 13), (3, 257), (128, 31)]


def user_array(rng, source, rows, cols):
    kind = np.dtype(source)
    if kind.kind == "f":
        return (rng.standard_normal((rows, cols)) * 100).astype(kind)
    limits = np.iinfo(kind)
    return rng.integers(limits.min, limits.max, (rows, cols), dtype=kind, endpoint=True)


def gather(data, rows, threads=1, order=None, row=0, kernel="gather", dtype="float32", isa=None, slot=3):
    set_num_threads(threads)
    state = new_state(batch=rows)
    state[ROW], state[SLOTS + slot] = row, data.ctypes.data
    if order is not None:
        state[INDICES] = order.ctypes.data
    out = np.full((rows, data.shape[1]), 77, dtype if kernel == "gather" else np.int32)
    chosen = reference.rows_of(state, order)
    sizes = dict(slot=slot, rows=rows, cols=data.shape[1], row_stride=data.strides[0], source=SOURCES[data.dtype.name])
    Program([Op(kernel, dtype=dtype, isa=isa, out=out, state=state, **sizes)], state).run()
    return out, chosen


@pytest.mark.parametrize("source", SOURCES)
def test_every_source(rng, isa, dtype, source, every_thread_count):
    for rows, cols in SIZES:
        data = user_array(rng, source, rows + 9, cols)
        order = rng.permutation(rows + 9)
        for indices, row in ((None, 0), (None, 5), (order, 0), (order, 9)):
            (out, chosen) = gather(data, rows, 1, indices, row, dtype=dtype, isa=isa)
            np.testing.assert_array_equal(out, reference.gather(data, chosen, dtype))
        every_thread_count(lambda n: gather(data, rows, n, order, 9, dtype=dtype, isa=isa)[:1])


@pytest.mark.parametrize("source", SOURCES)
def test_labels_of_every_source(rng, isa, source):
    data = rng.integers(0, 100, (50, 3)).astype(source)
    order = rng.permutation(50)
    for threads in (1, 3):
        out, chosen = gather(data, 20, threads, order, 10, kernel="gather_index", isa=isa)
        assert out.dtype == np.int32
        np.testing.assert_array_equal(out, reference.gather_index(data, chosen))


def test_half_precision_is_exact_for_every_bit_pattern(isa, dtype):
    data = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(64, 1024)
    out, chosen = gather(data, 64, dtype=dtype, isa=isa)
    np.testing.assert_array_equal(out, reference.gather(data, chosen, dtype))  # NaN equals NaN here
    assert np.array_equal(np.signbit(out), np.signbit(data))


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[::3],
        lambda a: a[::-1],
        lambda a: a[:, 4:9],
        lambda a: a[::-2, 1:],
        lambda a: np.broadcast_to(a[0], a.shape),
    ],
)
def test_strided_and_read_only_arrays(rng, isa, view):
    whole = rng.standard_normal((60, 12)).astype(np.float32)
    data = view(whole)
    data.flags.writeable = False
    order = rng.permutation(len(data))
    out, chosen = gather(data, 7, 2, order, 3, isa=isa)
    np.testing.assert_array_equal(out, data[chosen])


def test_an_unaligned_array(rng, isa):
    record = np.zeros(20, np.dtype([("flag", "u1"), ("values", "f4", 7)]))
    record["values"] = rng.standard_normal((20, 7))
    out, chosen = gather(record["values"], 20, isa=isa)
    np.testing.assert_array_equal(out, record["values"][chosen])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("source", SOURCES)
def test_rows_of_a_sparse_matrix(rng, isa, dtype, source, threads):
    """Of any length: none, one, several chunks of 64, columns twice; columns that are not there are left out."""
    set_num_threads(threads)
    for rows, cols in [*SIZES, (40, 700)]:
        lengths = rng.choice([0, 1, 2, 63, 64, 65, 200], rows + 9)
        starts = np.concatenate([[5], 5 + np.cumsum(lengths)])
        columns = rng.integers(0, max(1, cols), starts[-1]).astype(np.int32)
        outside = rng.random(starts[-1]) < (0.1 if cols else 2)
        values = user_array(rng, source, 1, starts[-1])[0]
        given = np.where(outside, rng.choice([-(2**31), -1, cols, 2**31 - 1], starts[-1]), columns).astype(np.int32)
        table = np.array([array.ctypes.data for array in (starts, given, values)])
        order = rng.permutation(rows + 9)
        for indices, row in ((None, 0), (None, 9), (order, 4)):
            state = new_state(rows)
            state[ROW], state[SLOTS + 3] = row, table.ctypes.data
            if indices is not None:
                state[INDICES] = indices.ctypes.data
            chosen = reference.rows_of(state, indices)
            guarded = np.full(rows * cols + 32, 77, dtype)
            out = guarded[16:-16].reshape(rows, cols)
            sizes = dict(slot=3, rows=rows, cols=cols, source=SOURCES[source])
            Program([Op("gather_csr", dtype=dtype, isa=isa, out=out, state=state, **sizes)], state).run()
            there = values * ~outside if cols else values
            expected = np.zeros((rows, 0), dtype)
            if cols:
                expected = reference.gather_csr(starts, columns, there, cols, chosen, dtype)
            assert out.tobytes() == expected.tobytes()
            assert (guarded[:16] == 77).all() and (guarded[-16:] == 77).all()


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_successive_steps_walk_through_the_order(rng, threads, isa):
    set_num_threads(threads)
    data = rng.standard_normal((40, 5)).astype(np.float32)
    result = np.zeros((40, 5), np.float32)
    order = rng.permutation(40)
    state = new_state(batch=8)
    state[INDICES], state[SLOTS], state[SLOTS + 1] = order.ctypes.data, data.ctypes.data, result.ctypes.data
    batch = np.zeros((8, 5), np.float32)
    ops = [
        Op("gather", isa=isa, out=batch, state=state, slot=0, rows=8, cols=5, row_stride=20, source=0),
        Op("scatter", isa=isa, x=batch, state=state, slot=1, rows=8, cols=5),
    ]
    assert Program(ops, state).run(5) == 5
    assert state[ROW] == 40 and state[BATCH] == 8
    np.testing.assert_array_equal(result, data[order])


@pytest.mark.parametrize("shape", SIZES)
def test_scatter(rng, isa, dtype, shape, every_thread_count):
    rows, cols = shape
    x = rng.standard_normal(shape).astype(dtype)
    before = rng.standard_normal((rows + 4, cols)).astype(dtype)

    def compute(threads):
        set_num_threads(threads)
        data = before.copy()
        state = new_state()
        state[SLOTS + 2], state[ROW] = data.ctypes.data, 3
        Program([Op("scatter", dtype=dtype, isa=isa, x=x, state=state, slot=2, rows=rows, cols=cols)], state).run()
        return [data]

    np.testing.assert_array_equal(every_thread_count(compute)[0], reference.scatter(before, x, 3))


@pytest.mark.parametrize("kernel", ["scatter_index", "scatter_truth"])
@pytest.mark.parametrize("shape", SIZES)
def test_scatter_of_indices_and_truth_values(rng, isa, dtype, kernel, shape, every_thread_count):
    """They are int32 and bool in the user's array."""
    (rows, cols), index = shape, kernel == "scatter_index"
    x = rng.integers(-9, 9, shape).astype(np.int32 if index else dtype) * (rng.random(shape) < 0.5)
    x = x.astype(np.int32 if index else dtype)
    before = np.ones((rows + 4, cols), np.int32 if index else bool)

    def compute(threads):
        set_num_threads(threads)
        data = before.copy()
        state = new_state()
        state[SLOTS + 2], state[ROW] = data.ctypes.data, 3
        Program([Op(kernel, dtype=dtype, isa=isa, x=x, state=state, slot=2, rows=rows, cols=cols)], state).run()
        return [data]

    np.testing.assert_array_equal(every_thread_count(compute)[0], reference.scatter(before, x, 3))


def test_transpose(run, rng, dtype, isa, every_thread_count):
    for rows, cols in ((0, 3), (3, 0), (1, 1), (2, 17), (10, 256), (16, 33)):
        x = rng.standard_normal((rows, cols)).astype(dtype)

        def compute(threads):
            out = np.empty((cols, rows), dtype)
            run("transpose", threads=threads, dtype=dtype, isa=isa, out=out, x=x, rows=rows, cols=cols)
            return [out]

        np.testing.assert_array_equal(every_thread_count(compute)[0], reference.transpose(x))


@pytest.mark.parametrize("source", ["uint8", "float32", "float16"])
@pytest.mark.parametrize("augment, flip", [(0, 0), (1, 0), (1, 1)])
def test_images(rng, isa, dtype, source, augment, flip, every_thread_count):
    """Parts of images as the seed, the epoch and the numbers of the samples choose them."""
    for height, width, c, size, padding in (
        (5, 7, 3, (5, 7), (2, 1)),
        (4, 6, 1, (3, 5), (0, 0)),
        (1, 1, 2, (3, 2), (2, 3)),
        (9, 33, 4, (4, 20), (1, 0)),
    ):
        data = np.abs(user_array(rng, source, 50, height * width * c)).reshape(50, height, width, c)
        order, numbers = rng.permutation(50), rng.integers(0, 1 << 40, 50)
        scale, shift = rng.normal(size=(2, c)).astype(dtype)
        places = tuple(n + 2 * p - s + 1 for n, p, s in zip((height, width), padding, size, strict=True))
        rows = [np.ascontiguousarray(np.broadcast_to(v, (size[1], c))) for v in (scale, shift)]

        def compute(threads):
            set_num_threads(threads)
            state = new_state(41, seed=(5 << 40) + 7)
            state[SLOTS + 2], state[INDICES], state[NUMBERS] = (a.ctypes.data for a in (data, order, numbers))
            state[ROW], state[EPOCH] = 3, 6
            out = np.full((41, *size, c), 77, dtype)
            op = Op(
                "gather_image", out=out, state=state, scale=rows[0], shift=rows[1], slot=2, rows=41, height=height,
                width=width, c=c, oh=size[0], ow=size[1], row_stride=data.strides[0], source=SOURCES[source],
                pad_h=padding[0], pad_w=padding[1], augment=augment, flip=flip, dtype=dtype, isa=isa,
            )  # fmt: skip
            Program([op], state).run()
            return [out]

        (out,) = every_thread_count(compute)
        chosen = order[3:44]
        taken = None
        if augment:
            top, left, mirrored = reference_images.image_places(numbers[chosen], 6, (5 << 40) + 7, places)
            assert top.max() < places[0] and left.max() < places[1] and (top.max() > 0 or places[0] == 1)
            taken = top, left, mirrored & bool(flip)
        expected = reference_images.gather_image(data[chosen], size, padding, scale, shift, dtype, taken)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
