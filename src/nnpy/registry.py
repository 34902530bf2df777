"""Registry: objects of the API by name, and to and from JSON.

A class that derives from a group's base (Layer, Loss, ...) is known by its name from then on, a user's own too, so
that ``loss="mse"`` and a saved file find it. Its configuration is its constructor's arguments, kept as attributes of
the same names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar, cast

import numpy as np

from nnpy import forms
from nnpy.checks import shown
from nnpy.forms import UnknownClass
from nnpy.hints import elsewhere, keyword, plain
from nnpy.sealed import Sealed, arguments_of

_classes: dict[str, dict[str, type[Configurable]]] = {}
_modules: dict[tuple[str, str], dict[str, type[Configurable]]] = {}  # of one name, by where each is defined
_plain: dict[str, dict[str, type[Configurable]]] = {}  # the same by ``plain`` names
T = TypeVar("T", bound="Configurable")


class ChecksArguments:
    """What names an unknown keyword of its constructor, and the one that may have been meant, in its TypeError."""

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        refuse_arguments(cls, options)
        return super().__new__(cls)


class Configurable(ChecksArguments, Sealed):
    """Something whose constructor arguments say all about it. ``group``: the kind of thing it is ("loss").

    What the arguments said cannot be set anew, unless the class says what that does: steps may be compiled of it."""

    made_by_name: ClassVar[bool] = True  # False of a class alone, not of those below: a base, or made of a function
    group: ClassVar[str] = ""
    key: ClassVar[str] = ""  # what the class is known by in its group

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        is_base = not any(base.__dict__.get("group") for base in cls.__mro__[1:])
        if not is_base and not cls.__name__.startswith("_"):
            cls.register()

    @classmethod
    def register(cls) -> None:
        """Make the class known by its name in its group."""
        known = _classes.setdefault(cls.group, {})
        ours = cls.__name__ in known and known[cls.__name__].__module__.startswith("nnpy.")
        taken = ours and not cls.__module__.startswith("nnpy.")  # a user's Dense does not replace ours
        cls.key = f"{cls.__module__}.{cls.__name__}" if taken else cls.__name__
        known[cls.key] = cls
        _modules.setdefault((cls.group, cls.key), {})[cls.__module__] = cls
        _plain.setdefault(cls.group, {})[plain(cls.key)] = cls

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON values; tuples, dicts and arrays are themselves."""
        arguments = self._arguments()
        for name, value in arguments.items():
            to_json(value, f"{type(self).__name__}.{name}")  # refuses what it cannot say
        return _entries(arguments)

    def _arguments(self) -> dict[str, Any]:
        if type(self).__init__ is object.__init__:
            return {}
        parameters = inspect.signature(type(self).__init__).parameters.values()
        named = [p.name for p in parameters if p.name != "self" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        values = {}
        for name in named:
            with suppress(AttributeError):
                values[name] = self._argument_value(name)
        missing = [name for name in named if name not in values]
        if missing:
            raise TypeError(
                f"{type(self).__name__}: has no configuration: keep the constructor's arguments {missing} as "
                "attributes of the same names, or define get_config()"
            )
        return values

    def _argument_value(self, name: str) -> Any:
        """What the argument ``name`` of the constructor was, or has been set to."""
        return getattr(self, name)

    def _argument(self, name: str, value: Any) -> Any:
        kind = type(self).__name__
        raise AttributeError(f"{kind}: {name} is set when it is made; make another one: {kind}({name}=...)")

    def _anew(self, name: str, value: Any) -> Any:
        """The attribute ``name`` as the constructor makes it of ``value``. Raises what that raises."""
        return getattr(type(self)(**{**self._arguments(), name: value}), name)

    def to_json(self) -> Any:
        """The object as JSON, for ``from_json`` or the group's ``get``."""
        config = to_json(self.get_config(), f"{type(self).__name__}: get_config()")
        value = {"class": f"{self.group}/{self.key}", "config": config}
        if not type(self).__module__.startswith("nnpy."):
            value["module"] = type(self).__module__  # for the error where it is missing
        return value

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The object that ``get_config`` described. TypeError or ValueError, naming the class, for anything else."""
        made = made_arguments(cls, config)
        if missing := [name for name in _required(cls.__init__) if name not in made]:
            names = ", ".join(made) or "nothing"
            raise TypeError(f"{cls.__name__}: expected a configuration with {', '.join(missing)}, got one of {names}")
        with forms.naming(cls.__name__):
            return cls(**made)

    @classmethod
    def from_entry(cls, value: dict[str, Any]) -> Self:
        """The object of what ``to_json`` gave."""
        return cls.from_config(made_arguments(cls, value["config"]))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self._arguments().items())
        return f"{type(self).__name__}({arguments})"


def made_arguments(cls: type, config: Any) -> dict[str, Any]:
    """A configuration with the objects that its entries describe. TypeError or ValueError that names the class and the
    argument."""
    forms.check_arguments(cls.__name__, config)
    made = {}
    for name, value in config.items():
        with forms.within(f"{cls.__name__}: {name}"):
            made[name] = from_json(value)
    return made


def _entries(value: Any) -> Any:
    """``value`` with the JSON of objects in their places."""
    if isinstance(value, Configurable):
        return value.to_json()
    if isinstance(value, list | tuple):
        return type(value)(map(_entries, value))
    return {key: _entries(item) for key, item in value.items()} if isinstance(value, dict) else value


def to_json(value: Any, where: str = "value") -> Any:
    """``value`` as JSON, from which ``from_json`` makes the same: what JSON does not have is marked by its class.
    TypeError, naming ``where``, for what cannot be written."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Configurable):
        return value.to_json()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return {"class": "array", "config": [value.dtype.name, list(value.shape), value.ravel().tolist()]}
    if type(value) is tuple:
        return {"class": "tuple", "config": [to_json(item, where) for item in value]}
    if type(value) is list:
        return [to_json(item, where) for item in value]
    if type(value) is dict:
        if all(type(key) is str for key in value):
            return {key: to_json(item, where) for key, item in value.items()}
        return {"class": "dict", "config": [[to_json(part, where) for part in item] for item in value.items()]}
    raise TypeError(f"{where}: cannot be written as JSON: {shown(value)}")


_ENTRY = frozenset({"class", "config", "module", "name", "named", "trainable", "tied", "shapes", "seed"})


_MARKS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "tuple": ([None], lambda config: tuple(from_json(config))),
    "dict": ([(None, None)], lambda config: forms.mapping([(from_json(key), from_json(item)) for key, item in config])),
    "array": ((str, [int], None), lambda config: forms.array(*config)),
}


