"""Images made larger or smaller, and channels dropped: ZeroPadding, Cropping, UpSampling, SpatialDropout."""

from __future__ import annotations

from typing import Any

from nnpy import ops, seeds
from nnpy.checks import real, shown
from nnpy.layers.base import Layer
from nnpy.layers.windows import ImageLayer, format_name, from_last, sizes, to_last
from nnpy.ops.resize import enlarged


def _sides(owner: Layer, name: str, value: Any, rank: int) -> tuple[tuple[int, int], ...]:
    """(before, after) for each axis: from one number, one for each axis, or a pair for each axis."""
    given = value if isinstance(value, tuple | list) else (value,) * rank
    if rank == 1:  # a pair, or as files have it, a list of one
        given = value if given and isinstance(given[0], tuple | list) else (value,)
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
        self.data_format = format_name(self, data_format)

    def apply(self, inputs):
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
        self.data_format = format_name(self, data_format)

    def check_image(self, input_shape):
        sizes_left = [size - sum(side) for size, side in zip(input_shape[1:-1], self.cropping, strict=True)]
        if min(sizes_left) < 1:
            raise ValueError(f"{self}: cropping {self.cropping} leaves nothing of {input_shape}")

    def apply(self, inputs):
        return self._place(inputs, self.cropping, -1)


class Cropping1D(Cropping2D):
    """Sequences without their ends: (batch, steps, channels). ``cropping``: a number, or (before, after)."""

    rank = 1

    def __init__(self, cropping: Any = (1, 1), data_format: str | None = None, *, name: str | None = None):
        super().__init__(cropping, data_format, name=name)


class UpSampling2D(ImageLayer):
    """Each pixel ``size`` times (a number, or (down, across)): (batch, height, width, channels) -> (batch, height *
    down, width * across, channels). ``interpolation``: "nearest", or "bilinear": what lies between the centres of
    pixels. ValueError for another one."""

    def __init__(
        self, size: Any = 2, data_format: str | None = None, interpolation: str = "nearest", *, name: str | None = None
    ):
        super().__init__(name=name)
        self.size = sizes(self, "size", size, self.rank)
        self.data_format = format_name(self, data_format)
        if interpolation not in ("nearest", "bilinear"):
            raise ValueError(f"{self}: expected interpolation 'nearest' or 'bilinear', got {shown(interpolation)}")
        self.interpolation = interpolation

    def apply(self, inputs):
        if self.interpolation == "bilinear":
            return enlarged(inputs, self.size)
        return self.as_given(ops.repeat_pixels(self.as_image(inputs), self._pair(self.size)))


class UpSampling1D(UpSampling2D):
    """Each step ``size`` times: (batch, steps, channels) -> (batch, steps * size, channels)."""

    rank = 1

    def __init__(self, size: int = 2, *, name: str | None = None):
        super().__init__(size, name=name)


class SpatialDropout2D(ImageLayer):
    """Dropout of whole channels, whose neighbouring pixels are much alike: while training each channel of each sample
    is zero with probability ``rate``, and the others are divided by 1 - rate (Tompson et al., CVPR 2015); at other
    times gives its input. (batch, height, width, channels). ``seed``: as in Dropout. ValueError unless 0
    <= rate < 1."""

    supports_masking, follows_program, needs_sizes = True, True, False

    def __init__(
        self, rate: float, data_format: str | None = None, seed: int | None = None, *, name: str | None = None
    ):
        super().__init__(name=name)
        self.rate = real(self, "rate", rate, least=0, below=1)
        self.data_format = format_name(self, data_format)
        self.seed = None if seed is None else seeds.checked(str(self), seed)

    def call(self, inputs, training=None):
        if training is False:
            return inputs
        given = to_last(inputs, self.data_format)
        dropped = ops.channel_dropout(given, self.rate, always=training is True, seed=self.seed)
        return from_last(dropped, self.data_format)


class SpatialDropout1D(SpatialDropout2D):
    """SpatialDropout2D for sequences: (batch, steps, channels)."""

    rank = 1

    def __init__(self, rate: float, seed: int | None = None, *, name: str | None = None):
        super().__init__(rate, seed=seed, name=name)
