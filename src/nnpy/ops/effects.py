"""Effects: nodes that are there for what they do. A batch comes in, results go out, variables change.

A variable that is read in a step has the value of its beginning: what assigns to it comes last.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nncore.kernels import signatures
from nnpy.checks import shown
from nnpy.graph import Node, Tensor, Variable, make, record
from nnpy.ops.base import Operation, label
from nnpy.ops.constants import as_tensor

# The codes of the gather kernels for the dtypes of users' arrays.
SOURCES = {name: code for code, name in enumerate(signatures.SOURCES)}
SOURCES["bool"] = SOURCES["uint8"]
_SCATTERS = {"real": "scatter", "index": "scatter_index", "bool": "scatter_truth"}


class _Effect(Operation):
    is_effect = True

    def infer(self, node):
        return []


class _Feed(_Effect):
    """``tensor`` (its output) is gathered, row by row, from the user's array at the state's ``slot``: ``source`` is the
    array's dtype, ``row_stride`` bytes from one row to the next; the elements of a row are contiguous. ``transform``:
    what happens to images on the way, ``augment``: whether they are changed at random. ``sparse``: the slot is of a
    sparse matrix."""

    name = "feed"

    def lower(self, item, low):
        (tensor,), given = item.node.outputs, item.node.attributes
        count, rows = low.count(tensor), low.batch
        common = dict(out=tensor, state=low.state, slot=given["slot"], rows=rows, work=4 * count)
        if given["transform"] is not None:
            arguments = given["transform"].arguments(low.dtype, given["source"], given["row_stride"], given["augment"])
            low.call("gather_image", **common, **arguments)
            return
        if given["sparse"]:
            low.call("gather_csr", cols=count // max(1, rows), source=SOURCES[given["source"]], **common)
            return
        kernel = "gather_index" if tensor.kind == "index" else "gather"
        low.call(
            kernel, cols=count // max(1, rows), row_stride=given["row_stride"], source=SOURCES[given["source"]],
            **common,
        )  # fmt: skip


class _Emit(_Effect):
    """Its input's rows are written to the user's array at the state's ``slot``, in the input's dtype."""

    name = "emit"
    takes_indices = True

    def lower(self, item, low):
        (tensor,) = item.node.inputs
        count = low.count(tensor)
        low.call(
            _SCATTERS[tensor.kind], x=tensor, state=low.state, slot=item.node.attributes["slot"], rows=low.batch,
            cols=count // max(1, low.batch), work=count,
        )  # fmt: skip


class _Assign(_Effect):
    """``variable`` becomes its input."""

    name = "assign"

    def infer(self, node):
        variable, (value,) = node.attributes["variable"], node.inputs
        if value.sizes != variable.sizes or value.kind != variable.kind:
            raise ValueError(
                f"{label(node)}: expected a value of shape {variable.shape} for {variable.name}, got {value.shape}"
            )
        return []

    def mutated(self, node):
        return [node.attributes["variable"]]

    def lower(self, item, low):
        variable = item.node.attributes["variable"]
        low.copy(variable, item.node.inputs[0], 0, low.views.of(variable).strides)


class _Accumulate(_Effect):
    """``variable``, float64 of shape (2,): += (sum of the values, sum of the weights, or how many values there are).
    ``finite``, None or float64 of shape (1,): += 1 as long as the variable's sum is finite."""

    name = "accumulate"

    def infer(self, node):
        variable, value = node.attributes["variable"], node.inputs[0]
        if variable.shape != (2,) or variable.value.dtype != np.float64:
            raise ValueError(f"{label(node)}: expected a variable of shape (2,) and dtype float64, got {variable!r}")
        if len(node.inputs) > 1 and node.inputs[1].sizes != value.sizes:
            raise ValueError(f"{label(node)}: expected weights of shape {value.shape}, got {node.inputs[1].shape}")
        return []

    def mutated(self, node):
        return [v for v in (node.attributes["variable"], node.attributes["finite"]) if v is not None]

    def lower(self, item, low):
        values, *weights = item.node.inputs
        given: dict[str, Any] = {"weights": weights[0]} if weights else {}
        if item.node.attributes["finite"] is not None:
            given["finite"] = item.node.attributes["finite"].value
        rows = low.count(values)
        low.call("accumulate", totals=item.node.attributes["variable"].value, values=values, rows=rows, work=1, **given)


