"""Callbacks that set the learning rate: LearningRateScheduler, ReduceLROnPlateau."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from nnpy.callbacks.base import Callback, Logs, say
from nnpy.callbacks.monitors import Monitor
from nnpy.checks import integer, real, shown


class LearningRateScheduler(Callback):
    """``schedule(epoch, learning_rate) -> learning_rate``, or ``schedule(epoch)``, asked before each epoch.

    Raises TypeError for anything else."""

    def __init__(self, schedule: Callable[..., float], verbose: int = 0):
        super().__init__()
        self._arguments = _arguments(schedule)
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        _refuse_schedule("LearningRateScheduler", optimizer)
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


class ReduceLROnPlateau(Callback):
    """Multiply the learning rate by ``factor`` when ``monitor`` has not got better by more than ``min_delta`` for
    ``patience`` epochs, down to ``min_lr``; then wait ``cooldown`` epochs before counting again.

    ``mode``: "max" or "min" is better; "auto": as the model's metric of this name says. The rate of each epoch is in
    the history as "learning_rate". Raises TypeError or ValueError for arguments that are not numbers of this kind;
    before training, ValueError for a ``monitor`` of which nobody says which direction is better, and for an optimizer
    with a schedule.

    >>> plateau = nn.ReduceLROnPlateau("val_loss", factor=0.2, patience=5, min_lr=1e-5)
    """

    _kept = ("wait", "cooldown_counter", "best")

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        super().__init__()
        who = "ReduceLROnPlateau"
        self._compare = Monitor(who, monitor, mode, min_delta)
        self.factor = real(who, "factor", factor, above=0, below=1)
        self.patience = integer(who, "patience", patience, least=0)
        self.verbose = verbose
        self.cooldown = integer(who, "cooldown", cooldown, least=0)
        self.min_lr = real(who, "min_lr", min_lr, least=0)
        self._reset()

    @property
    def monitor(self) -> str:
        return self._compare.monitor

    def _reset(self) -> None:
        self.wait = self.cooldown_counter = 0
        self.best: float | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._reset()
        self._compare.resolve(self.model)
        _refuse_schedule("ReduceLROnPlateau", self.model.optimizer)

    def get_state(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in self._kept}
        return {"learning_rate": self.model.optimizer.learning_rate, **kept}

    def set_state(self, state: dict[str, Any]) -> None:
        self.model.optimizer.learning_rate = state["learning_rate"]
        for name in self._kept:
            setattr(self, name, state[name])

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        value = self._compare.read(logs, self.model)
        if logs is not None:
            logs["learning_rate"] = optimizer.learning_rate
        if value is None:
            return
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._compare.better(value, self.best):
            self.best, self.wait = value, 0
            return
        if self.cooldown_counter:
            return
        self.wait += 1
        if self.wait >= self.patience and optimizer.learning_rate > self.min_lr:
            optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
            self.cooldown_counter, self.wait = self.cooldown, 0
            if self.verbose:
                say(f"epoch {epoch + 1}: {self.monitor} stays; learning rate {optimizer.learning_rate:.6g}")


def _refuse_schedule(who: str, optimizer: Any) -> None:
    if optimizer.schedule is not None:
        raise ValueError(f"{who}: expected an optimizer with a number as learning_rate, it has a schedule")


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
