"""Programs: those of a model, one for each use, batch size and kind of data, and what they share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import nncore
from nncore.memory import SLOTS
from nnpy import freezing
from nnpy.compiler import Executable, compile_step, differentiate, specialise
from nnpy.data.images import Images
from nnpy.data.sparse import Sparse
from nnpy.graph import Node, Parameter, Tensor
from nnpy.hints import advise
from nnpy.locks import guard_of, publishing
from nnpy.ops import effects
from nnpy.ops.updates import then
from nnpy.parameters import Store
from nnpy.training.objective import Objective, Plan
from nnpy.training.samples import Samples, Source, source
from nnpy.training.settings import Head, Settings

if TYPE_CHECKING:
    from nnpy.model import Model
    from nnpy.structure import Structure

MOST_ARRAYS = nncore.memory.LAYOUT["SIZE"] - SLOTS  # that a Program can be bound to
_MOST_PROGRAMS = 24


class Home:
    """The store of some parameters, once there is one."""

    store: Store | None = None


class Ready(NamedTuple):
    """A Program, and what it was made for: the arrays of the parameters, and which were trainable.

    ``trained``: the parameters that it may move, if it is a step."""

    executable: Executable
    values: list[np.ndarray]
    trainable: bytes
    trained: tuple[Parameter, ...]

    @property
    def program(self) -> Any:
        return self.executable.program


class Programs:
    """Programs are made when first needed and kept, the least recently used dropped beyond a bound.

    Training programs share ``train_state`` and work on ``store``, which holds the parameters; the others share
    ``infer_state`` and read the parameters wherever they are. What is trainable when a Program is asked for is what it
    trains. ``guard``: one run, or copy of the parameters, at a time; see ``nnpy.locks``. Where training stands is
    ``model.training``.
    """

    def __init__(self, model: Model, settings: Settings | None, before: Programs | None = None):
        self.model = model
        self.settings = settings
        self.parameters = model.weights
        self._freezable: list[Any] = [*model.walk()[1:], *self.parameters]  # frozen normalization asks its layer
        self._trainable: tuple[object, bytes] = (None, b"")
        self.heads: list[Head] = settings.resolve(model) if settings is not None else []
        self.plan = Plan(self.heads)
        self.infer_state = nncore.new_state()
        self.train_state = nncore.new_state()
        self.guard = guard_of(self.parameters)
        # Compiled again: the parameters, and what the same optimizer knows of each, stay where they are.
        self.home: Home = before.home if before is not None and before.parameters == self.parameters else Home()
        self._objectives: dict[tuple, Objective] = {}
        self._programs: OrderedDict[tuple, Ready] = OrderedDict()
        self._arena: np.ndarray | None = None
        self.next_copy = 0.0  # when Watch may take one
        self.lost = False  # whether the last train_on_batch had a loss that is not finite

    def goes_on_from(self, before: Programs | None) -> bool:
        """Whether the optimizer knows what it knew."""
        if before is None or before.settings is None or self.settings is None:
            return False
        return self.home is before.home and self.settings.optimizer is before.settings.optimizer

    # parameters

    @property
    def store(self) -> Store | None:
        """Where the parameters are trained; None before the first step."""
        return self.home.store

    def claim(self) -> Store:
        """The store, with the parameters' newest values in it: another model that shares some may have moved them."""
        with self.guard.lock:
            if self.home.store is None:
                self.home.store = Store(self.parameters, self.model.dtype)
            self.home.store.gather()
            return self.home.store

    @property
    def trainable(self) -> bytes:
        """Which layers and parameters are trainable now: Programs are made for it."""
        last = freezing.last
        if self._trainable[0] is not last:
            self._trainable = (last, self._asked())
        return self._trainable[1]

    def _asked(self) -> bytes:
        return bytes(each.trainable for each in self._freezable)

    def _trained(self, trainable: bytes) -> tuple[Parameter, ...]:
        """The parameters among what is trainable, in the store's order."""
        is_trainable = dict(zip(self._freezable, trainable, strict=True))
        return tuple(p for p in self.claim().parameters if is_trainable[p])

    def readable(self) -> dict[Parameter, np.ndarray]:
        """The parameters where they are, for Programs that only read them: several models may share a layer."""
        values, dtype = {p: p.value for p in self.parameters}, np.dtype(self.model.dtype)
        if any(value.dtype != dtype or not value.flags.c_contiguous for value in values.values()):
            views = self.claim().views
            return {p: views[p] for p in self.parameters}
        return values

    def finalize(self) -> None:
        """Training has ended: weights become what the optimizer makes of them then."""
        assert self.settings is not None
        self.claim()
        with self.guard.lock:
            self.settings.optimizer.finalize_variable_values([p for p in self.parameters if p.trainable])

    def slot_views(self) -> dict[tuple[str, Parameter], np.ndarray]:
        """The optimizer's slots, by name and weight."""
        assert self.settings is not None
        store = self.claim()
        return self.settings.optimizer.slot_views(store, store.trained)

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
        found = self._objectives.get(key)
        if found is None:
            mine = dict(zip(self.model.structure.outputs, structure.outputs, strict=True))
            heads = [replace(head, output=mine[head.output]) for head in self.heads]
            found = self._objectives.setdefault(key, Objective(self.plan, weighted, heads))
        return found

    def training(self, batch: int, samples: Samples) -> Ready:
        """A step: forward, loss, backward, update."""
        return self._program("train", batch, samples.sources, samples.weighted)

    def testing(self, batch: int, samples: Samples) -> Ready:
        """Forward, loss and metrics."""
        return self._program("test", batch, samples.sources, samples.weighted)

    def inference(self, batch: int, inputs: Sequence[np.ndarray | Images | Sparse]) -> Ready:
        """Forward, and the outputs written to arrays at the slots after the inputs'."""
        return self._program("predict", batch, tuple(source(array) for array in inputs), ())

    def _program(self, mode: str, batch: int, sources: tuple[Source, ...], weighted: tuple[int, ...]) -> Ready:
        trains = mode == "train"
        values = self.claim().views if trains else self.readable()
        made_of = self.settings.optimizer.compiled if trains and self.settings else tuple(map(id, values.values()))
        trainable = self.trainable
        key = (mode, batch, sources, weighted, made_of, trainable)
        found = self._programs.get(key)
        if found is None:
            executable, trainable = self._compile(mode, batch, sources, weighted, values, arena=self._memory)
            key = (*key[:-1], trainable)  # users' code has run meanwhile, and other threads
            # Holding the arrays, their ids are theirs.
            arrays = [values[parameter] for parameter in self.parameters]
            found = Ready(executable, arrays, trainable, self._trained(trainable) if trains else ())
        with publishing():
            found = self._programs.setdefault(key, found)
            self._programs.move_to_end(key)
            while len(self._programs) > _MOST_PROGRAMS:
                self._programs.popitem(last=False)
        return found

    def _compile(
        self, mode: str, batch: int, sources: tuple[Source, ...], weighted: tuple[int, ...],
        values: Mapping[Parameter, np.ndarray],
        without: Collection[str] = (), arena: Callable[[int], np.ndarray] | None = None,
    ) -> tuple[Executable, bytes]:  # fmt: skip
        """A Program, and what it takes to be trainable."""
        state, dtype = self.train_state if mode == "train" else self.infer_state, self.model.dtype
        nodes, trainable = self._effects(mode, sources, weighted)
        return compile_step(nodes, batch, state, dtype, arena=arena, without=without, values=values), trainable

    def _memory(self, nbytes: int) -> np.ndarray:
        """The arena that all Programs work in, as only one of them runs at a time. Those that were made for a smaller
        one are dropped, and made again when they are needed."""
        with publishing():
            if self._arena is None or self._arena.nbytes < nbytes:
                self._arena = nncore.aligned(nbytes, np.uint8)
                self._programs.clear()
            return self._arena

    def forget_steps(self) -> None:
        """What was compiled to train is made again: the optimizer's slots are others."""
        for key in [key for key in self._programs if key[0] == "train"]:
            del self._programs[key]

    def compiled(self, mode: str, batch: int, samples: Samples, without: Collection[str] = ()) -> Executable:
        """A step's Program, not kept: to be looked at."""
        values = self.claim().views if mode == "train" else self.readable()
        weighted = samples.weighted if mode != "predict" else ()
        return self._compile(mode, batch, samples.sources, weighted, values, without)[0]

    def _specialised(
        self, roots: Iterable[Tensor | Node], training: bool
    ) -> tuple[dict[Tensor, Tensor], dict[Node, Node], bytes]:
        """``specialise``, and what was trainable all the while: another thread may change it."""
        while True:
            last, before = freezing.last, self._asked()
            tensors, nodes = specialise(roots, training)
            if self._asked() == before and freezing.last is last:
                return tensors, nodes, before

    def _effects(self, mode: str, sources: tuple[Source, ...], weighted: tuple[int, ...]) -> tuple[list[Node], bytes]:
        """What a step of "train", "test" or "predict" does, and what it takes to be trainable."""
        structure = self.structure([source.shape for source in sources])
        structure = structure.for_training if mode == "train" else structure
        tensors: list[Tensor] = list(structure.inputs)
        if mode == "predict":
            self._check_arrays(len(tensors) + len(structure.outputs))
            final, nodes, trainable = self._specialised([*structure.outputs, *structure.effects], False)
            places = enumerate(structure.outputs, len(tensors))
            emitted = [effects.emit(final[t], place) for place, t in places]
            return [*feeds(tensors, sources), *emitted, *(nodes[node] for node in structure.effects)], trainable
        objective = self.objective(weighted, structure)
        tensors += [*objective.targets, *(w for w in objective.weights if w is not None)]
        self._check_arrays(len(tensors))
        scalar, penalty = objective.with_penalties(self.parameters, structure.losses)
        measured = [*objective.effects(mode, penalty), *structure.effects]
        tensor, nodes, trainable = self._specialised([scalar, *measured], mode == "train")
        made = [*feeds(tensors, sources, mode == "train"), *(nodes[node] for node in measured)]
        if mode == "train":
            assert self.settings is not None and self.store is not None
            store, optimizer = self.store, self.settings.optimizer
            trained = self._trained(trainable)
            if not trained and any(p.role == "weight" for p in self.parameters):
                advise(f"{self.model}: all weights are frozen, none is trainable: training leaves them as they are")
            gradients = differentiate(tensor[scalar], trained)
            found = {p: gradients[p] for p in trained if p in gradients}  # the others stay as they are
            optimizer.join(store, found)
            made += optimizer.effects(found, store)
            if constrained := [p for p in found if p.constraint is not None]:
                made.append(then(lambda: [_constrained(p) for p in constrained]))
        return made, trainable

    def _check_arrays(self, count: int) -> None:
        if count > MOST_ARRAYS:
            raise ValueError(
                f"{self.model}: expected at most {MOST_ARRAYS} inputs, outputs, targets and weights together, "
                f"got {count}"
            )


def _constrained(parameter: Parameter) -> Node:
    """What a constraint makes of a weight that the optimizer has updated. ValueError for another shape."""
    value = parameter.constraint(parameter)
    if not isinstance(value, Tensor) or value.sizes != parameter.sizes:
        got = value.shape if isinstance(value, Tensor) else type(value).__name__
        constraint, expected = parameter.constraint, parameter.shape
        raise ValueError(f"{parameter.name}: expected {constraint} to give shape {expected}, got {got}")
    return effects.assign(parameter, value)


def feeds(tensors: Sequence[Tensor], sources: Sequence[Source], augment: bool = False) -> list[Node]:
    """What reads the batch; ``augment``: images are changed at random. ValueError for samples of another size than the
    tensor's, where that is not known before the samples of an input are."""
    made = []
    for slot, (tensor, array) in enumerate(zip(tensors, sources, strict=True)):
        expected = tensor.concrete(1)[1:]
        if prod(expected) != prod(array.shape):
            raise ValueError(f"{tensor.name}: expected samples of shape {expected} for these inputs, got {array.shape}")
        made.append(effects.feed(tensor, slot, array.dtype, array.stride, array.transform, augment, array.sparse))
    return made
