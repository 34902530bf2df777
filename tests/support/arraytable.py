"""Rows of the op table for nn.ops on arrays: broadcasting, comparisons, reductions, shapes, indices, products."""

from __future__ import annotations

import numpy as np
from optable import Row

from nnpy import ops

_B = (((2, 3), (3,)), ((4, 1), (1, 5)), ((2, 3, 4), (3, 1)), ((3,), ()), ((2, 1, 3, 1), (4, 1, 5)), ((1, 17), (6, 17)))
_X3 = (((2, 3, 4),), ((1, 5, 1),), ((3, 2, 17),))
_X4 = (((2, 3, 4, 5),),)
_INDEX = np.array([[2, 0, 2], [1, 1, 0]], np.int32)


def _logsumexp(x, axis, keepdims=False):
    top = x.max(axis, keepdims=True)
    result = np.log(np.exp(x - top).sum(axis, keepdims=True)) + top
    return result if keepdims else result.squeeze(axis)


def _reductions():
    for name, reference in (
        ("sum", np.sum), ("mean", np.mean), ("max", np.max), ("min", np.min), ("prod", np.prod), ("var", np.var),
        ("std", np.std), ("logsumexp", _logsumexp),
    ):  # fmt: skip
        op = getattr(ops, name)
        loose = dict(rtol=2e-4, atol=1e-4, **(dict(low=-1.3, high=1.3) if name == "prod" else {}))
        for axis in (None, 0, -1, 1, (0, 2), (1, 2)):
            if name == "logsumexp" and axis is None:
                continue
            yield Row(
                f"{name} over {axis}", lambda x, op=op, axis=axis: op(x, axis=axis),
                lambda x, f=reference, axis=axis: np.asarray(f(x, axis=axis)),
                (((2, 3, 4),), ((3, 2, 17),)) if name == "std" else _X3, apart=1e-2, **loose,
            )  # fmt: skip
        yield Row(
            f"{name} keeps", lambda x, op=op: op(x, axis=(1, 3), keepdims=True),
            lambda x, f=reference: f(x, axis=(1, 3), keepdims=True), _X4, apart=1e-2, **loose,
        )  # fmt: skip


def _functions():
    for name, reference, low in (
        ("exp", np.exp, -3), ("expm1", np.expm1, -3), ("log1p", np.log1p, -0.9),
        ("rsqrt", lambda x: 1 / np.sqrt(x), 0.1),
        ("reciprocal", np.reciprocal, 0.3), ("negative", np.negative, -3), ("tanh", np.tanh, -3),
    ):  # fmt: skip
        yield Row(name, getattr(ops, name), reference, (((5, 17),), ((2, 3, 2),)), low=low, rtol=1e-4, atol=1e-5)
    for exponent in (0.0, 0.5, 1.0, 1.7, 2.0, 3.0, -1.0, -0.5):
        yield Row(
            f"power {exponent}",
            lambda x, e=exponent: x**e,
            lambda x, e=exponent: x**e,
            (((3, 5),),),
            low=0.2,
            rtol=1e-4,
        )
    yield Row("power", ops.power, np.power, (((3, 5), (5,)), ((2, 2), (2, 2))), low=0.2, rtol=1e-4)
    for name, reference in (("sign", np.sign), ("floor", np.floor), ("ceil", np.ceil), ("round", np.round)):
        yield Row(name, getattr(ops, name), reference, (((5, 17),),), apart=0.1)
    for name, reference in (
        ("equal", np.equal), ("not_equal", np.not_equal), ("less", np.less), ("less_equal", np.less_equal),
        ("greater", np.greater), ("greater_equal", np.greater_equal),
    ):  # fmt: skip
        op = getattr(ops, name)
        yield Row(
            name, lambda x, y, op=op: x * ops.cast(op(x, y), "float32"),
            lambda x, y, f=reference: x * f(x, y), _B, apart=0.05,
        )  # fmt: skip
    yield Row(
        "where", lambda x, y: ops.where(x > y, x, y * 2.0), lambda x, y: np.where(x > y, x, 2 * y), _B, apart=0.05
    )
    yield Row("clip", lambda x: ops.clip(x, -1.0, 1.5), lambda x: np.clip(x, -1, 1.5), (((5, 17),),))
    yield Row(
        "logical",
        lambda x, y: x * ops.cast(ops.logical_or(ops.logical_and(x > 0, y > 0), ops.logical_not(x > -1)), "real"),
        lambda x, y: x * (((x > 0) & (y > 0)) | ~(x > -1)), (((4, 5), (4, 5)),), apart=0.05,
    )  # fmt: skip


