"""Metrics of class numbers: a confusion matrix of a step, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnpy import ops
from nnpy.checks import flag, integer, real, shown
from nnpy.graph import Tensor
from nnpy.losses.base import symbolic
from nnpy.metrics.base import Accumulator, Metric, outputs, probabilities, row_weights, truths
from nnpy.metrics.thresholds import ratio
from nnpy.ops import effects


class ConfusionMatrix(Metric):
    """Weights of shape (classes, classes), an array: row the true class, column the predicted one: the largest output
    (the first of several), or of one output whether it is above 0.5. *Ours.*

    ``y_pred``: (n, ..., classes), or (n, ..., 1) for two classes; ``y_true``: of that shape, or class numbers.

    >>> import nnpy as nn
    >>> nn.metrics.ConfusionMatrix()([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    array([[1., 0.],
           [1., 1.]])
    """

    def accumulators(self, output_shape):
        count = outputs(self, output_shape)
        return {"counts": Accumulator((max(2, count),) * 2)}

    def update(self, variables, y_true, y_pred, weights=None):
        symbolic(self, y_true, y_pred)
        if y_pred.shape[-1] == 1:
            labels = ops.cast(truths(self, y_true, y_pred), "int32")
            predicted = ops.cast(ops.greater(probabilities(self, y_pred), 0.5), "int32")
            labels, predicted = (ops.reshape(each, each.sizes[:-1]) for each in (labels, predicted))
        else:
            labels, predicted = _numbers(y_true, -1), ops.argmax(y_pred, -1)
        weights = row_weights(weights, predicted)
        return [effects.accumulate_confusion(variables["counts"], labels, predicted, weights, self._ignored)]

    def compute(self, totals):
        return np.array(totals["counts"])


def _numbers(values: Tensor, axis: int) -> Tensor:
    """Class numbers as they are, of one-hot rows those of the largest."""
    return values if values.kind == "index" else ops.argmax(values, axis)


class MatthewsCorrelation(ConfusionMatrix):
    """The correlation of true and predicted classes, -1 to 1, of any number of them (Gorodkin, Comput. Biol. Chem.
    2004); 0 where all are, or are predicted to be, of one class. *Ours.* Arguments as of ``ConfusionMatrix``.

    >>> import nnpy as nn
    >>> round(nn.metrics.MatthewsCorrelation()([1, 1, 1, 0], [1, 0, 1, 1]), 4)
    -0.3333
    """

    direction = "max"

    def compute(self, totals):
        matrix = totals["counts"]
        total, right, true, chosen = matrix.sum(), np.trace(matrix), matrix.sum(1), matrix.sum(0)
        spread = np.sqrt(max(0.0, total**2 - chosen @ chosen)) * np.sqrt(max(0.0, total**2 - true @ true))
        return float(ratio(right * total - true @ chosen, spread))


class _Overlap(Metric):
    """The mean over some classes of the intersection over the union of what is and what is predicted to be of it."""

    direction = "max"
    _count = 2
    _targets: tuple[int, ...] | None = None  # None: all

    def accumulators(self, output_shape):
        return {"counts": Accumulator((self._count, self._count))}

    def compute(self, totals):
        matrix = totals["counts"]
        both = np.diag(matrix)
        either = matrix.sum(0) + matrix.sum(1) - both
        chosen = list(range(self._count) if self._targets is None else self._targets)
        there = either[chosen] > 0
        return float(ratio(ratio(both, either)[chosen].sum(), there.sum()))


class IoU(_Overlap):
    """The mean over the classes ``target_class_ids`` of tp / (tp + fp + fn): intersection over union; classes that are
    neither there nor predicted do not count.

    ``sparse_y_true``, ``sparse_y_pred``: class numbers, else scores with ``num_classes`` in ``axis``, of which the
    largest counts; ``compile`` needs ``sparse_y_pred=False`` for a model that gives scores. ``ignore_class``: rows of
    this label do not count.

    >>> import nnpy as nn
    >>> round(nn.metrics.IoU(num_classes=2, target_class_ids=[0])([0, 0, 1, 1], [0, 1, 0, 1]), 4)
    0.3333
    """

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        *,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ):
        super().__init__(name)
        who = type(self).__name__
        self.num_classes = self._count = integer(who, "num_classes", num_classes, least=2)
        if target_class_ids is not None:
            self._targets = self.target_class_ids = _class_ids(who, target_class_ids, num_classes)
        self.ignore_class = None if ignore_class is None else integer(who, "ignore_class", ignore_class)
        self.sparse_y_true = flag(who, "sparse_y_true", sparse_y_true)
        self.sparse_y_pred = flag(who, "sparse_y_pred", sparse_y_pred)
        self._takes_classes = not sparse_y_pred
        self.axis = integer(who, "axis", axis)

    def _classes(self, outputs):
        return self.num_classes

    def update(self, variables, y_true, y_pred, weights=None):
        symbolic(self, y_true, y_pred)
        if not self.sparse_y_pred and y_pred.shape[self.axis] != self.num_classes:
            raise ValueError(
                f"{self}: expected predictions of {self.num_classes} classes in axis {self.axis}, got {y_pred.shape}"
            )
        labels = ops.cast(y_true, "int32") if self.sparse_y_true else _numbers(y_true, self.axis)
        predicted = ops.cast(y_pred, "int32") if self.sparse_y_pred else ops.argmax(y_pred, self.axis)
        if labels.sizes != predicted.sizes:
            which = "sparse_y_pred" if self.sparse_y_pred else "sparse_y_true"
            hint = f"; {which}=False is for scores of classes" if getattr(self, which) else ""
            raise ValueError(
                f"{self}: expected class numbers of targets and predictions of one shape, got {labels.shape} and "
                f"{predicted.shape}{hint}"
            )
        if weights is not None:
            weights = ops.broadcast_to(_lengthened(weights, predicted.rank), predicted.sizes)
        ignored = self._ignored if self.ignore_class is None else self.ignore_class
        return [effects.accumulate_confusion(variables["counts"], labels, predicted, weights, ignored)]


class MeanIoU(IoU):
    """``IoU`` over all classes.

    >>> import nnpy as nn
    >>> round(nn.metrics.MeanIoU(num_classes=2)([0, 0, 1, 1], [0, 1, 0, 1]), 4)
    0.3333
    """

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        *,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ):
        IoU.__init__(
            self, num_classes, None, name, ignore_class=ignore_class, sparse_y_true=sparse_y_true,  # type: ignore[arg-type]
            sparse_y_pred=sparse_y_pred, axis=axis,
        )  # fmt: skip


class OneHotIoU(IoU):
    """``IoU`` of one-hot targets and of scores (or with ``sparse_y_pred`` class numbers).

    >>> import nnpy as nn
    >>> metric = nn.metrics.OneHotIoU(num_classes=2, target_class_ids=[0])
    >>> round(metric([[1, 0], [1, 0], [0, 1]], [[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]]), 4)
    0.5
    """

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        *,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ):
        super().__init__(
            num_classes, target_class_ids, name, ignore_class=ignore_class, sparse_y_true=False,
            sparse_y_pred=sparse_y_pred, axis=axis,
        )  # fmt: skip


class OneHotMeanIoU(IoU):
    """``OneHotIoU`` over all classes.

    >>> import nnpy as nn
    >>> metric = nn.metrics.OneHotMeanIoU(num_classes=2)
    >>> round(metric([[1, 0], [1, 0], [0, 1]], [[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]]), 4)
    0.5
    """

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        *,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ):
        super().__init__(
            num_classes, None, name, ignore_class=ignore_class, sparse_y_true=False,  # type: ignore[arg-type]
            sparse_y_pred=sparse_y_pred, axis=axis,
        )  # fmt: skip


class BinaryIoU(_Overlap):
    """``IoU`` of the classes 0 and 1 (``target_class_ids``) of outputs, which are 1 from ``threshold`` on. Targets: 0
    or 1, of the shape of the predictions.

    >>> import nnpy as nn
    >>> round(nn.metrics.BinaryIoU(threshold=0.3)([0, 1, 0, 1], [0.1, 0.2, 0.4, 0.7]), 4)
    0.3333
    """

    def __init__(self, target_class_ids: Sequence[int] = (0, 1), threshold: float = 0.5, name: str | None = None):
        super().__init__(name)
        self._targets = self.target_class_ids = _class_ids("BinaryIoU", target_class_ids, 2)
        self.threshold = real("BinaryIoU", "threshold", threshold)

    def update(self, variables, y_true, y_pred, weights=None):
        self._expect(y_true, "real", "of the output's shape, 0 or 1")
        scores = probabilities(self, y_pred)
        predicted = ops.cast(ops.greater_equal(scores, self.threshold), "int32")
        labels = ops.cast(truths(self, y_true, y_pred), "int32")
        if weights is not None:
            weights = ops.broadcast_to(_lengthened(weights, scores.rank), scores.sizes)
        return [effects.accumulate_confusion(variables["counts"], labels, predicted, weights)]


def _lengthened(weights: Tensor, rank: int) -> Tensor:
    """With axes of 1 behind."""
    return ops.reshape(weights, (*weights.sizes, *[1] * (rank - weights.rank)))


def _class_ids(owner: str, value: Any, classes: int) -> tuple[int, ...]:
    if not isinstance(value, list | tuple | np.ndarray):
        raise TypeError(f"{owner}: expected target_class_ids to be a list of class numbers, got {shown(value)}")
    found = tuple(integer(owner, "target_class_ids", each, least=0) for each in value)
    if not found or max(found) >= classes:
        raise ValueError(f"{owner}: expected target_class_ids in 0 ... {classes - 1}, got {found}")
    return found
