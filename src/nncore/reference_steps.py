"""Steps in plain NumPy: the rows of ``nncore.functions`` evaluated, and the few kinds that are none."""

from __future__ import annotations

import ctypes

import numpy as np

from nncore.expr import evaluate
from nncore.functions import FUNCTIONS
from nncore.memory import DRAW, LOCAL, RATES, SEED
from nncore.rules import RULES
from nncore.steps import Operand

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


def _words(counts: np.ndarray, places: np.ndarray, stream: int, state: np.ndarray) -> np.ndarray:
    """uint32 [n]: word ``places`` of the counters (``counts`` in two words, draw, stream), with the seed as key."""
    counter = np.empty((counts.size, 4), np.uint32)
    counter[:, 0], counter[:, 1] = counts & _LOW, counts >> np.uint64(32)
    counter[:, 2], counter[:, 3] = int(state[DRAW]) & 0xFFFFFFFF, stream
    words = philox(counter, (int(state[SEED]) & 0xFFFFFFFF, int(state[SEED]) >> 32 & 0xFFFFFFFF))
    return words[np.arange(counts.size), places.astype(int)]


def normal(count: int, stream: int, state: np.ndarray, dtype="float32") -> np.ndarray:
    """float64 [count]: numbers of the normal distribution, of which element e has word e % 4 of the counter e // 4: the
    highest 24 bits of it in float32."""
    from statistics import NormalDist

    group, place = np.divmod(np.arange(count, dtype=np.uint64), np.uint64(4))
    bits = 24 if np.dtype(dtype) == np.float32 else 32
    shares = ((_words(group, place, stream, state) >> np.uint32(32 - bits)).astype(np.float64) + 0.5) / 2**bits
    return np.array([NormalDist().inv_cdf(share) for share in shares])


def dropout_mask(rows: int, cols: int, width: int, stream: int, rate: float, state: np.ndarray) -> np.ndarray:
    """bool [rows, cols]: where dropout keeps the elements of a matrix of ``width`` columns.

    Element e = row * width + col has half-word e % 8 (low half of each word first) of the counter e // 8; it is kept
    where those 16 bits are at least round(rate * 2**16). For rates below 1/64 or above 63/64 they are the first of 48,
    the others being word e % 4 of the counter e // 4 + 2**63, and it is kept where these are at least
    round(rate * 2**48).
    """
    element = np.arange(rows, dtype=np.uint64)[:, None] * np.uint64(width) + np.arange(cols, dtype=np.uint64)
    group, place = np.divmod(element.ravel(), np.uint64(8))
    word = _words(group, place // np.uint64(2), stream, state)
    bits = (word >> (place % np.uint64(2) * np.uint64(16)).astype(np.uint32) & np.uint32(0xFFFF)).astype(np.uint64)
    rare = rate * 64 < 1 or (1 - rate) * 64 < 1
    first, rest = divmod(int(rate * 2**48 + 0.5), 1 << 32) if rare else (int(rate * 65536 + 0.5), 0)
    kept = bits >= first
    (tied,) = np.nonzero(bits == first)
    group, place = np.divmod(element.ravel()[tied], np.uint64(4))
    kept[tied] = _words(group | np.uint64(1 << 63), place, stream, state) >= rest
    return kept.reshape(rows, cols)


def broadcast(x: Operand, rows: int, cols: int) -> np.ndarray:
    """The operand's elements, float64 [rows, cols]; its memory is an array."""
    assert isinstance(x.memory, np.ndarray)
    row, col = np.arange(rows)[:, None] // x.div, np.arange(cols)
    place = (row % x.mod if x.mod else row) * x.ld + col * x.cs
    flat = np.lib.stride_tricks.as_strided(x.memory, (place.max(initial=-1) + 1,), (x.memory.itemsize,))
    return flat[place].astype(np.float64)


def columns_of(state: np.ndarray, width: int) -> np.ndarray:
    """This step's row of the table of columns, float64 [width], at the address state[RATES]."""
    table = (ctypes.c_double * ((int(state[LOCAL]) + 1) * width)).from_address(int(state[RATES]))
    return np.array(table).reshape(-1, width)[-1]


def apply(x: np.ndarray, steps, state: np.ndarray | None = None) -> np.ndarray:
    """``steps`` done in turn to a matrix x [rows, cols]; the result has x's dtype.

    ``store`` writes into its operand, and ``update`` changes its weights and slots by the gradient x, which it leaves
    as it is. ``state``: in place of those of the steps. Computed in float64, rounded once.
    """
    rows, cols = x.shape
    v = x.astype(np.float64)
    saved: dict[int, np.ndarray] = {}
    for step in steps:
        kind = step.kind
        if kind in FUNCTIONS:
            given = {name: getattr(step, name) for name in FUNCTIONS[kind].operands}
            values = {n: saved[o.temp] if o.temp is not None else broadcast(o, rows, cols) for n, o in given.items()}
            v = evaluate(FUNCTIONS[kind].value, v=v, s0=step.s0, s1=step.s1, **values)
        elif kind == "save":
            saved[step.p.temp] = v
        elif kind == "store":
            step.p.memory[...] = v
        elif kind == "norm_grad":
            scale, slope, shift = step.q.memory.astype(np.float64).reshape(3, cols)
            v = v * scale + (broadcast(step.p, rows, cols) * slope + shift)
        elif kind == "update":
            rule, arrays = RULES[step.rule], [step.p.memory, *step.slots]
            columns = columns_of(step.state if state is None else state, step.width or len(rule.columns))
            columns = columns[step.index : step.index + len(rule.columns)]
            for array, new in zip(arrays, rule.apply(columns, v, *arrays), strict=True):
                array[...] = new
        elif kind == "dropout":
            keep = dropout_mask(rows, cols, step.width, step.index, step.s0, step.state if state is None else state)
            v = np.where(keep, v * step.s1, 0)
    return v.astype(x.dtype)
