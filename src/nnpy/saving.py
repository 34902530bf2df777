"""Files of models: weights and optimizer state as safetensors, all else as JSON in its metadata. No pickle."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpy import tensors
from nnpy.files import write_whole
from nnpy.loading import FORMAT, KEY, SLOT
from nnpy.locks import at_rest
from nnpy.registry import to_list
from nnpy.structure import layer_paths, weight_names

if TYPE_CHECKING:
    from nnpy.model import Model
    from nnpy.training.engine import Engine

def save(model: Model, path: str | os.PathLike) -> Path:
    """``Model.save``. Raises TypeError for what JSON cannot hold (code: a subclass's ``call``, a function as schedule),
    ValueError for a model that is not built or a path that does not end in .safetensors, OSError for a full disk."""
    path = _checked(path)
    model.structure  # noqa: B018  raises if not built
    return _write(path, *_contents(model))


def to_bytes(model: Model) -> bytes:
    """What ``save`` would write, for copies and pickles; the model need not be built. Raises TypeError as ``save``."""
    arrays, value = _contents(model, "copied or pickled")
    file = io.BytesIO()
    tensors.write(file, arrays, _metadata(value))
    return file.getvalue()


def describe(model: Model, done: str = "saved") -> dict[str, Any]:
    """Structure and settings as JSON values. Raises TypeError for what JSON cannot hold."""
    try:
        value: dict[str, Any] = {"layers": to_list(model), "dtype": model.dtype}
        value["settings"] = model.settings.to_json() if model.compiled else None
    except TypeError as error:
        raise TypeError(f"{model}: cannot be {done}: {error}") from error
    return value


def _contents(model: Model, done: str = "saved") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by name, and what goes with them as JSON values."""
    value = describe(model, done)
    value["position"] = value["compiled"] = None
    engine = model.engine if model.built and model.compiled else None
    with at_rest(model.weights):  # all of one step, while another thread trains
        arrays = _arrays(model)
        if engine is not None and engine.store is not None:
            value["position"] = model.training.position()
            value["compiled"] = _as_compiled(model, engine)
            names = weight_names(model)
            for slot, flat in engine.optimizer_slots().items():
                for parameter in engine.parameters:
                    if engine.trainable[parameter]:
                        arrays[f"{SLOT}{slot}/{names[parameter]}"] = np.array(engine.claim().view(flat, parameter))
    return arrays, value


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
    path = _checked(path)
    model.structure  # noqa: B018  raises if not built
    return _write(path, _arrays(model), {})


def _arrays(model: Model) -> dict[str, np.ndarray]:
    """Copies of the weights by name. A float64 model's may still be float32, where it has not been run."""
    with at_rest(model.weights):
        return {name: np.array(parameter.value) for parameter, name in weight_names(model).items()}


def _checked(path: str | os.PathLike) -> Path:
    path = Path(os.fsdecode(path))
    if path.suffix != ".safetensors":
        raise ValueError(f"expected a path that ends in .safetensors, got {str(path)!r}")
    return path


def _write(path: Path, arrays: dict[str, np.ndarray], value: dict[str, Any]) -> Path:
    metadata = _metadata(value)
    return write_whole(path, lambda file: tensors.write(file, arrays, metadata))


def _metadata(value: dict[str, Any]) -> dict[str, str]:
    return {KEY: json.dumps({"format": FORMAT, **value})}
