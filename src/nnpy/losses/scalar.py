"""A loss of a scalar Python function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnpy import forms, ops
from nnpy.checks import scalar_function, shown
from nnpy.losses.base import Loss
from nnpy.losses.functions import ALIASES, CLASSES
from nnpy.ops.scalar import custom_pairs
from nnpy.registry import plain

Scalar = Callable[[float, float], float]
#: by name, what ``custom`` made: a file has no code, only the name
CUSTOM: dict[str, CustomLoss] = {}


class CustomLoss(Loss):
    """The mean over a row's outputs of f(y_true, y_pred), which Numba compiles when a step that uses it is."""

    made_by_name = False

    def __init__(self, forward: Scalar, derivative: Scalar, reduction: str | None, name: str):
        super().__init__(name, reduction)
        self.forward, self.derivative = forward, derivative

    def call(self, y_true, y_pred):
        return ops.mean(custom_pairs(y_true, y_pred, self.forward, self.derivative), -1)

    def get_config(self) -> dict[str, Any]:
        """Its name and reduction: code is not written to files."""
        if CUSTOM.get(self.name) is not self:
            raise TypeError(f"loss {self.name}: to be saved it needs a name of its own: custom(f, ..., name=...)")
        return {"name": self.name, "reduction": self.reduction}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CustomLoss:
        forms.check(cls.__name__, config, {"name": str, "reduction": str})
        name = config["name"]
        if name not in CUSTOM:
            raise ValueError(f"unknown custom loss {name!r}; call losses.custom(f, derivative, name={name!r}) first")
        made = CUSTOM[name]
        if made.reduction != config["reduction"]:
            raise ValueError(
                f"custom loss {name!r}: expected reduction={config['reduction']!r}, made again with {made.reduction!r}"
            )
        return made

    def __str__(self) -> str:
        return self.name


def custom(
    f: Scalar,
    derivative: Scalar | None = None,
    reduction: str | None = "sum_over_batch_size",
    name: str | None = None,
) -> CustomLoss:
    """A loss of a scalar Python function f(y_true, y_pred) that Numba can compile, the mean over a row's outputs: a
    kernel in the step, no Python at run time; kernels are kept on disk.

    ``derivative(y_true, y_pred)``, that of f by y_pred, is required: it is never guessed. ``name`` (by default the
    function's): what a saved model calls it; make it again under that name before loading. TypeError for what is not a
    function of two numbers, ValueError for the name of another loss.

    >>> def squared(y_true, y_pred):
    ...     return (y_pred - y_true) ** 2
    >>> loss = custom(squared, lambda y_true, y_pred: 2 * (y_pred - y_true))
    >>> loss([[0.0, 1.0]], [[3.0, 1.0]])
    4.5
    """
    what = getattr(f, "__name__", "") if name is None else name
    title = f"losses.custom({what or shown(f)})"
    names = ["y_true", "y_pred"]
    scalar_function(f"{title}: expected the function", f, names)
    if derivative is None:
        raise TypeError(f"{title}: expected its derivative by y_pred, of the same arguments: custom(f, derivative)")
    scalar_function(f"{title}: expected the derivative", derivative, names)
    made = CustomLoss(f, derivative, reduction, what)
    taken = plain(what) in ALIASES or plain(what) in {plain(kind.__name__) for kind in CLASSES.values()}
    if name is not None and taken:
        raise ValueError(f"{title}: {name!r} is the name of another loss")
    if what.isidentifier() and not taken:
        CUSTOM[what] = made
    return made
