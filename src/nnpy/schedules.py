"""Schedules: the learning rate as a function of the step. Names, formulas and defaults are Keras 3's where it has them.

Steps count optimizer updates from 0. Pass a schedule as ``learning_rate``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from nnpy.catalogue import offer
from nnpy.checks import flag, integer, real, several
from nnpy.registry import Configurable, find


class Schedule(Configurable):
    """Base of schedules: a subclass gives ``at(steps)``, for an array of steps (float64) an array of rates."""

    group = "schedule"

    def at(self, steps: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__}: a schedule must define at(steps)")

    def __call__(self, step: int) -> float:
        """The rate of one step."""
        return float(self.rates(step, 1)[0])

    def rates(self, first_step: int, count: int) -> np.ndarray:
        """The rates of ``count`` steps from ``first_step`` on, float64."""
        steps = np.arange(first_step, first_step + count, dtype=np.float64)
        return np.asarray(np.broadcast_to(self.at(steps), steps.shape), np.float64)

    def _rate(self, name: str, value: Any) -> float:
        return real(type(self).__name__, name, value, least=0)

    def _steps(self, name: str, value: Any, least: int = 1) -> int:
        return integer(type(self).__name__, name, value, least=least)


class ExponentialDecay(Schedule):
    """initial * decay_rate^(step / decay_steps); ``staircase``: the exponent rounded down.

    >>> nn.schedules.ExponentialDecay(0.1, 1000, 0.5)(2000)
    0.025
    """

    def __init__(self, initial_learning_rate: float, decay_steps: int, decay_rate: float, staircase: bool = False):
        self.initial_learning_rate = self._rate("initial_learning_rate", initial_learning_rate)
        self.decay_steps = self._steps("decay_steps", decay_steps)
        self.decay_rate = real("ExponentialDecay", "decay_rate", decay_rate, above=0)
        self.staircase = flag("ExponentialDecay", "staircase", staircase)

    def at(self, steps):
        exponent = steps / self.decay_steps
        return self.initial_learning_rate * self.decay_rate ** (np.floor(exponent) if self.staircase else exponent)


class InverseTimeDecay(Schedule):
    """initial / (1 + decay_rate * step / decay_steps); ``staircase``: the quotient rounded down.

    >>> nn.schedules.InverseTimeDecay(0.1, 1000, 0.5)(2000)
    0.05
    """

    def __init__(self, initial_learning_rate: float, decay_steps: int, decay_rate: float, staircase: bool = False):
        self.initial_learning_rate = self._rate("initial_learning_rate", initial_learning_rate)
        self.decay_steps = self._steps("decay_steps", decay_steps)
        self.decay_rate = real("InverseTimeDecay", "decay_rate", decay_rate, least=0)
        self.staircase = flag("InverseTimeDecay", "staircase", staircase)

    def at(self, steps):
        time = steps / self.decay_steps
        return self.initial_learning_rate / (1 + self.decay_rate * (np.floor(time) if self.staircase else time))


class PolynomialDecay(Schedule):
    """From initial to end in ``decay_steps`` as (1 - step / decay_steps)^power, then end.

    ``cycle``: instead, decay_steps grows to the next multiple that is not passed: the rate jumps up and falls again.

    >>> nn.schedules.PolynomialDecay(0.1, 1000, 0.0, power=2.0)(500)
    0.025
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
    ):
        self.initial_learning_rate = self._rate("initial_learning_rate", initial_learning_rate)
        self.decay_steps = self._steps("decay_steps", decay_steps)
        self.end_learning_rate = self._rate("end_learning_rate", end_learning_rate)
        self.power = real("PolynomialDecay", "power", power, above=0)
        self.cycle = flag("PolynomialDecay", "cycle", cycle)

    def at(self, steps):
        end = self.decay_steps * np.maximum(1, np.ceil(steps / self.decay_steps)) if self.cycle else self.decay_steps
        left = 1 - np.minimum(steps, end) / end
        return (self.initial_learning_rate - self.end_learning_rate) * left**self.power + self.end_learning_rate


