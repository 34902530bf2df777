"""Activation functions by name. ``activations.relu(x)`` applies one to a tensor; ``leaky_relu(negative_slope=0.1)``
makes one with another parameter, to pass as ``activation=``; ``custom(f, derivative)`` makes one of a Python function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnpy import forms, ops
from nnpy.catalogue import offer
from nnpy.checks import flag, real, scalar_function, shown
from nnpy.graph import Tensor
from nnpy.registry import Configurable, plain, unknown


class Activation(Configurable):
    """A function of a tensor, element by element or (softmax) over the last axis."""

    group = "activation"

    def __init__(self, name: str, parameters: dict[str, Any] | None = None):
        if not isinstance(name, str):
            raise TypeError(f"Activation: expected name to be a string, got {shown(name)}")
        if parameters is not None and not isinstance(parameters, dict):
            raise TypeError(f"activation {name}: expected parameters to be a dict or None, got {shown(parameters)}")
        if name not in _PARAMETERS:
            raise unknown("activation", name, list(_PARAMETERS))
        self.name = name
        self.parameters = {**_PARAMETERS[name], **(parameters or {})}
        for key, value in self.parameters.items():
            if key not in _PARAMETERS[name]:
                has = ", ".join(_PARAMETERS[name]) or "none"
                raise TypeError(f"activation {name}: unknown parameter {key!r}; it has {has}")
            check = flag if isinstance(_PARAMETERS[name][key], bool) else real
            self.parameters[key] = check(f"activation {name}", key, value)
            if name == "celu" and self.parameters[key] == 0:
                raise ValueError(f"activation {name}: expected {key} > 0, got {value!r}")
            if self.parameters[key] < 0:  # the derivative is found from the result, whose sign tells that of x
                raise ValueError(f"activation {name}: expected {key} >= 0, got {value!r}")

    def __call__(self, x: Tensor | None = None, **parameters) -> Any:
        """Applied to a tensor; without one, this activation with other parameters."""
        chosen = type(self)(self.name, {**self.parameters, **parameters}) if parameters else self
        return chosen if x is None else chosen.apply(x)

    def apply(self, x: Tensor) -> Tensor:
        if self.name == "linear":
            return x
        if self.name in ("softmax", "log_softmax"):
            return getattr(ops, self.name)(x)
        if self.name == "gelu":
            return ops.activation(x, "gelu_tanh" if self.parameters["approximate"] else "gelu")
        return ops.activation(x, self.name, next(iter(self.parameters.values()), 0.0))

    def to_json(self) -> Any:
        """Its name, which says all about it unless a parameter was chosen."""
        return self.name if _known.get(self.name) is self else super().to_json()

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.parameters.items())
        return f"<activation {self.name}{f'({arguments})' if arguments else ''}>"


class CustomActivation(Activation):
    """A scalar Python function with its derivative, compiled by Numba when a step that uses it is."""

    def __init__(self, name: str, forward: Callable[[float], float], derivative: Callable[[float], float]):
        self.name, self.forward, self.derivative = name, forward, derivative
        self.parameters = {}

    def __call__(self, x: Tensor | None = None, **parameters) -> Any:
        if parameters:
            raise TypeError(f"activation {self.name}: a custom activation has no parameters, got {sorted(parameters)}")
        return self if x is None else self.apply(x)

    def apply(self, x: Tensor) -> Tensor:
        return ops.custom(x, self.forward, self.derivative)

    def get_config(self) -> dict[str, Any]:
        """Its name alone: code is not written to files."""
        if _custom.get(self.name) is not self:
            raise TypeError(
                f"activation {self.name}: to be saved it needs a name of its own: custom(f, derivative, name=...)"
            )
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CustomActivation:
        forms.check(cls.__name__, config, {"name": str})
        name = config["name"]
        if name not in _custom:
            raise ValueError(
                f"unknown custom activation {name!r}; call activations.custom(f, derivative, name={name!r}) first"
            )
        return _custom[name]


# Every activation, its parameters and their defaults (Keras 3).
_PARAMETERS: dict[str, dict[str, Any]] = {
    "linear": {},
    "relu": {},
    "leaky_relu": {"negative_slope": 0.2},
    "elu": {"alpha": 1.0},
    "selu": {},
    "gelu": {"approximate": False},
    "silu": {},
    "sigmoid": {},
    "hard_sigmoid": {},
    "tanh": {},
    "softplus": {},
    "softsign": {},
    "mish": {},
    "exponential": {},
    "relu6": {},
    "celu": {"alpha": 1.0},
    "hard_silu": {},
    "hard_tanh": {},
    "hard_shrink": {"threshold": 0.5},
    "soft_shrink": {"threshold": 0.5},
    "tanh_shrink": {},
    "log_sigmoid": {},
    "squareplus": {"b": 4.0},
    "softmax": {},
    "log_softmax": {},
}
Activation.register()
_custom: dict[str, CustomActivation] = {}
_ALIASES = {"swish": "silu", "hardswish": "hard_silu", "gelutanh": "gelu_tanh", "identity": "linear"}

linear = Activation("linear")
relu = Activation("relu")  # max(x, 0)
leaky_relu = Activation("leaky_relu")  # x if x > 0 else negative_slope * x (Maas et al. 2013)
elu = Activation("elu")  # x if x > 0 else alpha * (exp(x) - 1) (Clevert et al., ICLR 2016)
selu = Activation("selu")  # scaled elu (Klambauer et al., NeurIPS 2017)
gelu = Activation("gelu")  # x * Phi(x); approximate=True: by tanh (Hendrycks & Gimpel 2016)
gelu_tanh = gelu(approximate=True)
silu = swish = Activation("silu")  # x * sigmoid(x) (Elfwing et al. 2017; Ramachandran et al. 2017)
sigmoid = Activation("sigmoid")
hard_sigmoid = Activation("hard_sigmoid")  # clip(x + 3, 0, 6) / 6
tanh = Activation("tanh")
softplus = Activation("softplus")  # log(1 + exp(x))
softsign = Activation("softsign")  # x / (1 + |x|)
mish = Activation("mish")  # x * tanh(softplus(x)) (Misra, BMVC 2020)
exponential = Activation("exponential")
relu6 = Activation("relu6")  # min(max(x, 0), 6) (Howard et al. 2017)
celu = Activation("celu")  # x if x > 0 else alpha * (exp(x / alpha) - 1) (Barron 2017)
hard_silu = hard_swish = Activation("hard_silu")  # x * hard_sigmoid(x) (Howard et al., ICCV 2019)
hard_tanh = Activation("hard_tanh")  # clip(x, -1, 1)
hard_shrink = Activation("hard_shrink")  # x if |x| > threshold else 0
soft_shrink = Activation("soft_shrink")  # sign(x) * max(|x| - threshold, 0)
tanh_shrink = Activation("tanh_shrink")  # x - tanh(x)
log_sigmoid = Activation("log_sigmoid")  # log(sigmoid(x))
squareplus = Activation("squareplus")  # (x + sqrt(x**2 + b)) / 2 (Barron 2021)
softmax = Activation("softmax")
log_softmax = Activation("log_softmax")
_known: dict[str, Activation] = {name: globals()[name] for name in (*_PARAMETERS, "gelu_tanh")}
_plain = {plain(name): found for name, found in _known.items()}


def custom(
    forward: Callable[[float], float], derivative: Callable[[float], float] | None = None, name: str | None = None
) -> CustomActivation:
    """An activation of a scalar Python function that Numba can compile: a kernel in the step, no Python at run time.

    ``derivative(x)`` is required: it is never guessed. ``name`` (by default the function's): what a saved model calls
    it; make it again under that name before loading. Raises TypeError for what is not a function of one number.
    """
    what = getattr(forward, "__name__", "") if name is None else name
    title = f"activations.custom({what or shown(forward)})"
    scalar_function(f"{title}: expected the function", forward, ["x"])
    if derivative is None:
        raise TypeError(f"{title}: expected its derivative, a function of the same argument: custom(f, derivative)")
    scalar_function(f"{title}: expected the derivative", derivative, ["x"])
    made = CustomActivation(what, forward, derivative)
    if name is not None and (plain(name) in _plain or plain(name) in _ALIASES):
        raise ValueError(f"{title}: {name!r} is the name of another activation")
    if what.isidentifier() and what not in _known:
        _custom[what] = made
    return made


def get(value: Any) -> Activation:
    """An activation from its name, itself, its configuration, or None (linear).

    Raises ValueError for an unknown name, listing the known ones; TypeError for anything else.
    """
    if value is None:
        return linear
    if isinstance(value, Activation):
        return value
    if isinstance(value, str):
        if value in _custom:
            return _custom[value]
        wanted = plain(value)
        found = _plain.get(plain(_ALIASES.get(wanted, wanted)))
        if found is None:
            raise unknown("activation", value, [*_known, "swish", *_custom])
        return found
    if callable(value):
        raise TypeError(
            f"expected activation to be a name or an activation, got the function {shown(value)}; "
            "make one of it with nnpy.activations.custom(f, derivative)"
        )
    raise TypeError(f"expected activation to be a name, an activation or None, got {shown(value)}")


__all__ = [
    "Activation", "celu", "custom", "elu", "exponential", "gelu", "gelu_tanh", "get", "hard_shrink",
    "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax",
    "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign",
    "squareplus", "swish", "tanh", "tanh_shrink",
]  # fmt: skip

offer(__name__, __all__)
