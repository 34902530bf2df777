"""Losses: the loss of every row as operations on tensors, what is made of them, and the check of the user's targets.

Names, order and defaults are Keras 3's. As classes they are given to ``compile`` or called on arrays, which gives a
number; as functions they give the losses of rows.
"""

import inspect
from typing import Any

from nnpy.losses.base import FunctionLoss, Loss, is_function, refuse_function
from nnpy.losses.classification import BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy
from nnpy.losses.functions import (
    CLASSES,
    binary_crossentropy,
    categorical_crossentropy,
    mean_absolute_error,
    mean_squared_error,
    sparse_categorical_crossentropy,
)
from nnpy.losses.regression import MeanAbsoluteError, MeanSquaredError
from nnpy.registry import find

ALIASES = {"mse": "MeanSquaredError", "mae": "MeanAbsoluteError", "bce": "BinaryCrossentropy"}


def get(value: Any) -> Loss:
    """A loss from its name ("mse", "sparse_categorical_crossentropy"), class, function, configuration, or itself."""
    if inspect.isfunction(value) and value in CLASSES:
        return CLASSES[value]()
    if is_function(value):
        return FunctionLoss(value)
    refuse_function("loss", Loss, value, "call(self, y_true, y_pred)")
    return find(Loss, value, ALIASES)


__all__ = [
    "BinaryCrossentropy", "CategoricalCrossentropy", "Loss", "MeanAbsoluteError", "MeanSquaredError",
    "SparseCategoricalCrossentropy", "binary_crossentropy", "categorical_crossentropy", "get", "mean_absolute_error",
    "mean_squared_error", "sparse_categorical_crossentropy",
]  # fmt: skip


def __dir__() -> list[str]:
    return list(__all__)
