"""Losses: each node gives the loss of every sample, its gradient by the prediction, and (where it makes sense) hits.

The gradient comes out of the same pass over memory as the loss; its scale (the objective's weight over the batch) is
known when a Program is made.
"""

from __future__ import annotations

from collections.abc import Sequence

from nnpy.graph import Tensor, apply
from nnpy.ops.base import Operation, label


class LossOperation(Operation):
    """Inputs: prediction, then what ``names`` says; ``kernel`` is that of nncore."""

    takes_indices = True  # labels

    def __init__(self, name: str, has_hits: bool):
        self.name, self.has_hits = name, has_hits

    def infer(self, node):
        if self.name == "softmax_crossentropy" and node.inputs[0].rank != 2:
            raise ValueError(f"{label(node)}: expected scores of shape (batch, classes), got {node.inputs[0].shape}")
        prediction = node.inputs[0].shape
        if len(prediction) < 2:
            raise ValueError(f"{label(node)}: expected a prediction of rank 2 or more, got {prediction}")
        for name, tensor in zip(node.attributes["names"], node.inputs[1:], strict=True):
            expected = prediction if name == "targets" else prediction[:1]
            if tensor.shape != expected:
                raise ValueError(f"{label(node)}: expected {name} of shape {expected}, got {tensor.shape}")
        return [prediction[:1], prediction, prediction[:1]] if self.has_hits else [prediction[:1], prediction]

    def lower(self, item, low):
        node = item.node
        prediction = node.inputs[0]
        loss, gradient = node.outputs[:2]
        rows = low.batch
        cols = low.count(prediction) // max(1, rows)
        scale = low.loss_scale(node)
        arguments = dict(zip(node.attributes["names"], node.inputs[1:], strict=True))
        if scale is not None:
            arguments.update(dx=gradient, scale=scale)
        if self.has_hits and low.is_used(node.outputs[2]):
            arguments["hits"] = node.outputs[2]
        if node.attributes["smoothing"]:
            arguments["smoothing"] = node.attributes["smoothing"]
        low.call(self.name, loss=loss, x=prediction, rows=rows, cols=cols, work=16 * rows * cols, **arguments)


_SOFTMAX = LossOperation("softmax_crossentropy", True)
_BINARY = LossOperation("binary_crossentropy", True)
_SQUARED = LossOperation("mean_squared_error", False)


def _loss(operation: Operation, prediction: Tensor, smoothing: float = 0.0, **others: Tensor | None) -> Tensor:
    present = {name: tensor for name, tensor in others.items() if tensor is not None}
    return apply(operation, [prediction, *present.values()], names=tuple(present), smoothing=float(smoothing))


def softmax_crossentropy(
    logits: Tensor,
    labels: Tensor | None = None,
    targets: Tensor | None = None,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """-sum(t * log_softmax(logits)) of each sample, t one-hot of ``labels`` (None,) or ``targets`` (None, classes)."""
    if (labels is None) == (targets is None):
        raise ValueError("softmax_crossentropy: expected either labels or targets")
    return _loss(_SOFTMAX, logits, smoothing, labels=labels, targets=targets, weights=weights)


def binary_crossentropy(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """The mean over a sample's outputs of the cross-entropy between sigmoid(logits) and targets in [0, 1]."""
    return _loss(_BINARY, logits, smoothing, targets=targets, weights=weights)


def mean_squared_error(prediction: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean over a sample's outputs of the squared error."""
    return _loss(_SQUARED, prediction, targets=targets, weights=weights)


def hits(scores: Tensor, labels: Tensor | None = None, targets: Tensor | None = None) -> Tensor:
    """1.0 for each sample whose largest score is the label's (or the largest target's), else 0.0."""
    return softmax_crossentropy(scores, labels=labels, targets=targets).made_by.outputs[2]


def binary_hits(scores: Tensor, targets: Tensor, threshold: float = 0.0) -> Tensor:
    """The share of a sample's outputs on the right side of ``threshold`` (targets: of 0.5)."""
    from nnpy.ops.elementwise import affine

    return binary_crossentropy(affine(scores, 1.0, -threshold), targets).made_by.outputs[2]


def prediction_gradient(loss: Tensor) -> Tensor:
    """The gradient by the prediction that a loss node gives along with the loss."""
    return loss.made_by.outputs[1]


__all__: Sequence[str] = ["binary_crossentropy", "binary_hits", "hits", "mean_squared_error", "softmax_crossentropy"]
