"""Metric: accumulators that a compiled step adds to, and what their totals mean.

Where the loss's kernel finds the same number on its way, the metric costs nothing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnpy import losses, ops
from nnpy.checks import shown
from nnpy.graph import Node, Shape, Tensor, Variable
from nnpy.losses.base import function_name, symbolic
from nnpy.metrics.arrays import Measured, checked
from nnpy.ops import effects
from nnpy.registry import Configurable, snake

ALIASES = {"acc": "Accuracy", "rmse": "RootMeanSquaredError", **losses.ALIASES}


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
    """Base of metrics: ``accumulators``, what a step does to them (``update``), and what their totals mean
    (``compute``). Given to ``compile`` it is part of the compiled step. By itself it measures arrays, as in Keras:

    >>> import nnpy as nn
    >>> metric = nn.metrics.BinaryAccuracy()
    >>> metric.update_state([1, 0, 1], [0.9, 0.6, 0.7])
    >>> metric.update_state([0], [0.2])
    >>> metric.result()
    0.75
    >>> metric.reset_state()
    >>> metric([1, 0], [0.9, 0.2])
    1.0

    ``direction``: "max" or "min", which of two values is better; None: callbacks that compare values have to be told.
    """

    group = "metric"
    direction: str | None = None
    #: by itself: whether targets are class numbers even where there is one output
    _takes_classes = False
    _ignored: int | None = None  # the label that the loss ignores
    _link: str | None = None  # what makes probabilities of the predictions, under a loss of logits
    _measured: Measured | None = None

    def __init__(self, name: str | None = None):
        self.name = name or snake(type(self).__name__)

    def resolve(self, y_true: Tensor, y_pred: Tensor, loss: losses.Loss | None = None) -> Metric:
        """The metric that it stands for, for these tensors under this loss."""
        made = copy.copy(self)
        made._ignored = getattr(loss, "ignore_class", None)
        if getattr(loss, "from_logits", False):
            binary = isinstance(loss, losses.BinaryCrossentropy) or y_pred.shape[-1:] == (1,)
            made._link = "sigmoid" if binary else "softmax"
        return made

    def accumulators(self, output_shape: Shape) -> Mapping[str, Accumulator]:
        """Those it needs, by name, for a prediction of ``output_shape``."""
        raise NotImplementedError(f"{self}: a metric must define accumulators(output_shape)")

    def update(
        self, variables: Mapping[str, Variable], y_true: Tensor, y_pred: Tensor, weights: Tensor | None = None
    ) -> Sequence[Node]:
        """The effects that add a batch. ``weights``: of the rows (all axes but the last)."""
        raise NotImplementedError(f"{self}: a metric must define update(variables, y_true, y_pred, weights)")

    def compute(self, totals: Mapping[str, np.ndarray]) -> Any:
        """The metric's value."""
        raise NotImplementedError(f"{self}: a metric must define compute(totals)")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add arrays. ``y_pred``: (n, ..., outputs), or (n,) for one output; ``y_true``: of the same shape, or class
        numbers (n, ...); ``sample_weight``: (n,) or of the rows. TypeError or ValueError for what does not fit."""
        arrays = checked(self, y_true, y_pred, sample_weight)
        if self._measured is None or not self._measured.fits(arrays):
            self._measured = Measured(self, arrays, self._measured)
        self._measured.add(arrays)

    def result(self) -> Any:
        """The value over all arrays since the last ``reset_state``. ValueError before there were any."""
        if self._measured is None or self._measured.fresh:
            raise ValueError(f"{self}: has no value before update_state(y_true, y_pred)")
        return self._measured.metric.compute(self._measured.totals)

    def reset_state(self) -> None:
        """Begin anew."""
        if self._measured is not None:
            self._measured.reset()

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """``update_state``, and the ``result`` since the last ``reset_state``."""
        if isinstance(y_true, Tensor) or isinstance(y_pred, Tensor):
            raise TypeError(
                f"{self}: expected arrays, got Tensors; in a step it is not a number before the end: give it to "
                "compile(), evaluate(x, y) tells its value"
            )
        self.update_state(y_true, y_pred, sample_weight)
        return self.result()

    def _classes(self, outputs: int) -> int:
        """How many class numbers there are, for so many outputs."""
        return outputs

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.name!r}"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.copy().items() if name not in ("_measured", "_scores")}

    def _expect(self, y_true: Tensor, kind: str, what: str) -> None:
        symbolic(self, y_true)
        if y_true.kind != kind:
            has = "class numbers" if y_true.kind == "index" else "numbers"
            raise ValueError(f"{self}: expected targets that are {what}, the loss takes {has}")


class MeanMetric(Metric):
    """The mean of a number for every row: a subclass defines ``call(y_true, y_pred)``."""

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Of tensors: the metric of every row (all axes but the last). Of arrays: as of every metric."""
        if not (isinstance(y_true, Tensor) or isinstance(y_pred, Tensor)):
            return super().__call__(y_true, y_pred, sample_weight)
        symbolic(self, y_true, y_pred)
        return self.call(y_true, y_pred)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__}: a metric must define call(y_true, y_pred)")

    def valid(self, y_true: Tensor) -> Tensor | None:
        """Which rows count, as truth values; None: all."""
        return None

    def accumulators(self, output_shape):
        return {"mean": Accumulator((2,))}

    def update(self, variables, y_true, y_pred, weights=None):
        values = self(y_true, y_pred)
        if not isinstance(values, Tensor) or values.rank == 0:
            raise TypeError(f"metric {self}: expected call() to return a Tensor of a value a row, got {shown(values)}")
        valid = self.valid(y_true)
        if valid is not None:
            valid = ops.cast(valid, "real")
            weights = valid if weights is None else ops.multiply(ops.broadcast_to(weights, valid.sizes), valid)
        if weights is None:
            return [effects.accumulate(variables["mean"], values)]
        weights = ops.broadcast_to(weights, values.sizes)
        return [effects.accumulate(variables["mean"], ops.multiply(values, weights), weights)]

    def compute(self, totals):
        total, count = totals["mean"]
        return float(total / count) if count else math.nan if total else 0.0


