"""Layer: owns parameters and, when called on tensors, adds operations to the graph."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnpy import graph, initializers, regularizers
from nnpy.checks import flag, shown
from nnpy.checks import shape as checked_shape
from nnpy.config import floatx
from nnpy.graph import Parameter, Tensor
from nnpy.locks import at_rest, making
from nnpy.registry import Configurable, snake

_counts: dict[str, Iterator[int]] = defaultdict(itertools.count)


def reset_names() -> None:
    """Number automatic layer names from the start again: "dense", "dense_1", ..."""
    _counts.clear()


def unique_name(stem: str) -> str:
    """ "dense", then "dense_1", "dense_2", ..."""
    number = next(_counts[stem])
    return f"{stem}_{number}" if number else stem


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer: what it took and gave. ``listed``: it was called on a list of tensors.

    The outputs' ``call`` is this record, so a model finds its layers by walking from its outputs to its inputs.
    """

    layer: Layer
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    listed: bool = False

    @property
    def output(self) -> Tensor:
        return self.outputs[0]


class _OfFirstCall:
    """``layer.input``, ``layer.output``. Not a property: a subclass may assign an attribute of that name."""

    def __init__(self, name: str):
        self.name = name

    def __get__(self, layer: Any, owner: Any = None) -> Any:
        return self if layer is None else layer._of_first_call(self.name)


