"""Cross-entropies: binary, of probabilities of classes, of class numbers."""

from __future__ import annotations

import numpy as np

from nnpy import ops
from nnpy.checks import flag, integer, real
from nnpy.graph import Shape, Tensor
from nnpy.losses.base import Loss, described, real_array, refuse

_EPSILON = 1e-7  # probabilities are kept this far from 0 where their logits are not known (Keras)


class BinaryCrossentropy(Loss):
    """-t * log(p) - (1 - t) * log(1 - p), the mean over a sample's outputs; targets in [0, 1].

    ``from_logits=False``: the model ends in a sigmoid; the loss is computed from what goes into it, which is stable.
    ``label_smoothing`` e moves targets to t * (1 - e) + e / 2. ``axis``: whose outputs the mean is of.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ):
        super().__init__(name, reduction)
        self.from_logits = flag("BinaryCrossentropy", "from_logits", from_logits)
        self.label_smoothing = real("BinaryCrossentropy", "label_smoothing", label_smoothing, least=0, most=1)
        self.axis = integer("BinaryCrossentropy", "axis", axis)

    def call(self, y_true, y_pred):
        logits, targets = (last(self, self.axis, tensor) for tensor in (self.logits(y_pred), y_true))
        return ops.sigmoid_crossentropy(logits, targets, self.label_smoothing)

    def logits(self, y_pred: Tensor) -> Tensor:
        """What the sigmoid of is the prediction."""
        if self.from_logits:
            return y_pred
        behind = ops.losses.behind(y_pred, "sigmoid")
        if behind is not None:
            return behind
        return ops.subtract(_safe_log(y_pred), _safe_log(ops.affine(y_pred, -1.0, 1.0)))

    def check_targets(self, y, output_shape, name="y"):
        y = super().check_targets(y, output_shape, name)
        refuse(y, (y < 0) | (y > 1), f"{self}: expected {name} to be in [0, 1]")
        return y


class CategoricalCrossentropy(Loss):
    """-sum(t * log(p)) over the classes; targets are probabilities of shape (n, classes), mostly one-hot.

    ``from_logits=False``: the model ends in a softmax; the loss is computed from what goes into it, which is stable.
    ``label_smoothing`` e moves targets to t * (1 - e) + e / classes (Szegedy et al., CVPR 2016). ``axis``: of the
    classes.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ):
        super().__init__(name, reduction)
        self.from_logits = flag("CategoricalCrossentropy", "from_logits", from_logits)
        self.label_smoothing = real("CategoricalCrossentropy", "label_smoothing", label_smoothing, least=0, most=1)
        self.axis = integer("CategoricalCrossentropy", "axis", axis)

    def call(self, y_true, y_pred):
        _check_classes(self, y_pred.shape, self.axis)
        logits = categorical_logits(last(self, self.axis, y_pred), self.from_logits)
        return ops.softmax_crossentropy(logits, last(self, self.axis, y_true), self.label_smoothing)

    def check_targets(self, y, output_shape, name="y"):
        _check_classes(self, output_shape, self.axis)
        y = real_array(y, name, str(self))
        if y.ndim == len(output_shape) - 1 or y.shape[1:] == (*output_shape[1:-1], 1):
            raise ValueError(
                f"{self}: expected {name} of shape {described(('n', *output_shape[1:]))}, one-hot or probabilities, "
                f"got {y.shape}; for class numbers use SparseCategoricalCrossentropy"
            )
        y = super().check_targets(y, output_shape, name)
        refuse(y, (y < 0) | (y > 1), f"{self}: expected {name} to be in [0, 1]")
        return y


