"""Lamb."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from nnpy import ops
from nnpy.checks import real
from nnpy.optimizers.base import Options, Rate
from nnpy.optimizers.composed import Composed


class Lamb(Composed):
    """Adam whose steps are, for each weight, of a length in proportion to its norm: for large batches (You et al.,
    ICLR 2020).

    m = beta_1 * m + (1 - beta_1) * g; v = beta_2 * v + (1 - beta_2) * g^2;
    u = m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon); w -= learning_rate * |w| / |u| * u, without the norms
    where one of them is 0. As in Keras, weight decay is no part of u. ValueError unless 0 <= beta_1, beta_2 < 1 and
    epsilon > 0. The other arguments are those of ``Optimizer``.

    >>> model = nn.Sequential([nn.Input((2,)), nn.Dense(1)])
    >>> model.compile(nn.Lamb(0.01, weight_decay=0.01), "mse")
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ):
        super().__init__(learning_rate, weight_decay, **options)
        self.beta_1 = real("Lamb", "beta_1", beta_1, least=0, below=1)
        self.beta_2 = real("Lamb", "beta_2", beta_2, least=0, below=1)
        self.epsilon = real("Lamb", "epsilon", epsilon, above=0)

    rule_slots = ("momentum", "velocity")
    rule_columns = ("rate", "decay", "first", "second")

    def numbers(self, rates, first_step):
        t = np.arange(first_step + 1, first_step + 1 + len(rates), dtype=np.float64)
        return {"first": 1 / (1 - self.beta_1**t), "second": 1 / (1 - self.beta_2**t)}

    def changed(self, weight, gradient, slots, numbers):
        momentum, velocity = slots["momentum"], slots["velocity"]
        m = momentum + (gradient - momentum) * (1 - self.beta_1)
        v = velocity + (ops.square(gradient) - velocity) * (1 - self.beta_2)
        step = m * numbers["first"] / (ops.sqrt(v * numbers["second"]) + self.epsilon)
        norms = [ops.sqrt(ops.sum(ops.square(x))) for x in (weight, step)]
        ratio = ops.where(ops.minimum(*norms) > 0.0, norms[0] / norms[1], 1.0)
        return weight - step * (ratio * numbers["rate"]), {"momentum": m, "velocity": v}
