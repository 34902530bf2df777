"""Metrics of binary decisions at thresholds: counts of true and false positives and negatives, and what follows.

All of them keep one histogram: how much weight of either truth lies between two neighbouring thresholds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnpy import ops
from nnpy.checks import integer, real, shown
from nnpy.graph import Tensor
from nnpy.metrics.accuracies import LOWEST, largest
from nnpy.metrics.base import Accumulator, Metric, element_weights, outputs, probabilities, truths
from nnpy.ops import effects


def ratio(above: Any, below: Any) -> np.ndarray:
    """above / below, 0 where below is 0."""
    above, below = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
    return np.divide(above, below, out=np.zeros(above.shape), where=below != 0)


class Counts:
    """Weights by decision, at each of some thresholds, (..., thresholds)."""

    def __init__(self, histogram: np.ndarray):
        """``histogram``: (..., thresholds + 1, 2): by how many thresholds are below the score, and the truth."""
        below = np.cumsum(histogram, -2)[..., :-1, :]
        above = np.flip(np.cumsum(np.flip(histogram, -2), -2), -2)[..., 1:, :]
        self.tn, self.fn = below[..., 0], below[..., 1]
        self.fp, self.tp = above[..., 0], above[..., 1]

    @property
    def precision(self) -> np.ndarray:
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> np.ndarray:
        return ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> np.ndarray:
        return ratio(self.tn, self.tn + self.fp)


class Thresholded(Metric):
    """Base: the histogram of scores among ``edges``, thresholds in increasing order."""

    _top_k: int | None = None
    _class: int | None = None
    _labels: int | None = None  # how many outputs have a histogram each; None: one for all
    _factors: np.ndarray | None = None  # by which outputs count

    def _set(self, edges: Any) -> None:
        self._edges = np.asarray(edges, np.float64)
        gaps = np.diff(np.clip(self._edges, 0, 1))
        #: thresholds i / (n - 1), i = 0 ... n - 1, are found by arithmetic
        self._even = len(edges) > 8 and np.allclose(gaps, 1 / (len(edges) - 1), rtol=0, atol=1e-7)

    def accumulators(self, output_shape):
        count = outputs(self, output_shape)
        if self._class is not None and not -count <= self._class < count:
            raise ValueError(f"{self}: expected class_id below {count}, how many outputs there are, got {self._class}")
        return {"counts": Accumulator((self._labels or 1, len(self._edges) + 1, 2))}

    def update(self, variables, y_true, y_pred, weights=None):
        truth, scores = truths(self, y_true, y_pred), probabilities(self, y_pred)
        chosen = None if self._top_k is None else largest(scores, self._top_k)
        if self._class is not None:
            count = outputs(self, y_pred.shape)
            one = slice(self._class % count, self._class % count + 1)
            truth, scores = truth[..., one], scores[..., one]
            chosen = None if chosen is None else chosen[..., one]
        below = self._below(scores)
        if chosen is not None:
            below = ops.multiply(below, chosen)
        places = ops.add(ops.multiply(below, 2.0), truth)
        if self._labels is not None:
            places = ops.add(places, ops.constant(2.0 * (len(self._edges) + 1) * np.arange(self._labels)))
        weight = element_weights(weights, scores)
        if self._factors is not None:
            factors = ops.broadcast_to(ops.constant(self._factors), scores.sizes)
            weight = factors if weight is None else ops.multiply(weight, factors)
        return [effects.accumulate_at(variables["counts"], ops.cast(places, "int32"), weight)]

    def _below(self, scores: Tensor) -> Tensor:
        """How many thresholds are below each score; NaN is as low as can be."""
        count = len(self._edges)
        if self._even:
            steps = ops.ceil(ops.multiply(ops.minimum(scores, 1.0), float(count - 1)))
            return ops.where(ops.greater(scores, 0.0), steps, float(self._edges[0] < 0))
        if count == 1:
            return ops.cast(ops.greater(scores, float(self._edges[0])), "real")
        each = ops.greater(ops.expand_dims(scores, -1), ops.constant(self._edges))
        return ops.sum(ops.cast(each, "real"), -1)


class _Decisions(Thresholded):
    """Base of what is told at thresholds of the user's."""

    def __init__(self, thresholds: Any, top_k: int | None, class_id: int | None, name: str | None):
        super().__init__(name)
        who = type(self).__name__
        self.thresholds = thresholds
        if isinstance(thresholds, np.ndarray):
            self.thresholds = thresholds = thresholds.tolist()
        several = isinstance(thresholds, list | tuple)
        given = list(thresholds) if several else [0.5 if thresholds is None else thresholds]
        if not given:
            raise ValueError(f"{who}: expected thresholds to be a number or a list of numbers, got {shown(thresholds)}")
        values = [real(who, "thresholds", value, least=0, most=1) for value in given]
        self._top_k = None if top_k is None else integer(who, "top_k", top_k, least=1)
        self._class = None if class_id is None else integer(who, "class_id", class_id)
        if top_k is not None and thresholds is None:
            values = [LOWEST]  # being among the largest is enough
        self._order = np.argsort(np.argsort(values, kind="stable"))
        self._set(np.sort(values))
        self._several = several
        if several:
            self.direction = None

    def compute(self, totals):
        values = self._value(Counts(totals["counts"][0]))[self._order]
        return values if self._several else float(values[0])

    def _value(self, counts: Counts) -> np.ndarray:
        raise NotImplementedError


