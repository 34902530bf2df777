"""Images made larger or smaller, and channels dropped: ZeroPadding, Cropping, UpSampling, SpatialDropout."""

from __future__ import annotations

from typing import Any

from nnpy import ops
from nnpy.checks import real, shown
from nnpy.layers.base import Layer
from nnpy.layers.windows import ImageLayer, channels_last, sizes


def _sides(owner: Layer, name: str, value: Any, rank: int) -> tuple[tuple[int, int], ...]:
    """(before, after) for each axis: from one number, one for each axis, or a pair for each axis."""
    given = value if isinstance(value, tuple | list) else (value,) * rank
    if rank == 1:
        given = (value,)
    if len(given) != rank:
        raise TypeError(f"{owner}: expected {name} to be a number, {rank} of them, or {rank} pairs, got {shown(value)}")
    pairs = [sizes(owner, name, side, 2, 0) for side in given]
    return tuple((first, second) for first, second in pairs)


class _Sides(ImageLayer):
    """Numbers of pixels at each side."""

    def _place(self, inputs: Any, sides: tuple[tuple[int, int], ...], sign: int) -> Any:
        if self.rank == 1:
            sides = ((0, 0), sides[0])
        before, after = (tuple(sign * side[i] for side in sides) for i in (0, 1))
        return self.as_given(ops.place(self.as_image(inputs), before, after))  # type: ignore[arg-type]


class ZeroPadding2D(_Sides):
    """Zeros around images: (batch, height, width, channels). ``padding``: a number, (rows, columns), or ((above,
    below), (left, right)). TypeError or ValueError for anything else."""

    def __init__(self, padding: Any = 1, data_format: str | None = None, *, name: str | None = None):
        super().__init__(name=name)
        self.padding = _sides(self, "padding", padding, self.rank)
        self.data_format = channels_last(self, data_format)

    def call(self, inputs):
        return self._place(inputs, self.padding, 1)


class ZeroPadding1D(ZeroPadding2D):
    """Zeros before and after sequences: (batch, steps, channels). ``padding``: a number, or (before, after)."""

    rank = 1


class Cropping2D(_Sides):
    """Images without their edges: (batch, height, width, channels). ``cropping``: a number, (rows, columns), or
    ((above, below), (left, right)). ValueError if nothing is left."""

    def __init__(self, cropping: Any = 0, data_format: str | None = None, *, name: str | None = None):
        super().__init__(name=name)
        self.cropping = _sides(self, "cropping", cropping, self.rank)
        self.data_format = channels_last(self, data_format)

    def check_input(self, input_shape):
        super().check_input(input_shape)
        sizes_left = [size - sum(side) for size, side in zip(input_shape[1:-1], self.cropping, strict=True)]
        if min(sizes_left) < 1:
            raise ValueError(f"{self}: cropping {self.cropping} leaves nothing of {input_shape}")

    def call(self, inputs):
        return self._place(inputs, self.cropping, -1)


class Cropping1D(Cropping2D):
    """Sequences without their ends: (batch, steps, channels). ``cropping``: a number, or (before, after)."""

    rank = 1


class UpSampling2D(ImageLayer):
    """Each pixel ``size`` times (a number, or (down, across)): (batch, height, width, channels) -> (batch, height *
    down, width * across, channels). ``interpolation``: "nearest", the only one there is yet."""

    def __init__(
        self, size: Any = 2, data_format: str | None = None, interpolation: str = "nearest", *, name: str | None = None
    ):
        super().__init__(name=name)
        self.size = sizes(self, "size", size, self.rank)
        self.data_format = channels_last(self, data_format)
        if interpolation != "nearest":
            raise ValueError(f"{self}: expected interpolation 'nearest', got {shown(interpolation)}")
        self.interpolation = interpolation

    def call(self, inputs):
        return self.as_given(ops.repeat_pixels(self.as_image(inputs), self._pair(self.size)))


class UpSampling1D(UpSampling2D):
    """Each step ``size`` times: (batch, steps, channels) -> (batch, steps * size, channels)."""

    rank = 1

    def __init__(self, size: int = 2, *, name: str | None = None):
        super().__init__(size, name=name)


class SpatialDropout2D(ImageLayer):
    """Dropout of whole channels, whose neighbouring pixels are much alike: while training each channel of each sample
    is zero with probability ``rate``, and the others are divided by 1 - rate (Tompson et al., CVPR 2015); at other
    times gives its input. (batch, height, width, channels). ValueError unless 0 <= rate < 1."""

    supports_masking, follows_program, needs_sizes = True, True, False

    def __init__(self, rate: float, *, name: str | None = None):
        super().__init__(name=name)
        self.rate = real(str(self), "rate", rate, least=0, below=1)

    def call(self, inputs, training=None):
        return inputs if training is False else ops.channel_dropout(inputs, self.rate, always=training is True)


class SpatialDropout1D(SpatialDropout2D):
    """SpatialDropout2D for sequences: (batch, steps, channels)."""

    rank = 1
