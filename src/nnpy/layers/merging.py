"""Layers of several inputs: Add, Subtract, Multiply, Average, Maximum, Minimum, Concatenate; each is a function too.
And Residual."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from nnpy import ops
from nnpy.checks import integer, shown
from nnpy.graph import Tensor
from nnpy.layers.base import Layer


class _Merge(Layer):
    """Two or more inputs of one shape."""

    supports_masking, needs_sizes = True, False

    least, most = 2, 0

    def __init__(self, *, name: str | None = None):
        super().__init__(name=name)

    def check_input(self, input_shape):
        self.several_inputs(input_shape, self.least, self.most)
        first = input_shape[0]
        for number, shape in enumerate(input_shape):
            if shape != first:
                raise ValueError(f"{self}: expected inputs of one shape, got {first} and {shape} (input {number})")

    def compute_mask(self, inputs, previous_mask):
        return _all(previous_mask)


def _all(masks):
    """Where all of the masks that there are say so."""
    given = [mask for mask in masks or () if mask is not None]
    return reduce(ops.multiply, given) if given else None


class Add(_Merge):
    """The sum of inputs of one shape."""

    def call(self, inputs):
        return reduce(ops.add, inputs)


class Subtract(_Merge):
    """The first of two inputs minus the second."""

    most = 2

    def call(self, inputs):
        return ops.subtract(*inputs)


class Multiply(_Merge):
    """The product, element by element, of inputs of one shape."""

    def call(self, inputs):
        return reduce(ops.multiply, inputs)


class Average(_Merge):
    """The mean of inputs of one shape."""

    def call(self, inputs):
        return ops.affine(reduce(ops.add, inputs), 1.0 / len(inputs), 0.0)


class Maximum(_Merge):
    """The largest, element by element, of inputs of one shape."""

    def call(self, inputs):
        return reduce(ops.maximum, inputs)


class Minimum(_Merge):
    """The smallest, element by element, of inputs of one shape."""

    def call(self, inputs):
        return reduce(ops.minimum, inputs)


class Concatenate(Layer):
    """Inputs joined along ``axis`` (not 0, the batch); their shapes may differ in that axis alone."""

    supports_masking = True

    def __init__(self, axis: int = -1, *, name: str | None = None):
        super().__init__(name=name)
        self.axis = integer(self, "axis", axis)
        if self.axis == 0:
            raise ValueError(f"{self}: expected axis to be another than 0, the batch, got 0")

    def check_input(self, input_shape):
        self.several_inputs(input_shape, 1)
        rank = len(input_shape[0])
        if not -rank < self.axis < rank:
            raise ValueError(f"{self}: expected inputs of more axes for axis {self.axis}, got {input_shape[0]}")
        axis = self.axis % rank
        kept = [shape[:axis] + shape[axis + 1 :] for shape in input_shape]
        for number, shape in enumerate(input_shape):
            if len(shape) != rank or kept[number] != kept[0]:
                raise ValueError(
                    f"{self}: expected inputs whose shapes differ in axis {self.axis} alone, got {input_shape[0]} and "
                    f"{shape} (input {number})"
                )

    def call(self, inputs):
        return ops.concatenate(inputs, self.axis)

    def compute_mask(self, inputs, previous_mask):
        """Along an axis that the masks have too they are joined; ValueError if one input has none."""
        given = [mask for mask in previous_mask or () if mask is not None]
        axis = self.axis % inputs[0].rank
        if not given or axis >= given[0].rank:
            return _all(given)
        if len(given) < len(inputs):
            raise ValueError(f"{self}: expected a mask of each input, or of none, got {len(given)} of {len(inputs)}")
        return ops.concatenate(given, axis)


class Residual(Layer):
    """x + layers(x): ``layers``, one after the other, must keep the shape (He et al., CVPR 2016). (Ours.)"""

    supports_masking, needs_sizes = True, False

    def __init__(self, layers: Sequence[Layer], *, name: str | None = None, trainable: bool = True):
        super().__init__(name=name, trainable=trainable)
        self.layers: list[Layer] = list(layers) if isinstance(layers, list | tuple) else [layers]  # type: ignore[list-item]
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"{self}: expected layers to be a list of layers, got {shown(layer)} in it")
        if not self.layers:
            raise ValueError(f"{self}: expected at least one layer, got none")
        if not trainable:
            self.trainable = False

    def check_input(self, input_shape):
        self.one_input(input_shape)

    def call(self, inputs):
        y = inputs
        for layer in self.layers:
            y = layer(y)
        if y.shape != inputs.shape:
            raise ValueError(f"{self}: expected its layers to keep the shape {inputs.shape}, they give {y.shape}")
        return ops.add(inputs, y)


def add(inputs: Sequence[Tensor], **options: Any) -> Tensor:
    """The sum of tensors of one shape: ``Add(**options)(inputs)``."""
    return Add(**options)(inputs)


def subtract(inputs: Sequence[Tensor], **options: Any) -> Tensor:
    """The first of two tensors minus the second: ``Subtract(**options)(inputs)``."""
    return Subtract(**options)(inputs)


def multiply(inputs: Sequence[Tensor], **options: Any) -> Tensor:
    """The product, element by element, of tensors of one shape: ``Multiply(**options)(inputs)``."""
    return Multiply(**options)(inputs)


def average(inputs: Sequence[Tensor], **options: Any) -> Tensor:
    """The mean of tensors of one shape: ``Average(**options)(inputs)``."""
    return Average(**options)(inputs)


def maximum(inputs: Sequence[Tensor], **options: Any) -> Tensor:
    """The largest, element by element, of tensors of one shape: ``Maximum(**options)(inputs)``."""
    return Maximum(**options)(inputs)


def minimum(inputs: Sequence[Tensor], **options: Any) -> Tensor:
    """The smallest, element by element, of tensors of one shape: ``Minimum(**options)(inputs)``."""
    return Minimum(**options)(inputs)


def concatenate(inputs: Sequence[Tensor], axis: int = -1, **options: Any) -> Tensor:
    """Tensors joined along ``axis``: ``Concatenate(axis, **options)(inputs)``."""
    return Concatenate(axis, **options)(inputs)
