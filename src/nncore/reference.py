"""The kernels of ``kernels.signatures`` in plain NumPy: what each computes, and the oracle of tests and benchmarks.

A function has its kernel's name and argument names, takes the inputs and returns the outputs as new arrays, in the
signature's order, in the dtype of its inputs. Nothing here is written for speed.
"""

from __future__ import annotations

import numpy as np

from nncore import kernels, reference_steps
from nncore.memory import BATCH, INDICES, ROW
from nncore.rules import RULES

CHUNK = kernels.family("reduce").CHUNK  # elements of one partial sum of square_sums


# gather: the batch


def rows_of(state: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
    """The rows that the step described by ``state`` reads: the next ``state[BATCH]`` of ``order``, or of all rows.

    ``order`` is the int64 array whose address is ``state[INDICES]``.
    """
    assert (state[INDICES] != 0) == (order is not None)
    positions = np.arange(state[ROW], state[ROW] + state[BATCH])
    return positions if order is None else order[positions]


def gather(data, rows, dtype="float32"):
    """out[r, :] = data[rows[r], :] as ``dtype``; data of rank 2."""
    return data[rows].astype(dtype)


def gather_index(data, rows):
    """The same as int32: class labels."""
    return data[rows].astype(np.int32)


def gather_csr(starts, columns, values, cols, rows, dtype="float32"):
    """The rows of a sparse matrix of so many columns, row i of which is from starts[i] to before starts[i + 1]."""
    out = np.zeros((len(rows), cols), dtype)
    for r, row in enumerate(rows):
        mine = slice(starts[row], starts[row + 1])
        np.add.at(out[r], columns[mine], values[mine].astype(dtype))
    return out


def scatter(data, x, row):
    """data with x[rows, cols] written over its rows from ``row`` on, in data's dtype."""
    out = data.copy()
    out[row : row + len(x)] = x
    return out


def transpose(x):
    """x[rows, cols] as [cols, rows]."""
    return np.ascontiguousarray(x.T)


# gemm


def gemm(a, b, c=None, steps=(), state=None):
    """steps(a @ b), or steps(c + a @ b): a [m, k] and b [k, n] as they are, whatever their strides."""
    total = a @ b if c is None else c + a @ b
    return chain(total, steps, state)


def pack_b(b, width):
    """(panels, sums): b [k, n] cut into panels [ceil(n / width), k, width], zero padded; its column sums [n]."""
    k, n = b.shape
    panels = -(-n // width)
    padded = np.zeros((k, panels * width), b.dtype)
    padded[:, :n] = b
    return np.ascontiguousarray(padded.reshape(k, panels, width).transpose(1, 0, 2)), b.sum(0)


# chain


def chain(x, steps, state=None):
    """``steps`` (``nncore.Step``) done in turn to every element of x [rows, cols]; ``state``: of their dropout."""
    return reference_steps.apply(x, steps, state)


# softmax and the losses


def softmax(x):
    """exp(x) / sum(exp(x)) in each row."""
    if x.size == 0:
        return x.copy()
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_grad(dy, y):
    """dx from dy and softmax's result y."""
    return y * (dy - (dy * y).sum(-1, keepdims=True))


def log_softmax(x):
    """log(softmax(x)) in each row."""
    if x.size == 0:
        return x.copy()
    less = x - x.max(-1, keepdims=True)
    return less - np.log(np.exp(less).sum(-1, keepdims=True))


def log_softmax_grad(dy, y):
    """dx from dy and log_softmax's result y."""
    return dy - np.exp(y) * dy.sum(-1, keepdims=True)


def softmax_crossentropy(
    x, labels=None, targets=None, weights=None, scale=1.0, smoothing=0.0, upstream=None, ignore=None
):
    """(loss [rows], dx [rows, cols], correct [rows]) of logits x against int labels [rows] or targets [rows, cols]. dx
    is also multiplied by ``upstream`` [rows]; the label ``ignore`` gives zeros."""
    rows, cols = x.shape
    kept = np.ones(rows, x.dtype) if ignore is None else (labels != ignore).astype(x.dtype)
    t = np.eye(cols, dtype=x.dtype)[np.where(kept > 0, labels, 0)] if targets is None else targets
    correct = (x.argmax(-1) == t.argmax(-1)).astype(x.dtype)
    t = t * (1 - smoothing) + smoothing / cols
    w = np.ones(rows, x.dtype) if weights is None else weights
    y = log_softmax(x)
    loss = -w * np.where(t == 0, 0, t * np.maximum(y, np.finfo(x.dtype).min)).sum(-1)
    factor = w * kept * scale * (1 if upstream is None else upstream)
    dx = (np.exp(y) * t.sum(-1, keepdims=True) - t) * factor[:, None]
    return (loss * kept).astype(x.dtype), dx.astype(x.dtype), correct * kept


def ctc(x, labels, scale=1.0, upstream=None):
    """(loss [rows], dx [rows, times, cols]) of logits x against labels [rows, length], 0 being blank and no label: with
    the probabilities themselves, in float64. dx is 0 where the labels do not fit."""
    y = np.exp(log_softmax(x.astype(np.float64)))
    loss, dx = np.zeros(len(x)), np.zeros(x.shape)
    for b, row in enumerate(labels):
        row = row[: np.count_nonzero(row)]
        states = np.zeros(2 * len(row) + 1, int)
        states[1::2] = row
        skips = np.zeros(len(states))
        skips[3::2] = row[1:] != row[:-1]
        alpha = _ctc_paths(y[b], states, skips)
        back = np.append(skips, [0, 0])[:1:-1]  # a skip is between the same two states
        beta = _ctc_paths(y[b, ::-1], states[::-1], back)[::-1, ::-1]
        total = alpha[-1, -2:].sum() if len(alpha) else float(len(row) == 0)
        loss[b] = -np.log(total) if total else np.inf
        if total:
            share = alpha * beta / np.maximum(y[b][:, states], 1e-300) / total
            dx[b] = y[b] - share @ np.eye(x.shape[2])[states]
    return loss, dx * scale * (1 if upstream is None else upstream[:, None, None])


def _ctc_paths(y, states, skips):
    """[times, states]: the probability of the ways to be in a state after a step."""
    found = np.zeros((len(y), len(states)))
    before = np.eye(len(states))[0]
    for t, p in enumerate(y):
        one, two = (np.append(np.zeros(n), before)[: len(states)] for n in (1, 2))
        before = found[t] = (before + one + (skips * two if t else 0)) * p[states]
    return found


def binary_crossentropy(x, targets, weights=None, scale=1.0, smoothing=0.0, upstream=None):
    """(loss [rows], dx [rows, cols], correct [rows]) of logits x against targets in 0..1."""
    rows, cols = x.shape
    t = targets * (1 - smoothing) + smoothing / 2
    w = np.ones(rows, x.dtype) if weights is None else weights
    loss = w * (np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))).mean(-1)
    e = np.exp(-np.abs(x))
    factor = w * scale / cols * (1 if upstream is None else upstream)
    dx = (np.where(x >= 0, 1, e) / (1 + e) - t) * factor[:, None]
    correct = ((x > 0) == (targets > 0.5)).mean(-1)
    return loss.astype(x.dtype), dx.astype(x.dtype), correct.astype(x.dtype)


