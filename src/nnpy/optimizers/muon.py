"""Muon."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np

from nnpy import ops
from nnpy.checks import flag, integer, optional, real, shown
from nnpy.graph import Parameter, Tensor
from nnpy.ops.updates import column, update
from nnpy.optimizers.base import Options, Rate
from nnpy.optimizers.composed import Composed


class Muon(Composed):
    """Momentum whose steps are made orthogonal, for matrices; Adam for all else (Jordan et al., 2024; scaled as by Liu
    et al., arXiv:2502.16982).

    Of matrices: m = momentum * m + g; x = g + momentum * m with ``nesterov``, else m; x / |x| goes through ``ns_steps``
    steps of Newton and Schulz, x = a * x + (b * x x' + c * (x x')^2) x, towards the nearest matrix whose singular
    values are 1; w -= learning_rate * x * sqrt(max(rows, columns)) * rms_rate (None: without these factors).
    Adam, at ``learning_rate * adam_lr_ratio``, takes all that are no matrices (kernels of convolutions too), those of
    layers in whose names one of ``exclude_layers`` (regular expressions) is found, and those of embeddings with
    ``exclude_embeddings``. The last layer is best among ``exclude_layers``. ``weight_decay`` is of matrices,
    ``adam_weight_decay`` of the others. Raises TypeError or ValueError for arguments out of range. The other arguments
    are those of ``Optimizer``.

    >>> model = nn.Sequential([nn.Input((2,)), nn.Dense(8), nn.Dense(1, name="last")])
    >>> model.compile(nn.Muon(0.01, exclude_layers=["last"]), "mse")
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        adam_beta_1: float = 0.9,
        adam_beta_2: float = 0.999,
        adam_weight_decay: float | None = 0.004,
        epsilon: float = 1e-7,
        weight_decay: float | None = 0.004,
        *,
        exclude_layers: Sequence[str] | None = None,
        exclude_embeddings: bool = True,
        muon_a: float = 3.4445,
        muon_b: float = -4.7750,
        muon_c: float = 2.0315,
        adam_lr_ratio: float = 1,
        momentum: float = 0.95,
        ns_steps: int = 5,
        nesterov: bool = True,
        rms_rate: float | None = 0.2,
        **options: Unpack[Options],
    ):
        super().__init__(learning_rate, weight_decay, **options)
        self.adam_beta_1 = real("Muon", "adam_beta_1", adam_beta_1, least=0, below=1)
        self.adam_beta_2 = real("Muon", "adam_beta_2", adam_beta_2, least=0, below=1)
        self.adam_weight_decay = optional(real, "Muon", "adam_weight_decay", adam_weight_decay, least=0)
        self.epsilon = real("Muon", "epsilon", epsilon, above=0)
        self.exclude_layers = _expressions(exclude_layers)
        self.exclude_embeddings = flag("Muon", "exclude_embeddings", exclude_embeddings)
        self.muon_a = real("Muon", "muon_a", muon_a)
        self.muon_b = real("Muon", "muon_b", muon_b)
        self.muon_c = real("Muon", "muon_c", muon_c)
        self.adam_lr_ratio = real("Muon", "adam_lr_ratio", adam_lr_ratio, least=0)
        self.momentum = real("Muon", "momentum", momentum, least=0, below=1)
        self.ns_steps = integer("Muon", "ns_steps", ns_steps, least=1)
        self.nesterov = flag("Muon", "nesterov", nesterov)
        self.rms_rate = optional(real, "Muon", "rms_rate", rms_rate, above=0)

    _at_first = ("exclude_layers", "exclude_embeddings")

    @property
    def rule(self):
        return "adam"

    def slot_shape(self, slot, parameter):
        return None if slot == "velocity" and self.takes(parameter) else parameter.value.shape

    def takes(self, parameter: Parameter) -> bool:
        """Whether a parameter's steps are made orthogonal."""
        owner = f"{parameter.name} {type(parameter.owner).__name__}"
        if parameter.rank != 2 or (self.exclude_embeddings and "embedding" in owner.lower()):
            return False
        return not any(re.search(expression, parameter.name) for expression in self.exclude_layers)

    @property
    def _decays_apart(self):
        return self.adam_weight_decay is not None and super()._decays_apart

    @property
    def blocks(self):
        return super().blocks | {"matrices": ("rate", "decay")}

    def numbers(self, rates, first_step):
        t = np.arange(first_step + 1, first_step + 1 + len(rates), dtype=np.float64)
        alpha = rates * self.adam_lr_ratio * np.sqrt(1 - self.adam_beta_2**t) / (1 - self.adam_beta_1**t)
        return {
            "alpha": alpha, "new_1": 1 - self.adam_beta_1, "new_2": 1 - self.adam_beta_2, "epsilon": self.epsilon,
        }  # fmt: skip

    def _values(self, block, found, steps):
        if block == "update":
            return {**found, "decay": found["rate"] * (self.adam_weight_decay or 0.0)}
        return found if block == "matrices" else super()._values(block, found, steps)

    def updates(self, gradients, store, flat):
        gradients, scales = self.clipped(gradients, store, flat)
        numbers = {name: column(self, "matrices", name) for name in ("rate", "decay")}
        made = []
        for parameter, gradient in gradients.items():
            scale = scales.get(parameter)
            if self.takes(parameter):
                gradient = gradient if scale is None else gradient * scale
                made += self._update(parameter, gradient, store, numbers)
            else:
                block = "undecayed" if self._decays_apart and not self.decays(parameter) else "update"
                made.append(update(parameter, gradient, self, store, flat, scale, block))
        return made

    def changed(self, weight, gradient, slots, numbers):
        momentum = slots["momentum"] * self.momentum + gradient
        step = self._orthogonal(gradient + momentum * self.momentum if self.nesterov else momentum)
        if self.rms_rate is not None:
            step = step * (float(np.sqrt(max(weight.shape))) * self.rms_rate)
        return weight - step * numbers["rate"], {"momentum": momentum}

    def _orthogonal(self, x: Tensor) -> Tensor:
        """Towards the matrix of the same singular vectors whose singular values are 1."""
        tall = x.shape[0] > x.shape[1]  # type: ignore[operator]
        x = ops.transpose(x) if tall else x
        x = x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7)
        for _ in range(self.ns_steps):
            product = x @ ops.transpose(x)
            x = x * self.muon_a + (product * self.muon_b + product @ product * self.muon_c) @ x
        return ops.transpose(x) if tall else x


def _expressions(value: Any) -> list[str]:
    """A list of regular expressions. TypeError, ValueError for anything else."""
    if value is None:
        return []
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"Muon: expected exclude_layers to be a list of strings, got {shown(value)}")
    for item in value:
        try:
            re.compile(item)
        except re.error as error:
            expected = "Muon: expected exclude_layers to be regular expressions"
            raise ValueError(f"{expected}, got {item!r}: {error}") from error
    return list(value)
