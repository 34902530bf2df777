"""Op: one call of a kernel, checked and ready to be put into a Program."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from operator import index
from typing import Any, NamedTuple

import numpy as np

from nncore import kernels
from nncore.encoding import encode
from nncore.kernels.operands import ANY, STRIDED, extents, strides, type_of
from nncore.kernels.signatures import REPORTS, ROWS, SIGNATURES
from nncore.refs import Ref, Rows, Touch, ref
from nncore.rules import RULES, check_rule

ALL = 1 << 20  # more threads than any team has


class _Pointer(NamedTuple):
    """An argument that is memory."""

    name: str
    written: bool
    optional: bool
    dtype: np.dtype | None  # None: any
    itemsize: int
    strides: tuple[int, ...]  # the sizes that are strides of it, by position
    strided: bool  # its layout may be any


class _Form(NamedTuple):
    """What a kernel of a dtype and instruction set takes."""

    address: int
    sizes: tuple[str, ...]
    scalars: tuple[str, ...]
    pointers: tuple[_Pointer, ...]
    extents: Callable[..., tuple[int, ...]]
    dtype: str
    itemsize: int


@lru_cache(maxsize=1024)
def _form(name: str, dtype, isa: str) -> _Form:
    if name not in SIGNATURES:
        raise ValueError(f"Op: unknown kernel {name!r}; expected one of {', '.join(SIGNATURES)}")
    signature = SIGNATURES[name]
    real = np.dtype(dtype)
    pointers = []
    for mark in signature.pointers:
        pointer = mark.rstrip("!?")
        kind = type_of(name, pointer)
        its = None if kind == ANY else real if kind == "real" else np.dtype(kind)
        positions = tuple(signature.sizes.index(size) for size in strides(name, pointer))
        size = 1 if its is None else its.itemsize
        pointers.append(_Pointer(pointer, "!" in mark, "?" in mark, its, size, positions, name in STRIDED))
    return _Form(
        kernels.address(name, dtype, isa),
        signature.sizes,
        signature.scalars,
        tuple(pointers),
        extents(name, tuple(pointer.name for pointer in pointers)),
        real.name,
        real.itemsize,
    )


class Op:
    """``Op("gemm", c=c, a=a, b=b, m=3, ...)``: arguments by the names of ``kernels.signatures``.

    Pointers are arrays or Refs, sizes and scalars default to 0. ``steps``: what a chain or gemm does to each element
    of its result (``nncore.steps``); ``rule``: of the kernel update, by name. ``threads``: how many may share it at
    most (0: all). ``once``: what it computes stays as it is while a run lasts, so that only the first step of each does
    it. ``every``: it runs in the steps where state[STEPS] % every == phase; barriers are where they would be if it
    always ran. ``commits``: it changes what outlives the step, and does not run in one where an op before it has
    reported an error.

    Raises TypeError for an argument that is missing, unknown or of the wrong kind, dtype or layout, ValueError where
    memory ends before what the sizes say (``kernels.operands``). The dtype and layout of a Ref are the caller's care.
    """

    __slots__ = (
        "address", "commits", "every", "keep", "name", "once", "phase", "pointers", "reads", "reports", "scalars",
        "sizes", "threads", "writes",
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
        commits: bool = False,
        steps=None,
        **arguments,
    ):
        form = _form(name, dtype, isa or kernels.chosen()[0])
        self.name, self.address = name, form.address
        self.threads = _team(name, threads)
        self.once, self.every, self.phase, self.commits = _when(name, once, every, phase, commits)
        self.reports = name in REPORTS and not commits and arguments.get("state") is not None
        self.keep: list = []
        self.reads: list[Touch] = []
        self.writes: list[Touch] = []
        if steps:
            kept = [step.kind for step in steps for x in (step.p, step.q) if x is not None and x.temp is not None]
            if kept and name not in ("chain", "reduce"):
                raise TypeError(
                    f"Op {name!r}: step {kept[0]!r} works with a temporary tile, which only chain and reduce have"
                )
            arguments["steps"], arguments["n_steps"] = encode(steps, dtype, isa), len(steps)
        if name == "update":
            rule: Any = arguments.get("rule")
            check_rule("Op 'update'", rule, sum(key.startswith("slot_") for key in arguments))
            arguments["rule"] = kernels.family("optimizer", dtype, isa).RULES[rule]
            arguments.setdefault("columns", len(RULES[rule].columns))
        take = arguments.pop
        self.sizes = sizes = [take(size, 0) for size in form.sizes]
        for position, value in enumerate(sizes):
            if type(value) is not int:
                sizes[position] = _number(name, form.sizes[position], value, index, "whole number")
        self.scalars = [_number(name, scalar, take(scalar, 0.0), float, "number") for scalar in form.scalars]
        numbers = dict(zip(form.sizes, sizes, strict=True))
        count, widths = _rows(name, numbers)
        itemsize = 4 if numbers.get("integer") else numbers.get("itemsize") or form.itemsize
        for step in steps or ():
            for memory, written, width in step.memory():
                rows = Rows(memory.address, width * itemsize, count) if count and width else None
                self._touch(memory, written, rows)
        self.pointers: list[int] = []
        for pointer, extent in zip(form.pointers, form.extents(*sizes), strict=True):
            value = take(pointer.name, None)
            if value is None:
                if not pointer.optional:
                    raise TypeError(f"Op {name!r}: {pointer.name!r} is missing")
                self.pointers.append(0)
                continue
            memory = value if type(value) is Ref else self._array(value, pointer, form)
            if memory.nbytes < extent * pointer.itemsize:
                raise ValueError(self._too_short(pointer, memory, extent, form))
            rows = None
            if width := widths.get(pointer.name):
                size = itemsize if pointer.dtype is None else pointer.itemsize
                rows = Rows(memory.address, width * size, count if pointer.name != "workspace" else 0)
            self.pointers.append(self._touch(memory, pointer.written, rows))
        if arguments:
            signature = SIGNATURES[name]
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
        commits: bool = False,
        reports: bool = False,
        keep=None,
    ) -> Op:
        """An Op of a kernel that is not in the tables (one that Numba made): pointers are ``writes`` then ``reads``.
        ``reports``: it may report an error."""
        self = cls.__new__(cls)
        self.name, self.address, self.threads = name, address, _team(name, threads)
        self.once, self.every, self.phase, self.commits = _when(name, once, every, phase, commits)
        self.reports = reports
        self.keep, self.reads, self.writes = [keep], [], []
        self.pointers = [self._touch(ref(m), True) for m in writes] + [self._touch(ref(m), False) for m in reads]
        self.sizes, self.scalars = [int(n) for n in sizes], [float(s) for s in scalars]
        return self

    def _array(self, value: Any, pointer: _Pointer, form: _Form) -> Ref:
        """The memory of an array, if it is what the kernel takes."""
        if not isinstance(value, np.ndarray):
            if isinstance(value, Ref):
                return value
            came = type(value).__name__
            raise TypeError(f"Op {self.name!r}: expected {pointer.name!r} to be a NumPy array or Ref, got {came}")
        if pointer.dtype is not None and value.dtype != pointer.dtype:
            expected = f"of dtype {pointer.dtype} in a kernel of {form.dtype}"
            raise TypeError(f"Op {self.name!r}: expected {pointer.name!r} {expected}, got {value.dtype}")
        if pointer.written and not value.flags.writeable:
            raise TypeError(f"Op {self.name!r}: it writes {pointer.name!r}, and got a read-only array")
        if not value.flags.c_contiguous and not pointer.strided:
            given = {self.sizes[position] for position in pointer.strides}
            found = {stride / pointer.itemsize for n, stride in zip(value.shape, value.strides, strict=True) if n > 1}
            if not pointer.strides or not found <= given | {1}:
                names = " and ".join(f"{form.sizes[p]}={self.sizes[p]}" for p in pointer.strides)
                expected = f"C-contiguous{f' or with the strides {names}' if names else ''}"
                came = f"strides of {value.strides} bytes for shape {value.shape}"
                raise TypeError(f"Op {self.name!r}: expected {pointer.name!r} {expected}, got {came}")
        return ref(value)

    def _too_short(self, pointer: _Pointer, memory: Ref, extent: int, form: _Form) -> str:
        sizes = ", ".join(f"{name}={value}" for name, value in zip(form.sizes, self.sizes, strict=True) if value)
        had = f"{memory.nbytes // pointer.itemsize} ({memory.nbytes} bytes)"
        return f"Op {self.name!r}: expected {pointer.name!r} to hold {extent} elements ({sizes}), got {had}"

    def _touch(self, memory: Ref, written: bool, rows: Rows | None = None) -> int:
        address, nbytes, owner = memory
        self.keep.append(owner)
        if nbytes:
            (self.writes if written else self.reads).append(Touch(address, address + nbytes, rows))
        return address

    def __repr__(self) -> str:
        return f"Op({self.name!r}, sizes={self.sizes}, scalars={self.scalars}, threads={self.threads})"


def _team(name: str, threads: int) -> int:
    if threads < 0:
        raise ValueError(f"Op {name!r}: expected threads to be 0 (all) or more, got {threads}")
    return min(threads or ALL, ALL)


def _when(name: str, once: bool, every: int, phase: int, commits: bool) -> tuple[bool, int, int, bool]:
    if not 1 <= every < 1 << 31 or not 0 <= phase < every:
        expected = "every to be 1 or more and phase to be 0 to every - 1"
        raise ValueError(f"Op {name!r}: expected {expected}, got every={every!r}, phase={phase!r}")
    if once and every > 1:
        raise ValueError(f"Op {name!r}: expected once or every, got both")
    if commits and once:
        raise ValueError(f"Op {name!r}: expected commits or once, got both")
    return once, every, phase, commits


def _number(name: str, argument: str, value, convert, expected: str):
    try:
        return convert(value)
    except (TypeError, ValueError):
        raise TypeError(f"Op {name!r}: expected {argument!r} to be a {expected}, got {value!r}") from None


def _rows(name: str, sizes: dict[str, int]) -> tuple[int, dict[str, int]]:
    """How many rows the threads share, and for each pointer of which they touch their own the elements in a row."""
    if name not in ROWS or not sizes.get("by_rows", 1) or sizes.get("parts"):  # of parts each thread has whole ones
        return 0, {"workspace": sizes.get("share", 0)}
    counted, lengths = ROWS[name]
    widths = {pointer: 1 if size == "1" else sizes[size] for pointer, size in lengths.items()}
    widths["workspace"] = sizes.get("share", 0)
    if name == "gemm" and sizes["cs_a"] != 1:  # the rows of its result are columns of a
        del widths["a"]
    return sizes[counted], widths
