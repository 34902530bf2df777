"""Optimizer: what changes the parameters. It gives the ops that end a compiled step; the kernels are nncore's."""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

import nncore
from nncore import Op, Ref, Step, kernels
from nncore.steps import RULE_REALS
from nnpy.checks import real, shown
from nnpy.graph import Parameter
from nnpy.parameters import Store
from nnpy.registry import Configurable, snake
from nnpy.schedules import Schedule
from nnpy.schedules import get as get_schedule

_CLIP_COLUMNS = 1024
_SHARE = 8192  # parameters that are worth a thread of an op

Rate: TypeAlias = float | Schedule | Callable[[int], float]


class Optimizer(Configurable):
    """Base of optimizers.

    ``learning_rate``: a number, a schedule, or a function of the step; may be set at any time.
    ``weight_decay``: each step also takes learning_rate * weight_decay * w from every weight w (decoupled; Loshchilov &
    Hutter, ICLR 2019). At most one kind of clipping: ``global_clipnorm`` scales all gradients so that the norm of them
    all is at most that (Pascanu et al., ICML 2013), ``clipnorm`` each parameter's on its own, ``clipvalue`` cuts each
    element to [-clipvalue, clipvalue]. Raises TypeError or ValueError for arguments out of range.
    """

    group = "optimizer"
    slot_names: tuple[str, ...] = ()  # its state: arrays of the parameters' layout

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
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
        self._slots: WeakKeyDictionary[Store, dict[str, np.ndarray]] = WeakKeyDictionary()

    @property
    def learning_rate(self) -> Rate:
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        kind = type(self).__name__
        if isinstance(value, dict):
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

    def slots(self, store: Store) -> dict[str, np.ndarray]:
        """The optimizer's state for a store, by name: flat arrays of the store's layout, zero at first."""
        if store not in self._slots:
            self._slots[store] = {name: nncore.aligned(store.size, store.dtype) for name in self.used_slots()}
        return self._slots[store]

    def used_slots(self) -> tuple[str, ...]:
        """The names of the slots that its settings need."""
        return self.slot_names

    def updater(self, store: Store, state: np.ndarray, threads: int = 0) -> Updater:
        """What ends a training step on ``store``. ``state``: the Program's state array (learning rates, step).
        ``threads``: how many may share an op (0: all)."""
        return Updater(self, store, state, threads)

    @property
    def clips(self) -> bool:
        return any(limit is not None for limit in (self.clipnorm, self.clipvalue, self.global_clipnorm))

    def update(self, *, slots: dict[str, np.ndarray], **arguments) -> Op:
        """The op that updates one stretch: weights ``w`` by gradients ``g`` and the same stretch of each slot."""
        raise NotImplementedError(f"{type(self).__name__}: an optimizer must define update(...)")

    def prepare(self, rule: np.ndarray, state: np.ndarray, dtype: np.dtype) -> Op | None:
        """The op that computes the ``rule`` of the steps that ``fused`` gives; None if it gives none."""
        return None

    def fused(self, *, w: np.ndarray, slots: dict[str, np.ndarray], rule: np.ndarray) -> Step:
        """The step that does the same as ``update`` behind a GEMM: for optimizers that have ``prepare``."""
        raise NotImplementedError(f"{type(self).__name__}: an optimizer that defines prepare must define fused(...)")


