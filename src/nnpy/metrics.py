"""Metrics: accumulators that a compiled step adds to, and what their totals mean. And reports on predictions.

Where the loss's kernel finds the same number on its way, the metric costs nothing.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnpy import losses, ops
from nnpy.catalogue import offer
from nnpy.checks import integer, real, shown
from nnpy.graph import Node, Shape, Tensor, Variable
from nnpy.losses.base import function_name, is_function, refuse, refuse_function, symbolic
from nnpy.ops import effects
from nnpy.registry import Configurable, find, snake


@dataclass(frozen=True)
class Accumulator:
    """An array of float64 that begins at ``initial``. ``merge``: how those of slices, streams and ranks become one:
    "sum", "max" or "min"."""

    shape: tuple[int, ...]
    merge: str = "sum"
    initial: float = 0.0

    def new(self) -> np.ndarray:
        return np.full(self.shape, self.initial)

    def merged(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Both together."""
        return {"sum": np.add, "max": np.maximum, "min": np.minimum}[self.merge](one, other)


class Metric(Configurable):
    """Base of metrics: ``accumulators``, what a step does to them, and the ``result`` of their totals.

    ``direction``: "max" or "min", which of two values is better; None: callbacks that compare values have to be told.
    """

    group = "metric"
    direction: str | None = None

    def __init__(self, name: str | None = None):
        self.name = name or snake(type(self).__name__)

    def resolve(self, y_true: Tensor, y_pred: Tensor, loss: losses.Loss | None = None) -> Metric:
        """The metric that it stands for, for these tensors under this loss."""
        return self

    def accumulators(self, output_shape: Shape) -> Mapping[str, Accumulator]:
        """Those it needs, by name, for a prediction of ``output_shape``."""
        raise NotImplementedError(f"{self}: a metric must define accumulators(output_shape)")

    def update(
        self, variables: Mapping[str, Variable], y_true: Tensor, y_pred: Tensor, weights: Tensor | None = None
    ) -> Sequence[Node]:
        """The effects that add a batch. ``weights``: of the rows (all axes but the last)."""
        raise NotImplementedError(f"{self}: a metric must define update(variables, y_true, y_pred, weights)")

    def result(self, totals: Mapping[str, np.ndarray]) -> Any:
        """The metric's value."""
        raise NotImplementedError(f"{self}: a metric must define result(totals)")

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.name!r}"

    def _expect(self, y_true: Tensor, kind: str, what: str) -> None:
        symbolic(self, y_true)
        if y_true.kind != kind:
            has = "class numbers" if y_true.kind == "index" else "numbers"
            raise ValueError(f"{self}: expected targets that are {what}, the loss takes {has}")


