"""Operations outside of layers (x + y, x[:, 0]) as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnpy import forms
from nnpy.graph import Dim, Node, Tensor, make
from nnpy.ops.base import Operation, Stream

_PLAIN = (bool, int, float, str, type(None))


def to_json(node: Node) -> dict[str, Any]:
    """An operation's name and a node's constants. Raises TypeError where JSON cannot hold one of them."""
    name = node.operation.name
    return {"operation": name, "attributes": {key: _value(name, value) for key, value in node.attributes.items()}}


def from_json(value: dict[str, Any], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of the node that ``to_json`` told of. Raises TypeError or ValueError for an operation that does not
    exist, or constants that are not its own."""
    operation = Operation.registry.get(value["operation"])
    if operation is None or operation.is_effect:
        raise ValueError(f"unknown operation {value['operation']!r}")
    with forms.foreign(f"operation {operation.name!r}"):
        given = {key: _made(item) for key, item in value["attributes"].items()}
        if lacking := operation.attributes.keys() - given:
            raise ValueError(f"expected the attributes {', '.join(operation.attributes)}, got no {min(lacking)}")
        return list(make(operation, inputs, **given).outputs)


def _value(name: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, tuple | list):
        return [_value(name, item) for item in value]
    if isinstance(value, Dim):
        return {"batch": [value.coefficient, value.power]}
    if isinstance(value, Stream):
        return {"stream": True}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "shape": list(value.shape), "dtype": value.dtype.name}
    raise TypeError(f"cannot store the operation {name!r} outside of a layer: make it a Layer")


def _made(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_made(item) for item in value)
    if not isinstance(value, dict):
        return value
    if "batch" in value:
        return Dim(*value["batch"])
    if "stream" in value:
        return Stream()
    return forms.array(value["dtype"], value["shape"], value["array"])
