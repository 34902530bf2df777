"""What one thread does in a nanosecond, by instruction set and dtype: for deciding how many threads a call is worth.

The ratios were measured on one server core with AVX-512, by products of 192 rows and columns, softmax and tanh. A
factor of two in all of them changes little. Large products reach 2.6 times ``flops``; what is weighed here is small.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nncore import kernels


class Costs(NamedTuple):
    flops: float  # operations of a product or a convolution
    visits: float  # elements that a step or a reduction works on


COSTS = {
    ("v4", "float32"): Costs(100, 4),
    ("v4", "float64"): Costs(48, 1.7),
    ("v3", "float32"): Costs(50, 2.4),
    ("v3", "float64"): Costs(25, 0.9),
    ("v2", "float32"): Costs(18, 0.9),
    ("v2", "float64"): Costs(10, 0.3),
    ("native", "float32"): Costs(18, 0.9),  # vectors of 16 bytes, as v2's
    ("native", "float64"): Costs(10, 0.3),
}


def costs(dtype="float32", isa: str | None = None) -> Costs:
    """Of the chosen instruction set, or ``isa``."""
    return COSTS[isa or kernels.chosen()[0], np.dtype(dtype).name]
