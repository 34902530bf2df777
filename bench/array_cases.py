"""Copies, reductions and rows of tables against NumPy: sizes of a transformer's layers."""

import numpy as np

import nncore
from bench.case import Case, empty, normal, rng
from nncore import reference_arrays
from nncore.products import workspace
from nncore.reductions import reduce_sizes
from nncore.strides import copy_arguments

BATCH, TIME, HEADS, DEPTH, WORDS, CLASSES = 8, 128, 8, 32, 5000, 10
WIDTH, TOKENS = HEADS * DEPTH, BATCH * TIME


def array_cases():
    yield from _products()
    yield from _copies()
    yield from _axes()
    yield from _rows()


def _products():
    """Scores of attention, what they take of the values, and the values' gradient, of heads that lie side by side."""
    q, k, v = (normal(BATCH, TIME, HEADS, DEPTH) for _ in range(3))
    scores = normal(BATCH, HEADS, TIME, TIME)
    out, heads = empty(v.shape), dict(outer=TIME * WIDTH, inner=DEPTH)
    table = dict(outer=HEADS * TIME**2, inner=TIME**2)
    of_heads, of_table = dict(row=WIDTH, column=1, **heads), dict(row=TIME, column=1, **table)
    turned_heads, turned_table = dict(row=1, column=WIDTH, **heads), dict(row=1, column=TIME, **table)
    for c, a, b, n, depth in (
        ((empty(scores.shape), of_table), (q, of_heads), (k, turned_heads), TIME, DEPTH),
        ((out, of_heads), (scores, of_table), (v, of_heads), DEPTH, TIME),
        ((out, of_heads), (scores, turned_table), (v, of_heads), DEPTH, TIME),
    ):
        share = workspace(n, depth)
        sizes = dict(m=TIME, n=n, k=depth, outer=BATCH, inner=HEADS, ldc=c[1]["row"], share=share)
        for name, (_, steps) in (("a", a), ("b", b), ("c", c)):
            sizes |= {f"{name}_outer": steps["outer"], f"{name}_inner": steps["inner"]}
            if name != "c":
                sizes |= {f"rs_{name}": steps["row"], f"cs_{name}": steps["column"]}
        left, right, result = (_matrices(*operand) for operand in (a, b, c))
        yield Case(
            "gemm_batched", dict(c=c[0], a=a[0], b=b[0], workspace=empty(share * nncore.get_num_threads()), **sizes),
            lambda left=left, right=right, result=result: np.matmul(left, right, out=result),
            work=2 * BATCH * HEADS * TIME * n * depth,
        )  # fmt: skip


def _matrices(array, steps):
    """The view [batch, head, row, column] of what an operand of gemm_batched is."""
    matrices = array if steps["inner"] == TIME**2 else array.swapaxes(1, 2)
    return matrices.swapaxes(2, 3) if steps["row"] == 1 else matrices


def _copies():
    x = normal(BATCH, TIME, HEADS, DEPTH)
    for axes in ((0, 2, 1, 3), (0, 2, 3, 1)):
        turned = x.transpose(axes)
        out = empty(turned.shape)
        yield Case("copy", copy_arguments(out, turned), lambda out=out, turned=turned: np.copyto(out, turned))
    flat, whole = x.reshape(TOKENS, WIDTH), empty((TOKENS, WIDTH), np.int32)
    size = dict(rows=TOKENS, cols=WIDTH)
    yield Case("fill", dict(out=out, ld=WIDTH, value=1.0, **size), lambda: out.fill(1.0))
    apart = dict(ld_out=WIDTH, ld_x=WIDTH, **size)
    yield Case("real_to_int", dict(out=whole, x=flat, **apart), lambda: reference_arrays.real_to_int(flat))
    yield Case("int_to_real", dict(out=out, x=whole, **apart), lambda: np.copyto(out.reshape(flat.shape), whole))


def _axes():
    x = normal(TOKENS, WIDTH)
    for kind in ("sum", "max", "logsumexp"):
        for shape in ((1, TOKENS, WIDTH), (TOKENS, WIDTH, 1), (BATCH, TIME, WIDTH)):
            y, out = x.reshape(shape), empty((shape[0], shape[2]))
            yield Case(
                "reduce", dict(out=out, x=y, **reduce_sizes(kind, *shape)),
                lambda y=y, kind=kind: reference_arrays.reduce(y, kind),
            )  # fmt: skip
    for kernel in ("argmax", "argmin"):
        for outer, mid, inner in ((TOKENS, CLASSES, 1), (TOKENS, WIDTH, 1), (BATCH, TIME, WIDTH)):
            y, out = x.reshape(-1)[: outer * mid * inner].reshape(outer, mid, inner), empty((outer, inner), np.int32)
            sizes = dict(outer=outer, mid=mid, inner=inner, stride_outer=mid * inner, stride_mid=inner)
            take = lambda y=y, kernel=kernel: getattr(reference_arrays, kernel)(y)  # noqa: E731
            yield Case(kernel, dict(out=out, x=y, **sizes), take)
    y, out = x.reshape(BATCH, TIME, WIDTH), empty((BATCH, TIME, WIDTH))
    sizes = dict(outer=BATCH, mid=TIME, inner=WIDTH, stride_outer=TIME * WIDTH)
    yield Case("cumsum", dict(out=out, x=y, **sizes), lambda: reference_arrays.cumsum(y))


def _rows():
    table, dtable, dy, x = normal(WORDS, WIDTH), empty((WORDS, WIDTH)), normal(TOKENS, WIDTH), normal(TOKENS, WIDTH)
    index, columns = (rng.integers(0, most, TOKENS).astype(np.int32) for most in (WORDS, WIDTH))
    out, few, state = empty((TOKENS, WIDTH)), empty(TOKENS), nncore.new_state(0)
    size, known = dict(rows=TOKENS, cols=WIDTH), dict(table_rows=WORDS)
    yield Case(
        "take", dict(out=out, table=table, index=index, state=state, **size, **known), lambda: table.take(index, 0, out)
    )
    yield Case(
        "take_grad", dict(dtable=dtable, dy=dy, index=index, clear=1, **size, **known),
        lambda: reference_arrays.take_grad(dy, index, WORDS),
    )  # fmt: skip
    clear = lambda: reference_arrays.take_clear(dtable, index)  # noqa: E731
    yield Case("take_clear", dict(dtable=dtable, index=index, **size, **known), clear)
    along = dict(index=columns, **size)
    take = lambda: reference_arrays.take_along(x, columns)  # noqa: E731
    yield Case("take_along", dict(out=few, x=x, state=state, **along), take)
    give = lambda: reference_arrays.take_along_grad(few, columns, WIDTH)  # noqa: E731
    yield Case("take_along_grad", dict(dx=out, dy=few, **along), give)
    hot = lambda: reference_arrays.one_hot(columns, WIDTH, np.float32)  # noqa: E731
    yield Case("one_hot", dict(out=out, state=state, **along), hot)
    counts = np.zeros((WIDTH, WIDTH))
    guess = rng.integers(0, WIDTH, TOKENS).astype(np.int32)
    yield Case(
        "confusion", dict(counts=counts, labels=columns, predictions=guess, state=state, **size),
        lambda: reference_arrays.confusion(counts, columns, guess),
    )  # fmt: skip
