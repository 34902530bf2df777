"""Forms: what a configuration, or JSON, has to look like before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nnpy.checks import shown

_WORDS = {bool: "True or False", int: "an integer", str: "a string", list: "a list", dict: "a dict"}


class TooDeep(ValueError):
    """Layers, or parts of a configuration, that lie in each other deeper than Python's stack."""


class UnknownClass(ValueError):
    """A class that a configuration names and nobody has defined."""


def check(owner: str, value: Any, form: Any, what: str = "its configuration") -> None:
    """TypeError or ValueError, naming ``owner`` and where, for a value of another form: a class of JSON values;
    ``[form]``, a list; ``(form, form)``, a list of so many; a dict of forms by all the keys that may be there, of which
    "key?" need not be; None: anything."""
    if isinstance(form, dict):
        check(owner, value, dict, what)
        known = [key.rstrip("?") for key in form]
        missing = [repr(key) for key in form if key[-1] != "?" and key not in value]
        unknown = [shown(key) for key in value if key not in known]
        if missing or unknown:
            expected = ", ".join(known) or "nothing"
            got = f"got no {' and no '.join(missing)}" if missing else f"got also {', '.join(unknown)}"
            raise ValueError(f"{owner}: expected {what} to have {expected}, {got}")
        for key, each in form.items():
            if (name := key.rstrip("?")) in value:
                check(owner, value[name], each, f"{what}[{name!r}]")
    elif isinstance(form, list | tuple):
        check(owner, value, list, what)
        if isinstance(form, tuple) and len(value) != len(form):
            raise ValueError(f"{owner}: expected {what} to be a list of {len(form)}, got {shown(value)}")
        forms = form if isinstance(form, tuple) else form * len(value)
        for place, (item, each) in enumerate(zip(value, forms, strict=True)):
            check(owner, item, each, f"{what}[{place}]")
    elif form is not None and (not isinstance(value, form) or (form is int and isinstance(value, bool))):
        raise TypeError(f"{owner}: expected {what} to be {_WORDS[form]}, got {shown(value)}")


def check_arguments(owner: str, config: Any) -> None:
    """TypeError for what cannot be a constructor's arguments by their names."""
    if not isinstance(config, dict) or not all(isinstance(name, str) for name in config):
        raise TypeError(f"{owner}: expected its configuration, a dict of arguments by their names, got {shown(config)}")


def at(owner: str, what: str, items: Any, place: Any) -> Any:
    """``items[place]`` of a list. TypeError, ValueError for what is no number of one of them."""
    check(owner, place, int, what)
    if not 0 <= place < len(items):
        raise ValueError(f"{owner}: expected {what} to be from 0 to {len(items) - 1}, got {place}")
    return items[place]


def array(dtype: Any, shape: Any, values: Any) -> np.ndarray:
    """An array of numbers as JSON says it. TypeError, ValueError for anything else."""
    check("array", dtype, str, "its dtype")
    check("array", shape, [int], "its shape")
    try:
        if np.dtype(dtype).kind not in "fiub":
            raise ValueError(f"expected numbers, got dtype {dtype!r}")
        return np.array(values, dtype).reshape(shape)
    except (TypeError, ValueError, OverflowError) as error:
        expected = f"array: expected numbers of dtype {dtype} and shape {tuple(shape)}"
        raise ValueError(f"{expected}, got {shown(values)}: {error}") from error


def mapping(items: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dict of pairs. TypeError for a key that cannot be one."""
    for key, _ in items:
        if not isinstance(key, bool | int | float | str | tuple | None):
            raise TypeError(f"dict: expected numbers, strings or tuples as keys, got {shown(key)}")
    return dict(items)


@contextmanager
def within(where: str) -> Iterator[None]:
    """What is wrong inside of ``where`` says so."""
    try:
        yield
    except TooDeep:
        raise
    except RecursionError:
        raise TooDeep(f"{where}: its configuration is nested too deep") from None
    except (TypeError, ValueError) as error:
        raise _at(where, error) from error


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Errors that do not say ``name`` begin with it."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if name in str(error):
            raise
        raise _at(name, error) from error


def _at(where: str, error: Exception) -> Exception:
    kind = next(kind for kind in (UnknownClass, ValueError, TypeError) if isinstance(error, kind))
    return kind(f"{where}: {error}")


@contextmanager
def foreign(where: str) -> Iterator[None]:
    """As ``within``, around code that was not made for whatever arguments: any error of it is a ValueError."""
    try:
        with within(where):
            yield
    except (TypeError, ValueError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{where}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What an error says, for another one's text."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return str(error) if isinstance(error, TypeError | ValueError) else f"{type(error).__name__}: {error}"