_custom: ContextVar[Mapping[str, Any]] = ContextVar("nnpy_custom_objects", default=MappingProxyType({}))


@contextmanager
def custom_objects(classes: Mapping[str, type] | None) -> Iterator[None]:
    """Classes by the names that files have for them, for what is made of JSON inside. TypeError for what is none."""
    for name, found in (classes or {}).items():
        if not isinstance(found, type) or not issubclass(found, Configurable):
            raise TypeError(f"custom_objects: expected {name!r} to be a class (of a layer, ...), got {shown(found)}")
    with _set(_custom, classes or {}):
        yield


def _find_class(group: str, name: str, module: str) -> type[Configurable]:
    """The class of a name: of those of several modules the one that was saved, or the only one there is."""
    short = name.rpartition(".")[2]
    for found in (_custom.get().get(name), _custom.get().get(short)):
        if found is not None and found.group == group:
            return found
    known = _modules.get((group, name), {})
    if module in known or len(known) == 1:
        return known.get(module) or next(iter(known.values()))
    where = f" of the module {module!r}" if module else ""
    instead = f"custom_objects={{{short!r}: {short}}}"
    if known:
        others = " and ".join(map(repr, sorted(known)))
        raise UnknownClass(f"unknown {group} {name!r}{where}: {others} have one each; say which is meant: {instead}")
    raise UnknownClass(
        f"unknown {group or 'class'} {name!r}{where}: a class of your own must be defined (imported) before it is "
        f"loaded, or given: {instead}"
    )


