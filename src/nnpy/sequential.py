"""Sequential: a stack of layers, each fed what the one before gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nnpy import forms, seeds, tree
from nnpy.checks import flag, shown
from nnpy.graph import Tensor
from nnpy.layers import calling
from nnpy.layers.base import Layer
from nnpy.layers.calling import Calling
from nnpy.layers.inputs import InputLayer
from nnpy.model import Model
from nnpy.registry import from_json, to_json
from nnpy.structure import given_names, input_like


class Sequential(Model):
    """``Sequential([Dense(64, activation="relu"), Dense(10)])``. The first item may be an ``Input``, or a model that is
    built; without one the model is built when the first data comes, or by ``build((None, features))``.

    Raises TypeError for what is not a layer, ValueError for two layers of one name.
    """

    _layers: list[Layer]
    _input: Tensor | None
    _given: list[Tensor]  # by each layer, as far as traced
    _lazy: bool  # its Input is made by data, or by a call

    def _prepare(self) -> None:
        super()._prepare()
        self._layers, self._input, self._given, self._lazy = [], None, [], True

    def __init__(
        self,
        layers: Iterable[Any] | None = None,
        trainable: bool = True,
        name: str | None = None,
        *,
        seed: int | None = None,
        **unknown: Any,
    ):
        if layers is not None and (isinstance(layers, Layer | Tensor | str) or not isinstance(layers, Iterable)):
            raise TypeError(
                f"{type(self).__name__}: expected a list of layers, as [a, b], got {shown(layers)}; pass a list"
            )
        super().__init__(name=name, seed=seed, **unknown)
        for layer in layers or ():
            self._append(layer)
        given_names(str(self), self._layers)
        self._grow()
        if not flag(str(self), "trainable", trainable):
            self.trainable = False

    @property
    def layers(self) -> list[Layer]:
        """The layers in order, without the Input."""
        return list(self._layers)

    def add(self, layer: Any) -> None:
        """Put a layer on top."""
        self._append(layer)
        try:
            given_names(str(self), self._layers)
        except ValueError:
            self._layers.pop()
            raise
        self._grow()

    def pop(self) -> Layer:
        """Take the last layer off. Raises ValueError if there is none."""
        if not self._layers:
            raise ValueError(f"{self}: there is no layer to pop")
        layer = self._layers.pop()
        del self._given[len(self._layers) :]
        self._structure, self.built = None, False
        self._forget()
        self._grow()
        return layer

    def _append(self, layer: Any) -> None:
        if isinstance(layer, Tensor) and layer.call is not None and isinstance(layer.call.layer, InputLayer):
            layer = layer.call.layer
        if isinstance(layer, InputLayer):
            if self._layers or self._input is not None:
                raise ValueError(f"{self}: expected Input to be the first item, got it at position {len(self._layers)}")
            self._input, self._lazy = layer.make(), False
            return
        if not isinstance(layer, Layer):
            raise TypeError(f"{self}: expected layers, got {type(layer).__name__} at position {len(self._layers)}")
        if layer in self._layers:
            raise ValueError(
                f"{self}: expected each layer once, got {layer} twice; Model(inputs, outputs) can share layers"
            )
        self._layers.append(layer)

    def _grow(self) -> None:
        """Call the layers from the Input on, as far as that is known."""
        with seeds.using(self._source):
            calling.run(self._growing())

    def _growing(self) -> Calling:
        """``_grow`` as a generator of the calls."""
        first = self._layers[0] if self._layers else None
        if self._input is None and isinstance(first, Model) and first.built and len(first.inputs) == 1:
            self._input = input_like(first.inputs[0], "input")
        if self._input is None or not self._layers:
            return
        with calling.tracing(False):
            for layer in self._layers[len(self._given) :]:
                output = yield layer, (self._given[-1] if self._given else self._input,), {}
                self._check_single(layer, output)
                self._given.append(output)
        self._connect(self._input, self._given[-1])

    def build(self, input_shape: Any) -> None:
        """Build for samples of ``input_shape[1:]``; ``input_shape[0]`` is the batch, None."""

    def _tracing(self, input_shape: Any) -> Calling:
        if not self._layers:
            raise ValueError(f"{self}: expected at least one layer before it is built")
        if not isinstance(input_shape, (list, tuple)) or not input_shape:
            raise ValueError(
                f"{self}: expected an input shape with the batch first, as (None, 784), got {input_shape!r}"
            )
        self._input = InputLayer.automatic(tuple(input_shape[1:]), "input").make()
        try:
            yield from self._growing()
        except Exception:
            self._input, self._given = None, []  # built by data that did not fit: the next may
            raise

    def _built_by(self, shapes: Any, arguments: Mapping[str, Any]) -> Calling:
        if type(self).build is not Sequential.build or not isinstance(shapes, tuple):
            yield from super()._built_by(shapes, arguments)
            return
        # Its own structure is made when it is asked for: what it is called on goes through the layers once.
        if not self._layers:
            raise ValueError(f"{self}: expected at least one layer before it is built")
        (given,) = tree.tensors(arguments)
        self._input = input_like(given, "input")
        self.built = True

    def _replayed(self, inputs: Any, mask: Any) -> Calling:
        if self._input is None or not self._layers:
            return (yield from super()._replayed(inputs, mask))
        names = [self._input.name]
        (result,) = self._taken(inputs, mask, [self._input], names)
        try:
            with seeds.using(self._source), calling.called_by(None):
                for layer in self._layers:
                    result = yield layer, (result,), {}
                    self._check_single(layer, result)
        except Exception:
            if not self._ran and self._structure is None:
                self._input, self.built = None, False
            raise
        self._ran = True
        return result

    def _check_single(self, layer: Layer, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise ValueError(f"{self}: expected each layer to give one tensor, {layer} gives {len(output)}")

    def entry(self) -> dict[str, Any]:
        value = super().entry()
        if self._lazy and self._input is not None and self._input.kind == "real":
            value["shapes"] = list(self._input.shape)
        return value

    def get_config(self) -> dict[str, Any]:
        if type(self).__init__ is not Sequential.__init__:  # a subclass, made of other arguments
            return super().get_config()
        lazy = self._lazy and (self._input is None or self._input.kind == "real")
        first = None if lazy or self._input is None else to_json(self._input.call.layer)
        seed = {} if self.seed is None else {"seed": self.seed}
        return {"name": self.name, "input": first, "layers": [to_json(layer) for layer in self._layers], **seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        if cls.__init__ is not Sequential.__init__:
            return super().from_config(config)
        who = cls.__name__
        forms.check(who, config, {"name": str, "input": None, "layers": list, "seed?": None})
        layers = []
        for place, value in enumerate([config["input"], *config["layers"]]):
            with forms.within(f"{who}: layers[{place - 1}]" if place else f"{who}: input"):
                layers.append(from_json(value))
        return cls([layer for layer in layers if layer is not None], name=config["name"], seed=config.get("seed"))
