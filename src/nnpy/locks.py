"""Locks: what is protected from what, in the order in which they are taken. No user's code runs under a lock of runs.

1. ``making(layer)``: one thread builds a layer or model, makes its Engine, or compiles a Program of it. What a user
   defines (``build``, ``call``, losses, metrics, activations) runs under it: it may use other models, in this thread.
2. ``Guard``: one thread runs a Program on some parameters, or copies them: a run is a stretch of whole steps, of about
   50 ms, so that predictions, copies and files never see half an update. The models that share parameters share it.
3. nncore's own turns.

Both are reentrant, because a signal handler may come between any two lines and predict: ``Guard.turn`` says that it is
inside of another run, whose cells must be put back. In a forked child all of them are new.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

_PATIENCE = 0.02  # seconds that a run waits for another thread to take its turn: longer than a busy core lets it wait
_GLANCE = 2e-5

_number = itertools.count()
_all: WeakSet[Guard] = WeakSet()
_guards: WeakKeyDictionary[Any, Guard] = WeakKeyDictionary()  # of parameters
_making: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()  # type: ignore[valid-type]
_register = threading.RLock()  # of the two above


def making(layer: Any) -> Any:
    """The lock of building a layer or model and of compiling it."""
    found = _making.get(layer)
    if found is None:
        with _register:
            found = _making.setdefault(layer, threading.RLock())
    return found


class Guard:
    """The lock of the runs on some parameters.

    ``owner``: the thread that was inside last; its negative while it is inside.
    """

    def __init__(self) -> None:
        self.number = next(_number)
        self.owner = 0
        self.renew()
        _all.add(self)

    def renew(self) -> None:
        """In a forked child: the threads that held it, or waited for it, do not exist."""
        self.lock: Any = threading.RLock()
        self.waiting: dict[int, None] = {}  # threads
        self.turns = 0
        if abs(self.owner) != get_ident():
            self.owner = 0

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Inside, nobody else runs or copies. Gives whether this thread was inside already: a signal handler's run."""
        me = get_ident()
        self.waiting[me] = None
        try:
            with self.lock:
                self.waiting.pop(me, None)
                self.turns += 1
                nested = self.owner == -me
                self.owner = -me
                try:
                    yield nested
                finally:
                    if not nested:
                        self.owner = me
        finally:
            self.waiting.pop(me, None)

    def give_way(self) -> None:
        """Between two stretches of a long run: who waits comes first. A lock alone is as a rule taken again before
        another thread wakes up."""
        if not self.waiting:
            return
        turns, end = self.turns, time.perf_counter() + _PATIENCE
        while self.waiting and self.turns == turns and time.perf_counter() < end:
            time.sleep(_GLANCE)


class Guards:
    """Several as one: of a model that joins others, each trained on its own before. Taken in the order of their making.

    ``owner`` is never this thread when it is not inside, so that short ways are not taken."""

    def __init__(self, guards: Iterable[Guard]):
        self.guards = sorted(guards, key=lambda guard: guard.number)

    owner = 0

    @property
    def lock(self) -> Any:
        stack = ExitStack()
        for guard in self.guards:
            stack.enter_context(guard.lock)
        return stack

    @contextmanager
    def turn(self) -> Iterator[bool]:
        with ExitStack() as stack:
            nested = [stack.enter_context(guard.turn()) for guard in self.guards]
            yield any(nested)

    def give_way(self) -> None:
        for guard in self.guards:
            guard.give_way()


def guard_of(parameters: Iterable[Any]) -> Guard | Guards:
    """The guard of these parameters; those that have none yet get that of the others."""
    parameters = list(parameters)
    with _register:
        found = dict.fromkeys(guard for p in parameters if (guard := _guards.get(p)) is not None)
        first = next(iter(found), None) or Guard()
        for parameter in parameters:
            _guards.setdefault(parameter, first)
    return first if len(found) < 2 else Guards(found)


@contextmanager
def at_rest(parameters: Iterable[Any]) -> Iterator[None]:
    """Inside, no Program runs on the parameters, and nobody else copies them. On those without a guard none ran yet."""
    found = dict.fromkeys(guard for p in list(parameters) if (guard := _guards.get(p)) is not None)
    with Guards(found).turn():
        yield


def _after_fork() -> None:
    global _register
    _register = threading.RLock()
    _making.clear()
    for guard in list(_all):
        guard.renew()


os.register_at_fork(after_in_child=_after_fork)