class Layer(Configurable):
    """Base of layers. A subclass gives ``call(x)`` and, if it has weights, ``build(input_shape)`` with ``add_weight``.

    ``name``: automatic if None, as in Keras ("dense", "dense_1"). ``trainable``: False freezes its weights, and those
    of layers inside it. Layers assigned to attributes (or in lists or dicts of attributes) are part of it. The
    attributes of a subclass that are named as its constructor's arguments are its configuration. ``input`` and
    ``output``: the tensor, or list of them, of its first call; AttributeError before.
    """

    group = "layer"
    name: str
    built: bool
    _own: list[tuple[Parameter, bool]]
    _trainable: bool
    _first_call: Call | None
    input: Any = _OfFirstCall("input")
    output: Any = _OfFirstCall("output")

    def __new__(cls, *arguments, **options):
        # Set here, so that a subclass which forgets super().__init__() has a name and works all the same.
        self = super().__new__(cls)
        self.name = ""
        self.built = False
        self._own = []
        self._trainable = True
        self._first_call = None
        self._prepare()
        return self

    def __init__(self, *, name: str | None = None, trainable: bool = True):
        kind = type(self).__name__
        if name is not None and not isinstance(name, str):
            raise TypeError(f"{kind}: expected name to be a string or None, got {shown(name)}")
        if name is not None and (not name or "/" in name):
            raise ValueError(f"{kind}: expected a name that is not empty and has no '/', got {name!r}")
        self.name = name or unique_name(snake(kind))
        self._trainable = flag(str(self), "trainable", trainable)

    def _prepare(self) -> None:
        """Attributes that a subclass of ours has before ``__init__``, for the same reason."""

    # what a subclass gives

    def check_input(self, input_shape: Any) -> None:
        """Refuse a shape (or list of shapes) that the layer cannot take: before ``build``, at every call."""

    def build(self, input_shape: Any) -> None:
        """Make the weights; called once. ``input_shape``: ``(None, ...)``, or a list of shapes."""

    def call(self, inputs: Any) -> Any:
        """Add the layer's operations to the graph: tensor (or list) in, tensor (or list) out."""
        raise NotImplementedError(f"{self}: a layer must define call(x)")

    # what it gets

    def add_weight(
        self,
        shape: Sequence[int],
        initializer: Any = "glorot_uniform",
        name: str | None = None,
        trainable: bool = True,
        regularizer: Any = None,
    ) -> Parameter:
        """Make a parameter "layer/name" of dtype ``floatx()``. ``trainable=False``: state, as running statistics.
        ``initializer``: a name, an Initializer, or a function of the shape. ValueError if it returns another shape."""
        self._ensure_name()
        name = name or (f"weight_{len(self._own)}" if self._own else "weight")
        sizes = checked_shape(str(self), f"the shape of {name}", shape)
        value = np.array(initializers.get(initializer)(sizes), floatx())
        if value.shape != sizes:
            raise ValueError(f"{self}: expected the initializer of {name} to return shape {sizes}, got {value.shape}")
        trainable = flag(str(self), "trainable", trainable)
        parameter = Parameter(value, f"{self.name}/{name}", trainable and self._trainable)
        penalty = regularizers.get(regularizer)
        if penalty is not None:
            penalty.apply(parameter)
        self._own.append((parameter, trainable))
        return parameter

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Apply the layer to a Tensor or a list of them; the first call builds it. TypeError for anything else."""
        self._ensure_name()
        if options:
            raise TypeError(
                f"{self}: called with {', '.join(options)}: expected tensors alone; the compiled step knows whether it "
                "trains (fit) or not (predict, evaluate)"
            )
        listed = isinstance(inputs, list | tuple)
        tensors: tuple[Tensor, ...] = tuple(inputs) if listed else (inputs,)  # type: ignore[assignment, arg-type]
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                raise TypeError(
                    f"{self}: expected a Tensor (from Input or a layer), got {shown(tensor)}; {self._numbers_hint}"
                )
        shapes = [tensor.shape for tensor in tensors] if listed else tensors[0].shape
        self.check_input(shapes)
        with graph.scope(self.name):
            if not self.built:
                with making(self):
                    if not self.built:  # by another thread meanwhile
                        self.build(shapes)
                        self.built = True
            result = self._apply(list(tensors) if listed else tensors[0])
            several = isinstance(result, list | tuple)
            outputs = tuple(self._own_output(tensor, tensors) for tensor in (result if several else (result,)))
        call = Call(self, tensors, outputs, listed)
        for tensor in outputs:
            tensor.call = call
        if self._first_call is None:
            self._first_call = call
        return list(outputs) if several else outputs[0]

    _numbers_hint = "for numbers make a Model of it and call predict(x)"

    def _apply(self, inputs: Any) -> Any:
        return self.call(inputs)

    def _of_first_call(self, name: str) -> Any:
        call = self._first_call
        if call is None:
            raise AttributeError(f"{self}: has no {name} before it is called")
        tensors, listed = (call.inputs, call.listed) if name == "input" else (call.outputs, len(call.outputs) > 1)
        return list(tensors) if listed else tensors[0]

    def _own_output(self, tensor: Any, inputs: tuple[Tensor, ...]) -> Tensor:
        """A result that is this call's alone: a layer that returns its input gets a view of it."""
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{self}: expected call() to return a Tensor or a list of them, got {shown(tensor)}")
        if any(tensor is given for given in inputs):
            from nnpy import ops

            return ops.reshape(tensor, tensor.shape[1:])  # type: ignore[arg-type]  # only the batch is None
        return tensor

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of what the layer gives for ``(None, ...)`` or a list of shapes. Builds the layer."""
        several = bool(input_shape) and isinstance(input_shape[0], list | tuple)
        result = self([Tensor(shape) for shape in input_shape] if several else Tensor(input_shape))
        return [tensor.shape for tensor in result] if isinstance(result, list) else result.shape

    # what it holds

    def sublayers(self) -> list[Layer]:
        """The layers directly inside it, in the order they were assigned."""
        found: dict[Layer, None] = {}
        pending = list(vars(self).values())
        while pending:
            value = pending.pop(0)
            if isinstance(value, Layer):
                found[value] = None
            elif isinstance(value, list | tuple):
                pending[:0] = value
            elif isinstance(value, dict):
                pending[:0] = value.values()
        return list(found)

    @property
    def weights(self) -> list[Parameter]:
        """All parameters, those of layers inside it too; each once."""
        found = dict.fromkeys(parameter for parameter, _ in self._own)
        for layer in self.sublayers():
            found.update(dict.fromkeys(layer.weights))
        return list(found)

    @property
    def trainable_weights(self) -> list[Parameter]:
        return [parameter for parameter in self.weights if parameter.trainable]

    @property
    def non_trainable_weights(self) -> list[Parameter]:
        return [parameter for parameter in self.weights if not parameter.trainable]

    # Keras' other names
    variables = property(lambda self: self.weights)
    trainable_variables = property(lambda self: self.trainable_weights)
    non_trainable_variables = property(lambda self: self.non_trainable_weights)

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = flag(str(self), "trainable", value)
        for parameter, wanted in self._own:
            parameter.trainable = wanted and value
        for layer in self.sublayers():
            layer.trainable = value

    def count_params(self) -> int:
        """How many numbers the weights are."""
        return sum(parameter.value.size for parameter in self.weights)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the weights, in the order of ``weights``: all of one step, while another thread trains too."""
        weights = self.weights
        with at_rest(weights):
            return [np.array(parameter.value) for parameter in weights]

    def set_weights(self, values: Sequence[np.ndarray]) -> None:
        """Copy ``values`` in. ValueError for a wrong number or shape, TypeError for what holds no real numbers; then
        nothing is changed."""
        weights = self.weights
        if not isinstance(values, list | tuple | np.ndarray):
            raise TypeError(f"{self}: expected a list of {len(weights)} arrays, got {shown(values)}")
        if len(values) != len(weights):
            raise ValueError(f"{self}: expected {len(weights)} arrays, got {len(values)}")
        arrays = [self.named(p._checked, value) for p, value in zip(weights, values, strict=True)]
        with at_rest(weights):
            for parameter, array in zip(weights, arrays, strict=True):
                parameter.assign(array)

    # checks for subclasses

    def one_input(self, input_shape: Any) -> None:
        """ValueError if it was called on a list of tensors."""
        if isinstance(input_shape, list):
            raise ValueError(f"{self}: expected one tensor, got a list of {len(input_shape)}")

    def several_inputs(self, input_shape: Any, least: int, most: int = 0) -> None:
        """ValueError unless it was called on a list of ``least`` ... ``most`` (0: any number of) tensors."""
        expected = "tensors" if least == 1 else f"{'' if least == most else 'at least '}{least} tensors"
        if not isinstance(input_shape, list):
            raise ValueError(f"{self}: expected a list of {expected}, as [a, b], got one tensor of shape {input_shape}")
        if len(input_shape) < least or (most and len(input_shape) > most):
            raise ValueError(f"{self}: expected a list of {expected}, got {len(input_shape)}")

    def named(self, get: Callable[[Any], Any], value: Any) -> Any:
        """``get(value)``, with the layer's name in the error."""
        try:
            return get(value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self}: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        """For copies, which do not take along the graph that the layer is in."""
        return {**vars(self), "_first_call": None}

    def _ensure_name(self) -> None:
        if not self.name:
            self.name = unique_name(snake(type(self).__name__))

    def __str__(self) -> str:
        """As errors name it: ``Dense 'hidden'``."""
        self._ensure_name()
        return f"{type(self).__name__} {self.name!r}"

    def __repr__(self) -> str:
        return f"<{self}{'' if self.built else ', not built'}>"


