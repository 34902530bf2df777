"""Adam and AdamW."""

from __future__ import annotations

from nncore import Step
from nnpy.checks import real
from nnpy.optimizers.base import Optimizer, Rate


class Adam(Optimizer):
    """Adam (Kingma & Ba, ICLR 2015): steps by the running mean of gradients over the root of that of their squares.

    As in Keras, ``epsilon`` is added to the root before bias correction (the paper's "epsilon hat"). ValueError unless
    0 <= beta_1, beta_2 < 1 and epsilon > 0. The other arguments are those of ``Optimizer``.
    """

    slot_names = ("momentum", "velocity")

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        *,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
    ):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, name)
        kind = type(self).__name__
        self.beta_1 = real(kind, "beta_1", beta_1, least=0, below=1)
        self.beta_2 = real(kind, "beta_2", beta_2, least=0, below=1)
        self.epsilon = real(kind, "epsilon", epsilon, above=0)

    def update(self, *, slots, **arguments):
        arguments |= {"m": slots["momentum"], "v": slots["velocity"]}
        arguments |= {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return dict(kernel="adam", weight_decay=self.weight_decay or 0.0, **arguments)

    def prepare(self, rule, state):
        return dict(
            kernel="adam_prepare", rule=rule, state=state, beta_1=self.beta_1, beta_2=self.beta_2,
            epsilon=self.epsilon, weight_decay=self.weight_decay or 0.0,
        )  # fmt: skip

    def fused(self, *, w, slots, rule):
        return Step("adam", p=w, q=slots["momentum"], r=slots["velocity"], rule=rule)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019)."""

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        *,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
    ):
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, weight_decay=weight_decay, clipnorm=clipnorm, clipvalue=clipvalue,
            global_clipnorm=global_clipnorm, name=name,
        )  # fmt: skip
