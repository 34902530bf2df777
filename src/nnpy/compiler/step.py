"""compile_step: a list of effects becomes a Program."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from nncore import Program, new_state
from nnpy.compiler.differentiate import in_order
from nnpy.compiler.fuse import fuse, fuse_reductions, fuse_updates, join_chains, variables_first
from nnpy.compiler.lower import Lowering
from nnpy.compiler.passes import PASSES
from nnpy.compiler.specialise import again
from nnpy.compiler.updates import bind_gradients, lower_items
from nnpy.compiler.views import Views
from nnpy.graph import Node, Tensor, Variable, ordered
from nnpy.ops.base import label

#: what ``without`` may name: the values stay, bit for bit or within rounding
SWITCHES = (*PASSES, "fuse", "join_chains", "fuse_reductions", "fuse_updates", "gather_sums", "phases", "reuse_memory")


class Executable:
    """A compiled step: its Program, and the values of the tensors kept."""

    def __init__(self, program: Program, state: np.ndarray, low: Lowering, values: dict[Tensor, Any]):
        self.program = program
        self.state = state
        self.arena_bytes = low.arena_bytes
        self.calls = low.calls
        self._values = values

    def run(self, steps: int = 1, seconds: float = 0.0) -> int:
        """As ``Program.run``. Raises IndexError, naming the layer, the row and the value, where an index was out of
        range: that step has changed no variable and is not counted, and no other followed."""
        done = self.program.run(steps, seconds)
        self.check()
        return done

    def check(self) -> None:
        """Raises the IndexError of ``run`` if the last one has met such an index."""
        error = self.program.error()
        if error is None:
            return
        self.program.clear()
        op, row, value = error
        call = self.calls[op]
        who = call.name if call.node is None else label(call.node)
        most = call.arguments.get("table_rows", call.arguments.get("cols", 0)) - 1
        raise IndexError(f"{who}: expected indices from 0 to {most}, got {value} in row {row} of a batch")

    def value(self, tensor: Tensor) -> np.ndarray:
        """A kept tensor's value in the last step: a view of the arena."""
        return self._values[tensor]


def compile_step(
    effects: Sequence[Node],
    batch: int,
    state: np.ndarray,
    dtype: Any = "float32",
    keep: Sequence[Tensor] = (),
    arena: Callable[[int], np.ndarray] | None = None,
    without: Collection[str] = (),
    values: Mapping[Any, np.ndarray] | None = None,
) -> Executable:
    """The Program that does ``effects`` (nodes of ``ops.effects`` and ``ops.updates``) for a batch of this size.

    ``keep``: tensors whose values are read afterwards. ``arena``: gives memory of at least so many bytes; by default
    the Program has its own. ``without``: passes (``SWITCHES``) to be left out. ``values``: the arrays of variables,
    where these may get others meanwhile. Raises TypeError or ValueError for a graph that cannot be compiled, ValueError
    for an unknown pass.
    """
    if unknown := set(without) - set(SWITCHES):
        raise ValueError(f"compile_step: unknown passes {sorted(unknown)}; there are {', '.join(SWITCHES)}")
    final = {t: t for t in keep}
    for name, rewriting in PASSES.items():
        if name not in without:
            tensors, new = rewriting([*effects, *final.values()])
            effects = [new[node] for node in effects]
            final = {t: tensors[now] for t, now in final.items()}
    feeds = [node for node in effects if node.operation.name == "feed"]
    rest = [node for node in effects if node.operation.name != "feed"]
    nodes = in_order([*rest, *final.values()])
    # Effects that change a variable come after all that reads it.
    last = [n for n in nodes if n.operation.is_effect]
    order = [*feeds, *variables_first([n for n in nodes if not n.operation.is_effect]), *last]
    views = Views(order, batch)
    before = _snapshots(order, views)
    last = [again(n, [before.get(t, t) for t in n.inputs]) if before else n for n in last]
    order = [*order[: len(order) - len(last)], *last]
    held = list(final.values())
    used = {views.root(t) for node in order for t in node.inputs} | {views.root(t) for t in held}
    fixed = all(v.role == "accumulator" for v in _changed(order))  # nothing reads these
    low = Lowering(batch, np.dtype(dtype), state, views, used, fixed=fixed, values=values or {})
    # As the structure of the graph has them, in whatever order it was made.
    low.number_streams(ordered([*rest, *final.values()]))
    apart = bind_gradients(last, low)
    items = fuse(order, views, held, fuses="fuse" not in without)
    if "join_chains" not in without and "fuse" not in without:
        items = join_chains(items, views, held)
    if "fuse_reductions" not in without and "fuse" not in without:
        items = fuse_reductions(items, views, held)
    if "fuse_updates" not in without:
        items = fuse_updates(items, views)
    if "gather_sums" not in without:
        for item in items:
            low.announce(item.node)
    for tensor, copy in before.items():
        low.copy(copy, tensor, 0, views.of(copy).strides)
    lower_items(items, low, apart)
    for tensor in held:
        low.slot(tensor).buffer.held = True
    code, memory = low.finish(arena, "phases" not in without, "reuse_memory" not in without)
    values = {t: low.view(now, memory) for t, now in final.items()}
    return Executable(Program(code, state), state, low, values)


def _changed(order: Sequence[Node]) -> set[Variable]:
    return {v for node in order for v in node.operation.mutated(node)}


def _snapshots(order: Sequence[Node], views: Views) -> dict[Tensor, Tensor]:
    """Copies of what effects read of variables that the step changes: they see the values of its beginning."""
    changed = _changed(order)
    seen = [t for node in order if node.operation.is_effect for t in node.inputs if views.root(t) in changed]
    return {t: Tensor(t.sizes, None, t.name, t.kind) for t in seen}


def evaluated(tensor: Tensor) -> np.ndarray:
    """The value of a tensor that depends on variables and constants alone, in the variables' dtype."""
    dtypes = {t.value.dtype for node in ordered([tensor]) for t in node.inputs if isinstance(t, Variable)}
    dtype = np.result_type(np.float32, *dtypes)
    executable = compile_step([], 1, new_state(), dtype, keep=[tensor])
    executable.run()
    return np.array(executable.value(tensor))
