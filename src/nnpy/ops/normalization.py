"""Batch and layer normalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd
from typing import Any

from nnpy.graph import Parameter, Size, Tensor, apply
from nnpy.ops.base import Elementwise, Operation, StepSpec, Sums, label, shares
from nnpy.ops.broadcasting import broadcast_to, summed_to
from nnpy.ops.constants import scaled
from nnpy.ops.elementwise import add, multiply, square, subtract
from nnpy.ops.shape import expand_dims

_PART, _PART_ROWS = 4096, 32  # elements and rows of a part at least
_SPREAD = 1 << 16  # bytes


def _is_by_parts(low, rows: int, cols: int) -> bool:
    """Whether parts of the rows are normalized by all threads, not vectors of columns by one each: it is faster where
    such columns do not stay in L1. Rows that are a power of two apart share few of its sets."""
    apart = gcd(cols * low.dtype.itemsize, 4096)
    return rows * max(apart, 256 if cols > 16 else 32) >= _SPREAD


def _parts(low, rows: int, cols: int) -> Sums:
    """Memory for the sums of parts of the rows."""
    parts = max(1, min(rows // _PART_ROWS, rows * cols // _PART))
    return Sums(low.scratch(2 * parts * cols * low.dtype.itemsize), shares(rows, parts))


def check_parameters(node, features: int) -> None:
    """ValueError for a parameter of another shape than (features,)."""
    for parameter in node.inputs[1:]:
        if parameter.shape != (features,):
            raise ValueError(f"{label(node)}: expected {parameter.name} of shape ({features},), got {parameter.shape}")


class _BatchNorm(Operation):
    """Inputs: x, moving mean, moving variance, then gamma and beta where they exist. Outputs: y, mean, rstd."""

    name = "batch_norm"
    takes_steps = True

    def infer(self, node):
        x = node.inputs[0]
        check_parameters(node, x.shape[-1])
        return [x.sizes, x.sizes[-1:], x.sizes[-1:]]

    def gradient(self, node, upstreams, needs):
        upstream, of_mean, of_rstd = upstreams
        x, named = node.inputs[0], dict(zip(node.attributes["names"], node.inputs[3:], strict=True))
        mean, rstd = node.outputs[1:]
        dx, slopes = None, {}
        if upstream is not None:
            inputs = [upstream, x, mean, rstd, *([named["gamma"]] if "gamma" in named else [])]
            dx = apply(_BATCH_NORM_GRADIENT, inputs)
            _, slopes["gamma"], slopes["beta"] = dx.made_by.outputs
        dx = by_moments(dx, x, x.sizes[:-1], mean, rstd, of_mean, of_rstd)
        return [dx, None, None, *(slopes.get(name) for name in named)]

    def inference(self, node, inputs):
        attributes = node.attributes
        if attributes["always"] and not attributes["frozen"]():
            return None
        scale = apply(_BATCH_NORM_FOLD, inputs[1:], names=attributes["names"], epsilon=attributes["epsilon"])
        # What they were made of comes along for the gradients by gamma and beta; the kernel reads none of it.
        return apply(
            _SCALE_SHIFT, [inputs[0], scale, scale.made_by.outputs[1], *inputs[1:]], names=attributes["names"],
            epsilon=attributes["epsilon"],
        )  # fmt: skip

    def frozen(self, node):
        return node.attributes["frozen"]()

    def mutated(self, node):
        return node.inputs[1:3]

    def summed(self, node):
        return node.inputs[0], "partial", {}

    def lower(self, item, low):
        node = item.node
        x, moving_mean, moving_variance = node.inputs[:3]
        cols = x.shape[-1]
        named = dict(zip(node.attributes["names"], node.inputs[3:], strict=True))
        rows = low.count(x) // max(1, cols)
        gathered = low.sums.get(node)
        if gathered or _is_by_parts(low, rows, cols):
            partial, counts = gathered or _parts(low, rows, cols)
            size = dict(rows=rows, cols=cols, parts=len(counts))
            if not gathered:
                low.call("moments", partial=partial, x=x, work=low.count(x), **size)
            scale, shift = (low.scratch(cols * low.dtype.itemsize) for _ in range(2))
            low.call(
                "batch_norm_scale", scale=scale, shift=shift, mean=node.outputs[1], rstd=node.outputs[2],
                moving_mean=moving_mean, moving_variance=moving_variance, partial=partial, counts=counts,
                epsilon=node.attributes["epsilon"], momentum=node.attributes["momentum"], work=len(counts) * cols,
                **size, **named,
            )  # fmt: skip
            low.rows(item.output, x, cols, [StepSpec("scale_shift", p=scale, q=shift), *item.steps])
            return
        low.call(
            "batch_norm", y=item.output, x=x, mean=node.outputs[1], rstd=node.outputs[2], moving_mean=moving_mean,
            moving_variance=moving_variance, rows=rows, cols=cols, steps=item.steps, step_ld=cols,
            epsilon=node.attributes["epsilon"], momentum=node.attributes["momentum"],
            work=4 * low.count(x), **named,
        )  # fmt: skip


def by_moments(
    dx: Tensor | None,
    x: Tensor,
    over: Sequence[Size],
    mean: Tensor,
    rstd: Tensor,
    of_mean: Tensor | None,
    of_rstd: Tensor | None,
) -> Tensor | None:
    """dx, and what comes by the mean and by 1 / sqrt(variance + epsilon), which are taken over so many elements."""
    if of_rstd is not None:  # d rstd / dx = -rstd^3 (x - mean) / n
        slope = multiply(of_rstd, multiply(rstd, square(rstd)))
        more = scaled(multiply(slope, subtract(x, mean)), -1.0, over)
        dx = more if dx is None else add(dx, more)
    if of_mean is not None:
        more = broadcast_to(scaled(of_mean, 1.0, over), x.sizes)
        dx = more if dx is None else add(dx, more)
    return dx


class _BatchNormGradient(Operation):
    """Outputs: dx, dgamma, dbeta, from one pass for the sums and one for dx, a block of columns at a time."""

    name = "batch_norm_gradient"

    is_gradient = True

    def infer(self, node):
        x = node.inputs[1]
        return [x.sizes, x.sizes[-1:], x.sizes[-1:]]

    def summed(self, node):
        dy, x, mean, rstd = node.inputs[:4]
        return dy, "partial", {"normal": x, "mean": mean, "rstd": rstd}

    def lower(self, item, low):
        node = item.node
        dy, x, mean, rstd = node.inputs[:4]
        cols = x.shape[-1]
        outputs = {n: t for n, t in zip(("dx", "dgamma", "dbeta"), node.outputs, strict=True) if low.is_used(t)}
        gamma = {"gamma": node.inputs[4]} if len(node.inputs) > 4 else {}
        rows = low.count(x) // max(1, cols)
        gathered = low.sums.get(node)
        if gathered or _is_by_parts(low, rows, cols):
            partial, counts = gathered or _parts(low, rows, cols)
            size = dict(rows=rows, cols=cols, parts=len(counts))
            if not gathered:
                low.call(
                    "gradient_moments", partial=partial, dy=dy, x=x, mean=mean, rstd=rstd, work=2 * low.count(x), **size
                )
            factors = low.scratch(3 * cols * low.dtype.itemsize)
            dx = outputs.pop("dx", None)
            low.call(
                "batch_norm_grad_scale", factors=factors, partial=partial, mean=mean, rstd=rstd,
                work=len(counts) * cols, **outputs, **gamma, **size,
            )  # fmt: skip
            if dx is not None:
                low.rows(dx, dy, cols, [StepSpec("norm_grad", p=x, q=factors)])
            return
        low.call(
            "batch_norm_grad", dy=dy, x=x, mean=mean, rstd=rstd, rows=rows, cols=cols, work=4 * low.count(x),
            **outputs, **gamma,
        )  # fmt: skip


class _BatchNormFold(Operation):
    """In inference, normalization is x * scale + shift: the two rows, from the running statistics."""

    name = "batch_norm_fold"

    def infer(self, node):
        return [node.inputs[0].shape, node.inputs[0].shape]

    def lower(self, item, low):
        node = item.node
        named = dict(zip(node.attributes["names"], node.inputs[2:], strict=True))
        low.call(
            self.name, scale=node.outputs[0], shift=node.outputs[1], moving_mean=node.inputs[0],
            moving_variance=node.inputs[1], cols=node.inputs[0].shape[0],
            epsilon=node.attributes["epsilon"], work=1, of_parameters=True, **named,
        )  # fmt: skip


class _ScaleShift(Elementwise):
    """x * scale + shift, both of them rows; fuses into the GEMM before it. The other inputs are those of the fold."""

    name = "scale_shift"

    def infer(self, node):
        return [node.inputs[0].sizes]

    def steps(self, node, primary):
        return [StepSpec("scale_shift", p=node.inputs[1], q=node.inputs[2])]

    def gradient(self, node, upstreams, needs):
        (upstream,) = upstreams
        x, scale, _, mean, variance, *rest = node.inputs
        dx = multiply(upstream, scale) if needs[0] else None
        named = dict(zip(node.attributes["names"], rest, strict=True))
        wanted = dict(zip(named, needs[5:], strict=True))
        slopes: dict[str, Tensor] = {}
        if wanted.get("beta"):
            slopes["beta"] = summed_to(upstream, x.sizes[-1:])
        if wanted.get("gamma"):  # the sum of upstream times the normalized x
            rstd = apply(_BATCH_NORM_FOLD, [mean, variance], names=(), epsilon=node.attributes["epsilon"])
            normalized = apply(
                _SCALE_SHIFT, [x, rstd, rstd.made_by.outputs[1], mean, variance], names=(),
                epsilon=node.attributes["epsilon"],
            )  # fmt: skip
            slopes["gamma"] = summed_to(multiply(upstream, normalized), x.sizes[-1:])
        return [dx, None, None, None, None, *(slopes.get(name) for name in named)]


class _LayerNorm(Operation):
    """Inputs: x, then gamma and beta where they exist. Outputs: y, mean and rstd of each row."""

    name = "layer_norm"
    takes_steps = True

    def infer(self, node):
        x = node.inputs[0]
        check_parameters(node, x.shape[-1])
        return [x.sizes, x.sizes[:-1], x.sizes[:-1]]

    def gradient(self, node, upstreams, needs):
        upstream, of_mean, of_rstd = upstreams
        x, named = node.inputs[0], dict(zip(node.attributes["names"], node.inputs[1:], strict=True))
        mean, rstd = node.outputs[1:]
        dx, slopes = None, {}
        if upstream is not None and needs[0]:
            dx = apply(_LAYER_NORM_GRADIENT, [upstream, x, mean, rstd, *([named["gamma"]] if "gamma" in named else [])])
        if upstream is not None and named:
            slopes["gamma"] = apply(_LAYER_NORM_PARAMETER_GRADIENT, [upstream, x, mean, rstd])
            slopes["beta"] = slopes["gamma"].made_by.outputs[1]
        if needs[0]:
            kept: list[Any] = [expand_dims(t, -1) if t is not None else None for t in (mean, rstd, of_mean, of_rstd)]
            dx = by_moments(dx, x, x.sizes[-1:], *kept)
        return [dx, *(slopes.get(name) for name in named)]

    def lower(self, item, low):
        node, x = item.node, item.node.inputs[0]
        cols = x.shape[-1]
        named = dict(zip(node.attributes["names"], node.inputs[1:], strict=True))
        low.call(
            self.name, y=item.output, x=x, mean=node.outputs[1], rstd=node.outputs[2], cols=cols,
            rows=low.count(x) // max(1, cols), steps=item.steps, step_ld=cols, epsilon=node.attributes["epsilon"],
            work=4 * low.count(x), **named,
        )  # fmt: skip


class _LayerNormGradient(Operation):
    name = "layer_norm_gradient"

    is_gradient = True

    def infer(self, node):
        return [node.inputs[1].sizes]

    def lower(self, item, low):
        dy, x, mean, rstd = item.node.inputs[:4]
        cols = x.shape[-1]
        gamma = {"gamma": item.node.inputs[4]} if len(item.node.inputs) > 4 else {}
        low.call(
            "layer_norm_grad", dx=item.output, dy=dy, x=x, mean=mean, rstd=rstd, cols=cols,
            rows=low.count(x) // max(1, cols), work=4 * low.count(x), **gamma,
        )  # fmt: skip


class _LayerNormParameterGradient(Operation):
    """Outputs: dgamma, dbeta."""

    name = "layer_norm_parameter_gradient"

    is_gradient = True

    def infer(self, node):
        return [node.inputs[1].shape[-1:], node.inputs[1].shape[-1:]]

    def lower(self, item, low):
        node = item.node
        dy, x, mean, rstd = node.inputs
        cols = x.shape[-1]
        outputs = {n: t for n, t in zip(("dgamma", "dbeta"), node.outputs, strict=True) if low.is_used(t)}
        low.call(
            "layer_norm_parameter_grad", dy=dy, x=x, mean=mean, rstd=rstd, rows=low.count(x) // max(1, cols), cols=cols,
            work=2 * low.count(x), **outputs,
        )  # fmt: skip


_BATCH_NORM = _BatchNorm()
_BATCH_NORM_GRADIENT = _BatchNormGradient()
_BATCH_NORM_FOLD = _BatchNormFold()
_SCALE_SHIFT = _ScaleShift()
_LAYER_NORM = _LayerNorm()
_LAYER_NORM_GRADIENT = _LayerNormGradient()
_LAYER_NORM_PARAMETER_GRADIENT = _LayerNormParameterGradient()


def batch_norm(
    x: Tensor,
    moving_mean: Parameter,
    moving_variance: Parameter,
    gamma: Parameter | None = None,
    beta: Parameter | None = None,
    *,
    epsilon: float = 1e-3,
    momentum: float = 0.99,
    frozen: Callable[[], bool] = lambda: False,
    always: bool = False,
) -> Tensor:
    """Normalize over all axes but the last: with the batch's statistics while training, which move the running ones,
    and with the running ones in inference, or where ``frozen`` says so when a Program is made. ``always``: in inference
    as while training. Parameters: (features,).
    """
    named = {name: tensor for name, tensor in (("gamma", gamma), ("beta", beta)) if tensor is not None}
    return apply(
        _BATCH_NORM, [x, moving_mean, moving_variance, *named.values()], names=tuple(named), epsilon=float(epsilon),
        momentum=float(momentum), frozen=frozen, always=always,
    )  # fmt: skip


def layer_norm(
    x: Tensor, gamma: Parameter | None = None, beta: Parameter | None = None, *, epsilon: float = 1e-3
) -> Tensor:
    """Normalize each row (the last axis)."""
    named = {name: tensor for name, tensor in (("gamma", gamma), ("beta", beta)) if tensor is not None}
    return apply(_LAYER_NORM, [x, *named.values()], names=tuple(named), epsilon=float(epsilon))
