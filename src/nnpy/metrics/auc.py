"""AUC: the area under a curve of decisions at all thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnpy import ops
from nnpy.checks import flag, integer, real, several, shown
from nnpy.graph import Tensor
from nnpy.metrics.arrays import checked
from nnpy.metrics.thresholds import Counts, Thresholded, ratio

_EPSILON = 1e-7  # beyond 0 and 1: everything is above the first threshold, nothing above the last (Keras)


class AUC(Thresholded):
    """The area under the curve ("ROC": recall over the rate of false positives; "PR": precision over recall; "PRGAIN")
    that decisions at ``num_thresholds`` evenly spread thresholds give, 200 as in Keras.

    ``summation_method``: heights between two thresholds: "interpolation" (of precision by Davis & Goadrich, ICML
    2006), "minoring", "majoring". ``thresholds``: instead of ``num_thresholds``, beside one below 0 and one above 1.
    ``multi_label``: the mean of every output's area, weighted by ``label_weights``; else all outputs are taken together
    and ``label_weights`` weight them. ``num_labels``: how many outputs there have to be. ``from_logits``: predictions
    go through a sigmoid first; under a loss with ``from_logits=True`` they become probabilities by themselves.
    0 where a truth is absent.

    *Ours:* ``num_thresholds=None`` takes every score as a threshold, which gives the exact area: scikit-learn's
    ``roc_auc_score``, and for "PR" its ``average_precision_score``. It keeps all scores, so it measures arrays
    (``update_state``) and is no part of a step: TypeError in ``compile``.

    >>> import nnpy as nn
    >>> nn.metrics.AUC(num_thresholds=3)([0, 0, 1, 1], [0, 0.5, 0.3, 0.9])
    0.75
    >>> nn.metrics.AUC(num_thresholds=None)([0, 0, 1, 1], [0.101, 0.102, 0.1019, 0.103])
    0.75
    """

    direction = "max"
    #: truth, score and weight by label, of every update, where all scores count
    _scores: list[tuple[np.ndarray, ...]] | None = None

    def __init__(
        self,
        num_thresholds: int | None = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        *,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Any = None,
        from_logits: bool = False,
    ):
        super().__init__(name)
        curves = {"ROC": "ROC", "PR": "PR", "PRECISION-RECALL": "PR", "PRGAIN": "PRGAIN"}
        self.curve = curves.get(str(curve).upper(), "")
        if not self.curve:
            raise ValueError(f"AUC: expected curve to be 'ROC', 'PR' or 'PRGAIN', got {shown(curve)}")
        methods = ("interpolation", "minoring", "majoring")
        self.summation_method = str(summation_method).lower()
        if self.summation_method not in methods:
            known = ", ".join(map(repr, methods))
            raise ValueError(f"AUC: expected summation_method to be one of {known}, got {shown(summation_method)}")
        self.num_thresholds: int | None = None
        self.thresholds, inner = None, np.empty(0)
        if thresholds is not None:
            given = several("AUC", "thresholds", thresholds)
            self.thresholds = sorted(real("AUC", "thresholds", value, least=0, most=1) for value in given)
            self.num_thresholds, inner = len(self.thresholds) + 2, np.asarray(self.thresholds)
        elif num_thresholds is not None:
            self.num_thresholds = integer("AUC", "num_thresholds", num_thresholds, least=2)
            inner = np.linspace(0, 1, self.num_thresholds)[1:-1]
        self._set([-_EPSILON, *inner, 1 + _EPSILON])
        self.multi_label = flag("AUC", "multi_label", multi_label)
        self.num_labels = None if num_labels is None else integer("AUC", "num_labels", num_labels, least=1)
        if num_labels is not None and not multi_label:
            raise ValueError(f"AUC: expected num_labels to be None without multi_label=True, got {num_labels}")
        self.label_weights = None
        if label_weights is not None:
            given = several("AUC", "label_weights", label_weights)
            self.label_weights = [real("AUC", "label_weights", value, least=0) for value in given]
            if self.num_labels not in (None, len(self.label_weights)):
                raise ValueError(f"AUC: expected {num_labels} label_weights, got {len(self.label_weights)}")
            if not multi_label:
                self._factors = np.asarray(self.label_weights)
        self.from_logits = flag("AUC", "from_logits", from_logits)

    def resolve(self, y_true, y_pred, loss=None):
        made = super().resolve(y_true, y_pred, loss)
        weights = None if self.label_weights is None else len(self.label_weights)
        count = self.num_labels or weights or y_pred.shape[-1]
        if (self.multi_label or weights) and count != y_pred.shape[-1]:
            raise ValueError(f"{self}: expected {count} outputs, as many as labels, got {y_pred.shape}")
        made._labels = count if self.multi_label else None
        return made

    def update_state(self, y_true, y_pred, sample_weight=None):
        if self.num_thresholds is not None:
            super().update_state(y_true, y_pred, sample_weight)
            return
        true, predicted, *weights = checked(self, y_true, y_pred, sample_weight)
        count = predicted.shape[-1]
        self.resolve(*(Tensor((None, *each.shape[1:])) for each in (true, predicted)))
        truth = true[..., None] == np.arange(count) if true.dtype == np.int32 else true > 0.5
        weight = np.ones(()) if not weights else weights[0].astype(np.float64)
        weight = weight.reshape(*weight.shape, *[1] * (predicted.ndim - weight.ndim))
        weight = np.broadcast_to(weight if self._factors is None else weight * self._factors, predicted.shape)
        labels = count if self.multi_label else 1
        if self._scores and self._scores[0][0].shape[1] != labels:
            raise ValueError(f"{self}: expected {self._scores[0][0].shape[1]} labels as before, got {labels}")
        low = np.where(np.isnan(predicted), -np.inf, predicted)
        self._scores = self._scores or []
        self._scores.append(tuple(each.reshape(-1, labels).copy() for each in (truth, low, weight)))

    def result(self):
        if self.num_thresholds is not None:
            return super().result()
        if not self._scores:
            raise ValueError(f"{self}: has no value before update_state(y_true, y_pred)")
        parts = (np.concatenate(each).T for each in zip(*self._scores, strict=True))
        return self._mean([self._areas(Counts(_histogram(*label)))[0] for label in zip(*parts, strict=True)])

    def reset_state(self):
        super().reset_state()
        self._scores = None

    def accumulators(self, output_shape):
        if self.num_thresholds is None:
            raise TypeError(
                f"{self}: num_thresholds=None keeps all scores, which a step cannot: measure arrays, "
                "metric(y, model.predict(x)), or give compile() a number of thresholds"
            )
        return super().accumulators(output_shape)

    def update(self, variables, y_true, y_pred, weights=None):
        if self.from_logits and self._link is None:
            y_pred = ops.sigmoid(y_pred)
        return super().update(variables, y_true, y_pred, weights)

    def compute(self, totals):
        return self._mean(self._areas(Counts(totals["counts"])))

    def _mean(self, areas: Any) -> float:
        """That of all labels."""
        if not self.multi_label:
            return float(areas[0])
        weights = np.ones(len(areas)) if self.label_weights is None else np.asarray(self.label_weights)
        return float(ratio((np.asarray(areas) * weights).sum(), weights.sum()))

    def _areas(self, counts: Counts) -> np.ndarray:
        """The area of each label."""
        if self.curve == "PR" and self.num_thresholds is None:  # no threshold is between two
            return ((counts.recall[:, :-1] - counts.recall[:, 1:]) * counts.precision[:, :-1]).sum(-1)
        if self.curve == "PR" and self.summation_method == "interpolation":
            return _interpolated(counts)
        if self.curve == "ROC":
            x, y = ratio(counts.fp, counts.fp + counts.tn), counts.recall
        elif self.curve == "PR":
            x, y = counts.recall, counts.precision
        else:  # Flach & Kull, NeurIPS 2015, with Keras's values where there are no true positives
            odds = ratio(counts.tp + counts.fn, counts.tn + counts.fp)
            none = counts.tp == 0
            x = np.maximum(np.where(none, 0.0, 1 - odds * ratio(counts.fn, counts.tp)), 0)
            y = np.where(none, 1.0, 1 - odds * ratio(counts.fp, counts.tp))
        left, right = y[:, :-1], y[:, 1:]
        heights = {"interpolation": (left + right) / 2, "minoring": np.minimum(left, right)}
        return ((x[:, :-1] - x[:, 1:]) * heights.get(self.summation_method, np.maximum(left, right))).sum(-1)


def _histogram(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weights by score and truth, one threshold below all scores and one on each."""
    found, place = np.unique(scores, return_inverse=True)
    size = len(found) + 2
    return np.bincount(2 * (place + 1) + truth, weights, 2 * size).reshape(1, size, 2)


def _interpolated(counts: Counts) -> np.ndarray:
    """Between two thresholds true positives grow in a straight line over what is above the threshold."""
    above = counts.tp + counts.fp
    gained = counts.tp[:, :-1] - counts.tp[:, 1:]
    slope = ratio(gained, above[:, :-1] - above[:, 1:])
    start = counts.tp[:, 1:] - slope * above[:, 1:]
    both = (above[:, :-1] > 0) & (above[:, 1:] > 0)
    logs = np.log(np.where(both, above[:, :-1], 1) / np.where(both, above[:, 1:], 1))
    return ratio(slope * (gained + start * logs), counts.tp[:, 1:] + counts.fn[:, 1:]).sum(-1)
