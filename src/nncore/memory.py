"""Memory of Programs: aligned arrays, huge pages where the system gives them, and the state array."""

import mmap
from contextlib import suppress

import numpy as np

from nncore.program import debug_build, state_layout

LAYOUT = state_layout()
DRAW, ROW, BATCH, LOCAL = (LAYOUT[name] for name in ("DRAW", "ROW", "BATCH", "LOCAL"))
INDICES, RATES, SEED, SLOTS = (LAYOUT[name] for name in ("INDICES", "RATES", "SEED", "SLOTS"))
EPOCH, NUMBERS, STEPS = LAYOUT["EPOCH"], LAYOUT["NUMBERS"], LAYOUT["STEPS"]
ERROR_OP, ERROR_ROW, ERROR_VALUE = (LAYOUT[name] for name in ("ERROR_OP", "ERROR_ROW", "ERROR_VALUE"))
ALIGNMENT = 64
_HUGE = 2 << 20


def aligned(shape, dtype="float32") -> np.ndarray:
    """A zeroed, writeable array, 64-byte aligned; on huge pages (if the system gives them) from 2 MiB up."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    nbytes = count * dtype.itemsize
    if debug_build():  # no slack behind the end: AddressSanitizer must see the first byte too many
        return np.zeros(shape, dtype)
    if nbytes < _HUGE:
        raw = np.zeros(nbytes + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
    else:
        # Private: shared pages would be written by forked children too, and are rarely huge.
        pages = mmap.mmap(-1, nbytes + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel built without them
                pages.madvise(mmap.MADV_HUGEPAGE)
        raw = np.frombuffer(pages, np.uint8)
        start = -raw.ctypes.data % _HUGE
    return raw[start : start + nbytes].view(dtype).reshape(shape)


def new_state(batch: int = 1, seed: int = 0) -> np.ndarray:
    """The state array of a Program: counters at 0, no row indices (rows in order), no learning rates."""
    state = np.zeros(LAYOUT["SIZE"], np.int64)
    state[BATCH], state[SEED] = batch, seed
    return state