def _shapes():
    for name, op, reference, samples in (
        ("reshape", lambda x: ops.reshape(x, (3, -1)), lambda x: x.reshape(3, -1), (((2, 3, 4),),)),
        ("transpose", ops.transpose, np.transpose, (((2, 3),), ((2, 3, 4),), ((17, 31),))),
        ("transpose axes", lambda x: ops.transpose(x, (0, 2, 1, 3)), lambda x: x.transpose(0, 2, 1, 3), _X4),
        ("swapaxes", lambda x: ops.swapaxes(x, 1, 2), lambda x: x.swapaxes(1, 2), _X3),
        ("last", lambda x: x[:, -1], lambda x: x[:, -1], _X3),
        ("every second", lambda x: x[..., ::2], lambda x: x[..., ::2], _X3),
        ("backwards", lambda x: x[:, ::-1], lambda x: x[:, ::-1], _X3),
        ("slices", lambda x: x[1:2, 1:, None, ::-2], lambda x: x[1:2, 1:, None, ::-2], (((2, 3, 4),),)),
        ("a slice in a function", lambda x: ops.tanh(x[:, 1:]), lambda x: np.tanh(x[:, 1:]), (((4, 6),), ((2, 3, 4),))),
        ("flip", lambda x: ops.flip(x, -1), lambda x: np.flip(x, -1), _X3),
        ("expand_dims", lambda x: ops.expand_dims(x, 1), lambda x: np.expand_dims(x, 1), (((2, 3),),)),
        ("squeeze", lambda x: ops.squeeze(x, 1), lambda x: np.squeeze(x, 1), (((2, 1, 3),),)),
        ("broadcast_to", lambda x: ops.broadcast_to(x, (4, 2, 3)), lambda x: np.broadcast_to(x, (4, 2, 3)),
         (((2, 1),),)),
        ("repeat", lambda x: ops.repeat(x, 3, axis=1), lambda x: np.repeat(x, 3, 1), (((2, 3),), ((2, 3, 4),))),
        ("tile", lambda x: ops.tile(x, (2, 3)), lambda x: np.tile(x, (2, 3)), (((2, 3),), ((2, 3, 4),))),
        ("pad", lambda x: ops.pad(x, ((1, 0), (2, 3))), lambda x: np.pad(x, ((1, 0), (2, 3))), (((2, 3),),)),
        ("cumsum", lambda x: ops.cumsum(x, axis=1), lambda x: np.cumsum(x, 1), _X3),
        ("cumsum of all", ops.cumsum, np.cumsum, (((2, 3),),)),
        ("softmax axis 1", lambda x: ops.softmax(x, axis=1), lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True),
         _X3),
        ("norm", lambda x: ops.norm(x, axis=-1), lambda x: np.linalg.norm(x, axis=-1), (((4, 5),),)),
        ("take", lambda x: ops.take(x, _INDEX, axis=0), lambda x: x[_INDEX], (((3, 4),), ((3, 2, 5),), ((5,),))),
        ("take axis 1", lambda x: ops.take(x, _INDEX, axis=1), lambda x: np.take(x, _INDEX, 1), (((2, 3, 4),),)),
        ("by the largest", lambda x: x * ops.one_hot(ops.argmax(x, -1), 17),
         lambda x: x * (x == x.max(-1, keepdims=True)), (((5, 17),),)),
        ("stop_gradient", lambda x: x + ops.stop_gradient(x) * 0.0, lambda x: x, (((2, 3),),)),
    ):  # fmt: skip
        yield Row(name, op, reference, samples, rtol=1e-4, atol=1e-5)
    yield Row(
        "concatenate axis 0", lambda *x: ops.concatenate(x, 0), lambda *x: np.concatenate(x, 0), (((2, 3), (4, 3)),)
    )
    yield Row(
        "stack", lambda *x: ops.stack(x, 1), lambda *x: np.stack(x, 1), (((2, 3), (2, 3)), ((2, 3, 4), (2, 3, 4)))
    )
    yield Row(
        "split", lambda x: ops.multiply(*ops.split(x, 2, axis=-1)), lambda x: np.multiply(*np.split(x, 2, -1)),
        (((3, 8),), ((2, 3, 4),)),
    )  # fmt: skip


