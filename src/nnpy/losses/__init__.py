"""Losses: the loss of every row as operations on tensors, what is made of them, and the check of the user's targets.

Names, order and defaults are Keras 3's. As classes they are given to ``compile`` or called on arrays, which gives a
number; as functions they give the losses of rows.
"""

import inspect
from typing import Any

from nnpy.catalogue import offer
from nnpy.losses.base import FunctionLoss, Loss, is_function, refuse_function
from nnpy.losses.classification import (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    SparseCategoricalCrossentropy,
)
from nnpy.losses.functions import (
    ALIASES,
    CLASSES,
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_hinge,
    cosine_similarity,
    ctc,
    dice,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    quantile,
    sparse_categorical_crossentropy,
    squared_hinge,
    tversky,
)
from nnpy.losses.margins import (
    CategoricalHinge,
    Hinge,
    KLDivergence,
    SquaredHinge,
)
from nnpy.losses.overlap import (
    Dice,
    Tversky,
)
from nnpy.losses.regression import (
    CosineSimilarity,
    Huber,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    Quantile,
)
from nnpy.losses.scalar import CUSTOM, custom
from nnpy.losses.sequences import CTC
from nnpy.registry import find


def get(value: Any) -> Loss:
    """A loss from its name ("mse", "sparse_categorical_crossentropy"), class, function, configuration, or itself."""
    if inspect.isfunction(value) and value in CLASSES:
        return CLASSES[value]()
    if is_function(value):
        return FunctionLoss(value)
    if isinstance(value, str) and value in CUSTOM:
        return CUSTOM[value]
    refuse_function("loss", Loss, value, "call(self, y_true, y_pred)")
    return find(Loss, value, ALIASES)


__all__ = [
    "CTC",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Dice",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "Quantile",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "Tversky",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "cosine_similarity",
    "ctc",
    "custom",
    "dice",
    "get",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "quantile",
    "sparse_categorical_crossentropy",
    "squared_hinge",
    "tversky",
]  # fmt: skip

offer(__name__, __all__)