class InputLayer(Layer):
    """What stands for an Input among a model's layers. ``shape``: without the batch."""

    def __init__(self, shape: Sequence[int], *, dtype: str | None = None, name: str | None = None):
        super().__init__(name=name)
        self.shape = checked_shape(str(self), "shape", shape)
        try:
            self.dtype = np.dtype(dtype or "float32").name
        except TypeError:
            raise TypeError(f"{self}: expected dtype to be the name of a NumPy dtype, got {shown(dtype)}") from None
        if np.dtype(self.dtype).kind not in "fiu":
            raise TypeError(f"{self}: expected a real or integer dtype, got {self.dtype!r}")

    def make(self) -> Tensor:
        """A new tensor of this input: real for floating dtypes, of indices (int32) for integer ones."""
        kind = "real" if np.dtype(self.dtype).kind == "f" else "index"
        tensor = Tensor((None, *self.shape), None, self.name, kind)
        tensor.call = Call(self, (), (tensor,))
        self.built = True
        return tensor

    def call(self, inputs: Any) -> Any:
        return inputs


def Input(shape: Sequence[int], *, dtype: str | None = None, name: str | None = None) -> Tensor:
    """A tensor for a model's input. ``shape``: of one sample, without the batch: ``Input((28, 28))``.

    ``dtype``: what layers see: floating (default "float32") for numbers, an integer one for indices (labels, tokens).
    The user's arrays may have any real dtype; they are converted as they are read.
    Raises TypeError or ValueError for a shape that is not a tuple of positive integers, or another dtype.
    """
    return InputLayer(shape, dtype=dtype, name=name).make()
