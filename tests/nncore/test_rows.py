"""Kernels whose threads share out rows: each thread alone, called by its address, writes its rows and reads no others.

Between such kernels a Program needs no barrier, so a thread that reached over would race.
"""

import ctypes

import numpy as np
import pytest

from nncore import Op, Operand, Step, kernels, new_state, ref
from nncore.barriers import place_barriers
from nncore.kernels.signatures import INTEGERS, ROWS, SIGNATURES
from nncore.memory import LAYOUT, SLOTS
from nncore.reductions import reduce_sizes
from nncore.refs import Rows
from nncore.strides import copy_sizes

THREADS = 3


class _Op(ctypes.Structure):
    _fields_ = [
        ("kernel", ctypes.c_void_p), ("p", ctypes.c_void_p * LAYOUT["POINTERS"]),
        ("n", ctypes.c_int64 * LAYOUT["SIZES"]), ("s", ctypes.c_double * LAYOUT["SCALARS"]),
        *((name, ctypes.c_int32) for name in ("threads", "barrier", "id", "every", "phase", "padding")),
    ]  # fmt: skip


def call(op, thread, threads):
    """What one thread of a team does."""
    assert ctypes.sizeof(_Op) == LAYOUT["OP_BYTES"]
    record = _Op(kernel=op.address)
    for array, values in ((record.p, op.pointers), (record.n, op.sizes), (record.s, op.scalars)):
        for position, value in enumerate(values):
            array[position] = value
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)(op.address)(
        ctypes.addressof(record), thread, threads
    )


def shares(rows, threads):
    each, rest = divmod(rows, threads)
    ends = np.cumsum([each + (t < rest) for t in range(threads)])
    return [slice(end - each - (t < rest), end) for t, end in enumerate(ends)]


R, C, K = 19, 21, 13
rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape)


