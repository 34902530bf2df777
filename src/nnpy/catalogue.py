"""The public names of a module: shown by dir(), imported when they are first asked for; for others, what was meant."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from nnpy.hints import elsewhere, meant


def offer(module: str, names: Sequence[str], homes: Sequence[str] = ()) -> None:
    """Make ``names`` what a module shows; AttributeError for others, with the one that may have been meant.

    ``homes``: the modules that a package's names come from, looked through in this order when a name is first asked for
    (PEP 562): importing the package loads none of them. Its own modules are found without. What type checkers see is
    imported under TYPE_CHECKING.
    """
    package = sys.modules[module]

    def __getattr__(name: str) -> Any:
        text = f"{module} has no {name!r}"
        if name.startswith("__"):
            raise AttributeError(text)
        if hasattr(package, "__path__"):
            inner = f"{module}.{name}"
            try:
                return import_module(inner)
            except ModuleNotFoundError as error:
                if error.name != inner:
                    raise
        for home in homes if name in names else ():
            if name in dir(found := import_module(home)):
                setattr(package, name, getattr(found, name))
                return getattr(package, name)
        raise AttributeError(text + (" in this version" if elsewhere(name) else meant(name, names)))

    vars(package).update(__getattr__=__getattr__, __dir__=lambda: list(names))
