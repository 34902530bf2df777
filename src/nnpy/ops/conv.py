"""Convolution of images (batch, height, width, channels): forward and the two gradients.

Weights are (kernel height, kernel width, channels in / groups, channels out), as in Keras (HWIO).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from nncore import kernels
from nncore.windows import clipped
from nnpy.graph import Tensor, apply
from nnpy.ops.base import Operation, label, shares
from nnpy.ops.geometry import Pair, Phase, Window, forward_phase, gradient_phases, turned

_BAND = 1 << 16  # elements of images that a convolution reads for one panel of weights after the other: they stay in L2
_PART = 1 << 17  # elements of both images that the weight gradient reads for one tile after the other
_PIXELS = 256  # that a tile of the weight gradient sums at least before it goes back to memory
_SQUARES = 1 << 12  # of Winograd's squares times channels in a band: 512 KiB with 16 numbers each, in L2
_MINIMAL = 64  # Winograd's squares in a batch at least, or its transform of the weights costs more than it saves
_SUMS = 1 << 13  # channels in times channels out at most, of which each chunk of a batch has sums of its own
_FEW = 8  # channels; with fewer the weight gradient takes a row of the window at once
_UNITS = 16  # pieces of work at least: threads share them


class _Conv(Operation):
    """Inputs: x (batch, height, width, channels in), w. Attributes: ``window``."""

    name = "conv"
    takes_steps = True

    def infer(self, node):
        x, w = node.inputs
        window: Window = node.attributes["window"]
        if x.rank != 4 or w.rank != 4:
            raise ValueError(f"{label(node)}: expected x and w of rank 4, got {x.shape} and {w.shape}")
        if x.shape[3] != w.shape[2] * window.groups:
            raise ValueError(
                f"{label(node)}: expected {w.shape[2] * window.groups} channels, got {x.shape[3]} in {x.shape}"
            )
        if w.shape[3] % window.groups:
            raise ValueError(f"{label(node)}: expected output channels that {window.groups} divides, got {w.shape[3]}")
        rows, columns = window.places(x.shape[1:3])
        if rows < 1 or columns < 1:
            raise ValueError(f"{label(node)}: a window of {window.size} does not fit into an image of {x.shape[1:3]}")
        return [(x.shape[0], rows, columns, w.shape[3])]

    def gradient(self, node, upstreams, needs):
        (upstream,) = upstreams
        x, w = node.inputs
        window = node.attributes["window"]
        dx = conv_by_input(upstream, w, x.shape[1:3], window) if needs[0] else None
        dw = conv_by_weight(x, upstream, window) if needs[1] else None
        return [dx, dw]

    def lower(self, item, low):
        x, w = item.node.inputs
        window: Window = item.node.attributes["window"]
        if window.is_point:
            k, n = w.shape[2:]
            low.gemm(item, a=x, b=w, m=low.count(x) // k, n=n, k=k)
            return
        if is_depthwise(window, w):
            lower_depthwise(low, "depthwise", item, window, x, y=item.output, x=x, w=w)
            return
        phase = forward_phase(window, x.shape[1:3])
        _lower(low, item, x, w, phase, window.strides, (1, 1), window.groups, turned=False)


class _ByInput(Operation):
    """The gradient by x (or a transposed convolution). Inputs: dy, w. Attributes: ``window``, ``image``: x's height and
    width."""

    def __init__(self, name: str, strided: bool):
        super().__init__(name)
        self.takes_steps = not strided  # with strides, the kernel writes every second pixel, say

    def infer(self, node):
        dy, w = node.inputs
        window: Window = node.attributes["window"]
        expected = (*window.places(node.attributes["image"]), w.shape[3])
        if dy.rank != 4 or w.rank != 4 or dy.shape[1:] != expected:
            raise ValueError(f"{label(node)}: expected samples of shape {expected}, got {dy.shape[1:]}")
        return [(dy.shape[0], *node.attributes["image"], w.shape[2] * window.groups)]

    def gradient(self, node, upstreams, needs):
        (upstream,) = upstreams
        dy, w = node.inputs
        window = node.attributes["window"]
        back = conv(upstream, w, window) if needs[0] else None
        dw = conv_by_weight(upstream, dy, window) if needs[1] else None
        return [back, dw]

    def lower(self, item, low):
        dy, w = item.node.inputs
        window: Window = item.node.attributes["window"]
        if window.is_point:
            k, n = w.shape[2:]
            low.gemm(item, a=dy, b=w, m=low.count(dy) // n, n=k, k=n, b_turned=True)
            return
        if is_depthwise(window, w):
            if window.strides == (1, 1):
                lower_depthwise(low, "depthwise", item, turned(window), dy, flipped=1, y=item.output, x=dy, w=w)
            else:
                lower_depthwise(low, "depthwise_input_grad", item, window, item.node.output, dx=item.output, dy=dy, w=w)
            return
        for phase in gradient_phases(window, item.node.attributes["image"]):
            _lower(low, item, dy, w, phase, (1, 1), window.strides, window.groups, turned=True)


def _lower(
    low, item, x: Tensor, w: Tensor, phase: Phase, strides: Pair, steps: Pair, groups: int, turned: bool
) -> None:
    """One call of a kernel: windows on ``x`` every ``strides``, results on every ``steps``-th pixel of the output."""
    _, height, width, channels = x.concrete(1)
    _, high_out, wide_out, cout = item.node.output.concrete(1)
    *_, inputs, outputs = w.concrete(1)
    rows, columns = phase.count
    order = np.array([place for *_, place in phase.taps], np.int64)
    arguments = dict(
        y=item.output, x=x, batch=low.batch, height=height, width=width, c=channels, oi=rows, oj=columns, k=cout,
        pt=phase.before[0], pl=phase.before[1],
    )  # fmt: skip
    packing = dict(w=w, order=order, cin=inputs * groups, cout=outputs, turned=int(turned), of_parameters=True)
    places = [tap[:2] for tap in phase.taps]
    if strides == steps == (1, 1) and groups == 1 and _is_for_winograd(low, places, phase.count, channels, cout):
        _lower_winograd(low, item, arguments, packing)
        return
    depth = len(order) * channels // groups
    packed = low.scratch(groups * _panel_columns(cout // groups, low.dtype) * max(1, depth) * low.dtype.itemsize)
    low.call("conv_pack", out=packed, places=len(order), groups=groups, work=2 * depth * cout, **packing)
    taps = [(row, column, position) for position, (row, column, _) in enumerate(phase.taps)]
    plan = clipped(taps, (height, width), channels, phase.count, strides, phase.before, groups)
    read = strides[0] * width * channels  # elements that come with a row
    bands = max(1, min(rows, max(-(-rows * read // _BAND), -(-_UNITS // max(1, low.batch)))))
    if steps == (1, 1):
        arguments.update(low.gathered(item.output, np.tile(shares(rows, bands) * columns, low.batch)))
    arguments.update(
        w=packed, yh=high_out, yw=wide_out, osh=steps[0], osw=steps[1], oph=phase.first[0], opw=phase.first[1],
        sh=strides[0], sw=strides[1], stretches=len(plan["columns"]),
        kinds=int(plan["columns"][:, 2].max(initial=-1)) + 1, depth=depth, groups=groups, bands=bands,
        block=max(1, _BAND * bands // max(1, rows * read)), **plan,
    )  # fmt: skip
    low.kernel("conv", 2 * low.batch * rows * columns * depth * cout, arguments, item.steps, cout)


def _is_for_winograd(low, taps: Sequence[Pair], count: Pair, channels: int, cout: int) -> bool:
    """Windows of 3 x 3, whole vectors of channels, and enough squares."""
    lanes = kernels.family("winograd", low.dtype).LANES
    return (
        list(taps) == [(i, j) for i in range(3) for j in range(3)]
        and channels % lanes == cout % lanes == 0 < channels
        and low.batch * -(-count[0] // 2) * -(-count[1] // 2) >= _MINIMAL
    )


def _lower_winograd(low, item, arguments: dict[str, Any], packing: dict[str, Any]) -> None:
    core, size = kernels.family("winograd", low.dtype), low.dtype.itemsize
    channels, cout, columns = arguments["c"], arguments["k"], arguments["oj"]
    packed = low.scratch(16 * channels * cout * size)
    low.call("winograd_pack", out=packed, work=16 * channels * cout, **packing)
    high, wide = -(-arguments["oi"] // 2), -(-columns // 2)  # squares
    each = channels + min(cout, 2 * core.LANES)  # elements of a square for each of its 16 numbers
    bands = min(high, max(-(-high * wide * each // _SQUARES), -(-_UNITS // max(1, low.batch))))
    counts = 2 * shares(high, bands)
    counts[-1] -= arguments["oi"] % 2
    arguments.update(low.gathered(item.output, np.tile(counts * columns, low.batch)))
    share = 16 * (-(-high // bands) * wide * each + 2 * core.LINE)
    arguments.update(w=packed, bands=bands, workspace=low.scratch(0), share=share)
    work = 2 * low.batch * high * wide * 16 * channels * cout
    low.kernel("winograd", work, arguments, item.steps, cout)


def _lower_winograd_sums(low, item, x: Tensor, dy: Tensor, window: Window) -> None:
    core, size = kernels.family("winograd", low.dtype), low.dtype.itemsize
    _, height, width, c = x.concrete(1)
    _, rows, columns, k = dy.concrete(1)
    high, wide = -(-rows // 2), -(-columns // 2)
    chunks = min(low.batch, _UNITS if c * k <= _SUMS // 4 else _UNITS // 2)
    bands = min(high, -(-high * wide * (c + k) // _SQUARES))
    sums = low.scratch(chunks * 16 * c * k * size)
    share = 16 * (-(-high // bands) * wide * (c + k) + 2 * core.LINE)
    arguments = dict(
        sums=sums, x=x, dy=dy, workspace=low.scratch(0), batch=low.batch, height=height, width=width, c=c, oi=rows,
        oj=columns, k=k, pt=window.before[0], pl=window.before[1], chunks=chunks, bands=bands, share=share,
    )  # fmt: skip
    low.kernel("winograd_weight_sums", 2 * low.batch * high * wide * 16 * c * k, arguments)
    low.call("winograd_weight_grad", dw=item.output, sums=sums, cin=c, cout=k, chunks=chunks, work=4 * chunks * c * k)


def is_depthwise(window: Window, w: Tensor) -> bool:
    """Each channel has one kernel of its own."""
    *_, inputs, outputs = w.concrete(1)
    return inputs == 1 and outputs == window.groups > 1


def lower_depthwise(low, kernel: str, item, window: Window, image: Tensor, **arguments) -> None:
    """``image``: what the windows lie on."""
    _, height, width, channels = image.concrete(1)
    rows, columns = window.places((height, width))
    steps = {"steps": item.steps, "step_ld": channels} if kernel == "depthwise" else {}
    low.call(
        kernel, batch=low.batch, height=height, width=width, c=channels, oh=rows, ow=columns, kh=window.size[0],
        kw=window.size[1], sh=window.strides[0], sw=window.strides[1], dilation_h=window.dilation[0],
        dilation_w=window.dilation[1], pt=window.before[0], pl=window.before[1],
        work=low.batch * rows * columns * channels * prod(window.size) // 4, **steps, **arguments,
    )  # fmt: skip


def _panel_columns(columns: int, dtype) -> int:
    """Columns of the panels that conv_pack makes of so many: two vectors each, the last perhaps one."""
    lanes = kernels.family("conv", dtype).LANES
    return -(-columns // lanes) * lanes


class _ByWeight(Operation):
    """The gradient by w. Inputs: x, dy. Attributes: ``window``."""

    name = "conv_by_weight"
    is_gradient = True

    def infer(self, node):
        x, dy = node.inputs
        window: Window = node.attributes["window"]
        return [(*window.size, x.shape[3] // window.groups, dy.shape[3])]

    def lower(self, item, low):
        x, dy = item.node.inputs
        window: Window = item.node.attributes["window"]
        height, width, c = x.shape[1:]
        rows, columns, k = dy.shape[1:]
        if window.is_point:
            low.gemm(item, a=x, b=dy, m=c, n=k, k=low.count(x) // c, a_turned=True)
            return
        if is_depthwise(window, item.node.output):
            lower_depthwise(low, "depthwise_weight_grad", item, window, x, dw=item.output, x=x, dy=dy)
            return
        each_pixel = window.strides == window.dilation == (1, 1) and window.groups == 1
        if (
            each_pixel
            and c * k <= _SUMS
            and _is_for_winograd(low, list(np.ndindex(*window.size)), (rows, columns), c, k)
        ):
            _lower_winograd_sums(low, item, x, dy, window)
            return
        core, groups = kernels.family("conv", low.dtype), window.groups
        wide = (columns - 1) * window.strides[1] + window.extent(1)
        merged = c < _FEW and window.dilation[1] == 1 and groups == 1
        lanes = -(-(k // groups) // core.LANES) * core.LANES * groups
        copies_dy = (k // groups) % core.LANES != 0

        def copied(images: int, band: int) -> int:
            """Elements that are copied at a time."""
            rows_x = (band - 1) * window.strides[0] + window.extent(0)
            return images * ((rows_x * wide * c if merged else 0) + (band * columns * lanes if copies_dy else 0))

        row = window.strides[0] * width * c + columns * k  # of both images
        group = max(1, min(low.batch, -(-_PIXELS // (rows * columns)), _PART // (rows * row)))
        band = rows if rows * row <= _PART else max(1, _PART // row)
        length, runs = (window.size[1] * c, window.size[0]) if merged else (c // groups, prod(window.size))
        panels = -(-(k // groups) // (2 * core.LANES))
        most = core.TALL if k // groups <= core.LANES else core.PIXELS
        units = runs * -(-length // most) * groups * panels
        chunks = max(1, min(low.batch, -(-_UNITS // units)))
        out, size = item.output, low.count(item.output)
        target = out if chunks == 1 else low.scratch(chunks * size * low.dtype.itemsize)
        arguments = dict(
            dw=target, x=x, dy=dy, batch=low.batch, height=height, width=width, c=c, oh=rows, ow=columns, k=k,
            kh=window.size[0], kw=window.size[1], sh=window.strides[0], sw=window.strides[1],
            dilation_h=window.dilation[0], dilation_w=window.dilation[1], pt=window.before[0], pl=window.before[1],
            chunks=chunks, group=group, band=band, merged=int(merged), groups=groups,
        )  # fmt: skip
        if share := copied(group, band):
            arguments.update(workspace=low.scratch(0), share=share)
        low.kernel("conv_weight_grad", 2 * low.batch * rows * columns * size, arguments)
        if chunks > 1:
            low.reduce_middle("sum", out, target, 1, chunks, size)


_CONV = _Conv()
_BY_INPUT = {False: _ByInput("conv_by_input", False), True: _ByInput("conv_by_input_strided", True)}
_BY_WEIGHT = _ByWeight()


def conv(x: Tensor, w: Tensor, window: Window) -> Tensor:
    """x (batch, height, width, channels in) convolved with w (kh, kw, channels in / groups, channels out)."""
    return apply(_CONV, [x, w], window=window)


def conv_by_input(dy: Tensor, w: Tensor, image: Sequence[int], window: Window) -> Tensor:
    """Transposed convolution: the gradient of ``conv`` by an x of this height and width, from that by its result."""
    strided = window.strides != (1, 1)
    return apply(_BY_INPUT[strided], [dy, w], window=window, image=tuple(image))


def conv_by_weight(x: Tensor, dy: Tensor, window: Window) -> Tensor:
    """The gradient of ``conv`` by w, from that by its result."""
    return apply(_BY_WEIGHT, [x, dy], window=window)