class SparseCategoricalCrossentropy(Loss):
    """-log(p[y]): the cross-entropy with targets that are class numbers 0 ... classes - 1, of the output's shape
    without the classes, or with 1 in their place: (n,), (n, steps), (n, height, width).

    ``from_logits=False``: the model ends in a softmax; the loss is computed from what goes into it, which is stable.
    ``ignore_class``: rows of this label (it need not be a class: -1, say) count neither in the loss nor in its mean.
    ``axis``: of the classes.
    """

    target_kind = "index"

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str | None = None,
    ):
        super().__init__(name, reduction)
        self.from_logits = flag("SparseCategoricalCrossentropy", "from_logits", from_logits)
        self.ignore_class = (
            None if ignore_class is None else integer("SparseCategoricalCrossentropy", "ignore_class", ignore_class)
        )
        self.axis = integer("SparseCategoricalCrossentropy", "axis", axis)

    def call(self, y_true, y_pred):
        _check_classes(self, y_pred.shape, self.axis)
        logits = categorical_logits(last(self, self.axis, y_pred), self.from_logits)
        return ops.softmax_crossentropy(logits, y_true, ignore_class=self.ignore_class)

    def target_shape(self, output_shape):
        axis = self.axis % len(output_shape)
        return output_shape[:axis] + output_shape[axis + 1 :]

    def valid(self, y_true: Tensor) -> Tensor | None:
        if self.ignore_class is None:
            return None
        return ops.not_equal(y_true, self.ignore_class)

    def check_targets(self, y, output_shape, name="y"):
        _check_classes(self, output_shape, self.axis)
        rows, classes = self.target_shape(output_shape)[1:], output_shape[self.axis]
        y = real_array(y, name, str(self))
        if y.ndim == len(output_shape) and y.shape[-1] == 1 and y.shape[1:-1] == rows:
            y = y.reshape(y.shape[:-1])
        if y.ndim != len(output_shape) - 1 or any(e not in (None, n) for n, e in zip(y.shape[1:], rows, strict=True)):
            hint = "; for one-hot targets use CategoricalCrossentropy" if y.shape[1:] == output_shape[1:] else ""
            expected = described(("n", *rows))
            raise ValueError(f"{self}: expected {name} of shape {expected}, class numbers, got {y.shape}{hint}")
        if y.dtype.kind == "f":
            refuse(y, ~(np.floor(y) == y), f"{self}: expected {name} to be whole class numbers")
        message = f"{self}: expected {name} in 0 ... {classes - 1}, the output has {classes} classes"
        strange = (y < 0) | (y >= classes)
        refuse(y, strange if self.ignore_class is None else strange & (y != self.ignore_class), message)
        return y


def categorical_logits(y_pred: Tensor, from_logits: bool) -> Tensor:
    """What the softmax of is the prediction. Probabilities of another origin are normalised, as in Keras."""
    if from_logits:
        return y_pred
    behind = ops.losses.behind(y_pred, "softmax")
    return _safe_log(y_pred) if behind is None else behind


def _safe_log(p: Tensor) -> Tensor:
    """log(max(p, epsilon))."""
    return ops.log(ops.maximum(p, _EPSILON))


def last(loss: Loss, axis: int, tensor: Tensor) -> Tensor:
    """The tensor with this axis as its last. ValueError for one that it does not have, or the batch."""
    if not 1 - tensor.rank <= axis < tensor.rank or axis == 0:
        raise ValueError(f"{loss}: expected an axis of {tensor.shape}, and not the batch, got {axis}")
    return tensor if axis in (-1, tensor.rank - 1) else ops.moveaxis(tensor, axis, -1)


def _check_classes(loss: Loss, output_shape: Shape, axis: int) -> None:
    rank = len(output_shape)
    known = rank > 1 and 1 - rank <= axis < rank and axis != 0
    if not known or output_shape[axis] is None or output_shape[axis] < 2:  # type: ignore[operator]
        where = "(batch, ..., classes)" if axis == -1 else f"(batch, ...) with the classes in axis {axis}"
        raise ValueError(f"{loss}: expected an output of shape {where}, 2 classes or more, got {output_shape}")
