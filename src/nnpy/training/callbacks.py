"""Callbacks: what is called while a model trains. Names and arguments are Keras 3's."""

from __future__ import annotations

import csv
import logging
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnpy.checks import shown

logger = logging.getLogger("nnpy")
Logs = dict[str, float]


class Callback:
    """Subclass it and override what you need. ``self.model``: the model, ``self.params``: what fit was told.

    Steps run in compiled stretches of about 50 ms. Where a callback overrides ``on_train_batch_begin`` or
    ``on_train_batch_end``, a stretch is one step; ``on_progress`` (ours) costs nothing. ``logs``: the means since the
    epoch began; at the end of an epoch also the ``val_`` values.
    """

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

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a step."""

    def on_progress(self, batch: int, logs: Logs | None = None) -> None:
        """After each stretch of steps, about 50 ms; ``batch`` is the last one's number."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before an evaluation, also that of an epoch."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """After an evaluation."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Before a prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """After a prediction."""


class CallbackList:
    """Calls them in order."""

    def __init__(self, callbacks: Sequence[Callback], model: Any, params: dict[str, Any]):
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks: expected Callback objects, got {callback!r}")
            callback.set_model(model)
            callback.set_params(params)
        self.callbacks = list(callbacks)
        self.every_batch = any(callback_wants_batches(callback) for callback in callbacks)

    def call(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)


def callback_wants_batches(callback: Callback) -> bool:
    """Whether it must be called at every step."""
    hooks = ("on_train_batch_begin", "on_train_batch_end")
    return any(getattr(callback, hook).__func__ is not getattr(Callback, hook) for hook in hooks)


def as_list(callbacks: Callback | Sequence[Callback] | None) -> list[Callback]:
    if callbacks is None:
        return []
    if not isinstance(callbacks, Callback | list | tuple):
        raise TypeError(f"callbacks: expected a Callback or a list of them, got {shown(callbacks)}")
    return [callbacks] if isinstance(callbacks, Callback) else list(callbacks)


_HIGHER_IS_BETTER = (
    "accuracy",
    "acc",
    "precision",
    "recall",
    "auc",
    "f1",
    "fbeta",
    "score",
    "iou",
    "correlation",
    "similarity",
)


class Monitor:
    """Which of two values of a monitored quantity is better. ``mode``: "min", "max", or "auto": by the name."""

    def __init__(self, monitor: str, mode: str = "auto", min_delta: float = 0.0):
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"mode: expected 'auto', 'min' or 'max', got {mode!r}")
        if mode == "auto":
            name = monitor.removeprefix("val_").lower()
            mode = "max" if not name.endswith("loss") and any(part in name for part in _HIGHER_IS_BETTER) else "min"
        self.monitor, self.sign = monitor, 1.0 if mode == "max" else -1.0
        self.min_delta = abs(min_delta)

    @property
    def worst(self) -> float:
        return -self.sign * math.inf

    def better(self, value: float, than: float) -> bool:
        return (
            self.sign * (value - than) > self.min_delta if math.isfinite(than) else self.sign * value > self.sign * than
        )

    def read(self, logs: Logs | None, who: str) -> float | None:
        """The value, or None with a warning if this epoch has none."""
        value = (logs or {}).get(self.monitor)
        if value is None:
            logger.warning("%s: no %r in this epoch; there are %s", who, self.monitor, ", ".join(logs or {}) or "none")
        return value


