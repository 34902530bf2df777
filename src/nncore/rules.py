"""What optimizers do to a weight: one row for each rule, of which ``generate.py`` makes the vector code when the wheel
is built, for the kernel ``update`` over flat buffers and for the step of that name behind a weight gradient.

A rule is a sequence of assignments to the weight w and to its slots, of expressions of w, the gradient g, the slots and
the columns: what is the same for all weights in a step. An assignment sees the values of those before it. Python fills
the columns, float64 [steps, columns], for many steps at once; the state's cell RATES has their address.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from nncore.expr import Expr, evaluate, over_root, symbol

MOST_SLOTS = 4


@dataclass(frozen=True)
class Rule:
    """``slots``: arrays like the weights that the optimizer keeps; ``columns``: numbers of a step; ``assignments``:
    (name of w or a slot, its new value), in order."""

    name: str
    slots: tuple[str, ...]
    columns: tuple[str, ...]
    assignments: tuple[tuple[str, Expr], ...]

    def apply(self, columns, g, *arrays, dtype="float64"):
        """The new w and slots from ``arrays``, w and the slots, and the gradient: by NumPy, in ``dtype``."""
        import numpy as np  # not needed where modules are built of the rules

        values = dict(zip(self.columns, columns, strict=True)) | {"g": g}
        values |= dict(zip(("w", *self.slots), arrays, strict=True))
        for name, value in self.assignments:
            values[name] = np.broadcast_to(evaluate(value, dtype, **values), np.shape(values[name]))
        return [values[name] for name in ("w", *self.slots)]


RULES: dict[str, Rule] = {}


def rule(name: str, slots: str, columns: str, **assignments: Expr) -> None:
    RULES[name] = Rule(name, tuple(slots.split()), tuple(columns.split()), tuple(assignments.items()))


w, g, velocity, momentum, accumulator = (symbol(name) for name in ("w", "g", "velocity", "momentum", "accumulator"))
rate, decay, keep, alpha, new_1, new_2, epsilon, fresh, value = (
    symbol(name) for name in ("rate", "decay", "keep", "alpha", "new_1", "new_2", "epsilon", "fresh", "value")
)
decayed = w - w * decay  # decay: rate * weight_decay (Loshchilov and Hutter, 2019)

# ---- as Keras 3 has them ----
rule("sgd", "", "rate decay", w=decayed - g * rate)
rule("momentum", "momentum", "rate decay keep", momentum=momentum * keep - g * rate, w=decayed + momentum)
# looks ahead (Sutskever and others, 2013)
rule("nesterov", "momentum", "rate decay keep", momentum=momentum * keep - g * rate,
     w=decayed + (momentum * keep - g * rate))  # fmt: skip
# alpha: the rate with bias correction; new_1 = 1 - beta_1 (Kingma and Ba, 2015)
rule("adam", "momentum velocity", "alpha decay new_1 new_2 epsilon",
     momentum=momentum + (g - momentum) * new_1, velocity=velocity + (g * g - velocity) * new_2,
     w=decayed - over_root(momentum * alpha, velocity, epsilon))  # fmt: skip
# Duchi, Hazan and Singer, 2011
rule("adagrad", "accumulator", "rate decay epsilon",
     accumulator=accumulator + g * g, w=decayed - over_root(g * rate, accumulator + epsilon, 0))  # fmt: skip

# ---- what steps do beside: averages and sums of weights and gradients, and a number of this step for the graph ----
rule("mix", "", "keep fresh", w=w * keep + g * fresh)
rule("column", "", "value", w=value)


def check_rule(what: str, name: str | None, slots: int) -> None:
    """ValueError for an unknown rule, TypeError for another number of slots than it has."""
    if name not in RULES:
        raise ValueError(f"{what}: unknown rule {name!r}; expected one of {', '.join(RULES)}")
    if slots != len(RULES[name].slots):
        raise TypeError(f"{what}: rule {name!r} has {len(RULES[name].slots)} slots, got {slots}")


def fingerprint() -> int:
    """Changes with the rules: the module that was made of them exports it, and one made of others is not loaded."""
    return zlib.crc32(repr(list(RULES.values())).encode()) & 0x7FFFFFFF
