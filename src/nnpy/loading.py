"""Models and weights from files: what ``saving`` writes, and weights from elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpy import interrupts, registry, restoring, seeds
from nnpy.checks import flag, integer
from nnpy.checks import path as checked_path
from nnpy.forms import UnknownClass, reason
from nnpy.graph import Parameter
from nnpy.hints import advise, keywords
from nnpy.locks import at_rest
from nnpy.matching import Signature, Unmatched, match, signatures
from nnpy.registry import check_size, from_list
from nnpy.structure import layer_paths, weight_names
from nnpy.tensors import TensorFile
from nnpy.training.settings import Settings

if TYPE_CHECKING:
    from nnpy.model import Model

FORMAT = 4
KEY = "nnpy"  # of our JSON among the metadata
SLOT = "/optimizer/"  # paths of weights do not begin with a slash, whatever a layer is called
_POSITION = ("number", "epoch", "update", "draw", "seed")


class File(TensorFile):
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
        self.names = [name for name in self.entries if not name.startswith("/")]
        self.slots = [name for name in self.entries if name.startswith(SLOT)]


@interrupts.keeping
@keywords
def load_model(
    path: str | bytes | os.PathLike, custom_objects: Mapping[str, type] | None = None, compile: bool = True
) -> Model:
    """The model that ``model.save(path)`` wrote: structure, weights; if compiled, settings, optimizer state and seed.

    Training goes on as if it had not stopped; ``model.training.number`` is the ``initial_epoch`` to go on with. Layers,
    losses and metrics of your own must be defined (imported) before, or given in ``custom_objects`` by their names:
    nothing is imported, and no code is in a file. Without a loss, metric or optimizer of the file the model is not
    compiled, and a warning says so; nor is it with ``compile=False``. Raises FileNotFoundError, or ValueError, naming
    the file, for one that is damaged, has a layer that nobody defined, or holds weights alone.
    """
    source = checked_path("load_model", "path", path)
    with registry.custom_objects(custom_objects), File(source) as file:
        return _load(file, flag("load_model", "compile", compile))


def from_bytes(content: bytes) -> Model:
    """The model of ``to_bytes``."""
    with File(content) as file:
        return _load(file, True)


def _load(file: File, compile: bool) -> Model:
    value = file.value
    if value is None or "layers" not in value:
        raise ValueError(f"{file.path}: holds weights alone, no model: build the model and call load_weights(path)")
    with naming(file, "make"):
        model = make(value, (file.entries[name].shape for name in file.names))
        if model.dtype not in ("float32", "float64"):
            raise ValueError(f"expected dtype 'float32' or 'float64', got {model.dtype!r}")
        for name in file.entries:
            file.check(name)
    names = matched(model, file)
    with naming(file, "make"):
        for weight, name in names.items():
            weight.value = file.read(name).astype(model.dtype, copy=False)
        freeze(value["frozen"], model, names)
    with naming(file, "compile"), seeds.kept():
        if compile and value["settings"] is not None:
            try:
                settings = Settings.from_json(value["settings"])
            except UnknownClass as error:
                advise(f"{file.path}: the model is not compiled: {error}")
                return model
            model._set(settings)
            set_compiled(model, file, names)
    return model


@contextmanager
def naming(file: File, what: str) -> Iterator[None]:
    """Whatever a file's content leads to is an error that names the file."""
    try:
        yield
    except MemoryError as error:
        raise MemoryError(f"{file.path}: cannot {what} its model: not enough memory") from error
    except Exception as error:
        raise ValueError(f"{file.path}: cannot {what} its model: {reason(error)}") from error


def make(value: dict[str, Any], shapes: Iterable[tuple[int, ...]]) -> Model:
    """The model that a file describes, built and not compiled; its weights are zeros. ``shapes``: of the arrays in the
    file. What is drawn at random afterwards does not depend on it. Raises ValueError for what no file holds."""
    entries = value["layers"]
    check_size(entries)
    with seeds.kept(), restoring.using(restoring.Restoring(shapes)):
        model = from_list(entries)
    if not hasattr(type(model), "structure"):  # only a Model, which stands on a higher floor, has one
        raise ValueError(f"expected a model, got {type(model).__name__}")
    model.dtype = value["dtype"]
    return model


def freeze(frozen: dict[str, list[str]], model: Model, names: dict[Parameter, str]) -> None:
    """Which layers and weights were trainable, also those of layers that are not in the file by themselves."""
    layers, weights = set(frozen["layers"]), set(frozen["weights"])
    for layer, path in layer_paths(model).items():
        layer._freeze(path in layers)
    for weight, name in names.items():
        weight.trainable = name not in weights


