"""Probe: what a network computes for some samples, layer by layer, as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

import nncore
from nncore.memory import BATCH
from nnpy.compiler import Request, compile_request
from nnpy.graph import Tensor
from nnpy.layers.base import Call
from nnpy.saving import weight_names
from nnpy.training.engine import bind, feeds
from nnpy.training.samples import Samples, prepare, prepare_inputs

if TYPE_CHECKING:
    from nnpy.model import Model


class Probe(Mapping[str, np.ndarray]):
    """A mapping of layer names to ``activations``, (samples, ...) each.

    ``gradients``: of the loss (the mean over the samples) by the activations, by the same names; a layer that the loss
    does not depend on, or whose softmax or sigmoid the loss takes over, has none; Dropout, which does nothing in
    inference, has its input's. ``parameter_gradients``: by the names of the
    trainable weights, regularization included. Both are empty, and ``loss`` is None, without targets.
    """

    def __init__(self) -> None:
        self.activations: dict[str, np.ndarray] = {}
        self.gradients: dict[str, np.ndarray] = {}
        self.parameter_gradients: dict[str, np.ndarray] = {}
        self.loss: float | None = None

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.activations:
            raise KeyError(f"no activation {name!r}; there are {', '.join(self.activations)}")
        return self.activations[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.activations)

    def __len__(self) -> int:
        return len(self.activations)

    def __repr__(self) -> str:
        lines = [f"{name}: {value.shape} mean {value.mean():.4g} std {value.std():.4g}" for name, value in self.items()]
        return "\n".join(["Probe", *lines])


def probe(model: Model, x: Any, y: Any = None) -> Probe:
    """``Model.probe``: as in inference (no dropout), all samples one batch. With ``y`` the model must be compiled."""
    if y is None:
        arrays = prepare_inputs(model, x)
        samples = Samples(len(arrays[0]), arrays, [], [])
    else:
        samples = prepare(model, x, y)
    engine, structure = model.engine, model.structure
    named = _activations(model)
    state = nncore.new_state(samples.count)
    tensors: list[Tensor] = list(structure.inputs)
    options: dict[str, Any] = {}
    store = engine.readable()
    if y is not None:
        objective = engine.objective(samples.weighted)
        tensors += objective.targets
        totals = np.zeros((len(objective.losses), 2))
        options = dict(
            objective=objective.losses,
            totals=[(loss, totals[i], None) for i, (loss, _) in enumerate(objective.losses)],
            keep_gradients=True,
        )
        store = engine.claim()
    request = Request(samples.count, False, feeds(tensors, samples.sources), keep=list(named.values()), **options)
    executable = compile_request(request, store, state)
    bind(state, samples.arrays, {BATCH: samples.count})
    with engine.train_lock:  # the flat gradients are those of training
        if y is not None:
            store.gradients[:] = 0
        executable.program.run(1)
        result = Probe()
        for name, tensor in named.items():
            result.activations[name] = np.array(executable.value(tensor))
            gradient = executable.gradient(tensor) if y is not None else None
            if gradient is not None:
                result.gradients[name] = np.array(gradient)
        if y is not None:
            for name, parameter in zip(weight_names(model.weights), model.weights, strict=True):
                if parameter.trainable:
                    result.parameter_gradients[name] = np.array(store.gradient(parameter))
            losses = zip(objective.losses, totals, strict=True)
            result.loss = (
                sum(weight * float(total / count) for (_, weight), (total, count) in losses) + engine.penalty()
            )
    return result


def _activations(model: Model) -> dict[str, Tensor]:
    """Every layer's outputs by its name; a number is added where it was called more than once."""
    named: dict[str, Tensor] = {}
    for call in model.structure.calls:
        stem = call.layer.name if isinstance(call, Call) else call.operation.name
        for tensor in call.outputs if isinstance(call, Call) else call.outputs[:1]:
            name, number = stem, 1
            while name in named:
                name, number = f"{stem}_{number}", number + 1
            named[name] = tensor
    return named
