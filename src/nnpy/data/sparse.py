"""Sparse matrices of scipy as inputs: the step reads their rows, the whole is never made dense."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnpy.data import inputs as adapt
from nnpy.data.inputs import describe

_MOST = np.iinfo(np.int32).max


class Sparse:
    """A matrix by its rows (CSR), checked: what a Program reads in place of an array.

    Row i has ``data[starts[i]:starts[i + 1]]`` in the columns ``indices`` of the same places. ``table``: the addresses
    of the three. Where rows begin is copied, so that nobody else can change it while a Program runs; the others are the
    user's where a Program can read them. Of columns that a row has twice there is the sum, as ``toarray`` has it.
    """

    ndim = 2

    def __init__(self, matrix: Any, what: str):
        """``matrix``: of scipy, in any format; ``what`` names it in errors. Raises TypeError or ValueError."""
        if len(matrix.shape) != 2:
            raise ValueError(
                f"{what}: expected a sparse matrix (samples, features), got {type(matrix).__name__} of shape "
                f"{describe(matrix.shape)}"
            )
        rows = matrix.tocsr()
        self.shape: tuple[int, int] = (int(matrix.shape[0]), int(matrix.shape[1]))
        if self.shape[1] > _MOST:
            raise ValueError(f"{what}: expected at most {_MOST} columns, got {self.shape[1]}")
        values = adapt.to_array(rows.data, what)
        starts, indices = np.array(rows.indptr, np.int64), np.asarray(rows.indices)
        _check(starts, indices, values, self.shape, what)
        indices, values = indices[: starts[-1]], values[: starts[-1]]
        if not _ascend(starts, indices):
            starts, indices, values = _summed(starts, indices, values)
        values = adapt.readable(values)
        self._hold(starts, np.ascontiguousarray(indices, np.int32), values)

    def _hold(self, starts: np.ndarray, indices: np.ndarray, values: np.ndarray) -> None:
        self.starts, self.indices, self.data = starts, indices.view(), values
        addresses = [array.__array_interface__["data"][0] for array in (starts, self.indices, values)]
        self.table = np.array(addresses, np.int64)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def nbytes(self) -> int:
        return self.starts.nbytes + self.indices.nbytes + self.data.nbytes

    def __getitem__(self, rows: slice) -> Sparse:
        """Some rows one after another: a view."""
        first, last, _ = rows.indices(len(self))
        part = object.__new__(type(self))
        part.shape = (max(0, last - first), self.shape[1])
        part._hold(self.starts[first : first + part.shape[0] + 1], self.indices, self.data)
        return part

    def check_finite(self, dtype: Any, what: str) -> None:
        """Raises ValueError that names the first row and column with what is not finite in ``dtype``."""
        place = adapt.first_bad_row(self.data, dtype)
        if place is not None:
            row = int(np.searchsorted(self.starts, place, "right")) - 1
            adapt.refuse_infinite(self.data[place], dtype, what, row, f", column {self.indices[place]}")


def _check(starts: np.ndarray, indices: np.ndarray, values: np.ndarray, shape: tuple[int, int], what: str) -> None:
    """ValueError for places that are not there: a Program does not look."""
    good = starts.shape == (shape[0] + 1,) and starts[0] == 0 and (np.diff(starts) >= 0).all()
    if not good or starts[-1] > min(len(indices), len(values)):
        raise ValueError(
            f"{what}: expected {shape[0] + 1} ascending numbers in indptr, from 0 to at most "
            f"{min(len(indices), len(values))}, the values there are"
        )
    used = indices[: starts[-1]]
    if used.size and not (used.min() >= 0 and used.max() < shape[1]):
        wrong = int(np.argmax((used < 0) | (used >= shape[1])))
        row = int(np.searchsorted(starts, wrong, "right")) - 1
        raise ValueError(f"{what}: expected columns from 0 to {shape[1] - 1}, got {used[wrong]} in row {row}")


def _ascend(starts: np.ndarray, indices: np.ndarray) -> bool:
    """Whether columns ascend in each row. Matrices remember that, and may be wrong where their arrays were changed."""
    if not len(indices):
        return True
    wrong = indices[1:] <= indices[:-1]
    wrong[starts[(starts > 0) & (starts < len(indices))] - 1] = False
    return not wrong.any()


def _summed(starts: np.ndarray, indices: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Columns in order, each of them once, its values added as they come: scipy sorts them so that those of one column
    may change places."""
    rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    order = np.lexsort((indices, rows))
    rows, indices = rows[order], indices[order]
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(rows) != 0) | (np.diff(indices) != 0)
    sums = np.zeros(int(new.sum()), values.dtype)
    with np.errstate(all="ignore"):  # what is not finite is refused later
        np.add.at(sums, np.cumsum(new) - 1, values[order])
    counts = np.bincount(rows[new], minlength=len(starts) - 1)
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int64), indices[new], sums
