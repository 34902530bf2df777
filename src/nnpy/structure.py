"""A model's structure: the layer calls between its inputs and outputs, run again on other tensors, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnpy import graph, ops
from nnpy.graph import Node, Parameter, Tensor
from nnpy.layers.base import Call, InputLayer, Layer
from nnpy.registry import from_json, to_json

# Operations outside of layers (x + y, 2 * x) that a file can hold: the function of ops of that name makes them again.
_STORED = frozenset(
    [
        "abs",
        "activation",
        "add",
        "affine",
        "divide",
        "log",
        "log_softmax",
        "maximum",
        "minimum",
        "multiply",
        "softmax",
        "sqrt",
        "square",
        "subtract",
    ]
)


@dataclass(frozen=True, eq=False)
class Structure:
    """``calls``: layer calls and bare nodes, operands first; they lead from ``inputs`` to ``outputs``."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    calls: tuple[Call | Node, ...]
    input_keys: tuple[str, ...] = ()  # where they were given as a dict
    output_keys: tuple[str, ...] = ()

    @property
    def input_names(self) -> list[str]:
        return list(self.input_keys) or [tensor.name for tensor in self.inputs]

    @property
    def output_names(self) -> list[str]:
        return list(self.output_keys) or output_names(self.outputs)

    def packed(self, results: Sequence[Any]) -> Any:
        """What there is for the outputs as a user sees it: one, a list, or a dict by their keys."""
        return pack(results, self.output_keys)

    @property
    def layers(self) -> list[Layer]:
        """The layers in order, those of the inputs first, each once."""
        found = {tensor.call.layer: None for tensor in self.inputs}
        found.update((call.layer, None) for call in self.calls if isinstance(call, Call))
        return list(found)

    def replay(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The same layers on other inputs: the weights are shared."""
        values: dict[Tensor, Tensor] = dict(zip(self.inputs, inputs, strict=True))
        for call in self.calls:
            taken = [values.get(tensor, tensor) for tensor in call.inputs]
            if isinstance(call, Call):
                results = unpack(call.layer(taken if call.listed else taken[0]))
            else:
                node = graph.apply(call.operation, taken, **call.attributes).node
                assert node is not None
                results = list(node.outputs)
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


def input_like(tensor: Tensor) -> Tensor:
    """An Input in the place of a tensor from the middle of a graph."""
    shape = [size for size in tensor.shape[1:] if size is not None]
    return InputLayer(shape, name=f"{tensor.name.replace('/', '_')}_input").make()


def maker(tensor: Tensor) -> Call | Node | None:
    """What made a tensor: the layer call, or the node if no layer did."""
    return tensor.call if tensor.call is not None else tensor.node


def trace(who: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Structure:
    """The structure between tensors. Raises ValueError where an output needs an Input that is not among ``inputs``, or
    an input leads nowhere, or two layers have one name."""
    known = set(inputs)
    calls: list[Call | Node] = []
    done: set[int] = set()
    stack = [(tensor, False) for tensor in reversed(outputs)]
    reached = set()
    while stack:
        tensor, expanded = stack.pop()
        if tensor in known:
            reached.add(tensor)
            continue
        made = maker(tensor)
        if made is None or (isinstance(made, Call) and isinstance(made.layer, InputLayer)):
            kind = "a weight that no layer owns" if isinstance(tensor, Parameter) else f"Input {tensor.name!r}"
            raise ValueError(f"{who}: its outputs depend on {kind}, which is not among its inputs")
        if id(made) in done:
            continue
        if expanded:
            done.add(id(made))
            calls.append(made)
            continue
        stack.append((tensor, True))
        stack.extend((operand, False) for operand in reversed(made.inputs))
    for tensor in inputs:
        if tensor not in reached:
            raise ValueError(f"{who}: its input {tensor.name!r} leads to none of its outputs")
    structure = Structure(tuple(inputs), tuple(outputs), tuple(calls))
    check_names(who, structure.layers)
    return structure


def check_names(who: str, layers: Sequence[Layer]) -> None:
    """Raises ValueError if two layers have one name: files and probes tell them apart by it."""
    names: dict[str, Layer] = {}
    for layer in layers:
        if names.setdefault(layer.name, layer) is not layer:
            raise ValueError(
                f"{who}: expected layers of different names, got two named {layer.name!r}; give one another name="
            )


def output_names(outputs: Sequence[Tensor]) -> list[str]:
    """The layers' names; a number is added where one layer gives several outputs."""
    names: list[str] = []
    for tensor in outputs:
        made = maker(tensor)
        stem = made.layer.name if isinstance(made, Call) else made.operation.name if made is not None else tensor.name
        name, number = stem, 1
        while name in names:
            name, number = f"{stem}_{number}", number + 1
        names.append(name)
    return names


def describe(structure: Structure) -> dict[str, Any]:
    """As JSON values. Raises TypeError for layers and operations that JSON cannot hold."""
    where: dict[Tensor, list[int]] = {tensor: [-1, position] for position, tensor in enumerate(structure.inputs)}
    calls: list[dict[str, Any]] = []
    for number, call in enumerate(structure.calls):
        taken = [where[tensor] for tensor in call.inputs]
        if isinstance(call, Call):
            calls.append({"layer": call.layer.name, "inputs": taken, "listed": call.listed})
        elif call.operation.name in _STORED:
            attributes = {name: to_json(value, call.operation.name) for name, value in call.attributes.items()}
            calls.append({"operation": call.operation.name, "inputs": taken, "attributes": attributes})
        else:
            raise TypeError(f"cannot store the operation {call.operation.name!r} outside of a layer: make it a Layer")
        where.update((tensor, [number, position]) for position, tensor in enumerate(call.outputs))
    keys = {"input_keys": list(structure.input_keys), "output_keys": list(structure.output_keys)}
    return {
        "layers": {layer.name: layer_to_json(layer) for layer in structure.layers},
        "inputs": [tensor.name for tensor in structure.inputs],
        "calls": calls,
        "outputs": [where[tensor] for tensor in structure.outputs],
        **{name: some for name, some in keys.items() if some},
    }


def layer_to_json(layer: Layer) -> dict[str, Any]:
    """A layer's configuration. Raises TypeError that names the layer where JSON cannot hold it."""
    try:
        return {**to_json(layer), "name": layer.name, "trainable": layer.trainable}
    except (TypeError, AttributeError) as error:
        raise TypeError(
            f"{layer}: its structure cannot be stored: {error}; save_weights() stores the weights alone"
        ) from error


def layer_from_json(value: dict[str, Any]) -> Layer:
    layer = from_json({"class": value["class"], "config": value["config"]})
    layer.name = value["name"]
    if not value["trainable"]:
        layer.trainable = False
    return layer


def rebuild(value: dict[str, Any]) -> tuple[Any, Any]:
    """(inputs, outputs) of what ``describe`` gave: lists, or dicts where they had keys."""
    layers = {name: layer_from_json(config) for name, config in value["layers"].items()}
    inputs = [layers[name].make() for name in value["inputs"]]  # type: ignore[attr-defined]
    made: dict[int, list[Tensor]] = {-1: inputs}
    for number, call in enumerate(value["calls"]):
        taken = [made[source][position] for source, position in call["inputs"]]
        if "layer" in call:
            made[number] = unpack(layers[call["layer"]](taken if call["listed"] else taken[0]))
        elif call["operation"] in _STORED:
            made[number] = [getattr(ops, call["operation"])(*taken, **call["attributes"])]
        else:
            raise ValueError(f"unknown operation {call['operation']!r}")
    outputs = [made[number][position] for number, position in value["outputs"]]
    return pack(inputs, value.get("input_keys", ())), pack(outputs, value.get("output_keys", ()))
