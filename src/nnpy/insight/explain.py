"""Explain: the Program that a model is compiled to, op by op; and, with ``profile``, what each of them takes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nncore.barriers import place_barriers
from nncore.kernels.signatures import SIGNATURES
from nnpy.checks import integer
from nnpy.compiler import SWITCHES
from nnpy.compiler.schedule import Call
from nnpy.training.samples import Samples, placeholders, prepare, prepare_inputs

if TYPE_CHECKING:
    from nnpy.model import Model

_SIZES = ("m", "n", "k", "rows", "cols", "count", "batch", "height", "width", "c", "outer", "mid", "inner")
MODES = ("train", "test", "predict")


@dataclass(frozen=True)
class Line:
    """One op: its ``kernel``, the ``layer`` and ``operation`` that it is for, the ``fused`` steps and sums, its
    ``sizes``, the ``bytes`` that it touches, floating-point operations (0 where they are not counted), ``threads`` that
    may share it, whether all threads meet before it, and, where it was measured, ``microseconds``."""

    number: int
    kernel: str
    layer: str
    operation: str
    fused: tuple[str, ...]
    sizes: str
    bytes: int
    flops: int
    threads: int
    barrier: bool
    microseconds: float | None = None

    @property
    def rate(self) -> str:
        """GFLOP/s where operations count, GB/s elsewhere."""
        if not self.microseconds:
            return ""
        work, unit = (self.flops, "GFLOP/s") if self.flops else (self.bytes, "GB/s")
        return f"{1e-3 * work / self.microseconds:.1f} {unit}"


class Explanation(Sequence[Line]):
    """The lines of a Program. ``str()`` is a table; ``arena_bytes``: the memory that it works in, beside weights, their
    gradients and the optimizer's state."""

    def __init__(self, title: str, lines: Sequence[Line], arena_bytes: int):
        self.title, self.lines, self.arena_bytes = title, list(lines), arena_bytes

    def __getitem__(self, place: Any) -> Any:
        return self.lines[place]

    def __len__(self) -> int:
        return len(self.lines)

    def __str__(self) -> str:
        timed = any(line.microseconds is not None for line in self.lines)
        heads = ["", "kernel", "layer", "fused", "sizes", "MB", "MFLOP", "threads", "barrier"]
        rows = [heads + (["us", "rate"] if timed else [])]
        for line in self.lines:
            row = [
                str(line.number), line.kernel, line.layer, " ".join(line.fused), line.sizes, f"{1e-6 * line.bytes:.3f}",
                f"{1e-6 * line.flops:.3f}" if line.flops else "", str(line.threads), "yes" if line.barrier else "",
            ]  # fmt: skip
            rows.append(row + ([f"{line.microseconds or 0:.2f}", line.rate] if timed else []))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        body = "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
        barriers = sum(line.barrier for line in self.lines)
        flops = sum(line.flops for line in self.lines)
        end = f"{len(self)} ops, {barriers} barriers, {1e-6 * flops:.1f} MFLOP, arena {1e-6 * self.arena_bytes:.2f} MB"
        if timed:
            end += f", {sum(line.microseconds or 0 for line in self.lines):.1f} us"
        return f"{self.title}\n{body}\n{end}"

    __repr__ = __str__


def explain(model: Model, mode: str = "predict", batch_size: int = 32, without: Collection[str] = ()) -> Explanation:
    """The Program of a step of ``mode`` ("train", "test": the model must be compiled; "predict") for a batch of this
    size: print it, or look at its lines. ``without``: passes to be left out (``nnpy.compiler.SWITCHES``).

    Raises ValueError for another mode or pass and for a model that is not built, RuntimeError for one that is not
    compiled, TypeError or ValueError for a batch size that is no positive integer.

    >>> print(nn.explain(model, "train", batch_size=128))
    """
    if mode not in MODES:
        raise ValueError(f"explain: expected mode to be one of {', '.join(MODES)}, got {mode!r}")
    if unknown := set(without) - set(SWITCHES):
        raise ValueError(f"explain: unknown passes {sorted(unknown)}; there are {', '.join(SWITCHES)}")
    batch_size = integer("explain", "batch_size", batch_size, least=1)
    executable = model.engine.compiled(mode, batch_size, placeholders(model, batch_size, mode != "predict"), without)
    title = f"{model}: {mode}, batches of {batch_size}"
    return Explanation(title, list(lines(executable)), executable.arena_bytes)


def profile(model: Model, x: Any, y: Any = None, batch_size: int | None = None, steps: int = 20) -> Explanation:
    """What each op of a step takes: ``Model.profile``."""
    steps = integer("profile", "steps", steps, least=1)
    if y is None:
        arrays = prepare_inputs(model, x)
        samples = Samples(len(arrays[0]), arrays, [], [])
    else:
        samples = prepare(model, x, y)
    count = samples.count if batch_size is None else integer("profile", "batch_size", batch_size, least=1)
    if count > samples.count:
        raise ValueError(f"profile: expected at least {count} samples, a batch, got {samples.count}")
    mode = "predict" if y is None else "train"
    executable, nanoseconds = model.engine.profile(mode, count, samples.part(0, count), steps)
    title = f"{model}: {mode}, batches of {count}, mean of {steps} steps"
    return Explanation(title, list(lines(executable, nanoseconds)), executable.arena_bytes)


def lines(executable: Any, nanoseconds: Sequence[float] | np.ndarray | None = None) -> Iterator[Line]:
    """The lines of a compiled step."""
    records = executable.program.records
    barriers = place_barriers(records)
    for number, (call, op) in enumerate(zip(executable.calls, records, strict=True)):
        took = None if nanoseconds is None else 1e-3 * nanoseconds[number]
        sizes = dict(zip(SIGNATURES[op.name].sizes, op.sizes, strict=True)) if op.name in SIGNATURES else {}
        node = call.node
        yield Line(
            number, op.name, "" if node is None else node.scope, "" if node is None else node.operation.name,
            _fused(call), _shown(sizes), _bytes(call), call.flops,
            min(op.threads, 1 << 10), barriers[number], took,
        )  # fmt: skip


def _fused(call: Call) -> tuple[str, ...]:
    """The kernel's epilogue: its steps, then the sums of columns that it gathers."""
    steps, given = tuple(spec.kind for spec, _ in call.steps), call.arguments
    if call.name not in SIGNATURES or "steps?" not in SIGNATURES[call.name].pointers:
        return steps
    sums = "sums" if "sums" in given else "slopes" if "normal" in given else "moments" if "partial" in given else ""
    return (*steps, sums) if sums else steps


def _shown(sizes: dict[str, int]) -> str:
    return " ".join(f"{name}={value}" for name, value in sizes.items() if name in _SIZES)


def _bytes(call: Call) -> int:
    seen = {
        (id(s.buffer) if s.buffer.external is None else s.buffer.external.address, s.offset): s for s, _ in call.slots()
    }
    return sum(slot.nbytes for slot in seen.values())
