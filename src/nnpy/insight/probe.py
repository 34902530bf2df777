"""Probe: what a network computes for some samples, layer by layer, as arrays."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

import nncore
from nncore.memory import BATCH, DRAW, EPOCH
from nnpy import ops
from nnpy.checks import flag
from nnpy.compiler import compile_step, differentiate, specialise
from nnpy.data.inputs import distribute, fits, readable, to_array
from nnpy.graph import Tensor
from nnpy.locks import at_rest
from nnpy.structure import weight_names
from nnpy.training.binding import bind
from nnpy.training.programs import feeds
from nnpy.training.samples import Samples, prepare, prepare_inputs

if TYPE_CHECKING:
    from nnpy.model import Model


class _Named(dict[str, np.ndarray]):
    """Arrays by name, whose KeyError says what there is, and why something is not."""

    def __init__(self, what: str):
        super().__init__()
        self.what, self.why = what, ""
        self.reasons: dict[str, str] = {}

    def __missing__(self, name: str) -> np.ndarray:
        why = self.reasons.get(name, self.why)
        raise KeyError(f"no {self.what} {name!r}{': ' if why else ''}{why}; there are {', '.join(self) or 'none'}")


class Probe(Mapping[str, np.ndarray]):
    """A mapping of layer names to ``activations``, (samples, ...) each.

    ``gradients``: of the loss (the mean over the samples) by the activations, by the same names; a layer that the loss
    does not depend on, or whose softmax or sigmoid the loss takes over, has none; Dropout, which does nothing in
    inference, has its input's. ``parameter_gradients``: by the names of the trainable weights, regularization included.
    Both are empty, and ``loss`` is None, without targets and ``upstream``.
    """

    def __init__(self) -> None:
        self.activations: dict[str, np.ndarray] = _Named("activation")
        self.gradients = _Named("gradient")
        self.parameter_gradients = _Named("parameter gradient")
        self.loss: float | None = None

    def __getitem__(self, name: str) -> np.ndarray:
        return self.activations[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.activations)

    def __len__(self) -> int:
        return len(self.activations)

    def __repr__(self) -> str:
        lines = ["Probe" if self.loss is None else f"Probe, loss {self.loss:.4g}"]
        for name, value in self.items():
            slope = f", gradient norm {np.linalg.norm(self.gradients[name]):.4g}" if name in self.gradients else ""
            lines.append(f"{name}: {value.shape} mean {value.mean():.4g} std {value.std():.4g}{slope}")
        lines += [
            f"{name}: {value.shape} gradient norm {np.linalg.norm(value):.4g}"
            for name, value in self.parameter_gradients.items()
        ]
        return "\n".join(lines)

    def _explain(self, weights: Mapping[str, bool]) -> None:
        """What the errors of missing gradients say. ``weights``: names, and whether each is trainable."""
        if self.loss is None:
            self.gradients.why = self.parameter_gradients.why = "neither y nor upstream was given: probe(x, y)"
            return
        for name in self.activations:
            self.gradients.reasons[name] = (
                "it is inside of the loss's kernel, which takes over the softmax or sigmoid of the output, or the loss "
                "does not depend on it"
            )
        for name, trainable in weights.items():
            if not trainable:
                self.parameter_gradients.reasons[name] = "it is not trainable"


def probe(model: Model, x: Any, y: Any = None, training: bool = False, upstream: Any = None) -> Probe:
    """``Model.probe``: all samples are one batch. With ``y`` the model must be compiled."""
    training = flag("probe", "training", training)
    if y is not None and upstream is not None:
        raise ValueError("probe: expected either y or upstream, got both")
    if y is None:
        arrays = prepare_inputs(model, x)
        given = [] if upstream is None else _upstream(model, upstream, len(arrays[0]))
        samples = Samples(len(arrays[0]), arrays, given, [None] * len(given))
    else:
        samples = prepare(model, x, y)
    engine = model.engine
    structure = engine.structure([array.shape[1:] for array in samples.inputs])
    structure = structure.for_training if training else structure
    named = structure.activations()
    state = nncore.new_state(samples.count, model.training.seed)
    state[DRAW], state[EPOCH] = model.training.draw, model.training.epoch
    tensors: list[Tensor] = list(structure.inputs)
    claims = y is not None or training
    values = engine.claim().views if claims else engine.readable()
    objective = None if y is None else engine.objective(samples.weighted, structure)
    wanted: list[Tensor] = list(named.values())
    if objective is not None:
        tensors += objective.targets
        scalar, _ = objective.with_penalties(engine.parameters, structure.losses)
        wanted.append(scalar)
    elif upstream is not None:
        factors = [Tensor((None, *array.shape[1:]), None, "upstream") for array in samples.targets]
        tensors += factors
        parts = [ops.sum(output * factor) for output, factor in zip(structure.outputs, factors, strict=True)]
        scalar = functools.reduce(operator.add, parts)
        wanted.append(scalar)
    differentiates = y is not None or upstream is not None
    final, _ = specialise(wanted, training)
    slopes: dict[Tensor, Tensor] = {}
    if differentiates:
        trained = [p for p in model.weights if p.trainable]
        slopes = differentiate(final[scalar], [*trained, *final.values()])
    keep = [final[t] for t in wanted]
    if differentiates:
        keep += [slopes[t] for t in (*trained, *(final[t] for t in named.values())) if t in slopes]
    keep = list(dict.fromkeys(keep))  # in order: random streams are numbered as they come
    nodes = feeds(tensors, samples.sources, training)
    executable = compile_step(nodes, samples.count, state, model.dtype, keep, values=values)
    bind(state, samples.arrays, {BATCH: samples.count})
    with at_rest(model.weights):
        if claims:  # another model that shares weights may have moved them meanwhile
            engine.claim()
        with _undisturbed(model):
            executable.run()
    result = Probe()
    for name, tensor in named.items():
        result.activations[name] = np.array(executable.value(final[tensor]))
        if final[tensor] in slopes:
            result.gradients[name] = np.array(executable.value(slopes[final[tensor]]))
    if differentiates:
        for parameter, name in weight_names(model).items():
            if parameter.trainable:
                slope = slopes.get(parameter)
                result.parameter_gradients[name] = (
                    np.zeros_like(parameter.value) if slope is None else np.array(executable.value(slope))
                )
        result.loss = float(executable.value(final[scalar]))
    result._explain({name: parameter.trainable for parameter, name in weight_names(model).items()})
    return result


def _upstream(model: Model, upstream: Any, count: int) -> list[np.ndarray]:
    """An array for each output. TypeError for what is none, ValueError for other shapes than the outputs have."""
    names, outputs = model.output_names, model.structure.outputs
    given = distribute(upstream, names, [len(output.shape) for output in outputs], "upstream")
    arrays = [readable(to_array(value, "upstream")) for value in given]
    for name, output, array in zip(names, outputs, arrays, strict=True):
        if len(array) != count or not fits(array.shape[1:], output.shape[1:]):
            expected = (count, *output.shape[1:])
            raise ValueError(f"probe: expected upstream of shape {expected} for output {name!r}, got {array.shape}")
    return arrays


@contextmanager
def _undisturbed(model: Model) -> Iterator[None]:
    """Inside, a step may move statistics: they are put back."""
    moving = [parameter for parameter in model.weights if not parameter.trainable]
    before = [parameter.value.copy() for parameter in moving]
    try:
        yield
    finally:
        for parameter, value in zip(moving, before, strict=True):
            parameter.value[...] = value