def _products():
    loose = dict(rtol=1e-3, atol=1e-4)
    yield Row(
        "batched matmul", ops.matmul, np.matmul,
        (((2, 3, 4), (2, 4, 5)), ((2, 3, 4, 5), (2, 3, 5, 2)), ((2, 1, 3, 4), (5, 4, 2)), ((1, 1, 1), (1, 1, 1))),
        **loose, bad=((((2, 3, 4), (2, 5, 4)), "expected the last axis of x1 to be as long as"),),
    )  # fmt: skip
    yield Row(
        "matmul of vectors",
        ops.matmul,
        lambda x, y: np.asarray(x @ y),
        (((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 3))),
        **loose,
    )
    yield Row(
        "matmul transposed",
        lambda x, y: x @ ops.transpose(y),
        lambda x, y: x @ y.T,
        (((5, 4), (6, 4)), ((40, 33), (17, 33))),
        **loose,
    )
    yield Row(
        "matmul of a slice",
        lambda x, y: x[:, 1:] @ y[::2],
        lambda x, y: x[:, 1:] @ y[::2],
        (((5, 4), (6, 7)),),
        **loose,
    )
    yield Row("matmul of a cube", lambda x, y: ops.transpose(x, (1, 0, 2)) @ y, lambda x, y: x.transpose(1, 0, 2) @ y,
              (((2, 3, 4), (4, 5)),), **loose)  # fmt: skip

    def attention(x, w):
        q, k, v = (
            ops.transpose(ops.reshape(part, (2, 5, 2, 3)), (0, 2, 1, 3)) for part in ops.split(x @ w, 3, axis=-1)
        )
        scores = ops.softmax(q @ ops.swapaxes(k, -1, -2) * 0.5)
        return ops.reshape(ops.transpose(scores @ v, (0, 2, 1, 3)), (2, 5, 6))

    def reference(x, w):
        q, k, v = (p.reshape(2, 5, 2, 3).transpose(0, 2, 1, 3) for p in np.split(x @ w, 3, -1))
        s = q @ k.swapaxes(-1, -2) * 0.5
        s = np.exp(s - s.max(-1, keepdims=True))
        return ((s / s.sum(-1, keepdims=True)) @ v).transpose(0, 2, 1, 3).reshape(2, 5, 6)

    yield Row("attention", attention, reference, (((2, 5, 4), (4, 18)),), low=-1, high=1, **loose)


def _chains():
    yield Row(
        "two branches", lambda x, y: ops.tanh(x) * ops.sigmoid(y) + x / (1.0 + ops.exp(y)) - ops.square(x - y),
        lambda x, y: np.tanh(x) / (1 + np.exp(-y)) + x / (1 + np.exp(y)) - (x - y) ** 2,
        (((5, 17), (17,)), ((3, 4), (3, 4))), rtol=1e-4, atol=1e-5,
    )  # fmt: skip
    yield Row(
        "normalized by hand",
        lambda x: (x - ops.mean(x, -1, keepdims=True)) * ops.rsqrt(ops.var(x, -1, keepdims=True) + 1e-3),
        lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3),
        (((5, 17),), ((2, 3, 4),)), rtol=1e-3, atol=1e-4,
    )  # fmt: skip
    for name, op in (("add", np.add), ("subtract", np.subtract), ("multiply", np.multiply), ("divide", np.divide),
                     ("maximum", np.maximum), ("minimum", np.minimum)):  # fmt: skip
        yield Row(f"{name} broadcasts", getattr(ops, name), op, _B, low=0.5, apart=0.01, rtol=1e-4)
    yield Row(
        "numbers on the left",
        lambda x: 1.0 / (2.0 - x) + 3.0**x,
        lambda x: 1 / (2 - x) + 3**x,
        (((3, 5),),),
        low=-1,
        high=1,
        rtol=1e-4,
    )


TABLE = [*_reductions(), *_functions(), *_shapes(), *_products(), *_chains()]
