"""Lowering: items become kernel calls on buffers, and those, once memory is planned, nncore Ops."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np

import nncore
from nncore import Op, Operand, Ref, Step, kernels
from nncore.costs import costs
from nncore.ops import ALL
from nnpy.compiler.fuse import Aliases, Item
from nnpy.compiler.memory import Buffer, Slot, plan
from nnpy.compiler.schedule import Call, schedule
from nnpy.graph import Node, Parameter, Tensor
from nnpy.ops.base import StepSpec, Sums
from nnpy.parameters import Store

_MANY_ROWS = 192
_IN_CACHE = 1 << 19


@cache
def _block_columns(core) -> int:
    """How many columns of B a GEMM keeps in L2 at a time: as many as fit, for a block of k as long as it may be. A
    little too many do less harm than too few: what spills over comes from L3."""
    return max(256, min(core.NC * core.NR, nncore.cache_sizes()["L2"] // core.KC_BYTES))


def _rooms() -> int:
    """How many threads can pack a GEMM's operand on the way: each has memory for it."""
    return max(8, os.cpu_count() or 1, nncore.get_num_threads())


class Lowering:
    """What operations' ``lower`` methods see: shapes for a batch size, buffers of tensors, and ``call``."""

    def __init__(
        self,
        batch: int,
        store: Store,
        state: np.ndarray,
        aliases: Aliases,
        scales: dict[Node, float],
        used: set[Tensor],
        fixed: bool = False,
    ):
        """``fixed``: the parameters stay as they are while a run lasts: nothing trains them."""
        self.sums: dict[Node, Sums] = {}  # what convolutions have gathered for later nodes
        self.batch = batch
        self.fixed = fixed
        self.store = store
        self.state = state
        self.dtype = store.dtype
        self.costs = costs(self.dtype)  # the work of a call is why it is given threads
        self.calls: list[Call] = []
        self._aliases = aliases
        self._scales = scales
        self._used = used
        self._buffers: dict[Tensor, Buffer] = {}
        self._all: list[Buffer] = []
        self._streams: dict[Node, int] = {}
        self._summed: dict[Tensor, tuple[Node, Tensor, dict[str, Tensor]]] = {}

    # -- what an operation may ask --
    def count(self, tensor: Tensor) -> int:
        """Elements of a tensor at this batch size."""
        return prod(tensor.concrete(self.batch))

    def loss_scale(self, node: Node) -> float | None:
        """What a loss node's gradient is multiplied by; None where no gradient is asked for."""
        return self._scales.get(node)

    def announce(self, node: Node) -> None:
        """The node will be lowered: what makes its input may gather sums for it."""
        summed = node.operation.summed(node)
        if summed is not None:
            self._summed.setdefault(self._aliases.root(summed[0]), (node, *summed))

    def summed(self, output: Tensor) -> tuple[Node, dict[str, Tensor]] | None:
        """The later node that needs sums of ``output``'s columns (``Operation.summed``), to be left in ``sums``."""
        node, tensor, arguments = self._summed.get(self._aliases.root(output), (None, output, {}))
        return (node, arguments) if node is not None and tensor.shape[-1] == output.shape[-1] else None

    def is_used(self, tensor: Tensor) -> bool:
        return self._aliases.root(tensor) in self._used

    def buffer(self, tensor: Tensor) -> Buffer:
        root = self._aliases.root(tensor)
        if root not in self._buffers:
            if isinstance(root, Parameter):
                self._buffers[root] = Buffer(0, external=self.store.ref(root))
            else:
                size = np.dtype(np.int32).itemsize if root.kind == "index" else self.dtype.itemsize
                self._buffers[root] = self._add(Buffer(max(1, self.count(root)) * size))
        return self._buffers[root]

    def bind(self, tensor: Tensor, array: np.ndarray) -> None:
        """Let a tensor's memory be ``array``."""
        self._buffers[self._aliases.root(tensor)] = Buffer(0, external=nncore.ref(array))

    def is_bound(self, tensor: Tensor) -> bool:
        root = self._aliases.root(tensor)
        return isinstance(root, Parameter) or (root in self._buffers and self._buffers[root].external is not None)

    def slot(self, tensor: Tensor) -> Slot:
        buffer = self.buffer(tensor)
        return Slot(buffer, 0, buffer.external.nbytes if buffer.external is not None else buffer.nbytes)

    def at(self, tensor: Tensor, elements: int) -> Slot:
        """A tensor's memory from an element on."""
        slot, start = self.slot(tensor), elements * self.dtype.itemsize
        return Slot(slot.buffer, start, slot.nbytes - start)

    def scratch(self, nbytes: int) -> Slot:
        buffer = self._add(Buffer(max(1, nbytes)))
        return Slot(buffer, 0, nbytes)

    def stream(self, node: Node) -> int:
        """The number of a node's random stream."""
        return self._streams.setdefault(node, len(self._streams))

    # -- what it may emit --
    def call(
        self, kernel: str, *, work: int, steps: Sequence[StepSpec] = (), step_ld: int = 0, of_parameters: bool = False,
        **arguments,
    ) -> None:  # fmt: skip
        """A kernel of nncore. ``work``: element visits, from which the number of threads follows. ``of_parameters``: it
        reads parameters alone, so that where these stay as they are one step of a run has to do it."""
        call = self._emit(kernel, work / self.costs.visits, arguments, steps, step_ld)
        call.once = of_parameters and self.fixed

    def kernel(self, name: str, flops: int, arguments: dict, steps: Sequence[StepSpec] = (), step_ld: int = 0) -> None:
        """A kernel whose ``flops`` count, not its visits."""
        self._emit(name, flops / self.costs.flops, arguments, steps, step_ld)

    def gemm(self, item: Item, *, a, b, m: int, n: int, k: int, a_strides, b_strides) -> None:
        """item.output = steps(a @ b)."""
        core = kernels.family("gemm", self.dtype)
        if a_strides[0] == 1 and b_strides[1] == 1 and n <= core.LANES < m and not item.steps:
            self._turned_gemm(item.output, a, b, m, n, k)
            return
        nanoseconds = 2 * m * n * k / self.costs.flops
        if a_strides[1] == 1 and n <= kernels.family("narrow", self.dtype).FASTER and k >= 8 * n:
            strides = dict(lda=a_strides[0], rs_b=b_strides[0], cs_b=b_strides[1])
            arguments = dict(c=item.output, a=a, b=b, m=m, n=n, k=k, **strides)
            self._emit("gemm_narrow", nanoseconds, arguments, item.steps, n)
            return
        arguments = dict(m=m, n=n, k=k, rs_a=a_strides[0], cs_a=a_strides[1], ldc=n, block=_block_columns(core))
        if b_strides[1] == 1 and (m < _MANY_ROWS or k * n * self.dtype.itemsize <= _IN_CACHE):
            arguments.update(b=b, ldb=b_strides[0])  # read in place as fast as a packed one
        elif self.fixed and isinstance(b, Parameter):
            packed = self.scratch(-(-n // core.NR) * core.NR * k * self.dtype.itemsize)
            strides = dict(rs=b_strides[0], cs=b_strides[1])
            self.call("pack_b", out=packed, b=b, k=k, n=n, work=2 * n * k, of_parameters=True, **strides)
            arguments.update(b=packed, packed=1)
        else:
            panels = -(-n // core.NR) * core.NR  # columns, padded to whole panels
            arguments.update(b=b, packed=2, ldb=b_strides[0], cs_b=b_strides[1], room=self.scratch(0))
            arguments["share"] = min(core.ROOM, panels * min(k, core.KC))  # what a thread needs at most
        self._emit("gemm", nanoseconds, dict(c=item.output, a=a, **arguments), item.steps, n)

    def _turned_gemm(self, output, a, b, m: int, n: int, k: int) -> None:
        """output = a @ b for a narrow b: as its transpose b' @ a', whose rows fill the vectors."""
        turned = self.scratch(m * n * self.dtype.itemsize)
        arguments = dict(c=turned, a=b, b=a, m=n, n=m, k=k, rs_a=1, cs_a=n, ldb=m, ldc=m)
        self._emit("gemm", 2 * m * n * k / self.costs.flops, arguments, (), m)
        self.call("transpose", out=output, x=turned, rows=n, cols=m, work=4 * m * n)

    def chain(self, item: Item) -> None:
        """item.output = steps(item.source)."""
        count, cols = self.count(item.output), item.columns
        if cols is None:  # no step cares where a row ends: a row for each sample, which threads can share
            cols = count // max(1, self.batch) if item.output.shape[:1] == (None,) else count
        assert item.source is not None
        self.rows(item.output, item.source, cols, item.steps)

    def rows(self, out: Tensor, x: Tensor, cols: int, steps: Sequence[StepSpec]) -> None:
        """out = steps(x), both of rows of so many columns."""
        count = self.count(x)
        self.call(
            "chain", out=out, x=x, rows=count // max(1, cols), cols=cols, ld_out=cols, ld_x=cols,
            work=count * (1 + len(steps)), steps=steps, step_ld=cols,
        )  # fmt: skip

    def scalar_function(self, compiled, output: Tensor, inputs: Sequence[Tensor]) -> None:
        """output = compiled(inputs) element by element; ``compiled`` is a kernel of nncore.jit."""
        count = self.count(output)
        arguments = {"out": output, "count": count, **{f"x{i}": t for i, t in enumerate(inputs)}}
        self._record(Call("custom", arguments, nanoseconds=4 * count, function=compiled))

    def finish(self) -> tuple[list[Op], np.ndarray]:
        """Schedule the calls and plan their memory; the Ops and the arena they work in."""
        self.calls = schedule(self.calls, self.batch)
        for position, call in enumerate(self.calls):
            if "room" in call.arguments:
                nbytes = call.arguments["share"] * call.threads * self.dtype.itemsize
                room = call.arguments["room"].buffer
                room.nbytes = nbytes
                call.arguments["room"] = Slot(room, 0, nbytes)
            for slot, written in call.slots():
                slot.buffer.touch(position)
                slot.buffer.held |= call.once and written  # later steps read it
        if nncore.debug_build():
            for buffer in self._all:  # each in an allocation of its own, so that AddressSanitizer sees its ends
                buffer.external = nncore.ref(nncore.aligned(buffer.nbytes, np.uint8))
        arena = nncore.aligned(plan(self._all, len(self.calls)), np.uint8)
        return [self._build(call, arena) for call in self.calls], arena

    def view(self, tensor: Tensor, arena: np.ndarray) -> np.ndarray:
        """A tensor's values as an array, after ``finish``."""
        memory = self._ref(self.slot(tensor), arena)
        shape = tensor.concrete(self.batch)
        dtype = np.dtype(np.int32) if tensor.kind == "index" else self.dtype
        owner = memory.owner
        raw = np.frombuffer(owner, np.uint8) if owner.ndim != 1 or owner.dtype != np.uint8 else owner
        start = memory.address - raw.ctypes.data
        return raw[start : start + prod(shape) * dtype.itemsize].view(dtype).reshape(shape)

    # -- inside --
    def _add(self, buffer: Buffer) -> Buffer:
        self._all.append(buffer)
        return buffer

    def _emit(self, kernel: str, nanoseconds: float, arguments: dict, specs: Sequence[StepSpec], ld: int) -> Call:
        steps = []
        for spec in specs:
            values: dict[str, Any] = dict(width=ld, s0=spec.s0, s1=spec.s1)
            if spec.p is not None:
                values["p"] = spec.p
            if spec.q is not None:
                values["q"] = spec.q
            if spec.stream is not None:
                values.update(state=self.state, index=self.stream(spec.stream))
            steps.append((spec, values))
        most = _rooms() if "room" in arguments else ALL
        return self._record(Call(kernel, arguments, steps, nanoseconds, most))

    def _record(self, call: Call) -> Call:
        for values in (call.arguments, *(values for _, values in call.steps)):
            for name, value in values.items():
                if isinstance(value, Tensor):
                    values[name] = self.slot(value)
        self.calls.append(call)
        return call

    def _ref(self, value: Any, arena: np.ndarray):
        if not isinstance(value, Slot):
            return value
        buffer = value.buffer
        base = buffer.external
        if base is None:
            base = Ref(arena.ctypes.data + buffer.offset, buffer.nbytes, arena)
        return Ref(base.address + value.offset, value.nbytes, base.owner)

    def _step(self, spec: StepSpec, values: dict[str, Any], arena: np.ndarray) -> Step:
        found = dict(values)
        for name, at in (("p", spec.p_at), ("q", spec.q_at)):
            if name in values:
                at = at._replace(ld=values["width"]) if at.ld is None else at
                found[name] = Operand(self._ref(values[name], arena), *at)
        return Step(spec.kind, **found)

    def _build(self, call: Call, arena: np.ndarray) -> Op:
        arguments = {name: self._ref(value, arena) for name, value in call.arguments.items()}
        if call.function is not None:
            count, out = arguments.pop("count"), arguments.pop("out")
            return Op.custom(
                call.name, call.function.address, writes=[out], reads=list(arguments.values()), sizes=[count],
                threads=call.threads, keep=call.function,
            )  # fmt: skip
        steps = [spec.ready or self._step(spec, values, arena) for spec, values in call.steps]
        return Op(call.name, dtype=self.dtype, threads=call.threads, once=call.once, steps=steps, **arguments)
