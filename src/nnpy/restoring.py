"""Restoring: what is known while the model of a file is made.

Its weights will come from the file: nothing is drawn for them, and none is made of a shape that the file does not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod

import numpy as np

_TIES = 4  # times the numbers in the file: a layer that shares another one's weight makes its own first


class Restoring:
    """``shapes``: of the arrays in the file."""

    def __init__(self, shapes: Iterable[tuple[int, ...]]):
        shapes = list(shapes)
        self.shapes = set(shapes)
        self.left = _TIES * sum(map(prod, shapes))

    def weight(self, what: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """What stands for a weight until it is read. ValueError, naming it, if it cannot be in the file."""
        self.left -= prod(shape)
        if shape not in self.shapes or self.left < 0:
            raise ValueError(f"{what} of shape {shape} is not in the file")
        return np.zeros(shape, dtype)  # memory that nobody touches is none


_current: ContextVar[Restoring | None] = ContextVar("nnpy_restoring", default=None)
_name: ContextVar[tuple[type, str] | None] = ContextVar("nnpy_restoring_name", default=None)


def current() -> Restoring | None:
    """What is being restored by this thread, if anything."""
    return _current.get()


@contextmanager
def using(restoring: Restoring) -> Iterator[None]:
    """Weights that this thread makes inside are those of a file."""
    token = _current.set(restoring)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def naming(cls: type, name: str) -> Iterator[None]:
    """The first layer of a class that is made inside without a name had this one: layers in it are named after it."""
    token = _name.set((cls, name))
    try:
        yield
    finally:
        _name.reset(token)


def name_of(cls: type) -> str | None:
    """The name that ``naming`` gives to a layer which is being made."""
    waiting = _name.get()
    if waiting is None or waiting[0] is not cls:
        return None
    _name.set(None)
    return waiting[1]
