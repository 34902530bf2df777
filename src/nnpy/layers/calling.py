"""Calls of layers: what they took and gave, whether they train, and running them without Python's recursion.

A call is a generator of the calls that it needs, (layer, args, kwargs); ``run`` keeps their stack. So models nested a
thousand deep are called, built and traced like any other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nnpy import graph, tree
from nnpy.checks import flag
from nnpy.graph import Node, Tensor

if TYPE_CHECKING:
    from nnpy.layers.base import Layer

Calling = Generator[tuple["Layer", tuple, dict[str, Any]], Any, Any]
_plain: set[Callable[..., Any]] = set()


@dataclass(eq=False, slots=True)  # nobody changes one; frozen takes four times as long to make
class Call:
    """One call of a layer: the trees that it took and gave, and the tensors in them.

    The outputs' ``call`` is this record, so a model finds its layers by walking from its outputs to its inputs.
    ``losses``, ``effects``: what was added to the loss, and what happens (a variable changes), while it ran and in the
    calls inside it. ``asks``: whether one of these took a ``training`` that the call did not say.
    """

    layer: Layer
    args: tuple
    kwargs: dict[str, Any]
    result: Any
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    losses: tuple[Tensor, ...] = ()
    effects: tuple[Node, ...] = ()
    asks: bool = False

    @property
    def output(self) -> Tensor:
        return self.outputs[0]

    @property
    def given(self) -> Any:
        """Its first argument."""
        return self.args[0] if self.args else next(iter(self.kwargs.values()), None)


@dataclass(frozen=True)
class Mode:
    """Whether calls train. ``said``: by a caller's ``training=``; ``traced``: what the graph being made is for;
    ``whole``: it is one of which nothing is left out."""

    said: bool | None = None
    traced: bool = False
    whole: bool = False


_mode: ContextVar[Mode] = ContextVar("nnpy_mode", default=Mode())  # noqa: B039  it is frozen
_callers: ContextVar[tuple[Any, ...]] = ContextVar("nnpy_callers", default=())


@contextmanager
def tracing(training: bool) -> Iterator[None]:
    """Layers called inside belong to a graph of its own, for training or for inference."""
    before, callers = _mode.get(), _callers.get()
    _mode.set(Mode(None, training, True))
    _callers.set(())
    try:
        with graph.apart():
            yield
    finally:
        _mode.set(before)
        _callers.set(callers)


def saying(training: bool | None) -> AbstractContextManager[None]:
    """Layers called inside take ``training``, unless they are told another; None: as before."""
    return nullcontext() if training is None else _saying(training)


@contextmanager
def _saying(training: bool) -> Iterator[None]:
    token = _mode.set(replace(_mode.get(), said=training))
    try:
        yield
    finally:
        _mode.reset(token)


class called_by:
    """Layers called inside are called by the code of ``layer``; None: by a model, which knows them."""

    __slots__ = ("before", "layer")

    def __init__(self, layer: Layer | None):
        self.layer = layer

    def __enter__(self) -> None:
        self.before = _callers.get()
        _callers.set((*self.before[-8:], self.layer))

    def __exit__(self, *error: Any) -> None:
        _callers.set(self.before)


def callers() -> tuple[Any, ...]:
    """The layers whose ``call`` is under way, the innermost last (the last few of many)."""
    return _callers.get()


def decide(follows: bool) -> bool | None:
    """``training`` for a layer that was not told: what a caller was told, else what the graph is for. A layer that
    ``follows`` the Program leaves that to it: None."""
    mode = _mode.get()
    if mode.said is not None or follows:
        return mode.said
    scope = graph.current_scope()
    if scope is not None:
        scope.asks = True
    return mode.traced


def may_leave_out() -> bool:
    """Whether what a model's call gives may stand for its layers: not where a whole graph is made, or they are told
    whether they train."""
    mode = _mode.get()
    return mode.said is None and not mode.whole


class Signature:
    """The parameters of a layer's ``call``."""

    def __init__(self, function: Callable[..., Any]):
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[1:]
        self.signature = signature.replace(parameters=parameters)
        self.names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        self.places = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self.needed = sum(p.default is p.empty and p.name in self.names for p in parameters)
        self.open = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.plain = not self.open and not any(name in ALWAYS or name.endswith("_mask") for name in self.names)
        self.named_masks = tuple(name for name in self.names if name.endswith("_mask"))

    def takes(self, name: str) -> bool:
        return self.open or name in self.names

    @property
    def takes_masks(self) -> bool:
        return self.takes("mask") or bool(self.named_masks)

    def bind(self, owner: Layer, args: tuple, kwargs: dict[str, Any]) -> Bound:
        """Arguments by parameter. TypeError, naming the layer, for those that do not fit."""
        if len(args) == 1 and not kwargs and self.needed < 2 and self.places:
            return Bound(self, args, {self.places[0]: args[0]}, {})
        taken = {name: value for name, value in kwargs.items() if name not in ALWAYS or self.takes(name)}
        try:
            self.signature.bind(*args, **taken)
        except TypeError as error:
            raise TypeError(f"{owner}: {error}; it is called as call{self.signature}") from None
        given = dict(zip(self.places, args, strict=False))
        if len(args) > len(self.places):
            given["*"] = args[len(self.places) :]
        given |= kwargs
        mask, said = given.pop("mask", None), given.pop("training", None)
        return Bound(self, args, given, taken, mask, None if said is None else flag(owner, "training", said))


