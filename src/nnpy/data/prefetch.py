"""Batches that are made in a thread of their own while the step before runs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from nnpy.checks import integer, shown

_END = object()


class _Ahead:
    def __init__(self, batches: Iterable[Any], ahead: int):
        self._batches, self._most = batches, ahead

    def __iter__(self) -> Iterator[Any]:
        made: queue.Queue = queue.Queue(self._most)
        stop = threading.Event()

        def put(item: Any) -> bool:
            while not stop.is_set():
                try:
                    made.put(item, timeout=0.1)
                    return True
                except queue.Full:
                    continue
            return False

        def work() -> None:
            try:
                for item in self._batches:
                    if not put((item, None)):
                        return
                put((_END, None))
            except BaseException as error:  # raised where the batch would have been
                put((_END, error))

        thread = threading.Thread(target=work, name="nnpy-prefetch", daemon=True)
        thread.start()
        try:
            while True:
                item, error = made.get()
                if error is not None:
                    raise error
                if item is _END:
                    return
                yield item
        finally:
            stop.set()
            thread.join()


class _SizedAhead(_Ahead):
    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]


def prefetch(batches: Iterable[Any], ahead: int = 2) -> Iterable[Any]:
    """The same batches, made in another thread, up to ``ahead`` before they are asked for: preparing them and training
    go on at once. An error appears where its batch would have. It can be read again if ``batches`` can.

    Raises TypeError for what is no iterable.
    """
    if not hasattr(batches, "__iter__"):
        raise TypeError(f"prefetch: expected an iterable of batches, got {shown(batches)}")
    ahead = integer("prefetch", "ahead", ahead, least=1)
    return (_SizedAhead if hasattr(batches, "__len__") else _Ahead)(batches, ahead)
