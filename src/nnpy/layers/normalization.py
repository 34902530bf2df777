"""BatchNormalization, LayerNormalization, GroupNormalization, UnitNormalization."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from nnpy import constraints, initializers, ops, regularizers
from nnpy.checks import flag, integer, real
from nnpy.graph import Tensor
from nnpy.layers.base import Layer


class _Normalization(Layer):
    """What they share: gamma and beta over the axes of features, which come last while it works: views, so that layers
    in a row that do the same copy nothing."""

    supports_masking, needs_sizes = True, False
    axis: int | list[int]

    def _configure(
        self, axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer,
        beta_constraint, gamma_constraint,
    ):  # fmt: skip
        several = isinstance(axis, list | tuple)
        self.axis = [integer(self, "axis", one) for one in axis] if several else integer(self, "axis", axis)
        if self.axis in (0, []) or (isinstance(self.axis, list) and 0 in self.axis):
            raise ValueError(f"{self}: expected axis to be of features, not the batch, got {axis!r}")
        self.epsilon = real(self, "epsilon", epsilon, above=0)
        self.center = flag(self, "center", center)
        self.scale = flag(self, "scale", scale)
        self.beta_initializer = self.named(initializers.get, beta_initializer)
        self.gamma_initializer = self.named(initializers.get, gamma_initializer)
        self.beta_regularizer = self.named(regularizers.get, beta_regularizer)
        self.gamma_regularizer = self.named(regularizers.get, gamma_regularizer)
        self.beta_constraint = self.named(constraints.get, beta_constraint)
        self.gamma_constraint = self.named(constraints.get, gamma_constraint)
        self.gamma = self.beta = None

    def axes(self, rank: int) -> tuple[int, ...]:
        """Those of features, of an input of so many axes, in order."""
        given = self.axis if isinstance(self.axis, list) else [self.axis]
        found = sorted({axis % rank for axis in given if -rank < axis < rank and axis % rank})
        if len(found) < len(given):
            raise ValueError(f"{self}: expected different axes of an input of rank {rank}, not the batch, got {given}")
        return tuple(found)

    def features(self, input_shape: Any) -> tuple[int, ...]:
        """Sizes of the axes of features."""
        return tuple(input_shape[axis] for axis in self.axes(len(input_shape)))

    def check_input(self, input_shape):
        self.one_input(input_shape)
        if len(input_shape) < 2:
            raise ValueError(f"{self}: expected input of rank 2 or more (batch, ..., features), got {input_shape}")
        features = self.features(input_shape)
        if None in features:
            raise ValueError(f"{self}: expected known sizes of axis {self.axis}, got {input_shape}")
        weights = self.weights
        if self.built and weights and weights[0].shape != features:
            shown = features[0] if len(features) == 1 else features
            built = weights[0].shape[0] if len(features) == 1 else weights[0].shape
            raise ValueError(f"{self}: built for {built} features, got {shown} of {input_shape}")

    def build(self, input_shape):
        shape = self.features(input_shape)
        if self.scale:
            self.gamma = self.add_weight(
                shape, self.gamma_initializer, "gamma", regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
            )  # fmt: skip
        if self.center:
            self.beta = self.add_weight(
                shape, self.beta_initializer, "beta", regularizer=self.beta_regularizer, constraint=self.beta_constraint
            )

    def _last(self, inputs: Tensor) -> Tensor:
        """The input with its features as one last axis."""
        axes = self.axes(inputs.rank)
        if axes == (inputs.rank - 1,):
            return inputs
        others = [axis for axis in range(inputs.rank) if axis not in axes]
        turned = ops.transpose(inputs, [*others, *axes])
        return ops.reshape(turned, (*turned.sizes[: len(others)], prod(self.features(inputs.shape))))

    def _back(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """What ``_last`` gave, in the shape of the input."""
        axes = self.axes(inputs.rank)
        if axes == (inputs.rank - 1,):
            return outputs
        order = [*(axis for axis in range(inputs.rank) if axis not in axes), *axes]
        wide = ops.reshape(outputs, [inputs.sizes[axis] for axis in order])
        return ops.transpose(wide, [order.index(axis) for axis in range(inputs.rank)])

    def _flat(self) -> tuple[Any, Any]:
        """gamma and beta of the one last axis."""
        gamma, beta = (
            w if w is None or len(w.shape) == 1 else ops.reshape(w, (prod(w.shape),)) for w in (self.gamma, self.beta)
        )
        return gamma, beta


class BatchNormalization(_Normalization):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta for each feature of ``axis``; any rank from 2 up.

    Training uses the batch's mean and biased variance and moves the running ones inside the compiled step (``moving =
    momentum * moving + (1 - momentum) * batch``); inference uses the running ones, folded into the layer before. One
    sample without other axes, as a last batch of one, has no spread: it becomes beta, and moves the variance to 0.
    Ioffe and Szegedy, 2015. A layer that is not ``trainable`` normalizes as in inference and changes nothing, as in
    Keras. ``training``, where it is called: as in training, or as in inference, whatever the Program does.
    """

    follows_program = True

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        *,
        name: str | None = None,
        trainable: bool = True,
    ):
        super().__init__(name=name, trainable=trainable)
        self._configure(
            axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer,
            beta_constraint, gamma_constraint,
        )  # fmt: skip
        self.momentum = real(self, "momentum", momentum, least=0, most=1)
        self.moving_mean_initializer = self.named(initializers.get, moving_mean_initializer)
        self.moving_variance_initializer = self.named(initializers.get, moving_variance_initializer)

        if isinstance(self.axis, list):
            raise TypeError(f"{self}: expected axis to be an integer, got {axis!r}")

    def build(self, input_shape):
        super().build(input_shape)
        shape = self.features(input_shape)
        self.moving_mean = self.add_weight(shape, self.moving_mean_initializer, "moving_mean", trainable=False)
        self.moving_variance = self.add_weight(
            shape, self.moving_variance_initializer, "moving_variance", trainable=False
        )

    def call(self, inputs, training=None):
        y = ops.batch_norm(
            self._last(inputs), self.moving_mean, self.moving_variance, self.gamma, self.beta, epsilon=self.epsilon,
            momentum=self.momentum, frozen=lambda: training is False or not self.trainable, always=training is True,
        )  # fmt: skip
        return self._back(y, inputs)


