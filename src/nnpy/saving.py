"""Files of models: weights and optimizer state as safetensors, all else as JSON in its metadata. No pickle."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpy import seeds
from nnpy.checks import flag, integer
from nnpy.files import write_whole
from nnpy.graph import Parameter
from nnpy.layers.base import Layer
from nnpy.locks import at_rest
from nnpy.registry import from_list, to_list
from nnpy.structure import layer_paths, weight_names
from nnpy.training.settings import Settings

if TYPE_CHECKING:
    from nnpy.model import Model
    from nnpy.training.engine import Engine

_FORMAT = 2
_KEY = "nnpy"  # of our JSON among the metadata
_SLOT = "optimizer/"
_POSITION = ("epoch", "update", "draw", "seed")


def save(model: Model, path: str | os.PathLike) -> Path:
    """``Model.save``. Raises TypeError for what JSON cannot hold (code: a subclass's ``call``, a function as schedule),
    ValueError for a model that is not built or a path that does not end in .safetensors, OSError for a full disk."""
    model.structure  # noqa: B018  raises if not built
    return _write(path, *_contents(model))


def to_bytes(model: Model) -> bytes:
    """What ``save`` would write, for copies and pickles; the model need not be built. Raises TypeError as ``save``."""
    from safetensors.numpy import save as save_bytes

    tensors, value = _contents(model, "copied or pickled")
    return save_bytes(_whole(tensors), _metadata(value))


def describe(model: Model, done: str = "saved") -> dict[str, Any]:
    """Structure and settings as JSON values. Raises TypeError for what JSON cannot hold."""
    try:
        value: dict[str, Any] = {"layers": to_list(model), "dtype": model.dtype}
        value["settings"] = model.settings.to_json() if model.compiled else None
    except TypeError as error:
        raise TypeError(f"{model}: cannot be {done}: {error}") from error
    return value


def _contents(model: Model, done: str = "saved") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors by name, and what goes with them as JSON values."""
    value = describe(model, done)
    value["position"] = value["compiled"] = None
    engine = model.engine if model.built and model.compiled else None
    with at_rest(model.weights):  # all of one step, while another thread trains
        tensors = _tensors(model)
        if engine is not None and engine.store is not None:
            value["position"] = model.training.position()
            value["compiled"] = _as_compiled(model, engine)
            names = weight_names(model)
            for slot, flat in engine.optimizer_slots().items():
                for parameter in engine.parameters:
                    if engine.trainable[parameter]:
                        tensors[f"{_SLOT}{slot}/{names[parameter]}"] = np.array(engine.claim().view(flat, parameter))
    return tensors, value


def _as_compiled(model: Model, engine: Engine) -> dict[str, dict[str, bool]]:
    """Of weights and layers: whether they were trainable when the model was compiled, where that has changed since."""
    paths = layer_paths(model)
    return {
        "weights": {
            name: engine.trainable[weight]
            for weight, name in weight_names(model).items()
            if engine.trainable[weight] != weight.trainable
        },
        "layers": {paths[layer]: then for layer, then in engine.layers.items() if then != layer.trainable},
    }


def save_weights(model: Model, path: str | os.PathLike) -> Path:
    """``Model.save_weights``."""
    model.structure  # noqa: B018  raises if not built
    return _write(path, _tensors(model), {})


def _tensors(model: Model) -> dict[str, np.ndarray]:
    """Copies of the weights by name."""
    with at_rest(model.weights):
        return {name: np.array(parameter.value) for parameter, name in weight_names(model).items()}


def _write(path: str | os.PathLike, tensors: dict[str, np.ndarray], value: dict[str, Any]) -> Path:
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"expected a path that ends in .safetensors, got {str(path)!r}")
    return write_whole(path, lambda temporary: _save_file(_whole(tensors), temporary, _metadata(value)))