class PiecewiseConstantDecay(Schedule):
    """values[0] up to and including step boundaries[0], then values[1] up to boundaries[1], and so on.

    ValueError unless boundaries rise and there is one value more than boundaries.

    >>> nn.schedules.PiecewiseConstantDecay([1000, 2000], [0.1, 0.01, 0.001])(1500)
    0.01
    """

    def __init__(self, boundaries: Sequence[int], values: Sequence[float]):
        who = "PiecewiseConstantDecay"
        self.boundaries = [self._steps("boundaries", n, least=0) for n in several(who, "boundaries", boundaries)]
        self.values = [self._rate("values", value) for value in several(who, "values", values)]
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"PiecewiseConstantDecay: expected one value more than boundaries, got {len(self.values)} values and "
                f"{len(self.boundaries)} boundaries"
            )
        if any(a >= b for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError(f"PiecewiseConstantDecay: expected boundaries to rise, got {self.boundaries}")

    def at(self, steps):
        return np.array(self.values)[np.searchsorted(self.boundaries, steps, side="left")]


class CosineDecay(Schedule):
    """Half a cosine from initial to ``alpha`` * initial in ``decay_steps`` (Loshchilov & Hutter, ICLR 2017).

    With ``warmup_target``: first a straight line from initial to the target in ``warmup_steps``, then from the target.

    >>> nn.schedules.CosineDecay(0.0, 1000, warmup_target=0.1, warmup_steps=100)(50)
    0.05
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        *,
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ):
        self.initial_learning_rate = self._rate("initial_learning_rate", initial_learning_rate)
        self.decay_steps = self._steps("decay_steps", decay_steps)
        self.alpha = real("CosineDecay", "alpha", alpha, least=0)
        self.warmup_target = None if warmup_target is None else self._rate("warmup_target", warmup_target)
        self.warmup_steps = self._steps("warmup_steps", warmup_steps, least=0)

    def at(self, steps):
        if self.warmup_target is None:
            return self._decay(self.initial_learning_rate, steps)
        share = steps / max(1, self.warmup_steps)
        rising = self.initial_learning_rate + (self.warmup_target - self.initial_learning_rate) * share
        falling = self._decay(self.warmup_target, np.maximum(0, steps - self.warmup_steps))
        return np.where(steps < self.warmup_steps, rising, falling)

    def _decay(self, start: float, steps: np.ndarray) -> np.ndarray:
        cosine = 0.5 * (1 + np.cos(np.pi * np.minimum(steps, self.decay_steps) / self.decay_steps))
        return start * ((1 - self.alpha) * cosine + self.alpha)


class CosineDecayRestarts(Schedule):
    """Cosine decay again and again (Loshchilov & Hutter, ICLR 2017): period i takes first_decay_steps * t_mul^i steps
    and starts at initial * m_mul^i; each falls to ``alpha`` * initial.

    >>> nn.schedules.CosineDecayRestarts(0.1, 100)(100)
    0.1
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
    ):
        self.initial_learning_rate = self._rate("initial_learning_rate", initial_learning_rate)
        self.first_decay_steps = self._steps("first_decay_steps", first_decay_steps)
        self.t_mul = real("CosineDecayRestarts", "t_mul", t_mul, least=1)
        self.m_mul = real("CosineDecayRestarts", "m_mul", m_mul, least=0)
        self.alpha = real("CosineDecayRestarts", "alpha", alpha, least=0)

    def at(self, steps):
        done = steps / self.first_decay_steps
        if self.t_mul == 1.0:
            period = np.floor(done)
            share = done - period
        else:
            period = np.floor(np.log1p(done * (self.t_mul - 1)) / np.log(self.t_mul) + 1e-12)
            share = (done - (1 - self.t_mul**period) / (1 - self.t_mul)) / self.t_mul**period
        cosine = 0.5 * self.m_mul**period * (1 + np.cos(np.pi * share))
        return self.initial_learning_rate * ((1 - self.alpha) * cosine + self.alpha)


class LinearWarmup(Schedule):
    """A straight line from ``start`` to ``learning_rate`` in ``warmup_steps``, then ``learning_rate``: a number, or a
    schedule, whose steps count from the end of the warm-up (Goyal et al., arXiv:1706.02677). (Ours.)

    >>> nn.schedules.LinearWarmup(nn.schedules.ExponentialDecay(0.1, 100, 0.5), 50)(150)
    0.05
    """

    def __init__(self, learning_rate: float | Schedule, warmup_steps: int, start: float = 0.0):
        scheduled = isinstance(learning_rate, Schedule)
        self.learning_rate = learning_rate if scheduled else self._rate("learning_rate", learning_rate)
        self.warmup_steps = self._steps("warmup_steps", warmup_steps)
        self.start = self._rate("start", start)

    def at(self, steps):
        after = np.maximum(0, steps - self.warmup_steps)
        rate = self.learning_rate
        target = rate(0) if isinstance(rate, Schedule) else rate
        rising = self.start + (target - self.start) * steps / self.warmup_steps
        return np.where(steps < self.warmup_steps, rising, rate.at(after) if isinstance(rate, Schedule) else rate)


