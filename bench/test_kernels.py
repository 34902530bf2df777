"""Every kernel against its NumPy reference, at sizes of real layers."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import nncore
from bench.array_cases import array_cases
from bench.case import Case, empty, normal, rng
from bench.conftest import MOST
from bench.image_cases import image_cases
from nncore import Step, kernels, reference
from nncore.expr import evaluate
from nncore.functions import FUNCTIONS, SAVES
from nncore.kernels.signatures import SIGNATURES
from nncore.memory import INDICES, RATES, SLOTS
from nncore.reductions import reduce_sizes
from nncore.rules import RULES
from nnpy.compiler.lower import Lowering
from nnpy.compiler.views import Views
from nnpy.graph import Tensor

ROWS, COLS, UNITS = 128, 512, 256
COUNT = 500_000  # parameters


def _batches():
    """Between the user's arrays and batches."""
    for kernel, source, cols in (("gather", 0, 784), ("gather_index", 9, 1)):
        out = np.empty((ROWS, cols), np.float32 if kernel == "gather" else np.int32)
        data = normal(2000, cols) if source == 0 else rng.integers(0, 10, (2000, cols))
        order, state = rng.permutation(2000), nncore.new_state(0)
        state[SLOTS], state[INDICES] = data.ctypes.data, order.ctypes.data
        arguments = dict(out=out, state=state, rows=ROWS, cols=cols, row_stride=data.strides[0], source=source)
        take = lambda data=data, order=order, out=out: data[order[:ROWS]].astype(out.dtype)  # noqa: E731
        yield Case(kernel, arguments, take, keep=(data, order))
    starts, columns = np.arange(2001) * 64, rng.integers(0, COLS, 2000 * 64).astype(np.int32)
    data, out, state = normal(2000 * 64), empty((ROWS, COLS)), nncore.new_state(0)
    table = np.array([array.ctypes.data for array in (starts, columns, data)])
    state[SLOTS], state[INDICES] = table.ctypes.data, order.ctypes.data
    take = lambda starts=starts, columns=columns, data=data, order=order: reference.gather_csr(  # noqa: E731
        starts, columns, data, COLS, order[:ROWS]
    )
    yield Case(
        "gather_csr", dict(out=out, state=state, rows=ROWS, cols=COLS, source=0), take,
        keep=(table, starts, columns, data, order),
    )  # fmt: skip
    x, result, state = normal(ROWS, 10), empty((ROWS, 10)), nncore.new_state(0)  # a batch of predictions
    state[SLOTS] = result.ctypes.data
    yield Case("scatter", dict(x=x, state=state, rows=ROWS, cols=10), lambda: np.copyto(result, x), keep=(result,))
    for kernel, dtype in (("scatter_index", np.int32), ("scatter_truth", np.bool_)):
        made, state = np.zeros((ROWS, 10), dtype), nncore.new_state(0)
        given = x.astype(np.int32) if kernel == "scatter_index" else x
        state[SLOTS] = made.ctypes.data
        copy = lambda made=made, given=given: np.copyto(made, given, casting="unsafe")  # noqa: E731
        yield Case(kernel, dict(x=given, state=state, rows=ROWS, cols=10), copy, keep=(made,))
    narrow, turned = normal(10, UNITS), empty((UNITS, 10))
    yield Case("transpose", dict(out=turned, x=narrow, rows=10, cols=UNITS), lambda: reference.transpose(narrow))


