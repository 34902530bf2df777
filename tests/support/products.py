"""What the tests of matrix products share."""

import numpy as np

GUARD = 7.25  # what the memory around C holds


def data(shape, dtype, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)


def tolerance(a, b, dtype):
    """A few units in the last place of the largest sum of absolute products."""
    sums = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    return (4 + np.sqrt(a.shape[1])) * np.finfo(dtype).eps * (sums.max(initial=0) + GUARD)


def around(*blocks):
    return sorted({size + d for size in blocks for d in (-1, 0, 1) if size + d >= 0})
