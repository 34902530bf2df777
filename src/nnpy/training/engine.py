"""Engine: a model's Programs, one for each use, batch size and kind of data, and what they share."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

import numpy as np

import nncore
from nncore.memory import BATCH, DRAW, EPOCH, INDICES, LOCAL, NUMBERS, RATES, ROW, SEED, SLOTS
from nnpy.compiler import Executable, Feed, Request, compile_request
from nnpy.data.images import Images
from nnpy.graph import Parameter, Tensor
from nnpy.optimizers.base import Updater
from nnpy.parameters import Store
from nnpy.training.samples import Samples, Source, source
from nnpy.training.settings import Head, Objective, Settings, logs_of

if TYPE_CHECKING:
    from nnpy.layers.base import Layer
    from nnpy.model import Model

SLICE = 0.05  # seconds between two looks at signals and progress
MOST_ARRAYS = nncore.memory.LAYOUT["SIZE"] - SLOTS  # that a Program can be bound to
_MOST_PROGRAMS = 24
_MOST_BYTES = 1 << 30  # of their arenas


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


_engines: WeakSet[Engine] = WeakSet()


def _after_fork() -> None:
    """In a forked child the threads that held locks, or were in fit, do not exist."""
    for engine in list(_engines):
        engine.new_locks()
        if engine.model.fitting != threading.get_ident():
            engine.model.fitting = 0


os.register_at_fork(after_in_child=_after_fork)


class Engine:
    """Programs are made when first needed and kept, the least recently used dropped beyond a bound.

    Training programs share ``train_state`` and work on ``store``, which holds the parameters; the others share
    ``infer_state`` and read the parameters wherever they are. Each state has a lock: one run at a time.
    """

    def __init__(self, model: Model, settings: Settings | None, before: Engine | None = None):
        self.model = model
        self.settings = settings
        self.parameters = model.weights
        self.trainable = {parameter: parameter.trainable for parameter in self.parameters}
        self.layers = {layer: layer.trainable for layer in _inside(model)}  # frozen normalization asks them
        self.heads: list[Head] = settings.resolve(model) if settings is not None else []
        columns = sum(1 + len(head.metrics) + len(head.weighted) for head in self.heads)
        # A row for each loss and metric; after those of training, one for the penalty of the regularizers.
        self.totals = {"train": np.zeros((columns + 1, 2)), "test": np.zeros((columns, 2))}
        self.infer_state = nncore.new_state()
        self.train_state = nncore.new_state(seed=settings.seed if settings is not None else 0)
        self.new_locks()
        self.epochs = 0  # trained so far: the number of the next shuffle
        self.updates = 0  # of the parameters so far: what schedules count by
        self.store: Store | None = None
        self._views: dict[Parameter, np.ndarray] = {}
        self._objectives: dict[tuple[bool, ...], Objective] = {}
        self._programs: OrderedDict[tuple, Ready] = OrderedDict()
        if before is not None and before.trainable == self.trainable:
            self._take_over(before)

    def new_locks(self) -> None:
        self.infer_lock, self.train_lock, self._making = threading.RLock(), threading.RLock(), threading.RLock()
        _engines.add(self)

    def _take_over(self, before: Engine) -> None:
        """Compiled again: the flat buffers stay, and with the same optimizer so does where it stands."""
        self.store, self._views = before.store, before._views
        if self.settings and before.settings and before.settings.optimizer is self.settings.optimizer:
            self.train_state[DRAW] = before.train_state[DRAW]
            self.updates, self.epochs = before.updates, before.epochs

    # parameters

    def claim(self) -> Store:
        """The store, with the parameters' newest values in it: another model that shares some may have moved them."""
        if self.store is None:
            with self._as_compiled():
                self.store = Store(self.parameters, self.model.dtype)
            self._views = {parameter: parameter.value for parameter in self.parameters}
        for parameter, view in self._views.items():
            if parameter.value is not view:
                view[...] = parameter.value
                parameter.value = view
        return self.store

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

    def training_logs(self, totals: np.ndarray) -> dict[str, float]:
        """Names and values from the totals of training steps, or a sum of them."""
        penalty, samples = totals[-1]
        return logs_of(self.heads, totals[:-1], float(penalty / samples) if samples else 0.0)

    def penalty(self) -> float:
        """What the regularizers add to the loss, for the weights as they are now."""
        total = 0.0
        for parameter in self.parameters:
            if parameter.l1 or parameter.l2:
                w = parameter.value.astype(np.float64).reshape(-1)
                total += parameter.l1 * float(np.abs(w).sum()) + parameter.l2 * float(w @ w)
        return total

    # programs

    def objective(self, weighted: tuple[bool, ...]) -> Objective:
        if weighted not in self._objectives:
            self._objectives[weighted] = Objective(self.heads, weighted)
        return self._objectives[weighted]

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

    def _program(self, mode: str, batch: int, sources: tuple[Source, ...], weighted: tuple[bool, ...]) -> Ready:
        with self._making:
            return self._find_or_make(mode, batch, sources, weighted)

    def _find_or_make(self, mode: str, batch: int, sources: tuple[Source, ...], weighted: tuple[bool, ...]) -> Ready:
        store = self.store if mode == "train" else self.readable()
        key = (mode, batch, sources, weighted, () if mode == "train" else tuple(id(p.value) for p in self.parameters))
        found = self._programs.get(key)
        if found is not None:
            self._programs.move_to_end(key)
            return found
        assert store is not None
        with self._as_compiled():
            request = self._request(mode, batch, sources, weighted)
            executable = compile_request(request, store, self.train_state if mode == "train" else self.infer_state)
        made = Ready(
            executable, [parameter.value for parameter in self.parameters]
        )  # holding them, their ids are theirs
        self._programs[key] = made
        while len(self._programs) > _MOST_PROGRAMS or (
            len(self._programs) > 4 and sum(p.executable.arena_bytes for p in self._programs.values()) > _MOST_BYTES
        ):
            self._programs.popitem(last=False)
        return made

    def _check_arrays(self, count: int) -> None:
        if count > MOST_ARRAYS:
            raise ValueError(
                f"{self.model}: expected at most {MOST_ARRAYS} inputs, outputs, targets and weights together, "
                f"got {count}"
            )

    def _request(self, mode: str, batch: int, sources: tuple[Source, ...], weighted: tuple[bool, ...]) -> Request:
        structure = self.model.structure
        tensors: list[Tensor] = list(structure.inputs)
        if mode == "predict":
            self._check_arrays(len(tensors) + len(structure.outputs))
            outputs = [(tensor, len(tensors) + position) for position, tensor in enumerate(structure.outputs)]
            return Request(batch, False, feeds(tensors, sources), outputs=outputs)
        objective = self.objective(weighted)
        tensors += [*objective.targets, *(w for w in objective.weights if w is not None)]
        self._check_arrays(len(tensors))
        totals = [(values, self.totals[mode][i], w) for i, (values, w) in enumerate(objective.totals)]
        if mode == "test":
            return Request(batch, False, feeds(tensors, sources), objective=objective.losses, totals=totals)
        penalty = self.totals[mode][-1] if any(p.l1 or p.l2 for p in self.parameters) else None
        return Request(
            batch, True, feeds(tensors, sources), objective=objective.losses, totals=totals, penalty=penalty,
            update=self._update,
        )  # fmt: skip

    def _update(self, store: Store, state: np.ndarray) -> Updater:
        assert self.settings is not None
        return self.settings.optimizer.updater(store, state)

    # running

    def train_steps(
        self, samples: Samples, batch: int, steps: int, order: np.ndarray | None = None, slices: bool = True
    ) -> Iterator[int]:
        """Train ``steps`` steps on the samples in ``order``, the last batch perhaps smaller; yields after each stretch
        how many it was: about 50 ms, or without ``slices`` one step."""
        assert self.settings is not None
        state, optimizer = self.train_state, self.settings.optimizer
        first, rate = self.updates, optimizer.learning_rate
        rates = optimizer.rates(first, steps)
        setup = {INDICES: 0 if order is None else address(order), RATES: address(rates), LOCAL: 0, ROW: 0}
        numbers = samples.numbers
        setup |= {EPOCH: self.epochs, NUMBERS: 0 if numbers is None else address(numbers)}
        for size, count in parts(samples.count, batch, steps):
            program = self.training(size, samples).program
            setup[BATCH] = size
            while count:
                if optimizer.learning_rate is not rate:  # a callback has set it
                    rate = optimizer.learning_rate
                    rates = optimizer.rates(first, steps)
                    setup[RATES] = address(rates)
                with self.train_lock:
                    self.claim()  # a callback may have trained another model that shares parameters
                    bind(state, samples.arrays, setup)
                    done = program.run(count if slices else 1, SLICE)
                    self.updates += done
                    setup.update({ROW: int(state[ROW]), LOCAL: int(state[LOCAL])})
                count -= done
                yield done

    def test_steps(self, samples: Samples, batch: int, steps: int, slices: bool = True) -> Iterator[int]:
        """As ``train_steps``, without training: losses and metrics of the samples in order."""
        setup = {INDICES: 0, LOCAL: 0, ROW: 0}
        for size, count in parts(samples.count, batch, steps):
            program = self.testing(size, samples).program
            yield from self._infer(program, samples.arrays, setup, size, count, slices)

    def predict(self, inputs: Sequence[np.ndarray | Images], batch: int, steps: int) -> list[np.ndarray]:
        """The outputs for inputs in order."""
        results = self.results(inputs, batch, steps)
        for _ in self.predict_steps(inputs, results, batch, steps):
            pass
        return results

    def results(self, inputs: Sequence[np.ndarray | Images], batch: int, steps: int) -> list[np.ndarray]:
        """Arrays for the outputs."""
        count = min(len(inputs[0]), steps * batch)
        return [np.empty(t.concrete(count), self.model.dtype) for t in self.model.structure.outputs]

    def predict_steps(
        self,
        inputs: Sequence[np.ndarray | Images],
        results: Sequence[np.ndarray],
        batch: int,
        steps: int,
        slices: bool = True,
    ) -> Iterator[int]:
        """As ``test_steps``: the outputs are written to ``results``."""
        setup = {INDICES: 0, LOCAL: 0, ROW: 0}
        for size, times in parts(len(results[0]), batch, steps):
            program = self.inference(size, inputs).program
            yield from self._infer(program, [*inputs, *results], setup, size, times, slices)

    def _infer(
        self,
        program: Any,
        arrays: Sequence[np.ndarray | Images],
        setup: dict[int, int],
        size: int,
        count: int,
        slices: bool,
    ) -> Iterator[int]:
        state = self.infer_state
        setup[BATCH] = size
        while count:
            with self.infer_lock:
                bind(state, arrays, setup)
                done = program.run(count if slices else 1, SLICE)
                setup[ROW] = int(state[ROW])
            count -= done
            yield done

    def fast(self, x: np.ndarray) -> FastPredict | None:
        """The short way for arrays like ``x``, if one run of one Program does it."""
        structure = self.model.structure
        if len(structure.inputs) != 1 or len(structure.outputs) != 1 or structure.output_keys:
            return None
        return FastPredict(self, self.inference(len(x), [x]), structure.outputs[0].concrete(len(x)))

    def position(self) -> dict[str, int]:
        """Where training stands, for files."""
        return {"step": self.updates, "epochs": self.epochs, "seed": int(self.train_state[SEED])}

    def set_position(self, position: dict[str, int]) -> None:
        self.updates, self.epochs = position["step"], position["epochs"]
        self.train_state[DRAW] = self.updates  # one draw an update
        self.train_state[SEED] = position["seed"]


class FastPredict:
    """Predictions for arrays of one shape, layout and dtype: what is left of ``predict`` when all else is known."""

    __slots__ = ("batch", "dtype", "engine", "pairs", "program", "shape", "state")

    def __init__(self, engine: Engine, ready: Ready, shape: tuple[int, ...]):
        self.engine, self.program, self.shape = engine, ready.program, shape
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
        state = self.state
        with self.engine.infer_lock:
            state[ROW] = state[INDICES] = 0
            state[BATCH] = self.batch
            state[SLOTS] = x.__array_interface__["data"][0]
            state[SLOTS + 1] = result.__array_interface__["data"][0]
            self.program.run(1)
        return result


def _inside(layer: Layer) -> Iterator[Layer]:
    """The layers inside a layer, at any depth."""
    for inner in layer.sublayers():
        yield inner
        yield from _inside(inner)


def feeds(tensors: Sequence[Tensor], sources: Sequence[Source]) -> list[Feed]:
    return [Feed(tensor, slot, *of) for slot, (tensor, of) in enumerate(zip(tensors, sources, strict=True))]


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
