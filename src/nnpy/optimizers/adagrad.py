"""Adagrad and what came of it: by sums and means of squares of the gradient, which each weight has for itself."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from nnpy.checks import flag, real
from nnpy.optimizers.base import Optimizer, Options, Rate


class Adagrad(Optimizer):
    """Steps by the gradient over the root of the sum of all its squares (Duchi, Hazan & Singer, JMLR 2011).

    accumulator += g * g; w -= learning_rate * g / sqrt(accumulator + epsilon), as in Keras. ValueError unless
    initial_accumulator_value >= 0 and epsilon > 0. The other arguments are those of ``Optimizer``.

    >>> model = nn.Sequential([nn.Input((2,)), nn.Dense(1)])
    >>> model.compile(nn.Adagrad(0.01), "mse")
    """

    _at_first = ("initial_accumulator_value",)

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
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


class Adadelta(Optimizer):
    """Steps in the units of the weights: by the root of the mean square of the steps so far over that of the gradients
    (Zeiler, arXiv:1212.5701).

    a = rho * a + (1 - rho) * g^2; d = g * sqrt(s + epsilon) / sqrt(a + epsilon); s = rho * s + (1 - rho) * d^2;
    w -= learning_rate * d, as in Keras, whose default rate is slow: the paper's is 1. ValueError unless 0 <= rho < 1
    and epsilon > 0. The other arguments are those of ``Optimizer``.

    >>> model = nn.Sequential([nn.Input((2,)), nn.Dense(1)])
    >>> model.compile(nn.Adadelta(1.0), "mse")
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ):
        super().__init__(learning_rate, weight_decay, **options)
        self.rho = real("Adadelta", "rho", rho, least=0, below=1)
        self.epsilon = real("Adadelta", "epsilon", epsilon, above=0)

    @property
    def rule(self):
        return "adadelta"

    def numbers(self, rates, first_step):
        return {"new_2": 1 - self.rho, "epsilon": self.epsilon}


class RMSprop(Optimizer):
    """Steps by the gradient over the root of a running mean of its squares (Tieleman & Hinton, COURSERA lecture 6.5,
    2012).

    v = rho * v + (1 - rho) * g^2; w -= learning_rate * g / sqrt(v + epsilon), as in Keras. ``centered``: by the
    variance v - a^2, a = rho * a + (1 - rho) * g (Graves, arXiv:1308.0850; never below 0, where Keras may give NaN).
    With ``momentum`` m = momentum * m + the step; w -= m. ValueError unless 0 <= rho < 1, 0 <= momentum <= 1 and
    epsilon > 0. The other arguments are those of ``Optimizer``.

    >>> model = nn.Sequential([nn.Input((2,)), nn.Dense(1)])
    >>> model.compile(nn.RMSprop(1e-3, momentum=0.9, centered=True), "mse")
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ):
        super().__init__(learning_rate, weight_decay, **options)
        self.rho = real("RMSprop", "rho", rho, least=0, below=1)
        self.momentum = real("RMSprop", "momentum", momentum, least=0, most=1)
        self.epsilon = real("RMSprop", "epsilon", epsilon, above=0)
        self.centered = flag("RMSprop", "centered", centered)

    @property
    def rule(self):
        return ("centered_" if self.centered else "") + "rmsprop" + ("_momentum" if self.momentum else "")

    def numbers(self, rates, first_step):
        return {"new_2": 1 - self.rho, "epsilon": self.epsilon, "keep": self.momentum}


class Ftrl(Optimizer):
    """Follow the regularized leader, for sparse linear models: L1 makes weights exactly 0 (McMahan et al., "Ad Click
    Prediction: a View from the Trenches", KDD 2013).

    With p = -learning_rate_power and n the sum of all squares of gradients, from ``initial_accumulator_value`` on:
    z += g + 2 * l2_shrinkage * w - ((n + g^2)^p - n^p) / learning_rate * w; n += g^2;
    w = (clip(z, -l1, l1) - z) / (n^p / learning_rate + 2 * l2 + beta / learning_rate), as in Keras.
    ValueError unless learning_rate_power <= 0, the others are >= 0, and all rates > 0. The other arguments are those of
    ``Optimizer``.

    >>> model = nn.Sequential([nn.Input((2,)), nn.Dense(1, activation="sigmoid")])
    >>> model.compile(nn.Ftrl(0.1, l1_regularization_strength=0.01), "binary_crossentropy")
    """

    _at_first = ("initial_accumulator_value",)

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ):
        super().__init__(learning_rate, weight_decay, **options)
        self.learning_rate_power = real("Ftrl", "learning_rate_power", learning_rate_power, most=0)

        def least_0(name: str, value: float) -> float:
            return real("Ftrl", name, value, least=0)

        self.initial_accumulator_value = least_0("initial_accumulator_value", initial_accumulator_value)
        self.l1_regularization_strength = least_0("l1_regularization_strength", l1_regularization_strength)
        self.l2_regularization_strength = least_0("l2_regularization_strength", l2_regularization_strength)
        shrinkage = "l2_shrinkage_regularization_strength"
        self.l2_shrinkage_regularization_strength = least_0(shrinkage, l2_shrinkage_regularization_strength)
        self.beta = least_0("beta", beta)

    @property
    def rule(self):
        return "ftrl" if self.learning_rate_power == -0.5 else "ftrl_power"

    def begin(self, name, slot, store):
        if name == "accumulator":
            slot[:] = self.initial_accumulator_value

    def numbers(self, rates, first_step):
        if not (rates > 0).all():
            place = int(np.argmin(rates))
            expected = "Ftrl: expected learning_rate to be > 0, as it divides by it"
            raise ValueError(f"{expected}, got {rates[place]} at step {first_step + place}")
        return {
            "inverse": 1 / rates, "l1": self.l1_regularization_strength, "exponent": -self.learning_rate_power,
            # never 0: weights that never had a gradient would be 0 / 0
            "l2": np.maximum(2 * self.l2_regularization_strength + self.beta / rates, 1e-30),
            "pull": 2 * self.l2_shrinkage_regularization_strength,
        }  # fmt: skip