class MeanMetric(Metric):
    """The mean of a number for every row: a subclass defines ``call(y_true, y_pred)``."""

    def __call__(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The metric of every row (all axes but the last). TypeError for numbers."""
        symbolic(self, y_true, y_pred)
        return self.call(y_true, y_pred)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__}: a metric must define call(y_true, y_pred)")

    def accumulators(self, output_shape):
        return {"mean": Accumulator((2,))}

    def update(self, variables, y_true, y_pred, weights=None):
        values = self(y_true, y_pred)
        if not isinstance(values, Tensor) or values.rank == 0:
            raise TypeError(f"metric {self}: expected call() to return a Tensor of a value a row, got {shown(values)}")
        if weights is None:
            return [effects.accumulate(variables["mean"], values)]
        weights = ops.broadcast_to(weights, values.sizes)
        return [effects.accumulate(variables["mean"], ops.multiply(values, weights), weights)]

    def result(self, totals):
        total, count = totals["mean"]
        return float(total / count) if count else math.nan if total else 0.0


class SparseCategoricalAccuracy(MeanMetric):
    """The share of rows whose largest output is that of their class number."""

    direction = "max"
    _ignored: int | None = None  # the label that the loss ignores

    def resolve(self, y_true, y_pred, loss=None):
        made = type(self)(self.name)
        made._ignored = getattr(loss, "ignore_class", None)
        return made

    def call(self, y_true, y_pred):
        self._expect(y_true, "index", "class numbers")
        return ops.correct(y_pred, y_true, self._ignored)


class CategoricalAccuracy(MeanMetric):
    """The share of rows whose largest output is that of their largest target."""

    direction = "max"

    def call(self, y_true, y_pred):
        self._expect(y_true, "real", "of the output's shape (one-hot)")
        return ops.correct(y_pred, y_true)


class BinaryAccuracy(MeanMetric):
    """The share of a row's outputs that are on the targets' side of ``threshold``.

    ``threshold=None``: 0.5, or 0 under a loss with ``from_logits=True``. (Keras takes 0.5 there too, which is wrong.)
    """

    direction = "max"

    def __init__(self, name: str | None = None, *, threshold: float | None = None):
        super().__init__(name)
        self.threshold = None if threshold is None else real("BinaryAccuracy", "threshold", threshold)

    def resolve(self, y_true, y_pred, loss=None):
        default = 0.0 if getattr(loss, "from_logits", False) else 0.5
        return type(self)(self.name, threshold=default if self.threshold is None else self.threshold)

    def call(self, y_true, y_pred):
        self._expect(y_true, "real", "of the output's shape, 0 or 1")
        threshold = 0.5 if self.threshold is None else self.threshold
        behind = ops.losses.behind(y_pred, "sigmoid") if threshold == 0.5 else None
        return ops.binary_correct(y_pred, y_true, threshold) if behind is None else ops.binary_correct(behind, y_true)


class Accuracy(MeanMetric):
    """ "accuracy": the one of the three above that suits. Sparse for class numbers; binary for one output or under
    BinaryCrossentropy (where Keras takes categorical for several outputs); categorical for the rest."""

    direction = "max"

    def resolve(self, y_true, y_pred, loss=None):
        symbolic(self, y_true, y_pred)
        if y_true.kind == "index":
            return SparseCategoricalAccuracy(self.name).resolve(y_true, y_pred, loss)
        if y_pred.shape[-1] == 1 or isinstance(loss, losses.BinaryCrossentropy):
            return BinaryAccuracy(name=self.name).resolve(y_true, y_pred, loss)
        return CategoricalAccuracy(self.name)


class MeanSquaredError(MeanMetric):
    """The mean over a row's outputs of (y_true - y_pred)^2."""

    direction = "min"

    def call(self, y_true, y_pred):
        self._expect(y_true, "real", "of the output's shape")
        return ops.mean_squared_error(y_pred, y_true)


class MeanAbsoluteError(MeanMetric):
    """The mean over a row's outputs of |y_true - y_pred|."""

    direction = "min"

    def call(self, y_true, y_pred):
        self._expect(y_true, "real", "of the output's shape")
        return losses.MeanAbsoluteError().call(y_true, y_pred)


class BinaryCrossentropy(MeanMetric):
    """``losses.BinaryCrossentropy`` as a metric."""

    direction = "min"

    def __init__(self, name: str | None = None, *, from_logits: bool = False, label_smoothing: float = 0.0):
        super().__init__(name)
        loss = losses.BinaryCrossentropy(from_logits, label_smoothing)
        self.from_logits, self.label_smoothing = loss.from_logits, loss.label_smoothing

    def call(self, y_true, y_pred):
        self._expect(y_true, "real", "of the output's shape, 0 to 1")
        return losses.BinaryCrossentropy(self.from_logits, self.label_smoothing).call(y_true, y_pred)


class CategoricalCrossentropy(MeanMetric):
    """``losses.CategoricalCrossentropy`` as a metric."""

    direction = "min"

    def __init__(
        self, name: str | None = None, *, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
    ):
        super().__init__(name)
        loss = losses.CategoricalCrossentropy(from_logits, label_smoothing, axis)
        self.from_logits, self.label_smoothing, self.axis = loss.from_logits, loss.label_smoothing, loss.axis

    def call(self, y_true, y_pred):
        self._expect(y_true, "real", "of the output's shape (one-hot)")
        return losses.CategoricalCrossentropy(self.from_logits, self.label_smoothing, self.axis).call(y_true, y_pred)


class SparseCategoricalCrossentropy(MeanMetric):
    """``losses.SparseCategoricalCrossentropy`` as a metric."""

    direction = "min"

    def __init__(
        self, name: str | None = None, *, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
    ):
        super().__init__(name)
        self._loss = losses.SparseCategoricalCrossentropy(from_logits, ignore_class, axis=axis)
        self.from_logits, self.ignore_class, self.axis = self._loss.from_logits, self._loss.ignore_class, axis

    def call(self, y_true, y_pred):
        self._expect(y_true, "index", "class numbers")
        return self._loss.call(y_true, y_pred)

    def update(self, variables, y_true, y_pred, weights=None):
        valid = self._loss.valid(y_true)
        if valid is not None:
            valid = ops.cast(valid, "real")
            weights = valid if weights is None else ops.multiply(ops.broadcast_to(weights, valid.sizes), valid)
        return super().update(variables, y_true, y_pred, weights)


class ConfusionMatrix(Metric):
    """Counts of shape (classes, classes), an array: row the true class, column the predicted one (the largest
    output)."""

    _ignored: int | None = None  # the label that the loss ignores

    def resolve(self, y_true, y_pred, loss=None):
        made = type(self)(self.name)
        made._ignored = getattr(loss, "ignore_class", None)
        return made

    def accumulators(self, output_shape):
        if not output_shape or not isinstance(output_shape[-1], int) or output_shape[-1] < 2:
            raise ValueError(f"{self}: expected an output of shape (batch, ..., classes), got {output_shape}")
        return {"counts": Accumulator((output_shape[-1],) * 2)}

    def update(self, variables, y_true, y_pred, weights=None):
        symbolic(self, y_true, y_pred)
        labels = y_true if y_true.kind == "index" else ops.argmax(y_true, -1)
        predicted = ops.argmax(y_pred, -1)
        weights = None if weights is None else ops.broadcast_to(weights, predicted.sizes)
        return [effects.accumulate_confusion(variables["counts"], labels, predicted, weights, self._ignored)]

    def result(self, totals):
        return np.array(totals["counts"])


class FunctionMetric(MeanMetric):
    """The mean of a plain function of (y_true, y_pred), written with ``nnpy.ops``. JSON cannot hold it."""

    def __init__(self, function: Any, name: str | None = None):
        super().__init__(name or function_name(function))
        self.function = function

    def call(self, y_true, y_pred):
        return self.function(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        raise TypeError(f"metric {self.name}: a function cannot be stored; derive a class from nnpy.metrics.MeanMetric")


def get(value: Any) -> Metric:
    """A metric from its name ("accuracy", "mse"), class, configuration, or itself. A name given becomes its name."""
    if inspect.isfunction(value) and value in losses.CLASSES:
        value = value.__name__
    if is_function(value):
        return FunctionMetric(value)
    refuse_function("metric", Metric, value, "call(self, y_true, y_pred)")
    metric = find(Metric, value, {"acc": "Accuracy", **losses.ALIASES})
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


__all__ = [
    "Accumulator",
    "Accuracy",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "ConfusionMatrix",
    "FunctionMetric",
    "MeanAbsoluteError",
    "MeanMetric",
    "MeanSquaredError",
    "Metric",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "classification_report",
    "confusion_matrix",
    "get",
]  # fmt: skip

offer(__name__, __all__)
