"""Adam and its kin: AdamW, Adamax, Nadam."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from nnpy.checks import flag, real
from nnpy.optimizers.base import Optimizer, Options, Rate


class _Moments(Optimizer):
    """Of running means of gradients and of their squares or sizes. ValueError unless 0 <= beta_1, beta_2 < 1 and
    epsilon > 0."""

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
        kind = type(self).__name__
        self.beta_1 = real(kind, "beta_1", beta_1, least=0, below=1)
        self.beta_2 = real(kind, "beta_2", beta_2, least=0, below=1)
        self.epsilon = real(kind, "epsilon", epsilon, above=0)

    def numbers(self, rates, first_step):
        t = np.arange(first_step + 1, first_step + 1 + len(rates), dtype=np.float64)
        return {"new_1": 1 - self.beta_1, "new_2": 1 - self.beta_2, "epsilon": self.epsilon, **self._of(rates, t)}

    def _of(self, rates: np.ndarray, t: np.ndarray) -> dict[str, np.ndarray]:
        """The columns that depend on the rate and on the number of the step, from 1 on."""
        return {"alpha": rates * np.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)}


class Adam(_Moments):
    """Steps by the running mean of gradients over the root of that of their squares (Kingma & Ba, ICLR 2015).

    m = beta_1 * m + (1 - beta_1) * g; v = beta_2 * v + (1 - beta_2) * g^2; w -= learning_rate * sqrt(1 - beta_2^t) /
    (1 - beta_1^t) * m / (sqrt(v) + epsilon): as in Keras ``epsilon`` is added to the root before bias correction (the
    paper's "epsilon hat"). ``amsgrad``: by the largest v so far (Reddi, Kale & Kumar, ICLR 2018). ValueError unless
    0 <= beta_1, beta_2 < 1 and epsilon > 0. The other arguments are those of ``Optimizer``.

    >>> model = nn.Sequential([nn.Input((2,)), nn.Dense(1)])
    >>> model.compile(nn.Adam(3e-3, global_clipnorm=1.0), "mse")
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay, **options)
        self.amsgrad = flag(type(self).__name__, "amsgrad", amsgrad)

    @property
    def rule(self):
        return "amsgrad" if self.amsgrad else "adam"


class AdamW(Adam):
    """Adam with decoupled weight decay: w -= learning_rate * weight_decay * w besides (Loshchilov & Hutter, ICLR
    2019).

    >>> model = nn.Sequential([nn.Input((2,)), nn.Dense(1)])
    >>> model.compile(nn.AdamW(3e-3, weight_decay=0.01), "mse")
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Unpack[Options],
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, **options)


class Adamax(_Moments):
    """Adam whose steps are by the largest gradient, which fades (Kingma & Ba, ICLR 2015, section 7).

    m = beta_1 * m + (1 - beta_1) * g; u = max(beta_2 * u, |g|); w -= learning_rate / (1 - beta_1^t) * m / (u +
    epsilon). ValueError as ``Adam``.

    >>> model = nn.Sequential([nn.Input((2,)), nn.Dense(1)])
    >>> model.compile(nn.Adamax(2e-3), "mse")
    """

    @property
    def rule(self):
        return "adamax"

    def _of(self, rates, t):
        return {"alpha": rates / (1 - self.beta_1**t), "keep": np.full(len(t), self.beta_2)}


_FADES = 1.0 - 0.5 * 0.96 ** np.arange(1.0, 1001.0)  # then 1, in float64
_FADED = np.cumprod(_FADES)


class Nadam(_Moments):
    """Adam with Nesterov's momentum (Dozat, ICLR workshop 2016).

    With u_t = beta_1 * (1 - 0.96^t / 2), U_t their product and m, v as in ``Adam``: w -= learning_rate *
    (u_{t+1} * m / (1 - U_{t+1}) + (1 - u_t) * g / (1 - U_t)) / (sqrt(v / (1 - beta_2^t)) + epsilon). ValueError as
    ``Adam``.

    >>> model = nn.Sequential([nn.Input((2,)), nn.Dense(1)])
    >>> model.compile(nn.Nadam(2e-3), "mse")
    """

    @property
    def rule(self):
        return "nadam"

    def _of(self, rates, t):
        place = np.minimum(t.astype(np.int64), len(_FADED)) - 1
        after = np.minimum(place + 1, len(_FADED) - 1)
        now, then = self.beta_1 * _FADES[place], self.beta_1 * _FADES[after]
        product, product_then = self.beta_1**t * _FADED[place], self.beta_1 ** (t + 1) * _FADED[after]
        root = np.sqrt(1 - self.beta_2**t)
        return {
            "alpha": rates * root * then / (1 - product_then), "beta": rates * root * (1 - now) / (1 - product),
            "epsilon": self.epsilon * root,
        }  # fmt: skip
