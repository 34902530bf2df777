"""A model's structure: the layer calls between its inputs and outputs, run again on other tensors, and as JSON."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

from nnpy import forms, graph, tree
from nnpy.checks import shown
from nnpy.graph import Node, Parameter, Shape, Tensor
from nnpy.layers import calling
from nnpy.layers.base import Layer
from nnpy.layers.calling import Call, Calling, run, tracing
from nnpy.layers.inputs import InputLayer
from nnpy.locks import publishing
from nnpy.ops import stored
from nnpy.ops.shape import LEFT_OUT
from nnpy.registry import from_json, snake, to_json

_MOST_SHAPES = 16  # whose structures are kept

Again = Callable[[Sequence[Tensor]], "Traced"]


@dataclass(frozen=True, eq=False)
class Traced:
    """What running a model's layers on tensors gave: outputs, and what came up on the way, which ``calls`` do not tell
    where it is outside of them."""

    outputs: Sequence[Tensor]
    losses: tuple[Tensor, ...] = ()
    effects: tuple[Node, ...] = ()
    asks: bool = False


@dataclass(eq=False)
class Structure:
    """``calls``: layer calls and bare nodes, operands first; they lead from ``inputs`` to ``outputs``.

    ``losses``: tensors that layers add to the loss. ``effects``: nodes that change variables. ``asks``: whether a layer
    takes ``training``: then ``for_training`` is another structure, with the same inputs and weights. ``again``: runs
    the layers on other inputs; None: the calls, one after the other.
    """

    who: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    calls: tuple[Call | Node, ...]
    input_keys: tuple[str, ...] = ()  # where they were given as a dict
    output_keys: tuple[str, ...] = ()
    losses: tuple[Tensor, ...] = ()
    effects: tuple[Node, ...] = ()
    asks: bool = False
    again: Again | None = None
    trains: bool = False
    _training: Structure | None = field(default=None, repr=False)
    _by_shapes: OrderedDict[tuple[Shape, ...], Structure] = field(default_factory=OrderedDict, repr=False)

    @property
    def input_names(self) -> list[str]:
        return list(self.input_keys) or [self.names[tensor.call.layer] for tensor in self.inputs]

    @property
    def output_names(self) -> list[str]:
        return list(self.output_keys) or self._numbered(self.name_of(tensor) for tensor in self.outputs)

    def packed(self, results: Sequence[Any]) -> Any:
        """What there is for the outputs as a user sees it: one, a list, or a dict by their keys."""
        return pack(results, self.output_keys)

    @cached_property
    def layers(self) -> list[Layer]:
        """The layers in order, those of the inputs first, each once."""
        found = {tensor.call.layer: None for tensor in self.inputs}
        found.update((call.layer, None) for call in self.calls if isinstance(call, Call))
        return list(found)

    @cached_property
    def names(self) -> dict[Layer, str]:
        """The layers' names within the model: automatic ones that clash get a number."""
        return names_of(self.who, self.layers)

    @property
    def _roots(self) -> list[Tensor]:
        """What its graph ends in."""
        return [*self.outputs, *self.losses, *(t for effect in self.effects for t in effect.inputs)]

    @cached_property
    def parameters(self) -> list[Parameter]:
        """All that its graph reads, whichever layers own them."""
        read = (t for node in graph.ordered(self._roots) for t in node.inputs)
        found = dict.fromkeys(t for t in chain(self._roots, read) if isinstance(t, Parameter))
        if self.asks and not self.trains:
            found.update(dict.fromkeys(self.for_training.parameters))
        return list(found)

    def left_out(self, inputs: Sequence[Tensor]) -> list[Tensor] | None:
        """What stands for the outputs where its calls are not made again: the outermost of models nested deep makes
        them when it is compiled, all at once, with the losses and effects that they leave. None where they have to be:
        the inputs are not like its own, or what they give is told."""
        if not calling.may_leave_out():
            return None
        alike = all(a.sizes == b.sizes and a.kind == b.kind for a, b in zip(inputs, self.inputs, strict=True))
        if not alike or any(t.mask is not None for t in (*inputs, *self.inputs, *self.outputs)):
            return None
        if any(tensor.kind != "real" for tensor in self.outputs):
            return None
        read = [*inputs, *self.parameters]
        return [graph.apply(LEFT_OUT, read, shape=tensor.sizes) for tensor in self.outputs]

    @cached_property
    def is_whole(self) -> bool:
        """Whether no call in its graph is left out."""
        return all(node.operation is not LEFT_OUT for node in graph.ordered(self._roots))

    def whole(self) -> Structure:
        """The same with all calls made, on the same inputs."""
        return self if self.is_whole else self._run(self.inputs, self.trains)

    def name_of(self, made: Tensor | Call | Node) -> str:
        """What the table and errors call a tensor, a call or a node: its layer within the model, or the operation."""
        if isinstance(made, Tensor):
            made = maker(made) or made
        if isinstance(made, Call):
            return self.names.get(made.layer, made.layer.name)
        return made.operation.name if isinstance(made, Node) else made.name

    def activations(self) -> dict[str, Tensor]:
        """Every layer's outputs by its name; a number is added where it was called more than once."""
        made = [(self.name_of(c), t) for c in self.calls for t in (c.outputs if isinstance(c, Call) else c.outputs[:1])]
        return dict(zip(self._numbered(name for name, _ in made), (tensor for _, tensor in made), strict=True))

    @staticmethod
    def _numbered(stems: Iterator[str]) -> list[str]:
        names: dict[str, None] = {}
        for stem in stems:
            name, number = stem, 1
            while name in names:
                name, number = f"{stem}_{number}", number + 1
            names[name] = None
        return list(names)

    # the same layers again

    @property
    def for_training(self) -> Structure:
        """The structure that a Program for training computes: itself, unless a layer takes ``training``."""
        if not self.asks or self.trains:
            return self
        if self._training is None:
            made = self._run(self.inputs, True)
            with publishing():
                self._training = self._training or made
        return self._training

    def with_shapes(self, shapes: Sequence[Shape]) -> Structure:
        """The structure on inputs of ``shapes``, sizes known that are None in its own; the last few are kept. Programs
        are made of such: the tensors behind inputs of any size stand for shapes alone, losses and effects are missing.

        ValueError where one does not fit an input."""
        wanted = tuple(tuple(shape) for shape in shapes)
        if wanted == tuple(tensor.shape for tensor in self.inputs):
            return self
        found = self._by_shapes.get(wanted)
        if found is None:
            for tensor, shape in zip(self.inputs, wanted, strict=True):
                if not fits(shape, tensor.shape):
                    raise ValueError(f"{self.who}: expected input {tensor.name!r} of shape {tensor.shape}, got {shape}")
            fresh = [t.call.layer.make(shape) for t, shape in zip(self.inputs, wanted, strict=True)]
            found = self._run(fresh, self.trains)
        with publishing():
            found = self._by_shapes.setdefault(wanted, found)
            self._by_shapes.move_to_end(wanted)
            while len(self._by_shapes) > _MOST_SHAPES:
                self._by_shapes.popitem(last=False)
        return found

    def _run(self, inputs: Sequence[Tensor], training: bool) -> Structure:
        with tracing(training):
            traced = Traced(self.replay(inputs)) if self.again is None else self.again(inputs)
        made = trace(self.who, inputs, traced, self.again)
        made.input_keys, made.output_keys, made.trains = self.input_keys, self.output_keys, training
        return made

    def replay(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The same calls on other inputs: the weights are shared."""
        return run(self.replaying(inputs))

    def replaying(self, inputs: Sequence[Tensor]) -> Calling:
        """``replay`` as a generator of the calls.

        All calls inside of it are made again, down to the operations. So of models nested d deep each would be a graph
        of up to d calls, and building them take time in the square of d: see ``left_out``.
        """
        values: dict[Tensor, Tensor] = dict(zip(self.inputs, inputs, strict=True))

        def now(tensor: Tensor) -> Tensor:
            return values.get(tensor, tensor)

        for call in self.calls:
            if isinstance(call, Call):
                result = yield call.layer, tree.replace(call.args, now), tree.replace(call.kwargs, now)
                results = tree.tensors(result)
            else:
                taken = [now(tensor) for tensor in call.inputs]
                results = list(graph.apply(call.operation, taken, **call.attributes).made_by.outputs)
            values.update(zip(call.outputs, results, strict=True))
        return [values[tensor] for tensor in self.outputs]


def pack(values: Sequence[Any], keys: Sequence[str]) -> Any:
    """One value, a list of several, or where there are keys a dict."""
    if keys:
        return dict(zip(keys, values, strict=True))
    return values[0] if len(values) == 1 else list(values)


def unpack(given: Any) -> list[Any]:
    """The opposite."""
    if isinstance(given, Mapping):
        return list(given.values())
    return list(given) if isinstance(given, list | tuple) else [given]


def keys_of(value: Any, what: str) -> tuple[str, ...]:
    """The keys of a dict of tensors, none of anything else. TypeError for keys that are not strings."""
    if not isinstance(value, Mapping):
        return ()
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{what}: expected strings as keys, got {key!r}")
    return tuple(value)


def tensors_of(value: Any, what: str, names: Sequence[str] = ()) -> list[Tensor]:
    """A Tensor, a list of them, or a dict of them (in the order of ``names``, if these are its keys) as a list."""
    if isinstance(value, Mapping) and set(names) == set(value):
        value = [value[name] for name in names]
    tensors = unpack(value)
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"{what}: expected a Tensor (from Input or a layer), a list or a dict of them, got "
                f"{type(tensor).__name__}"
            )
    return tensors


def fits(shape: Shape, expected: Shape) -> bool:
    """Whether a tensor of ``shape`` may come where ``expected`` is, sizes of which may be any."""
    return len(shape) == len(expected) and all(b is None or a == b for a, b in zip(shape, expected, strict=True))


def input_like(tensor: Tensor, name: str = "") -> Tensor:
    """An Input in the place of a tensor from the middle of a graph."""
    dtype = "int32" if tensor.kind == "index" else None
    name = name or f"{tensor.name.replace('/', '_')}_input"
    return InputLayer.automatic(tensor.shape[1:], name, dtype).make()


def maker(tensor: Tensor) -> Call | Node | None:
    """What made a tensor: the layer call, or the node if no layer did."""
    return tensor.call if tensor.call is not None else tensor.node


def trace(who: str, inputs: Sequence[Tensor], traced: Traced, again: Again | None = None) -> Structure:
    """The structure between tensors; an input may lead nowhere. Raises ValueError where an output needs an Input that
    is not among ``inputs``."""
    known = set(inputs)
    calls: list[Call | Node] = []
    done: set[int] = set()
    stack = [(tensor, False) for tensor in reversed(traced.outputs)]
    while stack:
        tensor, expanded = stack.pop()
        if tensor in known:
            continue
        if isinstance(tensor, Parameter):
            continue
        made = maker(tensor)
        if made is None or (isinstance(made, Call) and isinstance(made.layer, InputLayer)):
            raise ValueError(f"{who}: its outputs depend on Input {tensor.name!r}, which is not among its inputs")
        if id(made) in done:
            continue
        if expanded:
            done.add(id(made))
            calls.append(made)
            continue
        stack.append((tensor, True))
        stack.extend((operand, False) for operand in reversed(made.inputs))
    made_calls = [call for call in calls if isinstance(call, Call)]
    losses = dict.fromkeys(chain(traced.losses, *(call.losses for call in made_calls)))
    effects = dict.fromkeys(chain(traced.effects, *(call.effects for call in made_calls)))
    asks = traced.asks or any(call.asks for call in made_calls)
    return Structure(
        who, tuple(inputs), tuple(traced.outputs), tuple(calls), losses=tuple(losses), effects=tuple(effects),
        asks=asks, again=again,
    )  # fmt: skip


def given_names(who: str, layers: Sequence[Layer]) -> dict[str, Layer]:
    """The layers whose names the user gave, by them. Raises ValueError where two have one."""
    taken: dict[str, Layer] = {}
    for layer in layers:
        if layer._named and taken.setdefault(layer.name, layer) is not layer:
            raise ValueError(
                f"{who}: expected layers of different names, got two named {layer.name!r}; give one another name="
            )
    return taken


def names_of(who: str, layers: Sequence[Layer], by_place: bool = False) -> dict[Layer, str]:
    """Names that differ: those that the user gave, and automatic ones, which get another number where they clash.

    ``by_place``: automatic ones are numbered by the layers' places, whatever else was made before. Raises ValueError
    where the user gave two layers one name.
    """
    taken = given_names(who, layers)
    names: dict[Layer, str] = {layer: name for name, layer in taken.items()}
    counts: dict[str, int] = {}
    for layer in layers:
        if layer in names:
            continue
        stem = name = snake(type(layer).__name__) if by_place else layer.name
        if name in taken and not by_place:
            stem = re.sub(r"_\d+$", "", name)
        while name in taken:
            counts[stem] = counts.get(stem, 0) + 1
            name = f"{stem}_{counts[stem]}"
        taken[name] = layer
        names[layer] = name
    return names


def layer_paths(model: Layer) -> dict[Layer, str]:
    """The layers inside a model at any depth, and their paths ("block/dense_1"): in a model by the names that the user
    gave and else by class and order, in other layers by the attributes where they are.

    They are unique, and the same for the same structure, however many layers were made before.
    """
    paths: dict[Layer, str] = {}
    taken: set[str] = set()
    stack: list[tuple[Layer, str]] = [(model, "")]
    while stack:
        layer, path = stack.pop()
        if layer in paths:
            continue
        path = paths[layer] = _unique(path, taken)
        for inner, place in reversed(layer._places().items()):
            place = place.replace("/", ".")
            stack.append((inner, f"{path}/{place}" if path else place))
    return paths


def weight_names(model: Layer) -> dict[Parameter, str]:
    """The weights' names by their places: the path of layers, and the weight's own ("block/dense_1/kernel")."""
    names: dict[Parameter, str] = {}
    taken: set[str] = set()
    for layer, path in layer_paths(model).items():
        for parameter, _ in layer._own:
            if parameter not in names:
                own = _own_name(layer, parameter)
                names[parameter] = _unique(f"{path}/{own}" if path else own, taken)
    for parameter in model.weights:  # of layers that are not in the model
        if parameter not in names:
            names[parameter] = _unique(parameter.name, taken)
    return {parameter: names[parameter] for parameter in model.weights}


def _own_name(layer: Layer, parameter: Parameter) -> str:
    """A weight's name within its layer, without the layer's, if that is automatic."""
    own = parameter.name.rpartition("/")[2]
    return own if layer._named else own.replace(layer.name, snake(type(layer).__name__))


def _unique(stem: str, taken: set[str]) -> str:
    name, number = stem, 1
    while name in taken:
        name, number = f"{stem}:{number}", number + 1
    taken.add(name)
    return name


# JSON


def describe(structure: Structure) -> dict[str, Any]:
    """As JSON values, the layers as references. Raises TypeError for what JSON cannot hold."""
    where: dict[Tensor, list[int]] = {tensor: [-1, position] for position, tensor in enumerate(structure.inputs)}
    calls: list[dict[str, Any]] = []
    layers = {layer: number for number, layer in enumerate(structure.layers)}

    def reference(tensor: Tensor) -> Any:
        if tensor in where:
            return where[tensor]
        owner = tensor.owner if isinstance(tensor, Parameter) else None
        places = [] if owner is None else [place for place, (own, _) in enumerate(owner._own) if own is tensor]
        if not places:
            raise TypeError(f"cannot store a call that takes {tensor.name}, a weight that no layer owns")
        return {"layer": to_json(owner), "weight": places[0]}

    # By creation: a weight of one layer may be used outside of it, and is there once the layer is built.
    for number, call in enumerate(sorted(structure.calls, key=lambda call: call.outputs[0].number)):
        if isinstance(call, Call):
            args, kwargs = tree.to_json(call.args, reference), tree.to_json(call.kwargs, reference)
            calls.append({"layer": layers[call.layer], "args": args, "kwargs": kwargs})
        else:
            taken = [tree.to_json(tensor, reference) for tensor in call.inputs]
            calls.append({"inputs": taken, **stored.to_json(call)})
        where.update((tensor, [number, position]) for position, tensor in enumerate(call.outputs))
    keys = {"input_keys": list(structure.input_keys), "output_keys": list(structure.output_keys)}
    return {
        "layers": [to_json(layer) for layer in structure.layers],
        "inputs": [layers[tensor.call.layer] for tensor in structure.inputs],
        "calls": calls,
        "outputs": [where[tensor] for tensor in structure.outputs],
        **{name: some for name, some in keys.items() if some},
    }


GRAPH = {
    "layers": list, "inputs": [int], "calls": [dict], "outputs": [(int, int)],
    "input_keys?": [str], "output_keys?": [str],
}  # fmt: skip
_CALL = {"layer": int, "args": {"tuple": list}, "kwargs": {"dict": [(str, None)]}}
_NODE = {"inputs": list, "operation": str, "attributes": dict}


def rebuild(who: str, value: dict[str, Any]) -> tuple[Any, Any]:
    """(inputs, outputs) of a ``GRAPH``, which ``describe`` gave: lists, or dicts where they had keys. TypeError or
    ValueError that names ``who`` and the place, for another one."""
    layers = []
    for number, layer in enumerate(value["layers"]):
        with forms.within(f"{who}: layers[{number}]"):
            layers.append(from_json(layer))
            if not isinstance(layers[-1], Layer):
                raise TypeError(f"expected a layer, got {shown(layers[-1])}")
    inputs = [forms.at(who, "inputs", layers, number) for number in value["inputs"]]
    if others := [layer for layer in inputs if not isinstance(layer, InputLayer)]:
        raise ValueError(f"{who}: expected inputs to be layers of Input, got {others[0]}")
    made: list[list[Tensor]] = [[layer.make() for layer in inputs]]  # what is read from -1 on

    def tensor(place: Any) -> Tensor:
        if isinstance(place, dict):
            forms.check("weight", place, {"layer": None, "weight": int}, "its place")
            return from_json(place["layer"])._own_weight(place["weight"], "a call")
        forms.check("tensor", place, (int, int), "its place")
        return forms.at("tensor", "number", forms.at("tensor", "call", made, place[0] + 1), place[1])

    for number, call in enumerate(value["calls"]):
        where = f"{who}: calls[{number}]"
        forms.check(where, call, _CALL if "layer" in call else _NODE, "it")
        if "layer" in call:
            layer = forms.at(where, "layer", layers, call["layer"])
            with forms.foreign(where):
                result = layer(*tree.from_json(call["args"], tensor), **tree.from_json(call["kwargs"], tensor))
                made.append(tree.tensors(result))
        else:
            with forms.within(where):
                made.append(stored.from_json(call, tree.from_json(call["inputs"], tensor)))
    with forms.within(f"{who}: outputs"):
        outputs = [tensor(place) for place in value["outputs"]]
    for what, some in (("input_keys", inputs), ("output_keys", outputs)):
        if len(keys := value.get(what, some)) != len(some):
            raise ValueError(f"{who}: expected {len(some)} {what}, got {len(keys)}")
    inputs = made[0]
    return pack(inputs, value.get("input_keys", ())), pack(outputs, value.get("output_keys", ()))
