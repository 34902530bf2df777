"""Accuracies: the share of rows, or of outputs, that are right."""

from __future__ import annotations

import numpy as np

from nnpy import losses, ops
from nnpy.checks import flag, integer, real
from nnpy.graph import Tensor
from nnpy.losses.base import symbolic
from nnpy.metrics.base import MeanMetric, labels_of, last_size

LOWEST = float(np.finfo(np.float32).min)


class SparseCategoricalAccuracy(MeanMetric):
    """The share of rows whose largest output (the first of several) is that of their class number.

    ``y_true``: (n, ...), class numbers; ``y_pred``: (n, ..., classes).

    >>> import nnpy as nn
    >>> nn.metrics.SparseCategoricalAccuracy()([2, 1], [[0.1, 0.6, 0.3], [0.05, 0.95, 0]])
    0.5
    """

    direction = "max"
    _takes_classes = True

    def call(self, y_true, y_pred):
        self._expect(y_true, "index", "class numbers")
        return ops.correct(y_pred, y_true, self._ignored)


class CategoricalAccuracy(MeanMetric):
    """The share of rows whose largest output is that of their largest target. Both are (n, ..., classes).

    >>> import nnpy as nn
    >>> nn.metrics.CategoricalAccuracy()([[0, 0, 1], [0, 1, 0]], [[0.1, 0.9, 0.8], [0.05, 0.95, 0]])
    0.5
    """

    direction = "max"

    def call(self, y_true, y_pred):
        self._expect(y_true, "real", "of the output's shape (one-hot)")
        return ops.correct(y_pred, y_true)


class BinaryAccuracy(MeanMetric):
    """The share of a row's outputs that are on the targets' side of ``threshold``; both are (n, ..., outputs).

    ``threshold=None``: 0.5, or 0 under a loss with ``from_logits=True``. (Keras takes 0.5 there too, which is wrong.)

    >>> import nnpy as nn
    >>> nn.metrics.BinaryAccuracy()([1, 1, 0, 0], [0.98, 1, 0, 0.6])
    0.75
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
    BinaryCrossentropy (where Keras takes categorical for several outputs); categorical for the rest.

    >>> import nnpy as nn
    >>> nn.metrics.Accuracy()([1, 0], [[0.2, 0.8], [0.3, 0.7]])
    0.5
    """

    direction = "max"

    def resolve(self, y_true, y_pred, loss=None):
        symbolic(self, y_true, y_pred)
        if y_true.kind == "index":
            return SparseCategoricalAccuracy(self.name).resolve(y_true, y_pred, loss)
        if y_pred.shape[-1] == 1 or isinstance(loss, losses.BinaryCrossentropy):
            return BinaryAccuracy(name=self.name).resolve(y_true, y_pred, loss)
        return CategoricalAccuracy(self.name)


class TopKCategoricalAccuracy(MeanMetric):
    """The share of rows whose largest target is that of one of their ``k`` largest outputs: fewer than ``k`` outputs
    are larger. Both are (n, ..., classes).

    >>> import nnpy as nn
    >>> nn.metrics.TopKCategoricalAccuracy(k=1)([[0, 0, 1], [0, 1, 0]], [[0.1, 0.9, 0.8], [0.05, 0.95, 0]])
    0.5
    """

    direction = "max"

    def __init__(self, k: int = 5, name: str | None = None):
        super().__init__(name)
        self.k = integer(type(self).__name__, "k", k, least=1)

    def call(self, y_true, y_pred):
        self._expect(y_true, "real", "of the output's shape (one-hot)")
        return among_largest(ops.argmax(y_true, -1), y_pred, self.k)


class SparseTopKCategoricalAccuracy(MeanMetric):
    """The share of rows whose class number is that of one of their ``k`` largest outputs.

    ``y_true``: (n, ...), class numbers; ``y_pred``: (n, ..., classes), or with ``from_sorted_ids`` class numbers, the
    likeliest first, of which the first ``k`` count.

    >>> import nnpy as nn
    >>> nn.metrics.SparseTopKCategoricalAccuracy(k=2)([2, 0], [[0.1, 0.9, 0.8], [0.05, 0.95, 0.1]])
    0.5
    """

    direction = "max"
    _takes_classes = True

    def __init__(self, k: int = 5, name: str | None = None, *, from_sorted_ids: bool = False):
        super().__init__(name)
        self.k = integer("SparseTopKCategoricalAccuracy", "k", k, least=1)
        self.from_sorted_ids = flag("SparseTopKCategoricalAccuracy", "from_sorted_ids", from_sorted_ids)

    def _classes(self, outputs):
        return 2**31 if self.from_sorted_ids else outputs

    def call(self, y_true, y_pred):
        self._expect(y_true, "index", "class numbers")
        if self.from_sorted_ids:
            first = y_pred[..., : self.k]
            return ops.max(ops.cast(ops.equal(first, ops.expand_dims(ops.cast(y_true, "real"), -1)), "real"), -1)
        found = among_largest(labels_of(self, y_true), y_pred, self.k)
        if self._ignored is None:
            return found
        return ops.where(ops.equal(y_true, self._ignored), 0.0, found)


def among_largest(labels: Tensor, scores: Tensor, k: int) -> Tensor:
    """1 for each row whose label's score is finite and below fewer than k others, else 0."""
    hot = ops.one_hot(labels, last_size(scores))
    own = ops.sum(ops.where(hot, scores, 0.0), -1, keepdims=True)
    larger = ops.sum(ops.cast(ops.greater(scores, own), "real"), -1)
    return ops.cast(ops.logical_and(ops.less(larger, float(k)), ops.isfinite(own[..., 0])), "real")


def largest(scores: Tensor, k: int) -> Tensor:
    """1 for the k largest scores of each row (the first of equals), else 0."""
    count = last_size(scores)
    if k >= count:
        return ops.ones_like(scores)
    chosen = ops.zeros_like(scores)
    for _ in range(k):
        hot = ops.one_hot(ops.argmax(scores, -1), count)
        chosen = ops.add(chosen, hot)
        scores = ops.where(hot, LOWEST, scores)
    return chosen
