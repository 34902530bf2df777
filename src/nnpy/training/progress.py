"""Progress: a live bar where a terminal and rich are there; a line for each epoch."""

from __future__ import annotations

import numbers
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from nnpy.callbacks.base import Callback, Logs, cannot_show, say

REFRESH = 0.1  # seconds between two changes of the bar
WIDTH = 80  # columns of a line for an epoch


def check_verbose(verbose: Any) -> int:
    """0: silent, 1: a bar if there is a terminal, 2: a line an epoch. "auto" is 1. Raises ValueError for any other."""
    if verbose == "auto":
        return 1
    if verbose not in (0, 1, 2):
        raise ValueError(f"verbose: expected 'auto', 0, 1 or 2, got {verbose!r}")
    return int(verbose)


def format_value(value: Any) -> str:
    """A number in few characters; what a callback wrote to the logs besides, as it is."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return str(value)
    number = float(value)
    return f"{number:.4f}" if number == 0 or 1e-3 <= abs(number) < 1e5 else f"{number:.3e}"


def format_logs(logs: Logs) -> str:
    return "  ".join(f"{name} {format_value(value)}" for name, value in logs.items())


def epoch_line(epoch: int, epochs: int, logs: Logs, seconds: float, samples: int) -> str:
    """``epoch 3/5  loss 0.1234  accuracy 0.9610  val_loss 0.1408  1.2 s  51000 samples/s`` in WIDTH columns: first the
    speed is left out, then the time; values that do not fit even so stand in lines below."""
    start = f"epoch {epoch + 1:>{len(str(epochs))}}/{epochs}"
    values = [f"{name} {format_value(value)}" for name, value in logs.items()]
    speed = [f"{samples / seconds:.0f} samples/s"] if samples and seconds > 0 else []
    for parts in ([*values, f"{seconds:.1f} s", *speed], [*values, f"{seconds:.1f} s"]):
        line = "  ".join([start, *parts])
        if len(line) <= WIDTH:
            return line
    lines = [start]
    for value in values:
        if len(lines[-1]) + 2 + len(value) > WIDTH:
            lines.append(" " * len(start))
        lines[-1] += f"  {value}"
    return "\n".join(lines)


def layout(width: int, epochs: int, steps: int | None) -> tuple[int, bool, int]:
    """(characters of the bar, whether the time left is shown, characters for values) in a terminal of ``width``.

    The epoch and the count of steps are always there: what is left goes to a bar, the time and the values, in this
    order."""
    known = len(f"epoch {epochs}/{epochs} ") + len(f"{steps}/{steps}" if steps else "10000/?")
    room = width - known
    bar = min(40, max(5, width // 4), room - 1)
    if bar < 5:
        return 0, False, 0
    room -= bar + 1
    time_left = room >= len(" 0:00:00")
    room -= len(" 0:00:00") if time_left else 0
    return bar, time_left, max(0, room - 1) if time_left else 0


def fitting(logs: Logs, room: int) -> str:
    """The first values that ``room`` characters hold; half a value is none."""
    text = ""
    for name, value in logs.items():
        longer = f"{text}{'  ' if text else ''}{name} {format_value(value)}"
        if len(longer) > room:
            break
        text = longer
    return text


def live_console() -> Any:
    """rich's console if it is installed and stdout is a terminal, else None."""
    isatty = getattr(sys.stdout, "isatty", None)  # stdout may be None, or an object that can write and no more
    if isatty is None or not isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    console = Console()
    return console if console.is_terminal and not console.is_dumb_terminal else None


class Progress(Callback):
    """Shows a fit. The loop tells the seconds and samples of training alone through ``trained``."""

    def __init__(self, verbose: int):
        super().__init__()
        self.verbose = verbose
        self.seconds, self.samples = 0.0, 0
        self._bar: Any = None
        self._task: Any = None
        self._shown = 0.0
        self._room = 0  # characters for values

    def trained(self, seconds: float, samples: int) -> None:
        """The training part of the epoch is over."""
        self.seconds, self.samples = seconds, samples

    def on_train_begin(self, logs: Logs | None = None) -> None:
        console = live_console() if self.verbose == 1 else None
        if console is None:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        bar, time_left, self._room = layout(console.width, self.params["epochs"], self.params["steps"])
        columns = [TextColumn("{task.description}"), MofNCompleteColumn()]
        if bar:
            columns.insert(1, BarColumn(bar))
        if time_left:
            columns.append(TimeRemainingColumn())
        if self._room:
            columns.append(TextColumn("{task.fields[values]}"))
        self._bar = Bar(*columns, console=console, transient=True)
        self._show(self._bar.start)

    def _show(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Change the bar. A terminal that is gone, or full, ends no training."""
        try:
            function(*arguments, **options)
        except (OSError, ValueError) as error:
            bar, self._bar = self._bar, None
            with suppress(OSError, ValueError):
                bar.stop()
            cannot_show(error)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        if self._bar is not None:
            self._show(self._begin, f"epoch {epoch + 1}/{self.params['epochs']}")

    def _begin(self, title: str) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(title, total=self.params["steps"], values="")

    def on_progress(self, batch: int, logs: Logs | None = None) -> None:
        now = time.perf_counter()
        if self._bar is not None and now - self._shown > REFRESH:
            self._shown = now
            values = fitting(logs or {}, self._room)
            self._show(self._bar.update, self._task, completed=batch + 1, values=values)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        line = epoch_line(epoch, self.params["epochs"], logs or {}, self.seconds, self.samples)
        if self._bar is not None:
            self._show(self._bar.console.print, line, highlight=False, soft_wrap=True)
        elif self.verbose:
            say(line)

    def close(self) -> None:
        """Give the terminal back, also after an interruption."""
        if self._bar is not None:
            self._show(self._bar.stop)
            self._bar = self._task = None
