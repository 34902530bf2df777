"""Checks of what a user passes: each error names the owner, what was expected and what came."""

from __future__ import annotations

import inspect
import math
import numbers
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def shown(value: Any) -> str:
    """A value as an error message shows it: short, and with its type where that is the point."""
    if value is None or isinstance(value, bool | int | float | str | tuple):
        return repr(value)
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def real(
    owner: Any,
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> float:
    """``value`` as a finite float within bounds (``least``, ``most`` inclusive). TypeError, ValueError otherwise."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    number = _as_float(value) if is_number else math.nan
    if (
        math.isfinite(number)
        and (least is None or number >= least)
        and (above is None or number > above)
        and (most is None or number <= most)
        and (below is None or number < below)
    ):
        return number
    bounds = ((">=", least), (">", above), ("<=", most), ("<", below))
    limits = [f"{sign} {bound:g}" for sign, bound in bounds if bound is not None]
    expected = f"{owner}: expected {name} to be a finite number" + (f" {' and '.join(limits)}" if limits else "")
    if is_number:
        raise ValueError(f"{expected}, got {value!r}")
    raise TypeError(f"{expected}, got {shown(value)}")


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # a longer integer
        return math.inf


def integer(owner: Any, name: str, value: Any, *, least: int | None = None) -> int:
    """``value`` as an int. TypeError if it is not an integer, ValueError below ``least``."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if is_integer and (least is None or value >= least):
        return int(value)
    what = {None: "an integer", 1: "a positive integer"}.get(least, f"an integer >= {least}")
    expected = f"{owner}: expected {name} to be {what}"
    if is_integer:
        raise ValueError(f"{expected}, got {value!r}")
    raise TypeError(f"{expected}, got {shown(value)}")


def optional(check: Callable[..., T], owner: Any, name: str, value: Any, **bounds: Any) -> T | None:
    """None as it is, all else as ``check`` has it."""
    return None if value is None else check(owner, name, value, **bounds)


def several(owner: Any, name: str, value: Any) -> list[Any]:
    """What is in a list, a tuple or an array. TypeError for anything else."""
    if not isinstance(value, list | tuple | range) and getattr(value, "ndim", 0) != 1:
        raise TypeError(f"{owner}: expected {name} to be a list, got {shown(value)}")
    return list(value)


def path(owner: Any, name: str, value: Any) -> Path:
    """``value``, a string, bytes or an ``os.PathLike``, as a Path. TypeError for anything else, ValueError where it has
    a null character."""
    if not isinstance(value, str | bytes | os.PathLike):
        raise TypeError(f"{owner}: expected {name} to be a path, got {shown(value)}")
    text = os.fsdecode(value)
    if "\0" in text:
        raise ValueError(f"{owner}: expected {name} to be a path, got {text!r}, which has a null character")
    return Path(text)


def flag(owner: Any, name: str, value: Any) -> bool:
    """``value`` as a bool. TypeError for anything else: 0 and "no" are mistakes more often than answers."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise TypeError(f"{owner}: expected {name} to be True or False, got {shown(value)}")
    return bool(value)


def scalar_function(expected: str, function: Any, names: list[str]) -> None:
    """TypeError, starting with ``expected``, for what cannot be called with a number for each of ``names``."""
    what = "one number" if len(names) == 1 else f"{len(names)} numbers ({', '.join(names)})"
    try:
        parameters = list(inspect.signature(getattr(function, "py_func", function)).parameters.values())
    except (TypeError, ValueError):
        raise TypeError(f"{expected} to be a Python function of {what}, got {shown(function)}") from None
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(required) != len(names) or any(p.kind is p.KEYWORD_ONLY for p in required):
        raise TypeError(f"{expected} to take {what}, got parameters {[p.name for p in parameters]}")


def shape(owner: Any, name: str, value: Any) -> tuple[int, ...]:
    """``value`` as a tuple of positive ints; one int is a shape of rank 1."""
    return _sizes(owner, f"{name} to be a tuple of positive integers", value, False)


def open_shape(owner: Any, name: str, value: Any) -> tuple[int | None, ...]:
    """As ``shape``; sizes may be None: any number."""
    return _sizes(owner, f"{name} to be a tuple of positive integers or None", value, True)


def _sizes(owner: Any, what: str, value: Any, unknown: bool) -> tuple[Any, ...]:
    if type(value) is tuple and all([type(size) is int and size > 0 for size in value]):
        return value
    sizes = (value,) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else value
    if not isinstance(sizes, tuple | list):
        raise TypeError(f"{owner}: expected {what}, got {shown(value)}")
    for size in sizes:
        if unknown and size is None:
            continue
        if isinstance(size, bool) or not isinstance(size, numbers.Integral) or size < 1:
            raise ValueError(f"{owner}: expected {what}, got {value!r}")
    return tuple(None if size is None else int(size) for size in sizes)
