"""Trees of arguments: tensors in lists, tuples and dicts, with constants beside them.

Layers are called with such trees and give them. ``leaves`` and ``replace`` are all that tracing, replaying and checking
need; ``to_json`` and ``from_json`` write one with its tensors as references.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from nnpy import forms
from nnpy.checks import shown
from nnpy.graph import Tensor

_MOST_ELEMENTS = 4096  # of a constant array: larger ones are weights, or data
_REFERENCE = "tensor"
_ARRAY = {"array": None, "shape": [int], "dtype": str}


def leaves(tree: Any) -> Iterator[Any]:
    """What is in the lists, tuples and dicts, in order: tensors and constants."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from leaves(item)
    elif isinstance(tree, Mapping):
        for item in tree.values():
            yield from leaves(item)
    else:
        yield tree


def tensors(tree: Any) -> list[Tensor]:
    """The tensors in it, in order."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, Tensor)]


def replace(tree: Any, function: Callable[[Any], Any], every: bool = False) -> Any:
    """The same tree with ``function(tensor)`` for each tensor (for ``every`` leaf)."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, list | tuple):
        items = [replace(item, function, every) for item in tree]
        if hasattr(tree, "_fields"):  # a named tuple
            return type(tree)(*items)
        return items if isinstance(tree, list) else tuple(items)
    if isinstance(tree, Mapping):
        return {key: replace(item, function, every) for key, item in tree.items()}
    return function(tree) if every else tree


def is_constant(value: Any) -> bool:
    """Whether a call may keep it: a number, a string, a bool, None, or a small array of numbers."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fiub" and value.size <= _MOST_ELEMENTS
    return value is None or isinstance(value, bool | int | float | str | np.generic)


def check(tree: Any, what: str) -> None:
    """TypeError, naming ``what`` and what came, for a leaf that is neither a tensor nor a constant."""
    for leaf in leaves(tree):
        if not isinstance(leaf, Tensor) and not is_constant(leaf):
            raise TypeError(
                f"{what}: expected tensors and constants (numbers, strings, None, arrays of at most {_MOST_ELEMENTS} "
                f"numbers), in lists, tuples or dicts, got {shown(leaf)}"
            )


def to_json(tree: Any, reference: Callable[[Tensor], Any]) -> Any:
    """As JSON values: ``{"tensor": reference(tensor)}``; tuples, dicts and arrays are marked, all else is itself."""
    if isinstance(tree, Tensor):
        return {_REFERENCE: reference(tree)}
    if isinstance(tree, Mapping):
        return {"dict": [[to_json(part, reference) for part in item] for item in tree.items()]}
    if isinstance(tree, tuple):
        return {"tuple": [to_json(item, reference) for item in tree]}
    if isinstance(tree, list):
        return [to_json(item, reference) for item in tree]
    if isinstance(tree, np.ndarray | np.generic):
        return {"array": tree.tolist(), "shape": list(tree.shape), "dtype": tree.dtype.name}
    return tree


def from_json(value: Any, tensor: Callable[[Any], Tensor]) -> Any:
    """The opposite; ``tensor(reference)`` gives the tensors. ValueError for what ``to_json`` does not write."""
    if isinstance(value, list):
        return [from_json(item, tensor) for item in value]
    if not isinstance(value, dict):
        return value
    if _REFERENCE in value:
        return tensor(value[_REFERENCE])
    if "dict" in value:
        forms.check("dict", value["dict"], [(None, None)], "its content")
        return forms.mapping([(from_json(key, tensor), from_json(item, tensor)) for key, item in value["dict"]])
    if "tuple" in value:
        forms.check("tuple", value["tuple"], list, "its content")
        return tuple(from_json(item, tensor) for item in value["tuple"])
    if "array" in value:
        forms.check("array", value, _ARRAY)
        array = forms.array(value["dtype"], value["shape"], value["array"])
        return array if array.ndim else array[()]
    raise ValueError(f"expected an argument of a call, got an object of {', '.join(value) or 'nothing'}")
