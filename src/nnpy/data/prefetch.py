"""Batches that are made in a thread of their own while the step before runs."""

from __future__ import annotations

import copy
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from nnpy import seeds
from nnpy.checks import integer, shown
from nnpy.data.frames import is_frame
from nnpy.data.inputs import in_order

_END = object()


class _Ahead:
    def __init__(self, batches: Iterable[Any], ahead: int):
        self._batches, self._most = batches, ahead

    def __iter__(self) -> Iterator[Any]:
        made: queue.Queue = queue.Queue(self._most)
        stop = threading.Event()
        source = seeds.in_use()

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
                with seeds.using(source):
                    for item in self._batches:
                        if not put((_copied(item), None)):
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


    def in_order(self) -> Iterator[Any]:
        """The batches as evaluation and prediction take them."""
        return iter(_Ahead(in_order(self._batches), self._most))


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
    copied, so that ``batches`` may fill the same ones again.

    Raises TypeError for what is no iterable.
    """
    if not hasattr(batches, "__iter__"):
        raise TypeError(f"prefetch: expected an iterable of batches, got {shown(batches)}")
    ahead = integer("prefetch", "ahead", ahead, least=1)
    return (_SizedAhead if hasattr(batches, "__len__") else _Ahead)(batches, ahead)
