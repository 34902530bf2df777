"""Callbacks that set the learning rate: LearningRateScheduler."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from nnpy.callbacks.base import Callback, Logs, say
from nnpy.checks import shown


class LearningRateScheduler(Callback):
    """``schedule(epoch, learning_rate) -> learning_rate``, or ``schedule(epoch)``, asked before each epoch.

    Raises TypeError for anything else."""

    def __init__(self, schedule: Callable[..., float], verbose: int = 0):
        super().__init__()
        self._arguments = _arguments(schedule)
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        if optimizer.schedule is not None:
            raise ValueError(
                "LearningRateScheduler: expected an optimizer with a number as learning_rate, it has a schedule"
            )
        rate = self.schedule(*(epoch, optimizer.learning_rate)[: self._arguments])
        if isinstance(rate, bool) or not isinstance(rate, (int, float, np.number)):
            raise TypeError(f"LearningRateScheduler: expected the schedule to return a number, got {rate!r}")
        optimizer.learning_rate = float(rate)
        if self.verbose:
            say(f"epoch {epoch + 1}: learning rate {float(rate):.6g}")

    def get_state(self) -> dict[str, Any]:
        optimizer = self.model.optimizer
        return {} if optimizer.schedule else {"learning_rate": optimizer.learning_rate}

    def set_state(self, state: dict[str, Any]) -> None:
        self.model.optimizer.learning_rate = state["learning_rate"]

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


def _arguments(schedule: Any) -> int:
    """How many arguments a schedule takes: 2, or 1. TypeError for another number, or what is not a function."""
    expected = "LearningRateScheduler: expected schedule to be a function of (epoch, learning_rate) or (epoch)"
    if not callable(schedule):
        raise TypeError(f"{expected}, got {shown(schedule)}")
    try:
        signature = inspect.signature(schedule)
    except ValueError:  # a built-in that does not tell
        return 2
    for count in (2, 1):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count
    raise TypeError(f"{expected}, got one of {signature}")
