"""Fusion: nodes become items, each one kernel and the steps it applies to its result while that is in cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nncore.steps import TEMPORARIES
from nnpy.compiler.views import Views
from nnpy.graph import Node, Tensor, Variable
from nnpy.ops.base import Elementwise, StepSpec

_WIDE = 32  # narrower weights are updated faster as part of the flat buffer than row by row


@dataclass(eq=False)
class Item:
    """``node``'s kernel, then ``steps``; ``result`` is the last step's (None: an effect without one). A chain reads
    ``source`` instead.

    ``columns``: what a row of a kernel's result has; None for a chain, which may cut its rows as it likes. ``before``:
    the chain whose result the node's kernel makes and reads on the way; ``kept``: it is left in memory too.
    """

    node: Node
    result: Tensor | None
    steps: list[StepSpec] = field(default_factory=list)
    source: Tensor | None = None
    columns: int | None = None
    temporaries: int = 0
    before: Item | None = None
    kept: bool = False

    @property
    def output(self) -> Tensor:
        """The result. Raises TypeError if there is none."""
        if self.result is None:
            raise TypeError(f"{self.node.operation.name}: has no output")
        return self.result

    @property
    def is_chain(self) -> bool:
        return self.source is not None

    @property
    def open(self) -> bool:
        """Whether more steps can follow."""
        return self.is_chain or self.node.operation.takes_steps

    def reads(self) -> Iterable[Tensor]:
        """All tensors that it reads."""
        if self.before is not None:
            yield from self.before.reads()
            yield from self.node.inputs[1:]
        else:
            yield from (self.source,) if self.source is not None else self.node.inputs
        for step in self.steps:
            yield from step.operands()

    def makes(self) -> Iterable[Tensor]:
        """All tensors that it leaves in memory."""
        if self.result is not None:
            yield self.result
        yield from () if self.is_chain else self.node.outputs
        for step in self.steps:
            if step.kind == "store":
                yield from step.operands()


def variables_first(order: Sequence[Node]) -> list[Node]:
    """What depends on variables alone (a folded normalization, a penalty's gradient) moves to the front, so that it
    can be an operand of any fused step."""
    early: set[Tensor] = set()
    for node in order:
        if not node.operation.is_effect and all(isinstance(t, Variable) or t in early for t in node.inputs):
            early.update(node.outputs)
    return sorted(order, key=lambda node: not (node.outputs and node.outputs[0] in early))


def fuse(order: Sequence[Node], views: Views, held: Iterable[Tensor], fuses: bool = True) -> list[Item]:
    """Items in order. ``held`` tensors are read from outside and must exist in memory."""
    root, batch = views.root, views.batch
    uses = Counter(root(t) for node in order if node not in views.aliases for t in node.inputs)
    uses.update(root(t) for t in held)
    items: list[Item] = []
    made_at: dict[Tensor, int] = {}  # the item that makes a tensor; leaves are not in it
    head_of: dict[Tensor, int] = {}  # the open item whose last result a tensor is

    def emit(item: Item, results: Iterable[Tensor]) -> None:
        items.append(item)
        made_at.update((t, len(items) - 1) for t in results)
        if item.open:
            head_of[item.output] = len(items) - 1

    for node in order:
        operation = node.operation
        if node in views.aliases:
            continue
        if not isinstance(operation, Elementwise):
            shape = node.outputs[0].concrete(batch) if node.outputs else ()
            emit(Item(node, node.outputs[0] if node.outputs else None, columns=shape[-1] if shape else 1), node.outputs)
            continue
        best: tuple[int, int] | None = None
        for primary in range(len(node.inputs) if operation.commutative else 1) if fuses else ():
            taken = node.inputs[primary]
            at = head_of.get(root(taken))
            if at is None or not views.is_whole(taken):
                continue
            if views.of(taken).shape != views.of(node.output).shape:
                continue  # it is broadcast up
            early = all(
                made_at.get(root(t), -1) < at for step in operation.steps(node, primary) for t in step.operands()
            )
            if early and (best is None or at > best[0]):
                best = (at, primary)
        if best is None:
            primary = _widest(node, views) if operation.commutative else 0
            emit(Item(node, node.output, steps_of(node, primary, views), source=node.inputs[primary]), node.outputs)
            continue
        at, primary = best
        item, taken = items[at], root(node.inputs[primary])
        if uses[taken] > 1:
            item.steps.append(StepSpec("store", p=taken))
        item.steps += steps_of(node, primary, views)
        item.result = node.output
        del head_of[taken]
        made_at[node.output] = at
        head_of[node.output] = at
    return items


def steps_of(node: Node, primary: int, views: Views) -> list[StepSpec]:
    """A node's steps, which know the shape that they are done in."""
    operation, shape = node.operation, views.of(node.output).shape
    assert isinstance(operation, Elementwise)
    return [step.replaced(at=shape) for step in operation.steps(node, primary)]


def _widest(node: Node, views: Views) -> int:
    """The input that a chain reads best: one that is not broadcast, and of such the last."""
    shape = views.of(node.output).shape
    return max(range(len(node.inputs)), key=lambda i: (views.of(node.inputs[i]).shape == shape, -i))


def join_chains(items: list[Item], views: Views, held: Iterable[Tensor]) -> list[Item]:
    """A chain whose result one later chain alone reads becomes part of that one: its result stays in a tile."""
    root = views.root
    readers: dict[Tensor, set[int]] = {}
    for position, item in enumerate(items):
        for tensor in item.reads():
            readers.setdefault(root(tensor), set()).add(position)
    kept = {root(t) for t in held}
    gone: set[int] = set()
    for position, item in enumerate(items):
        result = item.result
        if result is None or not item.is_chain or result in kept or len(readers.get(result, ())) != 1:
            continue
        if any(step.kind == "store" for step in item.steps):
            continue  # what it stores may be read before
        (at,) = readers[result]
        into = items[at]
        shape = views.of(result).shape
        if not into.is_chain or views.of(into.output).shape != shape:
            continue
        uses = [t for t in into.reads() if root(t) is result]
        number = into.temporaries + item.temporaries
        whole = all(views.is_whole(t) and views.of(t).shape == shape for t in uses)
        if not whole or number >= TEMPORARIES or _hazard(items, position, at, views):
            continue
        _join(item, into, result, views)
        for tensor in item.reads():
            readers[root(tensor)].discard(position)
            readers[root(tensor)].add(at)
        gone.add(position)
    return [item for position, item in enumerate(items) if position not in gone]


def _hazard(items: Sequence[Item], start: int, end: int, views: Views) -> bool:
    """Whether something between two items changes a variable that the first one reads."""
    reads = {views.root(t) for t in items[start].reads()}
    between = items[start + 1 : end]
    return any(v in reads for item in between for v in item.node.operation.mutated(item.node))


def _join(item: Item, into: Item, result: Tensor, views: Views) -> None:
    root = views.root
    place = into.temporaries + item.temporaries
    shapes = [(each.steps[0].at if each.steps else views.of(each.output).shape) for each in (item, into)]
    mine = [StepSpec("load", p=item.source, at=shapes[0]), *item.steps, StepSpec("save", temporary=place)]
    theirs = [StepSpec("load", p=into.source, at=shapes[1]), *into.steps]

    def through(step: StepSpec) -> StepSpec:
        """The step, with the temporary in place of the tensor."""
        for name in ("p", "q"):
            tensor = getattr(step, name)
            if isinstance(tensor, Tensor) and root(tensor) is result:
                step = step.replaced(**{name: place})
        return step

    into.steps = [*mine, *(through(step) for step in theirs)]
    into.temporaries = place + 1


def fuse_reductions(items: list[Item], views: Views, held: Iterable[Tensor]) -> list[Item]:
    """A kernel that reduces what a chain makes does the chain's steps itself, in the chain's place; what else reads the
    chain's result finds it in memory."""
    root = views.root
    made_at: dict[Tensor, int] = {}
    readers: dict[Tensor, list[int]] = {}
    for position, item in enumerate(items):
        made_at.update((t, position) for t in item.makes())
        for tensor in {root(t) for t in item.reads()}:
            readers.setdefault(tensor, []).append(position)
    wanted = {root(t) for t in held}
    at: dict[int, Item] = {}  # what takes the place of a chain
    gone: set[int] = set()
    for position, item in enumerate(items):
        if not item.node.operation.reads_chains or item.is_chain:
            continue
        taken = item.node.inputs[0]
        start = made_at.get(root(taken), -1)
        if start < 0 or start in at or not items[start].is_chain or items[start].result is not root(taken):
            continue
        if not views.is_whole(taken):
            continue
        if any(made_at.get(root(t), -1) >= start for t in item.node.inputs[1:]):
            continue  # what it reads beside is made later
        at[start] = item
        item.before = items[start]
        item.kept = root(taken) in wanted or readers[root(taken)] != [position]
        gone.add(position)
    return [at.get(position, item) for position, item in enumerate(items) if position not in gone]


def fuse_updates(items: Sequence[Item], views: Views) -> list[Item]:
    """The optimizer's step goes right behind a weight gradient where nothing later reads the weight; which items are
    left. Updates that clipping has to scale first stay where they are."""
    last_use: dict[Tensor, int] = {}
    made_at: dict[Tensor, int] = {}
    for position, item in enumerate(items):
        for tensor in item.reads():
            if isinstance(views.root(tensor), Variable) and not item.node.operation.is_effect:
                last_use[views.root(tensor)] = position
        if item.node.operation.updates_behind:
            made_at[item.output] = position
    left = []
    for item in items:
        node = item.node
        gradient = node.inputs[0] if node.operation.name == "update" else None
        if gradient is not None and len(node.inputs) == 1 and views.is_whole(gradient):
            parameter = node.attributes["parameter"]
            position = made_at.get(views.root(gradient), -1)
            if position >= last_use.get(parameter, -1) and position >= 0 and parameter.value.shape[-1] >= _WIDE:
                items[position].steps.append(StepSpec("update", update=node))
                continue
        left.append(item)
    return left
