"""BatchNormalization, LayerNormalization, GroupNormalization."""

from __future__ import annotations

from typing import Any

from nnpy import initializers, ops, regularizers
from nnpy.checks import flag, integer, real
from nnpy.layers.base import Layer


class _Normalization(Layer):
    """What they share: gamma and beta over the last axis."""

    supports_masking, needs_sizes = True, False

    def _configure(
        self, axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer
    ):
        self.axis = integer(str(self), "axis", axis)
        if self.axis < -1 or self.axis == 0:
            raise ValueError(f"{self}: expected axis -1, or the last one's number (features are last), got {axis!r}")
        self.epsilon = real(str(self), "epsilon", epsilon, above=0)
        self.center = flag(str(self), "center", center)
        self.scale = flag(str(self), "scale", scale)
        self.beta_initializer = self.named(initializers.get, beta_initializer)
        self.gamma_initializer = self.named(initializers.get, gamma_initializer)
        self.beta_regularizer = self.named(regularizers.get, beta_regularizer)
        self.gamma_regularizer = self.named(regularizers.get, gamma_regularizer)
        self.gamma = self.beta = None

    def check_input(self, input_shape):
        self.one_input(input_shape)
        if len(input_shape) < 2:
            raise ValueError(f"{self}: expected input of rank 2 or more (batch, ..., features), got {input_shape}")
        if self.axis not in (-1, len(input_shape) - 1):
            raise ValueError(
                f"{self}: expected axis -1 or {len(input_shape) - 1} (features are last) for input {input_shape}, "
                f"got {self.axis}"
            )
        weights = self.weights
        if self.built and weights and weights[0].shape != tuple(input_shape[-1:]):
            raise ValueError(f"{self}: built for {weights[0].shape[0]} features, got {input_shape}")

    def build(self, input_shape):
        shape = (input_shape[-1],)
        if self.scale:
            self.gamma = self.add_weight(shape, self.gamma_initializer, "gamma", regularizer=self.gamma_regularizer)
        if self.center:
            self.beta = self.add_weight(shape, self.beta_initializer, "beta", regularizer=self.beta_regularizer)


class BatchNormalization(_Normalization):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta for each feature of the last axis; any rank from 2 up.

    Training uses the batch's mean and biased variance and moves the running ones inside the compiled step (``moving =
    momentum * moving + (1 - momentum) * batch``); inference uses the running ones, folded into the layer before.
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
        *,
        name: str | None = None,
        trainable: bool = True,
    ):
        super().__init__(name=name, trainable=trainable)
        self._configure(
            axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer
        )  # fmt: skip
        self.momentum = real(str(self), "momentum", momentum, least=0, most=1)
        self.moving_mean_initializer = self.named(initializers.get, moving_mean_initializer)
        self.moving_variance_initializer = self.named(initializers.get, moving_variance_initializer)

    def build(self, input_shape):
        super().build(input_shape)
        shape = (input_shape[-1],)
        self.moving_mean = self.add_weight(shape, self.moving_mean_initializer, "moving_mean", trainable=False)
        self.moving_variance = self.add_weight(
            shape, self.moving_variance_initializer, "moving_variance", trainable=False
        )

    def call(self, inputs, training=None):
        return ops.batch_norm(
            inputs, self.moving_mean, self.moving_variance, self.gamma, self.beta, epsilon=self.epsilon,
            momentum=self.momentum, frozen=lambda: training is False or not self.trainable, always=training is True,
        )  # fmt: skip


class LayerNormalization(_Normalization):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta with the mean and biased variance of each sample's last axis
    (Ba, Kiros and Hinton, 2016); any rank from 2 up, the same while training and in inference."""

    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        *,
        name: str | None = None,
        trainable: bool = True,
    ):
        super().__init__(name=name, trainable=trainable)
        self._configure(
            axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer
        )  # fmt: skip

    def call(self, inputs):
        return ops.layer_norm(inputs, self.gamma, self.beta, epsilon=self.epsilon)


class GroupNormalization(_Normalization):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta with the mean and biased variance of each sample's
    ``groups`` of neighbouring channels, over all pixels (Wu and He, ECCV 2018); any rank from 2 up, the same while
    training and in inference, for any batch size. ``groups=-1``: each channel by itself (instance normalization).
    ValueError if ``groups`` does not divide the channels."""

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
        *,
        name: str | None = None,
        trainable: bool = True,
    ):
        super().__init__(name=name, trainable=trainable)
        self._configure(
            axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer
        )  # fmt: skip
        self.groups = -1 if groups == -1 else integer(str(self), "groups", groups, least=1)

    def check_input(self, input_shape):
        super().check_input(input_shape)
        if self.groups > 0 and input_shape[-1] % self.groups:
            raise ValueError(f"{self}: expected channels that groups ({self.groups}) divides, got {input_shape}")

    def call(self, inputs):
        groups = inputs.shape[-1] if self.groups == -1 else self.groups
        return ops.group_norm(inputs, groups, self.gamma, self.beta, epsilon=self.epsilon)
