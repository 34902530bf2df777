"""What optimizers do to a weight: one row for each rule, of which ``generate.py`` makes the vector code when the wheel
is built, for the kernel ``update`` over flat buffers and for the step of that name behind a weight gradient.

A rule is a sequence of assignments to the weight w and to its slots, of expressions of w, the gradient g, the slots and
the columns: what is the same for all weights in a step. An assignment sees the values of those before it. Python fills
the columns, float64 [steps, columns], for many steps at once; the state's cell RATES has their address.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from nncore.expr import (
    Expr,
    absolute,
    evaluate,
    largest,
    power,
    sign,
    smallest,
    sqrt,
    symbol,
    where,
)

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
            new = evaluate(value, dtype, **values)  # of a symbol alone it is the array itself, or a number
            values[name] = np.broadcast_to(new, np.shape(values[name])).copy()
        return [values[name] for name in ("w", *self.slots)]


RULES: dict[str, Rule] = {}


def rule(name: str, slots: str, columns: str, **assignments: Expr) -> None:
    RULES[name] = Rule(name, tuple(slots.split()), tuple(columns.split()), tuple(assignments.items()))


def _symbols(names: str) -> list[Expr]:
    return [symbol(name) for name in names.split()]


w, g = _symbols("w g")
momentum, velocity, accumulator, average, largest_yet, norm, squares, linear, fast = _symbols(
    "momentum velocity accumulator average largest_yet norm squares linear fast"
)
rate, decay, keep, alpha, beta, new_1, new_2, epsilon, fresh, value = _symbols(
    "rate decay keep alpha beta new_1 new_2 epsilon fresh value"
)
decayed = w - w * decay  # decay: rate * weight_decay (Loshchilov and Hutter, 2019)
moved = momentum + (g - momentum) * new_1  # running means; new_1 = 1 - beta_1
spread = velocity + (g * g - velocity) * new_2


# ---- as Keras 3 has them ----
rule("sgd", "", "rate decay", w=decayed - g * rate)
rule("momentum", "momentum", "rate decay keep", momentum=momentum * keep - g * rate, w=decayed + momentum)
# looks ahead (Sutskever and others, 2013)
rule("nesterov", "momentum", "rate decay keep", momentum=momentum * keep - g * rate,
     w=decayed + (momentum * keep - g * rate))  # fmt: skip
# alpha: the rate with bias correction (Kingma and Ba, 2015)
rule("adam", "momentum velocity", "alpha decay new_1 new_2 epsilon", momentum=moved, velocity=spread,
     w=decayed - momentum * alpha / (sqrt(velocity) + epsilon))  # fmt: skip
# by the largest second moment so far (Reddi, Kale and Kumar, 2018)
rule("amsgrad", "momentum velocity largest_yet", "alpha decay new_1 new_2 epsilon", momentum=moved, velocity=spread,
     largest_yet=largest(largest_yet, velocity),
     w=decayed - momentum * alpha / (sqrt(largest_yet) + epsilon))  # fmt: skip
# by the largest gradient, which fades (Kingma and Ba, 2015, section 7)
rule("adamax", "momentum norm", "alpha decay new_1 keep epsilon",
     momentum=moved, norm=largest(norm * keep, absolute(g)),
     w=decayed - momentum * alpha / (norm + epsilon))  # fmt: skip
# alpha and beta: the rate times the weights of the next momentum and of the gradient (Dozat, 2016)
rule("nadam", "momentum velocity", "alpha beta decay new_1 new_2 epsilon", momentum=moved, velocity=spread,
     w=decayed - (momentum * alpha + g * beta) / (sqrt(velocity) + epsilon))  # fmt: skip
# Duchi, Hazan and Singer, 2011
rule("adagrad", "accumulator", "rate decay epsilon",
     accumulator=accumulator + g * g, w=decayed - g * rate / sqrt(accumulator + epsilon))  # fmt: skip
# Tieleman and Hinton, 2012; centered: by the variance, which rounding must not take below 0 (Graves, 2013)
_mean = average + (g - average) * new_2
_variance = largest(0, velocity - average * average)
for _name, _slots, _means, _square in (
    ("rmsprop", "velocity", {}, velocity),
    ("centered_rmsprop", "velocity average", {"average": _mean}, _variance),
):
    _step, _columns = g * rate / sqrt(_square + epsilon), "rate decay new_2 epsilon"
    rule(_name, _slots, _columns, velocity=spread, **_means, w=decayed - _step)
    rule(f"{_name}_momentum", f"{_slots} momentum", f"{_columns} keep", velocity=spread, **_means,
         momentum=momentum * keep + _step, w=decayed - momentum)  # fmt: skip
# Zeiler, 2012; squares: the running mean of those of the steps before the rate
_step = g * sqrt(squares + epsilon) / sqrt(accumulator + epsilon)
rule("adadelta", "accumulator squares", "rate decay new_2 epsilon",
     accumulator=accumulator + (g * g - accumulator) * new_2,
     w=decayed - _step * rate, squares=squares + (_step * _step - squares) * new_2)  # fmt: skip
# the sign of a mixture (Chen and others, 2023)
rule("lion", "momentum", "rate decay new_1 new_2",
     w=decayed - sign(moved) * rate, momentum=momentum + (g - momentum) * new_2)  # fmt: skip
# McMahan and others, 2013. inverse: 1 / rate; l2: 2 * l2 + beta / rate; pull: 2 * l2_shrinkage; exponent: minus the
# power of the rate, of which the root is the usual one
inverse, l1, l2, pull, exponent = _symbols("inverse l1 l2 pull exponent")
for _name, _columns, _power in (
    ("ftrl", "", sqrt),
    ("ftrl_power", " exponent", lambda x: power(x, exponent)),
):
    _grown = accumulator + g * g
    rule(_name, "accumulator linear", "decay inverse l1 l2 pull" + _columns,
         linear=linear + (g + decayed * pull) - (_power(_grown) - _power(accumulator)) * inverse * decayed,
         accumulator=_grown,
         w=(largest(-l1, smallest(l1, linear)) - linear) / (_power(accumulator) * inverse + l2))  # fmt: skip
# Defazio and others, 2024: ``fast`` takes the steps, and w, where gradients are taken, is between it and its average,
# in which ``mix`` is the share of the newest. alpha: the rate with bias correction
mix = symbol("mix")
_step = g * alpha / (sqrt(velocity) + epsilon) + w * decay
rule("schedule_free", "fast velocity", "alpha decay new_2 epsilon mix pull", velocity=spread, fast=fast - _step,
     w=w + (fast - w) * mix - _step * pull)  # fmt: skip
# training begins, and rests: w is the average, by ``back`` from the place where gradients are taken, which is in
# ``taken``. What somebody else has made of w since is where it goes on from.
taken, back, near = _symbols("taken back near")
_mean = taken + (fast - taken) * back
_same = absolute(w - _mean) <= (absolute(taken) + absolute(fast)) * near
rule("schedule_free_begin", "fast taken", "back near", fast=where(_same, fast, w), w=where(_same, taken, w))
rule("schedule_free_rest", "fast taken", "back", taken=w, w=w + (fast - w) * back)

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
