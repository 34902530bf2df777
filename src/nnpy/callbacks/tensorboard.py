"""TensorBoard: event files for it, by tensorboardX."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from nnpy.callbacks.base import Callback, Logs
from nnpy.checks import flag, integer
from nnpy.checks import path as checked_path
from nnpy.files import make_folder
from nnpy.hints import optional
from nnpy.structure import weight_names


class TensorBoard(Callback):
    """Write event files for ``tensorboard --logdir LOG_DIR``: folders ``train`` and ``validation``, as Keras does.

    Of each epoch the values, as ``epoch_loss``; the rate as ``epoch_learning_rate``; with ``write_steps_per_second``
    the speed of training. ``histogram_freq``: every so many epochs a histogram of each weight, 0 for none.
    ``update_freq``: "epoch"; "batch" or a number writes also the values so far every so many steps, as ``batch_loss``,
    at the end of a stretch of steps (about 50 ms). Needs tensorboardX (ModuleNotFoundError tells how to install it).
    Raises TypeError or ValueError for wrong arguments, and before training OSError for a folder that cannot be written
    to.
    """

    def __init__(
        self,
        log_dir: str | bytes | os.PathLike = "logs",
        histogram_freq: int = 0,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
    ):
        super().__init__()
        who = "TensorBoard"
        self.log_dir = checked_path(who, "log_dir", log_dir)
        self.histogram_freq = integer(who, "histogram_freq", histogram_freq, least=0)
        self.write_steps_per_second = flag(who, "write_steps_per_second", write_steps_per_second)
        if isinstance(update_freq, str) and update_freq not in ("epoch", "batch"):
            raise ValueError(f"{who}: expected update_freq to be 'epoch', 'batch' or a number, got {update_freq!r}")
        every = {"epoch": 0, "batch": 1}.get(update_freq) if isinstance(update_freq, str) else update_freq
        self.update_freq = integer(who, "update_freq", every, least=0)
        self._open = optional("tensorboardX", "tensorboardX", "tensorboard", f"{who}:").SummaryWriter
        self._writers: dict[str, Any] = {}
        self._written = self._steps = 0
        self._began = self._speed = 0.0

    def _writer(self, kind: str) -> Any:
        if kind not in self._writers:
            self._writers[kind] = self._open(str(self.log_dir / kind))
        return self._writers[kind]

    def _scalars(self, stem: str, logs: Mapping[str, Any], step: int) -> None:
        for name, value in logs.items():
            if not isinstance(value, int | float | np.number):
                continue
            kind = "validation" if name.startswith("val_") else "train"
            self._writer(kind).add_scalar(f"{stem}_{name.removeprefix('val_')}", float(value), step)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        make_folder(self.log_dir, f"TensorBoard: cannot write to {self.log_dir}")
        self._written = self.model.training.draw

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._steps, self._began = self.model.training.draw, time.perf_counter()

    def on_progress(self, batch: int, logs: Logs | None = None) -> None:
        step = self.model.training.draw
        if self.update_freq and step - self._written >= self.update_freq:
            self._scalars("batch", logs or {}, step)
            self._written = step

    def on_test_begin(self, logs: Logs | None = None) -> None:
        self._stop_clock()

    def _stop_clock(self) -> None:
        """Validation is none of the speed of training."""
        if self._began:
            self._speed = (self.model.training.draw - self._steps) / (time.perf_counter() - self._began)
            self._began = 0.0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._stop_clock()
        values = dict(logs or {})
        if "learning_rate" not in values:  # a schedule's is, and would be asked again
            values["learning_rate"] = self.model.optimizer.learning_rate
        self._scalars("epoch", values, epoch)
        if self.write_steps_per_second:
            self._writer("train").add_scalar("epoch_steps_per_second", self._speed, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for weight, name in weight_names(self.model).items():
                self._writer("train").add_histogram(name, np.asarray(weight), epoch)
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}
