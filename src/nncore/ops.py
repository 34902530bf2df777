"""Op: one call of a kernel, checked and ready to be put into a Program. Ref: a piece of memory."""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import Any, NamedTuple

import numpy as np

from nncore import kernels
from nncore.kernels.signatures import INTEGERS, ROWS, SIGNATURES

ALL = 1 << 20  # more threads than any team has


class Ref(NamedTuple):
    """``nbytes`` of memory at ``address``; ``owner`` keeps it alive."""

    address: int
    nbytes: int
    owner: Any = None


def ref(array: np.ndarray | Ref) -> Ref:
    """The memory that an array spans."""
    if isinstance(array, Ref):
        return array
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected a NumPy array or Ref, got {type(array).__name__}")
    if array.size == 0:
        return Ref(array.__array_interface__["data"][0], 0, array)
    # np.lib.array_utils.byte_bounds, which NumPy 1 has elsewhere
    steps = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    low = array.__array_interface__["data"][0] + sum(step for step in steps if step < 0)
    return Ref(low, sum(abs(step) for step in steps) + array.itemsize, array)


@dataclass(frozen=True, slots=True)
class Rows:
    """Memory of which a thread touches the rows that are its share: ``count`` rows (0: one for each thread), ``nbytes``
    from one to the next."""

    address: int
    nbytes: int
    count: int


class Touch(NamedTuple):
    """Memory from byte ``start`` to ``end`` that an op reads or writes; ``rows``: how threads share it, or None."""

    start: int
    end: int
    rows: Rows | None


class Op:
    """``Op("gemm", c=c, a=a, b=b, m=3, ...)``: arguments by the names of ``kernels.signatures``.

    Pointers are arrays or Refs, sizes and scalars default to 0. ``steps``: what a chain or gemm does to each element
    of its result (``nncore.steps``). ``threads``: how many may share it at most (0: all). ``once``: what it computes
    stays as it is while a run lasts, so that only the first step of each does it. ``every``: it runs in the steps where
    state[STEPS] % every == phase; barriers are where they would be if it always ran. Raises TypeError for an argument
    that is missing, unknown or of the wrong kind.
    """

    __slots__ = (
        "address", "every", "keep", "name", "once", "phase", "pointers", "reads", "scalars", "sizes", "threads",
        "writes",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        *,
        dtype="float32",
        isa: str | None = None,
        threads: int = 0,
        once: bool = False,
        every: int = 1,
        phase: int = 0,
        steps=None,
        **arguments,
    ):
        if name not in SIGNATURES:
            raise ValueError(f"Op: unknown kernel {name!r}; expected one of {', '.join(SIGNATURES)}")
        signature = SIGNATURES[name]
        self.name = name
        self.address = kernels.address(name, dtype, isa)
        self.threads = _team(name, threads)
        self.once, self.every, self.phase = _when(name, once, every, phase)
        self.keep: list = []
        self.reads: list[Touch] = []
        self.writes: list[Touch] = []
        if steps:
            from nncore.steps import encode

            arguments["steps"], arguments["n_steps"] = encode(steps), len(steps)
        numbers = {size: _number(name, size, arguments.pop(size, 0), index, "whole number") for size in signature.sizes}
        self.sizes = list(numbers.values())
        self.scalars = [_number(name, s, arguments.pop(s, 0.0), float, "number") for s in signature.scalars]
        count, widths = _rows(name, numbers)
        itemsize = 4 if numbers.get("integer") else numbers.get("itemsize") or np.dtype(dtype).itemsize
        for step in steps or ():
            for memory, written, width in step.memory():
                rows = Rows(memory.address, width * itemsize, count) if count and width else None
                self._touch(memory, written, rows)
        self.pointers = [self._pointer(pointer, arguments, widths, count, itemsize) for pointer in signature.pointers]
        if arguments:
            known = " ".join(signature.pointers + signature.sizes + signature.scalars)
            raise TypeError(f"Op {name!r}: unknown arguments {', '.join(sorted(arguments))}; it takes {known}")

    @classmethod
    def custom(
        cls,
        name: str,
        address: int,
        *,
        writes=(),
        reads=(),
        sizes=(),
        scalars=(),
        threads: int = 0,
        once: bool = False,
        every: int = 1,
        phase: int = 0,
        keep=None,
    ) -> Op:
        """An Op of a kernel that is not in the tables (one that Numba made): pointers are ``writes`` then ``reads``."""
        self = cls.__new__(cls)
        self.name, self.address, self.threads = name, address, _team(name, threads)
        self.once, self.every, self.phase = _when(name, once, every, phase)
        self.keep, self.reads, self.writes = [keep], [], []
        self.pointers = [self._touch(ref(m), True) for m in writes] + [self._touch(ref(m), False) for m in reads]
        self.sizes, self.scalars = [int(n) for n in sizes], [float(s) for s in scalars]
        return self

    def _pointer(self, pointer: str, arguments: dict, widths: dict[str, int], count: int, itemsize: int) -> int:
        name = pointer.rstrip("!?")
        value = arguments.pop(name, None)
        if value is None:
            if "?" in pointer:
                return 0
            raise TypeError(f"Op {self.name!r}: {name!r} is missing")
        if not isinstance(value, (np.ndarray, Ref)):
            came = type(value).__name__
            raise TypeError(f"Op {self.name!r}: expected {name!r} to be a NumPy array or Ref, got {came}")
        if "!" in pointer and isinstance(value, np.ndarray) and not value.flags.writeable:
            raise TypeError(f"Op {self.name!r}: it writes {name!r}, and got a read-only array")
        memory = ref(value)
        size = 4 if name in INTEGERS.get(self.name, ()) else itemsize
        rows = Rows(memory.address, widths[name] * size, count if name != "room" else 0) if widths.get(name) else None
        return self._touch(memory, "!" in pointer, rows)

    def _touch(self, memory: Ref, written: bool, rows: Rows | None = None) -> int:
        self.keep.append(memory.owner)
        if memory.nbytes:
            touches = self.writes if written else self.reads
            touches.append(Touch(memory.address, memory.address + memory.nbytes, rows))
        return memory.address

    def __repr__(self) -> str:
        return f"Op({self.name!r}, sizes={self.sizes}, scalars={self.scalars}, threads={self.threads})"


