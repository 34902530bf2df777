"""Registry: objects of the API by name, and to and from JSON.

A class that derives from a group's base (Layer, Loss, ...) is known by its name from then on, a user's own too, so
that ``loss="mse"`` and a saved file find it. Its configuration is its constructor's arguments, kept as attributes of
the same names.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, ClassVar, Self, TypeVar, cast

import numpy as np

from nnpy.checks import shown
from nnpy.hints import elsewhere, keyword, plain
from nnpy.sealed import Sealed

_classes: dict[str, dict[str, type[Configurable]]] = {}
_plain: dict[str, dict[str, type[Configurable]]] = {}  # the same by ``plain`` names
T = TypeVar("T", bound="Configurable")


class Configurable(Sealed):
    """Something whose constructor arguments say all about it. ``group``: the kind of thing it is ("loss").

    What the arguments said cannot be set anew, unless the class says what that does: steps may be compiled of it."""

    group: ClassVar[str] = ""
    key: ClassVar[str] = ""  # what the class is known by in its group

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        refuse_arguments(cls, options)
        return super().__new__(cls)

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
        _plain.setdefault(cls.group, {})[plain(cls.key)] = cls

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON values."""
        return {name: to_json(value, f"{type(self).__name__}.{name}") for name, value in self._arguments().items()}

    def _arguments(self) -> dict[str, Any]:
        if type(self).__init__ is object.__init__:
            return {}
        parameters = inspect.signature(type(self).__init__).parameters.values()
        named = [p.name for p in parameters if p.name != "self" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        missing = [name for name in named if not hasattr(self, name)]
        if missing:
            raise TypeError(
                f"{type(self).__name__}: has no configuration: keep the constructor's arguments {missing} as "
                "attributes of the same names, or define get_config()"
            )
        return {name: getattr(self, name) for name in named}

    def _argument(self, name: str, value: Any) -> Any:
        kind = type(self).__name__
        raise AttributeError(f"{kind}: {name} is set when it is made; make another one: {kind}({name}=...)")

    def _anew(self, name: str, value: Any) -> Any:
        """The attribute ``name`` as the constructor makes it of ``value``. Raises what that raises."""
        return getattr(type(self)(**{**self._arguments(), name: value}), name)

    def to_json(self) -> Any:
        """The object as JSON, for ``from_json`` or the group's ``get``."""
        return {"class": f"{self.group}/{self.key}", "config": self.get_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The object that ``get_config`` described."""
        return cls(**{name: from_json(value) for name, value in config.items()})

    @classmethod
    def from_entry(cls, value: dict[str, Any]) -> Self:
        """The object of what ``to_json`` gave."""
        return cls.from_config(value["config"])

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self._arguments().items())
        return f"{type(self).__name__}({arguments})"


def to_json(value: Any, where: str = "value") -> Any:
    """``value`` as JSON. TypeError, naming ``where``, for what JSON cannot say."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Configurable):
        return value.to_json()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [to_json(item, where) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(item, where) for key, item in value.items()}
    raise TypeError(f"{where}: cannot be written as JSON: {shown(value)}")


_ENTRY = frozenset({"class", "config", "name", "named", "trainable", "tied", "shapes"})


def from_json(value: Any) -> Any:
    """The opposite of ``to_json``. ValueError for a class that is not known here."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not {"class", "config"} <= value.keys() <= _ENTRY:
        return {key: from_json(item) for key, item in value.items()}
    group, _, name = value["class"].partition("/")
    if not name and (made := _made.get()) is not None:
        return made[value["config"]]
    found = _classes.get(group, {}).get(name)
    if found is None:
        raise ValueError(
            f"unknown {group or 'class'} {name!r}; a class of your own must be defined (imported) before it is loaded"
        )
    return found.from_entry(value)


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


def refuse_arguments(cls: type, options: Iterable[str], passed_on: bool = False) -> None:
    """TypeError for keywords that a constructor does not take, with the one that may have been meant. ``passed_on``:
    its ``**kwargs`` came through to the base; those that its bases take are known too."""
    if not options:
        return
    known = _accepted(cls)
    if passed_on:
        known = set().union(*(_accepted(base) or _named(base) for base in cls.__mro__ if "__init__" in base.__dict__))
    for name in options:
        if known is not None and (passed_on or name not in known):
            raise keyword(cls.__name__, name, known)


def _named(cls: type) -> set[str]:
    """The keywords that a constructor names beside its ``**kwargs``."""
    parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    return {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {"self"}


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
            raise unknown(group, value, [*map(snake, _classes.get(group, {})), *(aliases or {})])
        return cast(T, found())
    if isinstance(value, dict) and isinstance(made := from_json(value), base):
        return made
    raise TypeError(f"expected {group} to be a name, {base.__name__} or its configuration, got {shown(value)}")
