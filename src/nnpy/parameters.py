"""Store: a model's parameters and their gradients, each in ONE contiguous buffer, so that one kernel updates all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod

import numpy as np

import nncore
from nnpy.graph import Parameter

_PAD = 16  # elements: every parameter starts on a cache line


class Store:
    """``values`` and ``gradients``: flat arrays of ``size`` elements; a parameter's ``value`` becomes a view of the
    first.

    What layers train comes first, matrices before vectors, else in order; what is frozen now has its place among them.
    ``views``: what each parameter's value is. ``trained``: those that steps were made for, frozen since or not.
    """

    def __init__(self, parameters: Sequence[Parameter], dtype="float32"):
        self.dtype = np.dtype(dtype)
        self.parameters = sorted(dict.fromkeys(parameters), key=lambda p: (p.role != "weight", p.rank < 2))
        self.trained: set[Parameter] = set()
        self.offsets: dict[Parameter, int] = {}
        size = 0
        for parameter in self.parameters:
            self.offsets[parameter] = size
            size += -(-parameter.value.size // _PAD) * _PAD
        self.size = size
        self.values = nncore.aligned(size, self.dtype)
        self.gradients = nncore.aligned(size, self.dtype)
        self.views = {parameter: self.view(self.values, parameter) for parameter in self.parameters}
        self.gather()

    def gather(self) -> None:
        """Take in the parameters whose values are elsewhere."""
        for parameter, view in self.views.items():
            if parameter.value is not view:
                view[...] = parameter.value
                parameter.value = view

    def view(self, flat: np.ndarray, parameter: Parameter, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """A parameter's part of any buffer of this layout (values, gradients, an optimizer's moments). ``shape``: of
        its own, of no more elements."""
        start = self.offsets[parameter]
        shape = parameter.value.shape if shape is None else shape
        return flat[start : start + prod(shape)].reshape(shape)

    def gradient(self, parameter: Parameter) -> np.ndarray:
        """The gradient of a parameter: a view of the flat buffer."""
        return self.view(self.gradients, parameter)

    def stretches(self, parameters: Iterable[Parameter]) -> Iterator[tuple[int, int]]:
        """(first, last) in elements of every run of neighbours among ``parameters``, padding included: it is zero, has
        zero gradient and stays so."""
        start = end = 0
        for parameter in sorted(parameters, key=lambda p: self.offsets[p]):
            first = self.offsets[parameter]
            last = first + -(-parameter.value.size // _PAD) * _PAD
            if first != end:
                if end > start:
                    yield start, end
                start = first
            end = last
        if end > start:
            yield start, end
