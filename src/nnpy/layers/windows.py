"""What layers of windows on images share: sizes in pairs, padding by name, images of one row for sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnpy import ops
from nnpy.checks import shown
from nnpy.graph import Tensor
from nnpy.layers.base import Layer
from nnpy.ops.geometry import Pair, Window

_LARGEST = 1 << 20  # pixels: what is larger is a mistake, and does not fit into memory anyway


def pair(owner: Layer, name: str, value: Any, least: int = 1) -> Pair:
    """``value`` as (height, width); one number is both. TypeError or ValueError otherwise."""
    return sizes(owner, name, value, 2, least)  # type: ignore[return-value]


def sizes(owner: Layer, name: str, value: Any, rank: int, least: int = 1) -> tuple[int, ...]:
    """``value`` as ``rank`` integers; one number is all of them."""
    if type(value) is int and least <= value <= _LARGEST:
        return (value,) * rank
    several = isinstance(value, tuple | list) or (isinstance(value, np.ndarray) and value.ndim > 0)
    given = tuple(value) if several else (value,) * rank
    what = f"an integer >= {least}" + (f" or {rank} of them" if rank > 1 else "")
    if len(given) != rank or any(isinstance(n, bool) or not hasattr(n, "__index__") or np.ndim(n) for n in given):
        raise TypeError(f"{owner}: expected {name} to be {what}, got {shown(value)}")
    numbers = tuple(n.__index__() for n in given)
    if min(numbers) < least:
        raise ValueError(f"{owner}: expected {name} to be {what}, got {value!r}")
    if max(numbers) > _LARGEST:
        raise ValueError(f"{owner}: expected {name} to be at most {_LARGEST} pixels, got {value!r}")
    return numbers


def padding_name(owner: Layer, value: Any, names: Sequence[str] = ("valid", "same")) -> str:
    """``value``, one of ``names``, in lower case as Keras takes it."""
    name = value.lower() if isinstance(value, str) else value
    if name not in names:
        listed = " or ".join(repr(name) for name in names)
        raise ValueError(f"{owner}: expected padding to be {listed}, got {shown(value)}")
    return name


def format_name(owner: Layer, value: Any) -> str:
    """``value``, "channels_last" (which None means) or "channels_first"."""
    if value not in (None, *_FORMATS):
        raise ValueError(f"{owner}: expected data_format to be 'channels_last' or 'channels_first', got {shown(value)}")
    return value or _FORMATS[0]


_FORMATS = ("channels_last", "channels_first")


def with_channels_last(shape: Sequence[Any], data_format: str) -> tuple[Any, ...]:
    """A shape as it is once the channels are last."""
    return tuple(shape) if data_format == _FORMATS[0] else (shape[0], *shape[2:], shape[1])


def to_last(inputs: Tensor, data_format: str) -> Tensor:
    """A tensor with its channels last. Views, as is what ``from_last`` makes: two in a row copy nothing."""
    return inputs if data_format == _FORMATS[0] or inputs.rank < 3 else ops.moveaxis(inputs, 1, -1)


def from_last(outputs: Tensor, data_format: str) -> Tensor:
    """Back again."""
    return outputs if data_format == _FORMATS[0] or outputs.rank < 3 else ops.moveaxis(outputs, -1, 1)


def window_on(
    image: Sequence[int], size: Pair, strides: Pair, padding: str, dilation: Pair = (1, 1), groups: int = 1
) -> Window:
    """The window with the zeros that ``padding`` puts around an image of this height and width: "valid" none, "same" so
    many that there is a result for every stride-th pixel (one more after than before if it is odd), "causal" all
    before.
    """
    before, after = [0, 0], [0, 0]
    for axis in (0, 1):
        extent = (size[axis] - 1) * dilation[axis] + 1
        if padding == "same":
            places = -(-image[axis] // strides[axis])
            total = max((places - 1) * strides[axis] + extent - image[axis], 0)
            before[axis], after[axis] = total // 2, total - total // 2
        elif padding == "causal":
            before[axis] = extent - 1
    return Window(size, strides, dilation, (before[0], before[1]), (after[0], after[1]), groups)


class ImageLayer(Layer):
    """A layer on images (batch, height, width, channels), or with ``rank`` 1 on sequences (batch, steps, channels).
    With ``data_format`` "channels_first" they are (batch, channels, ...), and the layer works on them with the channels
    last all the same: a subclass gives ``check_image``, ``make`` and ``apply``, which never see another order."""

    rank = 2
    data_format = "channels_last"

    def check_input(self, input_shape):
        self.one_input(input_shape)
        axes = {1: "steps", 2: "height, width", 3: "depth, height, width"}[self.rank]
        first = self.data_format == "channels_first"
        expected = f"(batch, channels, {axes})" if first else f"(batch, {axes}, channels)"
        if len(input_shape) != self.rank + 2:
            hint = ""
            if len(input_shape) == self.rank + 1 and not first:
                hint = f"; give it channels: Reshape({(*input_shape[1:], 1)}) before it, or x[..., None]"
            raise ValueError(f"{self}: expected input of shape {expected}, got {input_shape}{hint}")
        self.check_image(with_channels_last(input_shape, self.data_format))

    def check_image(self, input_shape: Any) -> None:
        """``check_input`` of the shape with the channels last."""

    def build(self, input_shape):
        self.make(with_channels_last(input_shape, self.data_format))

    def make(self, input_shape: Any) -> None:
        """``build`` for the shape with the channels last."""

    def call(self, inputs):
        return from_last(self.apply(to_last(inputs, self.data_format)), self.data_format)

    def apply(self, inputs: Tensor) -> Tensor:
        """``call`` on a tensor with the channels last."""
        raise NotImplementedError(f"{self}: a layer on images must define apply(inputs)")

    def known_channels(self, input_shape: Sequence[Any]) -> int:
        """The last size. ValueError where that may be any."""
        if input_shape[-1] is None:
            raise ValueError(f"{self}: expected a known number of channels, the last size, got {input_shape}")
        return input_shape[-1]

    def _fits(self, window: Window, image: Sequence[int]) -> None:
        """ValueError if not one window fits."""
        if min(window.places(image)) < 1:
            of = tuple(window.extent(axis) for axis in (0, 1))[2 - self.rank :]
            raise ValueError(
                f"{self}: a window of {of} pixels does not fit into {tuple(image)[2 - self.rank :]}; "
                "padding='same' makes it fit"
            )

    def as_image(self, inputs: Tensor) -> Tensor:
        """A sequence as an image of one row."""
        return inputs if self.rank == 2 else ops.expand_dims(inputs, 1)

    def as_given(self, image: Tensor) -> Tensor:
        """Back again."""
        return ops.squeeze(image, 1) if self.rank == 1 else image

    def _image(self, shape: Sequence[Any]) -> Pair:
        """Height and width of an input shape."""
        return (shape[1], shape[2]) if self.rank == 2 else (1, shape[1])

    def _pair(self, numbers: Sequence[int], one: int = 1) -> Pair:
        """Sizes by axis, as a pair."""
        return (numbers[0], numbers[1]) if self.rank == 2 else (one, numbers[0])
