"""Models: the classes, what loads them, and copies with weights of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nnpy import tree
from nnpy.catalogue import offer
from nnpy.checks import shown
from nnpy.graph import Tensor, apply
from nnpy.layers.base import Layer
from nnpy.layers.calling import Call
from nnpy.layers.inputs import InputLayer
from nnpy.loading import load_model
from nnpy.model import Model
from nnpy.registry import from_list, to_list
from nnpy.sequential import Sequential
from nnpy.structure import pack, tensors_of


def clone_model(
    model: Model, input_tensors: Any = None, clone_function: Callable[[Layer], Layer] | None = None
) -> Model:
    """A model of the same layers with weights of its own, drawn anew; not compiled.

    ``clone_function``: what makes the new layer of each layer; by default a layer of the same configuration.
    ``input_tensors``: Inputs (one, a list or a dict) to stand where the model's do. TypeError for what is no Model, for
    layers that hold functions (a Lambda: give ``clone_function``), or a subclass whose ``call`` is code and that has
    no ``get_config``; ValueError for a subclass with ``input_tensors`` or ``clone_function``.
    """
    if not isinstance(model, Model):
        raise TypeError(f"clone_model: expected a Model, got {shown(model)}")
    if input_tensors is None and clone_function is None:
        return from_list(to_list(model))
    if model.is_code:
        raise ValueError(
            f"{model}: clone_model: expected neither input_tensors nor clone_function: its call is code; copy it by "
            "its get_config"
        )
    copies: dict[Layer, Layer] = {}

    def copied(layer: Layer) -> Layer:
        if layer not in copies:
            made = from_list(to_list(layer)) if clone_function is None else clone_function(layer)
            if not isinstance(made, Layer):
                raise TypeError(f"{model}: clone_model: expected clone_function to return a Layer, got {shown(made)}")
            copies[layer] = made
        return copies[layer]

    given = None if input_tensors is None else tensors_of(input_tensors, f"{model}: input_tensors", model.input_names)
    if isinstance(model, Sequential):
        start = given if given is not None else [] if model._lazy or model._input is None else [_anew(model._input)]
        return Sequential([*start, *(copied(layer) for layer in model.layers)], name=model.name, seed=model.seed)
    structure = model.outline
    inputs = [_anew(tensor) for tensor in structure.inputs] if given is None else given
    if len(inputs) != len(structure.inputs):
        raise ValueError(f"{model}: clone_model: expected {len(structure.inputs)} inputs, got {len(inputs)}")
    outputs = _replayed(structure, inputs, copied)
    return Model(
        pack(inputs, structure.input_keys), pack(outputs, structure.output_keys), name=model.name, seed=model.seed
    )


def _anew(tensor: Tensor) -> Tensor:
    """A new Input like one that there is."""
    return from_list(to_list(tensor.call.layer)).make()


def _replayed(structure: Any, inputs: Sequence[Tensor], copied: Callable[[Layer], Layer]) -> list[Tensor]:
    """The structure's calls, of other layers on other inputs."""
    values: dict[Tensor, Tensor] = dict(zip(structure.inputs, inputs, strict=True))

    def now(tensor: Tensor) -> Tensor:
        return values.get(tensor, tensor)

    for call in structure.calls:
        if not isinstance(call, Call):
            made = apply(call.operation, [now(tensor) for tensor in call.inputs], **call.attributes).made_by
            results: Sequence[Tensor] = made.outputs
        elif isinstance(call.layer, InputLayer):
            continue
        else:
            result = copied(call.layer)(*tree.replace(call.args, now), **tree.replace(call.kwargs, now))
            results = tree.tensors(result)
        values.update(zip(call.outputs, results, strict=True))
    return [values[tensor] for tensor in structure.outputs]


__all__ = ["Model", "Sequential", "clone_model", "load_model"]

offer(__name__, __all__)
