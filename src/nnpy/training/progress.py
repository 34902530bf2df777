"""Progress: what a fit shows while it runs; a line for each epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from nnpy.callbacks.base import Callback, Logs, cannot_show, say
from nnpy.training import displays
from nnpy.training.values import epoch_line, step_time

REFRESH = 0.1  # seconds between two changes of the bar


def check_verbose(verbose: Any) -> int:
    """0: silent, 1: a bar if there is a terminal, 2: a line an epoch. "auto" is 1. Raises ValueError for any other."""
    if verbose == "auto":
        return 1
    if verbose not in (0, 1, 2):
        raise ValueError(f"verbose: expected 'auto', 0, 1 or 2, got {verbose!r}")
    return int(verbose)


class ProgbarLogger(Callback):
    """Shows a fit: a bar with the values so far, the time left and that of a step where there is a terminal or a
    notebook, and a line for each epoch. ``fit`` makes one itself; one that is given to it takes its place, and its
    ``verbose`` that of ``fit``: "auto", 0 (nothing), 1, or 2 (lines alone). Raises ValueError for another.
    """

    def __init__(self, verbose: str | int = "auto"):
        super().__init__()
        self.verbose = check_verbose(verbose)
        self.seconds, self.samples, self.steps = 0.0, 0, 0
        self._display: displays.Display | None = None
        self._shown = self._began = 0.0
        self._first = 0  # the first batch of the epoch in this run

    def trained(self, seconds: float, samples: int, steps: int) -> None:
        """The training part of the epoch is over; it alone took so long."""
        self.seconds, self.samples, self.steps = seconds, samples, steps

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._display = displays.live(self.params["epochs"], self.params["steps"]) if self.verbose == 1 else None
        if self._display is not None:
            self._show(self._display.start)

    def _show(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Change the display. A terminal that is gone, or full, ends no training."""
        try:
            function(*arguments)
        except (OSError, ValueError) as error:
            display, self._display = self._display, None
            with suppress(OSError, ValueError):
                if display is not None:
                    display.stop()
            cannot_show(error)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._began, self._first = time.perf_counter(), self.model.training.batch
        if self._display is not None:
            self._show(self._display.begin, f"epoch {epoch + 1}/{self.params['epochs']}")

    def on_progress(self, batch: int, logs: Logs | None = None) -> None:
        now = time.perf_counter()
        if self._display is not None and now - self._shown > REFRESH:
            self._shown = now
            speed = step_time((now - self._began) / max(1, batch + 1 - self._first))
            optimizer, update = self.model.optimizer, self.model.training.update
            rate = {} if optimizer.schedule is None else {"learning_rate": optimizer.last_rate(update)}
            self._show(self._display.update, batch + 1, {**(logs or {}), **rate}, speed)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        line = epoch_line(epoch, self.params["epochs"], logs or {}, self.seconds, self.samples, self.steps)
        if self._display is not None:
            self._show(self._display.line, line)
        elif self.verbose:
            say(line)

    def close(self) -> None:
        """Give the terminal back, also after an interruption."""
        if self._display is not None:
            self._show(self._display.stop)
            self._display = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "model": None, "_display": None}
