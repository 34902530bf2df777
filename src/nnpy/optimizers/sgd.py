"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Unpack

from nnpy.checks import flag, real
from nnpy.optimizers.base import Optimizer, Options, Rate


class SGD(Optimizer):
    """w -= learning_rate * g; with momentum v = momentum * v - learning_rate * g, w += v.

    ``nesterov``: w += momentum * v - learning_rate * g (Sutskever et al., ICML 2013). ValueError unless
    0 <= momentum <= 1. The other arguments are those of ``Optimizer``.
    """

    def __init__(
        self,
        learning_rate: Rate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ):
        super().__init__(learning_rate, weight_decay, **options)
        self.momentum = real("SGD", "momentum", momentum, least=0, most=1)
        self.nesterov = flag("SGD", "nesterov", nesterov)

    @property
    def rule(self):
        return "sgd" if not self.momentum else "nesterov" if self.nesterov else "momentum"

    def numbers(self, rates, first_step):
        return {"keep": self.momentum}
