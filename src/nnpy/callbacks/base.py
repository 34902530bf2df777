"""Callback: the base of what is called while a model trains. Names and arguments are Keras 3's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from nnpy.checks import shown
from nnpy.forms import reason
from nnpy.hints import advise
from nnpy.registry import ChecksArguments
from nnpy.sealed import Sealed

Logs = dict[str, float]


_mute: Any = None  # a stdout that could not be written to


def say(line: str) -> None:
    """Print a line at once. Where there is no stdout (None in a program without a console) nothing is said.

    A stdout that fails (a closed pipe, a full disk) ends no training: a warning tells of it once."""
    try:
        try:
            print(line)
        except UnicodeEncodeError:  # names that its encoding has no letters for
            print(line.encode("ascii", "backslashreplace").decode())
        if hasattr(sys.stdout, "flush"):
            sys.stdout.flush()
    except (OSError, ValueError) as error:  # ValueError: it is closed
        cannot_show(error)


def cannot_show(error: Exception) -> None:
    """What a training has to say cannot be shown: a warning, once for each stdout."""
    global _mute
    if sys.stdout is not _mute:
        _mute = sys.stdout
        advise(f"stdout cannot be written to ({error}): the work goes on without a word")


class Callback(ChecksArguments, Sealed):
    """Subclass it and override what you need. ``self.model``: the model, ``self.params``: what fit was told.

    Steps run in compiled stretches of about 50 ms. Where a callback overrides a hook of batches, a stretch is one step;
    ``on_progress`` (ours) costs nothing. ``logs``: the means since the epoch began; at the end of an epoch also the
    ``val_`` values. Raises TypeError for a subclass with a method ``on_...`` that nobody would call.
    """

    comes_last = False  # called after all others, the history too: for what writes down where they stand

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in dir(cls):
            if name.startswith("on_") and callable(getattr(cls, name)):
                check_hook(cls.__name__, name)

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params

    def get_state(self) -> dict[str, Any]:
        """What it keeps from epoch to epoch: JSON values, arrays of numbers, and lists or dicts (with strings as keys)
        of these; {} for nothing; tuples come back as lists. It is
        part of ``model.training.state()``."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what ``get_state`` gave; called after ``on_train_begin``, and in the middle of an epoch also after
        its ``on_epoch_begin``."""

    def before_fit(self) -> None:
        """Before a run, whose data and settings are known to be right, in ``self.params``: the weights may be changed
        here, and ``model.training`` put where another run stood, for this one to go on from there."""

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before an epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After an epoch and its validation."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a step."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a step."""
        self.on_batch_end(batch, logs)

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of ``on_train_batch_begin``."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of ``on_train_batch_end``."""

    def on_progress(self, batch: int, logs: Logs | None = None) -> None:
        """After each stretch of steps, about 50 ms; ``batch`` is the last one's number."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before an evaluation, also that of an epoch."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """After an evaluation."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch of an evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch of an evaluation."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch of a prediction."""

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """After a batch of a prediction; ``logs["outputs"]``: what was predicted."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Before a prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """After a prediction."""


class CallbackList:
    """Calls them in order."""

    def __init__(self, callbacks: Sequence[Callback], model: Any, params: dict[str, Any]):
        for callback in callbacks:
            if not isinstance(callback, Callback):
                made = isinstance(callback, type) and issubclass(callback, Callback)
                advice = f"; make one: {callback.__name__}()" if made else ""
                raise TypeError(f"callbacks: expected Callback objects, got {shown(callback)}{advice}")
            callback.set_model(model)
            callback.set_params(params)
        self.callbacks = sorted(callbacks, key=lambda callback: callback.comes_last)
        self.every_batch = self.wants(*(f"on_{stem}_{end}" for stem in ("train_batch", "batch") for end in _ENDS))

    def call(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)

    def wants(self, *hooks: str) -> bool:
        """Whether a callback overrides one of the hooks: in its class, as a static method, or on the object."""
        return any(_function(getattr(c, hook)) is not getattr(Callback, hook) for c in self.callbacks for hook in hooks)

    def get_state(self) -> dict[str, dict[str, Any]]:
        """The state of each callback that has one, by its class: "EarlyStopping", "EarlyStopping_1"."""
        return {name: state for name, callback in self._named().items() if (state := callback.get_state())}

    def set_state(self, states: dict[str, dict[str, Any]]) -> None:
        """What ``get_state`` gave, to callbacks of the same classes in the same order; a warning tells of others."""
        named = self._named()
        for name, state in states.items():
            if name in named:
                try:
                    named[name].set_state(state)
                except (KeyError, IndexError, AttributeError, TypeError) as error:
                    expected = f"{name}: expected the state that its get_state() gives"
                    raise ValueError(f"{expected}, got {shown(state)}: {reason(error)}") from error
            else:
                advise(f"there is a state of {name} to go on with, and no such callback")

    def _named(self) -> dict[str, Callback]:
        named: dict[str, Callback] = {}
        for callback in self.callbacks:
            stem = name = type(callback).__name__
            number = 0
            while name in named:
                number += 1
                name = f"{stem}_{number}"
            named[name] = callback
        return named

    def wants_batches(self, kind: str) -> bool:
        """Whether the steps of an evaluation ("test") or a prediction must come one at a time."""
        return self.wants(*(f"on_{kind}_batch_{end}" for end in _ENDS))


_ENDS = ("begin", "end")


def _function(method: Any) -> Any:
    return getattr(method, "__func__", method)


def check_hook(owner: str, name: str) -> None:
    """Raises TypeError for a hook that there is none of, with the nearest there is."""
    hooks = [hook for hook in vars(Callback) if hook.startswith("on_")]
    if name not in hooks:
        import difflib

        close = difflib.get_close_matches(name, hooks, 1, 0.0)[0]
        raise TypeError(f"{owner}: unknown hook {name!r}; did you mean {close!r}? There are {', '.join(hooks)}")


def as_list(callbacks: Callback | Sequence[Callback] | None) -> list[Callback]:
    if callbacks is None:
        return []
    if not isinstance(callbacks, Callback | list | tuple):
        raise TypeError(f"callbacks: expected a Callback or a list of them, got {shown(callbacks)}")
    return [callbacks] if isinstance(callbacks, Callback) else list(callbacks)


class LambdaCallback(Callback):
    """Functions as hooks: ``LambdaCallback(on_epoch_end=lambda epoch, logs: ...)``."""

    def __init__(self, **functions: Callable[..., None] | None):
        super().__init__()
        for name, function in functions.items():
            check_hook("LambdaCallback", name)
            if function is not None:
                if not callable(function):
                    raise TypeError(f"LambdaCallback: expected {name} to be a function, got {shown(function)}")
                setattr(self, name, function)