ALWAYS = frozenset({"training", "mask"})  # keywords that every layer may be called with


class Bound:
    """The arguments of one call, as given and as completed. ``arguments``: those that are neither training nor mask."""

    def __init__(
        self, signature: Signature, args: tuple, arguments: dict[str, Any], taken: dict[str, Any], mask: Any = None,
        training: bool | None = None,
    ):  # fmt: skip
        self.signature, self.args, self.kwargs = signature, list(args), taken
        self.arguments, self.mask, self.training = arguments, mask, training

    def wants(self, name: str, exactly: bool = False) -> bool:
        """Whether ``call`` takes an argument that was not given, or as None. ``exactly``: under this name."""
        signature = self.signature
        if name not in signature.names and (exactly or not signature.open):
            return False
        if name in signature.places and signature.places.index(name) < len(self.args):
            return self.args[signature.places.index(name)] is None
        return self.kwargs.get(name) is None

    def give(self, name: str, value: Any) -> None:
        signature = self.signature
        if name in signature.places and signature.places.index(name) < len(self.args):
            self.args[signature.places.index(name)] = value
        elif value is not None or name in signature.names:
            self.kwargs[name] = value

    def given(self) -> tuple[list[Any], dict[str, Any]]:
        """(args, kwargs) for ``call``."""
        return self.args, self.kwargs


@lru_cache(1024)
def signature_of(function: Callable[..., Any]) -> Signature:
    return Signature(function)


def masks_of(given: Any) -> Any:
    """The masks of tensors, in a tree like theirs; None for a tree without any."""
    if isinstance(given, Tensor):
        return given.mask
    masks = tree.replace(given, lambda leaf: leaf.mask if isinstance(leaf, Tensor) else None, every=True)
    return masks if any(leaf is not None for leaf in tree.leaves(masks)) else None


def runs_its_calling(method: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a ``__call__`` that only runs the layer's ``_calling``: then ``run`` may do it instead."""
    _plain.add(method)
    return method


def run(calling: Calling) -> Any:
    """What a call returns: the calls that it asks for are made here, one stack for all of them."""
    stack = [calling]
    value: Any = None
    error: BaseException | None = None
    while stack:
        try:
            layer, args, kwargs = stack[-1].send(value) if error is None else stack[-1].throw(error)
            value = error = None
            if type(layer).__call__ in _plain:
                stack.append(layer._calling(args, kwargs))
            else:
                value = layer(*args, **kwargs)
        except StopIteration as done:
            stack.pop()
            value, error = done.value, None
        except BaseException as raised:
            # From the generator itself: it is over. From a layer's own __call__: it is told.
            if inspect.getgeneratorstate(stack[-1]) == inspect.GEN_CLOSED:
                stack.pop()
            if not stack:
                raise
            value, error = None, raised
    return value
