"""Sequential: a stack of layers, each fed what the one before gives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nnpy.checks import shown
from nnpy.graph import Tensor
from nnpy.layers.base import InputLayer, Layer
from nnpy.locks import making
from nnpy.model import Model
from nnpy.structure import check_names, layer_from_json, layer_to_json


class Sequential(Model):
    """``Sequential([Dense(64, activation="relu"), Dense(10)])``. The first item may be an ``Input``; without one the
    model is built when the first data comes, or by ``build((None, features))``.

    Raises TypeError for what is not a layer, ValueError for two layers of one name.
    """

    _layers: list[Layer]
    _input: Tensor | None
    _given: list[Tensor]  # by each layer, as far as traced

    def _prepare(self) -> None:
        super()._prepare()
        self._layers, self._input, self._given = [], None, []

    def __init__(self, layers: Iterable[Any] | None = None, name: str | None = None, *, trainable: bool = True):
        if layers is not None and (isinstance(layers, Layer | Tensor | str) or not isinstance(layers, Iterable)):
            raise TypeError(
                f"{type(self).__name__}: expected a list of layers, as [a, b], got {shown(layers)}; pass a list"
            )
        super().__init__(name=name)
        for layer in layers or ():
            self._append(layer)
        self._grow()
        if not trainable:
            self.trainable = False

    @property
    def layers(self) -> list[Layer]:
        """The layers in order, without the Input."""
        return list(self._layers)

    def add(self, layer: Any) -> None:
        """Put a layer on top."""
        self._append(layer)
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
            self._input = layer.make()
            return
        if not isinstance(layer, Layer):
            raise TypeError(f"{self}: expected layers, got {type(layer).__name__} at position {len(self._layers)}")
        if any(layer is other for other in self._layers):
            raise ValueError(
                f"{self}: expected each layer once, got {layer} twice; Model(inputs, outputs) can share layers"
            )
        check_names(str(self), [*self._layers, layer])
        self._layers.append(layer)

    def _grow(self) -> None:
        """Trace as far as can be: from the Input through all layers."""
        if self._input is None or not self._layers:
            return
        for layer in self._layers[len(self._given) :]:
            output = layer(self._given[-1] if self._given else self._input)
            if not isinstance(output, Tensor):
                raise ValueError(f"{self}: expected each layer to give one tensor, {layer} gives {len(output)}")
            self._given.append(output)
        self._connect(self._input, self._given[-1])

    def build(self, input_shape: Any) -> None:
        """Build for samples of ``input_shape[1:]``; ``input_shape[0]`` is the batch, None."""
        with making(self):
            if self._structure is None:
                self._build(input_shape)

    def _build(self, input_shape: Any) -> None:
        if not self._layers:
            raise ValueError(f"{self}: expected at least one layer before it is built")
        if not isinstance(input_shape, (list, tuple)) or not input_shape:
            raise ValueError(
                f"{self}: expected an input shape with the batch first, as (None, 784), got {input_shape!r}"
            )
        self._input = InputLayer(tuple(input_shape[1:]), name="input").make()
        try:
            self._grow()
        except Exception:
            self._input, self._given = None, []  # built by data that did not fit: the next may
            raise

    def get_config(self) -> dict[str, Any]:
        shape = None if self._input is None else list(self._input.shape[1:])
        layer = None if self._input is None else self._input.call.layer
        return {
            "name": self.name,
            "input": shape,
            "dtype": None if layer is None else layer.dtype,
            "input_name": None if layer is None else layer.name,
            "layers": [layer_to_json(layer) for layer in self._layers],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Sequential:
        layers: list[Any] = [layer_from_json(layer) for layer in config["layers"]]
        if config["input"] is not None:
            layers.insert(0, InputLayer(config["input"], dtype=config["dtype"], name=config["input_name"]))
        return cls(layers, name=config["name"])
