"""Losses: the loss of every sample as operations on tensors, and the check of the user's targets.

Names and defaults are Keras 3's. The objective is the mean over the samples of a batch ("sum_over_batch_size").
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnpy import ops
from nnpy.checks import flag, real, shown
from nnpy.data.inputs import column
from nnpy.graph import Shape, Tensor
from nnpy.registry import Configurable, find, snake

_EPSILON = 1e-7  # probabilities are kept this far from 0 where their logits are not known (Keras)


class Loss(Configurable):
    """Base of losses. ``target_kind``: "index" for targets that are class numbers, "real" for numbers."""

    group = "loss"
    target_kind = "real"

    def __init__(self, *, name: str | None = None):
        self.name = name or snake(type(self).__name__)

    def __call__(self, y_true: Tensor, y_pred: Tensor, weights: Tensor | None = None) -> Tensor:
        """The loss of every sample, shape (None,). ``weights``: (None,), factors of the samples' losses."""
        raise NotImplementedError(f"{type(self).__name__}: a loss must define __call__(y_true, y_pred, weights)")

    def target_shape(self, output_shape: Shape) -> Shape:
        """The shape of targets for a prediction of ``output_shape``, both with the batch."""
        return output_shape

    def check_targets(self, y: Any, output_shape: Shape, name: str = "y") -> np.ndarray:
        """The user's targets as an array of ``target_shape``, checked.

        ``name``: what errors call them. Raises TypeError for a wrong dtype and ValueError for a wrong shape or value,
        with the first bad value and its row.
        """
        y = real_array(y, name, str(self))
        expected = output_shape[1:]
        if y.ndim == 1 and expected == (1,):
            y = y.reshape(-1, 1)
        if y.shape[1:] != expected or y.ndim != len(output_shape):
            raise ValueError(f"{self}: expected {name} of shape {('n', *expected)}, like the output, got {y.shape}")
        refuse(y, ~np.isfinite(y) if y.dtype.kind == "f" else None, f"{self}: expected {name} to be finite")
        return y

    def __str__(self) -> str:
        return type(self).__name__


class MeanSquaredError(Loss):
    """The mean over a sample's outputs of (y_true - y_pred)^2."""

    def __call__(self, y_true, y_pred, weights=None):
        symbolic(self, y_true, y_pred, weights)
        return ops.mean_squared_error(y_pred, y_true, weights)


