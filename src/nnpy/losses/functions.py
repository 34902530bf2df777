"""Losses as functions: of NumPy arrays arrays, of tensors tensors, the losses of rows.

>>> huber([[0.0], [0.0]], [[1.0], [3.0]])
array([0.5, 2.5])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnpy.losses import classification, margins, overlap, regression, sequences
from nnpy.losses.base import Loss


def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """The mean over the last axis of (y_true - y_pred)^2, as ``MeanSquaredError`` has it for every row."""
    return regression.MeanSquaredError().rows(y_true, y_pred)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Any:
    """The mean over the last axis of |y_true - y_pred|, as ``MeanAbsoluteError`` has it for every row."""
    return regression.MeanAbsoluteError().rows(y_true, y_pred)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Any:
    """``MeanAbsolutePercentageError`` of every row."""
    return regression.MeanAbsolutePercentageError().rows(y_true, y_pred)


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Any:
    """``MeanSquaredLogarithmicError`` of every row."""
    return regression.MeanSquaredLogarithmicError().rows(y_true, y_pred)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Any:
    """``Huber`` of every row."""
    return regression.Huber(delta).rows(y_true, y_pred)


def log_cosh(y_true: Any, y_pred: Any) -> Any:
    """``LogCosh`` of every row."""
    return regression.LogCosh().rows(y_true, y_pred)


def quantile(y_true: Any, y_pred: Any, q: float = 0.5) -> Any:
    """``Quantile`` of every row."""
    return regression.Quantile(q).rows(y_true, y_pred)


def poisson(y_true: Any, y_pred: Any) -> Any:
    """``Poisson`` of every row."""
    return regression.Poisson().rows(y_true, y_pred)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """``CosineSimilarity`` of every row."""
    return regression.CosineSimilarity(axis).rows(y_true, y_pred)


def hinge(y_true: Any, y_pred: Any) -> Any:
    """``Hinge`` of every row."""
    return margins.Hinge().rows(y_true, y_pred)


def squared_hinge(y_true: Any, y_pred: Any) -> Any:
    """``SquaredHinge`` of every row."""
    return margins.SquaredHinge().rows(y_true, y_pred)


def categorical_hinge(y_true: Any, y_pred: Any) -> Any:
    """``CategoricalHinge`` of every row."""
    return margins.CategoricalHinge().rows(y_true, y_pred)


def kl_divergence(y_true: Any, y_pred: Any) -> Any:
    """``KLDivergence`` of every row."""
    return margins.KLDivergence().rows(y_true, y_pred)


def dice(y_true: Any, y_pred: Any, axis: int | Sequence[int] | None = None) -> Any:
    """``Dice``: over all, a number; over an ``axis`` what is left."""
    return overlap.Dice(axis=axis).rows(y_true, y_pred)


def tversky(
    y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: int | Sequence[int] | None = None
) -> Any:
    """``Tversky``: over all, a number; over an ``axis`` what is left."""
    return overlap.Tversky(alpha, beta, axis=axis).rows(y_true, y_pred)


def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Any:
    """``BinaryCrossentropy`` of every row."""
    return classification.BinaryCrossentropy(from_logits, label_smoothing, axis).rows(y_true, y_pred)


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """``BinaryFocalCrossentropy`` of every row."""
    return classification.BinaryFocalCrossentropy(
        apply_class_balancing, alpha, gamma, from_logits, label_smoothing, axis
    ).rows(y_true, y_pred)


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Any:
    """``CategoricalCrossentropy`` of every row."""
    return classification.CategoricalCrossentropy(from_logits, label_smoothing, axis).rows(y_true, y_pred)


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: float | Sequence[float] = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """``CategoricalFocalCrossentropy`` of every row."""
    return classification.CategoricalFocalCrossentropy(alpha, gamma, from_logits, label_smoothing, axis).rows(
        y_true, y_pred
    )


def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Any:
    """``SparseCategoricalCrossentropy`` of every row; 0 for those of ``ignore_class``."""
    return classification.SparseCategoricalCrossentropy(from_logits, ignore_class, axis=axis).rows(y_true, y_pred)


def ctc(y_true: Any, y_pred: Any) -> Any:
    """``CTC`` of every sample."""
    return sequences.CTC().rows(y_true, y_pred)


#: what a function means where a loss is asked for
CLASSES: dict[Any, type[Loss]] = {
    mean_squared_error: regression.MeanSquaredError,
    mean_absolute_error: regression.MeanAbsoluteError,
    mean_absolute_percentage_error: regression.MeanAbsolutePercentageError,
    mean_squared_logarithmic_error: regression.MeanSquaredLogarithmicError,
    huber: regression.Huber,
    log_cosh: regression.LogCosh,
    quantile: regression.Quantile,
    poisson: regression.Poisson,
    cosine_similarity: regression.CosineSimilarity,
    hinge: margins.Hinge,
    squared_hinge: margins.SquaredHinge,
    categorical_hinge: margins.CategoricalHinge,
    kl_divergence: margins.KLDivergence,
    dice: overlap.Dice,
    tversky: overlap.Tversky,
    binary_crossentropy: classification.BinaryCrossentropy,
    binary_focal_crossentropy: classification.BinaryFocalCrossentropy,
    categorical_crossentropy: classification.CategoricalCrossentropy,
    categorical_focal_crossentropy: classification.CategoricalFocalCrossentropy,
    sparse_categorical_crossentropy: classification.SparseCategoricalCrossentropy,
    ctc: sequences.CTC,
}

#: more names, as ``registry.plain`` ones
ALIASES = {
    "mse": "MeanSquaredError", "mae": "MeanAbsoluteError", "mape": "MeanAbsolutePercentageError",
    "msle": "MeanSquaredLogarithmicError", "bce": "BinaryCrossentropy", "kld": "KLDivergence",
}  # fmt: skip
