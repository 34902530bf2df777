"""Cross-entropies: binary, of probabilities of classes, of class numbers, and focal ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnpy import ops
from nnpy.checks import flag, integer, real
from nnpy.graph import Shape, Tensor
from nnpy.losses.base import EPSILON, Loss, at_least, described, last, real_array, refuse, within_one


class _Crossentropy(Loss):
    """``from_logits=False``: the model ends in a sigmoid or softmax; the loss is computed from what goes into it."""

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ):
        super().__init__(name, reduction)
        who = type(self).__name__
        self.from_logits = flag(who, "from_logits", from_logits)
        self.label_smoothing = real(who, "label_smoothing", label_smoothing, least=0, most=1)
        self.axis = integer(who, "axis", axis)


class BinaryCrossentropy(_Crossentropy):
    """-t * log(p) - (1 - t) * log(1 - p), the mean over a sample's outputs; targets in [0, 1].

    ``from_logits=False``: the model ends in a sigmoid; the loss is computed from what goes into it, which is stable.
    ``label_smoothing`` e moves targets to t * (1 - e) + e / 2. ``axis``: whose outputs the mean is of.

    >>> BinaryCrossentropy(from_logits=True)([[0.0, 1.0]], [[0.0, 1000.0]])  # log(2) / 2
    0.346573...
    """

    def call(self, y_true, y_pred):
        logits, targets = (last(self, self.axis, tensor) for tensor in (self.logits(y_pred), y_true))
        return ops.sigmoid_crossentropy(logits, targets, self.label_smoothing)

    @property
    def weighs_labels(self) -> bool:  # type: ignore[override]
        return self.axis == -1

    def of_labels(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of every output, (batch, ..., labels)."""
        return self.call(ops.expand_dims(y_true, -1), ops.expand_dims(y_pred, -1))

    def logits(self, y_pred: Tensor) -> Tensor:
        """What the sigmoid of is the prediction."""
        if self.from_logits:
            return y_pred
        behind = ops.losses.behind(y_pred, "sigmoid")
        if behind is not None:
            return behind
        return ops.subtract(_safe_log(y_pred), _safe_log(ops.affine(y_pred, -1.0, 1.0)))

    def check_targets(self, y, output_shape, name="y"):
        return within_one(self, super().check_targets(y, output_shape, name), name)


class CategoricalCrossentropy(_Crossentropy):
    """-sum(t * log(p)) over the classes; targets are probabilities of shape (n, classes), mostly one-hot.

    ``from_logits=False``: the model ends in a softmax; the loss is computed from what goes into it, which is stable.
    ``label_smoothing`` e moves targets to t * (1 - e) + e / classes (Szegedy et al., CVPR 2016). ``axis``: of the
    classes.

    >>> CategoricalCrossentropy()([[0.0, 1.0]], [[0.75, 0.25]])  # log(4)
    1.386294...
    """

    def call(self, y_true, y_pred):
        return ops.softmax_crossentropy(*self.classes(y_true, y_pred), self.label_smoothing)

    def classes(self, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
        """The logits and the targets, with the classes in their last axis."""
        _check_classes(self, y_pred.shape, self.axis)
        logits = categorical_logits(last(self, self.axis, y_pred), self.from_logits)
        return logits, last(self, self.axis, y_true)

    def check_targets(self, y, output_shape, name="y"):
        _check_classes(self, output_shape, self.axis)
        y = real_array(y, name, str(self))
        if y.ndim == len(output_shape) - 1 or y.shape[1:] == (*output_shape[1:-1], 1):
            raise ValueError(
                f"{self}: expected {name} of shape {described(('n', *output_shape[1:]))}, one-hot or probabilities, "
                f"got {y.shape}; for class numbers use SparseCategoricalCrossentropy"
            )
        return within_one(self, super().check_targets(y, output_shape, name), name)


class BinaryFocalCrossentropy(BinaryCrossentropy):
    """(1 - p_t)^gamma times the binary cross-entropy, the mean over a sample's outputs, where p_t = t p + (1 - t)
    (1 - p) is how much of the target is predicted: what is right already counts little (Lin et al., ICCV 2017).

    ``apply_class_balancing``: times ``alpha`` where t is 1 and 1 - ``alpha`` where it is 0. Else as
    ``BinaryCrossentropy``. ValueError unless 0 <= alpha <= 1 and gamma >= 0.

    >>> BinaryFocalCrossentropy(gamma=1.0)([[1.0]], [[0.75]])  # log(4 / 3) / 4
    0.071920...
    """

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ):
        super().__init__(from_logits, label_smoothing, axis, reduction, name)
        who = type(self).__name__
        self.apply_class_balancing = flag(who, "apply_class_balancing", apply_class_balancing)
        self.alpha = real(who, "alpha", alpha, least=0, most=1)
        self.gamma = real(who, "gamma", gamma, least=0)

    def call(self, y_true, y_pred):
        logits, target = (last(self, self.axis, tensor) for tensor in (self.logits(y_pred), y_true))
        if self.label_smoothing:
            target = ops.affine(target, 1.0 - self.label_smoothing, self.label_smoothing / 2)
        off = ops.subtract(1.0, target)
        missing, loss = (  # 1 - p_t, and the cross-entropy: no difference of what is nearly equal
            ops.add(ops.multiply(target, ops.activation(ops.negative(logits), kind)),
                    ops.multiply(off, ops.activation(logits, kind)))
            for kind in ("sigmoid", "softplus")
        )  # fmt: skip
        loss = ops.multiply(_power(missing, self.gamma), loss)
        if self.apply_class_balancing:
            loss = ops.multiply(loss, ops.affine(target, 2.0 * self.alpha - 1.0, 1.0 - self.alpha))
        return ops.mean(loss, -1)