def _products():
    x, w = normal(ROWS, COLS), normal(COLS, UNITS)
    panel = kernels.family("gemm").NR
    packed = empty(-(-UNITS // panel) * panel * COLS)
    c = empty((ROWS, UNITS))
    yield Case(
        "gemm", dict(c=c, a=x, b=w, m=ROWS, n=UNITS, k=COLS, rs_a=COLS, cs_a=1, ldb=UNITS, ldc=UNITS),
        lambda: np.matmul(x, w, out=c), work=2 * ROWS * COLS * UNITS,
    )  # fmt: skip
    head, scores = normal(COLS, 10), empty((ROWS, 10))
    yield Case(
        "gemm_narrow", dict(c=scores, a=x, b=head, m=ROWS, n=10, k=COLS, lda=COLS, rs_b=10, cs_b=1),
        lambda: np.matmul(x, head, out=scores), work=2 * ROWS * COLS * 10,
    )  # fmt: skip
    yield Case(
        "pack_b", dict(out=packed, b=w, k=COLS, n=UNITS, rs=UNITS, cs=1), lambda: reference.pack_b(w, panel)
    )  # fmt: skip
    bias, z = normal(COLS), empty(x.shape)
    yield Case(
        "chain", dict(out=z, x=x, rows=ROWS, cols=COLS, ld_out=COLS, ld_x=COLS), lambda: np.add(x, bias, out=z),
        steps=[Step("add", p=bias)],
    )  # fmt: skip


def _rows():
    """Softmax and the losses."""
    for cols in (10, COLS):
        x, y = normal(ROWS, cols), normal(ROWS, cols)
        soft, out = reference.softmax(x), empty(x.shape)
        loss, correct = empty(ROWS), empty(ROWS)
        labels = rng.integers(0, cols, ROWS).astype(np.int32)
        shape, of_loss = dict(rows=ROWS, cols=cols), dict(loss=loss, dx=out, x=x, scale=1 / ROWS)
        for name, arguments, given in (
            ("softmax", dict(y=out, x=x), (x,)),
            ("softmax_grad", dict(dx=out, dy=y, y=soft), (y, soft)),
            ("log_softmax", dict(y=out, x=x), (x,)),
            ("log_softmax_grad", dict(dx=out, dy=y, y=soft), (y, soft)),
            ("softmax_crossentropy", of_loss | dict(correct=correct, labels=labels), (x, labels)),
            ("binary_crossentropy", of_loss | dict(targets=soft), (x, soft)),
            ("mean_squared_error", of_loss | dict(targets=y), (x, y)),
        ):
            function = getattr(reference, name)
            yield Case(name, arguments | shape, lambda function=function, given=given: function(*given))


def _normalizations():
    x, y, z = normal(ROWS, COLS), normal(ROWS, COLS), empty((ROWS, COLS))
    gamma, beta, mean, variance = normal(COLS), normal(COLS), normal(COLS), np.abs(normal(COLS)) + 0.1
    rstd, kept = empty(COLS), empty(COLS)
    of_rows = [normal(ROWS) for _ in range(2)]
    per_row = dict(mean=of_rows[0], rstd=of_rows[1])
    size, affine = dict(rows=ROWS, cols=COLS), dict(gamma=gamma, beta=beta)
    moving = dict(moving_mean=mean.copy(), moving_variance=variance.copy())
    yield Case(
        "batch_norm", dict(y=z, x=x, mean=kept, rstd=rstd, epsilon=1e-3, momentum=0.99, **affine, **moving, **size),
        lambda: reference.batch_norm(x, gamma, beta, mean, variance, 1e-3, 0.99),
    )  # fmt: skip
    yield Case(
        "batch_norm_grad",
        dict(dx=z, dgamma=kept, dbeta=rstd, dy=y, x=x, gamma=gamma, mean=mean, rstd=variance, **size),
        lambda: reference.batch_norm_grad(y, x, gamma, mean, variance),
    )  # fmt: skip
    yield Case(
        "batch_norm_fold", dict(scale=kept, shift=rstd, cols=COLS, epsilon=1e-3, **affine, **moving),
        lambda: reference.batch_norm_fold(gamma, beta, mean, variance, 1e-3),
    )  # fmt: skip
    yield Case(
        "layer_norm", dict(y=z, x=x, epsilon=1e-3, **affine, **per_row, **size),
        lambda: reference.layer_norm(x, gamma, beta, 1e-3),
    )  # fmt: skip
    yield Case(
        "layer_norm_grad", dict(dx=z, dy=y, x=x, gamma=gamma, **per_row, **size),
        lambda: reference.layer_norm_grad(y, x, gamma, *of_rows),
    )  # fmt: skip
    yield Case(
        "layer_norm_parameter_grad", dict(dgamma=kept, dbeta=rstd, dy=y, x=x, **per_row, **size),
        lambda: reference.layer_norm_parameter_grad(y, x, *of_rows),
    )  # fmt: skip


def _sums():
    x, y = normal(ROWS, COLS), normal(ROWS, COLS)
    for shape in ((1, ROWS, COLS), (ROWS, COLS, 1), (1, ROWS * COLS, 1)):
        sizes = reduce_sizes("sum", *shape, cols=shape[1] if shape[2] == 1 else shape[2])
        steps = [Step("sub", p=y.reshape(-1, sizes["cols"])), Step("abs")]
        out, of_x, of_y = empty((shape[0], shape[2])), x.reshape(shape), y.reshape(shape)
        yield Case(
            "reduce", dict(out=out, x=x, **sizes), lambda a=of_x, b=of_y: np.abs(a - b).sum(1), steps
        )  # fmt: skip
    totals, loss = np.zeros(2), normal(ROWS)
    yield Case("accumulate", dict(totals=totals, values=loss, rows=ROWS), lambda: reference.accumulate(totals, loss))
    flat = normal(COUNT)
    partials = np.empty(-(-COUNT // reference.CHUNK))
    yield Case("square_sums", dict(partials=partials, x=flat, count=COUNT), lambda: reference.square_sums(flat))
    ones, scale = np.ones(len(partials)), empty(1)
    yield Case(
        "clip_scale", dict(scale=scale, partials=ones, count=len(ones), clip=1.0),
        lambda: reference.clip_scale(ones, 1.0),
    )  # fmt: skip


def _others():
    rows, steps, cols, length = 16, 60, 40, 20
    x, labels = normal(rows, steps, cols), np.random.default_rng(0).integers(1, cols, (rows, length)).astype(np.int32)
    ld = 2 * length + 21
    share = steps + (4 + steps) * ld
    arguments = dict(rows=rows, times=steps, cols=cols, length=length, ld=ld, share=share, scale=1.0)
    arguments |= dict(loss=empty(rows), dx=empty(x.shape), x=x, labels=labels, workspace=empty((rows, share)))
    yield Case("ctc", arguments, lambda: reference.ctc(x, labels))
    out, generator = empty(COUNT), np.random.default_rng(0)
    made = lambda: generator.standard_normal(COUNT, np.float32)  # noqa: E731
    yield Case("normal", dict(out=out, state=nncore.new_state(0), count=COUNT, index=0), made)


def _optimizers():
    w, g, slots = normal(COUNT), normal(COUNT), [np.abs(normal(COUNT)) for _ in range(3)]
    columns = dict(decay=0.0, keep=0.9, new_1=0.1, epsilon=1e-7, inverse=1e3, exponent=0.4)  # all others: 1e-3
    for name, rule in RULES.items():
        table, state = np.tile([columns.get(column, 1e-3) for column in rule.columns], (MOST, 1)), nncore.new_state(0)
        state[RATES] = table.ctypes.data
        given = slots[: len(rule.slots)]
        arguments = {f"slot_{i}": slot.copy() for i, slot in enumerate(given)}
        numpy = partial(reference.update, name, table[0], g, w, *given)
        arguments |= dict(rule=name, w=w.copy(), g=g, state=state, count=COUNT)
        yield Case("update", arguments, numpy, keep=(table,))


CASES = [
    *_batches(), *_products(), *_rows(), *_normalizations(), *_sums(), *_optimizers(), *_others(), *array_cases(),
    *image_cases(),
]  # fmt: skip
LARGE = 2 * 256**3  # operations of a product: from here on NumPy's is as fast, and which is faster is noise
NOISE = 0.93
ROOFLINE = {"fma_peak", "triad", "copy_peak"}  # what the machine can do: bench.roofline measures them


def least(work: float) -> float:
    """The ratio to NumPy that a kernel of so many operations must have."""
    return NOISE if work >= LARGE else 1.0


def test_every_kernel_has_a_benchmark():
    assert {case.name for case in CASES} | ROOFLINE == set(SIGNATURES)


@pytest.mark.benchmark(group="kernels")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernel(case, guard):
    guard(case.program(), case.numpy, case.work, least(case.work))


SHAPES = [(32, 784, 128), (128, 784, 512), (64, 64, 64), (128, 256, 10), (512, 512, 64)]
SHAPES += [(n, n, n) for n in (256, 512, 1024)]


@pytest.mark.benchmark(group="gemm")
@pytest.mark.parametrize("m, k, n", SHAPES)
@pytest.mark.parametrize("orientation", ["forward", "by_input", "by_weight"])
def test_gemm(m, k, n, orientation, guard):
    """The three products of a dense layer of k features and n units at batch m, as the compiler chooses to do them."""
    x, w, dy = normal(m, k), normal(k, n), normal(m, n)
    a, b, rows, cols, depth = {
        "forward": (x, w, m, n, k),
        "by_input": (dy, w.T, m, k, n),
        "by_weight": (x.T, dy, k, n, m),
    }[orientation]
    c = empty((rows, cols))
    state = nncore.new_state()
    low = Lowering(m, c.dtype, state, Views([], m), set(), fixed=False, values={})
    turned = {"a": orientation == "by_weight", "b": orientation == "by_input"}
    tensors = {}
    for name, array in (("output", c), ("a", a.T if turned["a"] else a), ("b", b.T if turned["b"] else b)):
        tensors[name] = Tensor(array.shape)
        low.bind(tensors[name], array)
    item = SimpleNamespace(output=tensors.pop("output"), steps=[])
    low.gemm(item, **tensors, m=rows, n=cols, k=depth, a_turned=turned["a"], b_turned=turned["b"])
    ops, _ = low.finish()
    program = nncore.Program(ops, state)
    program.run()
    np.testing.assert_allclose(c, a @ b, rtol=1e-3, atol=1e-3 * depth**0.5)
    out = empty(c.shape)
    work = 2 * m * n * k
    guard(program.run, lambda: np.matmul(a, b, out=out), work, least(work))


def _chain(steps, x, out):
    arguments = dict(out=out, x=x, rows=ROWS, cols=COLS, ld_out=COLS, ld_x=COLS)
    return Case("chain", arguments, None, steps).program()


@pytest.mark.benchmark(group="steps")
@pytest.mark.parametrize("kind", sorted(SAVES.keys() - {"power_scalar"}))  # NumPy's are faster
def test_activation(kind, guard):
    """Bias and activation, as a layer has them: what steps are for. tanh alone is SVML in NumPy, and faster there."""
    x, bias, out = normal(ROWS, COLS), normal(COLS), empty((ROWS, COLS))
    steps = [Step("add", p=bias), Step(kind, s0=0.2, s1=0.7)]
    row = FUNCTIONS[kind]
    guard(_chain(steps, x, out), lambda: evaluate(row.value, "float32", v=x + bias, s0=0.2, s1=0.7))


@pytest.mark.benchmark(group="steps")
@pytest.mark.parametrize("kind", sorted(SAVES.keys() - {"power_scalar"}))  # NumPy's are faster
def test_derivative(kind, guard):
    """The gradients of two branches added, and the derivative. A product of two arrays alone, as exponential's is, only
    measures the memory, on both sides."""
    x, saved, out = normal(ROWS, COLS), np.abs(normal(ROWS, COLS)) % 1, empty((ROWS, COLS))
    other = normal(ROWS, COLS)
    steps = [Step("add", p=other), Step("d_" + kind, p=saved, s0=0.2, s1=0.7)]
    row = FUNCTIONS["d_" + kind]
    guard(_chain(steps, x, out), lambda: evaluate(row.value, "float32", v=x + other, p=saved, s0=0.2, s1=0.7))


@pytest.mark.benchmark(group="steps")
def test_dropout(guard):
    """Against NumPy's own generator: it need not be the same for any number of threads."""
    x, out, state = normal(ROWS, COLS), empty((ROWS, COLS)), nncore.new_state(seed=5)
    numbers = np.random.default_rng(5)
    steps = [Step("dropout", state=state, width=COLS, s0=0.2, s1=1.25)]
    guard(_chain(steps, x, out), lambda: np.where(numbers.random(x.shape, np.float32) < 0.2, 0, x * np.float32(1.25)))