class EarlyStopping(Callback):
    """Stop when ``monitor`` has not got better by more than ``min_delta`` for ``patience`` epochs.

    ``baseline``: a value to be better than before patience is renewed; ``restore_best_weights``: end with those of the
    best epoch; ``start_from_epoch``: epochs to wait first. ``stopped_epoch`` and ``best_epoch`` tell what happened.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__()
        self.monitor, self.patience, self.verbose, self.baseline = monitor, patience, verbose, baseline
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        self._compare = Monitor(monitor, mode, min_delta)
        self._reset()

    def _reset(self) -> None:
        self.wait, self.stopped_epoch, self.best_epoch = 0, 0, 0
        self.best = self._compare.worst
        self.best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self._compare.read(logs, "EarlyStopping")
        if value is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if self._compare.better(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self._compare.better(value, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.verbose and self.stopped_epoch:
            print(f"epoch {self.stopped_epoch + 1}: stopped early; best was epoch {self.best_epoch + 1}")
        if self.restore_best_weights and self.best_weights is not None:
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(Callback):
    """Save the model after each epoch, or only where ``monitor`` got better (``save_best_only``).

    ``filepath`` ends in ``.safetensors`` and may hold ``{epoch}`` and names from the logs:
    ``"net-{epoch:02d}-{val_loss:.3f}.safetensors"``.
    """

    def __init__(
        self,
        filepath: str | os.PathLike,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str = "epoch",
        initial_value_threshold: float | None = None,
    ):
        super().__init__()
        self.filepath = os.fspath(filepath)
        if not self.filepath.endswith(".safetensors"):
            raise ValueError(f"ModelCheckpoint: expected a path that ends in .safetensors, got {self.filepath!r}")
        if save_freq != "epoch":
            raise ValueError(f"ModelCheckpoint: expected save_freq='epoch', got {save_freq!r}")
        self.monitor, self.verbose = monitor, verbose
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self._compare = Monitor(monitor, mode)
        self.best = self._compare.worst if initial_value_threshold is None else initial_value_threshold

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Training is the user's time: a folder that is missing is refused before it."""
        folder = Path(self.filepath).parent
        if "{" not in str(folder) and not folder.is_dir():
            raise FileNotFoundError(f"ModelCheckpoint: cannot write {self.filepath}: there is no folder {folder}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_best_only:
            value = self._compare.read(logs, "ModelCheckpoint")
            if value is None or not self._compare.better(value, self.best):
                return
            self.best = value
        try:
            path = self.filepath.format(epoch=epoch + 1, **(logs or {}))
        except (KeyError, IndexError) as error:
            known = ", ".join(["epoch", *(logs or {})])
            raise ValueError(
                f"ModelCheckpoint: expected names among {known} in {self.filepath!r}, got {error}"
            ) from None
        (self.model.save_weights if self.save_weights_only else self.model.save)(path)
        if self.verbose:
            print(f"epoch {epoch + 1}: saved {path}")


class LambdaCallback(Callback):
    """Functions as hooks: ``LambdaCallback(on_epoch_end=lambda epoch, logs: ...)``."""

    def __init__(self, **functions: Callable[..., None] | None):
        super().__init__()
        for name, function in functions.items():
            if not (name.startswith("on_") and hasattr(Callback, name)):
                hooks = ", ".join(hook for hook in dir(Callback) if hook.startswith("on_"))
                raise TypeError(f"LambdaCallback: unknown hook {name!r}; there are {hooks}")
            if function is not None:
                setattr(self, name, _Hook(function))


class _Hook:
    """A function in a hook's place; ``__func__`` tells that the hook is overridden."""

    def __init__(self, function: Callable[..., None]):
        self.__func__ = function

    def __call__(self, *arguments: Any) -> None:
        self.__func__(*arguments)


class LearningRateScheduler(Callback):
    """``schedule(epoch, learning_rate) -> learning_rate``, asked before each epoch."""

    def __init__(self, schedule: Callable[[int, float], float], verbose: int = 0):
        super().__init__()
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        if callable(optimizer.learning_rate):
            raise ValueError(
                "LearningRateScheduler: expected an optimizer with a number as learning_rate, it has a schedule"
            )
        rate = self.schedule(epoch, float(optimizer.learning_rate))
        if isinstance(rate, bool) or not isinstance(rate, (int, float, np.number)):
            raise TypeError(f"LearningRateScheduler: expected the schedule to return a number, got {rate!r}")
        optimizer.learning_rate = float(rate)
        if self.verbose:
            print(f"epoch {epoch + 1}: learning rate {float(rate):.6g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class TerminateOnNaN(Callback):
    """Stop when the loss is NaN or infinite; looked at about every 50 ms."""

    def on_progress(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            logger.warning("TerminateOnNaN: the loss is %s at batch %d; training stops", loss, batch)
            self.model.stop_training = True


class CSVLogger(Callback):
    """A line of values for each epoch, in a CSV file; the columns are those of the first epoch."""

    def __init__(self, filename: str | os.PathLike, separator: str = ",", append: bool = False):
        super().__init__()
        self.path, self.separator, self.append = Path(filename), separator, append
        self._columns: list[str] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._columns = None
        if self.append and self.path.exists() and (first := self.path.open(newline="").readline().strip()):
            self._columns = first.split(self.separator)
        elif not self.append:
            self.path.write_text("")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        values: dict[str, Any] = {"epoch": epoch, **(logs or {})}
        with self.path.open("a", newline="") as file:
            new = self._columns is None
            self._columns = self._columns or list(values)
            writer = csv.DictWriter(file, self._columns, delimiter=self.separator, extrasaction="ignore", restval="NA")
            if new:
                writer.writeheader()
            writer.writerow(values)
