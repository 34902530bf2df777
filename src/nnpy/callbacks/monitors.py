"""Callbacks that compare epochs by a monitored value: EarlyStopping, ModelCheckpoint."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from nnpy.callbacks.base import Callback, Logs, say
from nnpy.checks import flag, integer, real, shown
from nnpy.checks import path as checked_path
from nnpy.files import make_folder
from nnpy.hints import advise, meant


class Monitor:
    """Which of two values of a monitored quantity is better. ``mode``: "min", "max", or "auto": what the model's metric
    of this name says (``Metric.direction``); losses are better when smaller. ``who``: the callback, as errors name it.
    """

    def __init__(self, who: str, monitor: str, mode: str = "auto", min_delta: float = 0.0):
        if not isinstance(monitor, str):
            raise TypeError(f"{who}: expected monitor to be a name from the logs, as 'val_loss', got {shown(monitor)}")
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"{who}: expected mode to be 'auto', 'min' or 'max', got {mode!r}")
        self.who, self.monitor, self.mode = who, monitor, mode
        self.min_delta = abs(real(who, "min_delta", min_delta))
        self._sign = 0.0 if mode == "auto" else 1.0 if mode == "max" else -1.0

    def resolve(self, model: Any) -> None:
        """Find out which direction is better. Raises ValueError if ``mode`` is "auto" and the model does not know."""
        if self.mode != "auto":
            return
        known = model.settings.directions(model)
        name = self.monitor if self.monitor in known else self.monitor.removeprefix("val_")
        direction = known.get(name)
        if direction is None:
            there = f"the model has {', '.join(known)}, and val_ of them{meant(name, known)}"
            why = "its metric does not say" if name in known else there
            raise ValueError(
                f"{self.who}: whether a larger {self.monitor!r} is better is not known ({why}): give mode='max' or "
                "mode='min'"
            )
        self._sign = 1.0 if direction == "max" else -1.0

    def better(self, value: float, than: float | None) -> bool:
        """``than``: None before any value."""
        sign = self._sign
        if than is None:
            return sign * value > -math.inf
        return sign * (value - than) > self.min_delta if math.isfinite(than) else sign * value > sign * than

    def read(self, logs: Logs | None, model: Any) -> float | None:
        """The value, or None with a warning if this epoch has none."""
        if not self._sign:
            self.resolve(model)
        value = (logs or {}).get(self.monitor)
        if value is None:
            known = ", ".join(logs or {}) or "none"
            advise(f"{self.who}: no {self.monitor!r} in this epoch; there are {known}")
        return value


class EarlyStopping(Callback):
    """Stop when ``monitor`` has not got better by more than ``min_delta`` for ``patience`` epochs.

    ``mode``: "max" or "min" is better; "auto": as the model's metric of this name says. ``baseline``: a value to be
    better than before patience is renewed; ``restore_best_weights``: end with those of the best epoch;
    ``start_from_epoch``: epochs to wait first. ``stopped_epoch`` and ``best_epoch`` tell what happened.
    Raises TypeError or ValueError for arguments that are not numbers of this kind; before training, ValueError for a
    ``monitor`` of which nobody says which direction is better.
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
        who = "EarlyStopping"
        self._compare = Monitor(who, monitor, mode, min_delta)
        self.verbose = verbose
        self.patience = integer(who, "patience", patience, least=0)
        self.baseline = None if baseline is None else real(who, "baseline", baseline)
        self.restore_best_weights = flag(who, "restore_best_weights", restore_best_weights)
        self.start_from_epoch = integer(who, "start_from_epoch", start_from_epoch, least=0)
        self._reset()

    @property
    def monitor(self) -> str:
        return self._compare.monitor

    _kept = ("wait", "stopped_epoch", "best_epoch", "best", "best_weights")

    def _reset(self) -> None:
        self.wait, self.stopped_epoch, self.best_epoch = 0, 0, 0
        self.best: float | None = None
        self.best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._reset()
        self._compare.resolve(self.model)

    def get_state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._kept}

    def set_state(self, state: dict[str, Any]) -> None:
        for name in self._kept:
            setattr(self, name, state[name])

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self._compare.read(logs, self.model)
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
            say(f"epoch {self.stopped_epoch + 1}: stopped early; best was epoch {self.best_epoch + 1}")
        if self.restore_best_weights and self.best_weights is not None:
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(Callback):
    """Save the model after each epoch, or only where ``monitor`` got better (``save_best_only``).

    ``save_freq``: after so many batches instead, counted from epoch to epoch; steps come one at a time then, and the
    logs are those of the epoch so far, without validation. ``filepath`` ends in ``.safetensors`` and may hold
    ``{epoch}``, with such a number ``{batch}``, and names from the logs:
    ``"net-{epoch:02d}-{val_loss:.3f}.safetensors"``. Before training begins it makes sure that the model can be saved
    (TypeError: a model that is code; ``save_weights_only=True`` saves it all the same) and the folder be written to
    (OSError). Files of ``save_best_only`` keep the value: a training that goes on, of a loaded model or with
    ``initial_epoch``, has the best so far from those that are there, and an AdviceWarning tells so.
    """

    def __init__(
        self,
        filepath: str | bytes | os.PathLike,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ):
        super().__init__()
        who = "ModelCheckpoint"
        self.filepath = str(checked_path(who, "filepath", filepath))
        if not self.filepath.endswith(".safetensors"):
            raise ValueError(f"{who}: expected a path that ends in .safetensors, got {self.filepath!r}")
        _check_pattern(who, self.filepath)
        save_freq = checked_frequency(who, save_freq)
        if save_freq != "epoch":
            self.on_train_batch_end = self._count_batch  # type: ignore[method-assign]
        self.save_freq, self._batches, self._epoch = save_freq, 0, 0
        self._compare = Monitor(who, monitor, mode)
        self.verbose = verbose
        self.save_best_only = flag(who, "save_best_only", save_best_only)
        self.save_weights_only = flag(who, "save_weights_only", save_weights_only)
        threshold = initial_value_threshold
        self.best = None if threshold is None else real(who, "initial_value_threshold", threshold)

    @property
    def monitor(self) -> str:
        return self._compare.monitor

    def get_state(self) -> dict[str, Any]:
        return {"best": self.best, "batches": self._batches}

    def set_state(self, state: dict[str, Any]) -> None:
        self.best, self._batches = state["best"], state.get("batches", 0)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Training is the user's time: what cannot be saved, or written there, is refused before it."""
        from nnpy.saving import describe

        if self.save_best_only:
            self._compare.resolve(self.model)
            self._go_on()
        folder, what = Path(self.filepath).parent, f"ModelCheckpoint: cannot write {self.filepath}"
        if "{" not in str(folder):
            make_folder(folder, what)
        if not self.save_weights_only:
            try:
                describe(self.model)
            except TypeError as error:
                raise TypeError(f"ModelCheckpoint: {error}; save_weights_only=True saves the weights alone") from error

    def _go_on(self) -> None:
        """The best so far is that of the files there are, if this training goes on from another one."""
        from nnpy.saving import noted

        training = self.model.training
        if self.best is not None or training.resumed or not (training.update or training.number):
            return
        for path in _matching(self.filepath):
            note = noted(path, "checkpoint")
            if not isinstance(note, dict) or note.get("monitor") != self.monitor:
                continue
            value = note.get("best")
            if isinstance(value, int | float) and self._compare.better(value, self.best):
                self.best, found = float(value), path
        if self.best is not None:
            advise(
                f"ModelCheckpoint: training goes on; the best {self.monitor} so far is {self.best:g}, of {found}, and "
                "only what is better is saved (initial_value_threshold sets another value)"
            )

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_freq == "epoch":
            self._save(epoch, logs or {})

    def _count_batch(self, batch: int, logs: Logs | None = None) -> None:
        self._batches += 1
        if self._batches >= self.save_freq:  # type: ignore[operator]
            self._batches = 0
            self._save(self._epoch, {"batch": batch + 1, **(logs or {})})

    def _save(self, epoch: int, logs: Logs) -> None:
        from nnpy.saving import noting

        if self.save_best_only:
            value = self._compare.read(logs, self.model)
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
        Path(path).parent.mkdir(parents=True, exist_ok=True)  # names from the logs may stand in it
        best = {"monitor": self.monitor, "best": None if self.best is None else float(self.best)}
        with noting(**({"checkpoint": best} if self.save_best_only else {})):
            (self.model.save_weights if self.save_weights_only else self.model.save)(path)
        if self.verbose:
            say(f"epoch {epoch + 1}: saved {path}")


