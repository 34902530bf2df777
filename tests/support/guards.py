"""Arrays with guards around them: what a kernel writes beside its result is found."""

import numpy as np

GUARD = 77.0


def guarded(shape, dtype):
    """An array with guards before and behind it, and a check that they are untouched."""
    whole = np.full(int(np.prod(shape)) + 64, GUARD, dtype)

    def check():
        assert (whole[:32] == GUARD).all() and (whole[-32:] == GUARD).all(), "memory around the result was written"

    return whole[32:-32].reshape(shape), check
