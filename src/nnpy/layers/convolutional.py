"""Conv1D, Conv2D, Conv2DTranspose, DepthwiseConv2D, SeparableConv2D."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnpy import activations, constraints, initializers, ops, regularizers
from nnpy.checks import flag, integer
from nnpy.graph import Parameter, Tensor
from nnpy.layers.windows import ImageLayer, format_name, padding_name, sizes, window_on
from nnpy.ops.geometry import Window


class _Convolution(ImageLayer):
    """What convolutions share: the window, the bias and the activation."""

    paddings: tuple[str, ...] = ("valid", "same")

    def _window(self, kernel_size: Any, strides: Any, padding: Any, data_format: Any, dilation_rate: Any) -> None:
        self.kernel_size = sizes(self, "kernel_size", kernel_size, self.rank)
        self.strides = sizes(self, "strides", strides, self.rank)
        self.padding = padding_name(self, padding, self.paddings)
        self.data_format = format_name(self, data_format)
        self.dilation_rate = sizes(self, "dilation_rate", dilation_rate, self.rank)

    def _ending(
        self, activation: Any, use_bias: Any, bias_initializer: Any, bias_regularizer: Any, bias_constraint: Any
    ) -> None:
        self.activation = self.named(activations.get, activation)
        self.use_bias = flag(self, "use_bias", use_bias)
        self.bias_initializer = self.named(initializers.get, bias_initializer)
        self.bias_regularizer = self.named(regularizers.get, bias_regularizer)
        self.bias_constraint = self.named(constraints.get, bias_constraint)
        self.bias: Parameter | None = None

    def _kernel(
        self, shape: tuple[int, ...], initializer: Any, name: str, regularizer: Any, constraint: Any,
        arranged: Any = None,
    ) -> Parameter:  # fmt: skip
        """``arranged``: draws for "auto" where the last axes of ``shape`` are not channels in and channels out."""
        if isinstance(initializer, initializers.Auto):
            behind = self.kernels_behind(initializers.SHALLOW)
            initializer = arranged or initializer.suited(self.activation.name, behind)
        return self.add_weight(shape, initializer, name, regularizer=regularizer, constraint=constraint)

    def _add_bias(self, channels: int) -> None:
        if self.use_bias:
            self.bias = self.add_weight(
                (channels,), self.bias_initializer, "bias", regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )  # fmt: skip

    def check_image(self, input_shape):
        if self.built and input_shape[-1] != self.channels:
            raise ValueError(f"{self}: built for {self.channels} channels, got {input_shape}")
        self.check_window(input_shape)

    def check_window(self, input_shape: Any) -> None:
        """ValueError if not one window fits."""
        self._fits(self.window(input_shape), self._image(input_shape))

    def make(self, input_shape):
        self.channels = self.known_channels(input_shape)

    def window(self, input_shape: Any, groups: int = 1) -> Window:
        """How windows lie on inputs of this shape."""
        return window_on(
            self._image(input_shape), self._pair(self.kernel_size), self._pair(self.strides), self.padding,
            self._pair(self.dilation_rate), groups,
        )  # fmt: skip

    def end(self, image: Tensor) -> Tensor:
        """Bias and activation."""
        y = image if self.bias is None else ops.add(image, self.bias)
        return self.activation(self.as_given(y))


class Conv2D(_Convolution):
    """activation(x convolved with kernel + bias): (batch, height, width, channels) -> (batch, rows, columns, filters).

    ``kernel_size``, ``strides``, ``dilation_rate``: a number, or (height, width). ``padding``: "valid" (windows inside
    the image) or "same" (as many results as pixels, or every ``strides``-th). ``groups``: channels and filters are cut
    in so many parts that do not mix. ``kernel``: (height, width, channels / groups, filters).
    ``kernel_initializer="auto"`` (ours): see ``initializers.Auto``. Raises ValueError for inputs of another
    rank, other channels than it was built for, or smaller than the window. LeCun et al., 1989.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        groups: int = 1,
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
        self.filters = integer(self, "filters", filters, least=1)
        self._window(kernel_size, strides, padding, data_format, dilation_rate)
        self.groups = integer(self, "groups", groups, least=1)
        if self.filters % self.groups:
            raise ValueError(f"{self}: expected groups to divide the filters ({self.filters}), got {self.groups}")
        self._ending(activation, use_bias, bias_initializer, bias_regularizer, bias_constraint)
        self.kernel_initializer = self.named(initializers.get, kernel_initializer)
        self.kernel_regularizer = self.named(regularizers.get, kernel_regularizer)
        self.kernel_constraint = self.named(constraints.get, kernel_constraint)

    def check_image(self, input_shape):
        super().check_image(input_shape)
        if input_shape[-1] % self.groups:
            raise ValueError(f"{self}: expected channels that groups ({self.groups}) divides, got {input_shape}")

    def make(self, input_shape):
        super().make(input_shape)
        shape = (*self.kernel_size, self.channels // self.groups, self.filters)
        self.kernel = self._kernel(
            shape, self.kernel_initializer, "kernel", self.kernel_regularizer, self.kernel_constraint
        )
        self._add_bias(self.filters)

    def apply(self, inputs):
        kernel: Tensor = self.kernel
        if self.rank == 1:  # that of an image of one row
            kernel = ops.expand_dims(kernel, 0)
        return self.end(ops.conv(self.as_image(inputs), kernel, self.window(inputs.shape, self.groups)))


class Conv1D(Conv2D):
    """Conv2D for sequences: (batch, steps, channels) -> (batch, places, filters), kernel (size, channels / groups,
    filters).

    ``padding`` may also be "causal": a result sees nothing that comes after it (van den Oord et al., 2016).
    """

    rank = 1
    paddings = ("valid", "same", "causal")


class Conv2DTranspose(_Convolution):
    """The transposed convolution, which enlarges: what the gradient of a Conv2D by its input is (Zeiler et al., 2010).

    (batch, height, width, channels) -> (batch, rows, columns, filters); kernel (height, width, filters, channels).
    rows: height * strides with padding "same", else height * strides + max(size - strides, 0); ``output_padding`` (a
    number or a pair, below ``strides``) says it otherwise: (height - 1) * strides + size - 2 * (size // 2, or 0) +
    output_padding. Arguments and errors else as Conv2D.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = 1,
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
        self.filters = integer(self, "filters", filters, least=1)
        self._window(kernel_size, strides, padding, data_format, dilation_rate)
        self.output_padding = None
        if output_padding is not None:
            self.output_padding = sizes(self, "output_padding", output_padding, 2, 0)
            if any(n >= s for n, s in zip(self.output_padding, self.strides, strict=True)):
                below = f"output_padding below strides {self.strides}"
                raise ValueError(f"{self}: expected {below}, got {output_padding!r}")
        self._ending(activation, use_bias, bias_initializer, bias_regularizer, bias_constraint)
        self.kernel_initializer = self.named(initializers.get, kernel_initializer)
        self.kernel_regularizer = self.named(regularizers.get, kernel_regularizer)
        self.kernel_constraint = self.named(constraints.get, kernel_constraint)

    def _fits(self, window, image):
        """Any image is enlarged."""

    def make(self, input_shape):
        super().make(input_shape)
        shape = (*self.kernel_size, self.filters, self.channels)
        behind = self.kernels_behind(initializers.SHALLOW)
        suited = initializers.Auto().suited(self.activation.name, behind)

        def arranged(shape):
            return suited((*shape[:2], shape[3], shape[2])).swapaxes(2, 3)

        self.kernel = self._kernel(
            shape, self.kernel_initializer, "kernel", self.kernel_regularizer, self.kernel_constraint, arranged
        )
        self._add_bias(self.filters)

    def apply(self, inputs):
        image, before, after = [0, 0], [0, 0], [0, 0]
        for axis, given in enumerate(inputs.shape[1:3]):
            extent, stride = (self.kernel_size[axis] - 1) * self.dilation_rate[axis] + 1, self.strides[axis]
            covered = (given - 1) * stride + extent  # by all windows
            if self.output_padding is not None:
                less = 2 * (extent // 2) if self.padding == "same" else 0
                image[axis] = covered - less + self.output_padding[axis]
            elif self.padding == "same":
                image[axis] = given * stride
            else:
                image[axis] = given * stride + max(extent - stride, 0)
            if self.padding == "same":
                before[axis] = max(covered - image[axis], 0) // 2
            after[axis] = covered - image[axis] - before[axis]
        if min(image) < 1:
            raise ValueError(f"{self}: nothing is left of an image of {inputs.shape[1:3]}")
        window = Window(
            self._pair(self.kernel_size), self._pair(self.strides), self._pair(self.dilation_rate),
            (before[0], before[1]), (after[0], after[1]),
        )  # fmt: skip
        return self.end(ops.conv_by_input(inputs, self.kernel, image, window))


class DepthwiseConv2D(_Convolution):
    """A convolution of each channel by itself with ``depth_multiplier`` kernels: (batch, height, width, channels) ->
    (batch, rows, columns, channels * depth_multiplier); kernel (height, width, channels, depth_multiplier).

    Arguments and errors else as Conv2D. Sifre, 2014; Howard et al. (MobileNets), 2017.
    """

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "auto",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        name: str | None = None,
        trainable: bool = True,
    ):
        super().__init__(name=name, trainable=trainable, activity_regularizer=activity_regularizer)
        self._window(kernel_size, strides, padding, data_format, dilation_rate)
        self.depth_multiplier = integer(self, "depth_multiplier", depth_multiplier, least=1)
        self._ending(activation, use_bias, bias_initializer, bias_regularizer, bias_constraint)
        self.depthwise_initializer = self.named(initializers.get, depthwise_initializer)
        self.depthwise_regularizer = self.named(regularizers.get, depthwise_regularizer)
        self.depthwise_constraint = self.named(constraints.get, depthwise_constraint)

    def make(self, input_shape):
        super().make(input_shape)
        self.kernel = self._depthwise_kernel("kernel", self.activation.name)
        self._add_bias(self.channels * self.depth_multiplier)

    def _depthwise_kernel(self, name: str, activation: str) -> Parameter:
        """A result depends on one channel alone: "auto" draws for each of them."""
        shape = (*self.kernel_size, self.channels, self.depth_multiplier)
        suited = initializers.Auto().suited(activation, self.kernels_behind(initializers.SHALLOW))

        def arranged(shape):
            return np.concatenate([suited((*shape[:2], 1, shape[3])) for _ in range(shape[2])], axis=2)

        return self._kernel(
            shape, self.depthwise_initializer, name, self.depthwise_regularizer, self.depthwise_constraint, arranged
        )

    def apply(self, inputs):
        return self.end(self.depthwise(inputs, self.kernel))

    def depthwise(self, inputs: Tensor, kernel: Parameter) -> Tensor:
        """The convolution alone: one group for each channel."""
        rows, columns, channels, times = kernel.value.shape
        grouped = ops.reshape(kernel, (rows, columns, 1, channels * times))
        return ops.conv(inputs, grouped, self.window(inputs.shape, channels))


class SeparableConv2D(DepthwiseConv2D):
    """A depthwise convolution, then one of 1 x 1 that mixes the channels: (batch, height, width, channels) -> (batch,
    rows, columns, filters). Fewer weights than a Conv2D (Chollet, CVPR 2017).

    ``depthwise_kernel``: (height, width, channels, depth_multiplier), ``pointwise_kernel``: (1, 1, channels *
    depth_multiplier, filters). Arguments and errors else as Conv2D.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "auto",
        pointwise_initializer: Any = "auto",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        name: str | None = None,
        trainable: bool = True,
    ):
        super().__init__(
            kernel_size, strides, padding, depth_multiplier, data_format, dilation_rate, activation, use_bias,
            depthwise_initializer, bias_initializer, depthwise_regularizer, bias_regularizer, activity_regularizer,
            depthwise_constraint, bias_constraint, name=name, trainable=trainable,
        )  # fmt: skip
        self.filters = integer(self, "filters", filters, least=1)
        self.pointwise_initializer = self.named(initializers.get, pointwise_initializer)
        self.pointwise_regularizer = self.named(regularizers.get, pointwise_regularizer)
        self.pointwise_constraint = self.named(constraints.get, pointwise_constraint)

    def make(self, input_shape):
        self.channels = self.known_channels(input_shape)
        self.depthwise_kernel = self._depthwise_kernel("depthwise_kernel", "linear")
        shape = (1, 1, self.channels * self.depth_multiplier, self.filters)
        self.pointwise_kernel = self._kernel(
            shape, self.pointwise_initializer, "pointwise_kernel", self.pointwise_regularizer, self.pointwise_constraint
        )
        self._add_bias(self.filters)

    def apply(self, inputs):
        y = self.depthwise(inputs, self.depthwise_kernel)
        return self.end(ops.conv(y, self.pointwise_kernel, Window((1, 1))))
