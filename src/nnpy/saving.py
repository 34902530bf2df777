"""Files of models: weights and optimizer state as safetensors, all else as JSON in its metadata. No pickle."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

from nnpy import interrupts, tensors
from nnpy.checks import path as checked_path
from nnpy.files import write_whole
from nnpy.forms import reason
from nnpy.loading import FORMAT, KEY, SLOT, make
from nnpy.locks import at_rest
from nnpy.matching import signatures
from nnpy.registry import to_list
from nnpy.structure import Structure, layer_paths, weight_names

if TYPE_CHECKING:
    from nnpy.model import Model


@interrupts.keeping
def save(model: Model, path: str | bytes | os.PathLike) -> Path:
    """``Model.save``. Raises TypeError for what JSON cannot hold (code: a subclass's ``call``, a function as schedule),
    ValueError for a model that is not built or a path that does not end in .safetensors, OSError for a full disk."""
    path = _checked(path)
    model.structure  # noqa: B018  raises if not built
    arrays, value = _contents(model)
    return write(path, arrays, {**value, "structure": signatures(model)})


def to_bytes(model: Model) -> bytes:
    """What ``save`` would write, for copies and pickles; the model need not be built. Raises TypeError as ``save``."""
    arrays, value = _contents(model, "copied or pickled")
    file = io.BytesIO()
    tensors.write(file, arrays, _metadata(value))
    return file.getvalue()


def describe(model: Model, done: str = "saved") -> dict[str, Any]:
    """Structure and settings as JSON values. Raises TypeError for what JSON cannot hold, and where a model with classes
    of the user's cannot be made again of it."""
    try:
        value: dict[str, Any] = {"layers": to_list(model), "dtype": model.dtype}
        value["settings"] = model.settings.to_json() if model.compiled else None
        _prove(model, value)
    except TypeError as error:
        raise TypeError(f"{model}: cannot be {done}: {error}") from error
    return value


_proven: WeakSet[Structure] = WeakSet()


def _prove(model: Model, value: dict[str, Any]) -> None:
    """A model with classes of the user's is made again as from a file, without its numbers, once for each structure:
    TypeError if that fails, or gives other weights."""
    structure = model._structure
    if structure is None or structure in _proven:
        return
    if any(not type(layer).__module__.startswith("nnpy.") for layer in model.walk()):
        expected = {name: weight.value.shape for weight, name in weight_names(model).items()}
        advice = "save_weights() stores the weights alone, for load_weights() once the model is built by its code"
        try:
            made = make(value, expected.values())
        except Exception as error:
            raise TypeError(f"it cannot be made of its configuration again: {reason(error)}; {advice}") from error
        found = {name: weight.value.shape for weight, name in weight_names(made).items()}
        if found != expected:
            differing = ", ".join(sorted(name for name, _ in found.items() ^ expected.items())[:5])
            raise TypeError(f"made of its configuration again it has other weights ({differing}); {advice}")
    _proven.add(structure)


def _contents(model: Model, done: str = "saved") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by name, and what goes with them as JSON values."""
    value = describe(model, done)
    arrays, state = state_of(model)
    return arrays, {**value, **state}


def state_of(model: Model) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Weights and the optimizer's slots by name, and as JSON values what was trainable, and where training stands."""
    engine = model.engine if model.built and model.compiled else None
    value: dict[str, Any] = {}
    with at_rest(model.weights):  # all of one step, while another thread trains
        arrays = _arrays(model)
        paths, names = layer_paths(model), weight_names(model)
        value["frozen"] = {
            "layers": [path for layer, path in paths.items() if not layer.trainable],
            "weights": [name for weight, name in names.items() if not weight.trainable],
        }
        value["position"], value["undecayed"], value["known"] = None, [], []
        if engine is not None:
            value["position"] = model.training.position()
            decays = model.optimizer.decays
            value["undecayed"] = [name for weight, name in names.items() if not decays(weight)]
        if engine is not None and engine.store is not None:
            value["known"] = [name for weight, name in names.items() if weight in engine.store.trained]
            for (slot, weight), array in engine.slot_views().items():
                arrays[f"{SLOT}{slot}/{names[weight]}"] = np.array(array)
    return arrays, value


@interrupts.keeping
def save_weights(model: Model, path: str | bytes | os.PathLike) -> Path:
    """``Model.save_weights``."""
    path = _checked(path)
    model.structure  # noqa: B018  raises if not built
    return write(path, _arrays(model), {"structure": signatures(model)})


def _arrays(model: Model) -> dict[str, np.ndarray]:
    """Copies of the weights by name. A float64 model's may still be float32, where it has not been run."""
    with at_rest(model.weights):
        return {name: np.array(parameter.value) for parameter, name in weight_names(model).items()}


def _checked(path: str | bytes | os.PathLike) -> Path:
    path = checked_path("save", "path", path)
    if path.suffix != ".safetensors":
        raise ValueError(f"expected a path that ends in .safetensors, got {str(path)!r}")
    return path


def write(path: Path, arrays: dict[str, np.ndarray], value: dict[str, Any]) -> Path:
    metadata = _metadata(value)
    return write_whole(path, lambda file: tensors.write(file, arrays, metadata))


def _metadata(value: dict[str, Any]) -> dict[str, str]:
    return {KEY: json.dumps({"format": FORMAT, **value, **_notes.get()})}


_notes: ContextVar[dict[str, Any]] = ContextVar("nnpy_notes", default={})  # noqa: B039  never changed


@contextmanager
def noting(**notes: Any) -> Iterator[None]:
    """Files that are written inside keep ``notes``, JSON values, beside the model."""
    token = _notes.set(notes)
    try:
        yield
    finally:
        _notes.reset(token)


def noted(path: str | bytes | os.PathLike, name: str) -> Any:
    """The note of a file; None where there is no such file, or note."""
    try:
        with tensors.TensorFile(path) as file:
            return json.loads(file.metadata[KEY])[name]
    except (KeyError, OSError, RecursionError, TypeError, ValueError):
        return None
