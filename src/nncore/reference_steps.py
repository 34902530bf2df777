"""Steps in plain NumPy: what each kind of ``nncore.steps`` computes, and the oracle of its tests."""

from math import erf

import numpy as np

from nncore.memory import DRAW, SEED

_erf = np.vectorize(erf, otypes=[np.float64])
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_M, _W = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10 of ``counter`` uint32 [n, 4] and two key words: uint32 [n, 4] (Salmon and others, SC 2011)."""
    a, b, c, d = (counter[:, i].astype(np.uint64) for i in range(4))
    for turn in range(10):
        k0, k1 = (np.uint64((key[i] + turn * _W[i]) & 0xFFFFFFFF) for i in range(2))
        x, y = a * np.uint64(_M[0]), c * np.uint64(_M[1])
        a, b, c, d = (y >> np.uint64(32)) ^ b ^ k0, y & _LOW, (x >> np.uint64(32)) ^ d ^ k1, x & _LOW
    return np.stack([a, b, c, d], axis=1).astype(np.uint32)


def dropout_mask(rows: int, cols: int, width: int, stream: int, rate: float, state: np.ndarray) -> np.ndarray:
    """bool [rows, cols]: where dropout keeps the elements of a matrix of ``width`` columns.

    Element e = row * width + col has half-word e % 8 (low half of each word first) of the counter (e // 8 in two
    words, step, stream), with the seed as key; it is kept where those 16 bits are at least round(rate * 65536).
    """
    element = np.arange(rows, dtype=np.uint64)[:, None] * np.uint64(width) + np.arange(cols, dtype=np.uint64)
    group, place = np.divmod(element.ravel(), np.uint64(8))
    counter = np.empty((group.size, 4), np.uint32)
    counter[:, 0], counter[:, 1] = group & _LOW, group >> np.uint64(32)
    counter[:, 2], counter[:, 3] = int(state[DRAW]) & 0xFFFFFFFF, stream
    words = philox(counter, (int(state[SEED]) & 0xFFFFFFFF, int(state[SEED]) >> 32 & 0xFFFFFFFF))
    word = words[np.arange(group.size), (place // np.uint64(2)).astype(int)]
    bits = word >> (place % np.uint64(2) * np.uint64(16)).astype(np.uint32) & np.uint32(0xFFFF)
    return (bits >= int(rate * 65536 + 0.5)).reshape(rows, cols)


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def _normal(x):
    return 0.5 * (1 + _erf(x / np.sqrt(2)))


def _gelu_u(x):
    return np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)


def _softplus(x):
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def _d_gelu_tanh(x):
    t = np.tanh(_gelu_u(x))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x * x)


def _d_mish(x):
    t = np.tanh(_softplus(x))
    return t + x * (1 - t * t) * _sigmoid(x)


# f(x, s0); the derivatives of what is not smooth at 0 are taken from below.
FUNCTIONS = {
    "square": lambda x, s: x * x,
    "sqrt": lambda x, s: np.sqrt(x),
    "reciprocal": lambda x, s: 1 / x,
    "abs": lambda x, s: np.abs(x),
    "sign": lambda x, s: np.sign(x),
    "log": lambda x, s: np.log(x),
    "relu": lambda x, s: np.maximum(x, 0),
    "leaky_relu": lambda x, s: np.where(x < 0, s * x, x),
    "elu": lambda x, s: np.where(x > 0, x, s * np.expm1(np.minimum(x, 0))),
    "selu": lambda x, s: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
    "gelu": lambda x, s: x * _normal(x),
    "gelu_tanh": lambda x, s: 0.5 * x * (1 + np.tanh(_gelu_u(x))),
    "silu": lambda x, s: x * _sigmoid(x),
    "sigmoid": lambda x, s: _sigmoid(x),
    "hard_sigmoid": lambda x, s: np.clip(x / 6 + 0.5, 0, 1),
    "tanh": lambda x, s: np.tanh(x),
    "softplus": lambda x, s: _softplus(x),
    "softsign": lambda x, s: x / (1 + np.abs(x)),
    "mish": lambda x, s: x * np.tanh(_softplus(x)),
    "exponential": lambda x, s: np.exp(x),
}
# f'(x) from the result y or the argument x, as nncore.steps.SAVES says, and s0.
DERIVATIVES = {
    "relu": lambda y, s: np.where(y > 0, 1.0, 0.0),
    "leaky_relu": lambda y, s: np.where(y > 0, 1.0, s),
    "elu": lambda y, s: np.where(y > 0, 1.0, y + s),
    "selu": lambda y, s: np.where(y > 0, SELU_SCALE, y + SELU_SCALE * SELU_ALPHA),
    "gelu": lambda x, s: _normal(x) + x * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi),
    "gelu_tanh": lambda x, s: _d_gelu_tanh(x),
    "silu": lambda x, s: _sigmoid(x) * (1 + x * _sigmoid(-x)),
    "sigmoid": lambda y, s: y * (1 - y),
    "hard_sigmoid": lambda y, s: np.where((y > 0) & (y < 1), 1 / 6, 0.0),
    "tanh": lambda y, s: (1 - y) * (1 + y),
    "softplus": lambda x, s: _sigmoid(x),
    "softsign": lambda y, s: (1 - np.abs(y)) ** 2,
    "mish": lambda x, s: _d_mish(x),
    "exponential": lambda y, s: y,
}
BINARY = {
    "add_row": np.add,
    "mul_row": np.multiply,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def _sgd(g, w, v, lr, decay, momentum, nesterov):
    """w, and v if there is momentum, in place, after one step by the gradient g; the numbers are those of a rule."""
    if v is None:
        w[...] = w.astype(np.float64) * (1 - decay) - lr * g
        return
    moved = momentum * v.astype(np.float64) - lr * g
    v[...] = moved
    w[...] = w.astype(np.float64) * (1 - decay) + (momentum * moved - lr * g if nesterov else moved)


def _adam(g, w, m, v, decay, alpha, new_1, new_2, epsilon):
    """w, m and v in place."""
    m1, v1 = (a.astype(np.float64) for a in (m, v))
    m1, v1 = m1 + (g - m1) * new_1, v1 + (g * g - v1) * new_2
    m[...], v[...] = m1, v1
    w[...] = w.astype(np.float64) * (1 - decay) - m1 * alpha / (np.sqrt(v1) + epsilon)


def apply(x: np.ndarray, steps, state: np.ndarray | None = None) -> np.ndarray:
    """``steps`` done in turn to a matrix x [rows, cols]; the result has x's dtype.

    Operands are arrays of x's shape ([cols] for add_row, mul_row and scale_shift_row, [3, cols] for q of norm_grad);
    ``store`` writes into its own, and ``sgd`` and
    ``adam`` update theirs by the gradient x, which they leave as it is. Dropout takes its seed and step from ``state``,
    or from the state array that is the step's operand. Computed in float64, rounded once.
    """
    rows, cols = x.shape
    v = x.astype(np.float64)
    for step in steps:
        kind, p = step.kind, step.p
        if kind in BINARY:
            v = BINARY[kind](v, p.astype(np.float64))
        elif kind == "scale_shift_row":
            v = v * p.astype(np.float64) + step.q.astype(np.float64)
        elif kind == "norm_grad":
            scale, slope, shift = step.q.astype(np.float64).reshape(3, cols)
            v = v * scale + (p.astype(np.float64) * slope + shift)
        elif kind == "scale":
            v = v * step.s0
        elif kind == "shift":
            v = v + step.s0
        elif kind == "store":
            p[...] = v
        elif kind == "sgd":
            _sgd(v, step.p, step.q, *step.rule[:4].astype(np.float64))
        elif kind == "adam":
            _, decay, _, _, *others = step.rule.astype(np.float64)
            _adam(v, step.p, step.q, step.r, decay, *others)
        elif kind == "dropout":
            keep = dropout_mask(rows, cols, step.width, step.index, step.s0, p if state is None else state)
            v = np.where(keep, v * step.s1, 0)
        elif kind == "max_mask":
            v = np.where(p >= step.q, v, 0)
        elif kind.startswith("d_"):
            v = v * DERIVATIVES[kind[2:]](p.astype(np.float64), step.s0)
        else:
            v = FUNCTIONS[kind](v, step.s0)
    return v.astype(x.dtype)