def cases(dtype):
    """name -> (arguments that are whole, arguments by rows, outputs by rows, sizes and scalars, steps)."""
    labels = rng.integers(0, C, R).astype(np.int32)
    size, by_rows = dict(rows=R, cols=C), dict(by_rows=1)

    def wholes(shape):
        return rng.integers(0, K, shape).astype(np.int32)

    yield (
        "gemm",
        {"b": normal(K, C)},
        {"a": normal(R, K)},
        {"c": (R, C)},
        dict(m=R, n=C, k=K, rs_a=K, cs_a=1, ldb=C, ldc=C, by_rows=1),
    )
    yield (
        "gemm_narrow",
        {"b": normal(K, 3)},
        {"a": normal(R, K)},
        {"c": (R, 3)},
        dict(m=R, n=3, k=K, lda=K, rs_b=3, cs_b=1),
    )
    yield "chain", {}, {"x": normal(R, C)}, {"out": (R, C)}, dict(ld_x=C, ld_out=C, by_rows=1, **size)
    yield "softmax", {}, {"x": normal(R, C)}, {"y": (R, C)}, size
    yield "log_softmax", {}, {"x": normal(R, C)}, {"y": (R, C)}, size
    for name in ("softmax_grad", "log_softmax_grad"):
        yield name, {}, {"dy": normal(R, C), "y": normal(R, C)}, {"dx": (R, C)}, size
    losses = {"loss": (R,), "dx": (R, C)}
    for few in (0, 1):  # classes: more, and fewer, than a vector holds
        narrow = 2 if few else C
        given = {"x": normal(R, narrow), "labels": labels % narrow, "weights": normal(R), "upstream": normal(R)}
        made = {"loss": (R,), "correct": (R,), "dx": (R, narrow)}
        yield "softmax_crossentropy", {}, given, made, dict(rows=R, cols=narrow, scale=1.0)
    yield (
        "binary_crossentropy",
        {},
        {"x": normal(R, C), "targets": normal(R, C), "weights": normal(R), "upstream": normal(R)},
        losses | {"correct": (R,)},
        dict(scale=1.0, **size),
    )
    yield (
        "mean_squared_error",
        {},
        {"x": normal(R, C), "targets": normal(R, C), "weights": normal(R), "upstream": normal(R)},
        losses,
        dict(scale=1.0, **size),
    )
    statistics = {"mean": normal(R), "rstd": normal(R)}
    yield (
        "layer_norm",
        {"gamma": normal(C)},
        {"x": normal(R, C)},
        {"y": (R, C), "mean": (R,), "rstd": (R,)},
        dict(epsilon=1e-3, **size),
    )
    yield (
        "layer_norm_grad",
        {"gamma": normal(C)},
        {"dy": normal(R, C), "x": normal(R, C), **statistics},
        {"dx": (R, C)},
        size,
    )
    part = copy_sizes((R, 4), (K, 1), (C, 2), x_offset=3, rows=True)
    yield "copy", {}, {"x": normal(R, C)}, {"out": (R, K)}, part | by_rows
    turned = copy_sizes((R, 3, 4), (K, 4, 1), (C, 1, 3), out_offset=1, x_offset=2, rows=True)
    yield "copy", {}, {"x": normal(R, C)}, {"out": (R, K)}, turned | by_rows
    yield "fill", {}, {}, {"out": (R, C)}, dict(ld=C, **size, **by_rows)
    yield "real_to_int", {}, {"x": normal(R, C)}, {"out": (R, C)}, dict(ld_out=C, ld_x=C, **size, **by_rows)
    yield "int_to_real", {}, {"x": wholes((R, C))}, {"out": (R, C)}, dict(ld_out=C, ld_x=C, **size, **by_rows)
    yield "reduce", {}, {"x": normal(R, C)}, {"out": (R,)}, reduce_sizes("max", R, C, 1) | by_rows
    yield "reduce", {}, {"x": normal(R, C)}, {"out": (R, 3)}, reduce_sizes("sum", R, C // 3, 3) | by_rows
    cut = dict(outer=R, mid=C // 3, inner=3, stride_outer=C, **by_rows)
    for name in ("argmax", "argmin"):
        yield name, {}, {"x": normal(R, C)}, {"out": (R, 3)}, cut | dict(stride_mid=3)
    yield "cumsum", {}, {"x": normal(R, C)}, {"out": (R, C)}, cut
    index = {"index": wholes(R)}
    state = {"state": new_state()}
    yield "take", {"table": normal(K, C), **state}, index, {"out": (R, C)}, dict(table_rows=K, **size, **by_rows)
    yield "take_along", state, {"x": normal(R, C), **index}, {"out": (R,)}, size
    yield "take_along_grad", {}, {"dy": normal(R), **index}, {"dx": (R, C)}, size
    yield "one_hot", state, index, {"out": (R, C)}, size


CASES = {f"{name} {number}": case for number, (name, *case) in enumerate(cases("float32"))}
GATHERS = {"gather", "gather_index", "gather_csr"}  # what they read is the user's, and never written


def test_every_kernel_by_rows_is_here():
    assert {name.partition(" ")[0] for name in CASES} | GATHERS == set(ROWS)


def arrays(values, dtype):
    return {n: v if v.dtype.kind == "i" else v.astype(dtype) for n, v in values.items()}


@pytest.mark.parametrize("case", CASES)
def test_a_thread_keeps_to_its_rows(case, dtype, isa):
    name = case.partition(" ")[0]
    whole, by_rows, outputs, numbers = CASES[case]
    whole, by_rows = arrays(whole, dtype), arrays(by_rows, dtype)
    steps = []
    if "n_steps" in SIGNATURES[name].sizes:
        width = next(iter(outputs.values()))[-1]
        bias, other = arrays({"bias": normal(width), "other": normal(R, width)}, dtype).values()
        by_rows["step"] = other
        steps = [("add", bias), ("relu", None), ("mul", other)]

    def run(given, threads, team):
        """The outputs after these threads of a team."""
        whole_numbers = INTEGERS.get(name, ())
        made = {n: np.full(shape, 77, np.int32 if n in whole_numbers else dtype) for n, shape in outputs.items()}
        given = dict(given)
        operand = given.pop("step", None)
        chain = [Step(kind, p=operand if kind == "mul" else p) for kind, p in steps]
        kind = {"itemsize": np.dtype(dtype).itemsize} if name == "copy" else {}
        op = Op(name, dtype=dtype, isa=isa, steps=chain, **whole, **given, **made, **(numbers | kind))
        touched = {touch.rows for touch in op.writes}
        assert touched <= {Rows(a.ctypes.data, a.strides[0], R) for a in made.values()}, "ROWS says otherwise"
        for thread in threads:
            call(op, thread, team)
        return made

    expected = run(by_rows, [0], 1)
    for thread, mine in enumerate(shares(R, THREADS)):
        poisoned = {}
        for n, array in by_rows.items():
            poisoned[n] = np.full_like(array, 1 if array.dtype == np.int32 else np.nan)
            poisoned[n][mine] = array[mine]
        made = run(poisoned, [thread], THREADS)
        for n, array in made.items():
            assert array[mine].tobytes() == expected[n][mine].tobytes(), f"{n}: reads rows of another thread"
            array[mine] = 77
            assert (array == 77).all(), f"{n}: writes rows of another thread"


@pytest.mark.parametrize("name", sorted(GATHERS))
def test_gather_by_rows(name, isa):
    data, state = (rng.standard_normal((R, C)) * 100).astype(np.float32), new_state(R)
    arrays = (np.arange(R + 1) * C, np.tile(np.arange(C, dtype=np.int32), R), data)  # a sparse matrix without zeros
    table = np.array([array.ctypes.data for array in arrays])
    state[SLOTS] = (table if name == "gather_csr" else data).ctypes.data
    more = {} if name == "gather_csr" else dict(row_stride=data.strides[0], by_rows=1)
    kind = np.int32 if name == "gather_index" else np.float32
    for thread, mine in enumerate(shares(R, THREADS)):
        out = np.full((R, C), 77, kind)
        call(
            Op(name, isa=isa, out=out, state=state, rows=R, cols=C, **more),
            thread,
            THREADS,
        )
        np.testing.assert_array_equal(out[mine], data[mine].astype(kind))
        out[mine] = 77
        assert (out == 77).all()


def test_barriers_between_rows():
    x, y, z = (np.zeros((R, C), np.float32) for _ in range(3))
    b = np.zeros((C, C), np.float32)
    size = dict(rows=R, cols=C, ld_x=C, ld_out=C)

    def chain(out, x, **more):
        return Op("chain", out=out, x=x, **size | more)

    def product(c, a, **more):
        return Op("gemm", c=c, a=a, b=b, m=R, n=C, k=C, rs_a=C, cs_a=1, ldb=C, ldc=C, **more)

    rows = dict(by_rows=1, threads=2)
    assert place_barriers([chain(y, x, **rows), product(z, y, **rows), chain(x, z, **rows)]) == [False] * 3
    assert place_barriers([chain(y, x), product(z, y, by_rows=1)]) == [False, True]  # tiles, then rows
    assert place_barriers([chain(y, x, **rows), product(z, y, by_rows=1, threads=3)]) == [False, True]  # another team
    assert place_barriers([chain(b, b, rows=C, **rows), product(z, y, **rows)]) == [False, True]  # b is read whole
    half = dict(rows=R, cols=7, ld_x=7, ld_out=7)
    short = Op("chain", out=x.reshape(-1)[: R * 7].reshape(R, 7), x=y.reshape(-1)[: R * 7], **half, **rows)
    assert place_barriers([chain(x, z, **rows), short]) == [False, True]  # the same memory in other rows
    step = Op("chain", out=y, x=z, steps=[Step("add", p=x)], **size, **rows)
    assert place_barriers([chain(x, b, **rows), step]) == [False, False]  # an operand's rows
    first = Operand(ref(x), 0)  # its first row, and with groups of rows: operands that all read
    for shared in (first, Operand(ref(x), C, div=2), Operand(ref(x), C, mod=3), Operand(ref(x), 1, cs=R)):
        by_column = Op("chain", out=y, x=z, steps=[Step("add", p=shared)], **size, **rows)
        assert place_barriers([chain(x, b, **rows), by_column]) == [False, True]


def test_rows_name_arguments_that_exist():
    for name, (counted, widths) in ROWS.items():
        signature = SIGNATURES[name]
        pointers = {pointer.rstrip("!?") for pointer in signature.pointers}
        assert counted in signature.sizes and set(widths) <= pointers
        assert set(widths.values()) - {"1"} <= set(signature.sizes)
        assert kernels.address(name)
