"""A metric of a scalar Python function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnpy import forms, ops
from nnpy.checks import scalar_function, shown
from nnpy.metrics.base import ALIASES, MeanMetric
from nnpy.ops.scalar import custom_pairs
from nnpy.registry import is_known, plain

#: by name, what ``custom`` made: a file has no code, only the name
CUSTOM: dict[str, CustomMetric] = {}


class CustomMetric(MeanMetric):
    """The mean over all rows and outputs of f(y_true, y_pred), which Numba compiles when a step that uses it is."""

    made_by_name = False

    def __init__(self, function: Callable[[float, float], float], direction: str | None, name: str):
        super().__init__(name)
        self.function, self.direction, self._known_as = function, direction, name

    def call(self, y_true, y_pred):
        self._expect(y_true, "real", "of the output's shape")
        return ops.mean(custom_pairs(y_true, y_pred, self.function), -1)

    def get_config(self) -> dict[str, Any]:
        """Its name: code is not written to files."""
        if CUSTOM.get(self._known_as) is None or CUSTOM[self._known_as].function is not self.function:
            raise TypeError(f"metric {self.name}: to be saved it needs a name of its own: custom(f, name=...)")
        return {"name": self._known_as}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CustomMetric:
        forms.check(cls.__name__, config, {"name": str})
        name = config["name"]
        if name not in CUSTOM:
            raise ValueError(f"unknown custom metric {name!r}; call metrics.custom(f, name={name!r}) first")
        return CUSTOM[name]

    def __repr__(self) -> str:
        return f"<metric {self.name}>"


def custom(
    f: Callable[[float, float], float], direction: str | None = None, name: str | None = None
) -> CustomMetric:
    """A metric of a scalar Python function f(y_true, y_pred) that Numba can compile, the mean over all rows and
    outputs: a kernel in the step, no Python at run time. *Ours*; ``nn.losses.custom`` makes losses.

    ``direction``: "max" or "min", which is better; ``name`` (by default the function's): what logs and a saved model
    call it; make it again under that name before loading. TypeError for what is not a function of two numbers,
    ValueError for the name of another metric or another direction.

    >>> import nnpy as nn
    >>> def within_one(y_true, y_pred):
    ...     return 1.0 if abs(y_true - y_pred) <= 1 else 0.0
    >>> nn.metrics.custom(within_one, "max")([1, 2, 3, 4], [1.5, 2.5, 0, 4])
    0.75
    """
    what = getattr(f, "__name__", "") if name is None else name
    title = f"metrics.custom({what or shown(f)})"
    scalar_function(f"{title}: expected the function", f, ["y_true", "y_pred"])
    if direction not in (None, "max", "min"):
        raise ValueError(f"{title}: expected direction to be 'max', 'min' or None, got {shown(direction)}")
    made = CustomMetric(f, direction, what)
    taken = plain(what) in ALIASES or is_known("metric", what)
    if name is not None and taken:
        raise ValueError(f"{title}: {name!r} is the name of another metric")
    if what.isidentifier() and not taken:
        CUSTOM[what] = made
    return made
