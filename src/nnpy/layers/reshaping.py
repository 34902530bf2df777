"""Flatten, Reshape, Permute, RepeatVector. The first two are free, they copy nothing."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from nnpy import ops
from nnpy.checks import integer, shown
from nnpy.checks import shape as checked_shape
from nnpy.layers.base import Layer
from nnpy.layers.windows import format_name, to_last


class Flatten(Layer):
    """(batch, ...) -> (batch, features): each sample as one row. With ``data_format`` "channels_first" its channels,
    the first of its axes, are put last before, so that weights behind it are those of the other format."""

    def __init__(self, data_format: str | None = None, *, name: str | None = None):
        super().__init__(name=name)
        self.data_format = format_name(self, data_format)

    def check_input(self, input_shape):
        self.one_input(input_shape)

    def call(self, inputs):
        return ops.flatten(to_last(inputs, self.data_format))


class Reshape(Layer):
    """Samples of ``target_shape`` (without the batch; one size may be -1, what is left). ValueError if the number of
    elements differs."""

    def __init__(self, target_shape: Sequence[int], *, name: str | None = None):
        super().__init__(name=name)
        sizes = tuple(target_shape) if isinstance(target_shape, tuple | list) else target_shape
        if isinstance(sizes, tuple) and sizes.count(-1) == 1:
            place = sizes.index(-1)
            checked_shape(self, "target_shape", sizes[:place] + sizes[place + 1 :])
            self.target_shape = sizes
        else:
            self.target_shape = checked_shape(self, "target_shape", sizes)

    def check_input(self, input_shape):
        self.one_input(input_shape)
        have, known = prod(input_shape[1:]), prod(size for size in self.target_shape if size != -1)
        if have % known if -1 in self.target_shape else have != known:
            raise ValueError(f"{self}: cannot make samples of shape {self.target_shape} of {input_shape[1:]}")

    def call(self, inputs):
        known = prod(size for size in self.target_shape if size != -1)
        left = prod(inputs.shape[1:]) // known
        return ops.reshape(inputs, (inputs.sizes[0], *(left if size == -1 else size for size in self.target_shape)))


class Permute(Layer):
    """Axes of samples in another order: (2, 1) makes (batch, features, steps) of (batch, steps, features). ``dims``
    count from 1. ValueError unless they are 1 ... as many as a sample has axes."""

    needs_sizes = False

    def __init__(self, dims: Sequence[int], *, name: str | None = None):
        super().__init__(name=name)
        if not isinstance(dims, tuple | list):
            raise TypeError(f"{self}: expected dims to be a tuple of axes, as (2, 1), got {shown(dims)}")
        self.dims = [integer(self, "dims", axis, least=1) for axis in dims]
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(f"{self}: expected dims to be 1 ... {len(self.dims)} in any order, got {tuple(dims)}")

    def check_input(self, input_shape):
        self.one_input(input_shape)
        if len(input_shape) != len(self.dims) + 1:
            raise ValueError(f"{self}: expected samples of {len(self.dims)} axes, got input {input_shape}")

    def call(self, inputs):
        return ops.transpose(inputs, [0, *self.dims])


class RepeatVector(Layer):
    """Each sample ``n`` times: (batch, features) -> (batch, n, features). ValueError for another rank or n < 1."""

    needs_sizes = False

    def __init__(self, n: int, *, name: str | None = None):
        super().__init__(name=name)
        self.n = integer(self, "n", n, least=1)

    def check_input(self, input_shape):
        self.one_input(input_shape)
        if len(input_shape) != 2:
            raise ValueError(f"{self}: expected input of shape (batch, features), got {input_shape}")

    def call(self, inputs):
        sizes = inputs.sizes
        return ops.broadcast_to(ops.expand_dims(inputs, 1), (sizes[0], self.n, sizes[1]))
