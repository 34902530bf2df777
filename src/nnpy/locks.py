"""Locks: what is protected from what, in the order in which they are taken. No user's code runs under a lock.

1. ``Guard``: one thread runs a Program on some parameters, or copies them: a run is a stretch of whole steps, of about
   50 ms, so that predictions, copies and files never see half an update. The models that share parameters share it.
2. nncore's own turns.
3. ``publishing()``: for the few lines in which what a thread has made is put where others find it. Graphs, Engines and
   Programs are made under no lock: two threads may make the same, and the first to be ready is what both use.

What must not be made twice are weights: a ``Turn`` is one thread's to build a layer, and no lock. Users' ``build``, and
the ``call`` of a model that is traced for the first time, run in it; they may use other models, and wait for other
threads. Two builds that need each other are an error, not a wait without end.

All are reentrant, because a signal handler may come between any two lines and predict: ``Guard.turn`` says that it is
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
_register = threading.RLock()  # of these, and of all that is published
_turns: dict[Any, Turn] = {}  # of layers that are being built
_waits: dict[int, Any] = {}  # threads, and the layer that each waits for


def publishing() -> Any:
    """The lock under which what is made becomes what others find. No code but ours, and nothing long, runs inside."""
    return _register


class Turn:
    """``with Turn(layer) as inside``: no other thread builds the layer or model meanwhile; who comes later has to look
    whether it is built now. ``inside``: whether this thread had the turn already.

    RuntimeError where this would wait for a thread that waits, perhaps through others, for this one."""

    __slots__ = ("layer", "over", "thread")

    def __init__(self, layer: Any):
        self.layer, self.thread = layer, get_ident()
        self.over = threading.Lock()  # held until then

    def __enter__(self) -> bool:
        self.over.acquire()
        try:
            while (turn := _turns.setdefault(self.layer, self)).thread != self.thread:
                _wait(self.layer, turn, self.thread)
        except BaseException:
            self.__exit__()
            raise
        return turn is not self

    def __exit__(self, *raised: Any) -> None:
        if _turns.get(self.layer) is self:
            del _turns[self.layer]
            self.over.release()


def _wait(layer: Any, turn: Turn, me: int) -> None:
    before = _waits.get(me)  # of what a signal handler has come upon
    try:
        with _register:
            blocked = layer
            while (owner := _turns.get(blocked)) is not None and owner.thread != me:
                blocked = _waits.get(owner.thread)
            if owner is None:
                _waits[me] = layer
        if owner is not None:
            raise RuntimeError(
                f"{layer}: is being built by another thread, which waits for {blocked}, being built by this one: what "
                "their build and call use of each other has to be built before"
            )
        with turn.over:
            pass
    finally:
        _waits.pop(me, None)
        if before is not None:
            _waits[me] = before


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
    _waits.clear()
    for layer, turn in list(_turns.items()):
        if turn.thread != get_ident():
            del _turns[layer]
            layer._unbuild()
    for guard in list(_all):
        guard.renew()


os.register_at_fork(after_in_child=_after_fork)
