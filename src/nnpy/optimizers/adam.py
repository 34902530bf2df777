"""Adam and AdamW."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from nnpy.checks import real
from nnpy.optimizers.base import Optimizer, Options, Rate


class Adam(Optimizer):
    """Adam (Kingma & Ba, ICLR 2015): steps by the running mean of gradients over the root of that of their squares.

    As in Keras, ``epsilon`` is added to the root before bias correction (the paper's "epsilon hat"). ValueError unless
    0 <= beta_1, beta_2 < 1 and epsilon > 0. The other arguments are those of ``Optimizer``.
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        *,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ):
        super().__init__(learning_rate, weight_decay, **options)
        kind = type(self).__name__
        self.beta_1 = real(kind, "beta_1", beta_1, least=0, below=1)
        self.beta_2 = real(kind, "beta_2", beta_2, least=0, below=1)
        self.epsilon = real(kind, "epsilon", epsilon, above=0)

    @property
    def rule(self):
        return "adam"

    def numbers(self, rates, first_step):
        t = np.arange(first_step + 1, first_step + 1 + len(rates), dtype=np.float64)
        alpha = rates * np.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        return {"alpha": alpha, "new_1": 1 - self.beta_1, "new_2": 1 - self.beta_2, "epsilon": self.epsilon}


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019)."""

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Unpack[Options],
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay=weight_decay, **options)
