"""Stochastic gradient descent."""

from __future__ import annotations

from nncore import Step
from nnpy.checks import flag, real
from nnpy.optimizers.base import Optimizer, Rate


class SGD(Optimizer):
    """w -= learning_rate * g; with momentum v = momentum * v - learning_rate * g, w += v.

    ``nesterov``: w += momentum * v - learning_rate * g (Sutskever et al., ICML 2013). ValueError unless
    0 <= momentum <= 1. The other arguments are those of ``Optimizer``.
    """

    slot_names = ("momentum",)

    def __init__(
        self,
        learning_rate: Rate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
    ):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, name)
        self.momentum = real("SGD", "momentum", momentum, least=0, most=1)
        self.nesterov = flag("SGD", "nesterov", nesterov)

    def used_slots(self):
        return self.slot_names if self.momentum else ()

    def update(self, *, slots, **arguments):
        velocity = {"v": slots["momentum"]} if self.momentum else {}
        arguments |= velocity | {"nesterov": self.nesterov, "momentum": self.momentum}
        return dict(kernel="sgd", weight_decay=self.weight_decay or 0.0, **arguments)

    def prepare(self, rule, state):
        return dict(
            kernel="sgd_prepare", rule=rule, state=state, nesterov=self.nesterov,
            momentum=self.momentum, weight_decay=self.weight_decay or 0.0,
        )  # fmt: skip

    def fused(self, *, w, slots, rule):
        return Step("sgd", p=w, q=slots.get("momentum"), rule=rule)
