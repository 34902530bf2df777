"""Threads that work for one who waits."""

from __future__ import annotations

import os
from _thread import start_new_thread
from collections.abc import Callable, Sequence
from queue import SimpleQueue

Task = Callable[[], None]


class Workers:
    """Threads that do tasks in the order in which they are given, up to ``most`` at once. Ctrl-C may come between any
    two lines of who waits: what all share are queues in C, which an exception leaves whole (a Condition may stay
    locked). RuntimeError where not even one thread can be made."""

    def __init__(self, most: int):
        self._given: SimpleQueue[tuple[int, Task, SimpleQueue] | None] = SimpleQueue()
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._most, self._begun, self._stopped = most, 0, False
        self._process = os.getpid()

    @property
    def here(self) -> bool:
        """Whether this is the process that has the threads: a forked one has not."""
        return self._process == os.getpid()

    def give(self, tasks: Sequence[Task]) -> Task:
        """Begin the tasks; gives what waits until they are done, and raises the error of the first that had one."""
        done: SimpleQueue[tuple[int, BaseException | None]] = SimpleQueue()
        for number, task in enumerate(tasks):
            if self._begun < self._most:
                self._begin()
            self._given.put((number, task, done))

        def wait() -> None:
            errors = dict(done.get() for _ in tasks)
            for number in range(len(tasks)):
                if (error := errors[number]) is not None:
                    raise error

        return wait

    def _begin(self) -> None:
        """One thread more, if the system has one. Thread.start would wait for it, in a Condition."""
        try:
            start_new_thread(self._work, ())
        except RuntimeError:
            if not self._begun:
                raise
            self._most = self._begun
        else:
            self._begun += 1

    def _work(self) -> None:
        while (item := self._given.get()) is not None:
            number, task, done = item
            try:
                if not self._stopped:
                    task()
                done.put((number, None))
            except BaseException as error:  # raised where it is waited for
                done.put((number, error))
        self._given.put(None)  # for the next thread
        self._ended.put(None)

    def stop(self) -> None:
        """Wait for what is under way; what was not begun is left."""
        if not self.here:
            return
        self._stopped = True
        self._given.put(None)
        for _ in range(self._begun):
            self._ended.get()
