"""The compiler: a graph becomes a Program. specialise -> differentiate -> fuse -> lower -> plan memory -> Ops."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nncore import Op, Program, Step, kernels
from nncore.kernels import signatures
from nncore.memory import SLOTS
from nnpy import ops
from nnpy.compiler.differentiate import by_creation, differentiate
from nnpy.compiler.fuse import Aliases, fuse, fuse_updates, parameters_first
from nnpy.compiler.lower import Lowering
from nnpy.compiler.memory import Slot
from nnpy.compiler.specialise import specialise
from nnpy.data.images import Transform
from nnpy.graph import Parameter, Tensor, ordered
from nnpy.parameters import Store

# The codes of the gather kernels for the dtypes of users' arrays.
SOURCES = {name: code for code, name in enumerate(signatures.SOURCES)}
SOURCES["bool"] = SOURCES["uint8"]


@dataclass(frozen=True)
class Feed:
    """``tensor`` is gathered, row by row, from the user's array at a state slot: ``dtype`` and bytes from one row to
    the next (``row_stride``) are the array's; the elements of a row are contiguous. ``transform``: what happens to
    images on the way."""

    tensor: Tensor
    slot: int
    dtype: str
    row_stride: int
    transform: Transform | None = None


class Update(Protocol):
    """How an optimizer ends a training step."""

    def prepare(self) -> list[Op]:
        """What comes first, if there are fused steps."""

    def step(self, parameter: Parameter) -> Step | None:
        """What updates a parameter at the end of the GEMM that makes its gradient; None: nothing can, as all gradients
        must be there first."""

    def ops(self, done: Container[Parameter]) -> list[Op]:
        """What updates all other parameters than ``done``: those that need nothing more."""


@dataclass(frozen=True)
class Request:
    """What a Program shall do with a batch.

    outputs: (tensor, slot): written to the rows of the array at a slot. objective: (loss, weight): the sum of
    weight * mean(loss) is differentiated if there is an ``update`` or ``keep_gradients``. totals: (values, array,
    weights or None): array (float64, 2) += (sum of values, sum of weights or number of samples). penalty: array
    (float64, 2) += (samples * what the regularizers add to the loss, samples), for the weights before the update.
    update: the optimizer's part. keep: tensors whose values are read afterwards.
    """

    batch: int
    training: bool
    feeds: Sequence[Feed]
    outputs: Sequence[tuple[Tensor, int]] = ()
    objective: Sequence[tuple[Tensor, float]] = ()
    totals: Sequence[tuple[Tensor, np.ndarray, Tensor | None]] = ()
    penalty: np.ndarray | None = None
    update: Callable[[Store, np.ndarray], Update] | None = None
    keep: Sequence[Tensor] = ()
    keep_gradients: bool = False


class Executable:
    """A compiled Program, its state and the tensors kept."""

    def __init__(
        self, program: Program, store: Store, state: np.ndarray, values: dict, gradients: dict, arena_bytes: int
    ):
        self.program = program
        self.store = store
        self.state = state
        self.arena_bytes = arena_bytes
        self._values = values
        self._gradients = gradients
        self._bound: dict[int, np.ndarray] = {}

    def bind(self, slot: int, array: np.ndarray) -> None:
        """Read (or write) ``array`` through a slot; it is kept alive while bound."""
        self._bound[slot] = array
        self.state[SLOTS + slot] = array.__array_interface__["data"][0]

    def value(self, tensor: Tensor) -> np.ndarray:
        """A kept tensor's value in the last step: a view of the arena."""
        return self._values[tensor]

    def gradient(self, tensor: Tensor) -> np.ndarray | None:
        """The gradient of the objective by a kept tensor or a parameter; None if it has none."""
        if isinstance(tensor, Parameter):
            return self.store.gradient(tensor) if tensor.trainable else None
        return self._gradients.get(tensor)