def set_compiled(model: Model, file: File, names: dict[Parameter, str]) -> None:
    """Where training stands, and what the optimizer knows."""
    value = file.value
    assert value is not None
    if value["position"] is None:
        return
    position = {name: integer("position", name, value["position"][name], least=0) for name in _POSITION}
    if max(position.values()) >= 2**63:
        raise ValueError(f"expected a position below 2**63, got {position}")
    if undecayed := set(value["undecayed"]):
        model.optimizer.leave_undecayed([weight for weight, name in names.items() if name in undecayed])
    if value["known"] or model.engine.store is not None:
        _read_slots(model, file, names, set(value["known"]))
    model.training.set_position(position)


def _read_slots(model: Model, file: File, names: dict[Parameter, str], known: set[str]) -> None:
    """What the optimizer knows of the weights ``known``; of the others it knows nothing."""
    store, optimizer = model.engine.claim(), model.optimizer
    trained = {weight for weight, name in names.items() if name in known}
    places = {f"{SLOT}{slot}/{names[w]}": array for (slot, w), array in optimizer.slot_views(store, trained).items()}
    if lacking := sorted(places.keys() - set(file.slots)):
        raise ValueError(f"expected the whole state of the optimizer, the file lacks {', '.join(lacking[:5])}")
    for name in file.slots:
        if name not in places or file.entries[name].shape != places[name].shape:
            raise ValueError(f"optimizer state {name!r} fits neither the optimizer nor the weights")
    optimizer.restart(store)
    store.trained = trained
    for name, place in places.items():
        place[...] = file.read(name)


@interrupts.keeping
def load_weights(model: Model, path: str | bytes | os.PathLike) -> None:
    """``Model.load_weights``. Weights are found by the names that the user gave their layers, else by their places in
    the graph (``matching``); a warning names those that were found by position alone."""
    model.structure  # noqa: B018  raises if not built
    with File(checked_path("load_weights", "path", path)) as file:
        names = _sources(model, file)
        values = [file.read(name) for name in names.values()]  # all of them, before anything changes
    with at_rest(names):
        for value, parameter in zip(values, names, strict=True):
            if model.dtype == "float64" and parameter.value.dtype != np.float64:
                parameter.value = value.astype(np.float64)  # a model that was not run yet: assigning would round
            else:
                parameter.assign(value)


def _sources(model: Model, file: File) -> dict[Parameter, str]:
    """The weights and their names in a file of another model. ValueError where it does not fit, or in several ways."""
    mine, theirs = signatures(model), (file.value or {}).get("structure")
    if theirs is None:
        names = matched(model, file)
        _warn_of_position(model, file, list(mine))
        return names
    with naming(file, "read the structure of"):
        theirs = {name: Signature(*map(str, parts)) for name, parts in theirs.items()}
    names = weight_names(model)
    if theirs != mine and len(names) == len(file.names):
        try:
            found, placed = match(names, mine, {name: file.entries[name].shape for name in file.names}, theirs)
        except Unmatched as error:
            raise ValueError(
                f"{file.path}: does not fit {model}: layers without names of their own, in another structure: {error}; "
                "give layers the same names (name=) here and where the file is made"
            ) from error
        _warn_of_position(model, file, placed)
        return _fitting(model, file, {weight: found[name] for weight, name in names.items()})
    return matched(model, file)


def _warn_of_position(model: Model, file: File, names: list[str]) -> None:
    if names:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        advise(f"{file.path}: {model}: matched by position alone, as the layers have no names of their own: {shown}")


def matched(model: Model, file: File) -> dict[Parameter, str]:
    """The weights and their names in the file. ValueError where names or shapes do not fit."""
    names = weight_names(model)
    if set(names.values()) != set(file.names):
        _refuse(model, file, list(names.values()))
    return _fitting(model, file, names)


def _fitting(model: Model, file: File, names: dict[Parameter, str]) -> dict[Parameter, str]:
    for parameter, name in names.items():
        if file.entries[name].shape != parameter.shape:
            raise ValueError(
                f"{file.path}: {parameter.owner or model}: expected {name} of shape {parameter.shape}, "
                f"got {file.entries[name].shape}"
            )
    return names


def _refuse(model: Model, file: File, names: list[str]) -> None:
    missing = [name for name in names if name not in file.names]
    unknown = [name for name in file.names if name not in names]
    parts = [
        f"{what} {', '.join(some[:5])}{', ...' if len(some) > 5 else ''}"
        for what, some in (("lacks", missing), ("has also", unknown))
        if some
    ]
    raise ValueError(f"{file.path}: does not fit {model}: the file {' and '.join(parts)}")
