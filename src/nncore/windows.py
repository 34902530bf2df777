"""Where the windows of a convolution lie on an image: lists of what is inside, for the kernel conv.

A window that reaches over the edge sums less; nothing is ever copied to put zeros around an image. Along an axis most
windows lie inside altogether, so there are few different kinds: their lists are made once, for a Program.
"""

from collections.abc import Sequence

import numpy as np

Pair = tuple[int, int]


def inside(size: int, count: int, stride: int, before: int, taps: Sequence[int]) -> list[tuple[int, ...]]:
    """Of each of ``count`` windows along an axis, the first at -``before``, the taps that are on the image."""
    return [tuple(t for t in taps if 0 <= i * stride - before + t < size) for i in range(count)]


def clipped(
    taps: Sequence[tuple[int, int, int]],
    image: Pair,
    channels: int,
    counts: Pair,
    strides: Pair = (1, 1),
    before: Pair = (0, 0),
    groups: int = 1,
) -> dict[str, np.ndarray]:
    """The arguments rows, columns, runs and starts of the kernel conv.

    ``taps``: (row, column) in the window, and place: the weight's number in its packed form. ``image``: height and
    width; ``counts``: windows along each axis; ``before``: pixels of them above and left of the image.

    rows[counts[0]]: of each row of windows its kind. columns[n, 3]: stretches (first, last + 1, kind) of columns.
    runs[starts[a * kinds of columns + b]] and on: what windows of kind a and b sum: numbers that lie together, (offset
    of the first from the window's first, how many, row of the packed weights for the first).
    """
    kinds = []
    for axis in (0, 1):
        places = sorted({tap[axis] for tap in taps})
        kinds.append(inside(image[axis], counts[axis], strides[axis], before[axis], places))
    row_kinds, column_kinds = (list(dict.fromkeys(of_axis)) for of_axis in kinds)
    columns: list[list[int]] = []
    for j, kind in enumerate(kinds[1]):
        number = column_kinds.index(kind)
        if columns and columns[-1][2] == number:
            columns[-1][1] = j + 1
        else:
            columns.append([j, j + 1, number])
    runs: list[list[int]] = []
    starts, each = [0], channels // groups
    for rows in row_kinds:
        for across in column_kinds:
            mine: list[list[int]] = []
            for row, column, place in taps:
                if row not in rows or column not in across:
                    continue
                offset, first = (row * image[1] + column) * channels, place * each
                together = mine and groups == 1 and mine[-1][0] + mine[-1][1] == offset
                if together and mine[-1][2] + mine[-1][1] == first:
                    mine[-1][1] += each
                else:
                    mine.append([offset, each, first])
            runs += mine
            starts.append(len(runs))
    return dict(
        rows=np.array([row_kinds.index(kind) for kind in kinds[0]], np.int64),
        columns=np.array(columns, np.int64).reshape(-1, 3),
        runs=np.array(runs, np.int64).reshape(-1, 3),
        starts=np.array(starts, np.int64),
    )
