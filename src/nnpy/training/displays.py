"""Displays of a fit under way: a bar in a terminal, by rich, or in a notebook."""

from __future__ import annotations

import sys
import time
from html import escape
from typing import Any, Protocol

from nnpy.callbacks.base import Logs, say
from nnpy.training.values import fitting, layout, shown_values


class Display(Protocol):
    """What changes in its place while an epoch runs. OSError or ValueError where it cannot be shown any more."""

    def start(self) -> None: ...
    def begin(self, title: str) -> None: ...
    def update(self, steps: int, logs: Logs, speed: str) -> None: ...
    def line(self, text: str) -> None: ...
    def stop(self) -> None: ...


def live(epochs: int, steps: int | None) -> Display | None:
    """The display that there is, for epochs of so many steps; None: lines are all that can be shown."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if type(shell).__name__ == "ZMQInteractiveShell":
        return Notebook(steps)
    console = live_console()
    return Terminal(console, epochs, steps) if console is not None else None


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


class Terminal:
    """A bar, the count of steps, the time left, and as many values as the terminal has room for."""

    def __init__(self, console: Any, epochs: int, steps: int | None):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        bar, time_left, self._room = layout(console.width, epochs, steps)
        columns: list[Any] = [TextColumn("{task.description}"), MofNCompleteColumn()]
        if bar:
            columns.insert(1, BarColumn(bar))
        if time_left:
            columns.append(TimeRemainingColumn())
        if self._room:
            columns.append(TextColumn("{task.fields[values]}"))
        self._bar = Progress(*columns, console=console, transient=True)
        self._steps = steps
        self._task: Any = None

    def start(self) -> None:
        self._bar.start()

    def begin(self, title: str) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(title, total=self._steps, values="")

    def update(self, steps: int, logs: Logs, speed: str) -> None:
        self._bar.update(self._task, completed=steps, values=fitting([*shown_values(logs), speed], self._room))

    def line(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        self._bar.stop()


class Notebook:
    """The same below a notebook's cell, in an output that is written anew; nothing is left of it at the end."""

    def __init__(self, steps: int | None):
        self._steps, self._title, self._began = steps, "", 0.0
        self._handle: Any = None

    def start(self) -> None:
        from IPython.display import HTML, display

        self._html = HTML
        self._handle = display(HTML(""), display_id=True)

    def begin(self, title: str) -> None:
        self._title, self._began = title, time.perf_counter()
        self.update(0, {}, "")

    def update(self, steps: int, logs: Logs, speed: str) -> None:
        parts = [f"{self._title} {steps}/{self._steps or '?'}"]
        if self._steps and steps:
            left = int((time.perf_counter() - self._began) / steps * (self._steps - steps))
            parts.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left")
        size = f" value={steps} max={self._steps}" if self._steps else ""
        text = escape("  ".join([*parts, *shown_values(logs), speed]))
        self._handle.update(self._html(f"<progress{size}></progress> <code>{text}</code>"))

    def line(self, text: str) -> None:
        say(text)

    def stop(self) -> None:
        self._handle.update(self._html(""))
