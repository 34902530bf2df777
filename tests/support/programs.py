"""Programs for tests: ops that need each other, and steps whose result depends on every one before."""

import itertools

import numpy as np

from nncore import Op, Program, new_state
from nncore.memory import RATES


def softmax(y, x, **options):
    return Op("softmax", y=y, x=x, rows=x.shape[0], cols=x.shape[1], **options)


def chained(rng, count=6, shape=(37, 21), **options):
    """A Program whose ops each need the one before, and its last result."""
    values = [rng.standard_normal(shape).astype(np.float32)] + [np.zeros(shape, np.float32) for _ in range(count)]
    ops = [softmax(y, x, **options) for x, y in itertools.pairwise(values)]
    return Program(ops, new_state()), values[-1]


def trainer(rng, count=40_000):
    """Adam on one buffer: a Program whose result depends on every step."""
    w, g = rng.standard_normal((2, count)).astype(np.float32)
    m, v = np.zeros((2, count), np.float32)
    state, columns = new_state(), np.tile([1e-2, 0, 0.1, 0.01, 1e-7], (1000, 1))
    state[RATES] = columns.ctypes.data
    op = Op("update", rule="adam", w=w, slot_0=m, slot_1=v, g=g, state=state, count=count)
    return Program([op], state), w, columns
