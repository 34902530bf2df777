"""Op: one call of a kernel, checked and ready to be put into a Program. Ref: a piece of memory."""

from __future__ import annotations

from operator import index
from typing import Any, NamedTuple

import numpy as np

from nncore import kernels
from nncore.kernels.signatures import SIGNATURES

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


class Op:
    """``Op("gemm", c=c, a=a, b=b, m=3, ...)``: arguments by the names of ``kernels.signatures``.

    Pointers are arrays or Refs, sizes and scalars default to 0. ``steps``: what a chain or gemm does to each element
    of its result (``nncore.steps``). ``threads``: how many may share it at most (0: all). Raises TypeError for an
    argument that is missing, unknown or of the wrong kind.
    """

    __slots__ = ("address", "keep", "name", "pointers", "reads", "scalars", "sizes", "threads", "writes")

    def __init__(
        self, name: str, *, dtype="float32", isa: str | None = None, threads: int = 0, steps=None, **arguments
    ):
        if name not in SIGNATURES:
            raise ValueError(f"Op: unknown kernel {name!r}; expected one of {', '.join(SIGNATURES)}")
        signature = SIGNATURES[name]
        self.name = name
        self.address = kernels.address(name, dtype, isa)
        self.threads = _team(name, threads)
        self.keep: list = []
        self.reads: list[tuple[int, int]] = []
        self.writes: list[tuple[int, int]] = []
        if steps:
            from nncore.steps import encode

            arguments["steps"], arguments["n_steps"] = encode(steps, dtype), len(steps)
            for step in steps:
                for memory, written in step.memory():
                    self._touch(memory, written)
        self.pointers = [self._pointer(pointer, arguments) for pointer in signature.pointers]
        self.sizes = [_number(name, size, arguments.pop(size, 0), index, "whole number") for size in signature.sizes]
        self.scalars = [_number(name, s, arguments.pop(s, 0.0), float, "number") for s in signature.scalars]
        if arguments:
            known = " ".join(signature.pointers + signature.sizes + signature.scalars)
            raise TypeError(f"Op {name!r}: unknown arguments {', '.join(sorted(arguments))}; it takes {known}")

    @classmethod
    def custom(
        cls, name: str, address: int, *, writes=(), reads=(), sizes=(), scalars=(), threads: int = 0, keep=None
    ) -> Op:
        """An Op of a kernel that is not in the tables (one that Numba made): pointers are ``writes`` then ``reads``."""
        self = cls.__new__(cls)
        self.name, self.address, self.threads = name, address, _team(name, threads)
        self.keep, self.reads, self.writes = [keep], [], []
        self.pointers = [self._touch(ref(m), True) for m in writes] + [self._touch(ref(m), False) for m in reads]
        self.sizes, self.scalars = [int(n) for n in sizes], [float(s) for s in scalars]
        return self

    def _pointer(self, pointer: str, arguments: dict) -> int:
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
        return self._touch(ref(value), "!" in pointer)

    def _touch(self, memory: Ref, written: bool) -> int:
        self.keep.append(memory.owner)
        if memory.nbytes:
            (self.writes if written else self.reads).append((memory.address, memory.address + memory.nbytes))
        return memory.address

    def __repr__(self) -> str:
        return f"Op({self.name!r}, sizes={self.sizes}, scalars={self.scalars}, threads={self.threads})"


def _team(name: str, threads: int) -> int:
    if threads < 0:
        raise ValueError(f"Op {name!r}: expected threads to be 0 (all) or more, got {threads}")
    return min(threads or ALL, ALL)


def _number(name: str, argument: str, value, convert, expected: str):
    try:
        return convert(value)
    except (TypeError, ValueError):
        raise TypeError(f"Op {name!r}: expected {argument!r} to be a {expected}, got {value!r}") from None


def _overlap(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> bool:
    return any(a < d and c < b for a, b in some for c, d in others)


def place_barriers(ops) -> list[bool]:
    """Which ops must wait for all threads: those that touch what an op since the last barrier wrote, or write what it
    read. Ops that run on one thread run on the same one, so between two of them order is enough."""
    barriers: list[bool] = []
    pending: list[Op] = []
    for op in ops:
        wait = any(
            (op.threads > 1 or before.threads > 1)
            and (
                _overlap(op.reads, before.writes)
                or _overlap(op.writes, before.writes)
                or _overlap(op.writes, before.reads)
            )
            for before in pending
        )
        barriers.append(wait)
        pending = [op] if wait else [*pending, op]
    return barriers
