"""Memory planning: buffers that are not needed at the same time share the arena."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nncore.memory import ALIGNMENT

_SMALL = 256 << 10  # bytes: well inside the second level of cache


@dataclass(eq=False)
class Buffer:
    """Memory of a Program: a piece of the arena, or ``external`` (an array that exists already)."""

    nbytes: int
    external: Any = None
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


def plan(buffers: Sequence[Buffer], calls: int) -> int:
    """Give every buffer of the arena its offset; returns the arena's size in bytes.

    Largest first, each at the lowest offset that is free over its whole life: for networks, whose buffers die in the
    reverse of the order in which they were born, within a few percent of the most that lives at once. What is small
    altogether shares nothing: an op that writes where another one read must wait for it.
    """
    placed: list[Buffer] = []
    size = 0
    alive = [b for b in buffers if b.external is None and b.first >= 0]
    if sum(b.nbytes for b in alive) <= _SMALL:
        for buffer in alive:
            buffer.offset = size
            size += -(-buffer.nbytes // ALIGNMENT) * ALIGNMENT
        return size
    for buffer in sorted(alive, key=lambda b: (-b.nbytes, b.first)):
        if buffer.held:
            buffer.first, buffer.last = 0, calls
        offset = 0
        for other in sorted(placed, key=lambda b: b.offset):
            if other.last < buffer.first or buffer.last < other.first:
                continue
            if offset + buffer.nbytes <= other.offset:
                break
            offset = max(offset, -(-(other.offset + other.nbytes) // ALIGNMENT) * ALIGNMENT)
        buffer.offset = offset
        placed.append(buffer)
        size = max(size, offset + buffer.nbytes)
    return size
