"""Losses with a kernel of their own: the loss of every row, its gradient by the prediction and the correct predictions
come out of one pass over memory.

Each of these is an operation by itself; where a step needs several of the same prediction and target,
``compiler.passes.share_losses`` makes one node of them. Rows are all axes but the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from nnpy.graph import Size, Tensor, apply, count_of
from nnpy.ops import elementwise as e
from nnpy.ops.base import Operation, label
from nnpy.ops.constants import affine, filled, scaled
from nnpy.ops.reduce import logsumexp
from nnpy.ops.shape import expand_dims, reshape_sizes

#: what a node of a loss kernel may give
PARTS = ("loss", "gradient", "correct")


class LossKernel(Operation):
    """Inputs: prediction, target (indices, or of the prediction's shape), and where the gradient is asked for and is
    not multiplied by a constant alone, the upstream of every row. Attributes: ``parts`` of the outputs, in the order of
    ``PARTS``; ``smoothing``, ``ignore`` (a label, or None); ``scale`` and ``per`` of the gradient."""

    takes_indices = True
    attributes = {"parts": tuple, "smoothing": float, "ignore": int, "scale": float, "per": tuple}  # noqa: RUF012

    def infer(self, node):
        prediction, target, *upstream = node.inputs
        if prediction.rank < 1 or prediction.kind != "real":
            raise ValueError(f"{label(node)}: expected a prediction of rank 1 or more, got {prediction.shape}")
        rows = prediction.sizes[:-1]
        expected = rows if target.kind == "index" else prediction.sizes
        if target.sizes != expected:
            kind = "labels" if target.kind == "index" else "targets"
            raise ValueError(
                f"{label(node)}: expected {kind} of shape {Tensor(expected).shape} for a prediction of shape "
                f"{prediction.shape}, got {target.shape}"
            )
        if target.kind == "index" and self.name != "softmax_crossentropy":
            raise TypeError(f"{label(node)}: expected targets that are real numbers, got class numbers")
        if upstream and upstream[0].sizes != rows:
            raise ValueError(f"{label(node)}: expected an upstream of shape {rows}, got {upstream[0].shape}")
        return [prediction.sizes if part == "gradient" else rows for part in node.attributes["parts"]]

    def gradient(self, node, upstreams, needs):
        prediction, target = node.inputs[:2]
        place = node.attributes["parts"].index("loss") if "loss" in node.attributes["parts"] else -1
        upstream = upstreams[place] if place >= 0 else None
        if upstream is None:
            return [None] * len(node.inputs)
        smoothing, ignore = node.attributes["smoothing"], node.attributes["ignore"]
        dx = loss_gradient(self.name, prediction, target, upstream, smoothing, ignore) if needs[0] else None
        dt = _TARGET_GRADIENTS[self.name](prediction, target, expand_dims(upstream, -1)) if needs[1] else None
        factor = 2.0 if self.name == "mean_squared_error" else 1.0 - smoothing
        return [dx, None if dt is None else scaled(dt, factor), *[None] * (len(node.inputs) - 2)]

    def lower(self, item, low):
        node = item.node
        prediction, target, *upstream = node.inputs
        *rows_shape, cols = prediction.concrete(low.batch)
        rows = prod(rows_shape)
        attributes = node.attributes
        given = dict(zip(attributes["parts"], node.outputs, strict=True))
        arguments = {"labels" if target.kind == "index" else "targets": target}
        if "correct" in given:
            arguments["correct"] = given["correct"]
        if "gradient" in given:
            arguments.update(
                dx=given["gradient"], scale=attributes["scale"] / max(1, count_of(attributes["per"], low.batch))
            )
            if upstream:
                arguments["upstream"] = upstream[0]
        if attributes["smoothing"]:
            arguments["smoothing"] = attributes["smoothing"]
        if attributes["ignore"] is not None:
            arguments.update(ignore=attributes["ignore"], ignoring=1)
        if target.kind == "index":
            arguments["state"] = low.state
        loss = given["loss"] if "loss" in given else low.scratch(rows * low.dtype.itemsize)
        low.call(self.name, loss=loss, x=prediction, rows=rows, cols=cols, work=16 * rows * cols, **arguments)

    def reference(self, x, target, parts=("loss",), smoothing=0.0, ignore=None, scale=1.0, per=()):
        return _REFERENCES[self.name](x, target, smoothing, ignore)


def _softmax_reference(x, target, smoothing, ignore):
    classes = x.shape[-1]
    t = (target[..., None] == np.arange(classes)) * 1.0 if target.dtype.kind == "i" else target
    t = t * (1 - smoothing) + smoothing / classes
    top = x.max(-1, keepdims=True)
    log = x - top - np.log(np.exp(x - top).sum(-1, keepdims=True))
    loss = -(t * log).sum(-1)
    return loss if ignore is None else np.where(target == ignore, 0.0, loss)


def _binary_reference(x, target, smoothing, ignore):
    t = target * (1 - smoothing) + smoothing / 2
    return (np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))).mean(-1)


_REFERENCES = {
    "softmax_crossentropy": _softmax_reference,
    "binary_crossentropy": _binary_reference,
    "mean_squared_error": lambda x, target, smoothing, ignore: ((x - target) ** 2).mean(-1),
}
#: by name
KERNELS: dict[str, LossKernel] = {name: LossKernel(name) for name in _REFERENCES}
# The gradients by the targets, without the factor that smoothing leaves.
_TARGET_GRADIENTS = {
    "softmax_crossentropy": lambda x, t, u: e.multiply(u, e.subtract(logsumexp(x, -1, keepdims=True), x)),
    "binary_crossentropy": lambda x, t, u: scaled(e.multiply(x, u), -1.0, x.sizes[-1:]),
    "mean_squared_error": lambda x, t, u: scaled(e.multiply(e.subtract(t, x), u), 1.0, x.sizes[-1:]),
}


def loss_part(
    name: str, part: str, inputs: Sequence[Tensor], smoothing: float = 0.0, ignore: int | None = None,
    scale: float = 1.0, per: Sequence[Size] = (),
) -> Tensor:  # fmt: skip
    """One of the ``PARTS`` that a kernel gives."""
    return apply(
        KERNELS[name], inputs, parts=(part,), smoothing=float(smoothing), ignore=ignore, scale=float(scale),
        per=tuple(per),
    )  # fmt: skip


def loss_gradient(
    name: str, prediction: Tensor, target: Tensor, upstream: Tensor, smoothing: float, ignore: int | None
) -> Tensor:
    """upstream (of rows) times the gradient of the loss of each row by the prediction."""
    scale, per = 1.0, ()
    value, inner = filled(upstream), upstream
    if value is not None:
        return loss_part(name, "gradient", [prediction, target], smoothing, ignore, *value)
    node = upstream.node
    if node is not None and node.operation.name == "affine" and node.attributes["shift"] == 0.0:
        inner, scale, per = node.inputs[0], node.attributes["scale"], node.attributes["per"]
    return loss_part(name, "gradient", [prediction, target, inner], smoothing, ignore, scale, per)


def softmax_crossentropy(
    logits: Tensor, target: Tensor, smoothing: float = 0.0, ignore_class: int | None = None
) -> Tensor:
    """-sum(t * log_softmax(logits)) of each row: t one-hot of labels (int32, of the shape of the rows) or targets of
    the logits' shape, smoothed to t (1 - smoothing) + smoothing / classes; 0 where the label is ``ignore_class``."""
    return loss_part("softmax_crossentropy", "loss", [logits, target], smoothing, ignore_class)


def sigmoid_crossentropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """The mean over a row of the cross-entropy between sigmoid(logits) and targets in [0, 1], (..., n) -> (...).
    ValueError unless both have one shape."""
    return loss_part("binary_crossentropy", "loss", [logits, targets], smoothing)


def mean_squared_error(prediction: Tensor, targets: Tensor) -> Tensor:
    """The mean over a row of the squared error, (..., n) -> (...). ValueError unless both have one shape."""
    return loss_part("mean_squared_error", "loss", [prediction, targets])


def correct(scores: Tensor, target: Tensor, ignore_class: int | None = None) -> Tensor:
    """1.0 for each row whose largest score is the label's (or the largest target's), else 0.0 (and 0.0 where the label
    is ``ignore_class``)."""
    node = scores.node
    if node is not None and node.operation.name == "softmax":
        scores = node.inputs[0]  # the largest stays the largest
    return loss_part("softmax_crossentropy", "correct", [scores, target], ignore=ignore_class)


def binary_correct(scores: Tensor, targets: Tensor, threshold: float = 0.0) -> Tensor:
    """The share of a row's elements on the right side of ``threshold`` (targets: of 0.5)."""
    return loss_part("binary_crossentropy", "correct", [affine(scores, 1.0, -threshold), targets])


def behind(y: Tensor, function: str) -> Tensor | None:
    """What went into the softmax or sigmoid that gave ``y``, in y's shape: seen through reshapes that keep the last
    axis (of a softmax) and what leaves numbers as they are; None if something else gave it."""
    x = y
    while (node := x.node) is not None and node.operation.name == "reshape":
        x = node.inputs[0]
    if node is None or (function == "softmax" and x.sizes[-1:] != y.sizes[-1:]):
        return None
    name = node.operation.name
    if name == function or (name == "activation" and node.attributes["kind"] == function):
        return reshape_sizes(node.inputs[0], y.sizes)
    return None
