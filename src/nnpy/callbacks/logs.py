"""Callbacks that look at the values, or write them down: TerminateOnNaN, CSVLogger."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any

from nnpy.callbacks.base import Callback, Logs
from nnpy.checks import flag, shown
from nnpy.files import told, write_whole
from nnpy.hints import advise


class TerminateOnNaN(Callback):
    """Stop when the loss is NaN or infinite; looked at about every 50 ms."""

    def on_progress(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            advise(f"TerminateOnNaN: the loss is {loss} at batch {batch}; training stops")
            self.model.stop_training = True


class CSVLogger(Callback):
    """A line of values for each epoch, in a CSV file; "NA" where an epoch has none. A value that comes up later, as
    those of validation may, gets a column then: the file is written anew. ``append``: go on with the file that is
    there. Raises OSError, before training, for a file that cannot be written."""

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
            with self.path.open("a+" if self.append else "w", newline="", encoding="utf-8") as file:
                file.seek(0)
                if self.append and (first := file.readline().strip()):
                    self._columns = first.split(self.separator)
        except OSError as error:
            raise told(error, f"CSVLogger: cannot write {self.path}") from error

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        import csv

        values: dict[str, Any] = {"epoch": epoch, **(logs or {})}
        try:
            new = self._columns is None
            self._columns = self._columns or list(values)
            if later := [name for name in values if name not in self._columns]:
                self._add_columns(later)
            with self.path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, self._columns, delimiter=self.separator, restval="NA")
                if new:
                    writer.writeheader()
                writer.writerow(values)
        except OSError as error:
            raise told(error, f"CSVLogger: cannot write {self.path}") from error

    def _add_columns(self, later: list[str]) -> None:
        """The file anew, whole or not at all, with more columns."""
        import csv

        assert self._columns is not None
        with self.path.open(newline="", encoding="utf-8") as file:
            _, *rows = csv.reader(file, delimiter=self.separator)
        self._columns = [*self._columns, *later]
        text = io.StringIO(newline="")
        rows = [self._columns, *(row + ["NA"] * (len(self._columns) - len(row)) for row in rows)]
        csv.writer(text, delimiter=self.separator).writerows(rows)
        write_whole(self.path, lambda file: file.write(text.getvalue().encode()), "CSVLogger")
