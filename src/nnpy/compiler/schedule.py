"""Scheduling: in what order calls come, and how many threads share each. Results do not depend on it.

A barrier costs as much as a small network's layer. Between calls that share out the same rows in the same way none is
needed (``nncore.ops.place_barriers``), so such calls form phases: each thread takes its samples through a whole forward
pass, say, before the threads meet.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from nncore import Step
from nncore.kernels.signatures import REPORTS, ROWS, SIGNATURES
from nncore.refs import Ref, ref
from nnpy.compiler.memory import Buffer, Slot
from nnpy.ops.base import StepSpec

_NS_PER_THREAD = 1500  # less work than this for each thread is not worth a barrier
_NS_OF_ONE = 300  # a call of less stays on one thread: on the same one as the next such call
NS_OF_PHASE = 200_000  # a call of more has a barrier's worth of better ways to be split than by rows
_LEAST_ROWS = 8  # of a thread in a phase
_REORDERED_NS = 500_000  # programs of more work, or more calls, keep the order of the graph: caches matter more
_REORDERED_CALLS = 400


@dataclass(eq=False)
class Call:
    """A kernel with its arguments: Slots, arrays and numbers. ``nanoseconds``: its work on one thread, estimated."""

    name: str
    arguments: dict[str, Any]
    steps: list[tuple[StepSpec, dict[str, Any]]] = field(default_factory=list)
    nanoseconds: float = 0.0
    most: int = 1 << 20  # threads that can share it
    threads: int = 1
    function: Any = None  # of nncore.jit, in place of a kernel from the tables
    once: bool = False  # only in the first step of a run
    every: int = 1  # in the steps whose number, divided by it, leaves ``phase``
    phase: int = 0
    commits: bool = False  # not in a step in which another call has reported an error
    node: Any = None  # of the graph, whose call it is
    flops: int = 0  # where they are counted

    def slots(self) -> Iterable[tuple[Slot, bool]]:
        """The memory that it touches; whether it is written."""
        written = _WRITTEN[self.name] if self.function is None else {"out"}
        for name, value in self.arguments.items():
            if isinstance(value, Slot | np.ndarray):
                yield _slot(value), name in written
        for spec, values in self.steps:
            for value in values.values():
                if isinstance(value, Step):  # the optimizer's
                    yield from ((_slot(memory), writes) for memory, writes, *_ in value.memory())
                elif isinstance(value, tuple):
                    yield _slot(value[0]), spec.kind == "store"

    @property
    def changes(self) -> bool:
        """Whether it writes what outlives the step: variables, accumulators."""
        return any(written and slot.buffer.lasting for slot, written in self.slots())

    @property
    def reports(self) -> bool:
        """Whether it may report an error."""
        return self.name in REPORTS and self.arguments.get("state") is not None


def _slot(memory: Slot | np.ndarray | Ref) -> Slot:
    """Memory that exists already, as a slot."""
    if isinstance(memory, Slot):
        return memory
    there = ref(memory)
    return Slot(Buffer(0, external=there, lasting=True), 0, there.nbytes)


_WRITTEN = {
    name: {pointer.rstrip("!?") for pointer in signature.pointers if "!" in pointer}
    for name, signature in SIGNATURES.items()
}


def schedule(calls: Sequence[Call], batch: int, phases: bool = True) -> list[Call]:
    """The calls in a good order, their ``threads`` set, and ``by_rows`` where they are part of a phase. Without
    ``phases`` they keep their order."""
    ordered = _reports_first(list(calls))
    if phases and len(ordered) <= _REORDERED_CALLS and sum(call.nanoseconds for call in ordered) <= _REORDERED_NS:
        ordered = _phases_first(ordered, batch)
    for rows, group in groupby(ordered, key=lambda call: _rows(call, batch)):
        some = list(group)
        if rows:
            _share_rows(some, rows)
        else:
            for part in _independent(some):
                _share_work(part)
    return ordered


def _reports_first(calls: list[Call]) -> list[Call]:
    """A step in which an error is reported changes nothing. Indices that are used behind the first call that
    ``commits`` are looked at before it; those that are computed of what such a call gives stay where they are."""
    if not any(call.reports for call in calls):
        return calls
    for call in calls:
        call.commits = call.changes
    some: list[Call] = []
    checks: list[int] = []
    behind = False
    for call in calls:
        behind |= call.commits
        if behind and call.reports and not call.commits:
            made = list(_checks(call))
            checks += range(len(some), len(some) + len(made))
            some += made
        some.append(call)
    needs = _needs(some) if checks else []
    early: set[int] = set()
    for check in checks:
        found, pending = {check}, [check]
        while pending:
            more = needs[pending.pop()] - found
            found |= more
            pending += more
        if not any(some[position].commits for position in found):
            early |= found
    left = [p for p in range(len(some)) if p not in early and p not in checks]
    return [some[position] for position in [*sorted(early), *left]]


def _checks(call: Call) -> Iterable[Call]:
    """Calls that report what this one would, of its indices alone."""
    given = call.arguments
    sizes: dict[str, Any] = {name: given[name] for name in ("ignoring", "ignore") if name in given}
    sizes.update(state=given["state"], rows=given["rows"], cols=given.get("table_rows", given["cols"]))
    for name in ("index", "labels", "predictions"):
        if name in given:
            indices = dict(labels=given[name], predictions=given[name], **sizes)
            yield Call("confusion", indices, nanoseconds=float(given["rows"]), node=call.node)


def _rows(call: Call, batch: int) -> int:
    """The rows, some of each sample, that threads can share out for a whole phase; 0 if they cannot."""
    given = call.arguments
    if call.name not in ROWS or call.nanoseconds > NS_OF_PHASE or given.get("cs_a", 1) != 1 or given.get("parts"):
        return 0
    rows = given[ROWS[call.name][0]]
    return rows if rows >= 2 * _LEAST_ROWS and rows % batch == 0 and batch > 1 else 0


def _share_rows(calls: list[Call], rows: int) -> None:
    threads = min(_worth(sum(call.nanoseconds for call in calls)), rows // _LEAST_ROWS, *(call.most for call in calls))
    for call in calls:
        call.threads = threads
        if threads > 1 and "by_rows" in SIGNATURES[call.name].sizes:
            call.arguments["by_rows"] = 1


def _share_work(calls: list[Call]) -> None:
    """Threads for calls that are independent of each other."""
    threads = _worth(sum(call.nanoseconds for call in calls))
    for call in calls:
        call.threads = 1 if call.nanoseconds < _NS_OF_ONE else min(threads, call.most)


def _independent(calls: list[Call]) -> Iterable[list[Call]]:
    """Runs of calls, none of which needs another one of some work."""
    run: list[Call] = []
    for call in calls:
        if any(before.nanoseconds >= _NS_OF_ONE and _depends(call, before) for before in run):
            yield run
            run = []
        run.append(call)
    if run:
        yield run


def _worth(nanoseconds: float) -> int:
    return max(1, int(nanoseconds // _NS_PER_THREAD))


def _depends(later: Call, earlier: Call) -> bool:
    return any(
        (written or wrote) and _overlap(slot, other)
        for slot, written in later.slots()
        for other, wrote in earlier.slots()
    )


def _overlap(one: Slot, other: Slot) -> bool:
    a, b = one.buffer, other.buffer
    if a is not b and (a.external is None or b.external is None):
        return False
    start, end = _place(one), _place(other)
    return start < end + other.nbytes and end < start + one.nbytes


def _place(slot: Slot) -> int:
    return slot.offset + (slot.buffer.external.address if slot.buffer.external is not None else 0)


def _phases_first(calls: list[Call], batch: int) -> list[Call]:
    """The calls that share out rows as early as they can come, so that they come together."""
    count = len(calls)
    needs = _needs(calls)
    before: set[int] = set()  # calls that may report come before those that commit
    for position, call in enumerate(calls):
        if call.commits:
            needs[position] |= before
        elif call.reports and not any(earlier.commits for earlier in calls[:position]):
            before.add(position)
    by_rows = [_rows(call, batch) > 0 for call in calls]
    urgent = list(by_rows)  # those that a call of a phase waits for
    for position in range(count - 1, -1, -1):
        if urgent[position]:
            for needed in needs[position]:
                urgent[needed] = True
    order: list[Call] = []
    done: set[int] = set()
    left = list(range(count))
    while left:
        ready = [position for position in left if needs[position] <= done]
        position = min(ready, key=lambda p: (not by_rows[p], not urgent[p], p))
        order.append(calls[position])
        done.add(position)
        left.remove(position)
    return order


def _needs(calls: list[Call]) -> list[set[int]]:
    """Of each call the positions of those that must come before it, by the memory that they touch."""
    writers: dict[Any, list[int]] = {}
    readers: dict[Any, list[int]] = {}
    needs: list[set[int]] = [set() for _ in calls]
    touched = [[(slot, written) for slot, written in call.slots()] for call in calls]
    keys = _Keys(slot for some in touched for slot, _ in some)
    for position, some in enumerate(touched):
        parts = [(key, written) for slot, written in some for key in keys.of(slot)]
        for key, written in parts:
            needs[position].update(writers.get(key, ()))
            if written:
                needs[position].update(readers.get(key, ()))
        for key, written in parts:
            (writers if written else readers).setdefault(key, []).append(position)
        needs[position].discard(position)
    return needs


class _Keys:
    """What stands for memory: a buffer of the arena as a whole; of memory that exists already (weights, and flat
    buffers that hold many of them) the pieces between all ends that occur."""

    def __init__(self, slots: Iterable[Slot]):
        ends: set[int] = set()
        for slot in slots:
            if slot.buffer.external is not None:
                start = _place(slot)
                ends.update((start, start + slot.nbytes))
        self.ends = sorted(ends)

    def of(self, slot: Slot) -> Iterable[Any]:
        if slot.buffer.external is None:
            return [id(slot.buffer)]
        start = _place(slot)
        return self.ends[bisect_left(self.ends, start) : bisect_left(self.ends, start + slot.nbytes)]
