"""Seeds: one seed for everything random, and a stream of its own for each thing that draws.

A stream is a Philox generator keyed by (seed, what it is for, how many of these came before), so what one part draws
does not depend on how much another drew.
"""

from __future__ import annotations

import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from nnpy.checks import integer

_lock = threading.Lock()
_seed = 0
_drawn: Counter[str] = Counter()


def set_seed(seed: int) -> None:
    """Seed all that follows: initial weights, dropout, shuffling. ``seed``: 0 <= seed < 2**63; 0 before any call.

    The same seed and the same sequence of calls give the same numbers. Models compiled under one seed shuffle their
    samples and drop their units alike: for the members of an ensemble set a seed each. Raises TypeError or ValueError
    for anything but such a number.
    """
    global _seed
    seed = integer("set_seed", "seed", seed, least=0)
    if seed >= 2**63:
        raise ValueError(f"set_seed: expected seed to be below 2**63, got {seed}")
    with _lock:
        _seed = seed
        _drawn.clear()


def get_seed() -> int:
    """The seed in use."""
    return _seed


@contextmanager
def kept() -> Iterator[None]:
    """What is drawn inside is not counted: later numbers are the same as without."""
    with _lock:
        before = _drawn.copy()
    try:
        yield
    finally:
        with _lock:
            _drawn.clear()
            _drawn.update(before)


def stream(purpose: str, number: int | None = None, seed: int | None = None) -> np.random.Generator:
    """The generator of a purpose's stream ``number`` (None: the next one) under ``seed`` (None: the one in use)."""
    with _lock:
        if number is None:
            number = _drawn[purpose]
            _drawn[purpose] += 1
        key = [_seed if seed is None else seed, (zlib.crc32(purpose.encode()) << 32) | (number & 0xFFFFFFFF)]
    return np.random.Generator(np.random.Philox(key=np.array(key, np.uint64)))