class LayerNormalization(_Normalization):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta with the mean and biased variance of each sample's ``axis``,
    one or several, whose sizes gamma and beta have (Ba, Kiros and Hinton, 2016); any rank from 2 up, the same while
    training and in inference."""

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        *,
        name: str | None = None,
        trainable: bool = True,
    ):
        super().__init__(name=name, trainable=trainable)
        self._configure(
            axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer,
            beta_constraint, gamma_constraint,
        )  # fmt: skip

    def call(self, inputs):
        gamma, beta = self._flat()
        return self._back(ops.layer_norm(self._last(inputs), gamma, beta, epsilon=self.epsilon), inputs)


class GroupNormalization(_Normalization):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta with the mean and biased variance of each sample's
    ``groups`` of neighbouring channels, over all pixels (Wu and He, ECCV 2018); any rank from 2 up, the same while
    training and in inference, for any batch size. ``axis``: of the channels. ``groups=-1``: each channel by itself
    (instance normalization). ValueError if ``groups`` does not divide the channels."""

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        *,
        name: str | None = None,
        trainable: bool = True,
    ):
        super().__init__(name=name, trainable=trainable)
        self._configure(
            axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer,
            beta_constraint, gamma_constraint,
        )  # fmt: skip
        if isinstance(self.axis, list):
            raise TypeError(f"{self}: expected axis to be an integer, got {axis!r}")
        self.groups = -1 if groups == -1 else integer(self, "groups", groups, least=1)

    def check_input(self, input_shape):
        super().check_input(input_shape)
        if self.groups > 0 and self.features(input_shape)[0] % self.groups:
            raise ValueError(f"{self}: expected channels that groups ({self.groups}) divides, got {input_shape}")

    def call(self, inputs):
        given = self._last(inputs)
        groups = self.features(inputs.shape)[0] if self.groups == -1 else self.groups
        return self._back(ops.group_norm(given, groups, self.gamma, self.beta, epsilon=self.epsilon), inputs)


class UnitNormalization(Layer):
    """x / |x|, the norm over an axis or several (the batch is axis 0): samples, or their parts, of length 1. What is
    shorter than 1e-12 is divided by that. Any shape.

    Raises TypeError for what is no axis, ValueError for axes that the input does not have.

    >>> model = nn.Sequential([nn.Input((2,)), nn.UnitNormalization()])
    >>> model.predict(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """

    supports_masking, needs_sizes = True, False

    def __init__(self, axis: int | Sequence[int] = -1, *, name: str | None = None):
        super().__init__(name=name)
        several: Any = axis if isinstance(axis, list | tuple) else None
        one = several is None
        self.axis: Any = integer(self, "axis", axis) if one else [integer(self, "axis", each) for each in several]

    def check_input(self, input_shape):
        self.one_input(input_shape)
        rank, axes = len(input_shape), self.axis if isinstance(self.axis, list) else [self.axis]
        if not axes or len({axis % rank for axis in axes}) < len(axes) or not all(-rank <= a < rank for a in axes):
            raise ValueError(f"{self}: expected different axes of an input of rank {rank}, got {self.axis}")

    def call(self, inputs):
        squares = ops.sum(ops.square(inputs), self.axis, keepdims=True)
        return ops.divide(inputs, ops.sqrt(ops.maximum(squares, 1e-24)))
