"""Memory planning: buffers that are not needed at the same time share the arena."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nncore.memory import ALIGNMENT

_SMALL = 256 << 10  # bytes: well inside the second level of cache
_FEW = 600  # buffers that are looked at all by all


@dataclass(eq=False)
class Buffer:
    """Memory of a Program: a piece of the arena, or ``external`` (an array that exists already). ``lasting``: what is
    written there outlives the step."""

    nbytes: int
    external: Any = None
    lasting: bool = False
    held: bool = False  # read from outside after a run: its memory is never reused
    first: int = -1  # the calls between which it lives
    last: int = -1
    offset: int = -1

    def touch(self, call: int) -> None:
        self.first = call if self.first < 0 else self.first
        self.last = max(self.last, call)


class Slot(NamedTuple):
    """``nbytes`` of a buffer from byte ``offset`` on."""

    buffer: Buffer
    offset: int
    nbytes: int


def plan(buffers: Sequence[Buffer], calls: int, reuse: bool = True) -> int:
    """Give every buffer of the arena its offset; returns the arena's size in bytes.

    For networks, whose buffers die in the reverse of the order in which they were born, it is within a few percent of
    the most that lives at once. What is small altogether shares nothing (nor does anything without ``reuse``): an op
    that writes where another one read must wait for it.
    """
    alive = [b for b in buffers if b.external is None and b.first >= 0]
    if not reuse or sum(b.nbytes for b in alive) <= _SMALL:
        size = 0
        for buffer in alive:
            buffer.offset = size
            size += _padded(buffer.nbytes)
        return size
    for buffer in alive:
        if buffer.held:
            buffer.first, buffer.last = 0, calls
    return _by_size(alive) if len(alive) <= _FEW else _by_time(alive)


def _padded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _by_size(buffers: Sequence[Buffer]) -> int:
    """Largest first, each at the lowest offset that is free over its whole life."""
    placed: list[Buffer] = []
    size = 0
    for buffer in sorted(buffers, key=lambda b: (-b.nbytes, b.first)):
        offset = 0
        for other in placed:  # by offset
            if other.last < buffer.first or buffer.last < other.first:
                continue
            if offset + buffer.nbytes <= other.offset:
                break
            offset = max(offset, other.offset + _padded(other.nbytes))
        buffer.offset = offset
        insort(placed, buffer, key=lambda b: b.offset)
        size = max(size, offset + buffer.nbytes)
    return size


def _by_time(buffers: Sequence[Buffer]) -> int:
    """In the order in which they are born, each at the lowest offset that is free then: for many buffers, in time that
    grows little faster than their number."""
    free: list[tuple[int, int]] = []  # (offset, size) of gaps, by offset
    living: list[tuple[int, int, int]] = []  # (last call, offset, size)
    top = size = 0
    for buffer in sorted(buffers, key=lambda b: (b.first, -b.last)):
        while living and living[0][0] < buffer.first:
            _, start, room = heapq.heappop(living)
            top = _released(free, start, room, top)
        need = _padded(buffer.nbytes)
        place = next((i for i, (_, room) in enumerate(free) if room >= need), None)
        if place is None:
            buffer.offset, top = top, top + need
        else:
            buffer.offset, room = free[place]
            free[place : place + 1] = [(buffer.offset + need, room - need)] if room > need else []
        heapq.heappush(living, (buffer.last, buffer.offset, need))
        size = max(size, buffer.offset + buffer.nbytes)
    return size


def _released(free: list[tuple[int, int]], start: int, room: int, top: int) -> int:
    """Put a gap among the others, joined with its neighbours; where it ends at the top, the top comes down."""
    place = bisect_left(free, (start, 0))
    if place < len(free) and start + room == free[place][0]:
        room += free.pop(place)[1]
    if place and sum(free[place - 1]) == start:
        place -= 1
        start, before = free.pop(place)
        room += before
    if start + room == top:
        return start
    free.insert(place, (start, room))
    return top
