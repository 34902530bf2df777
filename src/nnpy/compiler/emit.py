"""Emitting: kernel calls on buffers, and once memory is planned nncore Ops."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

import nncore
from nncore import Op, Operand, Ref, Step, strides
from nncore.costs import costs
from nncore.ops import ALL
from nnpy.compiler.memory import Buffer, Slot, plan
from nnpy.compiler.schedule import Call, schedule
from nnpy.compiler.views import Address, View, Views, address, broadcast_strides, merged
from nnpy.graph import Node, Tensor, Variable, count_of
from nnpy.ops.base import StepSpec, Stream, Sums
from nnpy.ops.shape import contiguous

_SEEDED = 1 << 31  # numbers of streams with seeds of their own begin here


def workspaces() -> int:
    """How many threads can pack a GEMM's operand on the way: each has memory for it."""
    return max(8, os.cpu_count() or 1, nncore.get_num_threads())


class Emitter:
    """Buffers of tensors, calls of kernels on them, and the Ops that these become once memory is planned."""

    def __init__(
        self, batch: int, dtype: np.dtype, state: np.ndarray, views: Views, used: set[Tensor], fixed: bool,
        values: Mapping[Any, np.ndarray],
    ):  # fmt: skip
        """``used``: roots that something reads. ``fixed``: the parameters stay as they are while a run lasts: nothing
        trains them. ``values``: arrays of variables, where they are not what these have now."""
        self.values = values
        self.batch = batch
        self.dtype = np.dtype(dtype)
        self.costs = costs(self.dtype)  # the work of a call is why it is given threads
        self.state = state
        self.fixed = fixed
        self.views = views
        self.sums: dict[Node, Sums] = {}  # what products and convolutions have gathered for later nodes
        self.calls: list[Call] = []
        self.node: Node | None = None  # whose calls these are
        self.arena_bytes = 0
        self._used = used
        self._buffers: dict[Tensor, Buffer] = {}
        self._all: list[Buffer] = []
        self._streams: dict[Stream, int] = {}
        self._summed: dict[Tensor, tuple[Node, Tensor, str, dict[str, Tensor]]] = {}
        self._copies: dict[Tensor, Slot] = {}

    # -- what an operation may ask --
    def count(self, tensor: Tensor) -> int:
        """Elements of a tensor at this batch size."""
        return prod(tensor.concrete(self.batch))

    def itemsize(self, tensor: Tensor) -> int:
        return 4 if tensor.kind == "index" else self.dtype.itemsize

    def announce(self, node: Node) -> None:
        """The node will be lowered: what makes its input may gather sums for it. Of several nodes the first one that
        needs two sums of each column has them."""
        summed = node.operation.summed(node)
        if summed is None or not self.views.is_whole(summed[0]):
            return
        root = self.views.root(summed[0])
        if root not in self._summed or self._summed[root][2] == "sums" != summed[1]:
            self._summed[root] = (node, *summed)

    def gathered(self, output: Tensor, counts: np.ndarray, pointers: Sequence[str] = ("partial",)) -> dict[str, Any]:
        """The arguments that let a kernel gather the sums that a later node needs of ``output``'s columns
        (``Operation.summed``), from parts of so many rows each. ``pointers``: what it may leave."""
        node, tensor, pointer, given = self._summed.get(self.views.root(output), (None, output, "", {}))
        columns = output.concrete(self.batch)[-1]
        if node is None or pointer not in pointers or tensor.concrete(self.batch)[-1] != columns or not counts.all():
            return {}
        each = 2 if pointer == "partial" else 1
        self.sums[node] = Sums(self.scratch(each * len(counts) * columns * self.dtype.itemsize), counts)
        return {pointer: self.sums[node].partial, **given}

    def is_used(self, tensor: Tensor) -> bool:
        return self.views.root(tensor) in self._used

    def buffer(self, tensor: Tensor) -> Buffer:
        """The memory of a tensor's root."""
        root = self.views.root(tensor)
        if root not in self._buffers:
            if isinstance(root, Variable):
                expected = np.dtype(np.int32) if root.kind == "index" else self.dtype
                value = self.values.get(root, root.value)
                if value.dtype != expected:
                    got = value.dtype
                    raise TypeError(f"variable {root.name}: expected dtype {expected} in this step, got {got}")
                self._buffers[root] = Buffer(0, external=nncore.ref(value), lasting=root.role != "gradient")
            else:
                self._buffers[root] = self._add(Buffer(max(1, self.count(root)) * self.itemsize(root)))
        return self._buffers[root]

    def bind(self, tensor: Tensor, array: np.ndarray) -> None:
        """Let a tensor's memory be ``array``."""
        self._buffers[self.views.root(tensor)] = Buffer(0, external=nncore.ref(array))

    def is_bound(self, tensor: Tensor) -> bool:
        root = self.views.root(tensor)
        return isinstance(root, Variable) or (root in self._buffers and self._buffers[root].external is not None)

    def slot(self, tensor: Tensor) -> Slot:
        """The contiguous memory of a tensor; a copy where it is a view that is not contiguous."""
        view = self.views.of(tensor)
        if not view.is_contiguous:
            return self._copy_of(tensor, view)
        size = self.itemsize(view.root)
        return Slot(self.buffer(tensor), view.offset * size, prod(view.shape) * size)

    def root_slot(self, tensor: Tensor) -> Slot:
        """All of the memory of a tensor's root."""
        root = self.views.root(tensor)
        return Slot(self.buffer(root), 0, self.count(root) * self.itemsize(root))

    def scratch(self, nbytes: int) -> Slot:
        buffer = self._add(Buffer(max(1, nbytes)))
        return Slot(buffer, 0, nbytes)

    def stream(self, key: Stream) -> int:
        """The number of a random stream: two nodes that draw never share one. Those of a seed of their own are numbered
        by it, and by how many of this seed came before."""
        if key not in self._streams:
            before = sum(other.seed == key.seed for other in self._streams)
            mixed = 0 if key.seed is None else (key.seed * 0x9E3779B1) % _SEEDED
            self._streams[key] = before if key.seed is None else _SEEDED + (mixed + before) % (_SEEDED - 1)
        return self._streams[key]

    def number_streams(self, nodes: Sequence[Node]) -> None:
        """In the order of the graph, which does not depend on the order in which it was made."""
        for node in nodes:
            if node.operation.is_random:
                self.stream(node.attributes["stream"])

    def matrix(self, tensor: Tensor, rows: int, cols: int) -> tuple[Slot, int, int]:
        """A tensor as a matrix: its memory, and elements from row to row and from column to column."""
        view = self.views.of(tensor)
        place, inner = len(view.shape), 1
        while place and inner < cols:
            place -= 1
            inner *= view.shape[place]
        if inner == cols and not view.is_contiguous:
            down = merged(view.shape[:place], view.strides[:place])
            along = merged(view.shape[place:], view.strides[place:])
            steps = (down[0][1] if down else 1, along[0][1] if along else 1)
            if len(down) <= 1 and len(along) <= 1 and min(steps) > 0 and 1 in steps:
                return self._from(view), *steps
        return self.slot(tensor), cols, 1

    def _from(self, view: View) -> Slot:
        """The memory of a view's root from its first element on."""
        whole, size = self.root_slot(view.root), self.itemsize(view.root)
        return Slot(whole.buffer, view.offset * size, whole.nbytes - view.offset * size)

    def middle(self, x: Tensor, axes: Sequence[int]) -> tuple[Slot, int, int, int]:
        """(memory, outer, mid, inner) of a contiguous array whose middle axis is ``axes``, in order."""
        sizes = self.sides(x, axes)
        if sizes is not None:
            return self.slot(x), *sizes
        view, shape = self.views.of(x), x.concrete(self.batch)
        order = [*(a for a in range(x.rank) if a not in axes), *axes]
        turned = View(
            view.root, view.offset, tuple(shape[a] for a in order), tuple(view.strides[a] for a in order)
        )  # fmt: skip
        mid = prod(shape[a] for a in axes)
        return self._copy(turned), prod(shape) // max(1, mid), mid, 1

    def sides(self, x: Tensor, axes: Sequence[int]) -> tuple[int, int, int] | None:
        """(outer, mid, inner) of x, where ``axes`` are neighbours; else None."""
        shape, first, last = x.concrete(self.batch), axes[0], axes[-1]
        if any(a not in axes and shape[a] != 1 for a in range(first, last + 1)):
            return None
        return prod(shape[:first]), prod(shape[first : last + 1]), prod(shape[last + 1 :])

    # -- what it may emit --
    def call(
        self, kernel: str, *, work: int, steps: Sequence[StepSpec] = (), step_ld: int = 0, of_parameters: bool = False,
        shape: Sequence[int] = (), **arguments,
    ) -> None:  # fmt: skip
        """A kernel of nncore. ``work``: element visits, from which the number of threads follows. ``of_parameters``: it
        reads parameters alone, so that where these stay as they are one step of a run has to do it."""
        call = self._emit(kernel, work / self.costs.visits, arguments, steps, step_ld, shape)
        call.once = of_parameters and self.fixed

    def kernel(self, name: str, flops: int, arguments: dict, steps: Sequence[StepSpec] = (), step_ld: int = 0) -> None:
        """A kernel whose ``flops`` count, not its visits."""
        self._emit(name, flops / self.costs.flops, arguments, steps, step_ld).flops = flops

    def take(self, other: Emitter, every: int = 1, phase: int = 0) -> None:
        """The calls of another graph come after those that there are; in every step, or only where ``phase`` is."""
        for call in other.calls:
            if every > 1 and call.every == 1:
                call.every, call.phase = every, phase
        self.calls += other.calls
        self._all += other._all

    def finish(self, arena: Any = None, phases: bool = True, reuse: bool = True) -> tuple[list[Op], np.ndarray]:
        """Schedule the calls and plan their memory; the Ops and the arena they work in. ``arena``: a function that
        gives one of at least so many bytes. ``phases``: calls may be reordered; ``reuse``: buffers may share memory."""
        self.calls = schedule(self.calls, self.batch, phases)
        for position, call in enumerate(self.calls):
            if "workspace" in call.arguments:
                nbytes = call.arguments["share"] * call.threads * self.dtype.itemsize
                workspace = call.arguments["workspace"].buffer
                workspace.nbytes = nbytes
                call.arguments["workspace"] = Slot(workspace, 0, nbytes)
            for slot, written in call.slots():
                slot.buffer.touch(position)
                slot.buffer.held |= call.once and written  # later steps read it
        if nncore.debug_build():
            for buffer in self._all:  # each in an allocation of its own, so that AddressSanitizer sees its ends
                buffer.external = nncore.ref(nncore.aligned(buffer.nbytes, np.uint8))
        nbytes = self.arena_bytes = plan(self._all, len(self.calls), reuse)
        memory = nncore.aligned(nbytes, np.uint8) if arena is None else arena(nbytes)
        return [self._build(call, memory) for call in self.calls], memory

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
    def _strided(self, out: Slot, view: View, out_strides: Sequence[int], offset: int = 0) -> None:
        sizes: dict[str, Any] = strides.copy_sizes(
            view.shape, out_strides, view.strides, out_offset=offset, x_offset=view.offset,
            itemsize=self.itemsize(view.root),
        )  # fmt: skip
        self.call("copy", out=out, x=self.root_slot(view.root), work=2 * prod(view.shape), **sizes)

    def _copy(self, view: View) -> Slot:
        slot = self.scratch(prod(view.shape) * self.itemsize(view.root))
        self._strided(slot, view, contiguous(view.shape))
        return slot

    def _copy_of(self, tensor: Tensor, view: View) -> Slot:
        if tensor not in self._copies:
            self._copies[tensor] = self._copy(view)
        return self._copies[tensor]

    def _add(self, buffer: Buffer) -> Buffer:
        self._all.append(buffer)
        return buffer

    def _emit(
        self, kernel: str, nanoseconds: float, arguments: dict, specs: Sequence[StepSpec], ld: int,
        shape: Sequence[int] = (),
    ) -> Call:  # fmt: skip
        if specs and not shape:
            rows = self.node.outputs[0].concrete(self.batch) if self.node is not None else ()
            shape = rows if prod(rows) % max(1, ld) == 0 else ()
        steps = [(spec, self._step(spec, ld, shape)) for spec in specs]
        most = workspaces() if "workspace" in arguments else ALL
        return self._record(Call(kernel, arguments, steps, nanoseconds, most))

    def _step(self, spec: StepSpec, ld: int, shape: Sequence[int]) -> dict[str, Any]:
        """The arguments of a ``nncore.Step``; operands are (memory, Address) or the number of a temporary tile."""
        if spec.update is not None:
            given = spec.update.attributes
            return {"update": given["optimizer"].step(given["store"], given["parameter"], self.state, given["block"])}
        values: dict[str, Any] = dict(
            width=ld, s0=spec.s0 / (max(1, count_of(spec.per, self.batch)) if spec.per else 1), s1=spec.s1
        )
        for name in ("p", "q"):
            operand = getattr(spec, name)
            if operand is None:
                continue
            if isinstance(operand, Tensor):
                values[name] = self._operand(operand, ld, spec.at or shape, spec.kind)
            elif isinstance(operand, int):
                values[name] = operand
            else:
                values[name] = (operand, Address(0))
        if spec.stream is not None:
            values.update(state=self.state, index=self.stream(spec.stream))
        if spec.kind == "save":
            values["p"] = spec.temporary
        return values

    def _operand(self, tensor: Tensor, ld: int, shape: Sequence[int], kind: str) -> tuple[Slot, Address]:
        view = self.views.of(tensor)
        if kind == "store":
            return self.slot(tensor), Address(ld)
        if kind == "norm_grad":
            return self.slot(tensor), Address(ld)
        filled = tuple(shape)
        if prod(view.shape) == prod(filled) and view.is_contiguous:
            return self.slot(tensor), Address(ld)
        steps = broadcast_strides(view, filled)
        found = address(filled, steps, ld)
        if found is not None:
            return self._from(view), found
        wide = View(view.root, view.offset, filled, steps)
        return self._copy(wide), Address(ld)

    def _record(self, call: Call) -> Call:
        for name, value in call.arguments.items():
            if isinstance(value, Tensor):
                call.arguments[name] = self.slot(value)
        call.node = self.node
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

    def _build(self, call: Call, arena: np.ndarray) -> Op:
        arguments = {name: self._ref(value, arena) for name, value in call.arguments.items()}
        if call.function is not None:
            count, out = arguments.pop("count"), arguments.pop("out")
            return Op.custom(
                call.name, call.function.address, writes=[out], reads=list(arguments.values()), sizes=[count],
                threads=call.threads, every=call.every, phase=call.phase, keep=call.function,
            )  # fmt: skip
        steps = [self._build_step(spec, values, arena) for spec, values in call.steps]
        when: dict[str, Any] = dict(
            threads=call.threads, once=call.once, every=call.every, phase=call.phase, commits=call.commits
        )  # fmt: skip
        return Op(call.name, dtype=self.dtype, steps=steps, **when, **arguments)

    def _build_step(self, spec: StepSpec, values: dict[str, Any], arena: np.ndarray) -> Step:
        if spec.update is not None:
            return values["update"]
        made: dict[str, Any] = {}
        for name, value in values.items():
            if isinstance(value, tuple):
                memory, where = value
                made[name] = Operand(self._ref(memory, arena), *where)
            elif name in ("p", "q"):
                made[name] = Operand(temp=value)
            else:
                made[name] = value
        return Step(spec.kind, **made)
