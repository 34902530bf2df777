"""find_learning_rate: a range test of the learning rate (Smith, "Cyclical Learning Rates for Training Neural Networks",
WACV 2017, section 3.3)."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnpy import seeds
from nnpy.checks import integer, real
from nnpy.data import inputs as adapt
from nnpy.locks import at_rest
from nnpy.training.samples import Samples, batches, prepare

if TYPE_CHECKING:
    from nnpy.model import Model

_KEEP = 0.9  # of the running mean by which the test ends
_FIRST = 5  # steps, at least, before it may


class LearningRates(NamedTuple):
    """What a range test found: the ``rates`` of its steps, their ``losses``, and these ``smoothed``; ``suggestion``, a
    rate or None, and the ``reason`` for it in words."""

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None
    reason: str

    def plot(self, path: str | bytes | os.PathLike | None = None) -> Any:
        """Losses by rate, with the suggestion: a figure of matplotlib, also written to ``path``.

        Raises ModuleNotFoundError, with what to install, without matplotlib."""
        from nnpy import plots

        return plots.finish(plots.range_test(self.rates, self.losses, self.smoothed, self.suggestion), path)

    def __str__(self) -> str:
        what = "no rate to suggest" if self.suggestion is None else f"learning rate {self.suggestion:.2g}"
        return f"{what}: {self.reason}"


class _Sweep:
    """In the place of ``binding.Rates``: the columns of one step at a rate of its own."""

    def __init__(self, optimizer: Any):
        self.optimizer, self.rate = optimizer, 0.0

    def of(self, update: int, count: int) -> np.ndarray:
        return self.optimizer.columns(update, 1, rate=self.rate)


def find_learning_rate(
    model: Model,
    x: Any,
    y: Any = None,
    *,
    batch_size: int = 32,
    start: float = 1e-6,
    stop: float = 10.0,
    steps: int = 100,
) -> LearningRates:
    """Train ``steps`` batches at rates that grow exponentially from ``start`` to ``stop``, or until the loss diverges;
    then put everything back: weights, the optimizer, counters, the history.

    ``x``, ``y``: as for ``fit``, also an iterable of batches; samples are shuffled as in the next epochs. The
    suggestion is the rate at which the smoothed loss is half-way down, where as a rule it falls fastest, at most a
    third of that where it is lowest: a ``learning_rate`` for the optimizer, or the highest of a cycle or of a warm-up.
    Other threads that predict meanwhile see weights that are about to go. Returns a ``LearningRates(rates, losses,
    smoothed, suggestion, reason)``.

    Raises RuntimeError for a model that is not compiled, or while ``fit`` runs; TypeError or ValueError for data that
    does not fit and for numbers out of range.

    >>> model = nn.Sequential([nn.Input((3,)), nn.Dense(8, activation="relu"), nn.Dense(1)], seed=0)
    >>> model.compile("adam", "mse")
    >>> x = np.random.default_rng(0).normal(size=(256, 3))
    >>> found = nn.find_learning_rate(model, x, x.sum(axis=1))
    >>> 1e-3 < found.suggestion < 1
    True
    """
    who = "find_learning_rate"
    batch_size, steps = integer(who, "batch_size", batch_size, least=1), integer(who, "steps", steps, least=10)
    start = real(who, "start", start, above=0)
    stop = real(who, "stop", stop, above=start)
    settings = model.settings
    if model.training.thread:
        raise RuntimeError(f"{who}: expected no fit of {model} to be running")
    data = _stream(model, x) if y is None and adapt.is_stream(x) else _arrays(model, x, y, batch_size)
    first = next(data, None)  # which builds the model, and finds what does not fit
    if first is None:
        raise ValueError("x: expected at least one batch, got none")
    rates, losses, sweep = np.geomspace(start, stop, steps), [], _Sweep(settings.optimizer)
    low, mean = math.inf, 0.0
    with _untouched(model):
        engine = model.engine
        for step, (rate, (samples, order)) in enumerate(zip(rates, itertools.chain([first], data), strict=False)):
            sweep.rate, totals = float(rate), np.zeros_like(engine.totals["train"])
            count = samples.count if order is None else len(order)
            engine.train(samples, count, totals, sweep, order=order)  # type: ignore[arg-type]
            losses.append(engine.logs("train", totals)["loss"])
            mean = _KEEP * mean + (1 - _KEEP) * losses[-1]
            smooth = mean / (1 - _KEEP ** (step + 1))
            low = min(low, smooth)
            if not math.isfinite(losses[-1]) or (step >= _FIRST and _diverges(smooth, low, losses[0])):
                break
    return _judge(rates[: len(losses)], np.array(losses), stop)


def _diverges(loss: float, low: float, first: float) -> bool:
    """Above four times the lowest, and where it began."""
    return loss > low + max(3 * abs(low), first - low)


def _arrays(model: Model, x: Any, y: Any, batch: int) -> Iterator[tuple[Samples, np.ndarray | None]]:
    """The samples, and the rows of a batch of them, again and again."""
    samples, epoch = prepare(model, x, y), model.training.epoch
    batch = min(batch, samples.count)
    for number in itertools.count(epoch):
        order = seeds.stream("shuffle", number, model.training.seed).permutation(samples.count)
        for row in range(0, samples.count - batch + 1, batch):
            yield samples, order[row : row + batch].copy()


def _stream(model: Model, stream: Any) -> Iterator[tuple[Samples, np.ndarray | None]]:
    while True:
        empty = True
        for samples in batches(adapt.in_order(stream), model, "x"):
            empty = False
            yield samples.at_step(model.training.draw), None
        if empty or hasattr(stream, "__next__"):
            return


@contextmanager
def _untouched(model: Model) -> Iterator[None]:
    """Afterwards weights, the optimizer's slots and the counters are what they were."""
    engine, training = model.engine, model.training
    optimizer, store = model.optimizer, engine.claim()
    had_slots, trained = optimizer.has_slots(store), set(store.trained)
    kept = [store.values, store.gradients, *engine.optimizer_slots().values()]
    with at_rest(engine.parameters):
        before, place = [array.copy() for array in kept], (training.update, training.draw)
    try:
        yield
    finally:
        with at_rest(engine.parameters):
            for array, value in zip(kept, before, strict=True):
                array[...] = value
            training.update, training.draw = place
        if not had_slots or store.trained != trained:  # what a first step does is still to come
            store.trained.intersection_update(trained)
            engine.forget_steps()
        if not had_slots:
            optimizer.forget(store)


