"""Every kernel against its NumPy reference, at sizes of real layers."""

import numpy as np
import pytest

import nncore
from nncore import Op, Step, kernels, reference
from nncore.kernels.signatures import SIGNATURES
from nncore.memory import INDICES, RATES, SLOTS
from nncore.steps import SAVES

ROWS, COLS = 128, 512
_rng = np.random.default_rng(0)


def _normal(*shape):
    return _rng.standard_normal(shape, dtype=np.float32)


def _like(*arrays):
    return [np.empty_like(a) for a in arrays]


class _Case:
    """``op`` makes the kernel's Op given a state; ``numpy`` does the same work."""

    def __init__(self, name, arguments, numpy, steps=None, work=0.0):
        self.name, self.arguments, self.numpy, self.steps, self.work = name, arguments, numpy, steps, work


def _gather(kernel, source, cols, out):
    data = _normal(2000, cols) if source == 0 else _rng.integers(0, 10, (2000, cols))
    order = _rng.permutation(2000)
    state = nncore.new_state(ROWS)
    state[SLOTS], state[INDICES], state[nncore.memory.BATCH] = data.ctypes.data, order.ctypes.data, 0
    arguments = dict(out=out, state=state, rows=ROWS, cols=cols, row_stride=data.strides[0], source=source, keep=(data, order))
    return arguments, lambda: data[order[:ROWS]].astype(out.dtype)


