"""Copies, reductions, rows of tables and batches of products in plain NumPy: see ``nncore.reference``."""

from __future__ import annotations

import numpy as np

from nncore import reference_steps

# strided


def copy(out, x, accumulate=False):
    """out with x (broadcast to its shape) in its place, or added to it."""
    return out + x if accumulate else np.array(np.broadcast_to(x, out.shape))


def real_to_int(x):
    """x as int32: truncated, beyond its range the nearest, 0 for NaN."""
    limits = np.iinfo(np.int32)
    return np.clip(np.nan_to_num(x.astype(np.float64), nan=0.0), limits.min, limits.max).astype(np.int32)


def int_to_real(x, dtype):
    """x as reals."""
    return x.astype(dtype)


# axes


def reduce(x, kind, scale=1.0):
    """x[outer, mid, inner] reduced over mid; sums are multiplied by ``scale``. Of nothing: 0, -inf, inf, 1, -inf."""
    if kind == "logsumexp":
        top = x.max(1, initial=-np.inf)
        shift = np.where(np.isfinite(top), top, 0)
        with np.errstate(divide="ignore", over="ignore"):
            return np.log(np.exp(x - shift[:, None]).sum(1)) + shift
    if kind in ("max", "min"):
        return x.max(1, initial=-np.inf) if kind == "max" else x.min(1, initial=np.inf)
    return x.prod(1) if kind == "prod" else x.sum(1) * scale


def argmax(x):
    """int32 [outer, inner]: the first index of the largest of x[outer, mid, inner] along mid; NaN is largest."""
    return x.argmax(1).astype(np.int32) if x.shape[1] else np.zeros((x.shape[0], x.shape[2]), np.int32)


def argmin(x):
    """The same of the smallest; NaN is smallest."""
    return x.argmin(1).astype(np.int32) if x.shape[1] else np.zeros((x.shape[0], x.shape[2]), np.int32)


def cumsum(x, reverse=False, exclusive=False):
    """Running sums of x[outer, mid, inner] along mid."""
    y = x[:, ::-1] if reverse else x
    total = np.cumsum(y, 1, dtype=np.float64)
    total = total - y if exclusive else total
    return (total[:, ::-1] if reverse else total).astype(x.dtype)


# products


def gemm_batched(a, b, c=None, steps=(), state=None):
    """steps(a @ b), or steps(c + a @ b), for matrices a [..., m, k] and b [..., k, n]: to the steps, the rows of one
    matrix."""
    total = a @ b if c is None else c + a @ b
    return reference_steps.apply(total.reshape(-1, total.shape[-1]), steps, state).reshape(total.shape)


# take


def take(table, index):
    """table[index, :], rows of zeros where the index is none of a row."""
    known = (index >= 0) & (index < len(table))
    return np.where(known[:, None], table[np.where(known, index, 0)], 0).astype(table.dtype)


def take_grad(dy, index, rows):
    """[rows, cols]: each row the sum of dy[i] where index[i] is it."""
    known = (index >= 0) & (index < rows)
    out = np.zeros((rows, dy.shape[1]), dy.dtype)
    np.add.at(out, index[known], dy[known])
    return out


def take_clear(dtable, index):
    """dtable with zeros in the rows of ``index``."""
    out = dtable.copy()
    out[index[(index >= 0) & (index < len(dtable))]] = 0
    return out


def take_along(x, index):
    """x[i, index[i]], 0 where the index is none of a column."""
    known = (index >= 0) & (index < x.shape[1])
    return np.where(known, x[np.arange(len(x)), np.where(known, index, 0)], 0).astype(x.dtype)


def take_along_grad(dy, index, cols):
    """[rows, cols]: dy[i] at index[i], else 0."""
    return dy[:, None] * one_hot(index, cols, dy.dtype)


def one_hot(index, cols, dtype):
    """[rows, cols]: 1 at index[i], else 0."""
    return (index[:, None] == np.arange(cols)).astype(dtype)


def confusion(counts, labels, predictions, weights=None, ignore=None):
    """counts (float64 [classes, classes]) + weight at (label, prediction) of each row that is not ``ignore``."""
    out = counts.copy()
    kept = np.ones(len(labels), bool) if ignore is None else labels != ignore
    for number in (labels, predictions):
        kept = kept & (number >= 0) & (number < len(counts))
    np.add.at(out, (labels[kept], predictions[kept]), 1.0 if weights is None else weights[kept].astype(np.float64))
    return out
