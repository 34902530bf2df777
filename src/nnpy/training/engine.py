"""Engine: a model's Programs, one for each use, batch size and kind of data, and what they share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import isfinite
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import nncore
from nncore.memory import BATCH, DRAW, EPOCH, INDICES, LOCAL, NUMBERS, RATES, ROW, SEED, SLOTS
from nnpy.compiler import Executable, compile_step, differentiate, specialise
from nnpy.data.images import Images
from nnpy.graph import Node, Parameter, Tensor
from nnpy.locks import guard_of, making
from nnpy.ops import effects
from nnpy.ops.indexing import to_real
from nnpy.parameters import Store
from nnpy.training.objective import Objective, Plan
from nnpy.training.samples import Samples, Source, source
from nnpy.training.settings import Head, Settings

if TYPE_CHECKING:
    from nnpy.model import Model
    from nnpy.structure import Structure

SLICE = 0.05  # seconds between two looks at signals and progress
MOST_ARRAYS = nncore.memory.LAYOUT["SIZE"] - SLOTS  # that a Program can be bound to
_MOST_PROGRAMS = 24


class Borrowed(Store):
    """Parameters where they are, for Programs that only read them: several models may share a layer."""

    def __init__(self, parameters: Sequence[Parameter], dtype: str):
        self.dtype = np.dtype(dtype)
        self.parameters = list(parameters)


class Ready(NamedTuple):
    """A Program, and the arrays of the parameters that it was made for."""

    executable: Executable
    values: list[np.ndarray]

    @property
    def program(self) -> Any:
        return self.executable.program


class Rates:
    """The columns of the optimizer's rule in the steps up to ``end``, asked for once, unless its learning rate is
    changed meanwhile."""

    def __init__(self, optimizer: Any, end: int):
        self.optimizer, self.end = optimizer, end
        self._rate: Any = None
        self._first, self._table = 0, np.empty(0)

    def of(self, update: int, count: int) -> np.ndarray:
        """Of ``count`` steps, at least, from ``update`` on."""
        rate, last = self.optimizer.learning_rate, self._first + len(self._table)
        if rate is not self._rate or not self._first <= update <= last - count:
            self._table = self.optimizer.columns(update, max(count, self.end - update))
            self._rate, self._first = rate, update
        return self._table[update - self._first :]


class Engine:
    """Programs are made when first needed and kept, the least recently used dropped beyond a bound.

    Training programs share ``train_state`` and work on ``store``, which holds the parameters; the others share
    ``infer_state`` and read the parameters wherever they are. ``guard``: one run, or copy of the parameters, at a time;
    see ``nnpy.locks``. Where training stands is ``model.training``.
    """

    def __init__(self, model: Model, settings: Settings | None, before: Engine | None = None):
        self.model = model
        self.settings = settings
        self.parameters = model.weights
        self.trainable = {parameter: parameter.trainable for parameter in self.parameters}
        self.layers = {layer: layer.trainable for layer in model.walk()[1:]}  # frozen normalization asks them
        self.heads: list[Head] = settings.resolve(model) if settings is not None else []
        self.plan = Plan(self.heads)
        self.infer_state = nncore.new_state()
        self.train_state = nncore.new_state()
        self.guard = guard_of(self.parameters)
        self.store: Store | None = None
        self._before: Engine | None = None  # whose optimizer's state the store's will go on from
        self._views: dict[Parameter, np.ndarray] = {}
        self._objectives: dict[tuple, Objective] = {}
        self._programs: OrderedDict[tuple, Ready] = OrderedDict()
        self._arena: np.ndarray | None = None
        if before is not None:
            self._take_over(before)

    def _take_over(self, before: Engine) -> None:
        """Compiled again: the flat buffers stay if the same parameters are trainable; else, with the same optimizer,
        what it knows of each parameter is copied when the new ones are made."""
        if before.trainable == self.trainable:
            self.store, self._views, self._before = before.store, before._views, before._before
        elif self.settings and before.settings and before.settings.optimizer is self.settings.optimizer:
            self._before = before if before.store is not None else before._before

    # parameters

    def claim(self) -> Store:
        """The store, with the parameters' newest values in it: another model that shares some may have moved them."""
        if self.store is None:
            with making(self.model):
                self._make_store()
        assert self.store is not None
        with self.guard.lock:
            for parameter, view in self._views.items():
                if parameter.value is not view:
                    view[...] = parameter.value
                    parameter.value = view
        return self.store

    def _make_store(self) -> None:
        if self.store is not None:  # another thread was first
            return
        with self.guard.lock, self._as_compiled():
            store = Store(self.parameters, self.model.dtype)
            self._views = {parameter: parameter.value for parameter in self.parameters}
            if self._before is not None and self.settings is not None and (old := self._before.store) is not None:
                known, slots = self.settings.optimizer.slots(old), self.settings.optimizer.slots(store)
                for name in known.keys() & slots.keys():
                    for parameter in store.offsets.keys() & old.offsets.keys():
                        store.view(slots[name], parameter)[...] = old.view(known[name], parameter)
        self.store, self._before = store, None

    @contextmanager
    def _as_compiled(self) -> Iterator[None]:
        """Which parameters and layers are trainable is what it was at compile()."""
        now = {parameter: parameter.trainable for parameter in self.parameters}
        layers = {layer: layer.trainable for layer in self.layers}
        try:
            for parameter, trainable in self.trainable.items():
                parameter.trainable = trainable
            for layer, trainable in self.layers.items():
                layer._trainable = trainable  # of this layer alone
            yield
        finally:
            for parameter, trainable in now.items():
                parameter.trainable = trainable
            for layer, trainable in layers.items():
                layer._trainable = trainable

    def readable(self) -> Store:
        """A store for Programs that only read."""
        dtype = np.dtype(self.model.dtype)
        if any(p.value.dtype != dtype or not p.value.flags.c_contiguous for p in self.parameters):
            return self.claim()
        return Borrowed(self.parameters, self.model.dtype)

    def optimizer_slots(self) -> dict[str, np.ndarray]:
        assert self.settings is not None
        return self.settings.optimizer.slots(self.claim())

    @property
    def totals(self) -> dict[str, np.ndarray]:
        """The accumulators of "train" and "test" steps as flat arrays (``objective.Totals``)."""
        return {mode: totals.flat for mode, totals in self.plan.totals.items()}

    def logs(self, mode: str, totals: np.ndarray) -> dict[str, float]:
        """Names and values from the totals of "train" or "test" steps, or several merged."""
        return self.plan.logs(mode, totals)

    # programs

    def structure(self, shapes: Sequence[tuple[int, ...]]) -> Structure:
        """The model's, for samples of these shapes (of the inputs first): its own, if all sizes are known."""
        structure = self.model.structure
        if not any(tensor.is_open for tensor in structure.inputs):
            return structure
        return structure.with_shapes([(None, *shape) for shape in shapes[: len(structure.inputs)]])

    def objective(self, weighted: tuple[int, ...], structure: Structure) -> Objective:
        """Of the outputs of the model's structure, as it is for training or for inference."""
        key = (weighted, structure)
        if key not in self._objectives:
            mine = dict(zip(self.model.structure.outputs, structure.outputs, strict=True))
            heads = [replace(head, output=mine[head.output]) for head in self.heads]
            self._objectives[key] = Objective(self.plan, weighted, heads)
        return self._objectives[key]

    def training(self, batch: int, samples: Samples) -> Ready:
        """A step: forward, loss, backward, update."""
        self.claim()
        return self._program("train", batch, samples.sources, samples.weighted)

    def testing(self, batch: int, samples: Samples) -> Ready:
        """Forward, loss and metrics."""
        return self._program("test", batch, samples.sources, samples.weighted)

    def inference(self, batch: int, inputs: Sequence[np.ndarray | Images]) -> Ready:
        """Forward, and the outputs written to arrays at the slots after the inputs'."""
        return self._program("predict", batch, tuple(source(array) for array in inputs), ())

    def _program(self, mode: str, batch: int, sources: tuple[Source, ...], weighted: tuple[int, ...]) -> Ready:
        with making(self.model):
            return self._find_or_make(mode, batch, sources, weighted)

    def _find_or_make(self, mode: str, batch: int, sources: tuple[Source, ...], weighted: tuple[int, ...]) -> Ready:
        store = self.store if mode == "train" else self.readable()
        key = (mode, batch, sources, weighted, () if mode == "train" else tuple(id(p.value) for p in self.parameters))
        found = self._programs.get(key)
        if found is not None:
            self._programs.move_to_end(key)
            return found
        assert store is not None
        executable = self._compile(mode, batch, sources, weighted, store, arena=self._memory)
        made = Ready(
            executable, [parameter.value for parameter in self.parameters]
        )  # holding them, their ids are theirs
        self._programs[key] = made
        while len(self._programs) > _MOST_PROGRAMS:
            self._programs.popitem(last=False)
        return made

    def _compile(
        self, mode: str, batch: int, sources: tuple[Source, ...], weighted: tuple[int, ...], store: Store,
        without: Collection[str] = (), arena: Callable[[int], np.ndarray] | None = None,
    ) -> Executable:  # fmt: skip
        state = self.train_state if mode == "train" else self.infer_state
        with self._as_compiled():
            nodes = self._effects(mode, sources, weighted, store)
            return compile_step(nodes, batch, state, store.dtype, arena=arena, without=without)

    def _memory(self, nbytes: int) -> np.ndarray:
        """The arena that all Programs work in, as only one of them runs at a time. Those that were made for a smaller
        one are dropped, and made again when they are needed."""
        if self._arena is None or self._arena.nbytes < nbytes:
            self._arena = nncore.aligned(nbytes, np.uint8)
            self._programs.clear()
        return self._arena

    def compiled(self, mode: str, batch: int, samples: Samples, without: Collection[str] = ()) -> Executable:
        """A step's Program, not kept: to be looked at."""
        store = self.claim() if mode == "train" else self.readable()
        return self._compile(
            mode, batch, samples.sources, samples.weighted if mode != "predict" else (), store, without
        )

    def profile(self, mode: str, batch: int, samples: Samples, steps: int) -> tuple[Executable, np.ndarray]:
        """A step on some samples, and the nanoseconds of each of its ops (``Program.profile``). Nothing is trained."""
        executable = self.compiled(mode, batch, samples)
        state, training = executable.state, self.model.training
        table = Rates(self.settings.optimizer, 0).of(0, steps) if mode == "train" and self.settings else np.zeros(steps)
        order = np.tile(np.arange(batch), steps)
        results = []  # a step writes behind the one before
        if mode == "predict":
            results = [
                np.tile(array, (steps, *[1] * (array.ndim - 1))) for array in self.results(samples.inputs, batch, 1)
            ]
        kept = [weight.value for weight in self.parameters]
        if mode == "train":
            store = self.claim()
            kept = [store.values, store.gradients, *self.optimizer_slots().values()]
        with self._turn("train" if mode == "train" else "infer"):
            before, cells = [array.copy() for array in kept], self.totals["train"].copy()
            setup = {
                BATCH: batch, ROW: 0, LOCAL: 0, DRAW: training.draw, EPOCH: training.epoch, SEED: training.seed,
                INDICES: address(order), NUMBERS: 0, RATES: address(table),
            }  # fmt: skip
            bind(state, [*samples.arrays, *results], setup)
            try:
                nanoseconds = executable.program.profile(steps)
            finally:
                self.totals["train"][...] = cells
                for array, value in zip(kept, before, strict=True):
                    array[...] = value
            executable.check()
        return executable, nanoseconds

    def _check_arrays(self, count: int) -> None:
        if count > MOST_ARRAYS:
            raise ValueError(
                f"{self.model}: expected at most {MOST_ARRAYS} inputs, outputs, targets and weights together, "
                f"got {count}"
            )

    def _effects(self, mode: str, sources: tuple[Source, ...], weighted: tuple[int, ...], store: Store) -> list[Node]:
        """What a step of "train", "test" or "predict" does."""
        structure = self.structure([source.shape for source in sources])
        structure = structure.for_training if mode == "train" else structure
        tensors: list[Tensor] = list(structure.inputs)
        if mode == "predict":
            self._check_arrays(len(tensors) + len(structure.outputs))
            final, nodes = specialise([*structure.outputs, *structure.effects], False)
            places = enumerate(structure.outputs, len(tensors))
            emitted = [effects.emit(to_real(final[t]), place) for place, t in places]
            return [*feeds(tensors, sources), *emitted, *(nodes[node] for node in structure.effects)]
        objective = self.objective(weighted, structure)
        tensors += [*objective.targets, *(w for w in objective.weights if w is not None)]
        self._check_arrays(len(tensors))
        scalar, penalty = objective.with_penalties(self.parameters, structure.losses)
        measured = [*objective.effects(mode, penalty), *structure.effects]
        tensor, nodes = specialise([scalar, *measured], training=mode == "train")
        made = [*feeds(tensors, sources, mode == "train"), *(nodes[node] for node in measured)]
        if mode == "train":
            assert self.settings is not None
            trained = [p for p in store.parameters if p.trainable]
            gradients = differentiate(tensor[scalar], trained)
            found = {p: gradients[p] for p in trained if p in gradients}  # the others stay as they are
            made += self.settings.optimizer.effects(found, store)
        return made

    # running

    @contextmanager
    def _turn(self, mode: str) -> Iterator[None]:
        """Nobody else runs on these parameters. A signal handler that comes in the midst of another run may predict and
        evaluate: what that run has set is put back. RuntimeError if it would train."""
        with self.guard.turn() as nested:
            if not nested:
                yield
                return
            if mode == "train":
                raise RuntimeError(f"{self.model}: expected no training in the midst of a step (a signal handler?)")
            state, totals = self.infer_state.copy(), self.totals["test"].copy()
            try:
                yield
            finally:
                self.infer_state[:], self.totals["test"][:] = state, totals

    def train(
        self,
        samples: Samples,
        batch: int,
        totals: np.ndarray,
        rates: Rates,
        *,
        row: int = 0,
        order: np.ndarray | None = None,
        most: int = 1,
        moved: Callable[[int, int], None] = lambda steps, rows: None,
    ) -> int:
        """Train on the samples from ``row`` on, in ``order``: up to ``most`` steps and about 50 ms, or one step if what
        is left is less than a batch. Adds to ``totals``, calls ``moved(steps, rows)``; returns the number of steps."""
        training, left = self.model.training, samples.count - row
        size, steps = (batch, min(most, left // batch)) if left >= batch else (left, 1)
        executable = self.training(size, samples).executable
        numbers, state, cells = samples.numbers, self.train_state, self.totals["train"]
        while True:
            update = training.update
            table = rates.of(update, steps)  # the user's function may be asked, and may train
            self.guard.give_way()
            with self._turn("train"):
                if training.update != update:
                    continue  # another thread has trained meanwhile
                self.claim()  # another model that shares parameters may have moved them
                setup = {
                    BATCH: size, ROW: row, LOCAL: 0, DRAW: training.draw, EPOCH: training.epoch, SEED: training.seed,
                    INDICES: 0 if order is None else address(order), RATES: address(table),
                    NUMBERS: 0 if numbers is None else address(numbers),
                }  # fmt: skip
                bind(state, samples.arrays, setup)
                cells[...] = totals
                try:
                    executable.run(steps, SLICE)
                finally:  # Ctrl-C may come before run's result is here; the cells tell what was done
                    done = int(state[LOCAL])
                    training.update += done
                    training.draw += done
                    totals[...] = cells
                    moved(done, min(done * size, left))
            return done

    def test_steps(
        self, samples: Samples, batch: int, steps: int, totals: np.ndarray, slices: bool = True
    ) -> Iterator[int]:
        """Losses and metrics of ``steps`` batches of the samples in order are added to ``totals``; yields after each
        stretch how many it was: about 50 ms, or without ``slices`` one step."""
        row = 0
        for size, count in parts(samples.count, batch, steps):
            make = lambda size=size: self.testing(size, samples)  # noqa: E731
            yield from self._infer(make, samples.arrays, row, size, count, slices, totals)
            row += size * count

    def predict(self, inputs: Sequence[np.ndarray | Images], batch: int, steps: int) -> list[np.ndarray]:
        """The outputs for inputs in order."""
        results = self.results(inputs, batch, steps)
        for _ in self.predict_steps(inputs, results, batch, steps):
            pass
        return results

    def results(self, inputs: Sequence[np.ndarray | Images], batch: int, steps: int) -> list[np.ndarray]:
        """Arrays for the outputs."""
        count = min(len(inputs[0]), steps * batch)
        outputs = self.structure([x.shape[1:] for x in inputs]).outputs
        return [np.empty(t.concrete(count), self.model.dtype) for t in outputs]

    def predict_steps(
        self,
        inputs: Sequence[np.ndarray | Images],
        results: Sequence[np.ndarray],
        batch: int,
        steps: int,
        slices: bool = True,
    ) -> Iterator[int]:
        """As ``test_steps``: the outputs are written to ``results``."""
        row = 0
        for size, count in parts(len(results[0]), batch, steps):
            make = lambda size=size: self.inference(size, inputs)  # noqa: E731
            yield from self._infer(make, [*inputs, *results], row, size, count, slices)
            row += size * count

    def _infer(
        self,
        make: Callable[[], Ready],
        arrays: Sequence[np.ndarray | Images],
        row: int,
        size: int,
        count: int,
        slices: bool,
        totals: np.ndarray | None = None,
    ) -> Iterator[int]:
        state, cells = self.infer_state, self.totals["test"]
        while count:
            ready = make()
            self.guard.give_way()
            with self._turn("infer"):
                if any(p.value is not v for p, v in zip(self.parameters, ready.values, strict=True)):
                    continue  # another thread has moved the parameters meanwhile
                bind(state, arrays, {INDICES: 0, LOCAL: 0, ROW: row, BATCH: size})
                if totals is not None:
                    cells[...] = totals
                done = ready.executable.run(count if slices else 1, SLICE)
                if totals is not None:
                    totals[...] = cells
            count -= done
            row += done * size
            yield done

    def fast(self, x: np.ndarray) -> FastPredict | None:
        """The short way for arrays like ``x``, if one run of one Program does it."""
        structure = self.structure([x.shape[1:]])
        if len(structure.inputs) != 1 or len(structure.outputs) != 1 or structure.output_keys:
            return None
        return FastPredict(self, self.inference(len(x), [x]), structure.outputs[0].concrete(len(x)))


class FastPredict:
    """Predictions for arrays of one shape, layout and dtype: what is left of ``predict`` when all else is known."""

    __slots__ = ("batch", "dtype", "engine", "executable", "guard", "pairs", "shape", "state")

    def __init__(self, engine: Engine, ready: Ready, shape: tuple[int, ...]):
        self.engine, self.executable, self.shape = engine, ready.executable, shape
        self.guard = engine.guard
        self.pairs = list(zip(engine.parameters, ready.values, strict=True))
        self.dtype = np.dtype(engine.model.dtype)
        self.state, self.batch = engine.infer_state, shape[0]

    def predict(self, x: np.ndarray) -> np.ndarray | None:
        """The outputs; None where the long way must look at it: parameters have moved, or a value is not finite."""
        for parameter, value in self.pairs:
            if parameter.value is not value:
                return None
        with np.errstate(all="ignore"):
            if not isfinite(np.add.reduce(x, axis=None, dtype=self.dtype)):
                return None
        result = np.empty(self.shape, self.dtype)
        guard, me = self.guard, get_ident()
        if guard.owner != me:  # another thread may be at work, or this one is inside, and a signal handler calls
            with self.engine._turn("infer"):
                self._run(x, result)
            return result
        with guard.lock:
            guard.owner = -me
            try:
                self._run(x, result)
            finally:
                guard.owner = me
        return result

    def _run(self, x: np.ndarray, result: np.ndarray) -> None:
        state = self.state
        state[ROW] = state[INDICES] = 0
        state[BATCH] = self.batch
        state[SLOTS] = x.__array_interface__["data"][0]
        state[SLOTS + 1] = result.__array_interface__["data"][0]
        self.executable.run()


def feeds(tensors: Sequence[Tensor], sources: Sequence[Source], augment: bool = False) -> list[Node]:
    """What reads the batch; ``augment``: images are changed at random."""
    pairs = zip(tensors, sources, strict=True)
    return [
        effects.feed(tensor, slot, source.dtype, source.stride, source.transform, augment)
        for slot, (tensor, source) in enumerate(pairs)
    ]


def parts(samples: int, batch: int, steps: int) -> list[tuple[int, int]]:
    """(batch size, how many) of ``steps`` steps over the samples: full batches, then a smaller one."""
    full, rest = divmod(samples, batch)
    result = [(batch, min(full, steps))] if min(full, steps) else []
    return [*result, (rest, 1)] if rest and steps > full else result


def bind(state: np.ndarray, arrays: Sequence[np.ndarray | Images], setup: dict[int, int]) -> None:
    """Write the addresses of arrays and other cells; the caller keeps the arrays alive."""
    for slot, array in enumerate(arrays):
        state[SLOTS + slot] = address(array)
    for cell, value in setup.items():
        state[cell] = value


def address(array: np.ndarray | Images) -> int:
    return (array.x if isinstance(array, Images) else array).__array_interface__["data"][0]
