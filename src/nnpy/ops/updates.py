"""What an optimizer adds to a step: the update of a parameter by its gradient, the scale that clipping multiplies
gradients by, sweeps over its slots, and graphs that come after all that. Gradients, weights and slots are flat buffers
(``parameters.Store``); neighbours are done in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nncore import kernels
from nnpy.graph import Node, Parameter, Tensor, Variable, apply, make
from nnpy.ops.base import Operation


class _Closing(Operation):
    """It comes after all that computes, in the order in which it was made."""

    is_effect = True

    def infer(self, node):
        return []


class _Gradient(_Closing):
    """Its input, the gradient of ``parameter``, is written to ``flat``, an array of the layout of ``store``; the
    parameter is changed by what comes after."""

    name = "gradient"

    def mutated(self, node):
        return [node.attributes["parameter"]]


class _Update(_Closing):
    """Inputs: the gradient, and perhaps a scale for it. Attributes: ``parameter``, ``optimizer``, ``store``, ``flat``:
    where gradients are; ``block``: of the optimizer's columns."""

    name = "update"

    def mutated(self, node):
        return [node.attributes["parameter"]]


class _Sweep(_Closing):
    """The stretches of ``parameters`` in the flat array ``to``: with ``block``, which has columns keep and fresh, they
    become to * keep + of * fresh; else ``of``, or 0. In every step, or in those where ``phase`` is of ``every``."""

    name = "sweep"

    def lower(self, item, low):
        given, first_call = item.node.attributes, len(low.calls)
        to, of, store = given["to"], given["of"], given["store"]
        for first, last in store.stretches(given["parameters"]):
            place = Variable(to[first:last], "slot", "slot")
            if given["block"] is not None:
                table = given["optimizer"].place(given["block"])
                arrays = dict(w=to[first:last], g=of[first:last], count=last - first)
                low.call("update", rule="mix", state=low.state, work=(last - first) // 2, **arrays, **table)
            elif of is None:
                low.fill(place, 0.0)
            else:
                source = Variable(of[first:last], "weights", "slot")
                low.copy(place, source, 0, low.views.of(place).strides)
        for call in low.calls[first_call:]:
            call.every, call.phase = given["every"], given["phase"]


class _Then(_Closing):
    """A graph of its own, the nodes that ``effects`` gives: it sees variables as the step has left them so far. In
    every step, or in those where ``phase`` is of ``every``."""

    name = "then"


class _Column(Operation):
    """A number of this step: the column ``column`` of ``block`` of the optimizer's."""

    name = "column"

    def infer(self, node):
        return [()]

    def lower(self, item, low):
        given = item.node.attributes
        table = given["optimizer"].place(given["block"], given["column"])
        low.call("update", rule="column", w=item.output, g=item.output, state=low.state, count=1, work=1, **table)


class _ClipScale(Operation):
    """min(1, limit / norm) of all gradients together. Attributes: ``limit``, ``parameters``, ``store``, ``flat``: where
    gradients are."""

    name = "clip_scale"
    is_gradient = True

    def infer(self, node):
        return [()]

    def lower(self, item, low):
        store, parameters, flat = (item.node.attributes[name] for name in ("store", "parameters", "flat"))
        chunk = kernels.family("reduce", low.dtype).CHUNK
        parts = list(store.stretches(parameters))
        counts = [-(-(last - first) // chunk) for first, last in parts]
        partials, place = low.scratch(8 * sum(counts)), 0
        for (first, last), count in zip(parts, counts, strict=True):
            part = partials._replace(offset=8 * place, nbytes=8 * count)
            size = last - first
            low.call("square_sums", partials=part, x=flat[first:last], count=size, work=size // 4)
            place += count
        low.call(
            "clip_scale", scale=item.output, partials=partials, count=place, clip=item.node.attributes["limit"],
            work=place,
        )  # fmt: skip


_GRADIENT = _Gradient()
_UPDATE = _Update()
_SWEEP = _Sweep()
_THEN = _Then()
_COLUMN = _Column()
_CLIP_SCALE = _ClipScale()


def gradient(parameter: Parameter, value: Tensor, store: Any, flat: np.ndarray) -> Node:
    """``value``, the gradient of ``parameter``, is written to the array ``flat``."""
    return make(_GRADIENT, [value], parameter=parameter, store=store, flat=flat)


def update(
    parameter: Parameter, value: Tensor, optimizer: Any, store: Any, flat: np.ndarray, scale: Tensor | None = None,
    block: str = "update",
) -> Node:  # fmt: skip
    """``parameter`` becomes what the optimizer makes of it and its gradient (times ``scale``), which is in ``flat``."""
    inputs = [value] if scale is None else [value, scale]
    return make(_UPDATE, inputs, parameter=parameter, optimizer=optimizer, store=store, flat=flat, block=block)


def sweep(
    parameters: Sequence[Parameter], optimizer: Any, store: Any, to: np.ndarray, of: np.ndarray | None = None,
    block: str | None = None, every: int = 1, phase: int = 0,
) -> Node:  # fmt: skip
    """The flat array ``to`` becomes ``of`` (None: 0), or what the columns of ``block`` mix of both."""
    return make(
        _SWEEP, [], parameters=tuple(parameters), optimizer=optimizer, store=store, to=to, of=of, block=block,
        every=every, phase=phase,
    )  # fmt: skip


def then(effects: Callable[[], Sequence[Node]], every: int = 1, phase: int = 0) -> Node:
    """Effects of a graph that reads what the step has left so far, weights that are updated too."""
    return make(_THEN, [], effects=effects, every=every, phase=phase)


def column(optimizer: Any, block: str, name: str) -> Tensor:
    """A number of this step, from the optimizer's columns, of shape ()."""
    return apply(_COLUMN, [], optimizer=optimizer, block=block, column=name)


def clip_scale(gradients: dict[Parameter, Tensor], limit: float, store: Any, flat: np.ndarray) -> Tensor:
    """min(1, limit / the norm of all gradients together), of shape ()."""
    parameters: Sequence[Parameter] = tuple(gradients)
    return apply(_CLIP_SCALE, gradients.values(), limit=float(limit), parameters=parameters, store=store, flat=flat)