class Updater:
    """An optimizer at work on one store: the ops and steps that end a training step (``compiler.Update``)."""

    def __init__(self, optimizer: Optimizer, store: Store, state: np.ndarray, threads: int):
        self.optimizer, self.store, self.state, self.threads = optimizer, store, state, threads
        self.slots = optimizer.slots(store)
        self.rule = nncore.aligned(RULE_REALS, store.dtype)

    def prepare(self) -> list[Op]:
        """What comes before the steps."""
        op = self.optimizer.prepare(self.rule, self.state, self.store.dtype)
        return [] if op is None else [op]

    def step(self, parameter: Parameter) -> Step | None:
        """What updates a parameter as the last step of its gradient's GEMM; None where clipping needs all gradients."""
        if self.optimizer.clips or self.optimizer.prepare(self.rule, self.state, self.store.dtype) is None:
            return None
        shape = (math.prod(parameter.value.shape[:-1]), *parameter.value.shape[-1:])
        slots = {name: self.store.view(flat, parameter).reshape(shape) for name, flat in self.slots.items()}
        return self.optimizer.fused(w=parameter.value.reshape(shape), slots=slots, rule=self.rule)

    def ops(self, done: Container[Parameter] = ()) -> list[Op]:
        """Clip the gradients in ``store.gradients``, update ``store.values``, but for the parameters in ``done``."""
        store, optimizer, threads = self.store, self.optimizer, self.threads
        stretches = list(store.ranges(done))
        if optimizer.clipnorm is not None:
            stretches = [
                (start, start + parameter.value.size)
                for parameter, start in store.offsets.items()
                if parameter.trainable and parameter not in done and parameter.value.size
            ]
        ops: list[Op] = []
        scales: list[np.ndarray | None] = [None] * len(stretches)
        if optimizer.clipvalue is not None:
            ops += [
                op for start, end in stretches for op in _clip_values(store, start, end, optimizer.clipvalue, threads)
            ]
        elif optimizer.global_clipnorm is not None and stretches:
            ops, shared = _clip_norm(store, stretches, optimizer.global_clipnorm, threads)
            scales = [shared] * len(stretches)
        elif optimizer.clipnorm is not None:
            for position, stretch in enumerate(stretches):
                clips, scales[position] = _clip_norm(store, [stretch], optimizer.clipnorm, threads)
                ops += clips
            ops.sort(key=lambda op: op.name == "clip_scale")  # all the sums, one barrier, all the scales
        for (start, end), scale in zip(stretches, scales, strict=True):
            arrays = {name: array[start:end] for name, array in self.slots.items()}
            options: dict[str, Any] = {} if scale is None else {"scale": scale}
            ops.append(
                optimizer.update(
                    w=store.values[start:end], g=store.gradients[start:end], state=self.state, slots=arrays,
                    count=end - start, dtype=store.dtype, threads=_worth(end - start, threads), **options,
                )
            )  # fmt: skip
        return ops


def _worth(count: int, threads: int) -> int:
    """How many threads ``count`` elements are worth, at most ``threads`` (0: any number)."""
    worth = max(1, count // _SHARE)
    return min(worth, threads) if threads else worth


def _clip_norm(
    store: Store, stretches: list[tuple[int, int]], limit: float, threads: int
) -> tuple[list[Op], np.ndarray]:
    """Ops that put min(1, limit / norm of the stretches) in an array of one; and that array."""
    chunk = kernels.family("reduce", store.dtype).CHUNK
    counts = [math.ceil((end - start) / chunk) for start, end in stretches]
    partials, scale = nncore.aligned(sum(counts), "float64"), nncore.aligned(1, store.dtype)
    ops, place = [], 0
    for (start, end), count in zip(stretches, counts, strict=True):
        gradients = store.gradients[start:end]
        part = partials[place : place + count]
        ops.append(Op("square_sums", partials=part, x=gradients, count=end - start, dtype=store.dtype, threads=threads))
        place += count
    ops.append(Op("clip_scale", scale=scale, partials=partials, count=place, clip=limit, dtype=store.dtype, threads=1))
    return ops, scale


def _clip_values(store: Store, start: int, end: int, limit: float, threads: int) -> list[Op]:
    """Ops that cut the gradients to [-limit, limit], as rows of a matrix and what is left over."""
    steps = [Step("clip", s0=-limit, s1=limit)]
    ops = []
    rows, rest = divmod(end - start, _CLIP_COLUMNS)
    for first, height, width in ((start, rows, _CLIP_COLUMNS), (end - rest, 1, rest)):
        if height and width:
            part: np.ndarray | Ref = store.gradients[first : first + height * width]
            ops.append(
                Op("chain", out=part, x=part, rows=height, cols=width, ld_out=width, ld_x=width, steps=steps,
                   dtype=store.dtype, threads=threads)
            )  # fmt: skip
    return ops
