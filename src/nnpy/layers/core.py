"""Dense, Activation, Dropout, Identity, Lambda."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nnpy import activations, constraints, initializers, ops, regularizers, seeds
from nnpy.checks import flag, integer, open_shape, real, shown
from nnpy.graph import Parameter, Tensor
from nnpy.layers.base import Layer


class Dense(Layer):
    """activation(x @ kernel + bias) on the last axis: (batch, ..., features) -> (batch, ..., units).

    ``kernel_initializer="auto"`` (ours) takes Lecun normal for selu, He normal for the ReLU family behind four layers
    with kernels or more, and Glorot uniform for the rest (``initializers.Auto``). Raises ValueError for an
    input of rank below 2, or of other features than it was built for.
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
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        name: str | None = None,
        trainable: bool = True,
    ):
        super().__init__(name=name, trainable=trainable, activity_regularizer=activity_regularizer)
        self.units = integer(self, "units", units, least=1)
        self.activation = self.named(activations.get, activation)
        self.use_bias = flag(self, "use_bias", use_bias)
        self.kernel_initializer = self.named(initializers.get, kernel_initializer)
        self.bias_initializer = self.named(initializers.get, bias_initializer)
        self.kernel_regularizer = self.named(regularizers.get, kernel_regularizer)
        self.bias_regularizer = self.named(regularizers.get, bias_regularizer)
        self.kernel_constraint = self.named(constraints.get, kernel_constraint)
        self.bias_constraint = self.named(constraints.get, bias_constraint)
        self.bias: Parameter | None = None

    def check_input(self, input_shape):
        self.one_input(input_shape)
        if len(input_shape) < 2:
            advice = "; of numbers, one a sample, make x[:, None]" if len(input_shape) == 1 else ""
            raise ValueError(
                f"{self}: expected input of rank 2 or more (batch, ..., features), got {input_shape}{advice}"
            )
        if input_shape[-1] is None:
            raise ValueError(f"{self}: expected a known number of features, the last size, got {input_shape}")
        if self.built and input_shape[-1] != self.kernel.shape[0]:
            raise ValueError(f"{self}: built for {self.kernel.shape[0]} features, got {input_shape}")

    def build(self, input_shape):
        initializer = self.kernel_initializer
        if isinstance(initializer, initializers.Auto):
            behind = self.kernels_behind(initializers.SHALLOW)
            initializer = initializer.suited(self.activation.name, behind)
        shape = (input_shape[-1], self.units)
        self.kernel = self.add_weight(
            shape, initializer, "kernel", regularizer=self.kernel_regularizer, constraint=self.kernel_constraint
        )
        if self.use_bias:
            self.bias = self.add_weight(
                shape[1:], self.bias_initializer, "bias", regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )  # fmt: skip

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

    ``noise_shape``: of what is drawn, the batch first (None: as the input has it); along sizes of 1 all share one fate:
    (None, 1, None) drops whole features of (batch, steps, features). ``seed``: its random numbers are these whatever
    other layers draw; None: those of the model. ValueError unless 0 <= rate < 1, or for a ``noise_shape`` that does not
    broadcast to the input.
    """

    supports_masking, follows_program, needs_sizes = True, True, False

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        *,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.rate = real(self, "rate", rate, least=0, below=1)
        self.noise_shape = None if noise_shape is None else open_shape(self, "noise_shape", noise_shape)
        self.seed = None if seed is None else seeds.checked(str(self), seed)

    def check_input(self, input_shape):
        self.one_input(input_shape)
        noise = self.noise_shape
        if noise is not None and (
            len(noise) != len(input_shape)
            or any(n not in (None, 1, size) for n, size in zip(noise, input_shape, strict=True))
        ):
            raise ValueError(f"{self}: expected noise_shape to broadcast to input {input_shape}, got {noise}")

    def call(self, inputs, training=None):
        if training is False:
            return inputs
        always = training is True
        if self.noise_shape is None or all(n != 1 for n in self.noise_shape):
            return ops.dropout(inputs, self.rate, always=always, seed=self.seed)
        sizes = [size if n is None else n for n, size in zip(self.noise_shape, inputs.sizes, strict=True)]
        kept = ops.dropout(ops.full(sizes, 1.0), self.rate, always=always, seed=self.seed)
        return ops.multiply(inputs, kept)


class Identity(Layer):
    """Gives what it is given: a tensor of any shape, or a list or dict of them."""

    supports_masking, needs_sizes = True, False

    def __init__(self, *, name: str | None = None):
        super().__init__(name=name)

    def call(self, inputs):
        return inputs


class Lambda(Layer):
    """A function of tensors, written with ``nnpy.ops``, as a layer: traced once, it runs in the compiled step.

    ``arguments``: a dict of its other arguments. Parameters ``mask`` and ``training`` of the function are given what
    ``Layer.call`` is. ``mask``: what the output's mask is: a tensor, or a function of (inputs, mask). ``output_shape``
    (without the batch): ValueError if the result has another; it need not be given. A function cannot be stored in a
    file: derive a Layer to ``save`` it. TypeError for what is no function.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        output_shape: Sequence[int | None] | None = None,
        mask: Any = None,
        arguments: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if not callable(function):
            raise TypeError(f"{self}: expected a function of tensors, got {shown(function)}")
        if not isinstance(arguments, Mapping | None):
            raise TypeError(f"{self}: expected arguments to be a dict of names and values, got {shown(arguments)}")
        self.function, self.arguments, self.mask = function, dict(arguments or {}), mask
        self.output_shape = None if output_shape is None else open_shape(self, "output_shape", output_shape)
        self.supports_masking = mask is not None

    def call(self, inputs, mask=None, training=None):
        given = {"mask": mask, "training": training}
        try:
            names = inspect.signature(self.function).parameters
        except (TypeError, ValueError):  # written in C
            names = {}  # type: ignore[assignment]
        passed = {name: value for name, value in given.items() if name in names and name not in self.arguments}
        result = self.function(inputs, **self.arguments, **passed)
        if self.output_shape is not None and isinstance(result, Tensor) and result.shape[1:] != self.output_shape:
            raise ValueError(f"{self}: expected samples of {self.output_shape}, its function gives {result.shape[1:]}")
        return result

    def compute_mask(self, inputs, previous_mask):
        return self.mask(inputs, previous_mask) if callable(self.mask) else self.mask

    def get_config(self):
        raise TypeError(f"a function cannot be stored; derive a class from nnpy.Layer with its call ({self.function})")


class ActivityRegularization(Identity):
    """Gives what it is given, and adds l1 * sum(|x|) + l2 * sum(x^2), the mean over the batch, to the loss. ValueError
    for numbers below 0."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0, *, name: str | None = None):
        super().__init__(name=name)
        penalty = self.named(lambda factors: regularizers.L1L2(*factors), (l1, l2))
        self.l1, self.l2, self.activity_regularizer = penalty.l1, penalty.l2, penalty