class FunctionMetric(MeanMetric):
    """The mean of a plain function of (y_true, y_pred), written with ``nnpy.ops``. JSON cannot hold it."""

    made_by_name = False

    def __init__(self, function: Any, name: str | None = None):
        super().__init__(name or function_name(function))
        self.function = function

    def call(self, y_true, y_pred):
        return self.function(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        raise TypeError(f"metric {self.name}: a function cannot be stored; derive a class from nnpy.metrics.MeanMetric")


def row_weights(weights: Tensor | None, rows: Tensor) -> Tensor | None:
    """Weights of all rows."""
    return None if weights is None else ops.broadcast_to(weights, rows.sizes)


def element_weights(weights: Tensor | None, elements: Tensor) -> Tensor | None:
    """Weights of rows as those of their elements."""
    if weights is None:
        return None
    rows = ops.broadcast_to(weights, elements.sizes[:-1])
    return ops.broadcast_to(ops.expand_dims(rows, -1), elements.sizes)


def labels_of(metric: Metric, y_true: Tensor) -> Tensor:
    """Class numbers that are in range: rows of the label that the loss ignores, whose weight is 0, are 0."""
    if metric._ignored is None:
        return y_true
    return ops.cast(ops.where(ops.equal(y_true, metric._ignored), 0.0, y_true), "int32")


def truths(metric: Metric, y_true: Tensor, y_pred: Tensor) -> Tensor:
    """1 where an output should be on, else 0, of the prediction's shape: of class numbers or of numbers above 0.5."""
    symbolic(metric, y_true, y_pred)
    if y_true.kind == "index":
        return ops.one_hot(labels_of(metric, y_true), last_size(y_pred))
    return ops.cast(ops.greater(y_true, 0.5), "real")


def probabilities(metric: Metric, y_pred: Tensor) -> Tensor:
    """The prediction; under a loss of logits what makes probabilities of them is done first."""
    return {"sigmoid": ops.sigmoid, "softmax": ops.softmax, None: lambda x: x}[metric._link](y_pred)


def outputs(metric: Metric, output_shape: Shape) -> int:
    """How many a row has. ValueError where that is not known."""
    if not output_shape or not isinstance(output_shape[-1], int):
        raise ValueError(f"{metric}: expected an output of shape (batch, ..., n), got {output_shape}")
    return output_shape[-1]


def last_size(tensor: Tensor) -> int:
    size = tensor.shape[-1]
    if size is None:
        raise ValueError(f"expected a tensor whose last axis is known, got {tensor.shape}")
    return size