def from_json(value: Any) -> Any:
    """The opposite of ``to_json``. UnknownClass, a ValueError, for a class that is not known here; TypeError or
    ValueError for what ``to_json`` does not give."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not {"class", "config"} <= value.keys() <= _ENTRY:
        return {key: from_json(item) for key, item in value.items()}
    kind, config = value["class"], value["config"]
    forms.check("configuration", kind, str, "class")
    if kind in _MARKS:
        form, make = _MARKS[kind]
        forms.check(kind, config, form, "its content")
        return make(config)
    group, _, name = kind.partition("/")
    if not name:
        return forms.at(group, "the number of one that is described before", _made.get() or [], config)
    return _find_class(group, name, value.get("module", "")).from_entry(value)


# Layers in files: a list of entries, in which a layer that is inside of another is its number in the list. So a layer
# that has several places is written once, and models nested deep are not JSON nested deep.
_numbers: ContextVar[dict[Any, int] | None] = ContextVar("nnpy_numbers", default=None)
_made: ContextVar[list[Any] | None] = ContextVar("nnpy_made", default=None)


@contextmanager
def _set(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def reference(layer: Any) -> dict[str, Any]:
    """What stands for a layer inside of another one's configuration: in a list its number, elsewhere its entry."""
    numbers = _numbers.get()
    if numbers is None:
        return layer.entry()
    return {"class": layer.group, "config": numbers.setdefault(layer, len(numbers))}


def to_list(layer: Any) -> list[dict[str, Any]]:
    """The entries of a layer, which comes first, and of all that its configuration refers to."""
    numbers = {layer: 0}
    entries: list[dict[str, Any]] = []
    with _set(_numbers, numbers):
        while len(entries) < len(numbers):  # what entries refer to is added while they are written
            for found in list(numbers)[len(entries) :]:
                entries.append(found.entry())
    return entries


def from_list(entries: list[dict[str, Any]]) -> Any:
    """The layer of ``to_list``. ValueError for layers that contain each other."""
    made: list[Any] = [None] * len(entries)
    with _set(_made, made):
        for number in _inner_first(entries):
            made[number] = from_json(entries[number])
    for layer, entry in zip(made, entries, strict=True):  # outer ones first: they build those inside
        if layer is not None:
            layer.restore(entry)
    return made[0]


_MOST_LAYERS = 20_000
_MOST_CALLS = 500  # of layers, for each entry and call that a file has, in making a model of it


def check_size(entries: Any) -> None:
    """ValueError for what is no ``to_list``, or has models within models whose calls grow without bound: two calls of
    the model before in each of thirty are a billion."""
    if not isinstance(entries, list) or not 0 < len(entries) <= _MOST_LAYERS:
        count = f"{len(entries)} of them" if isinstance(entries, list) else shown(entries)
        raise ValueError(f"expected a list of 1 to {_MOST_LAYERS} layers, got {count}")
    costs = [0] * len(entries)
    most, order = 0, _inner_first(entries)
    if len(order) < len(entries):
        raise ValueError(f"expected layers that are all in the first one, got {len(entries) - len(order)} others")
    for number in order:
        entry = entries[number]
        inside = _references(entry)
        most += _MOST_CALLS * (1 + len(inside))
        graph = entry["config"].get("graph")
        if graph is not None:  # its layers are made once, and called as often as it has calls of them
            layers = [layer["config"] for layer in graph["layers"]]
            calls = [layers[call["layer"]] for call in graph["calls"] if "layer" in call]
            inside = [*_references({"graph": {**graph, "layers": []}}), *calls]
            most += _MOST_CALLS * len(calls)
        costs[number] = min(1 + len(inside) + sum(costs[inner] for inner in inside), 2**62)
    if sum(costs) > most + 100 * _MOST_CALLS:
        raise ValueError(f"expected models with at most {most} calls of layers within each other, got {sum(costs)}")