def compile_request(request: Request, store: Store, state: np.ndarray) -> Executable:
    """Make the Program of a request. Raises ValueError or TypeError for a graph that cannot be compiled."""
    trained = [p for p in store.parameters if p.trainable]
    differentiates = request.update is not None or request.keep_gradients
    named = [
        *request.keep, *(t for t, _ in request.outputs), *(loss for loss, _ in request.objective),
        *(t for values, _, w in request.totals for t in (values, w) if t is not None),
    ]  # fmt: skip
    final = specialise(named, request.training)
    objective = [(final[loss], weight) for loss, weight in request.objective]
    gradients: dict[Tensor, Tensor] = {}
    if differentiates:
        wanted = [*trained, *(final[t] for t in request.keep if request.keep_gradients)]
        gradients = differentiate([loss for loss, _ in objective], wanted)
        for parameter in trained:
            _regularize(parameter, gradients)
    kept = {t: gradients[final[t]] for t in request.keep if final[t] in gradients}
    parameter_gradients = {p: gradients[p] for p in trained if p in gradients}
    held = [*final.values(), *kept.values(), *parameter_gradients.values()]
    order = parameters_first(by_creation(ordered(held)))
    aliases = Aliases(order)
    used = {aliases.root(t) for node in order for t in node.inputs} | {aliases.root(t) for t in held}
    scales = {loss.made_by: weight / max(1, request.batch) for loss, weight in objective} if gradients else {}
    low = Lowering(request.batch, store, state, aliases, scales, used, fixed=request.update is None)
    if request.penalty is not None:
        _penalty(request.penalty, low)
    for feed in request.feeds:
        _gather(feed, low, request.training)
    copies = []
    for parameter, gradient in parameter_gradients.items():
        if aliases.root(gradient).node is None or low.is_bound(gradient):
            copies.append((parameter, gradient))  # two parameters with one gradient, or a gradient that is an input
        else:
            low.bind(gradient, store.gradient(parameter))
    items = fuse(order, aliases, held)
    update = request.update(store, state) if request.update is not None else None
    done: set[Parameter] = set()
    if update is not None and all(update.step(p) is not None for p in trained):
        own = {p: g for p, g in parameter_gradients.items() if p not in dict(copies)}
        done = fuse_updates(items, own, update.step, aliases.root)
    for item in items:
        low.announce(item.node)
    for item in items:
        if item.source is not None:
            low.chain(item)
        else:
            item.node.operation.lower(item, low)
    for parameter, gradient in copies:
        count = low.count(gradient)
        low.call(
            "chain", out=store.gradient(parameter), x=gradient, rows=1, cols=count, ld_out=count, ld_x=count, work=count
        )
    for summed, totals, weights in request.totals:
        extra: dict[str, Any] = {} if weights is None else {"weights": final[weights]}
        low.call("accumulate", totals=totals, values=final[summed], rows=low.count(summed), work=1, **extra)
    for tensor, slot in request.outputs:
        count = low.count(tensor)
        low.call(
            "scatter", x=final[tensor], state=state, slot=slot, rows=request.batch, cols=count // max(1, request.batch),
            work=count,
        )  # fmt: skip
    for tensor in (*(final[t] for t in request.keep), *kept.values()):
        low.buffer(tensor).held = True
    code, arena = low.finish()
    if update is not None:
        idle = {p for p in trained if p not in parameter_gradients}  # the loss does not depend on them: they stay
        code = [*(update.prepare() if done else ()), *code, *update.ops(done | idle)]
    values = {t: low.view(final[t], arena) for t in request.keep}
    slopes = {t: low.view(gradient, arena) for t, gradient in kept.items()}
    return Executable(Program(code, state), store, state, values, slopes, arena.nbytes)


def _gather(feed: Feed, low: Lowering, training: bool) -> None:
    count = low.count(feed.tensor)
    if feed.transform is not None:
        arguments = feed.transform.arguments(low.dtype, feed.dtype, feed.row_stride, augment=training)
        low.call(
            "gather_image", out=feed.tensor, state=low.state, slot=feed.slot, rows=low.batch, work=4 * count,
            **arguments,
        )  # fmt: skip
        return
    kernel = "gather_index" if feed.tensor.kind == "index" else "gather"
    low.call(
        kernel, out=feed.tensor, state=low.state, slot=feed.slot, rows=low.batch, cols=count // max(1, low.batch),
        row_stride=feed.row_stride, source=SOURCES[feed.dtype], work=4 * count,
    )  # fmt: skip


def _penalty(totals: np.ndarray, low: Lowering) -> None:
    """totals += batch * (l1 * sum(|w|) + l2 * sum(w^2) of all parameters, 1)."""
    regularized = [p for p in low.store.parameters if p.l1 or p.l2]
    chunk = kernels.family("reduce", low.store.dtype).CHUNK
    counts = [-(-p.value.size // chunk) for p in regularized]
    partials, place = low.scratch(8 * sum(counts)), 0
    for parameter, count in zip(regularized, counts, strict=True):
        part = Slot(partials.buffer, 8 * place, 8 * count)
        size = parameter.value.size
        low.call("penalty", partials=part, w=parameter, count=size, l1=parameter.l1, l2=parameter.l2, work=size // 4)
        place += count
    low.call("accumulate_penalty", totals=totals, partials=partials, count=place, rows=low.batch, work=place)


def _regularize(parameter: Parameter, gradients: dict[Tensor, Tensor]) -> None:
    """Add the gradient of l1 * sum(|w|) + l2 * sum(w^2)."""
    penalties = []
    if parameter.l2:
        penalties.append(ops.affine(parameter, 2.0 * parameter.l2, 0.0))
    if parameter.l1:
        penalties.append(ops.affine(ops.sign(parameter), parameter.l1, 0.0))
    for penalty in penalties:
        gradients[parameter] = ops.add(gradients[parameter], penalty) if parameter in gradients else penalty


__all__ = ["SOURCES", "Executable", "Feed", "Request", "compile_request"]
