"""Op: its arguments are checked, by name, type, extent and layout, when it is made."""

import numpy as np
import pytest

from nncore import Op, Program, Ref, new_state, set_num_threads
from nncore.kernels.operands import EXTENTS, TYPES, extents
from nncore.kernels.signatures import SIGNATURES
from nncore.memory import LAYOUT


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
