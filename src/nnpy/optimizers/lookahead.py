"""Lookahead."""

from __future__ import annotations

from typing import Any

import nncore
from nnpy.checks import integer, real
from nnpy.graph import Variable
from nnpy.ops.effects import assign
from nnpy.ops.updates import sweep, then
from nnpy.optimizers.base import Optimizer
from nnpy.registry import find


class Lookahead(Optimizer):
    """(*ours*) Slow weights that follow those of another optimizer (Zhang et al., NeurIPS 2019).

    After each ``sync_period`` updates slow += slow_step_size * (w - slow), w = slow; slow begins as w. All else (the
    learning rate, decay, clipping, averages, accumulation) is that of ``optimizer``, an object or a name, whose
    arguments may be set here too. ValueError unless sync_period >= 1 and 0 < slow_step_size <= 1,
    and for an optimizer that keeps such weights itself (ScheduleFreeAdamW).

    >>> model = nn.Sequential([nn.Input((2,)), nn.Dense(1)])
    >>> model.compile(nn.Lookahead(nn.SGD(0.1, momentum=0.9), sync_period=5), "mse")
    """

    def __init__(
        self,
        optimizer: Optimizer | str,
        sync_period: int = 6,
        slow_step_size: float = 0.5,
        *,
        name: str | None = None,
    ):
        self.optimizer = find(Optimizer, optimizer)
        if type(self.optimizer).after_run is not Optimizer.after_run or isinstance(self.optimizer, Lookahead):
            raise ValueError(f"Lookahead: expected an optimizer without weights of its own, got {self.optimizer}")
        self.sync_period = integer("Lookahead", "sync_period", sync_period, least=1)
        self.slow_step_size = real("Lookahead", "slow_step_size", slow_step_size, above=0, most=1)
        self._prepare(name)

    _at_first = ("optimizer", "sync_period")
    _at_the_end = True

    @property
    def changes(self) -> int:
        return self._changes + self.optimizer.changes

    @property
    def compiled(self):
        return "lookahead", self.sync_period, self.slow_step_size, self.optimizer.compiled

    @property
    def kept(self):
        return (*self.optimizer.kept, "slow")

    def slots(self, store):
        known = self._slots.setdefault(store, {})
        if "slow" not in known:
            known["slow"] = nncore.aligned(store.size, store.dtype)
        return {**self.optimizer.slots(store), **known}

    def forget(self, store):
        super().forget(store)
        self.optimizer.forget(store)

    def begin(self, name, slot, store):
        self.optimizer.begin(name, slot, store)

    def join(self, store, parameters):
        parameters = list(parameters)
        for parameter in parameters:
            if parameter not in store.trained:  # it may be in the midst of a period
                store.view(self.slots(store)["slow"], parameter)[...] = parameter.value
        super().join(store, parameters)

    def updates(self, gradients, store, flat):
        parameters, slow = list(gradients), self.slots(store)["slow"]
        each = self.gradient_accumulation_steps or 1
        every = each * self.sync_period

        def follow():
            made = []
            for parameter in parameters:
                start = Variable(store.view(slow, parameter), f"{parameter.name}/slow", "slot")
                made.append(assign(parameter, start + (parameter - start) * self.slow_step_size))
            return made

        begin = sweep(parameters, self, store, slow, store.values, None, every, each - 1)
        return [begin, *self.optimizer.updates(gradients, store, flat), then(follow, every, every - 1)]

    def follow(self, training: Any) -> None:
        super().follow(training)
        self.optimizer.follow(training)


def _delegated(name: str) -> Any:
    def get(self: Lookahead) -> Any:
        return getattr(self.optimizer, name)

    def set_(self: Lookahead, value: Any) -> None:
        setattr(self.optimizer, name, value)

    return property(get, set_)


#: what is the other optimizer's: its settings, and what steps are made of
for _name in (
    "learning_rate", "weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema", "ema_momentum",
    "ema_overwrite_frequency", "gradient_accumulation_steps",
):  # fmt: skip
    setattr(Lookahead, _name, _delegated(_name))
for _name in (
    "blocks", "columns", "decays", "exclude_from_weight_decay", "last_rate", "leave_undecayed", "place", "rates",
    "rule", "schedule", "slot_shape",
):  # fmt: skip
    setattr(Lookahead, _name, property(_delegated(_name).fget))
