"""Random graphs over all of nn.ops: values against NumPy, gradients by central differences, the same values with every
pass off and at any number of threads, and values and gradients against JAX's where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optable import Graph, central_differences

import nncore
from nnpy import ops
from nnpy.compiler import SWITCHES

INDEX = np.array([1, 0, 1], np.int32)


def _squash(xp, x):
    return xp.tanh(x)


def _softmax(xp, x):
    e = xp.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _logsumexp(xp, x):
    return xp.log(xp.exp(x).sum(-1, keepdims=True))


# name: (in nn.ops, in NumPy), of one value; all of them bounded or growing slowly, so that differences stay precise.
ONE = {
    "tanh": (ops.tanh, _squash),
    "sigmoid": (ops.sigmoid, lambda xp, x: 1 / (1 + xp.exp(-x))),
    "exp": (lambda x: ops.exp(ops.tanh(x)), lambda xp, x: xp.exp(xp.tanh(x))),
    "log": (lambda x: ops.log(ops.square(x) + 1.0), lambda xp, x: xp.log(x**2 + 1)),
    "log1p": (lambda x: ops.log1p(ops.square(x)), lambda xp, x: xp.log1p(x**2)),
    "sqrt": (lambda x: ops.sqrt(x * x + 0.5), lambda xp, x: xp.sqrt(x * x + 0.5)),
    "rsqrt": (lambda x: ops.rsqrt(x * x + 0.5), lambda xp, x: 1 / xp.sqrt(x * x + 0.5)),
    "power": (lambda x: (x * x + 0.5) ** 1.3, lambda xp, x: (x * x + 0.5) ** 1.3),
    "scaled": (lambda x: 0.5 - x * 1.5, lambda xp, x: 0.5 - x * 1.5),
    "abs": (lambda x: ops.abs(x), lambda xp, x: xp.abs(x)),
    "clip": (lambda x: ops.clip(x, -1.1, 0.9), lambda xp, x: xp.clip(x, -1.1, 0.9)),
    "where": (lambda x: ops.where(x > 0.1, x, x * 0.3), lambda xp, x: xp.where(x > 0.1, x, x * 0.3)),
    "gelu": (lambda x: ops.activation(x, "silu"), lambda xp, x: x / (1 + xp.exp(-x))),
    "softmax": (ops.softmax, _softmax),
    "softmax 0": (
        lambda x: ops.softmax(x, axis=0), lambda xp, x: xp.moveaxis(_softmax(xp, xp.moveaxis(x, 0, -1)), -1, 0),
    ),
    "centred": (lambda x: x - ops.mean(x, 0, keepdims=True), lambda xp, x: x - x.mean(0, keepdims=True)),
    "by deviation": (
        lambda x: x * ops.rsqrt(ops.var(x, -1, keepdims=True) + 0.1),
        lambda xp, x: x / xp.sqrt(x.var(-1, keepdims=True) + 0.1),
    ),
    "plus the largest": (lambda x: x + ops.max(x, -1, keepdims=True), lambda xp, x: x + x.max(-1, keepdims=True)),
    "less all": (lambda x: x - ops.sum(ops.tanh(x)), lambda xp, x: x - xp.tanh(x).sum()),
    "logsumexp": (lambda x: x - ops.logsumexp(x, -1, keepdims=True), lambda xp, x: x - _logsumexp(xp, x)),
    "cumsum": (lambda x: ops.tanh(ops.cumsum(x, 0)), lambda xp, x: xp.tanh(xp.cumsum(x, 0))),
    "backwards": (lambda x: x[::-1, ::-1], lambda xp, x: x[::-1, ::-1]),
    "transposed": (lambda x: ops.transpose(ops.tanh(ops.transpose(x))), lambda xp, x: xp.tanh(x.T).T),
    "reshaped": (
        lambda x: ops.reshape(ops.transpose(ops.reshape(x, (3, 2, 2)), (1, 0, 2)), (3, 4)),
        lambda xp, x: xp.transpose(x.reshape(3, 2, 2), (1, 0, 2)).reshape(3, 4),
    ),
    "halves": (
        lambda x: ops.concatenate([ops.sigmoid(x[:, 2:]), x[:, :2]], -1),
        lambda xp, x: xp.concatenate([1 / (1 + xp.exp(-x[:, 2:])), x[:, :2]], -1),
    ),
    "taken": (lambda x: ops.take(x, INDEX, 0), lambda xp, x: x[INDEX]),
    "gram": (
        lambda x: ops.softmax(x @ ops.transpose(x)) @ x, lambda xp, x: _softmax(xp, x @ x.T) @ x,
    ),
    "batched": (
        lambda x: ops.reshape(ops.tanh(ops.reshape(x, (3, 2, 2)) @ ops.reshape(x, (3, 2, 2))), (3, 4)),
        lambda xp, x: xp.tanh(x.reshape(3, 2, 2) @ x.reshape(3, 2, 2)).reshape(3, 4),
    ),
}  # fmt: skip
TWO = {
    "add": (ops.add, lambda xp, x, y: x + y),
    "subtract": (ops.subtract, lambda xp, x, y: x - y),
    "multiply": (lambda x, y: x * ops.tanh(y), lambda xp, x, y: x * xp.tanh(y)),
    "divide": (lambda x, y: x / (y * y + 1.0), lambda xp, x, y: x / (y * y + 1)),
    "maximum": (ops.maximum, lambda xp, x, y: xp.maximum(x, y)),
    "minimum": (ops.minimum, lambda xp, x, y: xp.minimum(x, y)),
    "row": (lambda x, y: x + y[:1], lambda xp, x, y: x + y[:1]),
    "column": (lambda x, y: x * y[:, 1:2], lambda xp, x, y: x * y[:, 1:2]),
    "select": (lambda x, y: ops.where(x < y, ops.tanh(x), y), lambda xp, x, y: xp.where(x < y, xp.tanh(x), y)),
    "outer": (
        lambda x, y: ops.mean(ops.expand_dims(x, 1) * ops.expand_dims(y, 0), 1),
        lambda xp, x, y: (x[:, None] * y[None]).mean(1),
    ),
    "product": (lambda x, y: ops.tanh(x @ ops.transpose(y)) @ y, lambda xp, x, y: xp.tanh(x @ y.T) @ y),
    "by weight": (lambda x, y: x @ (ops.transpose(x) @ y) * 0.2, lambda xp, x, y: x @ (x.T @ y) * 0.2),
}


@st.composite
def recipes(draw):
    """What to make of which earlier values, and numbers to begin with."""
    steps = []
    for count in range(2, 2 + draw(st.integers(2, 9))):
        names = ONE if draw(st.booleans()) else TWO
        name = draw(st.sampled_from(sorted(names)))
        steps.append((name, [draw(st.integers(0, count - 1)) for _ in range(1 if names is ONE else 2)]))
    return steps, draw(st.integers(0, 2**31))


def made(steps, values, which, *lead):
    """The last value, joined with one in the middle."""
    values = list(values)
    for name, places in steps:
        values.append({**ONE, **TWO}[name][which](*lead, *(values[place] for place in places)))
    return values[-1] + values[len(values) // 2]


def arrays_of(seed):
    return list(np.random.default_rng(seed).uniform(-1.5, 1.5, (2, 3, 4)))


COMMON = dict(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, derandomize=True)


@given(recipes())
@settings(max_examples=80, **COMMON)
def test_values_and_gradients(recipe):
    steps, seed = recipe
    arrays = arrays_of(seed)
    graph = Graph(lambda *x: made(steps, x, 0), arrays, "float64")
    expected = made(steps, arrays, 1, np)
    np.testing.assert_allclose(graph.run(), expected, rtol=1e-9, atol=1e-9)
    for got, numeric in zip(graph.gradients(), central_differences(graph), strict=True):
        wrong = np.abs(got - numeric) > 2e-4 * (1 + np.abs(numeric))
        assert wrong.sum() <= 1, (got, numeric)  # a kink may lie between the two sides of a difference


@given(recipes(), st.sampled_from(SWITCHES))
@settings(max_examples=120, **COMMON)
def test_a_pass_changes_no_value(recipe, off):
    steps, seed = recipe
    results = []
    for without in ((), (off,), SWITCHES):
        graph = Graph(lambda *x: made(steps, x, 0), arrays_of(seed), "float64", without=without)
        results.append([graph.run(), *graph.gradients()])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@given(recipes())
@settings(max_examples=40, **COMMON)
def test_the_same_bits_at_any_thread_count(recipe):
    steps, seed = recipe
    arrays = [np.tile(a, (64, 1)).astype("f") for a in arrays_of(seed)]
    wide = {"reshaped": "tanh", "batched": "exp", "gram": "softmax", "outer": "add", "product": "row"}  # need 3 rows
    some = [(wide.get(name, name), places) for name, places in steps]
    results = []
    for threads in (1, 3):
        nncore.set_num_threads(threads)
        graph = Graph(lambda *x: made(some, x, 0), arrays)
        results.append([graph.run(), *graph.gradients()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@given(recipes())
@settings(max_examples=40, **COMMON)
def test_against_jax(recipe):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    steps, seed = recipe
    arrays = arrays_of(seed)
    graph = Graph(lambda *x: made(steps, x, 0), arrays, "float64")

    def loss(*x):
        return ((made(steps, x, 1, jax.numpy) - graph.target) ** 2).mean()

    np.testing.assert_allclose(
        graph.run(), made(steps, [jax.numpy.asarray(a) for a in arrays], 1, jax.numpy), 1e-9, 1e-9
    )
    for got, expected in zip(graph.gradients(), jax.grad(loss, (0, 1))(*arrays), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-9)
