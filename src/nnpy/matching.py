"""Matching: which weight of a file is which weight of a model, where layers have automatic names.

What the user named is found by its name. Any other layer is known by its place in the graph: by all that leads to it,
and all that it leads to. A signature says so in two ways: ``exact``, with the configurations of the layers around it,
and ``rough``, which sees layers with weights and joins alone, so that another dropout does not matter.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nnpy import tree
from nnpy.graph import Node, Parameter, Tensor
from nnpy.layers.base import Layer
from nnpy.layers.calling import Call
from nnpy.ops import stored
from nnpy.registry import to_json
from nnpy.structure import Structure, weight_names

if TYPE_CHECKING:
    from nnpy.model import Model

_ASIDE = ("name", "trainable", "_initializer", "_regularizer", "_constraint")
_COMMUTE = frozenset({"add", "multiply", "maximum", "minimum", "Add", "Multiply", "Average", "Maximum", "Minimum"})


class Signature(NamedTuple):
    """Of a weight: the two of its layer, and ``kind``: of its layer alone."""

    exact: str
    rough: str
    kind: str


def _digest(*parts: Any) -> str:
    import hashlib

    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def signatures(model: Model) -> dict[str, Signature]:
    """Of the weights that are in layers with automatic names, by the names of ``weight_names``."""
    names = weight_names(model)
    found: dict[str, Signature] = {}
    seen: set[Layer] = set()
    stack: list[tuple[Layer, Signature, bool]] = [(model, Signature("", "", ""), False)]
    while stack:
        layer, mine, automatic = stack.pop()
        if layer in seen:
            continue
        seen.add(layer)
        for number, (weight, _) in enumerate(layer._own):
            if automatic and names.get(weight):
                shape = list(weight.value.shape)
                found[names[weight]] = Signature(
                    _digest(mine.exact, number), _digest(mine.rough, number, shape), _digest(mine.kind, number, shape)
                )
        structure = getattr(layer, "_structure", None)
        graph = None if structure is None or layer.is_code else _Graph(structure)  # type: ignore[attr-defined]
        for inner, place in layer._places().items():
            if graph is None or inner._named:
                inside, new = Signature(place, place, place), automatic
            else:
                inside, new = graph.signature(inner), True
            exact, rough = _digest(mine.exact, inside.exact), _digest(mine.rough, inside.rough)
            stack.append((inner, Signature(exact, rough, _digest(mine.kind, inside.kind)), new))
    return found


class _Graph:
    """The two kinds of signatures of a structure's layers."""

    def __init__(self, structure: Structure):
        self.structure = structure
        self._kinds: dict[tuple[Layer, bool], str] = {}
        self.exact = self._around(lambda made: self._is(made, True), lambda made: False)
        self.rough = self._around(lambda made: self._is(made, False), _passes)

    def signature(self, layer: Layer) -> Signature:
        return Signature(self.exact.get(layer, ""), self.rough.get(layer, ""), self._kind(layer, True))

    def _kind(self, layer: Layer, exact: bool) -> str:
        key = (layer, exact)
        if key not in self._kinds:
            self._kinds[key] = _kind(layer, exact)
        return self._kinds[key]

    def _is(self, made: Call | Node, exact: bool) -> Any:
        if isinstance(made, Node):
            return [made.operation.name, _attributes(made) if exact else ""]
        return made.layer.name if made.layer._named else self._kind(made.layer, exact)

    def _around(self, is_: Callable[[Call | Node], Any], passes: Callable[[Call | Node], bool]) -> dict[Layer, str]:
        """Of each layer: what it is, what leads to its calls, and where these lead to. What ``passes`` is not seen."""
        structure = self.structure
        above: dict[Tensor, Any] = {}
        for number, tensor in enumerate(structure.inputs):
            layer = tensor.call.layer
            above[tensor] = _digest("input", layer.name if layer._named else number)
        came: dict[int, list[Any]] = {}
        for made in structure.calls:
            given = [above.get(t) or _digest("constant", [n or 0 for n in t.shape]) for t in _inputs(made)]
            came[id(made)] = given = sorted(given) if _commutes(made) else given
            through = passes(made)
            for number, tensor in enumerate(made.outputs):
                above[tensor] = given[0] if through else _digest(is_(made), given, number)
        below: dict[Tensor, list[Any]] = defaultdict(list)
        for number, tensor in enumerate(structure.outputs):
            below[tensor].append(_digest("output", structure.output_keys[number] if structure.output_keys else number))
        found: dict[Layer, list[Any]] = defaultdict(list)
        for made in reversed(structure.calls):
            goes = [sorted(below[tensor]) for tensor in made.outputs]
            for place, tensor in enumerate(_inputs(made)):
                here = 0 if _commutes(made) else place
                below[tensor] += goes[0] if passes(made) else [_digest(is_(made), here, goes)]
            if isinstance(made, Call):
                found[made.layer].append([is_(made), came[id(made)], goes])
        return {layer: _digest(calls[::-1]) for layer, calls in found.items()}