class _Confusion(_Effect):
    """``variable``, float64 of shape (classes, classes): += weight (or 1) at (label, predicted class)."""

    name = "accumulate_confusion"
    takes_indices = True

    def mutated(self, node):
        return [node.attributes["variable"]]

    def lower(self, item, low):
        labels, predicted, *weights = item.node.inputs
        variable = item.node.attributes["variable"]
        given: dict[str, Any] = {"weights": weights[0]} if weights else {}
        if item.node.attributes["ignore"] is not None:
            given.update(ignore=item.node.attributes["ignore"], ignoring=1)
        rows = low.count(labels)
        given.update(labels=labels, predictions=predicted, state=low.state)
        given.update(rows=rows, cols=variable.shape[0], work=rows)
        low.call("confusion", **given)  # reports what is out of range
        low.call("confusion", counts=variable.value, **given)


class _AccumulateAt(_Effect):
    """``variable``, float64 of any shape: += value (or 1) at each place, an index of its elements in order."""

    name = "accumulate_at"
    takes_indices = True

    def infer(self, node):
        variable, (places, *values) = node.attributes["variable"], node.inputs
        if variable.value.dtype != np.float64 or places.kind != "index":
            raise TypeError(f"{label(node)}: expected a variable of float64 and int32 places, got {variable.dtype} and "
                            f"{places.dtype}")  # fmt: skip
        if values and values[0].sizes != places.sizes:
            raise ValueError(f"{label(node)}: expected values of shape {places.shape}, got {values[0].shape}")
        return []

    def mutated(self, node):
        return [node.attributes["variable"]]

    def lower(self, item, low):
        places, *values = item.node.inputs
        variable = item.node.attributes["variable"].value
        rows = low.count(places)
        given: dict[str, Any] = {"weights": values[0]} if values else {}
        low.call(
            "confusion", counts=variable, labels=np.zeros(rows, np.int32), predictions=places, state=low.state,
            rows=rows, cols=variable.size, work=rows, **given,
        )  # fmt: skip


_FEED = _Feed()
_EMIT = _Emit()
_ASSIGN = _Assign()
_ACCUMULATE = _Accumulate()
_CONFUSION = _Confusion()
_ACCUMULATE_AT = _AccumulateAt()


def feed(
    tensor: Tensor, slot: int, source: str, row_stride: int, transform: Any = None, augment: bool = False,
    sparse: bool = False,
) -> Node:  # fmt: skip
    """Rows of the user's array at a slot become ``tensor``, a leaf of the graph."""
    node = make(
        _FEED, [], slot=slot, source=source, row_stride=row_stride, transform=transform, augment=augment,
        sparse=sparse,
    )  # fmt: skip
    node.outputs = (tensor,)
    return node


def emit(tensor: Tensor, slot: int) -> Node:
    """``tensor`` is written to the user's array at a slot."""
    return make(_EMIT, [tensor], slot=slot)


def assign(variable: Variable, value: Any) -> Node:
    """``variable`` becomes ``value`` at the end of the step. TypeError for what is no variable, ValueError for another
    shape."""
    if not isinstance(variable, Variable):
        raise TypeError(f"assign: expected a variable, got {shown(variable)}")
    return record(make(_ASSIGN, [as_tensor("assign", value)], variable=variable))


def accumulate(
    variable: Variable, values: Tensor, weights: Tensor | None = None, finite: Variable | None = None
) -> Node:
    """``variable`` (float64, (2,)) += (sum of ``values``, sum of ``weights``); without weights each counts 1, with them
    the values have been multiplied by theirs already. ``finite`` (float64, (1,)) counts the steps before the first that
    makes the sum NaN or infinite."""
    inputs = [values] if weights is None else [values, weights]
    return make(_ACCUMULATE, inputs, variable=variable, finite=finite)


def accumulate_confusion(
    variable: Variable, labels: Tensor, predicted: Tensor, weights: Tensor | None = None, ignore: int | None = None
) -> Node:
    """``variable`` (float64, (classes, classes)) += weight at (label, predicted), but for the label ``ignore``."""
    inputs = [labels, predicted] if weights is None else [labels, predicted, weights]
    return make(_CONFUSION, inputs, variable=variable, ignore=ignore)


def accumulate_at(variable: Variable, places: Tensor, values: Tensor | None = None) -> Node:
    """``variable`` (float64) += ``values`` (or 1) at ``places`` (int32): numbers of its elements, as they come in
    memory. A place out of range stops the run with an IndexError."""
    return make(_ACCUMULATE_AT, [places] if values is None else [places, values], variable=variable)
