"""The op table: one row tests an operation: its values, gradients, thread invariance, ISAs and bad input."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

import nncore
from nnpy import ops
from nnpy.compiler import compile_step, differentiate, specialise
from nnpy.graph import Parameter, Tensor


@dataclass(frozen=True)
class Row:
    """``build`` makes the operation's output from tensors, ``reference`` the same from float64 arrays.

    ``samples``: lists of input shapes; ``low``, ``high``: the range of the inputs; ``apart``: keep inputs at least this
    far from 0 (kinks) and from each other; ``bad``: (input shapes, part of the error's text).
    """

    name: str
    build: Callable[..., Tensor]
    reference: Callable[..., np.ndarray]
    samples: tuple[tuple[tuple[int, ...], ...], ...]
    low: float = -3.0
    high: float = 3.0
    apart: float = 0.0
    rtol: float = 2e-5  # of float32 results
    atol: float = 2e-6
    bad: tuple[tuple[tuple[tuple[int, ...], ...], str], ...] = field(default=())

    def arrays(self, sample, seed: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        arrays = [rng.uniform(self.low, self.high, shape) for shape in sample]
        if self.apart:
            arrays = [np.where(np.abs(a) < self.apart, self.apart * 2, a) for a in arrays]
            if len(arrays) > 1 and arrays[0].shape == arrays[1].shape:
                close = np.abs(arrays[0] - arrays[1]) < self.apart
                arrays[1] = np.where(close, arrays[0] + 3 * self.apart, arrays[1])
        return arrays


class Graph:
    """An operation on parameters, with the loss mean((output - target)^2), compiled to a Program."""

    def __init__(self, build, arrays, dtype="float32", without=()):
        self.parameters = [Parameter(np.asarray(a, dtype), f"x{i}") for i, a in enumerate(arrays)]
        self.output = build(*self.parameters)
        self.target = np.random.default_rng(7).standard_normal(self.output.shape)
        target = Parameter(self.target.astype(dtype), "target", trainable=False)
        loss = ops.mean(ops.square(ops.subtract(self.output, target)))
        final, _ = specialise([self.output, loss], True)
        self.output, self.loss = final[self.output], final[loss]
        self.slopes = differentiate(self.loss, self.parameters)
        keep = {self.output, self.loss, *(self.slopes[p] for p in self.parameters if p in self.slopes)}
        batch = (self.output.shape or (1,))[0]  # so many rows may be shared out
        state = nncore.new_state(batch, seed=3)
        self.executable = compile_step([], batch, state, dtype, keep=list(keep), without=without)

    def run(self) -> np.ndarray:
        self.executable.state[nncore.memory.DRAW] = 0
        self.executable.program.run()
        return self.executable.value(self.output).copy()

    def objective(self) -> float:
        self.run()
        return float(self.executable.value(self.loss))

    def gradients(self) -> list[np.ndarray]:
        self.run()
        return [
            self.executable.value(self.slopes[p]).copy() if p in self.slopes else np.zeros_like(p.value)
            for p in self.parameters
        ]


def central_differences(graph: Graph, eps: float = 1e-6) -> list[np.ndarray]:
    """The gradient of the objective by every element of every parameter, from two runs each."""
    results = []
    for parameter in graph.parameters:
        gradient = np.zeros(parameter.value.shape)
        for position in np.ndindex(*parameter.value.shape):
            kept = parameter.value[position]
            parameter.value[position] = kept + eps
            above = graph.objective()
            parameter.value[position] = kept - eps
            below = graph.objective()
            parameter.value[position] = kept
            gradient[position] = (above - below) / (2 * eps)
        results.append(gradient)
    return results


_erf = np.vectorize(math.erf, otypes=[float])


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _softplus(x):
    return np.logaddexp(x, 0)


def _softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": lambda x: np.where(x > 0, x, 1.5 * np.expm1(x)),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * _sigmoid(x),
    "sigmoid": _sigmoid,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "tanh": np.tanh,
    "softplus": _softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "exponential": np.exp,
    "relu6": lambda x: np.clip(x, 0, 6),
    "celu": lambda x: np.where(x > 0, x, 1.5 * np.expm1(x / 1.5)),
    "hard_silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "hard_shrink": lambda x: np.where(np.abs(x) > 0.4, x, 0),
    "soft_shrink": lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.4, 0),
    "tanh_shrink": lambda x: x - np.tanh(x),
    "log_sigmoid": lambda x: -_softplus(-x),
    "squareplus": lambda x: (x + np.sqrt(x * x + 4)) / 2,
}
_PARAMETER = {"leaky_relu": 0.2, "elu": 1.5, "celu": 1.5, "hard_shrink": 0.4, "soft_shrink": 0.4, "squareplus": 4.0}


def batch_norm(x, gamma=None, beta=None, frozen=False):
    features, dtype = x.shape[-1], (x if gamma is None else gamma).value.dtype
    mean = Parameter(np.full(features, 0.3, dtype), "moving_mean", trainable=False)
    variance = Parameter(np.full(features, 1.7, dtype), "moving_variance", trainable=False)
    return ops.batch_norm(x, mean, variance, gamma, beta, epsilon=1e-3, frozen=lambda: frozen)


def _frozen_batch_norm(x, gamma=None, beta=None):
    return batch_norm(x, gamma, beta, frozen=True)


def _with_running_statistics(x, gamma, beta):
    return gamma * (x - 0.3) / np.sqrt(1.7 + 1e-3) + beta


def _cubed(x):
    return x * x * x + x


def _slope_of_cubed(x):
    return 3 * x * x + 1


def normalized(x, axes, gamma=1.0, beta=0.0):
    centred = x - x.mean(axes, keepdims=True)
    return gamma * centred / np.sqrt((centred**2).mean(axes, keepdims=True) + 1e-3) + beta


_ONE = (((2, 3),), ((1, 1),), ((5, 17),), ((3, 2, 7),), ((31, 33),))
_TWO = (((2, 3), (2, 3)), ((1, 1), (1, 1)), ((4, 19), (4, 19)), ((2, 3, 5), (2, 3, 5)))
_UNEQUAL = ((((2, 3), (3, 2)), "expected shapes that broadcast"),)

TABLE = [
    Row("add", ops.add, np.add, _TWO, bad=_UNEQUAL),
    Row("subtract", ops.subtract, np.subtract, _TWO, bad=_UNEQUAL),
    Row("multiply", ops.multiply, np.multiply, _TWO, bad=_UNEQUAL),
    Row("divide", ops.divide, np.divide, _TWO, low=0.5, bad=_UNEQUAL),
    Row("maximum", ops.maximum, np.maximum, _TWO, apart=1e-3, bad=_UNEQUAL),
    Row("minimum", ops.minimum, np.minimum, _TWO, apart=1e-3, bad=_UNEQUAL),
    Row("affine", lambda x: ops.affine(x, -1.5, 0.25), lambda x: -1.5 * x + 0.25, _ONE),
    Row("log", ops.log, np.log, _ONE, low=0.1),
    Row("sqrt", ops.sqrt, np.sqrt, _ONE, low=0.1),
    Row("square", ops.square, np.square, _ONE),
    Row("abs", ops.abs, np.abs, _ONE, apart=1e-3),
    Row("add to itself", lambda x: ops.add(x, x), lambda x: 2 * x, _ONE),
    Row("multiply by itself", lambda x: ops.multiply(x, x), np.square, _ONE),
    Row("softmax", ops.softmax, _softmax, (((2, 3),), ((1, 1),), ((5, 17),), ((2, 3, 33),))),
    Row("log_softmax", ops.log_softmax, lambda x: np.log(_softmax(x)), (((2, 3),), ((1, 1),), ((5, 17),))),
    Row(
        "matmul", ops.matmul, np.matmul,
        (((1, 1), (1, 1)), ((2, 3), (3, 4)), ((5, 17), (17, 33)), ((15, 7), (7, 31)), ((29, 2), (2, 1)),
         ((2, 3, 5), (5, 4))), rtol=1e-4, atol=1e-5,
        bad=((((2, 3), (4, 5)), "expected 4 features, got 3"), (((2, 3), (3, 4, 5)), "expected the last axis")),
    ),
    Row(
        "add a row", ops.add, np.add, (((2, 3), (3,)), ((1, 1), (1,)), ((5, 17), (17,))),
        bad=((((2, 3), (2,)), "broadcast"),),
    ),
    Row("flatten", ops.flatten, lambda x: x.reshape(len(x), -1), (((2, 3, 4),), ((2, 3),))),
    Row(
        "concatenate", lambda *x: ops.concatenate(x), lambda *x: np.concatenate(x, -1),
        (((2, 3), (2, 4)), ((3, 1), (3, 1), (3, 17)), ((2, 2, 3), (2, 2, 1))),
        bad=((((2, 3), (3, 3)), "differ in axis 1 alone"),),
    ),
    Row(
        "concatenate axis 1", lambda *x: ops.concatenate(x, 1), lambda *x: np.concatenate(x, 1),
        (((2, 2, 3), (2, 4, 3)),),
    ),
    Row(
        "batch_norm", batch_norm, lambda x, g, b: normalized(x, tuple(range(x.ndim - 1)), g, b),
        (((7, 3), (3,), (3,)), ((5, 17), (17,), (17,)), ((300, 2), (2,), (2,)), ((2, 3, 4), (4,), (4,))),
        rtol=1e-3, atol=1e-4, bad=((((2, 3), (2,), (3,)), r"expected x of shape \(3,\), got \(2,\)"),),
    ),
    Row("batch_norm alone", batch_norm, lambda x: normalized(x, 0), (((7, 3),), ((6, 18),)), rtol=1e-3, atol=1e-4),
    Row(
        "batch_norm between", lambda x, w, g, b: ops.activation(batch_norm(ops.matmul(x, w), g, b), "relu"),
        lambda x, w, g, b: np.maximum(normalized(x @ w, 0, g, b), 0), (((6, 5), (5, 9), (9,), (9,)),),
        rtol=1e-3, atol=1e-4,
    ),
    Row(
        "batch_norm frozen", _frozen_batch_norm, _with_running_statistics,
        (((7, 3), (3,), (3,)), ((5, 17), (17,), (17,)), ((2, 3, 4), (4,), (4,))), rtol=1e-4, atol=1e-5,
    ),
    Row(
        "batch_norm frozen behind a product", lambda x, w, g, b: _frozen_batch_norm(ops.matmul(x, w), g, b),
        lambda x, w, g, b: _with_running_statistics(x @ w, g, b), (((6, 5), (5, 9), (9,), (9,)),), rtol=1e-4, atol=1e-5,
    ),
    Row(
        "custom", lambda x: ops.custom(x, _cubed, _slope_of_cubed), lambda x: x**3 + x, _ONE, rtol=1e-4, atol=1e-5
    ),
    Row(
        "slice", lambda x, y: ops.concatenate([ops.activation(ops.concatenate([x, y]), "tanh"), y]),
        lambda x, y: np.concatenate([np.tanh(np.concatenate([x, y], -1)), y], -1),
        (((2, 3), (2, 4)), ((3, 1), (3, 17))),
    ),
    Row(
        "layer_norm", lambda x, g, b: ops.layer_norm(x, g, b), lambda x, g, b: normalized(x, (-1,), g, b),
        (((7, 3), (3,), (3,)), ((5, 17), (17,), (17,)), ((300, 2), (2,), (2,)), ((2, 3, 4), (4,), (4,))),
        rtol=1e-3, atol=1e-4,
    ),
    Row(
        "layer_norm alone", ops.layer_norm, lambda x: normalized(x, (-1,)), (((7, 3),), ((6, 18),)), rtol=1e-3,
        atol=1e-4,
    ),
    *(
        Row(
            kind, lambda x, kind=kind: ops.activation(x, kind, _PARAMETER.get(kind, 0.0)), reference,
            (*_ONE, ((2, 200),)), apart=0.0 if kind not in ("relu", "leaky_relu", "selu", "elu") else 1e-3,
            atol=1e-5, rtol=1e-4,
        )
        for kind, reference in ACTIVATIONS.items()
    ),
    Row(
        "dense: matmul, bias, gelu", lambda x, w, b: ops.activation(ops.add(ops.matmul(x, w), b), "gelu"),
        lambda x, w, b: ACTIVATIONS["gelu"](x @ w + b), (((5, 17), (17, 33), (33,)), ((2, 3), (3, 4), (4,))),
        rtol=1e-3, atol=1e-4,
    ),
    Row(
        "residual", lambda x, w, b: ops.add(x, ops.activation(ops.add(ops.matmul(x, w), b), "tanh")),
        lambda x, w, b: x + np.tanh(x @ w + b), (((4, 19), (19, 19), (19,)),), rtol=1e-3, atol=1e-4,
    ),
]  # fmt: skip
