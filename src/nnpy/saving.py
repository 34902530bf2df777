"""Files of models: weights and optimizer state as safetensors, all else as JSON in its metadata. No pickle."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpy import seeds
from nnpy.checks import flag, integer
from nnpy.files import write_whole
from nnpy.graph import Parameter
from nnpy.layers.base import Layer
from nnpy.locks import at_rest
from nnpy.registry import from_json, to_json

if TYPE_CHECKING:
    from nnpy.model import Model
    from nnpy.training.engine import Engine

_FORMAT = 1
_KEY = "nnpy"  # of our JSON among the metadata
_SLOT = "optimizer/"
_POSITION = ("epoch", "update", "draw", "seed")


def weight_names(weights: Sequence[Parameter]) -> list[str]:
    """The parameters' names, a number added where two (of nested models) are the same."""
    names: list[str] = []
    for parameter in weights:
        name, number = parameter.name, 1
        while name in names:
            name, number = f"{parameter.name}:{number}", number + 1
        names.append(name)
    return names


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
        value: dict[str, Any] = {"model": to_json(model, str(model)), "dtype": model.dtype}
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
            names = dict(zip(model.weights, weight_names(model.weights), strict=True))
            for slot, flat in engine.optimizer_slots().items():
                for parameter in engine.parameters:
                    if engine.trainable[parameter]:
                        tensors[f"{_SLOT}{slot}/{names[parameter]}"] = np.array(engine.claim().view(flat, parameter))
    return tensors, {**value, "weights": weight_names(model.weights)}


def _as_compiled(model: Model, engine: Engine) -> dict[str, dict[str, bool]]:
    """Of weights and layers: whether they were trainable when the model was compiled, where that has changed since."""
    names = weight_names(model.weights)
    return {
        "weights": {
            name: engine.trainable[weight]
            for name, weight in zip(names, model.weights, strict=True)
            if engine.trainable[weight] != weight.trainable
        },
        "layers": {
            name: then
            for name, (layer, then) in zip(_layer_names(engine), engine.layers.items(), strict=True)
            if then != layer.trainable
        },
    }


def _layer_names(engine: Engine) -> list[str]:
    """The names of all layers, at any depth, a number added where two are the same."""
    seen: Counter[str] = Counter()
    names = []
    for layer in engine.layers:
        names.append(f"{layer.name}:{seen[layer.name]}" if seen[layer.name] else layer.name)
        seen[layer.name] += 1
    return names


def save_weights(model: Model, path: str | os.PathLike) -> Path:
    """``Model.save_weights``."""
    model.structure  # noqa: B018  raises if not built
    return _write(path, _tensors(model), {"weights": weight_names(model.weights)})


def _tensors(model: Model) -> dict[str, np.ndarray]:
    """Copies of the weights by name."""
    with at_rest(model.weights):
        return {name: np.array(p.value) for name, p in zip(weight_names(model.weights), model.weights, strict=True)}


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
    from nnpy.model import Model
    from nnpy.training.settings import Settings

    if file.value is None or "model" not in file.value:
        raise ValueError(f"{file.path}: holds weights alone, no model: build the model and call load_weights(path)")
    try:
        model = from_json(file.value["model"])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file.path}: cannot make its model: {_told(error)}") from error
    if not isinstance(model, Model):
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
    for known, by_name in (
        (engine.trainable, dict(zip(weight_names(model.weights), model.weights, strict=True))),
        (engine.layers, dict(zip(_layer_names(engine), engine.layers, strict=True))),
    ):
        for name, trainable in compiled["weights" if known is engine.trainable else "layers"].items():
            known[by_name[name]] = flag("compiled", name, trainable)  # type: ignore[index]


def _told(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _restore(model: Model, file: _File, position: dict[str, int]) -> None:
    """The optimizer's state."""
    engine = model.engine
    store = engine.claim()
    slots = engine.optimizer_slots()
    names = dict(zip(weight_names(model.weights), model.weights, strict=True))
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
    """``Model.load_weights``. Names are matched; where layers' differ (automatic ones are numbered), weights are
    matched in order, if their own names and all shapes agree."""
    model.structure  # noqa: B018  raises if not built
    _assign(model, _File(path))


def _assign(model: Model, file: _File) -> None:
    weights = model.weights
    names = weight_names(weights)
    order = names
    if set(names) != set(file.names):
        stored = (file.value or {}).get("weights", [])
        tails = [[name.rpartition("/")[2].partition(":")[0] for name in some] for some in (names, stored)]
        if tails[0] != tails[1] or set(stored) != set(file.names):
            _refuse(model, file, names)
        order = stored
    for name, parameter in zip(order, weights, strict=True):
        if file.shape(name) != parameter.shape:
            raise ValueError(
                f"{file.path}: {_owner(model, parameter)}: expected {parameter.name} of shape {parameter.shape}, "
                f"got {file.shape(name)}"
            )
    values = [file[name] for name in order]
    with at_rest(weights):
        for value, parameter in zip(values, weights, strict=True):
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
    return next((layer for layer in model.layers if any(parameter is weight for weight in layer.weights)), model)