def _metadata(value: dict[str, Any]) -> dict[str, str]:
    return {_KEY: json.dumps({"format": _FORMAT, **value})}


def _whole(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    # A float64 model's Parameter may still hold float32 where it has not been run; the file says what it holds.
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}


def _save_file(tensors: dict[str, np.ndarray], path: Path, metadata: dict[str, str]) -> None:
    """Raises OSError where safetensors has an error of its own for a full disk."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise OSError(str(error)) from error
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


class _File:
    """An open safetensors file, or one in memory. Raises FileNotFoundError, or ValueError for another kind of file."""

    def __init__(self, source: str | os.PathLike | bytes):
        from safetensors import SafetensorError, safe_open
        from safetensors.numpy import load

        self.path = "copy" if isinstance(source, bytes) else Path(source)
        if isinstance(self.path, Path) and not self.path.is_file():
            raise FileNotFoundError(f"no file {self.path}")
        try:
            if isinstance(source, bytes):
                self._tensors: Any = load(source)
                length = int.from_bytes(source[:8], "little")  # of the header, which begins with the metadata
                metadata = json.loads(source[8 : 8 + length]).get("__metadata__")
            else:
                self._tensors = safe_open(self.path, framework="np")
                metadata = self._tensors.metadata()
            text = (metadata or {}).get(_KEY)
            self.value: dict[str, Any] | None = None if text is None else json.loads(text)
        except (SafetensorError, json.JSONDecodeError) as error:
            raise ValueError(f"{self.path}: not a safetensors file, or a damaged one: {error}") from error
        if self.value is not None and not isinstance(self.value, dict):
            raise ValueError(f"{self.path}: not a file of nnpy, or a damaged one: its metadata are no JSON object")
        if self.value is not None and self.value.get("format") != _FORMAT:
            raise ValueError(
                f"{self.path}: expected format {_FORMAT}, got {self.value.get('format')!r}, of another version of nnpy"
            )
        names = list(self._tensors.keys())
        self.names = [name for name in names if not name.startswith(_SLOT)]
        self.slots = [name for name in names if name.startswith(_SLOT)]

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[name] if isinstance(self._tensors, dict) else self._tensors.get_tensor(name)

    def shape(self, name: str) -> tuple[int, ...]:
        if isinstance(self._tensors, dict):
            return self._tensors[name].shape
        return tuple(self._tensors.get_slice(name).get_shape())


def load_model(path: str | os.PathLike) -> Model:
    """The model that ``model.save(path)`` wrote: structure, weights; if compiled, settings, optimizer state and seed.

    Training goes on as if it had not stopped. Layers, losses and metrics of your own must be defined (imported) before.
    Raises FileNotFoundError, or ValueError for a file that is damaged, or holds weights alone.
    """
    return _load(_File(path))


def from_bytes(content: bytes) -> Model:
    """The model of ``to_bytes``. What is drawn at random afterwards does not depend on it."""
    with seeds.kept():
        return _load(_File(content))


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
    expected = {f"{_SLOT}{slot}/{name}" for slot in slots for name, weight in names.items() if engine.trainable[weight]}
    if lacking := sorted(expected - set(file.slots)):
        raise ValueError(f"{file.path}: expected the whole state of the optimizer, the file lacks {', '.join(lacking)}")
    for name in file.slots:
        slot, _, weight = name.removeprefix(_SLOT).partition("/")
        if slot not in slots or weight not in names or file.shape(name) != names[weight].shape:
            raise ValueError(f"{file.path}: optimizer state {name!r} fits neither the optimizer nor the weights")
        store.view(slots[slot], names[weight])[...] = file[name]
    model.training.set_position(position)


def load_weights(model: Model, path: str | os.PathLike) -> None:
    """``Model.load_weights``. Weights are found by their places in the structure (``weight_names``)."""
    model.structure  # noqa: B018  raises if not built
    _assign(model, _File(path))


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
    values = [file[name] for name in names.values()]
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
