"""ScheduleFreeAdamW."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack
from weakref import WeakKeyDictionary

import numpy as np

from nncore import Op, Program, new_state
from nncore.memory import LOCAL, RATES
from nncore.rules import RULES
from nnpy.checks import integer, real
from nnpy.graph import Parameter
from nnpy.optimizers.base import Optimizer, Options, Rate
from nnpy.parameters import Store

# The largest change of a weight, in its units, that may come of rounding alone; other instruction sets round otherwise.
_NEAR = {"float32": 1e-6, "float64": 1e-14}


class ScheduleFreeAdamW(Optimizer):
    """AdamW that needs no schedule, and no end of training that is known before: the average of the weights takes the
    place of both (Defazio et al., "The Road Less Scheduled", NeurIPS 2024).

    Gradients are taken at y = (1 - beta_1) * z + beta_1 * x; z -= rate * (g / (sqrt(v / (1 - beta_2^t)) + epsilon) +
    weight_decay * y), v = beta_2 * v + (1 - beta_2) * g^2; x += c * (z - x), where c is the share of rate^2 in the sum
    of all so far (1 / t, if the rate stays). In the first ``warmup_steps`` the rate rises to ``learning_rate`` in a
    straight line. As in the authors' code, and unlike Keras, the decay is part of the step of z, and steps of the
    warm-up weigh less.

    The weights of the model are x, the average, wherever they are seen: by ``predict``, ``evaluate``, ``get_weights``,
    files and callbacks; they are y while a stretch of steps runs, and alone there. (What the authors' code needs
    ``optimizer.train()`` and ``eval()`` for happens by itself.) Weights that are set between two steps are where x, y
    and z go on from. Moving statistics of BatchNormalization are those of y.

    ValueError unless 0 < beta_1 < 1, 0 <= beta_2 < 1 and epsilon > 0; for ``use_ema``, and for weights with a
    constraint, which would hold for y and not for x. The other arguments are those of ``Optimizer``.

    >>> model = nn.Sequential([nn.Input((2,)), nn.Dense(1)])
    >>> model.compile(nn.ScheduleFreeAdamW(0.0025, warmup_steps=100), "mse")
    """

    _at_first = ("beta_1",)

    def __init__(
        self,
        learning_rate: Rate = 0.0025,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        warmup_steps: int = 0,
        weight_decay: float | None = None,
        **options: Unpack[Options],
    ):
        super().__init__(learning_rate, weight_decay, **options)
        kind = "ScheduleFreeAdamW"
        if self.use_ema:
            raise ValueError(f"{kind}: expected use_ema=False, as its weights are an average, got True")
        self.beta_1 = real(kind, "beta_1", beta_1, above=0, below=1)
        self.beta_2 = real(kind, "beta_2", beta_2, least=0, below=1)
        self.epsilon = real(kind, "epsilon", epsilon, above=0)
        self.warmup_steps = integer(kind, "warmup_steps", warmup_steps, least=0)
        self._sums = (-1, 0, 0.0, 0.0)  # the changes, a step, the largest rate before it and the sum of the weights
        self._running: WeakKeyDictionary[Store, tuple[Parameter, ...]] = WeakKeyDictionary()
        self._swaps: WeakKeyDictionary[Store, dict[Any, Callable[[], Any]]] = WeakKeyDictionary()

    @property
    def rule(self):
        return "schedule_free"

    @property
    def kept(self):
        return (*super().kept, "taken")

    def begin(self, name, slot, store):
        if name in ("fast", "taken"):
            slot[:] = store.values

    def effects(self, gradients, store):
        if bound := [p.name for p in gradients if p.constraint is not None]:
            raise ValueError(f"ScheduleFreeAdamW: expected no constraints, as averages would not keep them: {bound[0]}")
        return super().effects(gradients, store)

    def numbers(self, rates, first_step):
        t = np.arange(first_step + 1, first_step + 1 + len(rates), dtype=np.float64)
        rates = self._warm(rates, first_step)
        root, share = np.sqrt(1 - self.beta_2**t), self._shares(rates, first_step)
        return {
            "alpha": rates * root, "decay": rates * (self.weight_decay or 0.0), "new_2": 1 - self.beta_2,
            "epsilon": self.epsilon * root, "mix": share, "pull": (1 - self.beta_1) * (1 - share),
        }  # fmt: skip

    def _warm(self, rates: np.ndarray, first_step: int) -> np.ndarray:
        steps = np.arange(first_step + 1, first_step + 1 + len(rates), dtype=np.float64)
        return rates * np.minimum(1.0, steps / max(1, self.warmup_steps))

    def _shares(self, rates: np.ndarray, first_step: int) -> np.ndarray:
        """Of each step's largest rate so far, squared, in the sum of these: all rates before count as they are now."""
        changes, step, top, total = self._sums
        if changes != self.changes or step > first_step:
            step, top, total = 0, 0.0, 0.0
        if step < first_step:
            before = self._warm(self.rates(step, first_step - step), step)
            tops = np.maximum.accumulate(np.append(top, before))[1:]
            top, total = tops[-1], np.cumsum(np.append(total, tops**2))[-1]
        tops = np.maximum.accumulate(np.append(top, rates))[1:]
        totals = np.cumsum(np.append(total, tops**2))[1:]
        self._sums = (self.changes, first_step, float(top), float(total))
        return np.divide(tops**2, totals, out=np.zeros_like(tops), where=totals > 0)

    def before_run(self, store, parameters):
        self._running[store] = tuple(p for p in parameters if p in store.trained)
        self._swap(store, "schedule_free_begin")

    def after_run(self, store):
        self._swap(store, "schedule_free_rest")

    def _swap(self, store: Store, rule: str) -> None:
        """Every weight that is trained, by a rule whose first number is what takes y to x, in units of z - y."""
        slots, made = self.slots(store), self._swaps.setdefault(store, {})
        key = rule, id(slots["fast"]), self._running[store]  # the array is held by what is made for it
        if key not in made:
            made[key] = self._made(store, rule, slots)
        made[key]()

    def _made(self, store: Store, rule: str, slots: dict[str, np.ndarray]) -> Callable[[], Any]:
        numbers = {"back": 1 - 1 / self.beta_1, "near": _NEAR[store.dtype.name]}
        state, table = new_state(), np.array([[numbers[name] for name in RULES[rule].columns]])
        state[RATES] = table.ctypes.data
        ops = [
            Op("update", rule=rule, dtype=store.dtype.name, w=store.values[first:last], g=store.gradients[first:last],
               count=last - first, slot_0=slots["fast"][first:last], slot_1=slots["taken"][first:last], state=state)
            for first, last in store.stretches(self._running[store])
        ]  # fmt: skip
        program = Program(ops, state)

        def run(table: np.ndarray = table) -> None:  # which the state only points to
            state[LOCAL] = 0
            program.run()

        return run
