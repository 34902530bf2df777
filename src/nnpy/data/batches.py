"""Batches of arrays that are larger than memory, and splits of samples into training and validation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nnpy import seeds
from nnpy.checks import flag, integer, real, shown
from nnpy.data.inputs import common_length, to_array
from nnpy.hints import keywords


class Batches:
    """Batches of rows of arrays, copied when they are asked for: of memory-mapped files, whose whole would not fit into
    memory, or of scipy's sparse matrices, of which a batch alone is made dense. An iterable for ``fit`` and the others.

    ``x``, ``y``, ``sample_weight``: arrays whose first axis is the samples (``numpy.load(path, mmap_mode="r")``).
    In ``fit`` a pass has the order that ``fit(x, y)`` has, from the model's seed: the same bits come out; rows are read
    in the order of the file within a batch. ``drop_remainder``: leave out a last, smaller batch.
    ``nn.data.prefetch(batches)`` reads the next batches while a step runs. Raises TypeError or ValueError for arrays
    without rows, or of other lengths.

    Example::

        x, y = np.load("x.npy", mmap_mode="r"), np.load("y.npy", mmap_mode="r")
        model.fit(nn.data.prefetch(nn.data.Batches(x, y, batch_size=256)), epochs=5)
    """

    def __init__(
        self, x: Any, y: Any = None, batch_size: int = 32, sample_weight: Any = None, drop_remainder: bool = False
    ):
        given = [("x", x), ("y", y), ("sample_weight", sample_weight)]
        self.arrays = [(what, _rows(value, what)) for what, value in given if value is not None]
        self.count = common_length(self.arrays)
        if sample_weight is not None and y is None:
            raise ValueError("Batches: expected y beside sample_weight, got None")
        self.batch_size = integer("Batches", "batch_size", batch_size, least=1)
        self.drop_remainder = flag("Batches", "drop_remainder", drop_remainder)

    def __len__(self) -> int:
        return self.count // self.batch_size if self.drop_remainder else -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        return self.in_order()

    def in_order(self) -> Iterator[Any]:
        """The batches as evaluation and prediction take them."""
        return self._of(np.arange(self.count))

    def in_pass(self, number: int, seed: int) -> Iterator[Any]:
        """The batches as ``fit`` takes them in that pass."""
        return self._of(seeds.stream("shuffle", number, seed).permutation(self.count))

    def _of(self, order: np.ndarray) -> Iterator[Any]:
        for first in range(0, len(self) * self.batch_size, self.batch_size):
            rows = order[first : first + self.batch_size]
            parts = tuple(_taken(array, rows) for _, array in self.arrays)
            yield parts if len(parts) > 1 else parts[0]


def _rows(value: Any, what: str) -> Any:
    """What rows can be taken of: an array, or a sparse matrix by its rows."""
    if hasattr(value, "tocsr"):
        return value.tocsr()
    return to_array(value, what)


def _taken(array: Any, rows: np.ndarray) -> np.ndarray:
    """Copies of rows, read from the first to the last: a disk is faster so."""
    if hasattr(array, "tocsr"):
        return array[rows].toarray()
    places = np.argsort(rows)
    found = np.empty((len(rows), *array.shape[1:]), array.dtype)
    found[places] = array[rows[places]]
    return found


@keywords
def split(
    *arrays: Any,
    fraction: float = 0.2,
    stratify: Any = None,
    groups: Any = None,
    time: Any = None,
    seed: int = 0,
) -> list[Any]:
    """Arrays split into training and validation: ``x, x_val, y, y_val = split(x, y)``; copies of rows.

    ``fraction``: of the samples, for validation. At random under ``seed``, or, at most one of: ``stratify``: labels
    (n,), each of which is split by itself, so that both parts have as much of each; at least one sample of a label
    stays in training. ``groups``: (n,), the samples of a group (a patient, a user) are all in one part. ``time``: (n,),
    the latest samples are for validation, none of which is as early as one of training. Raises TypeError or ValueError
    for arguments that do not fit, and where a part would have no samples.

    Example::

        >>> import numpy as np, nnpy as nn
        >>> y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        >>> train, validation = nn.data.split(y, fraction=0.25, stratify=y)
        >>> int(train.sum()), int(validation.sum())
        (3, 1)
    """
    if not arrays:
        raise TypeError("split: expected at least one array, got none")
    rows = [_rows(array, f"array {number}") for number, array in enumerate(arrays)]
    count = common_length([(f"array {number}", array) for number, array in enumerate(rows)])
    fraction = real("split", "fraction", fraction, above=0, below=1)
    given = [(n, v) for n, v in (("stratify", stratify), ("groups", groups), ("time", time)) if v is not None]
    if len(given) > 1:
        names = " and ".join(name for name, _ in given)
        raise ValueError(f"split: expected at most one of stratify, groups and time, got {names}")
    generator = np.random.default_rng(integer("split", "seed", seed, least=0))
    held = np.zeros(count, bool)
    if not given:
        held[generator.permutation(count)[: round(fraction * count)]] = True
    else:
        name, labels = given[0][0], np.asarray(given[0][1])
        if labels.shape != (count,):
            raise ValueError(f"split: expected {name} of shape ({count},), got {labels.shape}")
        held = {"stratify": _stratified, "groups": _grouped, "time": _latest}[name](labels, fraction, generator)
    if not held.any() or held.all():
        raise ValueError(
            f"split: expected samples for both parts, got {int(held.sum())} of {count} for validation; give another "
            "fraction"
        )
    order = generator.permutation(count) if time is None else np.argsort(np.asarray(time), kind="stable")
    return [part for array in rows for part in (array[order[~held[order]]], array[order[held[order]]])]


def _stratified(labels: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Of each label its share, rounded so that the whole has its share too (the largest remainders are rounded up)."""
    names, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts.min() < 2:
        raise ValueError(
            f"split: expected labels that come twice or more in stratify, got {names[counts.argmin()]!r} once (of "
            f"{len(names)} labels)"
        )
    wanted = np.minimum(fraction * counts, counts - 1)
    taken = np.floor(wanted).astype(int)
    more = max(0, round(fraction * len(labels)) - int(taken.sum()))
    for label in np.argsort(taken - wanted, kind="stable")[:more]:
        taken[label] += taken[label] < counts[label] - 1
    held = np.zeros(len(labels), bool)
    for label, number in enumerate(taken):
        held[generator.permutation(np.flatnonzero(numbers == label))[:number]] = True
    return held


def _grouped(labels: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Whole groups, in a random order, as long as that brings their number nearer to what is wanted."""
    _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    wanted, chosen, total = fraction * len(labels), [], 0
    for group in generator.permutation(len(counts)):
        if abs(total + counts[group] - wanted) < abs(total - wanted):
            chosen.append(group)
            total += counts[group]
    return np.isin(numbers, chosen)


def _latest(times: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """The latest; samples of one time are all in one part."""
    if times.dtype.kind not in "fiubM" or (times.dtype.kind == "f" and np.isnan(times).any()):
        raise TypeError(f"split: expected time to be numbers or dates, got {shown(times)}")
    wanted = max(1, round(fraction * len(times)))
    return times > np.sort(times)[-wanted - 1] if wanted < len(times) else np.ones(len(times), bool)
