"""Metrics of arrays, outside of a model: what ``update_state`` is given, and the compiled steps that add it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nncore import new_state
from nncore.memory import DRAW, LOCAL, ROW, SLOTS
from nnpy import ops
from nnpy.compiler import Executable, compile_step
from nnpy.graph import Tensor, Variable
from nnpy.losses.base import refuse
from nnpy.ops.effects import feed

if TYPE_CHECKING:
    from nnpy.metrics.base import Metric

ROWS = 4096  # of a step: what it needs of memory does not grow with the arrays
_SIZES = 4  # numbers of rows that have a step of their own


class Measured:
    """The accumulators of a metric for arrays of some shapes, ``totals``. ``fresh``: nothing was added since the last
    reset. ``before``: of arrays of other shapes, whose totals it takes over. ValueError where these do not fit."""

    def __init__(self, metric: Metric, arrays: list[np.ndarray], before: Measured | None = None):
        self._key = _key(arrays)
        kinds = ["index" if arrays[0].dtype == np.int32 else "real", "real", "real"]
        self._tensors = [
            Tensor((None, *array.shape[1:]), None, name, kind)
            for array, name, kind in zip(arrays, ("y_true", "y_pred", "sample_weight"), kinds, strict=False)
        ]
        true, predicted, *weights = self._tensors
        self.metric = metric.resolve(true, predicted)
        self._of = dict(self.metric.accumulators(predicted.shape))
        self.totals = {name: accumulator.new() for name, accumulator in self._of.items()}
        self.fresh: bool = before is None or before.fresh
        if before is not None and not before.fresh:
            if before._of != self._of or type(before.metric) is not type(self.metric):
                raise ValueError(
                    f"{metric}: expected predictions of as many outputs as before, {before._tensors[1].shape}, got "
                    f"{predicted.shape}; reset_state() begins anew"
                )
            self.totals = before.totals
        self._variables = {name: Variable(value, name, "accumulator") for name, value in self.totals.items()}
        weight = weights[0] if weights else None
        if weight is not None:
            weight = ops.reshape(weight, (*weight.sizes, *[1] * (predicted.rank - 1 - weight.rank)))
        self._effects = list(self.metric.update(self._variables, true, predicted, weight))
        self._dtype = arrays[1].dtype
        self._steps: dict[int, Executable] = {}

    def fits(self, arrays: list[np.ndarray]) -> bool:
        return _key(arrays) == self._key

    def reset(self) -> None:
        self.fresh = True
        for name, accumulator in self._of.items():
            self.totals[name][...] = accumulator.initial

    def add(self, arrays: list[np.ndarray]) -> None:
        self.fresh = False
        start, count = 0, len(arrays[0])
        while start < count:
            size = self._size(count - start)
            parts = [array[start : start + size] for array in arrays]
            start += size
            step = self._step(parts)
            step.state[[DRAW, ROW, LOCAL]] = 0
            for slot, part in enumerate(parts):
                step.state[SLOTS + slot] = part.ctypes.data
            step.run()

    def _size(self, rows: int) -> int:
        """How many of them one step takes: all, but a power of two once there are steps for enough other sizes."""
        rows = min(rows, ROWS)
        return rows if rows in self._steps or len(self._steps) < _SIZES else 1 << (rows.bit_length() - 1)

    def _step(self, parts: list[np.ndarray]) -> Executable:
        batch = len(parts[0])
        if batch not in self._steps:
            feeds = [
                feed(tensor, slot, part.dtype.name, part[:1].nbytes)
                for slot, (tensor, part) in enumerate(zip(self._tensors, parts, strict=True))
            ]
            self._steps[batch] = compile_step([*feeds, *self._effects], batch, new_state(batch), self._dtype)
        return self._steps[batch]


def _key(arrays: list[np.ndarray]) -> list[Any]:
    return [(array.shape[1:], array.dtype) for array in arrays]


def numbers(owner: Any, name: str, value: Any) -> np.ndarray:
    """An array of real numbers of at least one axis. TypeError, ValueError otherwise."""
    array = np.asarray(value)
    if array.size == 0:
        array = array.astype(np.float64)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{owner}: expected {name} to be real numbers, got dtype {array.dtype}")
    if array.ndim == 0:
        raise ValueError(f"{owner}: expected {name} to have an axis of samples, got a single number")
    return array


def checked(metric: Metric, y_true: Any, y_pred: Any, sample_weight: Any) -> list[np.ndarray]:
    """[targets, predictions], and weights where there are any, as a step takes them."""
    predicted, true = numbers(metric, "y_pred", y_pred), numbers(metric, "y_true", y_true)
    dtype = np.float32 if predicted.dtype.kind == "f" and predicted.dtype.itemsize < 8 else np.float64
    if predicted.ndim == 1:
        predicted = predicted[:, None]
    rows = predicted.shape[:-1]
    as_rows = true.shape == rows or true.shape == (*rows, 1)
    one = predicted.shape[-1] == 1 and not metric._takes_classes
    if true.shape == predicted.shape and not (metric._takes_classes and predicted.shape[-1] == 1):
        true = true.astype(dtype)
    elif as_rows and one:
        true = true.reshape(predicted.shape).astype(dtype)
    elif as_rows:
        true = _class_numbers(metric, true.reshape(rows), predicted.shape[-1])
    else:
        raise ValueError(
            f"{metric}: expected y_true of shape {predicted.shape}, or class numbers of shape {rows}, got {true.shape}"
        )
    refuse(true, ~np.isfinite(true) if true.dtype.kind == "f" else None, f"{metric}: expected y_true to be finite")
    arrays = [np.ascontiguousarray(true), np.ascontiguousarray(predicted, dtype)]
    if sample_weight is not None:
        weight = numbers(metric, "sample_weight", sample_weight).astype(dtype)
        if weight.ndim == len(rows) + 1 and weight.shape[-1] == 1:
            weight = weight[..., 0]
        if not 1 <= weight.ndim <= len(rows) or weight.shape != rows[: weight.ndim]:
            raise ValueError(
                f"{metric}: expected sample_weight of the samples, {rows[:1]}, or of the rows, {rows}, got "
                f"{weight.shape}"
            )
        refuse(weight, ~np.isfinite(weight) | np.less(weight, 0), f"{metric}: expected sample_weight >= 0")
        arrays.append(np.ascontiguousarray(weight))
    return arrays


def _class_numbers(metric: Metric, true: np.ndarray, classes: int) -> np.ndarray:
    ignored = getattr(metric, "ignore_class", None)
    if true.dtype.kind == "f":
        refuse(true, ~(np.floor(true) == true), f"{metric}: expected y_true to be whole class numbers")
    most = metric._classes(classes) - 1
    strange = (true < 0) | (true > most)
    message = f"{metric}: expected y_true in 0 ... {most}"
    refuse(true, strange if ignored is None else strange & (true != ignored), message)
    return true.astype(np.int32)
