"""Callbacks: what is called while a model trains. Names and arguments are Keras 3's."""

from __future__ import annotations

import csv
import difflib
import inspect
import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnpy.checks import flag, shown
from nnpy.files import told

logger = logging.getLogger("nnpy")
Logs = dict[str, float]


def say(line: str) -> None:
    """Print a line at once. Where there is no stdout (None in a program without a console) nothing is said."""
    print(line)
    if hasattr(sys.stdout, "flush"):
        sys.stdout.flush()


class Callback:
    """Subclass it and override what you need. ``self.model``: the model, ``self.params``: what fit was told.

    Steps run in compiled stretches of about 50 ms. Where a callback overrides a hook of batches, a stretch is one step;
    ``on_progress`` (ours) costs nothing. ``logs``: the means since the epoch began; at the end of an epoch also the
    ``val_`` values. Raises TypeError for a subclass with a method ``on_...`` that nobody would call.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in dir(cls):
            if name.startswith("on_") and callable(getattr(cls, name)):
                check_hook(cls.__name__, name)

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before an epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After an epoch and its validation."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a step."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a step."""
        self.on_batch_end(batch, logs)

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of ``on_train_batch_begin``."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of ``on_train_batch_end``."""

    def on_progress(self, batch: int, logs: Logs | None = None) -> None:
        """After each stretch of steps, about 50 ms; ``batch`` is the last one's number."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before an evaluation, also that of an epoch."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """After an evaluation."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch of an evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch of an evaluation."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch of a prediction."""

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """After a batch of a prediction; ``logs["outputs"]``: what was predicted."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Before a prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """After a prediction."""


class CallbackList:
    """Calls them in order."""

    def __init__(self, callbacks: Sequence[Callback], model: Any, params: dict[str, Any]):
        for callback in callbacks:
            if not isinstance(callback, Callback):
                made = isinstance(callback, type) and issubclass(callback, Callback)
                advice = f"; make one: {callback.__name__}()" if made else ""
                raise TypeError(f"callbacks: expected Callback objects, got {shown(callback)}{advice}")
            callback.set_model(model)
            callback.set_params(params)
        self.callbacks = list(callbacks)
        self.every_batch = self.wants(*(f"on_{stem}_{end}" for stem in ("train_batch", "batch") for end in _ENDS))

    def call(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)

    def wants(self, *hooks: str) -> bool:
        """Whether a callback overrides one of the hooks."""
        return any(getattr(c, hook).__func__ is not getattr(Callback, hook) for c in self.callbacks for hook in hooks)

    def wants_batches(self, kind: str) -> bool:
        """Whether the steps of an evaluation ("test") or a prediction must come one at a time."""
        return self.wants(*(f"on_{kind}_batch_{end}" for end in _ENDS))


_ENDS = ("begin", "end")


def check_hook(owner: str, name: str) -> None:
    """Raises TypeError for a hook that there is none of, with the nearest there is."""
    hooks = [hook for hook in vars(Callback) if hook.startswith("on_")]
    if name not in hooks:
        close = difflib.get_close_matches(name, hooks, 1, 0.0)[0]
        raise TypeError(f"{owner}: unknown hook {name!r}; did you mean {close!r}? There are {', '.join(hooks)}")


def as_list(callbacks: Callback | Sequence[Callback] | None) -> list[Callback]:
    if callbacks is None:
        return []
    if not isinstance(callbacks, Callback | list | tuple):
        raise TypeError(f"callbacks: expected a Callback or a list of them, got {shown(callbacks)}")
    return [callbacks] if isinstance(callbacks, Callback) else list(callbacks)


class LambdaCallback(Callback):
    """Functions as hooks: ``LambdaCallback(on_epoch_end=lambda epoch, logs: ...)``."""

    def __init__(self, **functions: Callable[..., None] | None):
        super().__init__()
        for name, function in functions.items():
            check_hook("LambdaCallback", name)
            if function is not None:
                if not callable(function):
                    raise TypeError(f"LambdaCallback: expected {name} to be a function, got {shown(function)}")
                setattr(self, name, _Hook(function))


class _Hook:
    """A function in a hook's place; ``__func__`` tells that the hook is overridden."""

    def __init__(self, function: Callable[..., None]):
        self.__func__ = function

    def __call__(self, *arguments: Any) -> None:
        self.__func__(*arguments)


class LearningRateScheduler(Callback):
    """``schedule(epoch, learning_rate) -> learning_rate``, or ``schedule(epoch)``, asked before each epoch.

    Raises TypeError for anything else."""

    def __init__(self, schedule: Callable[..., float], verbose: int = 0):
        super().__init__()
        self._arguments = _arguments(schedule)
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        if callable(optimizer.learning_rate):
            raise ValueError(
                "LearningRateScheduler: expected an optimizer with a number as learning_rate, it has a schedule"
            )
        rate = self.schedule(*(epoch, float(optimizer.learning_rate))[: self._arguments])
        if isinstance(rate, bool) or not isinstance(rate, (int, float, np.number)):
            raise TypeError(f"LearningRateScheduler: expected the schedule to return a number, got {rate!r}")
        optimizer.learning_rate = float(rate)
        if self.verbose:
            say(f"epoch {epoch + 1}: learning rate {float(rate):.6g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


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


class TerminateOnNaN(Callback):
    """Stop when the loss is NaN or infinite; looked at about every 50 ms."""

    def on_progress(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            logger.warning("TerminateOnNaN: the loss is %s at batch %d; training stops", loss, batch)
            self.model.stop_training = True


class CSVLogger(Callback):
    """A line of values for each epoch, in a CSV file; the columns are those of the first epoch. ``append``: go on with
    the file that is there. Raises OSError, before training, for a file that cannot be written."""

    def __init__(self, filename: str | os.PathLike, separator: str = ",", append: bool = False):
        super().__init__()
        if not isinstance(filename, str | os.PathLike):
            raise TypeError(f"CSVLogger: expected filename to be a path, got {shown(filename)}")
        if not isinstance(separator, str):
            raise TypeError(f"CSVLogger: expected separator to be a character, got {shown(separator)}")
        if len(separator) != 1 or separator in '\r\n"':
            raise ValueError(f"CSVLogger: expected separator to be one character, not a quote, got {separator!r}")
        self.path, self.separator, self.append = Path(filename), separator, flag("CSVLogger", "append", append)
        self._columns: list[str] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._columns = None
        try:
            with self.path.open("a+" if self.append else "w", newline="") as file:
                file.seek(0)
                if self.append and (first := file.readline().strip()):
                    self._columns = first.split(self.separator)
        except OSError as error:
            raise told(error, f"CSVLogger: cannot write {self.path}") from error

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        values: dict[str, Any] = {"epoch": epoch, **(logs or {})}
        new = self._columns is None
        self._columns = self._columns or list(values)
        try:
            with self.path.open("a", newline="") as file:
                writer = csv.DictWriter(
                    file, self._columns, delimiter=self.separator, extrasaction="ignore", restval="NA"
                )
                if new:
                    writer.writeheader()
                writer.writerow(values)
        except OSError as error:
            raise told(error, f"CSVLogger: cannot write {self.path}") from error
