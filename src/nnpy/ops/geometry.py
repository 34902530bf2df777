"""How the windows of convolutions and pooling lie on images, forward and for the gradient by the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """How windows lie on an image: their ``size``, ``strides``, ``dilation``; zeros ``before`` and ``after`` the image.
    Pairs: height, width. ``groups``: of channels that do not mix."""

    size: Pair
    strides: Pair = (1, 1)
    dilation: Pair = (1, 1)
    before: Pair = (0, 0)
    after: Pair = (0, 0)
    groups: int = 1

    def extent(self, axis: int) -> int:
        """From a window's first pixel to its last one."""
        return (self.size[axis] - 1) * self.dilation[axis] + 1

    def places(self, image: Sequence[int]) -> Pair:
        """How many windows an image of this height and width has."""
        rows, columns = (
            (image[a] + self.before[a] + self.after[a] - self.extent(a)) // self.strides[a] + 1 for a in (0, 1)
        )
        return rows, columns

    @property
    def is_point(self) -> bool:
        """Each pixel by itself: a matrix product."""
        return self == Window((1, 1))


@dataclass(frozen=True)
class Phase:
    """One call of the kernel. Of each axis: the first pixel written and how many are, and what of a window lies before
    the image. ``taps``: (row, column) in the window, and the weight's place."""

    first: Pair
    count: Pair
    before: Pair
    taps: tuple[tuple[int, int, int], ...]


def forward_phase(window: Window, image: Sequence[int]) -> Phase:
    """The convolution itself."""
    taps = [
        (i * window.dilation[0], j * window.dilation[1], i * window.size[1] + j)
        for i in range(window.size[0])
        for j in range(window.size[1])
    ]
    return Phase((0, 0), window.places(image), window.before, tuple(taps))


def gradient_phases(window: Window, image: Sequence[int]) -> list[Phase]:
    """The gradient by the image as convolutions of the gradient by the output, one for each phase of its pixels.

    Pixel p of an axis lies in the window of output o at place k if p = o * stride + k * dilation - before.
    """

    def axis_taps(axis: int, phase: int) -> list[tuple[int, int]]:
        """(output's place relative to pixel p // stride, k), by increasing place."""
        taps = []
        for k in range(window.size[axis]):
            distance = phase + window.before[axis] - k * window.dilation[axis]
            if distance % window.strides[axis] == 0:
                taps.append((distance // window.strides[axis], k))
        return sorted(taps)

    phases = []
    for a in range(min(window.strides[0], image[0])):
        for b in range(min(window.strides[1], image[1])):
            rows, columns = axis_taps(0, a), axis_taps(1, b)
            if not rows or not columns:
                rows = columns = []
            top, left = (taps[0][0] if taps else 0 for taps in (rows, columns))
            taps = [(r - top, c - left, i * window.size[1] + j) for r, i in rows for c, j in columns]
            count = (ceil((image[0] - a) / window.strides[0]), ceil((image[1] - b) / window.strides[1]))
            phases.append(Phase((a, b), count, (-top, -left), tuple(taps)))
    return phases


def turned(window: Window) -> Window:
    """The window that the gradient by the input has on the gradient by the output, where strides are 1."""
    before, after = (
        (window.extent(0) - 1 - zeros[0], window.extent(1) - 1 - zeros[1]) for zeros in (window.before, window.after)
    )
    return Window(window.size, (1, 1), window.dilation, before, after, window.groups)
