"""Callbacks that look at the values, or write them down: TerminateOnNaN, CSVLogger."""

from __future__ import annotations

import io
import math
import os
from typing import Any

from nnpy.callbacks.base import Callback, Logs
from nnpy.checks import flag, path, shown
from nnpy.files import told, write_whole
from nnpy.hints import advise


class TerminateOnNaN(Callback):
    """Stop when the loss is NaN or infinite; looked at about every 50 ms. ``raise_error``: by a RuntimeError at once,
    with no other hooks. (Without this callback ``fit`` goes on, and tells in which step it was, where, and likely why.)
    """

    def __init__(self, raise_error: bool = False):
        super().__init__()
        self.raise_error = flag("TerminateOnNaN", "raise_error", raise_error)

    def on_progress(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            if self.raise_error:
                raise RuntimeError(f"TerminateOnNaN: the loss is {loss} at batch {batch}")
            advise(f"TerminateOnNaN: the loss is {loss} at batch {batch}; training stops")
            self.model.stop_training = True


class CSVLogger(Callback):
    """A line of values for each epoch, in a CSV file; "NA" where an epoch has none. A value that comes up later, as
    those of validation may, gets a column then: the file is written anew. ``append``: go on with the file that is
    there; a last line that a crash has torn off is taken away, and shown in a warning. Raises, before training,
    OSError for a file that cannot be written, ValueError for one to append to that is no such file (its first line
    does not begin with ``epoch``, or it is not UTF-8).
    """

    def __init__(self, filename: str | bytes | os.PathLike, separator: str = ",", append: bool = False):
        super().__init__()
        self.path = path("CSVLogger", "filename", filename)
        if not isinstance(separator, str):
            raise TypeError(f"CSVLogger: expected separator to be a character, got {shown(separator)}")
        if len(separator) != 1 or separator in '\r\n"':
            raise ValueError(f"CSVLogger: expected separator to be one character, not a quote, got {separator!r}")
        self.separator, self.append = separator, flag("CSVLogger", "append", append)
        self._columns: list[str] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._columns = None
        try:
            with self.path.open("ab" if self.append else "wb"):
                pass
            if self.append and self.path.is_file():
                self._go_on(self.path.read_bytes())
        except OSError as error:
            raise told(error, f"CSVLogger: cannot write {self.path}") from error

    def _go_on(self, content: bytes) -> None:
        """Find the columns in the file that is there, and take off the end of a process that died while it wrote."""
        import csv

        what = f"CSVLogger: cannot append to {self.path}"
        try:
            text = content.decode("utf-8-sig")
            lines = list(io.StringIO(text, newline="")) if text.strip() else []
            rows = list(csv.reader(lines, delimiter=self.separator))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{what}: expected a CSV file in UTF-8: {error}") from error
        torn = bool(lines) and not lines[-1].endswith(("\n", "\r"))
        if torn and len(rows) == 1 and "epoch".startswith(rows[0][0]):  # no more than a part of the header
            lines, rows = [], []
        if rows and rows[0][:1] != ["epoch"]:
            raise ValueError(
                f"{what}: expected a first line of columns, 'epoch' first, separated by {self.separator!r}, got "
                f"{lines[0].strip()[:60]!r}"
            )
        if rows and torn:
            advise(f"CSVLogger: {self.path} ended in a torn line, which is taken off: {lines.pop()!r}")
        self._columns = rows[0] if rows else None
        if (kept := "".join(lines).encode()) != content:
            write_whole(self.path, lambda file: file.write(kept), "CSVLogger")

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
