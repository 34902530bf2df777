"""Seeds: one seed for everything random, and a stream of its own for each thing that draws.

A stream is a Philox generator keyed by (seed, what it is for, how many of these came before), so what one part draws
does not depend on how much another drew. The counting is that of a ``Source``: the process has one, and so has each
thread that has set a seed, and each model that was given one, for what is drawn while it is built.
"""

from __future__ import annotations

import itertools
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import numpy as np

from nnpy.checks import integer


class Source:
    """A seed, and how many streams of each purpose it has given."""

    def __init__(self, seed: int):
        self.reset(seed)

    # Without a lock, which a forked child would find taken, and a signal handler wait for: each line is one act.

    def reset(self, seed: int) -> None:
        self.seed = seed
        self._numbers: dict[str, Iterator[int]] = {}

    def next(self, purpose: str) -> int:
        """The number of a purpose's next stream."""
        return next(self._numbers.get(purpose) or self._numbers.setdefault(purpose, itertools.count()))


_global = Source(0)  # of the main thread, and of those that have set no seed of their own
_threads = threading.local()
_current: ContextVar[Source | None] = ContextVar("nnpy_seed", default=None)


def checked(owner: str, seed: int) -> int:
    """``seed`` as an int, 0 <= seed < 2**63. TypeError or ValueError, naming ``owner``, otherwise."""
    seed = integer(owner, "seed", seed, least=0)
    if seed >= 2**63:
        raise ValueError(f"{owner}: expected seed to be below 2**63, got {seed}")
    return seed


def set_seed(seed: int) -> None:
    """Seed all that follows: initial weights, dropout, shuffling. ``seed``: 0 <= seed < 2**63; 0 before any call.

    The same seed and the same sequence of calls give the same numbers. In another thread than the main one it seeds
    what follows there, and in no other thread: the fits of a pool do not mix. Models compiled under one seed shuffle
    their samples and drop their units alike: give the members of an ensemble a seed each, ``Sequential(..., seed=)``.
    Raises TypeError or ValueError for anything but such a number.
    """
    seed = checked("set_seed", seed)
    if threading.current_thread() is threading.main_thread():
        _global.reset(seed)
    else:
        _threads.source = Source(seed)


def _of_thread() -> Source:
    return getattr(_threads, "source", _global)


def get_seed() -> int:
    """The seed in use."""
    return _of_thread().seed


def in_use() -> Source:
    """Where this thread draws from: for another one that works for it, see ``using``."""
    return _current.get() or _of_thread()


@contextmanager
def using(source: Source | None) -> Iterator[None]:
    """What this thread draws inside comes from ``source``; None: from where it came before."""
    token = _current.set(source) if source is not None else None
    try:
        yield
    finally:
        if token is not None:
            _current.reset(token)


@contextmanager
def kept() -> Iterator[None]:
    """What is drawn inside is not counted: later numbers are the same as without."""
    with using(Source(get_seed())):
        yield


def stream(purpose: str, number: int | None = None, seed: int | None = None) -> np.random.Generator:
    """The generator of a purpose's stream ``number`` (None: the next one) under ``seed`` (None: the one in use)."""
    source = in_use()
    if number is None:
        number = source.next(purpose)
    key = [source.seed if seed is None else seed, (zlib.crc32(purpose.encode()) << 32) | (number & 0xFFFFFFFF)]
    return np.random.Generator(np.random.Philox(_key_class()(key)))


@lru_cache(1)
def _key_class() -> Any:
    """What gives a Philox its key: ``Philox(key=)`` asks the system for entropy first, three times the work. A class
    made here, as NumPy imports numpy.random when it is used."""

    class Key(np.random.bit_generator.ISeedSequence):
        def __init__(self, key: list[int]):
            self.key = np.array(key, np.uint64)

        def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
            return self.key

    return Key
