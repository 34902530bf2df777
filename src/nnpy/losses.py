"""Losses: the loss of every sample as operations on tensors, and the check of the user's targets.

Names and defaults are Keras 3's. The objective is the mean over the samples of a batch ("sum_over_batch_size").
"""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

import numpy as np

from nnpy import ops
from nnpy.checks import flag, integer, real, shown
from nnpy.data.inputs import column
from nnpy.graph import Shape, Tensor
from nnpy.registry import Configurable, find, snake

S = TypeVar("S")  # the sizes of a shape: numbers, or None or ``Dim`` for the batch
_EPSILON = 1e-7  # probabilities are kept this far from 0 where their logits are not known (Keras)


class Loss(Configurable):
    """Base of losses. ``target_kind``: "index" for targets that are class numbers, "real" for numbers.

    A loss of your own defines ``call(y_true, y_pred)``, written with ``nnpy.ops``: the losses of rows, of shape
    (batch,) or (batch, steps) and so on, whose mean is taken.
    """

    group = "loss"
    target_kind = "real"

    def __init__(self, *, name: str | None = None):
        self.name = name or snake(type(self).__name__)

    def __call__(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of every row. TypeError for numbers: a loss becomes part of a compiled step."""
        symbolic(self, y_true, y_pred)
        return self.call(y_true, y_pred)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of every row, as operations on tensors."""
        raise NotImplementedError(f"{type(self).__name__}: a loss must define call(y_true, y_pred)")

    def target_shape(self, output_shape: tuple[S, ...]) -> tuple[S, ...]:
        """The shape of targets for a prediction of ``output_shape``, both with the batch."""
        return output_shape

    def valid(self, y_true: Tensor) -> Tensor | None:
        """Which rows count, as truth values; None: all."""
        return None

    def check_targets(self, y: Any, output_shape: Shape, name: str = "y") -> np.ndarray:
        """The user's targets as an array of ``target_shape``, checked.

        ``name``: what errors call them. Raises TypeError for a wrong dtype and ValueError for a wrong shape or value,
        with the first bad value and its row.
        """
        y = real_array(y, name, str(self))
        expected = output_shape[1:]
        if y.ndim == 1 and expected == (1,):
            y = y.reshape(-1, 1)
        if y.ndim != len(output_shape) or any(e not in (None, n) for n, e in zip(y.shape[1:], expected, strict=True)):
            shape = described(("n", *expected))
            raise ValueError(f"{self}: expected {name} of shape {shape}, like the output, got {y.shape}")
        refuse(y, ~np.isfinite(y) if y.dtype.kind == "f" else None, f"{self}: expected {name} to be finite")
        return y

    def __str__(self) -> str:
        return type(self).__name__


class MeanSquaredError(Loss):
    """The mean over a sample's outputs of (y_true - y_pred)^2."""

    def call(self, y_true, y_pred):
        return ops.mean_squared_error(y_pred, y_true)


class BinaryCrossentropy(Loss):
    """-t * log(p) - (1 - t) * log(1 - p), the mean over a sample's outputs; targets in [0, 1].

    ``from_logits=False``: the model ends in a sigmoid; the loss is computed from what goes into it, which is stable.
    ``label_smoothing`` e moves targets to t * (1 - e) + e / 2.
    """

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0, *, name: str | None = None):
        super().__init__(name=name)
        self.from_logits = flag("BinaryCrossentropy", "from_logits", from_logits)
        self.label_smoothing = real("BinaryCrossentropy", "label_smoothing", label_smoothing, least=0, most=1)

    def call(self, y_true, y_pred):
        return ops.binary_crossentropy(self.logits(y_pred), y_true, self.label_smoothing)

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
    ``label_smoothing`` e moves targets to t * (1 - e) + e / classes (Szegedy et al., CVPR 2016).
    """

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0, *, name: str | None = None):
        super().__init__(name=name)
        self.from_logits = flag("CategoricalCrossentropy", "from_logits", from_logits)
        self.label_smoothing = real("CategoricalCrossentropy", "label_smoothing", label_smoothing, least=0, most=1)

    def call(self, y_true, y_pred):
        _check_classes(self, y_pred.shape)
        logits = categorical_logits(y_pred, self.from_logits)
        return ops.softmax_crossentropy(logits, y_true, self.label_smoothing)

    def check_targets(self, y, output_shape, name="y"):
        _check_classes(self, output_shape)
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
    """

    target_kind = "index"

    def __init__(self, from_logits: bool = False, ignore_class: int | None = None, *, name: str | None = None):
        super().__init__(name=name)
        self.from_logits = flag("SparseCategoricalCrossentropy", "from_logits", from_logits)
        self.ignore_class = (
            None if ignore_class is None else integer("SparseCategoricalCrossentropy", "ignore_class", ignore_class)
        )

    def call(self, y_true, y_pred):
        _check_classes(self, y_pred.shape)
        logits = categorical_logits(y_pred, self.from_logits)
        return ops.softmax_crossentropy(logits, y_true, ignore_class=self.ignore_class)

    def target_shape(self, output_shape):
        return output_shape[:-1]

    def valid(self, y_true: Tensor) -> Tensor | None:
        if self.ignore_class is None:
            return None
        return ops.not_equal(y_true, self.ignore_class)

    def check_targets(self, y, output_shape, name="y"):
        _check_classes(self, output_shape)
        rows, classes = output_shape[1:-1], output_shape[-1]
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


def categorical_logits(y_pred: Tensor, from_logits: bool) -> Tensor:
    """What the softmax of is the prediction. Probabilities of another origin are normalised, as in Keras."""
    if from_logits:
        return y_pred
    behind = ops.losses.behind(y_pred, "softmax")
    return _safe_log(y_pred) if behind is None else behind


def _safe_log(p: Tensor) -> Tensor:
    """log(max(p, epsilon))."""
    return ops.log(ops.maximum(p, _EPSILON))


def _check_classes(loss: Loss, output_shape: Shape) -> None:
    if len(output_shape) < 2 or output_shape[-1] is None or output_shape[-1] < 2:
        raise ValueError(
            f"{loss}: expected an output of shape (batch, ..., classes), 2 classes or more, got {output_shape}"
        )


def described(shape: tuple) -> str:
    """A shape as errors print it."""
    return (
        "(" + ", ".join("any" if size is None else str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
    )


class FunctionLoss(Loss):
    """A plain function of (y_true, y_pred), written with ``nnpy.ops``, as a loss. JSON cannot hold it."""

    def __init__(self, function: Any, *, name: str | None = None):
        super().__init__(name=name or getattr(function, "__name__", "loss"))
        self.function = function

    def __str__(self):
        return self.name

    def call(self, y_true, y_pred):
        return self.function(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        raise TypeError(f"loss {self.name}: a function cannot be stored; derive a class from nnpy.losses.Loss")


def get(value: Any) -> Loss:
    """A loss from its name ("mse", "sparse_categorical_crossentropy"), class, configuration, or itself."""
    if inspect.isfunction(value) or inspect.ismethod(value):
        return FunctionLoss(value)
    refuse_function("loss", Loss, value, "call(self, y_true, y_pred)")
    return find(Loss, value, {"mse": "MeanSquaredError"})


__all__ = [
    "BinaryCrossentropy", "CategoricalCrossentropy", "Loss", "MeanSquaredError", "SparseCategoricalCrossentropy",
    "get",
]  # fmt: skip
