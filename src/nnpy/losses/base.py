"""Loss: what the base of losses does, a plain function as a loss, and the checks of targets."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from nnpy import ops
from nnpy.checks import shown
from nnpy.compiler import evaluated
from nnpy.data.inputs import column
from nnpy.graph import Shape, Tensor, Variable
from nnpy.ops import constant
from nnpy.registry import Configurable, snake

S = TypeVar("S")  # the sizes of a shape: numbers, or None or ``Dim`` for the batch
EPSILON = 1e-7  # Keras's: how far from 0 probabilities are kept whose logits are not known, and divisors
REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none")


class Loss(Configurable):
    """Base of losses. ``target_kind``: "index" for targets that are class numbers, "real" for numbers.

    A loss of your own defines ``call(y_true, y_pred)``, written with ``nnpy.ops``: the losses of rows, of shape
    (batch,) or (batch, steps) and so on. ``reduction`` makes a scalar of them and of the weights of samples:
    "sum_over_batch_size" or "mean": sum(weights * rows) / how many rows there are; "sum"; "mean_with_sample_weight":
    divided by the sum of the weights; "none" (or None): the rows as they are, which cannot be trained on. Rows that the
    loss ignores count nowhere. Over an epoch it is the mean of the batches' values by their samples.
    """

    group = "loss"
    target_kind = "real"
    weighs_labels = False  # whether a row's loss is the mean of those of its outputs, which ``of_labels`` gives
    of_batch = False  # whether ``call`` gives what the whole batch has together, in the place of the losses of rows
    reduction: str = "sum_over_batch_size"

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size"):
        self.name = name or snake(type(self).__name__)
        self.reduction = "none" if reduction is None else reduction
        if self.reduction not in REDUCTIONS:
            known = ", ".join(map(repr, REDUCTIONS))
            raise ValueError(f"{type(self).__name__}: expected reduction to be one of {known}, got {shown(reduction)}")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss of a batch by ``reduction``: of tensors a tensor, of arrays a number. ``sample_weight``: of the rows
        or of the samples. TypeError or ValueError for targets that do not fit the predictions."""
        given = [value for value in (y_true, y_pred, sample_weight) if value is not None]
        if any(isinstance(value, Tensor) for value in given):
            symbolic(self, *given)
            return self.reduced(self.call(y_true, y_pred), y_pred, sample_weight, self.valid(y_true))
        true, predicted = self.as_tensors(y_true, y_pred)
        weight = None if sample_weight is None else constant(real_array(sample_weight, "sample_weight", str(self)))
        found = evaluated(self.reduced(self.call(true, predicted), predicted, weight, self.valid(true)))
        return float(found) if found.ndim == 0 else found

    def rows(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of every row: of tensors a tensor, of arrays an array."""
        if isinstance(y_true, Tensor) or isinstance(y_pred, Tensor):
            symbolic(self, y_true, y_pred)
            return self.call(y_true, y_pred)
        return evaluated(self.call(*self.as_tensors(y_true, y_pred)))

    def as_tensors(self, y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor]:
        """Arrays, checked, as tensors that ``call`` takes."""
        predicted = real_array(y_pred, "y_pred", str(self))
        true = np.asarray(y_true)
        if self.target_kind == "real" and true.ndim == predicted.ndim + 1 and true.shape[-1] == 1:
            predicted = predicted[..., None]
        true = self.check_targets(true, predicted.shape, "y_true")
        if len(true) != len(predicted):
            raise ValueError(f"{self}: expected as many y_true as y_pred, {len(predicted)}, got {len(true)}")
        short = predicted.dtype.kind == "f" and predicted.dtype.itemsize < 8
        value = np.ascontiguousarray(predicted, np.float32 if short else np.float64)
        target = constant(true.astype(np.int32)) if self.target_kind == "index" else constant(true.astype(value.dtype))
        return target, Variable(value, "y_pred")

    def spread(self, values: Tensor, y_pred: Tensor) -> Tensor:
        """What ``call`` gives as the losses of rows: of what is of the whole batch each sample has the mean."""
        return ops.broadcast_to(ops.reshape(ops.mean(values), (1,)), y_pred.sizes[:1]) if self.of_batch else values

    def reduced(
        self, rows: Tensor, y_pred: Tensor, weight: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """What ``reduction`` makes of what ``call`` gives for a prediction, of the weights of rows (or of samples), and
        of which are ``valid``."""
        if weight is not None or valid is not None:
            rows = self.spread(rows, y_pred)
        if weight is not None:
            weight = like(weight, rows)
            rows = ops.multiply(rows, weight)
        if valid is not None:
            valid = ops.broadcast_to(like(ops.cast(valid, "real"), rows), rows.sizes)
            rows = ops.multiply(rows, valid)
        if self.reduction == "none" or rows.rank == 0:
            return rows
        if self.reduction == "sum":
            return ops.sum(rows)
        if self.reduction == "mean_with_sample_weight" and weight is not None:
            weight = ops.broadcast_to(weight, rows.sizes)
            total = ops.sum(weight if valid is None else ops.multiply(weight, valid))
            return ops.divide(ops.sum(rows), ops.where(ops.equal(total, 0.0), 1.0, total))
        if valid is None:
            return ops.mean(rows)
        return ops.divide(ops.sum(rows), ops.maximum(ops.sum(valid), 1.0))

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


class _PlainLoss(Loss):
    """A loss without arguments of its own, with Keras's order of those that all have."""

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = None):
        super().__init__(name, reduction)


