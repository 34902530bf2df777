"""Ctrl-C that Python would lose: one that comes while a weak reference's callback or a ``__del__`` runs.

A signal handler's exception is raised wherever the main thread is. There Python prints it and goes on
(``sys.unraisablehook``); inside ``kept`` it is noted, and raised by the next ``check``.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
_lost: list[BaseException] = []


@contextmanager
def kept() -> Iterator[None]:
    """No KeyboardInterrupt is lost inside. Signals come to the main thread alone: in others it does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = sys.unraisablehook

    def note(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            _lost.append(unraisable.exc_value)
        else:
            before(unraisable)

    sys.unraisablehook = note
    try:
        yield
        check()
    finally:
        sys.unraisablehook = before
        _lost.clear()  # another error has come of it, or the same


def keeping(function: F) -> F:
    """A function in which no KeyboardInterrupt is lost."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        with kept():
            return function(*arguments, **options)

    return call  # type: ignore[return-value]


def check() -> None:
    """Raises a KeyboardInterrupt that was lost."""
    if _lost and threading.current_thread() is threading.main_thread():
        raise _lost.pop()