def _cases():
    x, y, z = _normal(ROWS, COLS), _normal(ROWS, COLS), np.empty((ROWS, COLS), np.float32)
    size = dict(rows=ROWS, cols=COLS)
    gathered, take = _gather("gather", 0, 784, np.empty((ROWS, 784), np.float32))
    yield _Case("gather", gathered, take)
    gathered, take = _gather("gather_index", 9, 1, np.empty((ROWS, 1), np.int32))
    yield _Case("gather_index", gathered, take)
    result, state = np.empty_like(x), nncore.new_state(0)
    state[SLOTS] = result.ctypes.data
    yield _Case("scatter", dict(x=x, state=state, keep=(result,), **size), lambda: result.__setitem__(slice(0, ROWS), x.copy()))

    w = _normal(COLS, 256)
    core = kernels.family("gemm")
    packed = np.empty(-(-256 // core.NR) * core.NR * COLS, np.float32)
    c, sums = np.empty((ROWS, 256), np.float32), np.empty(256, np.float32)
    flops = 2 * ROWS * COLS * 256
    yield _Case("gemm", dict(c=c, a=x, b=w, m=ROWS, n=256, k=COLS, rs_a=COLS, cs_a=1, ldb=256, ldc=256), lambda: x @ w, work=flops)
    yield _Case("pack_b", dict(out=packed, b=w, sums=sums, k=COLS, n=256, rs=256, cs=1), lambda: reference.pack_b(w, core.NR))

    yield _Case("chain", dict(out=z, x=x, ld_out=COLS, ld_x=COLS, **size), lambda: x + y[0], steps=[Step("add_row", p=y)])
    saved = reference.softmax(x)
    for cols in (10, COLS):
        part, other = np.ascontiguousarray(x[:, :cols]), np.ascontiguousarray(y[:, :cols])
        soft, out, loss, hits = reference.softmax(part), np.empty_like(part), *_like(part[:, 0].copy(), part[:, 0].copy())
        labels = _rng.integers(0, cols, ROWS).astype(np.int32)
        shape = dict(rows=ROWS, cols=cols)
        yield _Case("softmax", dict(y=out, x=part, **shape), lambda part=part: reference.softmax(part))
        yield _Case("softmax_grad", dict(dx=out, dy=other, y=soft, **shape), lambda o=other, s=soft: reference.softmax_grad(o, s))
        yield _Case("log_softmax", dict(y=out, x=part, **shape), lambda part=part: reference.log_softmax(part))
        yield _Case("log_softmax_grad", dict(dx=out, dy=other, y=soft, **shape), lambda o=other, s=soft: reference.log_softmax_grad(o, s))
        yield _Case(
            "softmax_crossentropy", dict(loss=loss, dx=out, hits=hits, x=part, labels=labels, scale=1 / ROWS, **shape),
            lambda p=part, labels=labels: reference.softmax_crossentropy(p, labels),
        )  # fmt: skip
    loss = np.empty(ROWS, np.float32)
    yield _Case("binary_crossentropy", dict(loss=loss, dx=z, x=x, targets=saved, scale=1.0, **size), lambda: reference.binary_crossentropy(x, saved))
    yield _Case("mean_squared_error", dict(loss=loss, dx=z, x=x, targets=y, scale=1.0, **size), lambda: reference.mean_squared_error(x, y))

    rows4 = [_normal(COLS) for _ in range(4)]
    gamma, beta, mean, variance = rows4[0], rows4[1], rows4[2], np.abs(rows4[3]) + 0.1
    rstd, kept = np.empty(COLS, np.float32), np.empty(COLS, np.float32)
    affine = dict(gamma=gamma, beta=beta)
    moving = dict(moving_mean=mean.copy(), moving_variance=variance.copy())
    yield _Case(
        "batch_norm", dict(y=z, x=x, mean=kept, rstd=rstd, epsilon=1e-3, momentum=0.99, **affine, **moving, **size),
        lambda: reference.batch_norm(x, gamma, beta, mean, variance, 1e-3, 0.99),
    )  # fmt: skip
    yield _Case(
        "batch_norm_grad", dict(dx=z, dgamma=kept, dbeta=rstd, dy=y, x=x, gamma=gamma, mean=mean, rstd=variance, **size),
        lambda: reference.batch_norm_grad(y, x, gamma, mean, variance),
    )  # fmt: skip
    yield _Case(
        "batch_norm_fold", dict(scale=kept, shift=rstd, cols=COLS, epsilon=1e-3, **affine, **moving),
        lambda: reference.batch_norm_fold(gamma, beta, mean, variance, 1e-3),
    )  # fmt: skip
    of_rows = [_normal(ROWS) for _ in range(2)]
    per_row = dict(mean=of_rows[0], rstd=of_rows[1])
    yield _Case("layer_norm", dict(y=z, x=x, epsilon=1e-3, **affine, **per_row, **size), lambda: reference.layer_norm(x, gamma, beta, 1e-3))
    yield _Case("layer_norm_grad", dict(dx=z, dy=y, x=x, gamma=gamma, **per_row, **size), lambda: reference.layer_norm_grad(y, x, gamma, *of_rows))
    yield _Case(
        "layer_norm_parameter_grad", dict(dgamma=kept, dbeta=rstd, dy=y, x=x, **per_row, **size),
        lambda: reference.layer_norm_parameter_grad(y, x, *of_rows),
    )  # fmt: skip

    yield _Case("column_sum", dict(out=kept, x=x, ld=COLS, **size), lambda: reference.column_sum(x))
    yield _Case("row_sum", dict(out=loss, x=x, ld=COLS, **size), lambda: reference.row_sum(x))
    yield _Case("accumulate", dict(totals=np.zeros(2), values=loss, rows=ROWS), lambda: reference.accumulate(np.zeros(2), loss))
    count = 500_000
    flat, w, m, v = _normal(count), _normal(count), _normal(count), np.abs(_normal(count))
    partials = np.empty(-(-count // reference.CHUNK))
    yield _Case("square_sums", dict(partials=partials, x=flat, count=count), lambda: reference.square_sums(flat))
    yield _Case(
        "clip_scale", dict(scale=np.empty(1, np.float32), partials=np.ones(len(partials)), count=len(partials), clip=1.0),
        lambda: reference.clip_scale(np.ones(len(partials)), 1.0),
    )  # fmt: skip
    rates = np.full(1, 1e-3)
    state = nncore.new_state(0)
    state[RATES] = rates.ctypes.data
    common = dict(g=flat, state=state, count=count, keep=(rates,))
    yield _Case("sgd", dict(w=w.copy(), v=m.copy(), momentum=0.9, **common), lambda: reference.sgd(w, m, flat, 1e-3, momentum=0.9))
    yield _Case(
        "adam", dict(w=w.copy(), m=m.copy(), v=v.copy(), beta_1=0.9, beta_2=0.999, epsilon=1e-7, **common),
        lambda: reference.adam(w, m, v, flat, 1e-3, 0),
    )  # fmt: skip


CASES = list(_cases())
ROOFLINE = {"fma_peak", "triad", "copy"}  # what the machine can do: bench.roofline measures them


def test_every_kernel_has_a_benchmark():
    assert {case.name for case in CASES} | ROOFLINE == set(SIGNATURES)


def _program(name, arguments, steps=None):
    arguments = dict(arguments)
    keep = arguments.pop("keep", ())
    state = arguments.get("state")
    program = nncore.Program([Op(name, steps=steps, **arguments)], nncore.new_state() if state is None else state)
    cell = program.state

    def run():
        cell[nncore.memory.LOCAL] = 0  # the learning rates are those of one step
        program.run()

    run.keep = keep
    return run


@pytest.mark.benchmark(group="kernels")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.arguments.get('cols', case.arguments.get('count', ''))}")
def test_kernel(case, guard):
    guard(_program(case.name, case.arguments, case.steps), case.numpy, case.work)


@pytest.mark.benchmark(group="gemm")
@pytest.mark.parametrize("m, k, n", [(32, 784, 128), (128, 784, 512), (64, 64, 64), (128, 256, 10), (256, 256, 256), (512, 512, 512), (1024, 1024, 1024)])
@pytest.mark.parametrize("orientation", ["forward", "by_input", "by_weight"])
def test_gemm(m, k, n, orientation, guard):
    """The three products of a dense layer of k features and n units at batch m, packing included."""
    core = kernels.family("gemm")
    x, w, dy = _normal(m, k), _normal(k, n), _normal(m, n)
    if orientation == "forward":
        a, b, sizes, strides_a, strides_b, numpy = x, w, (m, n, k), (k, 1), (n, 1), lambda: x @ w
    elif orientation == "by_input":
        a, b, sizes, strides_a, strides_b, numpy = dy, w, (m, k, n), (n, 1), (1, n), lambda: dy @ w.T
    else:
        a, b, sizes, strides_a, strides_b, numpy = x, dy, (k, n, m), (1, k), (n, 1), lambda: x.T @ dy
    rows, cols, depth = sizes
    packed, c = np.empty(-(-cols // core.NR) * core.NR * depth, np.float32), np.empty((rows, cols), np.float32)
    ops = [
        Op("pack_b", out=packed, b=b, k=depth, n=cols, rs=strides_b[0], cs=strides_b[1]),
        Op("gemm", c=c, a=a, b=packed, packed=1, m=rows, n=cols, k=depth, rs_a=strides_a[0], cs_a=strides_a[1], ldc=cols),
    ]
    guard(nncore.Program(ops, nncore.new_state()).run, numpy, 2 * m * n * k)


@pytest.mark.benchmark(group="steps")
@pytest.mark.parametrize("kind", sorted(SAVES))
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_activation(kind, backward, guard):
    from nncore import reference_steps

    x, saved, out = _normal(ROWS, COLS), np.abs(_normal(ROWS, COLS)) % 1, np.empty((ROWS, COLS), np.float32)
    steps = [Step("d_" + kind, p=saved, ld=COLS, s0=0.2) if backward else Step(kind, s0=0.2)]
    arguments = dict(out=out, x=x, rows=ROWS, cols=COLS, ld_out=COLS, ld_x=COLS)
    guard(_program("chain", arguments, steps), lambda: reference_steps.apply(x, steps, None))


@pytest.mark.benchmark(group="steps")
def test_dropout(guard):
    from nncore import reference_steps

    x, out, state = _normal(ROWS, COLS), np.empty((ROWS, COLS), np.float32), nncore.new_state(seed=5)
    steps = [Step("dropout", p=state, width=COLS, s0=0.2, s1=1.25)]
    arguments = dict(out=out, x=x, rows=ROWS, cols=COLS, ld_out=COLS, ld_x=COLS)
    guard(_program("chain", arguments, steps), lambda: reference_steps.apply(x, steps, state))
