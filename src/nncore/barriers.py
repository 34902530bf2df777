"""Which ops of a Program must wait for all threads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nncore.refs import Touch

if TYPE_CHECKING:
    from nncore.ops import Op

_FEW = 8  # ops that are looked through one by one


def place_barriers(ops: Sequence[Op]) -> list[bool]:
    """Which ops must wait for all threads: those that touch what an op since the last barrier wrote, or write what it
    read. Ops that run on one thread run on the same one, so between two of them order is enough; and so it is where as
    many threads share the rows of what both touch. Ops that commit wait for those that report, and the other way
    round. The time is about proportional to the number of ops."""
    barriers: list[bool] = []
    pending = _Pending()
    for op in ops:
        wait = pending.conflict(op)
        if wait:
            pending = _Pending()
        pending.add(op)
        barriers.append(wait)
    return barriers


class _Pending:
    """The ops since the last barrier. What they touched is found by its place, but for the last few."""

    def __init__(self) -> None:
        self.ops: list[Op] = []  # those that have no place yet
        self.teams = False  # any of more than one thread
        self.reports = self.commits = 0  # the most threads of one that may report an error, of one that commits
        self.written, self.read = _Places(), _Places()

    def add(self, op: Op) -> None:
        self.ops.append(op)
        self.teams |= op.threads > 1
        self.reports = max(self.reports, op.threads * op.reports)
        self.commits = max(self.commits, op.threads * op.commits)

    def conflict(self, op: Op) -> bool:
        if op.threads == 1 and not self.teams:
            return False
        other = self.reports if op.commits else self.commits if op.reports else 0
        if other and max(other, op.threads) > 1:
            return True
        if len(self.ops) > _FEW:
            for before in self.ops:
                self.written.add(before.writes, before.threads)
                self.read.add(before.reads, before.threads)
            self.ops.clear()
        if self.written.cells or self.read.cells:
            found = (
                self.written.overlap(op.reads, op.threads)
                or self.written.overlap(op.writes, op.threads)
                or self.read.overlap(op.writes, op.threads)
            )
            if found:
                return True
        return any(
            (op.threads > 1 or before.threads > 1)
            and (
                _conflict(op.reads, before.writes, op.threads == before.threads)
                or _conflict(op.writes, before.writes, op.threads == before.threads)
                or _conflict(op.writes, before.reads, op.threads == before.threads)
            )
            for before in self.ops
        )


def _conflict(some: Iterable[Touch], others: Iterable[Touch], same_team: bool) -> bool:
    """Whether memory overlaps that is not shared out among the same threads in the same way."""
    for start, end, rows in some:
        for other_start, other_end, other_rows in others:
            if start < other_end and other_start < end and not (same_team and rows is not None and rows == other_rows):
                return True
    return False


class _Places:
    """Touches by place: one of up to 2**k bytes is in the two cells of 2**k bytes, at most, in which it lies."""

    def __init__(self) -> None:
        self.cells: dict[int, dict[int, set[tuple[Touch, int]]]] = {}  # k -> number of the cell -> (touch, threads)

    def add(self, touches: Iterable[Touch], threads: int) -> None:
        for touch in touches:
            k = (touch.end - touch.start).bit_length()
            cells = self.cells.setdefault(k, {})
            for number in {touch.start >> k, (touch.end - 1) >> k}:
                cells.setdefault(number, set()).add((touch, threads))

    def overlap(self, touches: Iterable[Touch], threads: int) -> bool:
        return any(
            start < other.end
            and other.start < end
            and (threads > 1 or many > 1)
            and not (threads == many and rows is not None and rows == other.rows)
            for start, end, rows in touches
            for k, cells in self.cells.items()
            for number in _numbers(cells, start >> k, (end - 1) >> k)
            for other, many in cells.get(number, ())
        )


def _numbers(cells: dict[int, set], first: int, last: int) -> Iterable[int]:
    """The numbers of cells from first to last, of those that there are if these are fewer."""
    return range(first, last + 1) if last - first < len(cells) else [n for n in cells if first <= n <= last]
