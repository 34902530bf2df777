"""Adagrad."""

from __future__ import annotations

from typing import Unpack

from nnpy.checks import real
from nnpy.optimizers.base import Optimizer, Options, Rate


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan & Singer, JMLR 2011): steps by the gradient over the root of the sum of all its squares.

    accumulator += g * g; w -= learning_rate * g / sqrt(accumulator + epsilon), as in Keras. ValueError unless
    initial_accumulator_value >= 0 and epsilon > 0. The other arguments are those of ``Optimizer``.
    """

    _at_first = ("initial_accumulator_value",)

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        *,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ):
        super().__init__(learning_rate, weight_decay, **options)
        value = initial_accumulator_value
        self.initial_accumulator_value = real("Adagrad", "initial_accumulator_value", value, least=0)
        self.epsilon = real("Adagrad", "epsilon", epsilon, above=0)

    @property
    def rule(self):
        return "adagrad"

    def begin(self, name, slot, store):
        slot[:] = self.initial_accumulator_value

    def numbers(self, rates, first_step):
        return {"epsilon": self.epsilon}