def mean_squared_error(x, targets, weights=None, scale=1.0, upstream=None):
    """(loss [rows], dx [rows, cols])."""
    rows, cols = x.shape
    w = np.ones(rows, x.dtype) if weights is None else weights
    dx = 2 * (x - targets) * (w * scale / cols * (1 if upstream is None else upstream))[:, None]
    return (w * ((x - targets) ** 2).mean(-1)).astype(x.dtype), dx.astype(x.dtype)


# normalization


def batch_norm(x, gamma, beta, moving_mean, moving_variance, epsilon, momentum):
    """(y, mean, rstd, moving_mean, moving_variance): x [rows, cols] normalized with each column's mean and biased
    variance."""
    mean, variance = x.mean(0), x.var(0)
    rstd = 1 / np.sqrt(variance + epsilon)
    y = (x - mean) * rstd * gamma + beta
    moved = (momentum * old + (1 - momentum) * new for old, new in ((moving_mean, mean), (moving_variance, variance)))
    return y, mean, rstd, *moved


def batch_norm_grad(dy, x, gamma, mean, rstd):
    """(dx, dgamma, dbeta)."""
    xhat = (x - mean) * rstd
    dgamma, dbeta = (dy * xhat).sum(0), dy.sum(0)
    return gamma * rstd * (dy - dbeta / len(x) - xhat * dgamma / len(x)), dgamma, dbeta


def batch_norm_fold(gamma, beta, moving_mean, moving_variance, epsilon):
    """(scale, shift): inference is x * scale + shift."""
    scale = gamma / np.sqrt(moving_variance + epsilon)
    return scale, beta - moving_mean * scale


def layer_norm(x, gamma, beta, epsilon):
    """(y, mean [rows], rstd [rows]): each row normalized with its own mean and biased variance."""
    mean = x.mean(1)
    rstd = 1 / np.sqrt(x.var(1) + epsilon)
    return (x - mean[:, None]) * rstd[:, None] * gamma + beta, mean, rstd


def layer_norm_grad(dy, x, gamma, mean, rstd):
    """dx."""
    xhat, g = (x - mean[:, None]) * rstd[:, None], dy * gamma
    return rstd[:, None] * (g - g.mean(1, keepdims=True) - xhat * (g * xhat).mean(1, keepdims=True))


def layer_norm_parameter_grad(dy, x, mean, rstd):
    """(dgamma, dbeta)."""
    return (dy * (x - mean[:, None]) * rstd[:, None]).sum(0), dy.sum(0)


# sums and norms


def accumulate(totals, values, weights=None, finite=None):
    """totals (float64 [2]) + (sum of values, sum of weights or number of rows); with ``finite`` (float64 [1]) also that
    one, plus 1 where the new sum is finite."""
    weight = len(values) if weights is None else weights.sum(dtype=np.float64)
    totals = totals + np.array([values.sum(dtype=np.float64), weight])
    return totals if finite is None else (totals, finite + np.isfinite(totals[0]))


def square_sums(x):
    """float64 sums of squares of the chunks of CHUNK elements of x [count]."""
    squares = x.astype(np.float64) ** 2
    return np.array([squares[i : i + CHUNK].sum() for i in range(0, len(x), CHUNK)])


def clip_scale(partials, clip):
    """(scale, norm): the factor that brings gradients of this norm down to ``clip`` (not positive: no clipping)."""
    norm = np.sqrt(partials.sum())
    return (clip / norm if clip > 0 and norm > clip else 1.0), norm


# optimizers


def update(rule, columns, g, w, *slots, scale=1.0):
    """[w, *slots] after one step of a rule of ``nncore.rules``, by name, with its ``columns`` of that step."""
    return RULES[rule].apply(columns, g * w.dtype.type(scale), w, *slots, dtype=w.dtype)
