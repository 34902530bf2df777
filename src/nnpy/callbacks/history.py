"""History: what every epoch of a fit came to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from nnpy.callbacks.base import Callback
from nnpy.checks import shown
from nnpy.files import write_whole


def _plain(value: Any) -> Any:
    """What callbacks put among the values, as JSON has it."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"History: cannot be written as JSON: {shown(value)}")


class History(Callback):
    """``history``: name -> a value for each epoch (``val_`` names: for each validated one); ``epoch``: their numbers.

    ``params``: ``epochs``, ``steps``, ``batch_size``, ``samples`` and the ``seed``. ``fit`` returns it; after an
    interrupted one it is ``model.history``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def get_state(self) -> dict[str, Any]:
        return {"history": {name: list(values) for name, values in self.history.items()}, "epoch": list(self.epoch)}

    def set_state(self, state: dict[str, Any]) -> None:
        self.history = {name: list(values) for name, values in state["history"].items()}
        self.epoch = list(state["epoch"])

    def to_dict(self) -> dict[str, Any]:
        return {"history": self.history, "epoch": self.epoch, "params": self.params}

    def save(self, path: str | bytes | os.PathLike) -> Path:
        """Write it as JSON, whole or not at all (NaN as JSON's usual extension ``NaN``; NumPy's numbers and arrays as
        numbers and lists). Returns the path; raises OSError where that fails, TypeError for what JSON cannot say."""
        text = json.dumps(self.to_dict(), indent=1, default=_plain)
        return write_whole(path, lambda file: file.write(text.encode() + b"\n"), "History")

    def plot(self, path: str | bytes | os.PathLike | None = None) -> Any:
        """The curves of all values, training against validation, the best epoch marked: a figure of matplotlib, which
        a notebook shows. ``path``: also written there (PNG, PDF, SVG by its ending).

        The best epoch is that of the smallest ``val_loss``, or ``loss``. Raises ValueError if there is no epoch,
        ModuleNotFoundError without matplotlib.
        """
        from nnpy import plots

        if not self.epoch or not self.history:
            raise ValueError("History: plot: expected at least one epoch, there is none")
        name = next((name for name in ("val_loss", "loss") if len(self.history.get(name, ())) == len(self.epoch)), None)
        best = None
        if name is not None and np.isfinite(self.history[name]).any():
            best = (self.epoch[int(np.nanargmin(self.history[name]))], f"best {name}")
        return plots.finish(plots.curves(self.history, self.epoch, best), path)

    def __getstate__(self) -> dict[str, Any]:
        """Copies hold the numbers, not the model."""
        return {**vars(self), "model": None}

    def __repr__(self) -> str:
        return f"<History {len(self.epoch)} epochs: {', '.join(self.history)}>"
