"""Input: where a model's graph begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnpy.checks import open_shape, shown
from nnpy.graph import Tensor
from nnpy.hints import keywords
from nnpy.layers.base import Layer
from nnpy.layers.calling import Call


class InputLayer(Layer):
    """What stands for an Input among a model's layers. ``shape``: without the batch."""

    def __init__(self, shape: Sequence[int | None], *, dtype: str | None = None, name: str | None = None):
        super().__init__(name=name)
        self.shape = open_shape(self, "shape", shape)
        try:
            self.dtype = np.dtype(dtype or "float32").name
        except TypeError:
            raise TypeError(f"{self}: expected dtype to be the name of a NumPy dtype, got {shown(dtype)}") from None
        if np.dtype(self.dtype).kind not in "fiu":
            raise TypeError(f"{self}: expected a real or integer dtype, got {self.dtype!r}")

    @classmethod
    def automatic(cls, shape: Sequence[int | None], name: str, dtype: str | None = None) -> InputLayer:
        """One that the user did not make: its name may change where another layer has it."""
        layer = cls(shape, dtype=dtype, name=name)
        layer._named = False
        return layer

    def make(self, shape: Sequence[int | None] | None = None) -> Tensor:
        """A new tensor of this input: real for floating dtypes, of indices (int32) for integer ones. ``shape``: of the
        whole, where sizes are known that were not."""
        kind = "real" if np.dtype(self.dtype).kind == "f" else "index"
        tensor = Tensor((None, *self.shape) if shape is None else tuple(shape), None, self.name, kind)
        tensor.call = Call(self, (), {}, tensor, (), (tensor,))
        self.built = True
        return tensor

    def call(self, inputs: Any) -> Any:
        return inputs


@keywords
def Input(shape: Sequence[int | None], *others: Any, dtype: str | None = None, name: str | None = None) -> Tensor:
    """A tensor for a model's input. ``shape``: of one sample, without the batch: ``Input((28, 28))``; None is a size
    that may differ from batch to batch: ``Input((None, 4))``, steps of any number.

    ``dtype``: what layers see: floating (default "float32") for numbers, an integer one for indices (labels, tokens).
    The user's arrays may have any real dtype; they are converted as they are read.
    Raises TypeError or ValueError for a shape that is not a tuple of positive integers or None, or another dtype.
    """
    if others:
        given = (shape, *others)
        expected = f"Input: expected one shape, without the batch, as Input({given})"
        raise TypeError(f"{expected}, got {', '.join(map(shown, given))}")
    return InputLayer(shape, dtype=dtype, name=name).make()