class _Counted(_Decisions):
    def __init__(self, thresholds: Any = None, name: str | None = None):
        super().__init__(thresholds, None, None, name)


class TruePositives(_Counted):
    """How many outputs are above the threshold and should be, weighted.

    ``thresholds``: a number (None: 0.5), or a list, which gives an array. ``y_true``: 0 or 1 (above 0.5 counts as 1) of
    the shape of ``y_pred``, or class numbers.

    >>> import nnpy as nn
    >>> nn.metrics.TruePositives()([0, 1, 1, 1], [1, 0, 1, 1])
    2.0
    """

    direction = "max"

    def _value(self, counts):
        return counts.tp


class TrueNegatives(_Counted):
    """How many outputs are not above the threshold and should not be; arguments as of ``TruePositives``.

    >>> import nnpy as nn
    >>> nn.metrics.TrueNegatives()([0, 1, 0, 0], [1, 1, 0, 0])
    2.0
    """

    direction = "max"

    def _value(self, counts):
        return counts.tn


class FalsePositives(_Counted):
    """How many outputs are above the threshold and should not be; arguments as of ``TruePositives``.

    >>> import nnpy as nn
    >>> nn.metrics.FalsePositives()([0, 1, 0, 0], [0, 0, 1, 1])
    2.0
    """

    direction = "min"

    def _value(self, counts):
        return counts.fp


class FalseNegatives(_Counted):
    """How many outputs are not above the threshold and should be; arguments as of ``TruePositives``.

    >>> import nnpy as nn
    >>> nn.metrics.FalseNegatives()([0, 1, 1, 1], [0, 1, 0, 0])
    2.0
    """

    direction = "min"

    def _value(self, counts):
        return counts.fn


class _Chosen(_Decisions):
    direction = "max"

    def __init__(
        self, thresholds: Any = None, top_k: int | None = None, class_id: int | None = None, name: str | None = None
    ):
        super().__init__(thresholds, top_k, class_id, name)
        self.top_k, self.class_id = self._top_k, self._class


class Precision(_Chosen):
    """tp / (tp + fp) over all outputs: of what is above the threshold, the share that should be; 0 where nothing is.

    ``thresholds``: a number (None: 0.5), or a list, which gives an array. ``top_k``: of each row only the k largest
    outputs can be positive, and without ``thresholds`` they are. ``class_id``: of this output alone. ``y_true``: 0 or 1
    of the shape of ``y_pred``, or class numbers. *Ours:* under a loss with ``from_logits=True`` thresholds are of the
    probabilities.

    >>> import nnpy as nn
    >>> nn.metrics.Precision()([0, 1, 1, 1], [1, 0, 1, 1])
    0.6666666666666666
    """

    def _value(self, counts):
        return counts.precision