class CategoricalFocalCrossentropy(CategoricalCrossentropy):
    """-sum(alpha t (1 - p)^gamma log(p)) over the classes: what is right already counts little (Lin et al., ICCV 2017).

    ``alpha``: a number, or one for each class. Else as ``CategoricalCrossentropy``. ValueError for one below 0, and for
    another number of them than classes; unless gamma >= 0.

    >>> CategoricalFocalCrossentropy(gamma=1.0)([[0.0, 1.0]], [[0.75, 0.25]])  # 0.25 * 0.75 * log(4)
    0.259930...
    """

    def __init__(
        self,
        alpha: float | Sequence[float] = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ):
        super().__init__(from_logits, label_smoothing, axis, reduction, name)
        who = type(self).__name__
        self.alpha: float | list[float]
        if isinstance(alpha, list | tuple | np.ndarray):
            self.alpha = [real(who, f"alpha[{place}]", each, least=0) for place, each in enumerate(alpha)]
        else:
            self.alpha = real(who, "alpha", alpha, least=0)
        self.gamma = real(who, "gamma", gamma, least=0)

    def call(self, y_true, y_pred):
        logits, target = self.classes(y_true, y_pred)
        classes = logits.shape[-1] or 0
        if isinstance(self.alpha, list) and len(self.alpha) != classes:
            raise ValueError(f"{self}: expected alpha of {classes} classes, got {len(self.alpha)}")
        if self.label_smoothing:
            target = ops.affine(target, 1.0 - self.label_smoothing, self.label_smoothing / classes)
        log = ops.log_softmax(logits)
        missing = ops.relu(ops.negative(ops.expm1(log)))  # 1 - p, exact where p is nearly 1
        loss = ops.multiply(ops.multiply(target, log), _power(missing, self.gamma))
        alpha = np.array(self.alpha) if isinstance(self.alpha, list) else self.alpha
        return ops.negative(ops.sum(ops.multiply(loss, alpha), -1))


class SparseCategoricalCrossentropy(Loss):
    """-log(p[y]): the cross-entropy with targets that are class numbers 0 ... classes - 1, of the output's shape
    without the classes, or with 1 in their place: (n,), (n, steps), (n, height, width).

    ``from_logits=False``: the model ends in a softmax; the loss is computed from what goes into it, which is stable.
    ``ignore_class``: rows of this label (it need not be a class: -1, say) count neither in the loss nor in its mean.
    ``axis``: of the classes.

    >>> SparseCategoricalCrossentropy()([1], [[0.75, 0.25]])  # log(4)
    1.386294...
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
    return ops.log(ops.maximum(p, EPSILON))


def _power(x: Tensor, exponent: float) -> Tensor:
    """x ** exponent for x >= 0, without the infinite slope that exponents below 1 have at 0."""
    return ops.power(at_least(x, 1e-30) if 0 < exponent < 1 else x, exponent)


def _check_classes(loss: Loss, output_shape: Shape, axis: int) -> None:
    rank = len(output_shape)
    known = rank > 1 and 1 - rank <= axis < rank and axis != 0
    if not known or output_shape[axis] is None or output_shape[axis] < 2:  # type: ignore[operator]
        where = "(batch, ..., classes)" if axis == -1 else f"(batch, ...) with the classes in axis {axis}"
        raise ValueError(f"{loss}: expected an output of shape {where}, 2 classes or more, got {output_shape}")
