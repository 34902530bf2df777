"""Files of runs: a ``fit`` that is under way, to be gone on with in the middle of an epoch, bit for bit.

A file holds numbers, not code: weights, the optimizer's state and settings, ``Training.state``. The program that goes
on makes the model and compiles it as the one before did.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnpy.loading import File, freeze, matched, naming, set_compiled
from nnpy.locks import at_rest
from nnpy.matching import signatures
from nnpy.network import as_shapes
from nnpy.optimizers import Optimizer
from nnpy.registry import from_json, to_json
from nnpy.saving import state_of, write
from nnpy.sealed import arguments_of
from nnpy.structure import pack
from nnpy.training.training import State

if TYPE_CHECKING:
    from nnpy.model import Model

_ARRAY = "/training/"  # of the state's arrays
_TOLD = ("batch_size", "steps", "samples", "shuffle")  # what a run must be told again, besides its data


def settings_of(optimizer: Any) -> dict[str, Any]:
    """An optimizer's class and arguments as JSON; those that JSON cannot hold (a function as schedule) are left out. Of
    an optimizer inside of it these too."""
    kind: Any = type(optimizer)
    values: dict[str, Any] = {"class": kind.key}
    for name in sorted(arguments_of(kind)):
        scheduled = name == "learning_rate" and optimizer.schedule is not None
        value = optimizer.schedule if scheduled else getattr(optimizer, name)  # which would ask it for a rate
        try:
            values[name] = settings_of(value) if isinstance(value, Optimizer) else to_json(value)
        except TypeError:
            continue
    return values


def _set(optimizer: Any, wanted: dict[str, Any]) -> None:
    """Settings that callbacks have changed since the run began."""
    settings = settings_of(optimizer)
    for name, value in wanted.items():
        if isinstance(getattr(optimizer, name, None), Optimizer):
            _set(getattr(optimizer, name), value)
        elif name != "class" and settings.get(name) != value:
            setattr(optimizer, name, from_json(value))


def save_run(model: Model, path: Path, told: dict[str, Any]) -> None:
    """Write down where a ``fit`` stands. ``told``: its parameters.

    Raises TypeError for a callback whose state JSON cannot hold, OSError for a full disk."""
    arrays, value = state_of(model)
    state = model.training.state()
    arrays |= {f"{_ARRAY}{name}": array for name, array in state.arrays.items()}
    shapes = [list(tensor.shape) for tensor in model.structure.inputs]
    value["run"] = {
        "told": {name: told[name] for name in _TOLD},
        "state": state.values,
        "began": model.training.began,
        "optimizer": settings_of(model.optimizer),
        "shapes": pack(shapes, model.structure.input_keys),
    }
    try:
        write(path, arrays, {**value, "structure": signatures(model)})
    except TypeError as error:
        raise TypeError(f"{path}: expected get_state() of callbacks to give JSON values and arrays: {error}") from error


def load_run(model: Model, path: Path, told: dict[str, Any]) -> None:
    """Put a compiled model where the run of a file stood.

    Raises FileNotFoundError; ValueError for a file that is damaged, of a model alone, of another structure, of data or
    settings that were not the same. Nothing has changed then."""
    with File(path) as file:
        value = file.value or {}
        run = value.get("run")
        if not isinstance(run, dict):
            raise ValueError(
                f"{path}: holds no run that fit could go on with, as BackupAndRestore writes them; a model that was "
                "saved goes on by load_model(path).fit(..., initial_epoch=)"
            )
        with naming(file, "go on with"):
            for name in _TOLD:
                if run["told"][name] != told[name]:
                    raise ValueError(f"its fit had {name}={run['told'][name]}, this one has {told[name]}")
            settings = settings_of(model.optimizer)
            began = run["began"]
            if settings != run["optimizer"] and (other := [k for k in began if settings.get(k) != began[k]]):
                name = other[0]
                raise ValueError(f"its optimizer had {name}={began[name]}, this one has {settings.get(name)}")
            if not model.built:
                model.build(as_shapes(run["shapes"]))
            for name in file.entries:
                file.check(name)
            arrays = {n.removeprefix(_ARRAY): file.read(n) for n in file.entries if n.startswith(_ARRAY)}
            state = State(run["state"], arrays)
        names = matched(model, file)
        with naming(file, "go on with"):
            model.training.check(state)
            weights = {weight: file.read(name) for weight, name in names.items()}
            _set(model.optimizer, run["optimizer"])
            with at_rest(names):
                for weight, array in weights.items():
                    weight.assign(array)
            freeze(value["frozen"], model, names)
            set_compiled(model, file, names)
            model.training.restore(state)
            model.training.began = run["began"]
