"""Group normalization."""

from __future__ import annotations

from typing import Any

from nnpy.graph import Parameter, Tensor, apply, size_of
from nnpy.ops.base import Operation, label
from nnpy.ops.normalization import by_moments, check_parameters
from nnpy.ops.shape import reshape_sizes


class _GroupNorm(Operation):
    """Inputs: x (batch, ..., channels), then gamma and beta where they exist. Outputs: y, mean and rstd of each
    sample's groups. Attributes: ``groups``."""

    name = "group_norm"
    takes_steps = True

    def infer(self, node):
        x, groups = node.inputs[0], node.attributes["groups"]
        check_parameters(node, x.shape[-1])
        if x.shape[-1] % groups:
            raise ValueError(f"{label(node)}: expected channels that groups ({groups}) divides, got {x.shape}")
        return [x.shape, (x.shape[0], groups), (x.shape[0], groups)]

    def gradient(self, node, upstreams, needs):
        upstream, of_mean, of_rstd = upstreams
        x, named = node.inputs[0], dict(zip(node.attributes["names"], node.inputs[1:], strict=True))
        mean, rstd = node.outputs[1:]
        dx, slopes = None, {}
        if upstream is not None:
            inputs = [upstream, x, mean, rstd, *([named["gamma"]] if "gamma" in named else [])]
            dx = apply(_GROUP_NORM_GRADIENT, inputs, groups=node.attributes["groups"])
            _, slopes["beta"], slopes["gamma"] = dx.made_by.outputs
        if of_mean is not None or of_rstd is not None:
            dx = self._by_moments(node, dx, of_mean, of_rstd)
        return [dx if needs[0] else None, *(slopes.get(name) for name in named)]

    def _by_moments(self, node, dx, of_mean, of_rstd):
        """With the pixels as one axis and the channels of a group as another."""
        x, groups = node.inputs[0], node.attributes["groups"]
        pixels, each = size_of(x.sizes[1:-1]), x.shape[-1] // groups
        grouped = (x.sizes[0], pixels, groups, each)
        moments: list[Any] = [
            None if t is None else reshape_sizes(t, (x.sizes[0], 1, groups, 1))
            for t in (*node.outputs[1:], of_mean, of_rstd)
        ]
        dx = None if dx is None else reshape_sizes(dx, grouped)
        dx = by_moments(dx, reshape_sizes(x, grouped), (pixels, each), *moments)
        return None if dx is None else reshape_sizes(dx, x.sizes)

    def lower(self, item, low):
        node, x = item.node, item.node.inputs[0]
        cols, groups = x.shape[-1], node.attributes["groups"]
        named = dict(zip(node.attributes["names"], node.inputs[1:], strict=True))
        low.call(
            self.name, y=item.output, x=x, mean=node.outputs[1], rstd=node.outputs[2], workspace=low.scratch(0),
            batch=low.batch, pixels=low.count(x) // (low.batch * cols), cols=cols, groups=groups, share=2 * cols,
            steps=item.steps, step_ld=cols, epsilon=node.attributes["epsilon"], work=4 * low.count(x), **named,
        )  # fmt: skip


class _GroupNormGradient(Operation):
    """Outputs: dx, dbeta, dgamma."""

    name = "group_norm_gradient"
    is_gradient = True

    def infer(self, node):
        x = node.inputs[1]
        return [x.shape, x.shape[-1:], x.shape[-1:]]

    def lower(self, item, low):
        node = item.node
        dy, x, mean, rstd = node.inputs[:4]
        cols = x.shape[-1]
        partial = low.scratch(2 * low.batch * cols * low.dtype.itemsize)
        gamma = {"gamma": node.inputs[4]} if len(node.inputs) > 4 else {}
        low.call(
            "group_norm_grad", dx=item.output, partial=partial, dy=dy, x=x, mean=mean, rstd=rstd,
            workspace=low.scratch(0), batch=low.batch, pixels=low.count(x) // (low.batch * cols), cols=cols,
            groups=node.attributes["groups"], share=3 * cols, work=4 * low.count(x), **gamma,
        )  # fmt: skip
        for place, sums in enumerate(node.outputs[1:]):
            if low.is_used(sums):
                start = partial._replace(
                    offset=place * cols * low.dtype.itemsize,
                    nbytes=partial.nbytes - place * cols * low.dtype.itemsize,
                )
                low.reduce_middle("sum", sums, start, 1, low.batch, cols, stride_mid=2 * cols)


_GROUP_NORM = _GroupNorm()
_GROUP_NORM_GRADIENT = _GroupNormGradient()


def group_norm(
    x: Tensor, groups: int, gamma: Parameter | None = None, beta: Parameter | None = None, *, epsilon: float = 1e-3
) -> Tensor:
    """Normalize each sample's channels in ``groups`` of neighbours, over all pixels. Parameters: (channels,)."""
    named = {name: tensor for name, tensor in (("gamma", gamma), ("beta", beta)) if tensor is not None}
    return apply(_GROUP_NORM, [x, *named.values()], names=tuple(named), epsilon=float(epsilon), groups=groups)