class OneCycle(Schedule):
    """One cycle of ``total_steps`` (Smith & Topin, "Super-Convergence", arXiv:1708.07120), as torch's OneCycleLR.

    From max / div_factor up to ``max_learning_rate`` in the first ``warmup`` share of the steps (torch's pct_start),
    then down to the first rate / final_div_factor, where it stays. ``three_phase``, as in the paper: down to the first
    rate in as many steps as up, then on to the last. ``anneal``: by half cosines ("cos") or straight lines ("linear").
    (Ours.)

    >>> nn.schedules.OneCycle(0.1, 1000, div_factor=10.0)(299)
    0.1
    """

    def __init__(
        self,
        max_learning_rate: float,
        total_steps: int,
        warmup: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        anneal: str = "cos",
        three_phase: bool = False,
    ):
        self.max_learning_rate = self._rate("max_learning_rate", max_learning_rate)
        self.total_steps = self._steps("total_steps", total_steps, least=2)
        self.warmup = real("OneCycle", "warmup", warmup, above=0, below=1)
        self.div_factor = real("OneCycle", "div_factor", div_factor, least=1)
        self.final_div_factor = real("OneCycle", "final_div_factor", final_div_factor, least=1)
        self.anneal = _one_of("OneCycle", "anneal", anneal, ("cos", "linear"))
        self.three_phase = flag("OneCycle", "three_phase", three_phase)
        if self.three_phase and 2 * self.warmup > 1:
            raise ValueError(f"OneCycle: expected warmup to be at most 0.5 with three_phase, got {warmup}")

    def at(self, steps):
        top, first = self.max_learning_rate, self.max_learning_rate / self.div_factor
        last, end = first / self.final_div_factor, self.total_steps - 1.0
        peak = max(0.0, self.warmup * self.total_steps - 1)  # a warm-up of less than a step: start at the top
        corners = [(0.0, first), (peak, top), (end, last)]
        if self.three_phase:
            corners.insert(2, (min(end, max(peak, 2 * self.warmup * self.total_steps - 2)), first))
        rates = np.full(steps.shape, last)
        for (begin, before), (until, after) in reversed(list(pairwise(corners))):
            share = np.clip((steps - begin) / max(until - begin, 1e-9), 0, 1)
            share = 0.5 * (1 - np.cos(np.pi * share)) if self.anneal == "cos" else share
            rates = np.where(steps < until, before + (after - before) * share, rates)
        return rates


class CyclicLR(Schedule):
    """Up and down between two rates, again and again, in straight lines (Smith, "Cyclical Learning Rates", WACV 2017),
    as torch's CyclicLR.

    ``step_size_up`` steps up and ``step_size_down`` (None: as many) down. ``mode``: "triangular"; "triangular2", where
    each cycle is half as high as the one before; "exp_range", where the height is times ``gamma``^step. (Ours.)

    >>> nn.schedules.CyclicLR(0.001, 0.006, step_size_up=2000)(2000)
    0.006
    """

    def __init__(
        self,
        base_learning_rate: float,
        max_learning_rate: float,
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
    ):
        self.base_learning_rate = self._rate("base_learning_rate", base_learning_rate)
        self.max_learning_rate = self._rate("max_learning_rate", max_learning_rate)
        self.step_size_up = self._steps("step_size_up", step_size_up)
        self.step_size_down = None if step_size_down is None else self._steps("step_size_down", step_size_down)
        self.mode = _one_of("CyclicLR", "mode", mode, ("triangular", "triangular2", "exp_range"))
        self.gamma = real("CyclicLR", "gamma", gamma, above=0, most=1)
        if self.gamma != 1 and self.mode != "exp_range":
            raise ValueError(f"CyclicLR: expected mode='exp_range' beside gamma, got {mode!r}")

    def at(self, steps):
        up, down = self.step_size_up, self.step_size_down or self.step_size_up
        cycle = np.floor(steps / (up + down))
        place = steps - cycle * (up + down)
        height = np.where(place <= up, place / up, (up + down - place) / down)
        fades = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": self.gamma**steps}
        return self.base_learning_rate + (self.max_learning_rate - self.base_learning_rate) * height * fades[self.mode]


def _one_of(owner: str, name: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(f"{owner}: expected {name} to be {' or '.join(map(repr, choices))}, got {value!r}")
    return value


def get(value: Any) -> Schedule:
    """A schedule from itself or its configuration."""
    return find(Schedule, value)


__all__ = [
    "CosineDecay", "CosineDecayRestarts", "CyclicLR", "ExponentialDecay", "InverseTimeDecay", "LinearWarmup",
    "OneCycle", "PiecewiseConstantDecay", "PolynomialDecay", "Schedule", "get",
]  # fmt: skip

offer(__name__, __all__)