class BinaryCrossentropy(Loss):
    """-t * log(p) - (1 - t) * log(1 - p), the mean over a sample's outputs; targets in [0, 1].

    ``from_logits=False``: the model ends in a sigmoid; the loss is computed from what goes into it, which is stable.
    ``label_smoothing`` e moves targets to t * (1 - e) + e / 2.
    """

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0, *, name: str | None = None):
        super().__init__(name=name)
        self.from_logits = flag("BinaryCrossentropy", "from_logits", from_logits)
        self.label_smoothing = real("BinaryCrossentropy", "label_smoothing", label_smoothing, least=0, most=1)

    def __call__(self, y_true, y_pred, weights=None):
        symbolic(self, y_true, y_pred, weights)
        return ops.binary_crossentropy(self.logits(y_pred), y_true, weights, self.label_smoothing)

    def logits(self, y_pred: Tensor) -> Tensor:
        """What the sigmoid of is the prediction."""
        if self.from_logits:
            return y_pred
        behind = logits_behind(y_pred, "sigmoid")
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
    ``label_smoothing`` e moves targets to t * (1 - e) + e / classes (Szegedy et al., CVPR 2016).
    """

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0, *, name: str | None = None):
        super().__init__(name=name)
        self.from_logits = flag("CategoricalCrossentropy", "from_logits", from_logits)
        self.label_smoothing = real("CategoricalCrossentropy", "label_smoothing", label_smoothing, least=0, most=1)

    def __call__(self, y_true, y_pred, weights=None):
        symbolic(self, y_true, y_pred, weights)
        _check_classes(self, y_pred.shape)
        logits = categorical_logits(y_pred, self.from_logits)
        return ops.softmax_crossentropy(logits, targets=y_true, weights=weights, smoothing=self.label_smoothing)

    def check_targets(self, y, output_shape, name="y"):
        _check_classes(self, output_shape)
        y = real_array(y, name, str(self))
        if y.ndim == 1 or y.shape[1:] == (1,):
            raise ValueError(
                f"{self}: expected {name} of shape ('n', {output_shape[1]}), one-hot or probabilities, got {y.shape}; "
                "for class numbers use SparseCategoricalCrossentropy"
            )
        y = super().check_targets(y, output_shape, name)
        refuse(y, (y < 0) | (y > 1), f"{self}: expected {name} to be in [0, 1]")
        return y


class SparseCategoricalCrossentropy(Loss):
    """-log(p[y]): the cross-entropy with targets that are class numbers 0 ... classes - 1, shape (n,) or (n, 1).

    ``from_logits=False``: the model ends in a softmax; the loss is computed from what goes into it, which is stable.
    """

    target_kind = "index"

    def __init__(self, from_logits: bool = False, *, name: str | None = None):
        super().__init__(name=name)
        self.from_logits = flag("SparseCategoricalCrossentropy", "from_logits", from_logits)

    def __call__(self, y_true, y_pred, weights=None):
        symbolic(self, y_true, y_pred, weights)
        _check_classes(self, y_pred.shape)
        return ops.softmax_crossentropy(categorical_logits(y_pred, self.from_logits), labels=y_true, weights=weights)

    def target_shape(self, output_shape):
        return output_shape[:1]

    def check_targets(self, y, output_shape, name="y"):
        _check_classes(self, output_shape)
        classes = output_shape[1]
        y = real_array(y, name, str(self))
        if y.ndim == 2 and y.shape[1] == 1:
            y = y.reshape(-1)
        if y.ndim != 1:
            hint = "; for one-hot targets use CategoricalCrossentropy" if y.shape[1:] == output_shape[1:] else ""
            raise ValueError(f"{self}: expected {name} of shape ('n',), class numbers, got {y.shape}{hint}")
        if y.dtype.kind == "f":
            refuse(y, ~(np.floor(y) == y), f"{self}: expected {name} to be whole class numbers")
        message = f"{self}: expected {name} in 0 ... {classes - 1}, the output has {classes} classes"
        refuse(y, (y < 0) | (y >= classes), message)
        return y


def symbolic(owner: Any, *values: Any) -> None:
    """TypeError, naming the loss or metric, where it was called on numbers."""
    for value in values:
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(
                f"{owner}: expected Tensors, got {shown(value)}; it becomes part of a compiled step: give it to "
                "compile(), evaluate(x, y) tells its value"
            )


def real_array(y: Any, name: str, owner: str) -> np.ndarray:
    """``y`` as an array of real numbers; bools become 0 and 1. TypeError for other dtypes, ValueError for no rows."""
    y = np.asarray(y)
    if y.dtype.kind == "b":
        y = y.astype(np.uint8)
    if y.dtype.kind not in "fiu":
        raise TypeError(f"{owner}: expected {name} to be real numbers, got dtype {y.dtype}")
    if y.ndim == 0 or len(y) == 0:
        raise ValueError(f"{owner}: expected {name} to have at least one row, got shape {y.shape}")
    return y


def refuse_function(what: str, base: type, value: Any, method: str) -> None:
    """TypeError, with what to do, for a plain function where an object of ``base`` is expected."""
    if callable(value) and not isinstance(value, base | type):
        raise TypeError(
            f"expected {what} to be a name or a {base.__name__}, got {shown(value)}: a Python function cannot run "
            f"inside the compiled step; derive a class from {base.__module__}.{base.__name__} and write {method} with "
            "nnpy.ops"
        )


def refuse(y: np.ndarray, bad: np.ndarray | None, message: str) -> None:
    """ValueError with the first value of ``y`` that is bad, its row and column."""
    if bad is not None and bad.any():
        row, *place = np.unravel_index(int(np.argmax(bad)), bad.shape)
        raise ValueError(f"{message}, got {y[row, *place].item()} in row {int(row)}{column(bad.shape[1:], place)}")


def logits_behind(y_pred: Tensor, function: str) -> Tensor | None:
    """What went into the softmax or sigmoid that gave ``y_pred``; None if something else did."""
    node = y_pred.node
    if node is None or y_pred is not node.outputs[0]:
        return None
    name = node.operation.name
    if name == function or (name == "activation" and node.attributes["kind"] == function):
        return node.inputs[0]
    return None


def categorical_logits(y_pred: Tensor, from_logits: bool) -> Tensor:
    """What the softmax of is the prediction. Probabilities of another origin are normalised, as in Keras."""
    if from_logits:
        return y_pred
    behind = logits_behind(y_pred, "softmax")
    return _safe_log(y_pred) if behind is None else behind


def _safe_log(p: Tensor) -> Tensor:
    """log(max(p, epsilon))."""
    return ops.log(ops.affine(ops.activation(ops.affine(p, 1.0, -_EPSILON), "relu"), 1.0, _EPSILON))


def _check_classes(loss: Loss, output_shape: Shape) -> None:
    if len(output_shape) != 2 or output_shape[1] is None or output_shape[1] < 2:
        raise ValueError(f"{loss}: expected an output of shape (batch, classes), 2 classes or more, got {output_shape}")


def get(value: Any) -> Loss:
    """A loss from its name ("mse", "sparse_categorical_crossentropy"), class, configuration, or itself."""
    refuse_function("loss", Loss, value, "__call__(self, y_true, y_pred, weights=None)")
    return find(Loss, value, {"mse": "MeanSquaredError"})


__all__ = [
    "BinaryCrossentropy", "CategoricalCrossentropy", "Loss", "MeanSquaredError", "SparseCategoricalCrossentropy",
    "get",
]  # fmt: skip
