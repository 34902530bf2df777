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


def channels_last(owner: Layer, value: Any) -> str:
    """``value``, which has to be "channels_last" (None means that, as in Keras)."""
    if value not in (None, "channels_last"):
        raise ValueError(
            f"{owner}: expected data_format 'channels_last', got {shown(value)}; put the channels last: "
            "numpy.moveaxis(x, 1, -1)"
        )
    return "channels_last"


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
    """A layer on images (batch, height, width, channels), or with ``rank`` 1 on sequences (batch, steps, channels)."""

    rank = 2

    def check_input(self, input_shape):
        self.one_input(input_shape)
        expected = "(batch, height, width, channels)" if self.rank == 2 else "(batch, steps, channels)"
        if len(input_shape) != self.rank + 2:
            hint = ""
            if len(input_shape) == self.rank + 1:
                hint = f"; give it channels: Reshape({(*input_shape[1:], 1)}) before it, or x[..., None]"
            raise ValueError(f"{self}: expected input of shape {expected}, got {input_shape}{hint}")

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
        return image if self.rank == 2 else ops.squeeze(image, 1)

    def _image(self, shape: Sequence[Any]) -> Pair:
        """Height and width of an input shape."""
        return (shape[1], shape[2]) if self.rank == 2 else (1, shape[1])

    def _pair(self, numbers: Sequence[int], one: int = 1) -> Pair:
        """Sizes by axis, as a pair."""
        return (numbers[0], numbers[1]) if self.rank == 2 else (one, numbers[0])