def _judge(rates: np.ndarray, losses: np.ndarray, stop: float) -> LearningRates:
    smoothed = _smooth(losses)
    count = int(np.isfinite(losses).sum())
    if count < _FIRST:
        return LearningRates(rates, losses, smoothed, None, f"the loss is not finite from a rate of {rates[-1]:.2g} on")
    lowest = int(np.argmin(smoothed[:count]))
    level = float(np.median(losses[: max(_FIRST, count // 5)]))  # where it is before anything happens
    window = _window(len(losses))
    noise = (
        float(np.std(np.diff(losses[: lowest + 1]))) / math.sqrt(2) if lowest > 1 else math.inf
    )  # from batch to batch
    fall = level - smoothed[lowest]
    left = noise * float(np.sqrt(np.square(window).sum()) / window.sum())  # what smoothing leaves of it
    if not fall > 5 * left:  # the lowest of many values, and a level that is noisy too
        reason = "the loss does not fall at any rate: more steps, other rates, or a look at the data and the model"
        return LearningRates(rates, losses, smoothed, None, reason)
    if rates[-1] < stop or count < len(losses):
        end = f"and diverges at {rates[-1]:.2g}"
    else:
        end = f"and no lower up to {rates[-1]:.2g}"
    half = int(np.flatnonzero(smoothed[: lowest + 1] >= level - fall / 2).max(initial=0))
    suggestion = float(min(rates[half], rates[lowest] / 3))
    why = f"the loss, smoothed, is half-way down at {rates[half]:.2g}, lowest at {rates[lowest]:.2g} {end}"
    if suggestion < rates[half]:
        why += "; a third of the rate where it is lowest is on the safe side"
    return LearningRates(rates, losses, smoothed, suggestion, why)


def _window(count: int) -> np.ndarray:
    reach = max(2, count // 16)
    return np.hanning(2 * reach + 3)[1:-1]


def _smooth(losses: np.ndarray) -> np.ndarray:
    """Means over windows that reach as far back as forward, so that nothing comes late."""
    window = _window(len(losses))
    weights = np.isfinite(losses).astype(np.float64)
    total = np.convolve(np.where(weights > 0, losses, 0.0), window, "same")
    share = np.convolve(weights, window, "same")
    return np.divide(total, share, out=np.full(len(losses), np.nan), where=share > 0)


__all__ = ["LearningRates", "find_learning_rate"]