def _team(name: str, threads: int) -> int:
    if threads < 0:
        raise ValueError(f"Op {name!r}: expected threads to be 0 (all) or more, got {threads}")
    return min(threads or ALL, ALL)


def _when(name: str, once: bool, every: int, phase: int) -> tuple[bool, int, int]:
    if not 1 <= every < 1 << 31 or not 0 <= phase < every:
        expected = "every to be 1 or more and phase to be 0 to every - 1"
        raise ValueError(f"Op {name!r}: expected {expected}, got every={every!r}, phase={phase!r}")
    if once and every > 1:
        raise ValueError(f"Op {name!r}: expected once or every, got both")
    return once, every, phase


def _number(name: str, argument: str, value, convert, expected: str):
    try:
        return convert(value)
    except (TypeError, ValueError):
        raise TypeError(f"Op {name!r}: expected {argument!r} to be a {expected}, got {value!r}") from None


def _rows(name: str, sizes: dict[str, int]) -> tuple[int, dict[str, int]]:
    """How many rows the threads share, and for each pointer of which they touch their own the elements in a row."""
    if name not in ROWS or not sizes.get("by_rows", 1):
        return 0, {"room": sizes.get("share", 0)}
    counted, lengths = ROWS[name]
    widths = {pointer: 1 if size == "1" else sizes[size] for pointer, size in lengths.items()}
    widths["room"] = sizes.get("share", 0)
    if name == "gemm" and sizes["cs_a"] != 1:  # the rows of its result are columns of a
        del widths["a"]
    return sizes[counted], widths


def _conflict(some: list[Touch], others: list[Touch], same_team: bool) -> bool:
    """Whether memory overlaps that is not shared out among the same threads in the same way."""
    return any(
        a.start < b.end and b.start < a.end and not (same_team and a.rows is not None and a.rows == b.rows)
        for a in some
        for b in others
    )


def place_barriers(ops) -> list[bool]:
    """Which ops must wait for all threads: those that touch what an op since the last barrier wrote, or write what it
    read. Ops that run on one thread run on the same one, so between two of them order is enough; and so it is where as
    many threads share the rows of what both touch."""
    barriers: list[bool] = []
    pending: list[Op] = []
    for op in ops:
        wait = any(
            (op.threads > 1 or before.threads > 1)
            and (
                _conflict(op.reads, before.writes, op.threads == before.threads)
                or _conflict(op.writes, before.writes, op.threads == before.threads)
                or _conflict(op.writes, before.reads, op.threads == before.threads)
            )
            for before in pending
        )
        barriers.append(wait)
        pending = [op] if wait else [*pending, op]
    return barriers
