"""Metrics: a number for each sample as operations on tensors; the metric is their mean. And reports on predictions.

Where the loss's kernel finds the same number on its way, the metric costs nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnpy import losses, ops
from nnpy.checks import integer, real, shown
from nnpy.graph import Tensor
from nnpy.registry import Configurable, find, snake


class Metric(Configurable):
    """Base of metrics. Called on the targets' tensor (the loss's), the prediction's, and what the loss is.

    ``direction``: "max" or "min", which is better; None: callbacks that compare values have to be told."""

    group = "metric"
    direction: str | None = None

    def __init__(self, name: str | None = None):
        self.name = name or snake(type(self).__name__)

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, loss: losses.Loss | None = None, loss_tensor: Tensor | None = None
    ) -> Tensor:
        """The metric of every sample, shape (None,). ``loss_tensor``: the loss's result, if its parts may be reused."""
        raise NotImplementedError(f"{self}: a metric must define __call__(y_true, y_pred)")

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.name!r}"

    def _expect(self, y_true: Tensor, kind: str, what: str) -> None:
        losses.symbolic(self, y_true)
        if y_true.kind != kind:
            has = "class numbers" if y_true.kind == "index" else "numbers"
            raise ValueError(f"{self}: expected targets that are {what}, the loss takes {has}")


class SparseCategoricalAccuracy(Metric):
    """The share of samples whose largest output is that of their class number."""

    direction = "max"

    def __call__(self, y_true, y_pred, loss=None, loss_tensor=None):
        self._expect(y_true, "index", "class numbers")
        found = _hits_of(loss_tensor, "softmax_crossentropy", y_true, y_pred, "softmax")
        return ops.hits(y_pred, labels=y_true) if found is None else found


class CategoricalAccuracy(Metric):
    """The share of samples whose largest output is that of their largest target."""

    direction = "max"

    def __call__(self, y_true, y_pred, loss=None, loss_tensor=None):
        self._expect(y_true, "real", "of the output's shape (one-hot)")
        found = _hits_of(loss_tensor, "softmax_crossentropy", y_true, y_pred, "softmax")
        return ops.hits(y_pred, targets=y_true) if found is None else found


class BinaryAccuracy(Metric):
    """The share of a sample's outputs that are on the targets' side of ``threshold``.

    ``threshold=None``: 0.5, or 0 under a loss with ``from_logits=True``. (Keras takes 0.5 there too, which is wrong.)
    """

    direction = "max"

    def __init__(self, threshold: float | None = None, name: str | None = None):
        super().__init__(name)
        self.threshold = None if threshold is None else real("BinaryAccuracy", "threshold", threshold)

    def __call__(self, y_true, y_pred, loss=None, loss_tensor=None):
        self._expect(y_true, "real", "of the output's shape, 0 or 1")
        default = 0.0 if getattr(loss, "from_logits", False) else 0.5
        threshold = default if self.threshold is None else self.threshold
        if threshold == default:
            found = _hits_of(loss_tensor, "binary_crossentropy", y_true, y_pred, "sigmoid")
            if found is not None:
                return found
        behind = losses.logits_behind(y_pred, "sigmoid") if threshold == 0.5 else None
        return ops.binary_hits(y_pred, y_true, threshold) if behind is None else ops.binary_hits(behind, y_true)


class Accuracy(Metric):
    """ "accuracy": the one of the three above that suits. Sparse for class numbers; binary for one output or under
    BinaryCrossentropy (where Keras takes categorical for several outputs); categorical for the rest."""

    direction = "max"

    def resolve(self, y_true: Tensor, y_pred: Tensor, loss: losses.Loss | None = None) -> Metric:
        """The metric that it stands for."""
        losses.symbolic(self, y_true, y_pred)
        if y_true.kind == "index":
            return SparseCategoricalAccuracy(self.name)
        if y_pred.shape[-1] == 1 or isinstance(loss, losses.BinaryCrossentropy):
            return BinaryAccuracy(name=self.name)
        return CategoricalAccuracy(self.name)

    def __call__(self, y_true, y_pred, loss=None, loss_tensor=None):
        return self.resolve(y_true, y_pred, loss)(y_true, y_pred, loss, loss_tensor)


class MeanSquaredError(Metric):
    """The mean over a sample's outputs of (y_true - y_pred)^2."""

    direction = "min"

    def __call__(self, y_true, y_pred, loss=None, loss_tensor=None):
        self._expect(y_true, "real", "of the output's shape")
        node = None if loss_tensor is None else loss_tensor.node
        if node is not None and node.operation.name == "mean_squared_error" and node.inputs == (y_pred, y_true):
            return loss_tensor
        return ops.mean_squared_error(y_pred, y_true)


def _hits_of(
    loss_tensor: Tensor | None, operation: str, y_true: Tensor, y_pred: Tensor, function: str
) -> Tensor | None:
    """The hits that the loss's kernel counts, if it compares the same prediction with the same targets."""
    node = None if loss_tensor is None else loss_tensor.node
    if node is None or node.operation.name != operation or len(node.inputs) < 2 or node.inputs[1] is not y_true:
        return None
    same = node.inputs[0] is y_pred or node.inputs[0] is losses.logits_behind(y_pred, function)
    return node.outputs[2] if same else None


def get(value: Any) -> Metric:
    """A metric from its name ("accuracy", "mse"), class, configuration, or itself. A name given becomes its name."""
    losses.refuse_function("metric", Metric, value, "__call__(self, y_true, y_pred, loss=None, loss_tensor=None)")
    metric = find(Metric, value, {"acc": "Accuracy", "mse": "MeanSquaredError"})
    if isinstance(value, str):
        metric.name = value
    return metric


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
        losses.refuse(
            numbers, (numbers < 0) | (numbers >= classes), f"confusion_matrix: expected {name} in 0 ... {classes - 1}"
        )
    return np.bincount(true * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def classification_report(y_true: Any, y_pred: Any, classes: int | None = None) -> dict[str, Any]:
    """Precision, recall, F1 and support (samples) of every class, with their means.

    Returns {"classes": [{"class", "precision", "recall", "f1", "support"}, ...], "accuracy": ..., "macro": means of the
    classes, "weighted": means weighted by support}. A ratio 0 / 0 is 0. Arguments and errors: ``confusion_matrix``.
    """
    matrix = confusion_matrix(y_true, y_pred, classes).astype(np.float64)
    right, support, chosen = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    precision, recall = _ratio(right, chosen), _ratio(right, support)
    scores = {"precision": precision, "recall": recall, "f1": _ratio(2 * right, support + chosen)}
    rows = [
        {"class": number} | {name: float(values[number]) for name, values in scores.items()} | {"support": int(count)}
        for number, count in enumerate(support)
    ]
    total = support.sum()
    share = _ratio(support, np.full_like(support, total))
    return {
        "classes": rows,
        "accuracy": float(right.sum() / total) if total else 0.0,
        "macro": {name: float(values.mean()) if len(values) else 0.0 for name, values in scores.items()},
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


__all__ = [
    "Accuracy", "BinaryAccuracy", "CategoricalAccuracy", "MeanSquaredError", "Metric", "SparseCategoricalAccuracy",
    "classification_report", "confusion_matrix", "get",
]  # fmt: skip