class SumLoss(Loss):
    """Several losses of one output, times ``weights``: what a list of losses in the place of one means. ValueError for
    losses of other targets or of another reduction than the first, TypeError for what is no list of losses."""

    def __init__(self, losses: Sequence[Loss], weights: Sequence[float] | None = None, name: str | None = None):
        if not isinstance(losses, list | tuple) or not losses or not all(isinstance(loss, Loss) for loss in losses):
            raise TypeError(f"SumLoss: expected a list of losses, got {shown(losses)}")
        if weights is not None and not isinstance(weights, list | tuple):
            raise TypeError(f"SumLoss: expected weights to be a list of numbers, got {shown(weights)}")
        first = losses[0]
        super().__init__(name, first.reduction)
        self.losses, self.weights = list(losses), [1.0] * len(losses) if weights is None else list(weights)
        if len(self.weights) != len(self.losses):
            raise ValueError(f"SumLoss: expected {len(self.losses)} weights of {self}, got {len(self.weights)}")
        for loss in self.losses[1:]:
            if (loss.target_kind, loss.reduction) != (first.target_kind, first.reduction):
                raise ValueError(f"expected losses of one output to be of the same targets and reduction, got {self}")
        self.target_kind = first.target_kind

    def call(self, y_true, y_pred):
        rows = [loss.spread(loss.call(y_true, y_pred), y_pred) for loss in self.losses]
        finest = max(rows, key=lambda each: each.rank)  # what is of a sample counts in each of its pixels
        parts = [ops.multiply(like(each, finest), weight) for each, weight in zip(rows, self.weights, strict=True)]
        return functools.reduce(ops.add, parts)

    def target_shape(self, output_shape):
        return self.losses[0].target_shape(output_shape)

    def valid(self, y_true):
        return self.losses[0].valid(y_true)

    def check_targets(self, y, output_shape, name="y"):
        for loss in self.losses:
            y = loss.check_targets(y, output_shape, name)
        return y

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self.losses))}]"


class FunctionLoss(Loss):
    """A plain function of (y_true, y_pred), written with ``nnpy.ops``, as a loss. JSON cannot hold it."""

    made_by_name = False

    def __init__(self, function: Any, name: str | None = None):
        super().__init__(name or function_name(function))
        self.function = function

    def __str__(self):
        return self.name

    def call(self, y_true, y_pred):
        return self.function(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        raise TypeError(f"loss {self.name}: a function cannot be stored; derive a class from nnpy.losses.Loss")


def like(weight: Tensor, rows: Tensor) -> Tensor:
    """Weights of samples (or of steps...) with axes of 1 for what they do not name."""
    return ops.reshape(weight, (*weight.sizes, *[1] * (rows.rank - weight.rank)))


def at_least(x: Tensor, least: float) -> Tensor:
    """max(x, least), with no gradient where x is no more: one step of a kernel."""
    return ops.activation(x, "maximum_scalar", least)


def last(loss: Loss, axis: int, tensor: Tensor) -> Tensor:
    """The tensor with this axis as its last. ValueError for one that it does not have, or the batch, unless it has no
    other."""
    if axis in (-1, tensor.rank - 1):
        return tensor
    if not -tensor.rank < axis < tensor.rank or axis == 0:
        raise ValueError(f"{loss}: expected an axis of {tensor.shape}, and not the batch, got {axis}")
    return ops.moveaxis(tensor, axis, -1)


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


def is_function(value: Any) -> bool:
    """A plain function, a method, or one of these with some arguments given already."""
    return inspect.isfunction(value) or inspect.ismethod(value) or isinstance(value, functools.partial)


def function_name(function: Any) -> str:
    return function.func.__name__ if isinstance(function, functools.partial) else function.__name__


def refuse_function(what: str, base: type, value: Any, method: str) -> None:
    """TypeError, with what to do, for a plain function where an object of ``base`` is expected."""
    where = base.__module__.removesuffix(".base")
    if callable(value) and not isinstance(value, base | type):
        raise TypeError(
            f"expected {what} to be a name or a {base.__name__}, got {shown(value)}: a Python function cannot run "
            f"inside the compiled step; derive a class from {where}.{base.__name__} and write {method} with "
            "nnpy.ops"
        )


def refuse(y: np.ndarray, bad: np.ndarray | None, message: str) -> None:
    """ValueError with the first value of ``y`` that is bad, its row and column."""
    if bad is not None and bad.any():
        row, *place = np.unravel_index(int(np.argmax(bad)), bad.shape)
        raise ValueError(f"{message}, got {y[row, *place].item()} in row {int(row)}{column(bad.shape[1:], place)}")


def within_one(loss: Loss, y: np.ndarray, name: str) -> np.ndarray:
    """``y``. ValueError unless all of it is in [0, 1]."""
    refuse(y, (y < 0) | (y > 1), f"{loss}: expected {name} to be in [0, 1]")
    return y


def described(shape: tuple) -> str:
    """A shape as errors print it."""
    return (
        "(" + ", ".join("any" if size is None else str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
    )
