"""BackupAndRestore: a run that goes on where it was interrupted, whatever interrupted it."""

from __future__ import annotations

import os
from typing import Any

from nnpy.callbacks.base import Callback, Logs
from nnpy.callbacks.monitors import checked_frequency
from nnpy.checks import flag
from nnpy.checks import path as checked_path
from nnpy.files import make_folder
from nnpy.runs import load_run, save_run, settings_of

_NAME, _PREVIOUS = "run.safetensors", "run-before.safetensors"


class Resume(Callback):
    """``fit(resume=path)``: the run goes on from a file."""

    def __init__(self, path: Any):
        super().__init__()
        self.path = checked_path("fit", "resume", path)

    def before_fit(self) -> None:
        load_run(self.model, self.path, self.params)


class BackupAndRestore(Callback):
    """Write down where the run stands, in a file of ``backup_dir``; the same ``fit`` in a new process goes on from
    there, in the middle of an epoch too, and ends with the bits of a run that was never interrupted.

    The file, ``run.safetensors``, holds weights, the optimizer's state and settings, counters, accumulators, the place
    in the order of samples, the history, and what callbacks keep (``Callback.get_state``). It is written whole or not
    at all. ``save_freq``: "epoch", or a number of batches: the file is written after the first stretch of steps (about
    50 ms) that reaches it. ``double_checkpoint``: the file before the last is kept too. ``delete_checkpoint``: a run
    that came to its end leaves no file. The program makes and compiles the model as it did before, and gives the same
    data and callbacks: ValueError, naming the file, where structure, batch size, number of samples or optimizer differ.
    An iterator (``next()``) cannot be put where it was: it has to begin with the batch that comes next.
    ``fit(..., resume=path)`` goes on from such a file without writing new ones.

    Example::

        model.fit(x, y, epochs=100, callbacks=nn.callbacks.BackupAndRestore("backup", save_freq=500))
    """

    comes_last = True

    def __init__(
        self,
        backup_dir: str | bytes | os.PathLike,
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ):
        super().__init__()
        who = "BackupAndRestore"
        self.backup_dir = checked_path(who, "backup_dir", backup_dir)
        self.save_freq = checked_frequency(who, save_freq)
        self.double_checkpoint = flag(who, "double_checkpoint", double_checkpoint)
        self.delete_checkpoint = flag(who, "delete_checkpoint", delete_checkpoint)
        self._paths = [self.backup_dir / _NAME, self.backup_dir / _PREVIOUS]
        self._saved = 0  # steps, at the last file

    def before_fit(self) -> None:
        make_folder(self.backup_dir, f"BackupAndRestore: cannot write to {self.backup_dir}")
        training = self.model.training
        found = [path for path in self._paths if path.exists()]
        if not training.resumed and found:
            load_run(self.model, found[0], self.params)
        elif not training.resumed:
            training.began = settings_of(self.model.optimizer)
        self._saved = self.model.training.draw

    def on_progress(self, batch: int, logs: Logs | None = None) -> None:
        if self.save_freq != "epoch" and self.model.training.draw - self._saved >= self.save_freq:
            self._save()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_freq == "epoch":
            self._save()

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.delete_checkpoint:
            for path in self._paths:
                path.unlink(missing_ok=True)

    def _save(self) -> None:
        if self.double_checkpoint and self._paths[0].exists():
            os.replace(*self._paths)
        save_run(self.model, self._paths[0], self.params)
        self._saved = self.model.training.draw
