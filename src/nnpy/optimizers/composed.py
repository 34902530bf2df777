"""Composed: the base of optimizers that need more of a parameter than an element: norms, means, products."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnpy import ops
from nnpy.graph import Node, Parameter, Tensor, Variable
from nnpy.ops.effects import assign
from nnpy.ops.updates import column
from nnpy.optimizers.base import Optimizer
from nnpy.parameters import Store


class Composed(Optimizer):
    """Its step is a graph of operations for each parameter, which runs after all gradients are there.

    ``rule_slots`` and ``rule_columns`` name what it keeps and the numbers that ``numbers`` gives; ``slot_shape`` may
    give slots other shapes. What it is made with counts from the next step on, as a step is compiled of it."""

    made_by_name = False

    _at_the_end = True

    @property
    def compiled(self) -> tuple[Any, ...]:
        given = {name: value for name, value in self._arguments().items() if name != "learning_rate"}
        return type(self), repr(given), self._decays_apart

    def updates(self, gradients: dict[Parameter, Tensor], store: Store, flat: np.ndarray) -> list[Node]:
        gradients, scales = self.clipped(gradients, store, flat)
        numbers = {name: column(self, "update", name) for name in self.rule_columns}
        made: list[Node] = []
        for parameter, gradient in gradients.items():
            if parameter in scales:
                gradient = ops.multiply(gradient, scales[parameter])
            made += self._update(parameter, gradient, store, numbers)
        return made

    def _update(
        self, parameter: Parameter, gradient: Tensor, store: Store, numbers: dict[str, Tensor]
    ) -> list[Node]:
        """A parameter and its slots become what ``changed`` makes of them."""
        slots = {
            name: Variable(store.view(flat, parameter, shape), f"{parameter.name}/{name}", "slot")
            for name, flat in self.slots(store).items()
            if name in self.rule_slots and (shape := self.slot_shape(name, parameter)) is not None
        }
        weight: Tensor = parameter
        if self.weight_decay is not None and self.decays(parameter):
            weight = parameter - parameter * numbers["decay"]
        new, states = self.changed(weight, gradient, slots, numbers)
        return [*(assign(slots[name], value) for name, value in states.items()), assign(parameter, new)]

    def changed(
        self, weight: Tensor, gradient: Tensor, slots: dict[str, Variable], numbers: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What becomes of a weight, which has decayed already, and of its slots, by name."""
        raise NotImplementedError(f"{type(self).__name__}: must define changed")


def root_mean_square(x: Tensor) -> Tensor:
    """Of all elements, of shape ()."""
    return ops.sqrt(ops.mean(ops.square(x)))
