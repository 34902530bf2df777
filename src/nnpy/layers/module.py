"""Module: owns weights and layers; what a layer is before it is called."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpy import constraints, freezing, initializers, regularizers, restoring
from nnpy.checks import flag, shown
from nnpy.checks import shape as checked_shape
from nnpy.config import floatx
from nnpy.forms import TooDeep, check
from nnpy.graph import Parameter
from nnpy.locks import at_rest
from nnpy.registry import Configurable, from_json, made_arguments, reference, refuse_arguments, snake, to_json

if TYPE_CHECKING:
    from nnpy.layers.base import Layer

_ROLES = ("statistic", "state")
# Without a lock, which a forked child would find taken, and a signal handler wait for.
_counts: dict[str, Iterator[int]] = {}
# What stands in a file of a layer; of one that somebody wrote by hand the class and the configuration do.
_ENTRY = {
    "class": str, "config": dict, "module?": str, "name": str, "named": bool, "trainable": bool, "tied?": dict,
    "shapes?": None, "seed?": None,
}  # fmt: skip
_WRITTEN = {"class": str, "config": dict, "module?": str}
_set = object.__setattr__
_OURS = frozenset({"_before_build", "_first_call", "_found", "_own", "_tied"})


def reset_names() -> None:
    """Number automatic layer names from the start again: "dense", "dense_1", ..."""
    _counts.clear()


def unique_name(stem: str) -> str:
    """ "dense", then "dense_1", "dense_2", ..."""
    number = next(_counts.get(stem) or _counts.setdefault(stem, itertools.count()))
    return f"{stem}_{number}" if number else stem


class Module(Configurable):
    """What has a name, weights and layers inside it, and can be written to a file. ``Layer`` is one that is called."""

    name: str
    built: bool
    activity_regularizer: Any = None  # of what a call gives
    _own: list[tuple[Parameter, bool]]
    _trainable: bool
    _first_call: Any
    _named: bool  # by the user: automatic names may change where they clash
    _found: list[Module]  # that its first call made and kept nowhere
    _tied: dict[str, Any]  # attributes that are another layer's weights
    _before_build: tuple[list[tuple[Parameter, bool]], bool] | None  # its weights then, and ``built``; None: none runs
    _ran: bool  # its ``call`` has been through once

    def __new__(cls, *arguments, **options):
        self = super().__new__(cls, *arguments, **options)
        # Set here, so that a subclass which forgets super().__init__() has a name and works all the same.
        state = self.__dict__
        state.update(name="", built=False, _own=[], _trainable=True, _first_call=None, _named=False, _found=[])
        state.update(_tied={}, _before_build=None, _ran=False)
        self._prepare()
        return self

    def __init__(
        self, *, name: str | None = None, trainable: bool = True, activity_regularizer: Any = None, **unknown: Any
    ):
        kind = type(self).__name__
        refuse_arguments(type(self), unknown, True)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"{kind}: expected name to be a string or None, got {shown(name)}")
        if name is not None and (not name or "/" in name):
            raise ValueError(f"{kind}: expected a name that is not empty and has no '/', got {name!r}")
        self._named = name is not None
        self.name = name or restoring.name_of(type(self)) or unique_name(snake(kind))
        self._trainable = flag(self, "trainable", trainable)
        self.activity_regularizer = self.named(regularizers.get, activity_regularizer)

    def _prepare(self) -> None:
        """Attributes that a subclass of ours has before ``__init__``, for the same reason."""

    def _unbuild(self) -> None:
        """What a build that ends in its midst has made is not part of it."""
        if self._before_build is not None:
            self._own, self.built = self._before_build
            self._before_build = None

    def _ensure_name(self) -> None:
        if not self.name:
            self.name = unique_name(snake(type(self).__name__))

    def __str__(self) -> str:
        """As errors name it: ``Dense 'hidden'``."""
        self._ensure_name()
        return f"{type(self).__name__} {self.name!r}"

    def __repr__(self) -> str:
        return f"<{self}{'' if self.built else ', not built'}>"

    # what it holds

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter) and not self._hold(name, value):
            return
        if "_sealed" in self.__dict__ and self._before_build is None:
            super().__setattr__(name, value)
        else:  # at once: a deep network has tens of thousands
            _set(self, name, value)

    def _attribute(self, name: str, value: Any) -> Any:
        if isinstance(value, Parameter):  # tied, also before the layer has made one of this name
            return value
        return super()._attribute(name, value)

    def _argument(self, name: str, value: Any) -> Any:
        if name == "trainable":
            return value
        if self.built or self._first_call is not None:
            raise AttributeError(
                f"{self}: {name} cannot be set once the layer is built: the graph is made of what it was; set it "
                "before, or make another layer, to which set_weights brings the weights"
            )
        return self._anew(name, value)

    def _hold(self, name: str, value: Parameter) -> bool:
        """A weight becomes an attribute; False if the attribute is tied to another layer's, and stays. A weight that
        this layer did not make is one that it shares: it takes the place of what the attribute was."""
        before = self.__dict__.get(name)
        if before is value:
            return True
        if not self._tied and self._own and self._own[-1][0] is value and not isinstance(before, Parameter):
            return True  # that it has just made
        own = [parameter for parameter, _ in self._own]
        if name in self._tied and self._before_build is not None and value in own:  # tied before it was built
            self._check_tie(name, before, value)
            self._own = [entry for entry in self._own if entry[0] is not value]
            return False
        if isinstance(before, Parameter) and before in own:
            if self._first_call is not None:
                raise ValueError(
                    f"{self}: {name} cannot become another weight once the layer is called: the graph has the one "
                    "before; build it, tie it, then call it"
                )
            self._check_tie(name, value, before)
            self._own = [entry for entry in self._own if entry[0] is not before]
            self._tied.pop(name, None)
        if not any(value is parameter for parameter, _ in self._own):
            self._own.append((value, value.trainable))
            self._tied[name] = value
        return True

    def _check_tie(self, name: str, shared: Any, own: Parameter) -> None:
        if shared.shape != own.shape:
            raise ValueError(f"{self}: cannot tie {name} of shape {own.shape} to {shared.name} of shape {shared.shape}")

    def add_weight(
        self,
        shape: Sequence[int],
        initializer: Any = "glorot_uniform",
        name: str | None = None,
        trainable: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
    ) -> Parameter:
        """Make a parameter "layer/name" of dtype ``floatx()``. ``trainable=False``: state, as running statistics.
        ``initializer``: a name, an Initializer, or a function of the shape. ValueError if it returns another shape."""
        self._ensure_name()
        name = name or (f"weight_{len(self._own)}" if self._own else "weight")
        sizes = checked_shape(self, f"the shape of {name}", shape)
        if (file := restoring.current()) is not None:
            value = file.weight(f"{self}: {name}", sizes, floatx())
        else:
            value = np.array(initializers.get(initializer)(sizes), floatx())
        if value.shape != sizes:
            raise ValueError(f"{self}: expected the initializer of {name} to return shape {sizes}, got {value.shape}")
        trainable = flag(self, "trainable", trainable)
        penalty = regularizers.get(regularizer)
        bound = constraints.get(constraint)
        parameter = Parameter(value, f"{self.name}/{name}", trainable and self._trainable, self, penalty, bound)
        parameter.role = "weight" if trainable else "state"
        self._own.append((parameter, trainable))
        return parameter

    def add_variable(
        self, shape: Sequence[int], initializer: Any = "zeros", role: str = "state", name: str | None = None
    ) -> Parameter:
        """Make a variable that no optimizer changes: "state" is carried from step to step, a "statistic" is gathered.
        ValueError for another ``role``."""
        if role not in _ROLES:
            raise ValueError(f"{self}: expected role to be {' or '.join(map(repr, _ROLES))}, got {shown(role)}")
        variable = self.add_weight(shape, initializer, name, trainable=False)
        variable.role = role
        return variable

    def sublayers(self) -> list[Layer]:
        """The layers directly inside it, in the order they were assigned."""
        return list(Module._places(self))

    def _places(self) -> dict[Layer, str]:
        """The layers directly inside it, and how files call them: by the attribute where each is ("first",
        "blocks.0"), whatever its name is; those that a call made and kept nowhere "call.0", "call.1", ..."""
        found: dict[Any, str] = {}
        holds = (Module, list, tuple, dict)
        held = vars(self).copy().items()  # while another thread builds it
        pending = [(n, value) for n, value in held if isinstance(value, holds) and n not in _OURS]
        pending.append(("call", self._found))
        while pending:
            place, value = pending.pop(0)
            if isinstance(value, Module):
                found.setdefault(value, place)
            elif isinstance(value, list | tuple):
                pending[:0] = [(f"{place}.{number}", item) for number, item in enumerate(value)]
            elif isinstance(value, dict):
                pending[:0] = [(f"{place}.{key}", item) for key, item in dict(value).items()]
        return found

    def walk(self) -> list[Layer]:
        """This layer and all inside it, at any depth: each once, before those inside it, in order."""
        found: dict[Any, None] = {}
        stack: list[Any] = [self]
        while stack:
            layer = stack.pop()
            if layer not in found:
                found[layer] = None
                stack.extend(reversed(layer.sublayers()))
        return list(found)

    @property
    def weights(self) -> list[Parameter]:
        """All parameters, those of layers inside it too; each once."""
        return list(dict.fromkeys(parameter for layer in self.walk() for parameter, _ in layer._own))

    def _own_weight(self, place: int, reader: Module) -> Parameter:
        """Its weight of this number, for a layer that is loaded and shares it."""
        if place >= len(self._own):
            raise ValueError(f"{reader}: shares a weight of {self}, which is not built yet")
        return self._own[place][0]

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
        value = flag(self, "trainable", value)
        for layer in self.walk():
            layer._freeze(not value)

    def _freeze(self, frozen: bool) -> None:
        """Its own weights, not those of layers inside it."""
        if self._trainable is frozen:
            self._trainable = not frozen
            freezing.changed()
        for parameter, wanted in self._own:
            parameter.trainable = wanted and not frozen

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

    def named(self, get: Callable[[Any], Any], value: Any) -> Any:
        """``get(value)``, with the layer's name in the error."""
        try:
            return get(value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self}: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        """For copies, which do not take along the graph that the layer is in, nor a build that is under way."""
        state = {**vars(self), "_first_call": None, "_before_build": None}
        if (before := self._before_build) is not None:
            state["_own"], state["built"] = before
        return state

    # files

    def to_json(self) -> Any:
        """Configuration, name and whether it is trainable; in a file of a model a reference to where they are."""
        return reference(self)

    def entry(self) -> dict[str, Any]:
        """What a file says of the layer, for ``from_entry``. TypeError, naming the layer, where JSON cannot hold it."""
        try:
            if "/" in self.name:
                raise TypeError("expected a name that has no '/'")
            value = {**super().to_json(), "name": self.name, "named": self._named, "trainable": self._trainable}
            if self._tied:
                value["tied"] = {name: self._tie_to_json(weight) for name, weight in self._tied.copy().items()}
            return value
        except RecursionError:
            raise TooDeep(f"{self}: its layers are nested too deep for a configuration, not for save(path)") from None
        except (TypeError, AttributeError) as error:
            raise TypeError(
                f"{self}: its structure cannot be stored: {error}; save_weights() stores the weights alone, for "
                "load_weights() once the model is built by its code"
            ) from error

    def _tie_to_json(self, weight: Parameter) -> list[Any]:
        """Whose weight it is, and its number there."""
        places = [] if weight.owner is None else [p for p, (own, _) in enumerate(weight.owner._own) if own is weight]
        if not places:
            raise TypeError(f"the weight {weight.name} belongs to no layer")
        return [to_json(weight.owner), places[0]]

    @classmethod
    def from_entry(cls, value: dict[str, Any]) -> Module:
        check(cls.__name__, value, _ENTRY if "name" in value else _WRITTEN, "its entry")
        with restoring.naming(cls, value.get("name", "")):
            layer = cls.from_config(made_arguments(cls, value["config"]))
        if "name" in value:
            layer.name, layer._named = value["name"], value["named"]
            layer._tied = {name: from_json(tie) for name, tie in value.get("tied", {}).items()}
            if not value["trainable"]:
                layer.trainable = False
        return layer

    def restore(self, value: dict[str, Any]) -> None:
        """Once all layers of a file are made: whether this one alone is trainable."""
        self._freeze(not flag(self, "trainable", value["trainable"]))
