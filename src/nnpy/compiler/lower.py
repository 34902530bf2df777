"""Lowering: items become kernel calls: products, reductions, chains of steps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any

import nncore
from nncore import kernels, reductions
from nnpy.compiler.emit import Emitter
from nnpy.compiler.fuse import Item
from nnpy.compiler.memory import Slot
from nnpy.compiler.schedule import NS_OF_PHASE, Call
from nnpy.compiler.views import View, address, broadcast_strides
from nnpy.graph import Tensor, Variable
from nnpy.ops.base import StepSpec, shares
from nnpy.ops.shape import contiguous

_MANY_ROWS = 192
_IN_CACHE = 1 << 19
_PARTS = (2, 4, 6, 8, 12, 24)  # of the rows of a product whose columns are summed: what teams share out evenly
_PART_ROWS, _MOST_ROWS = 64, 1024  # of such a part


@cache
def _block_columns(core) -> int:
    """How many columns of B a GEMM keeps in L2 at a time: as many as fit, for a block of k as long as it may be. A
    little too many do less harm than too few: what spills over comes from L3."""
    return max(256, min(core.NC * core.NR, nncore.cache_sizes()["L2"] // core.KC_BYTES))


class Lowering(Emitter):
    """What operations' ``lower`` methods see: shapes for a batch size, buffers of tensors, and kernel calls."""

    def fill(self, out: Tensor, value: float) -> None:
        """``value`` everywhere."""
        count = self.count(out)
        self.call("fill", out=out, rows=1, cols=count, ld=count, value=value, work=count // 2)

    def cast(self, out: Tensor, x: Tensor) -> None:
        """Between reals and indices."""
        count = self.count(x)
        name = "int_to_real" if x.kind == "index" else "real_to_int"
        self.call(name, out=out, x=x, rows=1, cols=count, ld_out=count, ld_x=count, work=count)

    def copy(self, out: Tensor, x: Tensor, offset: int, out_strides: Sequence[int]) -> None:
        """x into ``out``, from element ``offset`` on with these strides."""
        view = self.views.of(x)
        slot = self.slot(out)
        self._strided(slot, view, out_strides, offset)

    def reduce(self, item: Item, kind: str, x: Tensor, axes: Sequence[int]) -> None:
        """item.output = x reduced over ``axes``; ``kind``: of the kernel reduce, or "mean", a scaled sum. x may be what
        the chain before makes."""
        shape = x.concrete(self.batch)
        gathered, scale = self.sums.get(item.node), 1.0
        if kind == "mean":
            kind, scale = "sum", 1.0 / max(1, prod(shape[a] for a in axes))
        if gathered is not None:
            self.reduce_middle(kind, item.output, gathered.partial, 1, len(gathered.counts), shape[-1], scale=scale)
            return
        if item.before is not None:
            if self._reduce_chain(item, kind, x, axes, scale):
                return
            self.chain(item.before)
        memory, *sizes = self.middle(x, axes)
        self.reduce_middle(kind, item.output, memory, *sizes, scale=scale)

    def _reduce_chain(self, item: Item, kind: str, x: Tensor, axes: Sequence[int], scale: float) -> bool:
        """The same in one pass, if the steps can be done in the order in which the elements are reduced."""
        before, sizes = item.before, self.sides(x, axes)
        assert before is not None
        if sizes is None or kind == "logsumexp":  # that would do the steps twice
            return False
        _, mid, inner = sizes
        source, steps, shape = self._chain(before)
        cols = self._columns(shape, steps, [inner if inner > 1 else mid])
        if inner > 1 and cols != inner:
            return False
        given: dict[str, Any] = dict(steps=steps, shape=shape, cols=cols, y=before.output if item.kept else None)
        self.reduce_middle(kind, item.output, source, *sizes, scale=scale, **given)
        return True

    def reduce_middle(
        self, kind: str, out: Tensor, x: Slot | Tensor | None, outer: int, mid: int, inner: int, *, scale: float = 1.0,
        stride_outer: int = 0, stride_mid: int = 0, steps: Sequence[StepSpec] = (), shape: Sequence[int] = (),
        cols: int = 0, y: Tensor | None = None,
    ) -> None:  # fmt: skip
        """out[outer, inner] = scale * the reduction of x[outer, mid, inner]; with ``cols``, of y = steps(x)."""
        some: list[dict[str, Any]] = reductions.stages(
            kind, outer, mid, inner, scale=scale, stride_outer=stride_outer, stride_mid=stride_mid, cols=cols,
            steps=len(steps),
        )  # fmt: skip
        for number, sizes in enumerate(some):
            last = number == len(some) - 1
            parts = 1 if last else -(-mid // int(sizes["chunk"]))
            target = out if last else self.scratch(outer * parts * inner * self.dtype.itemsize)
            visits = sizes["outer"] * sizes["mid"] * sizes["inner"]
            work = int(visits) // (1 if kind == "logsumexp" else 4)
            given: dict[str, Any] = {name: value for name, value in (("x", x), ("y", y)) if value is not None}
            if not number:
                given.update(steps=steps, step_ld=cols, shape=shape)
                work += int(visits) * len(steps)
            self.call("reduce", out=target, work=work, **sizes, **given)
            x, y = target, None

    def gemm(
        self, item: Item, *, a: Tensor, b: Tensor, m: int, n: int, k: int, a_turned: bool = False,
        b_turned: bool = False,
    ) -> None:  # fmt: skip
        """item.output = steps(a @ b); ``turned``: the operand's memory holds the transposed matrix."""
        memory_a, *steps_a = self.matrix(a, *((k, m) if a_turned else (m, k)))
        memory_b, *steps_b = self.matrix(b, *((n, k) if b_turned else (k, n)))
        rs_a, cs_a = reversed(steps_a) if a_turned else steps_a
        rs_b, cs_b = reversed(steps_b) if b_turned else steps_b
        core = kernels.family("gemm", self.dtype)
        if rs_a == 1 and cs_b == 1 and n <= core.LANES < m and not item.steps and (cs_a, rs_b) == (m, n):
            self._turned_gemm(item.output, memory_a, memory_b, m, n, k)
            return
        flops = 2 * m * n * k
        if cs_a == 1 and n <= kernels.family("narrow", self.dtype).FASTER and k >= 8 * n:
            arguments = dict(c=item.output, a=memory_a, b=memory_b, m=m, n=n, k=k, lda=rs_a, rs_b=rs_b, cs_b=cs_b)
            self.kernel("gemm_narrow", flops, arguments, item.steps, n)
            return
        arguments = dict(m=m, n=n, k=k, rs_a=rs_a, cs_a=cs_a, ldc=n, block=_block_columns(core))
        if cs_b == 1 and (m < _MANY_ROWS or k * n * self.dtype.itemsize <= _IN_CACHE):
            arguments.update(b=memory_b, ldb=rs_b)  # read in place as fast as a packed one
        elif self.fixed and isinstance(self.views.root(b), Variable):
            packed = self.scratch(-(-n // core.NR) * core.NR * k * self.dtype.itemsize)
            self.call("pack_b", out=packed, b=memory_b, k=k, n=n, rs=rs_b, cs=cs_b, work=2 * n * k, of_parameters=True)
            arguments.update(b=packed, packed=1)
        else:
            panels = -(-n // core.NR) * core.NR  # columns, padded to whole panels
            arguments.update(b=memory_b, packed=2, ldb=rs_b, cs_b=cs_b, workspace=self.scratch(0))
            arguments["share"] = min(core.WORKSPACE, panels * min(k, core.KC))  # what a thread needs at most
        if m >= _PARTS[0] * _PART_ROWS:
            parts = max(p for p in _PARTS if p * _PART_ROWS <= m) * -(-m // (_PARTS[-1] * _MOST_ROWS))
            ends_phase = flops / self.costs.flops <= NS_OF_PHASE  # plain sums are not worth that
            sums = self.gathered(item.output, shares(m, parts), ("partial",) if ends_phase else ("partial", "sums"))
            arguments.update(sums, parts=parts if sums else 0)
        self.kernel("gemm", flops, dict(c=item.output, a=memory_a, **arguments), item.steps, n)

    def _turned_gemm(self, output: Tensor, a: Slot, b: Slot, m: int, n: int, k: int) -> None:
        """output = a @ b for a narrow b: as its transpose b' @ a', whose rows fill the vectors."""
        turned = self.scratch(m * n * self.dtype.itemsize)
        arguments = dict(c=turned, a=b, b=a, m=n, n=m, k=k, rs_a=1, cs_a=n, ldb=m, ldc=m)
        self.kernel("gemm", 2 * m * n * k, arguments, (), m)
        self.call("transpose", out=output, x=turned, rows=n, cols=m, work=4 * m * n)

    def batched_gemm(self, out: Tensor, a: Tensor, b: Tensor) -> None:
        """out = a @ b of matrices in the last two axes, the others broadcast."""
        *lead, m, n = out.concrete(self.batch)
        k = a.concrete(self.batch)[-1]
        sides = [self._matrices(tensor, lead) for tensor in (a, b)]
        groups = [axes for axes in (self._two_axes(lead, [steps[:-2] for _, steps in sides]),) if axes is not None]
        if not groups:  # more than two axes that do not merge: as contiguous ones
            copies = [self._copy_broadcast(tensor, lead) for tensor in (a, b)]
            sides = copies
            groups = [self._two_axes(lead, [steps[:-2] for _, steps in sides])]
        assert groups[0] is not None
        (outer, inner), ((ao, ai), (bo, bi)) = groups[0]
        (memory_a, steps_a), (memory_b, steps_b) = sides
        core = kernels.family("gemm", self.dtype)
        panels = -(-n // core.NR) * core.NR
        arguments = dict(
            c=out, a=memory_a, b=memory_b, m=m, n=n, k=k, outer=outer, inner=inner, a_outer=ao, a_inner=ai,
            rs_a=steps_a[-2], cs_a=steps_a[-1], b_outer=bo, b_inner=bi, rs_b=steps_b[-2], cs_b=steps_b[-1],
            c_outer=inner * m * n, c_inner=m * n, ldc=n, workspace=self.scratch(0),
            share=min(core.WORKSPACE, panels * min(k, core.KC)),
        )  # fmt: skip
        self.kernel("gemm_batched", 2 * outer * inner * m * n * k, arguments, (), n)

    def _matrices(self, tensor: Tensor, lead: Sequence[int]) -> tuple[Slot, tuple[int, ...]]:
        """A tensor's memory and its strides with the leading axes of ``lead``."""
        view = self.views.of(tensor)
        if min(view.strides, default=0) < 0:
            return self._copy_broadcast(tensor, view.shape[:-2])
        return self._from(view), broadcast_strides(view, (*lead, *view.shape[-2:]))

    def _copy_broadcast(self, tensor: Tensor, lead: Sequence[int]) -> tuple[Slot, tuple[int, ...]]:
        view = self.views.of(tensor)
        shape = (*lead, *view.shape[-2:])
        wide = View(view.root, view.offset, shape, broadcast_strides(view, shape))
        return self._copy(wide), contiguous(shape)

    @staticmethod
    def _two_axes(lead: Sequence[int], sides: Sequence[Sequence[int]]) -> Any:
        """((outer, inner), strides of each side) if the leading axes merge to two; None if not."""
        axes: list[tuple[int, list[int]]] = []
        for size, *steps in zip(lead, *sides, strict=True):
            if size == 1:
                continue
            if axes and all(before == size * step for before, step in zip(axes[-1][1], steps, strict=True)):
                axes[-1] = (axes[-1][0] * size, steps)
            else:
                axes.append((size, list(steps)))
        if len(axes) > 2:
            return None
        none = (1, [0] * len(sides))
        (outer, first), (inner, second) = [*[none] * (2 - len(axes)), *axes]
        return (outer, inner), [(a, b) for a, b in zip(first, second, strict=True)]

    def chain(self, item: Item) -> None:
        """item.output = steps(item.source)."""
        x, steps, shape = self._chain(item)
        self._rows(item.output, x, self._columns(shape, steps), steps, shape)

    def _chain(self, item: Item) -> tuple[Tensor | None, list[StepSpec], tuple[int, ...]]:
        """What the kernel of a chain reads (None: its first step does), its steps and their shape."""
        assert item.source is not None
        shape = self.views.of(item.output).shape
        steps, source = list(item.steps), item.source
        if not item.temporaries and self.views.of(source).is_contiguous and self.count(source) == prod(shape):
            return source, steps, shape
        if not item.temporaries:
            steps = [StepSpec("load", p=source, at=steps[0].at if steps else shape), *steps]
        return None, steps, shape

    def _columns(self, shape: Sequence[int], steps: Sequence[StepSpec], preferred: Sequence[int] = ()) -> int:
        """How long rows may be for all operands to be read where they are: of a ``preferred`` length, or as long as a
        sample, if all are whole."""
        count = prod(shape)
        best = max(1, count // max(1, shape[0])) if len(shape) > 1 else count
        candidates = {best}
        for each in {shape, *(step.at for step in steps if step.at)}:
            cols = 1
            for size in reversed(each):
                cols *= size
                if cols <= best:
                    candidates.add(cols)
        where = [
            (step.at or shape, broadcast_strides(self.views.of(t), step.at or shape))
            for step in steps
            for t in step.operands()
        ]
        for cols in (*preferred, *sorted(candidates, reverse=True)):
            if cols and all(address(*each, cols) is not None for each in where):
                return cols
        return max(1, shape[-1] if shape else 1)

    def rows(self, out: Tensor, x: Tensor, cols: int, steps: Sequence[StepSpec]) -> None:
        """out = steps(x), both of rows of so many columns."""
        self._rows(out, x, cols, steps, x.concrete(self.batch))

    def _rows(self, out: Tensor, x: Tensor | None, cols: int, steps: Sequence[StepSpec], shape: Sequence[int]) -> None:
        count = prod(shape)
        given: dict[str, Any] = {} if x is None else {"x": x}
        self.call(
            "chain", out=out, rows=count // max(1, cols), cols=cols, ld_out=cols, ld_x=cols,
            work=count * (1 + len(steps)), steps=steps, step_ld=cols, shape=shape, **given,
        )  # fmt: skip

    def scalar_function(self, compiled, output: Tensor, inputs: Sequence[Tensor]) -> None:
        """output = compiled(inputs) element by element; ``compiled`` is a kernel of nncore.jit."""
        count = self.count(output)
        arguments = {"out": output, "count": count, **{f"x{i}": t for i, t in enumerate(inputs)}}
        self._record(Call("custom", arguments, nanoseconds=4 * count, function=compiled))
