"""Flatten, Reshape: free, they copy nothing."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from nnpy import ops
from nnpy.checks import shape as checked_shape
from nnpy.layers.base import Layer


class Flatten(Layer):
    """(batch, ...) -> (batch, features): each sample as one row."""

    def __init__(self, *, name: str | None = None):
        super().__init__(name=name)

    def check_input(self, input_shape):
        self.one_input(input_shape)

    def call(self, inputs):
        return ops.flatten(inputs)


class Reshape(Layer):
    """Samples of ``target_shape`` (without the batch; one size may be -1, what is left). ValueError if the number of
    elements differs."""

    def __init__(self, target_shape: Sequence[int], *, name: str | None = None):
        super().__init__(name=name)
        sizes = tuple(target_shape) if isinstance(target_shape, tuple | list) else target_shape
        if isinstance(sizes, tuple) and sizes.count(-1) == 1:
            place = sizes.index(-1)
            checked_shape(str(self), "target_shape", sizes[:place] + sizes[place + 1 :])
            self.target_shape = sizes
        else:
            self.target_shape = checked_shape(str(self), "target_shape", sizes)

    def check_input(self, input_shape):
        self.one_input(input_shape)
        have, known = prod(input_shape[1:]), prod(size for size in self.target_shape if size != -1)
        if have % known if -1 in self.target_shape else have != known:
            raise ValueError(f"{self}: cannot make samples of shape {self.target_shape} of {input_shape[1:]}")

    def call(self, inputs):
        known = prod(size for size in self.target_shape if size != -1)
        left = prod(inputs.shape[1:]) // known
        return ops.reshape(inputs, (inputs.sizes[0], *(left if size == -1 else size for size in self.target_shape)))
