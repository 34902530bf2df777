"""What an optimizer adds to a step: the update of a parameter by its gradient, and the scale that clipping multiplies
gradients by. Gradients, weights and slots are flat buffers (``parameters.Store``); neighbours are done in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nncore import kernels
from nnpy.graph import Node, Parameter, Tensor, apply, make
from nnpy.ops.base import Operation


class _Update(Operation):
    """Inputs: the gradient, and perhaps a scale for it. Attributes: ``parameter``, ``optimizer``, ``store``."""

    name = "update"
    is_effect = True

    def infer(self, node):
        return []

    def mutated(self, node):
        return [node.attributes["parameter"]]


class _Constrain(Operation):
    """``parameter`` becomes what ``constraint`` makes of it, once the optimizer has updated it."""

    name = "constrain"
    is_effect = True

    def infer(self, node):
        return []

    def mutated(self, node):
        return [node.attributes["parameter"]]


class _ClipScale(Operation):
    """min(1, limit / norm) of all gradients together. Attributes: ``limit``, ``parameters``, ``store``."""

    name = "clip_scale"
    is_gradient = True

    def infer(self, node):
        return [()]

    def lower(self, item, low):
        store, parameters = item.node.attributes["store"], item.node.attributes["parameters"]
        chunk = kernels.family("reduce", low.dtype).CHUNK
        parts = list(store.stretches(parameters))
        counts = [-(-(last - first) // chunk) for first, last in parts]
        partials, place = low.scratch(8 * sum(counts)), 0
        for (first, last), count in zip(parts, counts, strict=True):
            part = partials._replace(offset=8 * place, nbytes=8 * count)
            size = last - first
            low.call("square_sums", partials=part, x=store.gradients[first:last], count=size, work=size // 4)
            place += count
        low.call(
            "clip_scale", scale=item.output, partials=partials, count=place, clip=item.node.attributes["limit"],
            work=place,
        )  # fmt: skip


_UPDATE = _Update()
_CONSTRAIN = _Constrain()
_CLIP_SCALE = _ClipScale()


def update(parameter: Parameter, gradient: Tensor, optimizer: Any, store: Any, scale: Tensor | None = None) -> Node:
    """``parameter`` becomes what the optimizer makes of it and its gradient (times ``scale``)."""
    inputs = [gradient] if scale is None else [gradient, scale]
    return make(_UPDATE, inputs, parameter=parameter, optimizer=optimizer, store=store)


def constrain(parameter: Parameter, constraint: Any) -> Node:
    """``parameter``, as the step has updated it, becomes what ``constraint`` makes of it."""
    return make(_CONSTRAIN, [], parameter=parameter, constraint=constraint)


def clip_scale(gradients: dict[Parameter, Tensor], limit: float, store: Any) -> Tensor:
    """min(1, limit / the norm of all gradients together), of shape ()."""
    parameters: Sequence[Parameter] = tuple(gradients)
    return apply(_CLIP_SCALE, gradients.values(), limit=float(limit), parameters=parameters, store=store)
