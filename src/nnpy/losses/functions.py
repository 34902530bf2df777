"""Losses as functions: of NumPy arrays arrays, of tensors tensors, the losses of rows."""

from __future__ import annotations

from typing import Any

from nnpy.losses.base import Loss
from nnpy.losses.classification import BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy
from nnpy.losses.regression import MeanAbsoluteError, MeanSquaredError


def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """The mean over the last axis of (y_true - y_pred)^2, as ``MeanSquaredError`` has it for every row."""
    return MeanSquaredError().rows(y_true, y_pred)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Any:
    """The mean over the last axis of |y_true - y_pred|, as ``MeanAbsoluteError`` has it for every row."""
    return MeanAbsoluteError().rows(y_true, y_pred)


def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Any:
    """``BinaryCrossentropy`` of every row."""
    return BinaryCrossentropy(from_logits, label_smoothing, axis).rows(y_true, y_pred)


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Any:
    """``CategoricalCrossentropy`` of every row."""
    return CategoricalCrossentropy(from_logits, label_smoothing, axis).rows(y_true, y_pred)


def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Any:
    """``SparseCategoricalCrossentropy`` of every row; 0 for those of ``ignore_class``."""
    return SparseCategoricalCrossentropy(from_logits, ignore_class, axis=axis).rows(y_true, y_pred)


#: what a function means where a loss is asked for
CLASSES: dict[Any, type[Loss]] = {
    mean_squared_error: MeanSquaredError,
    mean_absolute_error: MeanAbsoluteError,
    binary_crossentropy: BinaryCrossentropy,
    categorical_crossentropy: CategoricalCrossentropy,
    sparse_categorical_crossentropy: SparseCategoricalCrossentropy,
}
