"""Registry: objects of the API by name, and to and from JSON.

A class that derives from a group's base (Layer, Loss, ...) is known by its name from then on, a user's own too, so
that ``loss="mse"`` and a saved file find it. Its configuration is its constructor's arguments, kept as attributes of
the same names.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from typing import Any, ClassVar, Self, TypeVar, cast

import numpy as np

from nnpy.checks import shown

_classes: dict[str, dict[str, type[Configurable]]] = {}
T = TypeVar("T", bound="Configurable")


class Configurable:
    """Something whose constructor arguments say all about it. ``group``: the kind of thing it is ("loss")."""

    group: ClassVar[str] = ""
    key: ClassVar[str] = ""  # what the class is known by in its group

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        is_base = not any(base.__dict__.get("group") for base in cls.__mro__[1:])
        if not is_base and not cls.__name__.startswith("_"):
            cls.register()

    @classmethod
    def register(cls) -> None:
        """Make the class known by its name in its group."""
        known = _classes.setdefault(cls.group, {})
        ours = cls.__name__ in known and known[cls.__name__].__module__.startswith("nnpy.")
        taken = ours and not cls.__module__.startswith("nnpy.")  # a user's Dense does not replace ours
        cls.key = f"{cls.__module__}.{cls.__name__}" if taken else cls.__name__
        known[cls.key] = cls

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON values."""
        return {name: to_json(value, f"{type(self).__name__}.{name}") for name, value in self._arguments().items()}

    def _arguments(self) -> dict[str, Any]:
        if type(self).__init__ is object.__init__:
            return {}
        parameters = inspect.signature(type(self).__init__).parameters.values()
        named = [p.name for p in parameters if p.name != "self" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        missing = [name for name in named if not hasattr(self, name)]
        if missing:
            raise TypeError(
                f"{type(self).__name__}: has no configuration: keep the constructor's arguments {missing} as "
                "attributes of the same names, or define get_config()"
            )
        return {name: getattr(self, name) for name in named}

    def to_json(self) -> Any:
        """The object as JSON, for ``from_json`` or the group's ``get``."""
        return {"class": f"{self.group}/{self.key}", "config": self.get_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The object that ``get_config`` described."""
        return cls(**{name: from_json(value) for name, value in config.items()})

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self._arguments().items())
        return f"{type(self).__name__}({arguments})"


def to_json(value: Any, where: str = "value") -> Any:
    """``value`` as JSON. TypeError, naming ``where``, for what JSON cannot say."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Configurable):
        return value.to_json()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [to_json(item, where) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(item, where) for key, item in value.items()}
    raise TypeError(f"{where}: cannot be written as JSON: {shown(value)}")


def from_json(value: Any) -> Any:
    """The opposite of ``to_json``. ValueError for a class that is not known here."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != {"class", "config"}:
        return {key: from_json(item) for key, item in value.items()}
    group, _, name = value["class"].partition("/")
    found = _classes.get(group, {}).get(name)
    if found is None:
        raise ValueError(
            f"unknown {group or 'class'} {name!r}; a class of your own must be defined (imported) before it is loaded"
        )
    return found.from_config(value["config"])


def plain(name: str) -> str:
    """A name without case and underscores: "he_normal" and "HeNormal" are the same."""
    return name.replace("_", "").lower()


def snake(name: str) -> str:
    """A class name as Keras writes it: "HeNormal" -> "he_normal", "Conv2DTranspose" -> "conv2d_transpose"."""
    letters = []
    for position, letter in enumerate(name):
        before = name[position - 1] if position else ""
        after = name[position + 1 : position + 2]
        starts = before.islower() or (after.islower() and before not in ("", "_"))
        if letter.isupper() and starts:
            letters.append("_")
        letters.append(letter.lower())
    return "".join(letters)


# What Keras has and this version has not: names that are right, and near others that mean something else.
_ELSEWHERE = frozenset(
    """mae mape msle rmse mean_absolute_error mean_absolute_percentage_error mean_squared_logarithmic_error
    root_mean_squared_error huber log_cosh hinge squared_hinge categorical_hinge kl_divergence kld poisson
    cosine_similarity binary_focal_crossentropy categorical_focal_crossentropy precision recall auc f1_score fbeta_score
    r2_score top_k_categorical_accuracy sparse_top_k_categorical_accuracy mean_iou
    rmsprop adagrad adadelta adafactor adamax nadam ftrl lamb lion muon
    relu6 celu glu prelu hard_tanh hard_silu hard_swish hard_shrink soft_shrink tanh_shrink threshold log_sigmoid
    squareplus sparsemax sparse_plus sparse_sigmoid""".replace("_", "").split()
)


def unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that is not known: the closest one, and all of them."""
    names = {plain(each): each for each in known}  # "adam_w" and "adamw" are the same name
    hint = "; this version does not have it" if plain(name) in _ELSEWHERE else ""
    close = difflib.get_close_matches(name, names.values(), 1)
    if close and not hint and _misspelt(plain(name), plain(close[0])):
        hint = f"; did you mean {close[0]!r}?"
    return ValueError(
        f"unknown {what} {name!r}{hint}{'' if hint[-1:] == '?' else ';'} expected one of "
        f"{', '.join(sorted(names.values()))}"
    )


def _misspelt(name: str, meant: str) -> bool:
    """Whether a name may be another one misspelt: among short ones a letter makes another function."""
    longer = len(name) > 4 or len(name) == len(meant) == 4
    return longer or sorted(name) == sorted(meant) or len(name) < len(meant)


def find(base: type[T], value: Any, aliases: dict[str, str] | None = None) -> T:
    """An object of ``base`` from itself, its class, its name, or its JSON."""
    group = base.group
    if isinstance(value, base):
        return value
    if isinstance(value, type) and issubclass(value, base):
        return value()
    if isinstance(value, str):
        short = {plain(alias): name for alias, name in (aliases or {}).items()}
        known = {plain(name): found for name, found in _classes.get(group, {}).items()}
        wanted = plain(value)
        found = known.get(plain(short.get(wanted, wanted)))
        if found is None:
            raise unknown(group, value, [*map(snake, _classes.get(group, {})), *(aliases or {})])
        return cast(T, found())
    if isinstance(value, dict) and isinstance(made := from_json(value), base):
        return made
    raise TypeError(f"expected {group} to be a name, {base.__name__} or its configuration, got {shown(value)}")
