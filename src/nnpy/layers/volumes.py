"""Layers on volumes (batch, depth, height, width, channels): Conv3D, pooling, padding, cropping, upsampling.

They are made of what images have: a convolution's taps in depth become channels, and its frames one tall image; windows
of pooling are taken along depth and then within frames, whose depth and channels are the channels of an image.
"""

from __future__ import annotations

from math import ceil
from typing import Any, NamedTuple

from nnpy import ops
from nnpy.graph import Tensor
from nnpy.layers.convolutional import Conv2D
from nnpy.layers.images import Cropping2D, SpatialDropout2D, UpSampling2D, ZeroPadding2D
from nnpy.layers.pooling import _GlobalPooling, _Pooling
from nnpy.layers.windows import ImageLayer
from nnpy.ops.geometry import Pair, Window


class _Axis(NamedTuple):
    """How windows lie along an axis: how many, and zeros before and after."""

    places: int
    before: int
    after: int


def _along(size: int, window: int, stride: int, padding: str, dilation: int = 1) -> _Axis:
    extent = (window - 1) * dilation + 1
    total = max((ceil(size / stride) - 1) * stride + extent - size, 0) if padding == "same" else 0
    return _Axis((size + total - extent) // stride + 1, total // 2, total - total // 2)


def _pair(numbers: tuple[int, ...]) -> Pair:
    """Of height and width."""
    return numbers[1], numbers[2]


class _Volumes(ImageLayer):
    rank = 3

    def _axes(
        self, input_shape: Any, window: Any, strides: Any, padding: str, dilation: Any = (1, 1, 1)
    ) -> list[_Axis]:
        """Along depth, height and width. ValueError if not one window fits."""
        every = zip(input_shape[1:4], window, strides, dilation, strict=True)
        found = [_along(size, extent, stride, padding, apart) for size, extent, stride, apart in every]
        if min(axis.places for axis in found) < 1:
            raise ValueError(
                f"{self}: a window of {tuple(window)} does not fit into {tuple(input_shape[1:4])}; padding='same' "
                "makes it fit"
            )
        return found


class Conv3D(_Volumes, Conv2D):
    """activation(x convolved with kernel + bias): (batch, depth, height, width, channels) -> (batch, frames, rows,
    columns, filters); kernel (depth, height, width, channels / groups, filters). Sizes are a number, or three.

    Arguments and errors else as Conv2D.
    """

    def check_window(self, input_shape):
        self._lie(input_shape)

    def _lie(self, input_shape: Any) -> list[_Axis]:
        return self._axes(input_shape, self.kernel_size, self.strides, self.padding, self.dilation_rate)

    def apply(self, inputs):
        depth, rows, columns = self._lie(inputs.shape)
        step, stride = self.strides[0], self.strides[1]
        height = inputs.shape[2] + rows.before + rows.after
        more = -height % stride  # so that all frames begin at a window
        edges = ((0, 0), depth[1:], (rows.before, rows.after + more), columns[1:], (0, 0))
        x = ops.pad(inputs, edges) if any(map(any, edges)) else inputs
        taps = [
            x[:, first : first + (depth.places - 1) * step + 1 : step]
            for first in range(0, self.kernel_size[0] * self.dilation_rate[0], self.dilation_rate[0])
        ]
        frames = self._as_channels(taps)
        sizes_: Any = frames.sizes
        batch, count, height, width, channels = sizes_
        tall = ops.reshape(frames, (batch, count * height, width, channels))
        taken = self.kernel_size[0] * self.channels // self.groups
        kernel = ops.transpose(self.kernel, [1, 2, 0, 3, 4])
        kernel = ops.reshape(kernel, (*self.kernel_size[1:], taken, self.filters))
        window = Window(_pair(self.kernel_size), _pair(self.strides), _pair(self.dilation_rate), groups=self.groups)
        y: Any = ops.conv(tall, kernel, window)
        each = height // stride
        left = count * each - y.shape[1]  # rows of the last frame that no window has
        y = ops.pad(y, ((0, 0), (0, left), (0, 0), (0, 0))) if left else y
        y = ops.reshape(y, (batch, count, each, columns.places, self.filters))[:, :, : rows.places]
        return self.end(y)

    def _as_channels(self, taps: list[Tensor]) -> Tensor:
        """Each group's channels of all taps side by side."""
        if len(taps) == 1:
            return taps[0]
        if self.groups == 1:
            return ops.concatenate(taps, -1)
        parts = [ops.split(tap, self.groups, -1) for tap in taps]
        return ops.concatenate([parts[tap][group] for group in range(self.groups) for tap in range(len(taps))], -1)


class _Pooling3D(_Volumes, _Pooling):
    def check_image(self, input_shape):
        self._axes(input_shape, self.pool_size, self.strides, self.padding)

    def apply(self, inputs):
        depth, rows, columns = self._axes(inputs.shape, self.pool_size, self.strides, self.padding)
        batch, frames, height, width, channels = inputs.sizes
        line = ops.reshape(inputs, (batch, 1, frames, height * width * channels))
        along = Window(
            (1, self.pool_size[0]), (1, self.strides[0]), before=(0, depth.before), after=(0, depth.after)
        )  # fmt: skip
        line = type(self).function(line, along)
        x = ops.reshape(line, (batch, depth.places, height, width, channels))
        x = ops.reshape(ops.transpose(x, [0, 2, 3, 1, 4]), (batch, height, width, depth.places * channels))
        within = Window(
            _pair(self.pool_size), _pair(self.strides), before=(rows.before, columns.before),
            after=(rows.after, columns.after),
        )  # fmt: skip
        y = ops.reshape(
            type(self).function(x, within), (batch, rows.places, columns.places, depth.places, channels)
        )  # fmt: skip
        return ops.transpose(y, [0, 3, 1, 2, 4])


class MaxPooling3D(_Pooling3D):
    """MaxPooling2D for volumes: (batch, depth, height, width, channels)."""

    function = staticmethod(ops.max_pool)


class AveragePooling3D(_Pooling3D):
    """AveragePooling2D for volumes: (batch, depth, height, width, channels)."""

    function = staticmethod(ops.average_pool)


class _GlobalPooling3D(_Volumes, _GlobalPooling):
    def apply(self, inputs):
        batch, depth, height, width, channels = inputs.sizes
        image = ops.reshape(inputs, (batch, depth, height * width, channels))
        y = type(self).function(image, Window((depth, height * width)))
        return ops.reshape(y, (batch, 1, 1, 1, channels)) if self.keepdims else ops.flatten(y)


class GlobalMaxPooling3D(_GlobalPooling3D):
    """GlobalMaxPooling2D for volumes: (batch, depth, height, width, channels) -> (batch, channels)."""

    function = staticmethod(ops.max_pool)


class GlobalAveragePooling3D(_GlobalPooling3D):
    """GlobalAveragePooling2D for volumes: (batch, depth, height, width, channels) -> (batch, channels)."""

    function = staticmethod(ops.average_pool)


class ZeroPadding3D(ZeroPadding2D):
    """Zeros around volumes: (batch, depth, height, width, channels). ``padding``: a number, three, or three pairs."""

    rank = 3

    def apply(self, inputs):
        return ops.pad(inputs, ((0, 0), *self.padding, (0, 0)))


class Cropping3D(Cropping2D):
    """Volumes without their edges: (batch, depth, height, width, channels). ``cropping``: a number, three, or three
    pairs. ValueError if nothing is left."""

    rank = 3

    def __init__(self, cropping: Any = 1, data_format: str | None = None, *, name: str | None = None):
        super().__init__(cropping, data_format, name=name)

    def apply(self, inputs):
        pairs = zip(inputs.shape[1:4], self.cropping, strict=True)
        return inputs[(slice(None), *(slice(before, size - after) for size, (before, after) in pairs))]


class UpSampling3D(UpSampling2D):
    """Each element ``size`` times (a number, or three): (batch, depth, height, width, channels)."""

    rank = 3

    def __init__(self, size: Any = 2, data_format: str | None = None, *, name: str | None = None):
        super().__init__(size, data_format, name=name)

    def apply(self, inputs):
        for axis, times in enumerate(self.size, start=1):
            inputs = ops.repeat(inputs, times, axis) if times > 1 else inputs
        return inputs


class SpatialDropout3D(SpatialDropout2D):
    """SpatialDropout2D for volumes: (batch, depth, height, width, channels)."""

    rank = 3
