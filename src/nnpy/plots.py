"""Pictures: figures of matplotlib, which is loaded when the first one is made."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnpy.checks import path as checked_path
from nnpy.hints import optional


@functools.cache
def _picture() -> Any:
    class Picture(optional("matplotlib.figure", "matplotlib", "plot", "plot:").Figure):  # type: ignore[misc]
        """Shown by a notebook in which nobody has imported pyplot."""

        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png", bbox_inches="tight")
            return file.getvalue()

    return Picture


def figure(rows: int = 1, columns: int = 1, width: float = 4.5, height: float = 3.2) -> tuple[Any, list[Any]]:
    """A figure and its axes, row by row; of a size in inches each. No window and no state of pyplot is touched: a
    notebook shows the figure, ``figure.savefig(path)`` writes it. ModuleNotFoundError, with what to install, if
    matplotlib is missing.
    """
    made = _picture()(figsize=(width * columns, height * rows), layout="constrained")
    axes = made.subplots(rows, columns, squeeze=False)
    return made, list(axes.flat)


def finish(made: Any, path: str | bytes | os.PathLike | None) -> Any:
    """The figure, written to ``path`` if there is one."""
    if path is not None:
        made.savefig(checked_path("plot", "path", path), dpi=120)
    return made


def curves(history: Mapping[str, Sequence[float]], epochs: Sequence[int], best: tuple[int, str] | None) -> Any:
    """Values of epochs, a panel for each: training against validation. ``best``: an epoch to mark, and why."""
    names = [name for name in history if not (name.startswith("val_") and name[4:] in history)]
    names.sort(key=lambda name: name == "learning_rate")
    columns = min(3, len(names))
    made, axes = figure(-(-len(names) // columns), columns)
    for axis in axes[len(names) :]:
        axis.remove()
    for name, axis in zip(names, axes, strict=False):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            values = history.get(key)
            if values is None:
                continue
            at = _places(epochs, len(values))
            axis.plot(at, values, label=label, marker="o" if len(values) < 2 else None)
        if best is not None:
            axis.axvline(best[0] + 1, color="grey", linestyle=":", label=best[1])
        if name == "learning_rate":
            axis.set_yscale("log")
        elif best is not None or f"val_{name}" in history:
            axis.legend()
        axis.set_title(name)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
    return made


def range_test(
    rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, suggestion: float | None
) -> Any:
    """Losses by learning rate, on a scale of powers of ten, with the rate that is suggested."""
    made, (axis,) = figure()
    axis.plot(rates, losses, color="lightgrey", label="loss")
    axis.plot(rates, smoothed, label="smoothed")
    low, high = np.nanmin(smoothed), smoothed[0]
    if suggestion is not None:
        axis.axvline(suggestion, color="tab:red", linestyle="--", label=f"{suggestion:.2g}")
        axis.set_ylim(low - 0.1 * abs(high - low), high + 0.5 * abs(high - low))  # divergence would hide the rest
    axis.set_xscale("log")
    axis.set_xlabel("learning rate")
    axis.set_ylabel("loss")
    axis.legend()
    axis.grid(alpha=0.3)
    return made


def _places(epochs: Sequence[int], count: int) -> list[int]:
    """The epochs, from 1, of values that not every epoch has: those of validation every k-th one."""
    every = max(1, len(epochs) // count)
    return [epoch + 1 for epoch in list(epochs)[every - 1 :: every][:count]]


def variances(names: Sequence[str], panels: Mapping[str, Sequence[float]]) -> Any:
    """Variances layer by layer, a panel each, on a scale of powers of ten."""
    made, axes = figure(1, len(panels), max(4.5, 0.25 * len(names)))
    places = list(range(len(names)))
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        axis.plot(places, values, marker="o", markersize=3)
        if any(value > 0 for value in values):
            axis.set_yscale("log")
        axis.set_title(title)
        shown = places[:: max(1, len(places) // 20)]
        axis.set_xticks(shown, [names[place] for place in shown], rotation=90, fontsize=7)
        axis.grid(alpha=0.3)
    return made
