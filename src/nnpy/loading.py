"""Models and weights from files: what ``saving`` writes, and weights from elsewhere."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpy import seeds
from nnpy.checks import flag, integer
from nnpy.graph import Parameter
from nnpy.hints import keywords
from nnpy.layers.base import Layer
from nnpy.locks import at_rest
from nnpy.registry import from_list
from nnpy.structure import layer_paths, weight_names
from nnpy.tensors import TensorFile
from nnpy.training.settings import Settings

if TYPE_CHECKING:
    from nnpy.model import Model

FORMAT = 3
KEY = "nnpy"  # of our JSON among the metadata
SLOT = "/optimizer/"  # paths of weights do not begin with a slash, whatever a layer is called
_POSITION = ("epoch", "update", "draw", "seed")


class _File(TensorFile):
    """An open file of a model, of weights, or a copy in memory. Raises FileNotFoundError, or ValueError for another
    kind of file."""

    def __init__(self, source: str | os.PathLike | bytes):
        super().__init__(source)
        try:
            text = self.metadata.get(KEY)
            self.value: dict[str, Any] | None = None if text is None else json.loads(text)
            if self.value is not None and not isinstance(self.value, dict):
                raise ValueError("its metadata are no JSON object")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.path}: not a file of nnpy, or a damaged one: {error}") from error
        if self.value is not None and self.value.get("format") != FORMAT:
            raise ValueError(
                f"{self.path}: expected format {FORMAT}, got {self.value.get('format')!r}, of another version of nnpy"
            )
        self.names = [name for name in self.entries if not name.startswith(SLOT)]
        self.slots = [name for name in self.entries if name.startswith(SLOT)]

    def shape(self, name: str) -> tuple[int, ...]:
        return self.entries[name].shape


@keywords
def load_model(path: str | os.PathLike) -> Model:
    """The model that ``model.save(path)`` wrote: structure, weights; if compiled, settings, optimizer state and seed.

    Training goes on as if it had not stopped. Layers, losses and metrics of your own must be defined (imported) before.
    Raises FileNotFoundError, or ValueError for a file that is damaged, or holds weights alone.
    """
    with _File(path) as file:
        return _load(file)


def from_bytes(content: bytes) -> Model:
    """The model of ``to_bytes``. What is drawn at random afterwards does not depend on it."""
    with seeds.kept(), _File(content) as file:
        return _load(file)


def _load(file: _File) -> Model:
    if file.value is None or "layers" not in file.value:
        raise ValueError(f"{file.path}: holds weights alone, no model: build the model and call load_weights(path)")
    try:
        model = from_list(file.value["layers"])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file.path}: cannot make its model: {_told(error)}") from error
    if not hasattr(type(model), "structure"):  # only a Model, which stands on a higher floor, has one
        raise ValueError(f"{file.path}: expected a model, got {type(model).__name__}")
    if file.value.get("dtype") not in ("float32", "float64"):
        raise ValueError(f"{file.path}: expected dtype 'float32' or 'float64', got {file.value.get('dtype')!r}")
    model.dtype = file.value["dtype"]
    _assign(model, file)
    try:
        if file.value["settings"] is not None:
            model._set(Settings.from_json(file.value["settings"]))
            _set_compiled(model, file.value["compiled"])
        position = file.value["position"]
        if position is not None:
            position = {name: integer("position", name, position[name], least=0) for name in _POSITION}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file.path}: cannot compile its model: {_told(error)}") from error
    if position is not None:
        _restore(model, file, position)
    return model


def _set_compiled(model: Model, compiled: dict[str, dict[str, bool]] | None) -> None:
    """What was trainable when the model was compiled is what its optimizer's state is of."""
    if compiled is None:
        return
    engine = model.engine
    weights = {name: weight for weight, name in weight_names(model).items()}
    layers = {path: layer for layer, path in layer_paths(model).items()}
    for name, trainable in compiled["weights"].items():
        engine.trainable[weights[name]] = flag("compiled", name, trainable)
    for path, trainable in compiled["layers"].items():
        engine.layers[layers[path]] = flag("compiled", path, trainable)


def _told(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _restore(model: Model, file: _File, position: dict[str, int]) -> None:
    """The optimizer's state."""
    engine = model.engine
    store = engine.claim()
    slots = engine.optimizer_slots()
    names = {name: parameter for parameter, name in weight_names(model).items()}
    expected = {f"{SLOT}{slot}/{name}" for slot in slots for name, weight in names.items() if engine.trainable[weight]}
    if lacking := sorted(expected - set(file.slots)):
        raise ValueError(f"{file.path}: expected the whole state of the optimizer, the file lacks {', '.join(lacking)}")
    for name in file.slots:
        slot, _, weight = name.removeprefix(SLOT).partition("/")
        if slot not in slots or weight not in names or file.shape(name) != names[weight].shape:
            raise ValueError(f"{file.path}: optimizer state {name!r} fits neither the optimizer nor the weights")
        store.view(slots[slot], names[weight])[...] = file.read(name)
    model.training.set_position(position)


def load_weights(model: Model, path: str | os.PathLike) -> None:
    """``Model.load_weights``. Weights are found by their places in the structure (``weight_names``)."""
    model.structure  # noqa: B018  raises if not built
    with _File(path) as file:
        _assign(model, file)


def _assign(model: Model, file: _File) -> None:
    names = weight_names(model)
    if set(names.values()) != set(file.names):
        _refuse(model, file, list(names.values()))
    for parameter, name in names.items():
        if file.shape(name) != parameter.shape:
            raise ValueError(
                f"{file.path}: {_owner(model, parameter)}: expected {name} of shape {parameter.shape}, "
                f"got {file.shape(name)}"
            )
    values = [file.read(name) for name in names.values()]  # all of them, before anything changes
    with at_rest(names):
        for value, parameter in zip(values, names, strict=True):
            if model.dtype == "float64" and parameter.value.dtype != np.float64:
                parameter.value = value.astype(np.float64)  # a model that was not run yet: assigning would round
            else:
                parameter.assign(value)


def _refuse(model: Model, file: _File, names: list[str]) -> None:
    missing = [name for name in names if name not in file.names]
    unknown = [name for name in file.names if name not in names]
    parts = [
        f"{what} {', '.join(some[:5])}{', ...' if len(some) > 5 else ''}"
        for what, some in (("lacks", missing), ("has also", unknown))
        if some
    ]
    raise ValueError(f"{file.path}: does not fit {model}: the file {' and '.join(parts)}")


def _owner(model: Model, parameter: Parameter) -> Layer:
    """The layer of a model that a parameter belongs to."""
    return parameter.owner or model
