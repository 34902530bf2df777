"""Dense, Activation, Dropout."""

from __future__ import annotations

from typing import Any

from nnpy import activations, initializers, ops, regularizers
from nnpy.checks import flag, integer, real
from nnpy.graph import Parameter
from nnpy.layers.base import Layer


class Dense(Layer):
    """activation(x @ kernel + bias) on the last axis: (batch, ..., features) -> (batch, ..., units).

    ``kernel_initializer="auto"`` (ours) takes He normal for the ReLU family, Lecun normal for selu and Glorot uniform
    for the rest. Raises ValueError for an input of rank below 2, or of other features than it was built for.
    """

    supports_masking, needs_sizes = True, False

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "auto",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        *,
        name: str | None = None,
        trainable: bool = True,
    ):
        super().__init__(name=name, trainable=trainable)
        self.units = integer(str(self), "units", units, least=1)
        self.activation = self.named(activations.get, activation)
        self.use_bias = flag(str(self), "use_bias", use_bias)
        self.kernel_initializer = self.named(initializers.get, kernel_initializer)
        self.bias_initializer = self.named(initializers.get, bias_initializer)
        self.kernel_regularizer = self.named(regularizers.get, kernel_regularizer)
        self.bias_regularizer = self.named(regularizers.get, bias_regularizer)
        self.bias: Parameter | None = None

    def check_input(self, input_shape):
        self.one_input(input_shape)
        if len(input_shape) < 2:
            raise ValueError(f"{self}: expected input of rank 2 or more (batch, ..., features), got {input_shape}")
        if input_shape[-1] is None:
            raise ValueError(f"{self}: expected a known number of features, the last size, got {input_shape}")
        if self.built and input_shape[-1] != self.kernel.shape[0]:
            raise ValueError(f"{self}: built for {self.kernel.shape[0]} features, got {input_shape}")

    def build(self, input_shape):
        initializer = self.kernel_initializer
        if isinstance(initializer, initializers.Auto):
            initializer = initializer.suited(self.activation.name)
        shape = (input_shape[-1], self.units)
        self.kernel = self.add_weight(shape, initializer, "kernel", regularizer=self.kernel_regularizer)
        if self.use_bias:
            self.bias = self.add_weight(shape[1:], self.bias_initializer, "bias", regularizer=self.bias_regularizer)

    def call(self, inputs):
        y = ops.matmul(inputs, self.kernel)
        if self.bias is not None:
            y = ops.add(y, self.bias)
        return self.activation(y)


class Activation(Layer):
    """An activation function as a layer: a name, one of ``nnpy.activations``, or a custom one. Any shape."""

    supports_masking, needs_sizes = True, False

    def __init__(self, activation: Any, *, name: str | None = None):
        super().__init__(name=name)
        self.activation = self.named(activations.get, activation)

    def check_input(self, input_shape):
        self.one_input(input_shape)

    def call(self, inputs):
        return self.activation(inputs)


class Dropout(Layer):
    """While training, zeroes each element with probability ``rate`` and divides the others by 1 - rate (Srivastava et
    al., JMLR 2014); at other times gives its input. Any shape. Called with ``training=True`` it does so at all times.
    ValueError unless 0 <= rate < 1."""

    supports_masking, follows_program, needs_sizes = True, True, False

    def __init__(self, rate: float, *, name: str | None = None):
        super().__init__(name=name)
        self.rate = real(str(self), "rate", rate, least=0, below=1)

    def check_input(self, input_shape):
        self.one_input(input_shape)

    def call(self, inputs, training=None):
        return inputs if training is False else ops.dropout(inputs, self.rate, always=training is True)
