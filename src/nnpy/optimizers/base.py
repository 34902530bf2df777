"""Optimizer: what changes the parameters. It gives the ops that end a compiled step; the kernels are nncore's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

import nncore
from nncore import Step
from nncore.rules import RULES
from nnpy import ops
from nnpy.checks import real, shown
from nnpy.forms import within
from nnpy.graph import Node, Parameter, Tensor
from nnpy.ops.updates import clip_scale, update
from nnpy.parameters import Store
from nnpy.registry import Configurable, snake
from nnpy.schedules import Schedule
from nnpy.schedules import get as get_schedule

Rate: TypeAlias = float | Schedule | Callable[[int], float]


class Optimizer(Configurable):
    """Base of optimizers.

    ``learning_rate``: a number, a schedule, or a function of the step; ``lr`` is the same. All arguments may be set as
    attributes at any time, also by callbacks: the next step goes by them.
    ``weight_decay``: each step also takes learning_rate * weight_decay * w from every weight w (decoupled; Loshchilov &
    Hutter, ICLR 2019). At most one kind of clipping: ``global_clipnorm`` scales all gradients so that the norm of them
    all is at most that (Pascanu et al., ICML 2013), ``clipnorm`` each parameter's on its own, ``clipvalue`` cuts each
    element to [-clipvalue, clipvalue]. Raises TypeError or ValueError for arguments out of range.
    """

    group = "optimizer"

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        *,
        name: str | None = None,
    ):
        kind = type(self).__name__
        self.learning_rate = learning_rate
        self.weight_decay = None if weight_decay is None else real(kind, "weight_decay", weight_decay, least=0)
        self.clipnorm = None if clipnorm is None else real(kind, "clipnorm", clipnorm, above=0)
        self.clipvalue = None if clipvalue is None else real(kind, "clipvalue", clipvalue, above=0)
        self.global_clipnorm = (
            None if global_clipnorm is None else real(kind, "global_clipnorm", global_clipnorm, above=0)
        )
        given = [n for n in ("clipnorm", "clipvalue", "global_clipnorm") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"{kind}: expected at most one kind of clipping, got {' and '.join(given)}")
        self.name = name or snake(kind)
        self.changes = 0  # how often attributes were set
        self._slots: WeakKeyDictionary[Store, dict[str, np.ndarray]] = WeakKeyDictionary()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if not name.startswith("_"):
            self.__dict__["changes"] = self.__dict__.get("changes", 0) + 1

    def _argument(self, name: str, value: Any) -> Any:
        return value if name == "learning_rate" else self._anew(name, value)

    @property
    def compiled(self) -> tuple[Any, ...]:
        """What steps are compiled of; all else is in the columns."""
        return self.rule, self.clipnorm, self.clipvalue, self.global_clipnorm

    @property
    def lr(self) -> Rate:
        return self.learning_rate

    @lr.setter
    def lr(self, value: Any) -> None:
        self.learning_rate = value

    @property
    def learning_rate(self) -> Rate:
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        kind = type(self).__name__
        if isinstance(value, dict):
            with within(f"{type(self).__name__}: learning_rate"):
                value = get_schedule(value)
        if isinstance(value, type | str):
            expected = "learning_rate to be a number, a schedule or a function"
            raise TypeError(f"{kind}: expected {expected}, got {shown(value)}")
        self._learning_rate = value if callable(value) else real(kind, "learning_rate", value, least=0)

    def rates(self, first_step: int, count: int) -> np.ndarray:
        """The learning rates of ``count`` steps from ``first_step`` on, float64.

        Raises ValueError if one is not finite and >= 0."""
        rate = self._learning_rate
        if isinstance(rate, Schedule):
            rates = rate.rates(first_step, count)
        elif callable(rate):
            rates = np.array([rate(step) for step in range(first_step, first_step + count)], np.float64)
        else:
            return np.full(count, rate)
        bad = ~(np.isfinite(rates) & (rates >= 0))
        if bad.any():
            place = int(np.argmax(bad))
            raise ValueError(
                f"{type(self).__name__}: expected learning_rate to be finite and >= 0, got {rates[place]} "
                f"at step {first_step + place}"
            )
        return rates

    @property
    def rule(self) -> str:
        """The row of ``nncore.rules`` that its settings ask for."""
        raise NotImplementedError(f"{type(self).__name__}: an optimizer must define rule")

    def numbers(self, rates: np.ndarray, first_step: int) -> dict[str, Any]:
        """Columns of the rule beside rate and decay, by name: a number, or one for each step from ``first_step`` on, of
        which ``rates`` are the learning rates."""
        return {}

    def columns(self, first_step: int, count: int) -> np.ndarray:
        """The columns of the rule, float64 [count, columns], for ``count`` steps from ``first_step`` on: what the
        state's cell RATES points to. Raises ValueError as ``rates``."""
        rates = self.rates(first_step, count)
        found = {"rate": rates, "decay": rates * (self.weight_decay or 0.0), **self.numbers(rates, first_step)}
        table = np.empty((count, len(RULES[self.rule].columns)))
        for position, name in enumerate(RULES[self.rule].columns):
            table[:, position] = found[name]
        return table

    def slots(self, store: Store) -> dict[str, np.ndarray]:
        """The optimizer's state for a store, by name: flat arrays of the store's layout, ``initial`` at first."""
        known = self._slots.setdefault(store, {})
        for name in RULES[self.rule].slots:
            if name not in known:  # of the first step, or the first under another rule
                known[name] = nncore.aligned(store.size, store.dtype)
                if self.initial:
                    known[name][:] = self.initial
        return {name: known[name] for name in RULES[self.rule].slots}

    @property
    def initial(self) -> float:
        """What the slots hold before the first step."""
        return 0.0

    def effects(self, gradients: dict[Parameter, Tensor], store: Store) -> list[Node]:
        """The nodes that end a training step: gradients clipped, and every parameter of ``gradients`` updated."""
        if self.clipvalue is not None:
            gradients = {p: ops.clip(g, -self.clipvalue, self.clipvalue) for p, g in gradients.items()}
        scales: dict[Parameter, Tensor] = {}
        if self.clipnorm is not None:
            scales = {p: clip_scale({p: g}, self.clipnorm, store) for p, g in gradients.items()}
        elif self.global_clipnorm is not None and gradients:
            scales = dict.fromkeys(gradients, clip_scale(gradients, self.global_clipnorm, store))
        return [update(p, g, self, store, scales.get(p)) for p, g in gradients.items()]

    def update(self, store: Store, first: int, last: int, state: np.ndarray) -> dict[str, Any]:
        """The arguments of the kernel update for a stretch of the flat buffers."""
        slots = {f"slot_{i}": flat[first:last] for i, flat in enumerate(self.slots(store).values())}
        flat = dict(w=store.values[first:last], g=store.gradients[first:last], count=last - first)
        return dict(rule=self.rule, state=state, **flat, **slots)

    def step(self, store: Store, parameter: Parameter, state: np.ndarray) -> Step:
        """The same for one parameter, as the last step of its gradient's kernel."""
        shape = (math.prod(parameter.value.shape[:-1]), *parameter.value.shape[-1:])
        slots = tuple(store.view(flat, parameter).reshape(shape) for flat in self.slots(store).values())
        return Step("update", rule=self.rule, p=parameter.value.reshape(shape), slots=slots, state=state)

    @property
    def clips(self) -> bool:
        return any(limit is not None for limit in (self.clipnorm, self.clipvalue, self.global_clipnorm))

