"""Attributes that are set later: on an object of one of nnpy's classes nothing is set that nobody would read.

Objects of users' own subclasses take what they are given.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from nnpy.hints import meant


class Sealed:
    """Base of what refuses unknown attributes once it is made; private ones (``_name``) may be set at any time."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in cls.__dict__ and _is_ours(cls):
            cls.__init__ = _seals(cls.__init__)  # type: ignore[method-assign]

    def __setattr__(self, name: str, value: Any) -> None:
        if "_sealed" in self.__dict__ and not name.startswith("_"):
            value = self._attribute(name, value)
        object.__setattr__(self, name, value)

    def _attribute(self, name: str, value: Any) -> Any:
        """What ``name`` becomes if it is set to ``value``. AttributeError where that would do nothing."""
        cls: Any = type(self)
        found, arguments = getattr(cls, name, None), arguments_of(cls)
        if isinstance(found, property) and found.fset is None:
            raise AttributeError(f"{_named(self)}: {name} cannot be set{self._advice(name)}")
        if found is None and not hasattr(cls, name) and name not in self.__dict__:
            if name in arguments:
                raise AttributeError(f"{_named(self)}: {name} is set when it is made")
            known = sorted(each for each in {*arguments, *vars(self), *dir(cls)} if not each.startswith("_"))
            hint = meant(name, known) or "; a subclass of your own may have more"
            raise AttributeError(f"{_named(self)}: has no attribute {name!r}{hint}")
        return self._argument(name, value) if name in arguments and name != "name" else value

    def _advice(self, name: str) -> str:
        """What to do instead of setting ``name``, for the end of an error."""
        return ""

    def _argument(self, name: str, value: Any) -> Any:
        """As ``_attribute``, for an argument of the constructor."""
        return value


@functools.lru_cache(1024)
def arguments_of(cls: type) -> frozenset[str]:
    """The names of a constructor's arguments."""
    parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    return frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)) - {"self"}


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def _seals(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor, after which an object of the very class that it is of is sealed."""

    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if type(self).__init__ is wrapped and _is_ours(type(self)):
            self.__dict__["_sealed"] = True

    return wrapped


def _named(value: Any) -> str:
    return type(value).__name__ if type(value).__str__ is object.__str__ else str(value)
