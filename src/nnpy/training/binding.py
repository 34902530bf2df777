"""What a run sets before it begins: addresses and cells of the state, steps of batches, the optimizer's table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nncore.memory import SLOTS
from nnpy.data.images import Images
from nnpy.data.sparse import Sparse


class Rates:
    """The columns of the optimizer's rule in the steps up to ``end``, asked for once, unless its attributes are set
    meanwhile."""

    def __init__(self, optimizer: Any, end: int):
        self.optimizer, self.end = optimizer, end
        self._changes = -1
        self._first, self._table = 0, np.empty(0)

    def of(self, update: int, count: int) -> np.ndarray:
        """Of ``count`` steps, at least, from ``update`` on."""
        changes, last = self.optimizer.changes, self._first + len(self._table)
        if changes != self._changes or not self._first <= update <= last - count:
            self._table = self.optimizer.columns(update, max(count, self.end - update))
            self._changes, self._first = changes, update
        return self._table[update - self._first :]


def parts(samples: int, batch: int, steps: int) -> list[tuple[int, int]]:
    """(batch size, how many) of ``steps`` steps over the samples: full batches, then a smaller one."""
    full, rest = divmod(samples, batch)
    result = [(batch, min(full, steps))] if min(full, steps) else []
    return [*result, (rest, 1)] if rest and steps > full else result


def bind(state: np.ndarray, arrays: Sequence[np.ndarray | Images | Sparse], setup: dict[int, int]) -> None:
    """Write the addresses of arrays and other cells; the caller keeps the arrays alive."""
    for slot, array in enumerate(arrays):
        state[SLOTS + slot] = address(array)
    for cell, value in setup.items():
        state[cell] = value


def address(array: np.ndarray | Images | Sparse) -> int:
    """Of what a Program reads: of a sparse matrix, the table of its addresses."""
    if not isinstance(array, np.ndarray):
        array = array.x if isinstance(array, Images) else array.table
    return array.__array_interface__["data"][0]
