"""Watch: a loss that becomes NaN or infinite is told at once, with the step, the layer and the likely cause.

The compiled step itself counts the steps before the first bad one. Steps run many at a time, and after a bad one all
weights are NaN. So copies of the weights and the optimizer's slots are taken now and then, seldom enough to cost less
than a hundredth of the time that a model trains, be it in one long fit or in many short ones; from the last copy the
steps are done again, one by one, up to the bad one, before which the network is looked at. Where no copy is there, or
too many batches came since, the warning names what is bad after the steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import nncore
from nncore.memory import BATCH, DRAW, EPOCH, INDICES, NUMBERS, ROW
from nnpy.compiler import compile_step, specialise
from nnpy.data.sparse import Sparse
from nnpy.hints import advise
from nnpy.locks import at_rest
from nnpy.training.binding import Rates, address, bind
from nnpy.training.programs import feeds
from nnpy.training.samples import Samples

if TYPE_CHECKING:
    from nnpy.model import Model

_SECONDS = 0.1  # at least, between two copies
_SHARE = 200  # times what a copy takes has to be between two
_MOST = 1 << 28  # bytes that are copied, and of batches of an iterable that are kept
_UNSCALED = 1e3  # inputs beyond are hardly meant
_GROWN = 1e6  # weights beyond have been made so by steps that were too long


class Stretch(NamedTuple):
    """Steps that were run at once: on what, in batches of which size; the row, pass, number in the epoch and draw of
    the first; the order of the samples; how many."""

    samples: Samples
    batch: int
    row: int
    epoch: int
    number: int
    draw: int
    order: np.ndarray | None
    steps: int = 0

    def rows(self, step: int) -> Any:
        """Those of a step, as an index."""
        rows = slice(self.row + step * self.batch, self.row + (step + 1) * self.batch)
        return rows if self.order is None else self.order[rows]


class Watch:
    """Of one ``fit``."""

    def __init__(self, model: Model):
        self.model = model
        self.told = False
        self._kept: list[np.ndarray] = []
        self._valid = False
        self._changes: Any = None
        self._update = self._held = 0
        self._stretches: list[Stretch] = []

    def begin(self) -> None:
        """Before a stretch: copy what it starts from, if it is time."""
        engine, training = self.model.engine, self.model.training
        assert engine.settings is not None
        if self.told:
            return
        now, changes = time.perf_counter(), (engine.settings.optimizer.changes, engine.trainable)
        self._valid = self._valid and changes == self._changes
        if now < engine.next_copy:
            return
        arrays = self._arrays()
        if sum(array.nbytes for array in arrays) > _MOST:
            return
        with at_rest(engine.parameters):
            if [a.shape for a in self._kept] != [a.shape for a in arrays]:
                self._kept = [array.copy() for array in arrays]
            else:
                for kept, array in zip(self._kept, arrays, strict=True):
                    np.copyto(kept, array)
        self._valid, self._changes, self._update, self._held = True, changes, training.update, 0
        self._stretches = []
        end = time.perf_counter()
        engine.next_copy = end + max(_SECONDS, _SHARE * (end - now))

    def end(self, stretch: Stretch, loss: float) -> None:
        """After a stretch: ``loss`` is that of the epoch so far."""
        if self.told:
            return
        if math.isfinite(loss):
            self._keep(stretch)
            return
        self.told = True
        self._stretches.append(stretch)
        found = self._find() if self._valid else None
        if found is None:
            training = self.model.training
            assert training.totals is not None
            step = self.model.engine.plan.finite_steps("train", training.totals) + 1
            where = f"step {min(step, training.batch)} of epoch {training.number + 1}"
            rows = stretch.rows(max(0, min(step, training.batch) - 1 - stretch.number))
            found = f"{_value(loss)} in {where}: {_afterwards(self.model, stretch.samples, rows)}"
        advise(f"{self.model}: the loss became {found} (TerminateOnNaN() ends such a run)")

    def _keep(self, stretch: Stretch) -> None:
        """Remember a stretch to be done again; batches of an iterable would not be there any more otherwise."""
        if not self._valid:
            return
        if self._stretches and self._stretches[-1].samples is not stretch.samples:
            arrays = (*stretch.samples.inputs, *stretch.samples.targets)
            self._held += sum(getattr(array, "nbytes", 0) for array in arrays)
        self._stretches.append(stretch)
        if self._held > _MOST:
            self._valid, self._stretches = False, []

    def _arrays(self) -> list[np.ndarray]:
        engine = self.model.engine
        return [engine.claim().values, *engine.optimizer_slots().values()]

    def _put(self, arrays: list[np.ndarray]) -> None:
        with at_rest(self.model.engine.parameters):
            for array, value in zip(self._arrays(), arrays, strict=True):
                array[...] = value

    def _find(self) -> str | None:
        """The step, the layer and the cause, from the steps once more; None if they do not come to the same."""
        engine, training = self.model.engine, self.model.training
        assert engine.settings is not None
        if training.update != self._update + sum(stretch.steps for stretch in self._stretches):
            return None  # another thread has trained too
        place = training.update, training.draw, training.epoch
        after = [array.copy() for array in self._arrays()]
        rates = Rates(engine.settings.optimizer, training.update)
        try:
            self._put(self._kept)
            training.update = self._update
            for stretch in self._stretches:
                training.draw, training.epoch = stretch.draw, stretch.epoch
                for step in range(stretch.steps):
                    start, draw = [array.copy() for array in self._arrays()], training.draw
                    totals, row = np.zeros_like(engine.totals["train"]), stretch.row + step * stretch.batch
                    engine.train(stretch.samples, stretch.batch, totals, rates, row=row, order=stretch.order)
                    if not math.isfinite(loss := engine.logs("train", totals)["loss"]):
                        self._put(start)
                        training.draw = draw
                        look = self._look(stretch.samples, stretch.rows(step))
                        where = f"step {stretch.number + step + 1} of epoch {training.number + 1}"
                        return f"{_value(loss)} in {where}: {look}"
            return None
        finally:
            training.update, training.draw, training.epoch = place
            self._put(after)

    def _look(self, samples: Samples, rows: Any) -> str:
        """What is the first in the network that is not finite, and why that may be."""
        engine = self.model.engine
        unscaled, rate = _unscaled(self.model, samples, rows), _rate(self.model)
        with np.errstate(all="ignore"):
            for parameter in engine.parameters:
                if not np.isfinite(parameter.value).all():
                    what = f"{parameter.name} is {_kind(parameter.value)} since the step before"
                    return f"{what}; likely causes are its gradient (a root of 0?) or {unscaled or rate}"
            weights = max((_largest(p.value) for p in engine.parameters), default=0.0)
            grown = f"{rate}, as weights have grown to {weights:.3g}" if weights > _GROWN else ""
            known = " and ".join(cause for cause in (unscaled, grown) if cause)
            outputs, before = self._activations(samples, rows), 0.0
            for name, value in outputs.items():
                if not np.isfinite(value).all():
                    growing = f"weights that are too large (what comes before it grows to {before:.2g}), or {rate}"
                    why = known or (growing if before > _GROWN else "a log, root or quotient of 0 in it")
                    return f"layer {name!r} gives {_kind(value)}; the likely cause is {why}"
                before = max(before, _largest(value))
            name, value = next(reversed(outputs.items()))
            why = known or (rate if _largest(value) > _GROWN else "a log, root or quotient of 0 in it")
        return f"all layers give finite numbers, and the loss of layer {name!r} is not; the likely cause is {why}"

    def _activations(self, samples: Samples, rows: Any) -> dict[str, np.ndarray]:
        """What each layer gives in the step, by name, operands first."""
        engine, training = self.model.engine, self.model.training
        chosen = np.arange(samples.count)[rows]
        structure = engine.structure([x.shape[1:] for x in samples.inputs]).for_training
        named = structure.activations()
        state = nncore.new_state(len(chosen), training.seed)
        final, _ = specialise(list(named.values()), True)
        keep = list(dict.fromkeys(final[t] for t in named.values()))
        nodes = feeds(list(structure.inputs), samples.sources[: len(samples.inputs)], True)
        executable = compile_step(
            nodes, len(chosen), state, self.model.dtype, keep, values=engine.claim().views
        )
        numbers = samples.numbers
        setup = {
            BATCH: len(chosen), ROW: 0, INDICES: address(chosen), DRAW: training.draw, EPOCH: training.epoch,
            NUMBERS: 0 if numbers is None else address(numbers),
        }  # fmt: skip
        bind(state, samples.inputs, setup)
        with at_rest(engine.parameters):
            engine.claim()
            executable.run()
        return {name: np.array(executable.value(final[tensor])) for name, tensor in named.items()}


def tell_of_batch(model: Model, samples: Samples, loss: float) -> None:
    """Of ``train_on_batch``, once for each time that its loss stops to be finite."""
    engine = model.engine
    lost, engine.lost = engine.lost, not math.isfinite(loss)
    if engine.lost and not lost:
        where = f"step {model.training.update}, in train_on_batch"
        advise(f"{model}: the loss became {_value(loss)} in {where}: {_afterwards(model, samples, slice(None))}")


def _afterwards(model: Model, samples: Samples, rows: Any) -> str:
    """The weight that is no number any more, and the likely cause, after the step."""
    with np.errstate(all="ignore"):
        bad = [p.name for p in model.engine.parameters if not np.isfinite(p.value).all()]
        unscaled = _unscaled(model, samples, rows)
    what = f"{bad[0]} is not finite after it" if bad else "the weights are finite after it"
    causes = unscaled or (f"{_rate(model)}, inputs that are not scaled" if bad else "inputs that are not scaled")
    return f"{what}; likely causes are {causes} or a log, root or quotient of 0"


def _value(loss: float) -> str:
    return "NaN" if math.isnan(loss) else "infinite"


def _rate(model: Model) -> str:
    rate = float(model.optimizer.learning_rate)
    return f"a learning rate ({rate:g}) that is too high"


def _unscaled(model: Model, samples: Samples, rows: Any) -> str:
    """What is given to the model that is larger than it can be meant, or nothing."""
    kinds = [tensor.kind for tensor in model.structure.inputs]
    heads = [head.loss.target_kind for head in model.engine.heads]
    return _too_large("inputs", samples.inputs, kinds, rows) or _too_large("targets", samples.targets, heads, rows)


def _too_large(what: str, arrays: Sequence[Any], kinds: Sequence[str], rows: Any) -> str:
    pairs = zip(arrays, kinds, strict=True)
    real = [array for array, kind in pairs if isinstance(array, np.ndarray | Sparse) and kind == "real"]
    found = [_largest(array.data if isinstance(array, Sparse) else array[rows]) for array in real]
    largest = max(found, default=0.0)
    return f"{what}, of up to {largest:.3g}, that are not scaled" if largest > _UNSCALED else ""


def _largest(value: np.ndarray) -> float:
    return float(np.abs(value, dtype=np.float64).max(initial=0))


def _kind(value: np.ndarray) -> str:
    return "NaN" if np.isnan(value).any() else "infinite numbers"
