"""Reports on predictions: counts by class, and precision, recall and F1 of every class."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnpy.checks import integer, shown
from nnpy.losses.base import refuse


def confusion_matrix(y_true: Any, y_pred: Any, classes: int | None = None) -> np.ndarray:
    """Counts of shape (classes, classes), int64: row the true class, column the predicted one.

    ``y_true``, ``y_pred``: class numbers (n,). ``classes``: by default the largest number plus one. Raises ValueError
    for different lengths or a number out of range, TypeError for what is not whole numbers.
    """
    true, predicted = _class_numbers("y_true", y_true), _class_numbers("y_pred", y_pred)
    if true.shape != predicted.shape:
        raise ValueError(f"confusion_matrix: expected as many y_pred as y_true, got {predicted.size} and {true.size}")
    if classes is None:
        classes = int(max(true.max(initial=-1), predicted.max(initial=-1))) + 1
    classes = integer("confusion_matrix", "classes", classes, least=0)
    for name, numbers in (("y_true", true), ("y_pred", predicted)):
        refuse(
            numbers, (numbers < 0) | (numbers >= classes), f"confusion_matrix: expected {name} in 0 ... {classes - 1}"
        )
    return np.bincount(true * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def classification_report(y_true: Any, y_pred: Any, classes: int | None = None) -> dict[str, Any]:
    """Precision, recall, F1 and support (samples) of every class, with their means.

    Returns {"classes": [{"class", "precision", "recall", "f1", "support"}, ...], "accuracy": ..., "macro": means of the
    classes that occur or are predicted, as in scikit-learn, "weighted": means weighted by support}. A ratio 0 / 0 is 0.
    Arguments and errors: ``confusion_matrix``.
    """
    matrix = confusion_matrix(y_true, y_pred, classes).astype(np.float64)
    right, support, chosen = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    precision, recall = _ratio(right, chosen), _ratio(right, support)
    scores = {"precision": precision, "recall": recall, "f1": _ratio(2 * right, support + chosen)}
    rows = [
        {"class": number} | {name: float(values[number]) for name, values in scores.items()} | {"support": int(count)}
        for number, count in enumerate(support)
    ]
    total, found = support.sum(), support + chosen > 0
    share = _ratio(support, np.full_like(support, total))
    return {
        "classes": rows,
        "accuracy": float(right.sum() / total) if total else 0.0,
        "macro": {name: float(values[found].mean()) if found.any() else 0.0 for name, values in scores.items()},
        "weighted": {name: float(values @ share) for name, values in scores.items()},
    }


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)


def _class_numbers(name: str, values: Any) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"confusion_matrix: expected {name} of shape (n,), class numbers, got {values.shape}")
    if values.dtype.kind not in "iub" and values.size:
        raise TypeError(f"confusion_matrix: expected {name} to be whole numbers, got {shown(values.dtype.name)}")
    return values.astype(np.int64)
