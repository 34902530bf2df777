"""Activations as layers: ReLU, LeakyReLU, PReLU, ELU, Softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnpy import activations, constraints, initializers, ops, regularizers
from nnpy.checks import integer, real, shown
from nnpy.layers.base import Layer


class _OfEach(Layer):
    """One tensor of any shape, element by element."""

    supports_masking, needs_sizes = True, False

    def check_input(self, input_shape):
        self.one_input(input_shape)


class ReLU(_OfEach):
    """x where x >= ``threshold``, at most ``max_value`` (None: any), and negative_slope * (x - threshold) below. Any
    shape. ValueError for one below 0."""

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        *,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.max_value = None if max_value is None else real(self, "max_value", max_value, least=0)
        self.negative_slope = real(self, "negative_slope", negative_slope, least=0)
        self.threshold = real(self, "threshold", threshold, least=0)

    def call(self, inputs):
        if not self.threshold and self.max_value is None:
            return activations.leaky_relu(negative_slope=self.negative_slope)(inputs) if self.negative_slope else (
                activations.relu(inputs)
            )  # fmt: skip
        above = inputs if self.max_value is None else ops.minimum(inputs, self.max_value)
        below = ops.affine(inputs, self.negative_slope, -self.negative_slope * self.threshold)
        return ops.where(ops.greater_equal(inputs, self.threshold), above, below)


class LeakyReLU(_OfEach):
    """x where x > 0, negative_slope * x elsewhere (Maas et al., 2013). Any shape. ValueError if ``negative_slope`` is
    below 0."""

    def __init__(self, negative_slope: float = 0.3, *, name: str | None = None):
        super().__init__(name=name)
        self.negative_slope = real(self, "negative_slope", negative_slope, least=0)

    def call(self, inputs):
        return activations.leaky_relu(negative_slope=self.negative_slope)(inputs)


class ELU(_OfEach):
    """x where x > 0, alpha * (exp(x) - 1) elsewhere (Clevert et al., ICLR 2016). Any shape. ValueError if ``alpha`` is
    below 0."""

    def __init__(self, alpha: float = 1.0, *, name: str | None = None):
        super().__init__(name=name)
        self.alpha = real(self, "alpha", alpha, least=0)

    def call(self, inputs):
        return activations.elu(alpha=self.alpha)(inputs)


class PReLU(_OfEach):
    """x where x > 0, alpha * x elsewhere, with weights ``alpha`` of the shape of a sample; along ``shared_axes`` (axes
    of the input, from 1) one for all (He et al., ICCV 2015). ValueError for another shape than it was built for, or an
    axis that there is none of."""

    def __init__(
        self,
        alpha_initializer: Any = "zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: int | Sequence[int] | None = None,
        *,
        name: str | None = None,
        trainable: bool = True,
    ):
        super().__init__(name=name, trainable=trainable)
        self.alpha_initializer = self.named(initializers.get, alpha_initializer)
        self.alpha_regularizer = self.named(regularizers.get, alpha_regularizer)
        self.alpha_constraint = self.named(constraints.get, alpha_constraint)
        axes = [] if shared_axes is None else shared_axes if isinstance(shared_axes, list | tuple) else [shared_axes]
        self.shared_axes = [integer(self, "shared_axes", axis, least=1) for axis in axes] or None

    def check_input(self, input_shape):
        super().check_input(input_shape)
        shape = self._shape(input_shape)
        if None in shape:
            raise ValueError(f"{self}: expected known sizes but along shared_axes, got {input_shape}")
        if self.built and self.alpha.shape != shape:
            raise ValueError(f"{self}: built for samples of {self.alpha.shape}, got {input_shape}")

    def _shape(self, input_shape: Any) -> tuple[Any, ...]:
        if max(self.shared_axes or [0]) >= len(input_shape):
            raise ValueError(f"{self}: expected shared_axes below {len(input_shape)}, got {self.shared_axes}")
        return tuple(
            1 if axis in (self.shared_axes or ()) else size for axis, size in enumerate(input_shape[1:], start=1)
        )

    def build(self, input_shape):
        shape = self._shape(input_shape)
        self.alpha = self.add_weight(
            shape, self.alpha_initializer, "alpha", regularizer=self.alpha_regularizer, constraint=self.alpha_constraint
        )

    def call(self, inputs):
        return ops.add(ops.relu(inputs), ops.multiply(ops.minimum(inputs, 0.0), self.alpha))


class Softmax(_OfEach):
    """exp(x) / sum(exp(x)) over ``axis``, or several axes. ``mask``, where it is called: truth values of a shape that
    broadcasts to x's; what they are False for counts nowhere and gets 0. ValueError for an axis that there is none of,
    or the batch."""

    def __init__(self, axis: int | Sequence[int] = -1, *, name: str | None = None):
        super().__init__(name=name)
        if isinstance(axis, list | tuple):
            if not axis:
                raise ValueError(f"{self}: expected at least one axis, got {shown(axis)}")
            self.axis: int | list[int] = [integer(self, "axis", one) for one in axis]
        else:
            self.axis = integer(self, "axis", axis)

    def check_input(self, input_shape):
        super().check_input(input_shape)
        rank = len(input_shape)
        for axis in self.axis if isinstance(self.axis, list) else [self.axis]:
            if not -rank < axis < rank or axis == 0:
                raise ValueError(f"{self}: expected an axis of {input_shape}, and not the batch, got {axis}")

    def call(self, inputs, mask=None):
        shown_ = mask is not None and mask.rank == inputs.rank  # else it is of steps, each of which is whole
        y = ops.where(mask, inputs, _VERY_LITTLE) if shown_ else inputs
        if isinstance(self.axis, list) and len(self.axis) > 1:
            y = ops.exp(ops.subtract(y, ops.logsumexp(y, self.axis, keepdims=True)))
        else:
            y = ops.softmax(y, self.axis[0] if isinstance(self.axis, list) else self.axis)
        return ops.where(mask, y, 0.0) if shown_ else y


_VERY_LITTLE = -1e9  # as Keras has it: what is masked everywhere stays finite
