"""Adafactor."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from nnpy import ops
from nnpy.checks import flag, real
from nnpy.optimizers.base import Options, Rate
from nnpy.optimizers.composed import Composed, root_mean_square


class Adafactor(Composed):
    """Adam without momentum that keeps, of the squares of a matrix's gradient, the means of rows and columns alone
    (Shazeer & Stern, ICML 2018).

    With s = g^2 + epsilon_1, b = 1 - t^beta_2_decay: r = b * r + (1 - b) * mean of s over the last axis, c the same
    over the last but one, v = r * c / mean(r) (of vectors v = b * v + (1 - b) * s); u = g / sqrt(v), divided by
    max(1, rms(u) / clip_threshold); w -= max(epsilon_2, rms(w)) * rate * u. ``relative_step``: the rate is
    min(learning_rate, 1 / sqrt(t)), unless ``learning_rate`` is a schedule; without it learning_rate itself (in Keras
    it is the minimum in any case). ValueError unless beta_2_decay < 0, epsilon_1 and clip_threshold > 0 and
    epsilon_2 >= 0. The other arguments are those of ``Optimizer``.

    >>> model = nn.Sequential([nn.Input((2,)), nn.Dense(1)])
    >>> model.compile(nn.Adafactor(0.01), "mse")
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_2_decay: float = -0.8,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        clip_threshold: float = 1.0,
        relative_step: bool = True,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ):
        super().__init__(learning_rate, weight_decay, **options)
        self.beta_2_decay = real("Adafactor", "beta_2_decay", beta_2_decay, below=0)
        self.epsilon_1 = real("Adafactor", "epsilon_1", epsilon_1, above=0)
        self.epsilon_2 = real("Adafactor", "epsilon_2", epsilon_2, least=0)
        self.clip_threshold = real("Adafactor", "clip_threshold", clip_threshold, above=0)
        self.relative_step = flag("Adafactor", "relative_step", relative_step)

    rule_slots = ("rows", "columns", "velocity")
    rule_columns = ("rate", "decay", "keep", "fresh")

    def slot_shape(self, slot, parameter):
        shape = parameter.value.shape
        factored = {"rows": shape[:-1], "columns": (*shape[:-2], *shape[-1:])}
        if slot in factored:
            return factored[slot] if len(shape) > 1 else None
        return None if slot == "velocity" and len(shape) > 1 else shape

    def numbers(self, rates, first_step):
        t = np.arange(first_step + 1, first_step + 1 + len(rates), dtype=np.float64)
        if self.relative_step and not callable(self._learning_rate):
            rates = np.minimum(rates, 1 / np.sqrt(t))
        fresh = t**self.beta_2_decay
        return {"rate": rates, "keep": 1 - fresh, "fresh": fresh}

    def changed(self, weight, gradient, slots, numbers):
        squares = ops.square(gradient) + self.epsilon_1

        def mean(name, new):
            return slots[name] * numbers["keep"] + new * numbers["fresh"]

        if "rows" in slots:
            rows, columns = mean("rows", ops.mean(squares, -1)), mean("columns", ops.mean(squares, -2))
            states = {"rows": rows, "columns": columns}
            share = rows / ops.mean(rows, -1, keepdims=True)
            velocity = ops.expand_dims(share, -1) * ops.expand_dims(columns, -2)
        else:
            velocity = mean("velocity", squares)
            states = {"velocity": velocity}
        step = gradient / ops.sqrt(velocity)
        limit = ops.maximum(root_mean_square(step) / self.clip_threshold, 1.0)
        length = ops.maximum(root_mean_square(weight), self.epsilon_2) * numbers["rate"]
        return weight - step * (length / limit), states
