"""Network: a layer that is made of layers, between its inputs and its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nnpy import graph, seeds, tree
from nnpy.graph import Parameter, Shape, Tensor
from nnpy.layers import calling
from nnpy.layers.base import Layer, same
from nnpy.layers.calling import Calling
from nnpy.layers.inputs import InputLayer
from nnpy.locks import Turn, publishing
from nnpy.structure import Again, Structure, Traced, fits, input_like, keys_of, names_of, pack, tensors_of, trace

_OURS = (__name__, "nnpy.sequential")
_DEEP = 8  # models nested less deep are made of all their layers' calls at once


class Network(Layer):
    """The structure of a model: given as tensors, or traced through a subclass's ``call``; a layer, as all its parts.
    ``Model`` trains it."""

    _structure: Structure | None
    seed: int | None
    _source: seeds.Source | None
    supports_masking = True

    def _prepare(self) -> None:
        self._structure = self.seed = self._source = None

    def _forget(self) -> None:
        """The structure has changed."""

    def _argument(self, name: str, value: Any) -> Any:
        if name == "trainable":
            return value
        raise AttributeError(f"{self}: {name} is set when it is made: {type(self).__name__}({name}=...)")

    def _connect(self, given: Any, result: Any, traced: Traced | None = None, again: Again | None = None) -> None:
        """``again``: runs the layers, where that is code and not the calls between the tensors; ``traced``: its run."""
        self._ensure_name()
        inputs, outputs = tensors_of(given, f"{self}: inputs"), tensors_of(result, f"{self}: outputs")
        input_keys, output_keys = keys_of(given, f"{self}: inputs"), keys_of(result, f"{self}: outputs")
        if not inputs or not outputs:
            raise ValueError(f"{self}: expected at least one input and one output")
        if len(set(inputs)) < len(inputs):
            raise ValueError(f"{self}: expected inputs that differ, got one of them twice")
        if any(tensor.node is None and tensor.call is None for tensor in inputs):
            raise TypeError(f"{self}: expected inputs made by Input(shape) or a layer")
        structure = trace(str(self), inputs, traced or Traced(outputs), again)
        if any(tensor.node is not None for tensor in inputs):  # from the middle of another graph: a graph of its own
            fresh = [t if t.node is None else input_like(t) for t in inputs]
            structure = trace(str(self), fresh, Traced(structure.replay(fresh)))
        structure.input_keys, structure.output_keys = input_keys, output_keys
        _ = structure.names  # refuses those that the user gave twice
        with seeds.using(self._source):
            _ = structure.for_training  # it may build layers that inference does not have
        with publishing():
            self._structure = structure
            self._depth = 1 + max((layer._depth for layer in structure.layers), default=0)
            self._forget()
            self.built = True

    def _grow(self) -> None:
        """Make the structure, where it is known how and was not needed yet."""

    @property
    def structure(self) -> Structure:
        """Raises ValueError if the model is not built."""
        if not self.outline.is_whole:
            with Turn(self):  # another thread may have made it meanwhile
                self._structure = self.outline.whole()
        return self.outline

    @property
    def outline(self) -> Structure:
        """The structure as its calls are: the layers of models nested deep may be left out of its graph. Raises
        ValueError if the model is not built."""
        if self._structure is None:
            with Turn(self):
                if self._structure is None:  # nor made by another thread meanwhile
                    self._grow()
        if self._structure is None:
            raise ValueError(
                f"{self}: not built: its input's shape is not known yet; "
                "begin with Input(shape), or call build((None, ...)) or fit"
            )
        return self._structure

    @property
    def inputs(self) -> list[Tensor]:
        return list(self.structure.inputs)

    @property
    def outputs(self) -> list[Tensor]:
        return list(self.structure.outputs)

    @property
    def input_names(self) -> list[str]:
        return self.structure.input_names

    @property
    def output_names(self) -> list[str]:
        return self.structure.output_names

    def _of_first_call(self, name: str) -> Any:
        """``input`` and ``output`` are those that it was made of: a tensor, a list or a dict."""
        try:
            structure = self.structure
        except ValueError:
            raise AttributeError(f"{self}: has no {name} before it is built") from None
        return structure.packed(structure.outputs) if name == "output" else pack(structure.inputs, structure.input_keys)

    @property
    def input_shape(self) -> Shape | list[Shape]:
        shapes = [tensor.shape for tensor in self.structure.inputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def output_shape(self) -> Shape | list[Shape]:
        shapes = [tensor.shape for tensor in self.structure.outputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def layers(self) -> list[Layer]:
        """The layers, operands first; Inputs are among them."""
        return list(self._structure.layers) if self._structure is not None else super().sublayers()

    @property
    def is_code(self) -> bool:
        """Whether a subclass's ``call`` says what it computes, not the calls between inputs and outputs."""
        return type(self).call is not Network.call

    @property
    def follows_program(self) -> bool:  # type: ignore[override]
        return not self.is_code

    @property
    def needs_sizes(self) -> bool:  # type: ignore[override]
        return self.is_code

    def sublayers(self) -> list[Layer]:
        layers = dict.fromkeys(self.layers)
        if self.is_code:  # layers that it uses while training alone, or not at all
            layers.update(dict.fromkeys(super().sublayers()))
        return list(layers)

    def _places(self) -> dict[Layer, str]:
        """Those of code by its attributes, as in any layer; the others by their names, automatic ones by order."""
        found = super()._places() if self.is_code else {}
        others = [layer for layer in self.layers if layer not in found]
        names = names_of(str(self), others, by_place=True)
        prefix = "graph." if self.is_code else ""
        return found | {layer: f"{prefix}{names[layer]}" for layer in others}

    @property
    def weights(self) -> list[Parameter]:
        """All parameters, those of layers inside it too, and those of other layers that it computes with; each once."""
        found = dict.fromkeys(super().weights)
        if self._structure is not None:
            found.update(dict.fromkeys(self._structure.parameters))
        return list(found)

    def _names(self) -> dict[Layer, str]:
        return names_of(str(self), self.layers) if self._structure is None else self._structure.names

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """A layer by its name or its position in ``layers``. Raises ValueError if there is none."""
        if (name is None) == (index is None):
            raise ValueError(f"{self}: get_layer: expected a name or an index")
        layers = self.layers
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ValueError(f"{self}: expected an index below {len(layers)}, the number of layers, got {index}")
            return layers[index]
        names = self._names()
        for layer in layers:
            if names[layer] == name:
                return layer
        raise ValueError(f"{self}: no layer {name!r}; there are {', '.join(repr(names[layer]) for layer in layers)}")

    def build(self, input_shape: Any) -> None:
        """Build for samples of ``input_shape[1:]`` (before it the batch, None). Several inputs: a list of shapes, or a
        dict if ``call`` takes one. A subclass may make its layers here."""

    def _finish_build(self, input_shape: Any = None, *others: Any) -> None:
        if self._structure is None:
            with seeds.using(self._source):
                calling.run(self._tracing(input_shape))

    def _built_by(self, shapes: Any, arguments: Mapping[str, Any]) -> Calling:
        if type(self).build.__module__ in _OURS:  # no user's code: a generator of the calls
            yield from self._tracing(shapes)
            self.built = True
        else:
            yield from super()._built_by(shapes, arguments)

    def _tracing(self, input_shape: Any) -> Calling:
        """Runs ``call`` on new Inputs of a shape (a list or dict of shapes)."""
        self._ensure_name()
        if isinstance(input_shape, Mapping):
            given: Any = {key: InputLayer(shape[1:], name=key).make() for key, shape in input_shape.items()}
        else:
            several = bool(input_shape) and isinstance(input_shape[0], (list, tuple))
            shapes = list(input_shape) if several else [input_shape]
            stem = "input" if len(shapes) == 1 else "input_{}"
            inputs = [InputLayer.automatic(shape[1:], stem.format(i)).make() for i, shape in enumerate(shapes)]
            given = inputs if several else inputs[0]

        def again(inputs: Sequence[Tensor]) -> Traced:
            return self._run_code(_refilled(given, inputs))[1]

        with calling.tracing(False):
            result, traced = self._run_code(given)
        self._connect(given, result, traced, again)
        return
        yield

    def _run_code(self, given: Any) -> tuple[Any, Traced]:
        """What a subclass's ``call`` gives for Inputs."""
        with graph.scope(self.name) as scope, seeds.using(self._source), calling.called_by(self):
            bound = calling.signature_of(type(self).call).bind(self, (given,), {})
            if bound.wants("training"):
                bound.give("training", calling.decide(False))
            args, kwargs = bound.given()
            result = self.call(*args, **kwargs)
        self._ran = True
        outputs = tensors_of(result, f"{self}: outputs")
        return result, Traced(outputs, tuple(scope.losses), tuple(scope.effects), scope.asks)

    def _applied(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Calling:
        if self.is_code:
            return (yield from super()._applied(args, kwargs))
        return (yield from self._replayed(*_read(*args, **kwargs)))

    def _replayed(self, inputs: Any, mask: Any) -> Calling:
        """What its layers give for tensors, which have ``mask`` if it is given."""
        structure = self.outline
        tensors = self._taken(inputs, mask, structure.inputs, structure.input_names)
        results = structure.left_out(tensors) if self._depth >= _DEEP else None
        if results is None:
            with calling.called_by(None):
                results = yield from structure.replaying(tensors)
        return structure.packed(results)

    def _taken(self, inputs: Any, mask: Any, wanted: Sequence[Tensor], names: Sequence[str]) -> list[Tensor]:
        """What it is called on, in the order of its inputs, with its masks. ValueError for others than it has."""
        if isinstance(inputs, Mapping) and set(inputs) != set(names):
            raise ValueError(f"{self}: expected inputs {list(names)}, got {sorted(map(str, inputs))}")
        tensors = tensors_of(inputs, f"{self}: input", names)
        if len(tensors) != len(wanted):
            raise ValueError(f"{self}: expected {len(wanted)} inputs, got {len(tensors)}")
        for tensor, expected in zip(tensors, wanted, strict=True):
            if not fits(tensor.shape, expected.shape):
                raise ValueError(
                    f"{self}: expected input {expected.name!r} of shape {expected.shape}, got {tensor.shape}"
                )
        if mask is None:
            return tensors
        masks = [mask[name] for name in names] if isinstance(mask, Mapping) else tree.leaves(mask)
        return [_masked(tensor, own) for tensor, own in zip(tensors, masks, strict=True)]

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Its layers applied to tensors: one, a list, or a dict by the inputs' names."""
        return calling.run(self._replayed(inputs, mask))

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """None: what its layers give has their masks."""
        return None

    # files

    def entry(self) -> dict[str, Any]:
        value = super().entry()
        if self.is_code and self._structure is not None:
            structure = self._structure
            value["shapes"] = pack([list(tensor.shape) for tensor in structure.inputs], structure.input_keys)
        if self.seed is not None:
            value["seed"] = self.seed
        return value

    def restore(self, value: dict[str, Any]) -> None:
        if value.get("shapes") is not None and not self.built:
            self.build(as_shapes(value["shapes"]))
        if self.seed is None and value.get("seed") is not None:
            self.seed = seeds.checked(str(self), value["seed"])
            self._source = seeds.Source(self.seed)
        super().restore(value)


def _refilled(given: Any, tensors: Sequence[Tensor]) -> Any:
    """Other tensors in the places of those given."""
    left = iter(tensors)
    return tree.replace(given, lambda _: next(left))


def _read(inputs: Any, training: Any = None, mask: Any = None) -> tuple[Any, Any]:
    """Inputs and mask among the arguments of ``Network.call``; its layers take ``training`` from the call's mode."""
    return inputs, mask


def _masked(tensor: Tensor, mask: Tensor | None) -> Tensor:
    """The tensor with another mask than its own."""
    if mask is None or tensor.mask is mask:
        return tensor
    view = same(tensor)
    view.mask = mask
    return view


def as_shapes(value: Any) -> Any:
    """Shapes from JSON: a list of numbers is one."""
    if isinstance(value, Mapping):
        return {key: as_shapes(item) for key, item in value.items()}
    several = bool(value) and isinstance(value[0], list)
    return [tuple(shape) for shape in value] if several else tuple(value)