class Recall(_Chosen):
    """tp / (tp + fn) over all outputs: of what should be, the share that is above the threshold; 0 where nothing should
    be. Arguments as of ``Precision``.

    >>> import nnpy as nn
    >>> nn.metrics.Recall()([0, 1, 1, 1], [1, 0, 1, 1])
    0.6666666666666666
    """

    def _value(self, counts):
        return counts.recall


class _Constrained(Thresholded):
    """The best of one number at the thresholds where another is large enough, 0 if nowhere."""

    direction = "max"
    _constrained, _best = "", ""

    def __init__(self, value: float, argument: str, num_thresholds: int, class_id: int | None, name: str | None):
        super().__init__(name)
        who = type(self).__name__
        setattr(self, argument, real(who, argument, value, least=0, most=1))
        self._least = getattr(self, argument)
        self.num_thresholds = integer(who, "num_thresholds", num_thresholds, least=1)
        self.class_id = self._class = None if class_id is None else integer(who, "class_id", class_id)
        self._set(np.linspace(0, 1, self.num_thresholds) if num_thresholds > 1 else [0.5])

    def compute(self, totals):
        counts = Counts(totals["counts"][0])
        enough = getattr(counts, self._constrained) >= self._least
        return float(np.max(getattr(counts, self._best)[enough], initial=0.0))


class SensitivityAtSpecificity(_Constrained):
    """The largest sensitivity (recall) at thresholds whose specificity, tn / (tn + fp), is at least ``specificity``.

    ``num_thresholds``: spread evenly over 0 ... 1. ``class_id``: of this output alone.

    >>> import nnpy as nn
    >>> nn.metrics.SensitivityAtSpecificity(0.5)([0, 0, 0, 1, 1], [0, 0.3, 0.8, 0.3, 0.8])
    0.5
    """

    _constrained, _best = "specificity", "recall"

    def __init__(
        self, specificity: float, num_thresholds: int = 200, class_id: int | None = None, name: str | None = None
    ):
        super().__init__(specificity, "specificity", num_thresholds, class_id, name)


class SpecificityAtSensitivity(_Constrained):
    """The largest specificity at thresholds whose sensitivity is at least ``sensitivity``; see
    ``SensitivityAtSpecificity``.

    >>> import nnpy as nn
    >>> nn.metrics.SpecificityAtSensitivity(0.5)([0, 0, 0, 1, 1], [0, 0.3, 0.8, 0.3, 0.8])
    0.6666666666666666
    """

    _constrained, _best = "recall", "specificity"

    def __init__(
        self, sensitivity: float, num_thresholds: int = 200, class_id: int | None = None, name: str | None = None
    ):
        super().__init__(sensitivity, "sensitivity", num_thresholds, class_id, name)


class PrecisionAtRecall(_Constrained):
    """The largest precision at thresholds whose recall is at least ``recall``; see ``SensitivityAtSpecificity``.

    >>> import nnpy as nn
    >>> nn.metrics.PrecisionAtRecall(0.5)([0, 0, 0, 1, 1], [0, 0.3, 0.8, 0.3, 0.8])
    0.5
    """

    _constrained, _best = "recall", "precision"

    def __init__(self, recall: float, num_thresholds: int = 200, class_id: int | None = None, name: str | None = None):
        super().__init__(recall, "recall", num_thresholds, class_id, name)


class RecallAtPrecision(_Constrained):
    """The largest recall at thresholds whose precision is at least ``precision``; see ``SensitivityAtSpecificity``.

    >>> import nnpy as nn
    >>> nn.metrics.RecallAtPrecision(0.8)([0, 0, 1, 1], [0, 0.5, 0.3, 0.9])
    0.5
    """

    _constrained, _best = "precision", "recall"

    def __init__(
        self, precision: float, num_thresholds: int = 200, class_id: int | None = None, name: str | None = None
    ):
        super().__init__(precision, "precision", num_thresholds, class_id, name)