def _inner_first(entries: list[dict[str, Any]]) -> list[int]:
    """The numbers of entries in an order in which each comes after those that it refers to."""
    order: list[int] = []
    open_, done = set(), set()
    stack = [(0, False)]
    while stack:
        number, expanded = stack.pop()
        if expanded:
            done.add(number)
            order.append(number)
        elif number in open_ and number not in done:
            raise ValueError(f"layer {number} contains itself")
        elif number not in done:
            open_.add(number)
            stack.append((number, True))
            stack.extend((inner, False) for inner in _references(entries[number]) if inner not in done)
    return order


def _references(entry: dict[str, Any]) -> list[int]:
    found, pending = [], [entry]
    while pending:
        value: Any = pending.pop()
        if isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, dict):
            if value.keys() == {"class", "config"} and isinstance(value["config"], int):
                found.append(value["config"])
            else:
                pending.extend(value.values())
    return found


@lru_cache(1024)
def _accepted(cls: type) -> set[str] | None:
    """The keywords that a constructor takes; None for any."""
    parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY} - {"self"}


@lru_cache(1024)
def _required(constructor: Callable[..., Any]) -> list[str]:
    """The arguments that it has to be given."""
    parameters = inspect.signature(constructor).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"]
    return [p.name for p in named if p.default is p.empty]


def refuse_arguments(cls: type, options: Iterable[str], passed_on: bool = False) -> None:
    """TypeError for keywords that a constructor does not take, with the one that may have been meant. ``passed_on``:
    its ``**kwargs`` came through to the base; those that its bases take are known too."""
    if not options:
        return
    known = _accepted(cls)
    if passed_on:
        bases = [base for base in cls.__mro__ if "__init__" in base.__dict__]
        known = set().union(*(_accepted(base) or arguments_of(base) for base in bases))
    for name in options:
        if known is not None and (passed_on or name not in known):
            raise keyword(cls.__name__, name, known)


@lru_cache(1024)
def snake(name: str) -> str:
    """A class name as Keras writes it: "HeNormal" -> "he_normal", "Conv2DTranspose" -> "conv2d_transpose"."""
    letters = []
    for position, letter in enumerate(name):
        before = name[position - 1] if position else ""
        after = name[position + 1 : position + 2]
        starts = before.islower() or (after.islower() and before not in ("", "_"))
        if letter.isupper() and starts:
            letters.append("_")
        letters.append(letter.lower())
    return "".join(letters)


def is_known(group: str, name: str) -> bool:
    """Whether a class of the group is found by this name."""
    return plain(name) in _plain.get(group, {})


def unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that is not known: the closest one, and all of them."""
    import difflib

    names = {plain(each): each for each in known}  # "adam_w" and "adamw" are the same name
    hint = "; this version does not have it" if elsewhere(name) else ""
    close = difflib.get_close_matches(name, names.values(), 1)
    if close and not hint and _misspelt(plain(name), plain(close[0])):
        hint = f"; did you mean {close[0]!r}?"
    return ValueError(
        f"unknown {what} {name!r}{hint}{'' if hint[-1:] == '?' else ';'} expected one of "
        f"{', '.join(sorted(names.values()))}"
    )


def _misspelt(name: str, meant: str) -> bool:
    """Whether a name may be another one misspelt: among short ones a letter makes another function."""
    longer = len(name) > 4 or len(name) == len(meant) == 4
    return longer or sorted(name) == sorted(meant) or len(name) < len(meant)


def find(base: type[T], value: Any, aliases: dict[str, str] | None = None) -> T:
    """An object of ``base`` from itself, its class, its name, or its JSON. ``aliases``: more names,
    as ``plain`` ones."""
    group = base.group
    if isinstance(value, base):
        return value
    if isinstance(value, type) and issubclass(value, base):
        return value()
    if isinstance(value, str):
        wanted = plain(value)
        found = _plain.get(group, {}).get(plain((aliases or {}).get(wanted, wanted)))
        if found is None:
            known = [name for name, cls in _classes.get(group, {}).items() if vars(cls).get("made_by_name", True)]
            raise unknown(group, value, [*map(snake, known), *(aliases or {})])
        return cast(T, found())
    if isinstance(value, dict) and isinstance(made := from_json(value), base):
        return made
    raise TypeError(f"expected {group} to be a name, {base.__name__} or its configuration, got {shown(value)}")