def _inputs(made: Call | Node) -> list[Tensor]:
    return tree.tensors((made.args, made.kwargs)) if isinstance(made, Call) else list(made.inputs)


def _passes(made: Call | Node) -> bool:
    """Whether it has one input, one output and no weights."""
    alone = len(_inputs(made)) == 1 and len(made.outputs) == 1
    return alone and (isinstance(made, Node) or not made.layer.weights)


def _commutes(made: Call | Node) -> bool:
    return (type(made.layer).__name__ if isinstance(made, Call) else made.operation.name) in _COMMUTE


def _kind(layer: Layer, exact: bool) -> str:
    """The class and the shapes of its weights; ``exact``: with what of its configuration says what it computes."""
    shapes = [list(weight.value.shape) for weight in layer.weights]
    config: dict[str, Any] = {}
    if exact and not layer.sublayers():
        try:
            config = to_json({key: item for key, item in layer.get_config().items() if not key.endswith(_ASIDE)})
        except TypeError:  # that JSON cannot hold: the weights can be saved all the same
            config = {}
    return _digest(type(layer).__name__, shapes, config)


def _attributes(node: Node) -> Any:
    try:
        return stored.to_json(node)["attributes"]
    except TypeError:
        return ""


class Unmatched(ValueError):
    """Weights fit several layers, or none."""


def match(
    names: Mapping[Parameter, str],
    mine: Mapping[str, Signature],
    shapes: Mapping[str, tuple[int, ...]],
    theirs: Mapping[str, Signature],
) -> tuple[dict[str, str], list[str]]:
    """The file's name for each of a model's weights, by the model's, and those of them that position alone has found.

    ``names``, ``mine``: of the model; ``shapes``, ``theirs``: of the file, which has as many weights as the model.
    Raises Unmatched where several layers fit, or none.
    """
    found = {name: name for name in names.values() if name not in mine and name in shapes and name not in theirs}
    left = [name for name in names.values() if name not in found]
    taken = set(found.values())
    rest = [name for name in shapes if name not in taken]

    def pair(some: Iterable[tuple[str, str]]) -> None:
        for name, source in some:
            found[name] = source
            left.remove(name)
            rest.remove(source)

    for kind in ("exact", "rough"):
        targets, sources = _grouped(left, mine, kind), _grouped(rest, theirs, kind)
        for signature in targets.keys() & sources.keys():
            pairs = list(zip(sorted(targets[signature]), sorted(sources[signature]), strict=False))
            if len(targets[signature]) == len(sources[signature]) and (kind == "exact" or len(pairs) == 1):
                if kind == "rough":
                    _refuse_exchange(pairs[0], left, mine, theirs)
                pair(pairs)
    wanted = {name: tuple(weight.value.shape) for weight, name in names.items()}
    placed = []
    for name in list(left):
        alike = [other for other in left if wanted[other] == wanted[name]]
        if name not in rest:
            continue
        if len(alike) > 1 and (name in theirs or name in mine):
            raise Unmatched(f"{', '.join(sorted(alike))} have one shape and another place in the graph")
        placed.append(name)
    pair([(name, name) for name in placed])
    if left or rest:
        raise Unmatched(f"the file has {', '.join(sorted(rest)[:5])} where the model has {', '.join(sorted(left)[:5])}")
    return found, placed


def _grouped(names: Iterable[str], signatures: Mapping[str, Signature], kind: str) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if name in signatures:
            groups[getattr(signatures[name], kind)].append(name)
    return groups


def _refuse_exchange(
    pair: tuple[str, str], left: Iterable[str], mine: Mapping[str, Signature], theirs: Mapping[str, Signature]
) -> None:
    """Unmatched if a weight has the place of one in the file, and another one is the layer that this was."""
    name, source = pair
    kind = theirs[source].kind
    if mine[name].kind != kind and (others := [n for n in left if n != name and n in mine and mine[n].kind == kind]):
        raise Unmatched(f"{source} of the file has the place of {name}, and is what {others[0]} is")
