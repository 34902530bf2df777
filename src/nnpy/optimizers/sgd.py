"""Stochastic gradient descent, and Lion: steps by the gradient or its sign, and momentum."""

from __future__ import annotations

from typing import Unpack

from nnpy.checks import flag, real
from nnpy.optimizers.base import Optimizer, Options, Rate


class SGD(Optimizer):
    """w -= learning_rate * g; with momentum v = momentum * v - learning_rate * g, w += v (Polyak 1964).

    ``nesterov``: w += momentum * v - learning_rate * g (Sutskever et al., ICML 2013). ValueError unless
    0 <= momentum <= 1. The other arguments are those of ``Optimizer``.

    >>> model = nn.Sequential([nn.Input((2,)), nn.Dense(1)])
    >>> model.compile(nn.SGD(0.05, momentum=0.9, nesterov=True), "mse")
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


class Lion(Optimizer):
    """Steps by the sign of a mixture of momentum and gradient (Chen et al., "Symbolic Discovery of Optimization
    Algorithms", NeurIPS 2023): of one slot, and with steps of one size, so that rates are 3 to 10 times less than
    Adam's.

    w -= learning_rate * sign(beta_1 * m + (1 - beta_1) * g); m = beta_2 * m + (1 - beta_2) * g. ValueError unless
    0 < beta_1 <= 1 and 0 <= beta_2 <= 1. The other arguments are those of ``Optimizer``.

    >>> model = nn.Sequential([nn.Input((2,)), nn.Dense(1)])
    >>> model.compile(nn.Lion(1e-4, weight_decay=0.1), "mse")
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ):
        super().__init__(learning_rate, weight_decay, **options)
        self.beta_1 = real("Lion", "beta_1", beta_1, above=0, most=1)
        self.beta_2 = real("Lion", "beta_2", beta_2, least=0, most=1)

    @property
    def rule(self):
        return "lion"

    def numbers(self, rates, first_step):
        return {"new_1": 1 - self.beta_1, "new_2": 1 - self.beta_2}
