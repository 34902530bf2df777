"""Weights of samples and of classes, as arrays for the rows of a loss: of all its axes, or of the first few."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnpy.data.inputs import check_finite, column, describe, to_array


def check_sample_weight(value: Any, samples: int, rows: Sequence[int | None], what: str = "sample_weight") -> Any:
    """Weights >= 0 of a loss whose rows have ``rows`` as their sizes behind the batch: one a sample, or one a step, a
    pixel, ... Axes of 1 at the end may be there. Raises TypeError or ValueError."""
    weights = to_array(value, what)
    sizes = weights.shape
    while len(sizes) > 1 and sizes[-1] == 1:
        sizes = sizes[:-1]
    wanted = (samples, *rows)[: len(sizes)]
    fit = len(sizes) == len(wanted) and all(e is None or n == e for n, e in zip(sizes, wanted, strict=True))
    if not fit or weights.ndim > len(rows) + 2:
        more = [describe((samples, *rows[:rank])) for rank in range(1, len(rows) + 1)]
        raise ValueError(
            f"{what}: expected shape ({samples},), one weight a sample,"
            f"{' or ' + ' or '.join(more) + ', of the rows of the loss,' if more else ''} got {weights.shape}"
        )
    weights = weights.reshape(sizes)
    check_finite(weights, np.float32, what)
    if weights.dtype.kind in "fi" and weights.min() < 0:
        row, *place = np.unravel_index(int(np.argmax(weights < 0)), weights.shape)
        raise ValueError(
            f"{what}: expected weights >= 0, got {weights[row, *place]} in row {row}{column(sizes[1:], place)}"
        )
    return weights


def of_labels(class_weight: Any, labels: np.ndarray, classes: int | None, ignored: int | None = None) -> np.ndarray:
    """The weights of ``labels``, class numbers of any shape, from ``{class: weight}``; classes not named weigh 1, as in
    Keras, and so does ``ignored``. ``classes``: how many there are, if known. Raises TypeError or ValueError."""
    numbers = labels.astype(np.int64)
    counted = np.ones(numbers.shape, bool) if ignored is None else numbers != ignored
    table = _table(class_weight, classes, int(numbers.max(initial=0)))
    strange = counted & ((numbers != labels) | (numbers < 0) | (numbers >= len(table)))
    if strange.any():
        row, *place = np.unravel_index(int(np.argmax(strange)), strange.shape)
        most = "" if classes is None else f" ... {classes - 1}"
        raise ValueError(
            f"class_weight: expected y to be class numbers 0{most}, got {labels[row, *place]} in row {row}"
            f"{column(labels.shape[1:], place)}; use sample_weight"
        )
    return np.where(counted, table[np.where(counted, numbers, 0)], 1.0)


def of_one_hot(class_weight: Any, targets: np.ndarray, soft: bool) -> np.ndarray:
    """The weights of one-hot rows, (..., classes); under ``soft`` of probabilities, the largest of which is the class.
    Raises TypeError or ValueError, also for a row that belongs to no one class."""
    table = _table(class_weight, targets.shape[-1], 0)
    _check_one_hot(targets, soft)
    return table[targets.argmax(axis=-1)]


def _table(value: Any, classes: int | None, largest: int) -> np.ndarray:
    """A weight for each class; as many as are named or found where that is not known."""
    if not isinstance(value, Mapping):
        raise TypeError(f"class_weight: expected a dict {{class: weight}}, got {type(value).__name__}")
    weights: dict[int, float] = {}
    most = "" if classes is None else f" to {classes - 1}"
    for key, weight in value.items():
        number = float(key) if isinstance(key, bool | int | float | np.number | np.bool_) else math.nan
        if not number.is_integer() or not 0 <= number < (classes or math.inf):
            raise ValueError(f"class_weight: expected classes 0{most} as keys, got {key!r}")
        if not isinstance(weight, (int, float, np.number)) or not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"class_weight: expected a finite weight >= 0 for class {key}, got {weight!r}")
        weights[int(number)] = float(weight)
    table = np.ones(classes or max([largest, *weights]) + 1)
    table[list(weights)] = list(weights.values())
    return table


def _check_one_hot(targets: np.ndarray, soft: bool) -> None:
    """ValueError for the first row without one class: where labels are independent of each other, or tie."""
    largest = targets == targets.max(axis=-1, keepdims=True)
    bad = largest.sum(axis=-1) != 1
    if not soft:
        bad |= (targets != largest).any(axis=-1)
    if bad.any():
        row, *place = np.unravel_index(int(np.argmax(bad)), bad.shape)
        what = "one largest" if soft else "one 1 and zeros"
        raise ValueError(
            f"class_weight: expected rows of y with {what}, the class, got {_few(targets[row, *place])} in row {row}"
            f"{column(bad.shape[1:], place)}; such a row belongs to no one class: use sample_weight"
        )


def _few(values: np.ndarray) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:6])
    return f"[{shown}{', ...' if len(values) > 6 else ''}]"
