"""Values of the logs as text: lines of epochs, and what a bar has room for."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

from nnpy.callbacks.base import Logs

WIDTH = 80  # columns of a line for an epoch


def format_value(value: Any) -> str:
    """A number in few characters; what a callback wrote to the logs besides, as it is."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return str(value)
    number = float(value)
    return f"{number:.4f}" if number == 0 or 1e-3 <= abs(number) < 1e5 else f"{number:.3e}"


def shown_values(logs: Logs) -> list[str]:
    return [f"{name} {format_value(value)}" for name, value in logs.items()]


def format_logs(logs: Logs) -> str:
    return "  ".join(shown_values(logs))


def epoch_line(epoch: int, epochs: int, logs: Logs, seconds: float, samples: int, steps: int) -> str:
    """``epoch 3/5  loss 0.1234  val_loss 0.1408  1.2 s  51000 samples/s  2.1 ms/step`` in WIDTH columns: first the time
    of a step is left out, then the speed; values that do not fit even so stand in lines below."""
    start = f"epoch {epoch + 1:>{len(str(epochs))}}/{epochs}"
    values = shown_values(logs)
    speed = [f"{samples / seconds:.0f} samples/s", step_time(seconds / steps)] if steps and seconds > 0 else []
    for most in (3, 2, 1):
        parts = [*values, f"{seconds:.1f} s", *speed][: len(values) + most]
        line = "  ".join([start, *parts])
        if len(line) <= WIDTH:
            return line
    lines = [start]
    for value in values:
        if len(lines[-1]) + 2 + len(value) > WIDTH:
            lines.append(" " * len(start))
        lines[-1] += f"  {value}"
    return "\n".join(lines)


def step_time(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}/step"
    return f"{seconds * 1e6:.3g} us/step"


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


def fitting(values: Sequence[str], room: int) -> str:
    """The first values that ``room`` characters hold; half a value is none."""
    text = ""
    for value in values:
        longer = f"{text}{'  ' if text else ''}{value}"
        if len(longer) > room:
            break
        text = longer
    return text
