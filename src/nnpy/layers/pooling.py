"""Pooling: MaxPooling, AveragePooling, GlobalMaxPooling, GlobalAveragePooling, each 1D and 2D."""

from __future__ import annotations

from typing import Any

from nnpy import ops
from nnpy.checks import flag
from nnpy.layers.windows import ImageLayer, format_name, padding_name, sizes, window_on
from nnpy.ops.geometry import Window


class _Pooling(ImageLayer):
    """``pool_size``, ``strides``: a number, or one for each axis; strides None: those of pool_size."""

    function: Any = None

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        *,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.pool_size = sizes(self, "pool_size", pool_size, self.rank)
        self.strides = self.pool_size if strides is None else sizes(self, "strides", strides, self.rank)
        self.padding = padding_name(self, padding)
        self.data_format = format_name(self, data_format)

    def check_image(self, input_shape):
        self._fits(self.window(input_shape), self._image(input_shape))

    def window(self, input_shape: Any) -> Window:
        """How windows lie on inputs of this shape."""
        size, strides = self._pair(self.pool_size), self._pair(self.strides)
        return window_on(self._image(input_shape), size, strides, self.padding)

    def apply(self, inputs):
        return self.as_given(type(self).function(self.as_image(inputs), self.window(inputs.shape)))


class MaxPooling2D(_Pooling):
    """The largest of each window, by channel: (batch, height, width, channels) -> (batch, rows, columns, channels).

    ``padding``: "valid" (whole windows) or "same" (results for all pixels; what is outside does not count). ValueError
    for inputs of another rank, or smaller than the window. The gradient goes to the first of the largest.
    """

    function = staticmethod(ops.max_pool)


class MaxPooling1D(MaxPooling2D):
    """MaxPooling2D for sequences: (batch, steps, channels) -> (batch, places, channels)."""

    rank = 1


class AveragePooling2D(_Pooling):
    """The mean of each window, by channel: (batch, height, width, channels) -> (batch, rows, columns, channels).

    ``padding``: "valid" (whole windows) or "same" (results for all pixels; what is outside does not count). ValueError
    for inputs of another rank, or smaller than the window.
    """

    function = staticmethod(ops.average_pool)


class AveragePooling1D(AveragePooling2D):
    """AveragePooling2D for sequences: (batch, steps, channels) -> (batch, places, channels)."""

    rank = 1


class _GlobalPooling(ImageLayer):
    """One window: the whole image."""

    function: Any = None

    def __init__(self, data_format: str | None = None, keepdims: bool = False, *, name: str | None = None):
        super().__init__(name=name)
        self.data_format = format_name(self, data_format)
        self.keepdims = flag(self, "keepdims", keepdims)

    def apply(self, inputs):
        image = self.as_image(inputs)
        y = type(self).function(image, Window(image.concrete(1)[1:3]))  # type: ignore[arg-type]
        return self.as_given(y) if self.keepdims else ops.flatten(y)


class GlobalMaxPooling2D(_GlobalPooling):
    """The largest of each channel: (batch, height, width, channels) -> (batch, channels), or with ``keepdims`` (batch,
    1, 1, channels). ValueError for inputs of another rank."""

    function = staticmethod(ops.max_pool)


class GlobalMaxPooling1D(GlobalMaxPooling2D):
    """GlobalMaxPooling2D for sequences: (batch, steps, channels) -> (batch, channels)."""

    rank = 1


class GlobalAveragePooling2D(_GlobalPooling):
    """The mean of each channel: (batch, height, width, channels) -> (batch, channels), or with ``keepdims`` (batch, 1,
    1, channels). ValueError for inputs of another rank. Lin et al. (Network in network), 2013."""

    function = staticmethod(ops.average_pool)


class GlobalAveragePooling1D(GlobalAveragePooling2D):
    """GlobalAveragePooling2D for sequences: (batch, steps, channels) -> (batch, channels)."""

    rank = 1
