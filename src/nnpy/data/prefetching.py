"""Batches that are made in a thread of their own while the step before runs."""

from __future__ import annotations

import copy
import os
from _thread import start_new_thread
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import Any

import numpy as np

from nnpy import seeds
from nnpy.checks import integer, shown
from nnpy.data.frames import is_frame
from nnpy.data.inputs import in_order, in_pass, is_sequence

_END = object()


class _Ahead:
    def __init__(self, batches: Iterable[Any], ahead: int):
        self._batches, self._most = batches, ahead

    def __iter__(self) -> Iterator[Any]:
        made = _Made(self._batches, self._most, seeds.in_use())
        try:
            made.begin()
            yield from made
        finally:
            made.stop()

    def in_order(self) -> Iterator[Any]:
        """The batches as evaluation and prediction take them."""
        return iter(_Ahead(in_order(self._batches), self._most))

    def in_pass(self, number: int, seed: int) -> Iterator[Any]:
        """The batches as ``fit`` takes them in that pass."""
        return iter(_Ahead(in_pass(self._batches, number, seed), self._most))


class _Made:
    """Batches that a thread has made, and their reader takes. Ctrl-C may come between any two lines of the reader: what
    the two threads share are queues in C, which an exception leaves whole (a Condition may stay locked)."""

    def __init__(self, batches: Iterable[Any], most: int, source: seeds.Source):
        self.batches, self.source = batches, source
        self.ready: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self.places: SimpleQueue[None] = SimpleQueue()  # one for each batch that may be ready
        self.ended: SimpleQueue[None] = SimpleQueue()
        self.process = os.getpid()
        self.begun = self.stopped = False
        self.asking = True  # the thread is in the source
        for _ in range(most):
            self.places.put(None)

    def begin(self) -> None:
        """Start the thread. Thread.start would wait for it, in a Condition."""
        self.begun = True
        start_new_thread(self.make, ())

    def make(self) -> None:
        try:
            with seeds.using(self.source):
                for item in self.batches:
                    if not self.put(_copied(item), None):
                        return
            self.put(_END, None)
        except BaseException as error:  # raised where the batch would have been
            self.put(_END, error)
        finally:
            self.ended.put(None)

    def put(self, item: Any, error: BaseException | None) -> bool:
        """Wait for a place; whether more are wanted."""
        self.asking = False
        self.places.get()
        if not self.stopped:
            self.asking = item is not _END
            self.ready.put((item, error))
        return not self.stopped

    def __iter__(self) -> Iterator[Any]:
        while True:
            if self.process != os.getpid():
                raise RuntimeError("prefetch: expected to be read where it began; a forked process has no such thread")
            item, error = self.ready.get()
            self.places.put(None)
            if error is not None:
                raise error
            if item is _END:
                return
            yield item

    def stop(self) -> None:
        """The reader wants no more. A thread that waits for a place ends now; one that waits for its source, a download
        perhaps, when that answers: nobody waits for it. In a forked process there is none."""
        if self.process != os.getpid() or not self.begun:
            return
        self.stopped = True
        self.places.put(None)
        if not self.asking:
            self.ended.get()


def _copied(item: Any) -> Any:
    """A batch whose arrays are its own: who makes batches may fill the same arrays again for the next."""
    if isinstance(item, tuple | list) and type(item) in (tuple, list):
        return type(item)(_copied(value) for value in item)
    if type(item) is dict:
        return {key: _copied(value) for key, value in item.items()}
    if isinstance(item, np.ndarray):
        return item.copy(order="K")
    changes = is_frame(item) or any(hasattr(item, name) for name in ("__array__", "__dlpack__", "__array_interface__"))
    return copy.deepcopy(item) if changes else item


class _SizedAhead(_Ahead):
    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]


def prefetch(batches: Iterable[Any], ahead: int = 2) -> Iterable[Any]:
    """The same batches, made in another thread, up to ``ahead`` before they are asked for: preparing them and training
    go on at once. An error appears where its batch would have. It can be read again if ``batches`` can. Arrays are
    copied, so that ``batches`` may fill the same ones again. Who stops reading, as after Ctrl-C, does not wait for a
    batch that is being made.

    Raises TypeError for what is no iterable.
    """
    if not hasattr(batches, "__iter__") and not is_sequence(batches):
        raise TypeError(f"prefetch: expected an iterable of batches, got {shown(batches)}")
    ahead = integer("prefetch", "ahead", ahead, least=1)
    return (_SizedAhead if hasattr(batches, "__len__") else _Ahead)(batches, ahead)