def checked_frequency(who: str, save_freq: Any) -> str | int:
    """How often a callback saves: "epoch", or a number of batches. TypeError or ValueError for anything else."""
    if isinstance(save_freq, str) and save_freq != "epoch":
        raise ValueError(f"{who}: expected save_freq to be 'epoch' or a number of batches, got {save_freq!r}")
    return save_freq if save_freq == "epoch" else integer(who, "save_freq", save_freq, least=1)


def _matching(pattern: str) -> list[str]:
    """The paths of files that a pattern gave, for whatever epochs and values."""
    import glob
    import string

    parts = string.Formatter().parse(pattern)
    return sorted(glob.glob("".join(glob.escape(text) + ("" if name is None else "*") for text, name, _, _ in parts)))


def _check_pattern(who: str, pattern: str) -> None:
    """Raises ValueError for a pattern of which no path can be made: braces, or a format that is none of numbers."""
    import string

    try:
        names = {field for _, field, _, _ in string.Formatter().parse(pattern) if field is not None}
        if bad := [name for name in names if not name.isidentifier()]:
            raise ValueError(f"'{{{bad[0]}}}' is no name")
        pattern.format(**{name: 1 if name in ("epoch", "batch") else 0.5 for name in names})
    except ValueError as error:
        raise ValueError(
            f"{who}: expected a path in which {{epoch}} and names from the logs stand, as {{epoch:02d}} or "
            f"{{val_loss:.3f}}, got {pattern!r}: {error}"
        ) from None
