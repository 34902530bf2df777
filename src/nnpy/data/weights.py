"""Weights of samples and of classes, as arrays for the rows of a loss: of all its axes, or of the first few."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnpy.checks import shown
from nnpy.data.inputs import check_finite, column, describe, to_array
from nnpy.forms import within


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
    table = _table(class_weight, classes, numbers[counted])
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
    if not balanced(class_weight):
        _table(class_weight, targets.shape[-1], np.zeros(0, np.int64))  # what is wrong with it is said first
    _check_one_hot(targets, soft)
    labels = targets.argmax(axis=-1)
    return _table(class_weight, targets.shape[-1], labels)[labels]


def of_each_label(class_weight: Any, targets: np.ndarray) -> np.ndarray:
    """The weights of labels that are 0 or 1 each, (..., labels): "balanced" all of them, or those of each label by its
    number, or in a list of all. Raises TypeError or ValueError."""
    labels = targets.shape[-1]
    if isinstance(class_weight, list | tuple) and len(class_weight) != labels:
        raise ValueError(f"class_weight: expected {labels} items, one for each label, got {len(class_weight)}")
    given = dict(enumerate(class_weight)) if isinstance(class_weight, list | tuple) else class_weight
    factors = np.ones(targets.shape)
    for label in range(labels) if balanced(given) else given:
        if isinstance(label, bool) or not isinstance(label, int | np.integer) or not 0 <= label < labels:
            raise ValueError(f"class_weight: expected labels 0 to {labels - 1} as keys, got {label!r}")
        value = given if balanced(given) else given[label]
        if value is not None:
            with within(f"label {label}"):
                factors[..., label] = of_labels(value, targets[..., label], 2)
    return factors


def balanced(value: Any) -> bool:
    """Whether classes are to be weighed by how often they are."""
    return isinstance(value, str) and value == "balanced"


def says_labels(value: Any, of_labels: bool) -> bool:
    """Whether it says weights of each label of a row, not of the class that a row belongs to."""
    if isinstance(value, Mapping):
        return any(item is None or isinstance(item, Mapping | str) for item in value.values())
    return isinstance(value, list | tuple) or (of_labels and balanced(value))


def classes_of_outputs(value: Any, names: Sequence[str]) -> list[Any]:
    """What ``class_weight`` says of each output: by their names, in their order, or "balanced" all. TypeError or
    ValueError for names and numbers that do not fit."""
    if isinstance(value, Mapping) and value and all(isinstance(key, str) for key in value):
        if unknown := [key for key in value if key not in names]:
            expected = f"classes (numbers) or names of outputs ({', '.join(names)}) as keys"
            raise ValueError(f"class_weight: expected {expected}, got {unknown[0]!r}")
        return [value.get(name) for name in names]
    if len(names) == 1 or balanced(value):
        return [value] * len(names)
    if not isinstance(value, list | tuple) or len(value) != len(names):
        raise ValueError(
            f"class_weight: expected a dict by the names of outputs ({', '.join(names)}), or a list in their order, of "
            f"dicts {{class: weight}}, got {shown(value)}"
        )
    return list(value)


def refuse_balanced(value: Any, where: str) -> None:
    """ValueError for "balanced" where not all targets are there."""
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    if balanced(value):
        raise ValueError(
            f"class_weight: expected weights of classes {where}, got 'balanced', which counts all targets: give "
            "{class: n / (k * count)}, of n targets of k classes, as sklearn.utils.class_weight computes"
        )
    for item in inside:
        refuse_balanced(item, where)


def _table(value: Any, classes: int | None, labels: np.ndarray) -> np.ndarray:
    """A weight for each class; as many as are named or found where that is not known. "balanced": n / (k * count), of n
    labels of k classes, as scikit-learn's."""
    largest = int(labels.max(initial=0))
    if balanced(value):
        found, counts = np.unique(labels[(labels >= 0) & (labels < (classes or math.inf))], return_counts=True)
        table = np.ones(classes or largest + 1)
        table[found] = counts.sum() / (len(found) * counts)
        return table
    if not isinstance(value, Mapping):
        raise TypeError(f"class_weight: expected a dict {{class: weight}} or 'balanced', got {shown(value)}")
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
