"""Programs: those of a model, one for each use, batch size and kind of data, and what they share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import nncore
from nncore.memory import SLOTS
from nnpy.compiler import Executable, compile_step, differentiate, specialise
from nnpy.data.images import Images
from nnpy.graph import Node, Parameter, Tensor
from nnpy.hints import advise
from nnpy.locks import guard_of, making
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


class Programs:
    """Programs are made when first needed and kept, the least recently used dropped beyond a bound.

    Training programs share ``train_state`` and work on ``store``, which holds the parameters; the others share
    ``infer_state`` and read the parameters wherever they are. ``guard``: one run, or copy of the parameters, at a time;
    see ``nnpy.locks``. Where training stands is ``model.training``.
    """

    def __init__(self, model: Model, settings: Settings | None, before: Programs | None = None):
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
        self._before: Programs | None = None  # whose optimizer's state the store's will go on from
        self._views: dict[Parameter, np.ndarray] = {}
        self._objectives: dict[tuple, Objective] = {}
        self._programs: OrderedDict[tuple, Ready] = OrderedDict()
        self._arena: np.ndarray | None = None
        self._told = False  # of changes since compile()
        self.next_copy = 0.0  # when Watch may take one
        if before is not None:
            self._take_over(before)

    def _take_over(self, before: Programs) -> None:
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

    def tell_changes(self) -> None:
        """Warn, once, of layers that were frozen or unfrozen since compile(): it trains as it was compiled."""
        if self._told:
            return
        changed: list[Any] = [layer for layer, trainable in self.layers.items() if layer.trainable != trainable]
        changed = changed or [p.name for p, trainable in self.trainable.items() if p.trainable != trainable]
        if changed:
            self._told = True
            names = ", ".join(map(str, changed[:3])) + (", ..." if len(changed) > 3 else "")
            advise(f"{self.model}: trainable of {names} was changed since compile(), which has to be called again")

    def readable(self) -> Store:
        """A store for Programs that only read."""
        dtype = np.dtype(self.model.dtype)
        if any(p.value.dtype != dtype or not p.value.flags.c_contiguous for p in self.parameters):
            return self.claim()
        return Borrowed(self.parameters, self.model.dtype)

    @property
    def has_slots(self) -> bool:
        """Whether the optimizer knows something of the weights: of this model, or as it was compiled before."""
        return self.store is not None or self._before is not None

    def finalize(self) -> None:
        """Training has ended: weights become what the optimizer makes of them then."""
        assert self.settings is not None
        self.claim()
        with self.guard.lock:
            self.settings.optimizer.finalize_variable_values(self.parameters)

    def slot_views(self) -> dict[tuple[str, Parameter], np.ndarray]:
        """The optimizer's slots, by name and weight."""
        assert self.settings is not None
        return self.settings.optimizer.slot_views(self.claim())

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
        made_of: tuple[Any, ...] = tuple(id(p.value) for p in self.parameters)
        if mode == "train":
            assert self.settings is not None
            made_of = self.settings.optimizer.compiled
        key = (mode, batch, sources, weighted, made_of)
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

    def _effects(self, mode: str, sources: tuple[Source, ...], weighted: tuple[int, ...], store: Store) -> list[Node]:
        """What a step of "train", "test" or "predict" does."""
        structure = self.structure([source.shape for source in sources])
        structure = structure.for_training if mode == "train" else structure
        tensors: list[Tensor] = list(structure.inputs)
        if mode == "predict":
            self._check_arrays(len(tensors) + len(structure.outputs))
            final, nodes = specialise([*structure.outputs, *structure.effects], False)
            places = enumerate(structure.outputs, len(tensors))
            emitted = [effects.emit(final[t], place) for place, t in places]
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
            if constrained := [p for p in found if p.constraint is not None]:
                made.append(then(lambda: [_constrained(p) for p in constrained]))
        return made

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
    """What reads the batch; ``augment``: images are changed at random."""
    pairs = zip(tensors, sources, strict=True)
    return [
        effects.feed(tensor, slot, source.dtype, source.stride, source.transform, augment)
        for slot, (tensor, source) in enumerate(pairs)
    ]
