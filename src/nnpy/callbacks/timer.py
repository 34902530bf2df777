"""Timer: a training that ends in time."""

from __future__ import annotations

import time
from typing import Any

from nnpy.callbacks.base import Callback, Logs, say
from nnpy.checks import real


class Timer(Callback):
    """Stop after ``max_time`` seconds of ``fit``, looked at about every 50 ms: the epoch under way ends there, with its
    validation. A run that goes on (``BackupAndRestore``) has what is left of them. ``seconds``: how long it has been.
    Raises TypeError or ValueError unless ``max_time`` is a number above 0.
    """

    def __init__(self, max_time: float, verbose: int = 0):
        super().__init__()
        self.max_time, self.verbose = real("Timer", "max_time", max_time, above=0), verbose
        self._began: float | None = None
        self._before = 0.0

    @property
    def seconds(self) -> float:
        return self._before + (0.0 if self._began is None else time.perf_counter() - self._began)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._began, self._before = time.perf_counter(), 0.0

    def on_progress(self, batch: int, logs: Logs | None = None) -> None:
        if self.seconds >= self.max_time and not self.model.stop_training:
            self.model.stop_training = True
            if self.verbose:
                say(f"Timer: {self.seconds:.1f} s are over; training stops")

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._before, self._began = self.seconds, None

    def get_state(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def set_state(self, state: dict[str, Any]) -> None:
        self._before = state["seconds"]
