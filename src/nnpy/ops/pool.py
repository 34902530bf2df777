"""Images (batch, height, width, channels): pooling over windows, padding, cropping, repeated pixels, dropped
channels."""

from __future__ import annotations

from nnpy.graph import Tensor, apply
from nnpy.ops.base import Operation, Stream, label
from nnpy.ops.geometry import Pair, Window


def _sizes(low, image: Tensor, window: Window) -> dict[str, int]:
    """The kernels' sizes; ``image`` is what the windows lie on."""
    _, height, width, channels = image.concrete(1)
    rows, columns = window.places((height, width))
    return dict(
        batch=low.batch, height=height, width=width, c=channels, oh=rows, ow=columns, kh=window.size[0],
        kw=window.size[1], sh=window.strides[0], sw=window.strides[1], pt=window.before[0], pl=window.before[1],
    )  # fmt: skip


class _Pool(Operation):
    """Attributes: ``window``; for the average, ``scale``: what the sum is multiplied by, 0 for the mean."""

    takes_steps = True

    def __init__(self, kind: str):
        super().__init__(f"{kind}_pool")
        self.kind = kind

    def infer(self, node):
        (x,) = node.inputs
        if x.rank != 4:
            raise ValueError(f"{label(node)}: expected images (batch, height, width, channels), got {x.shape}")
        window = node.attributes["window"]
        rows, columns = window.places(x.shape[1:3])
        if rows < 1 or columns < 1:
            raise ValueError(f"{label(node)}: a window of {window.size} does not fit into an image of {x.shape[1:3]}")
        return [(x.shape[0], rows, columns, x.shape[3])]

    def gradient(self, node, upstreams, needs):
        (upstream,) = upstreams
        (x,) = node.inputs
        if self.kind == "max":
            return [apply(_MAX_GRADIENT, [upstream, x, node.output], window=node.attributes["window"])]
        return [apply(_AVERAGE_GRADIENT, [upstream], image=x.shape[1:3], **node.attributes)]

    def lower(self, item, low):
        (x,) = item.node.inputs
        scale = {"scale": item.node.attributes["scale"]} if self.kind == "average" else {}
        low.call(
            self.name, y=item.output, x=x, work=low.count(x), steps=item.steps, step_ld=x.shape[3],
            **_sizes(low, x, item.node.attributes["window"]), **scale,
        )  # fmt: skip


class _MaxGradient(Operation):
    """The gradient goes to the first of the largest in each window. Inputs: dy, x, y."""

    name = "max_pool_gradient"
    is_gradient = True
    takes_steps = True

    def infer(self, node):
        return [node.inputs[1].shape]

    def lower(self, item, low):
        dy, x, y = item.node.inputs
        low.call(
            "max_pool_grad", dx=item.output, dy=dy, x=x, y=y, work=2 * low.count(x), steps=item.steps,
            step_ld=x.shape[3], **_sizes(low, x, item.node.attributes["window"]),
        )  # fmt: skip


class _AverageGradient(Operation):
    """Each place of a window gets its share; with strides, repeated pixels. Attributes: also ``image``, x's height and
    width."""

    name = "average_pool_gradient"
    takes_steps = True

    def infer(self, node):
        dy = node.inputs[0]
        return [(dy.shape[0], *node.attributes["image"], dy.shape[3])]

    def gradient(self, node, upstreams, needs):
        (upstream,) = upstreams
        window, scale = node.attributes["window"], node.attributes["scale"]
        return [apply(_AVERAGE, [upstream], window=window, scale=scale)]

    def lower(self, item, low):
        node = item.node
        low.call(
            "average_pool_grad", dx=item.output, dy=node.inputs[0], work=2 * low.count(node.output), steps=item.steps,
            step_ld=node.output.shape[3], scale=node.attributes["scale"],
            **_sizes(low, node.output, node.attributes["window"]),
        )  # fmt: skip


class _Place(Operation):
    """Zeros around an image, or (negative numbers) less of it. Attributes: ``before``, ``after``: pairs."""

    name = "place"

    def infer(self, node):
        (x,) = node.inputs
        if x.rank != 4:
            raise ValueError(f"{label(node)}: expected images (batch, height, width, channels), got {x.shape}")
        before, after = node.attributes["before"], node.attributes["after"]
        rows, columns = (x.shape[1 + a] + before[a] + after[a] for a in (0, 1))
        if rows < 1 or columns < 1:
            raise ValueError(f"{label(node)}: nothing is left of an image of {x.shape[1:3]}")
        return [(x.shape[0], rows, columns, x.shape[3])]

    def gradient(self, node, upstreams, needs):
        (upstream,) = upstreams
        before, after = node.attributes["before"], node.attributes["after"]
        return [apply(self, [upstream], before=(-before[0], -before[1]), after=(-after[0], -after[1]))]

    def lower(self, item, low):
        x, before = item.node.inputs[0], item.node.attributes["before"]
        _, height, width, channels = x.concrete(1)
        _, rows, columns, _ = item.node.output.concrete(1)
        low.call(
            "place", y=item.output, x=x, batch=low.batch, height=height, width=width, c=channels, oh=rows, ow=columns,
            top=before[0], left=before[1], work=low.count(item.output),
        )  # fmt: skip


class _ChannelDropout(Operation):
    """Dropout of whole channels (Tompson et al., CVPR 2015). Attributes: ``rate``, ``stream``: as those of dropout."""

    name = "channel_dropout"
    is_random = True

    def infer(self, node):
        return [node.inputs[0].shape]

    def inference(self, node, inputs):
        return None if node.attributes.get("always") else inputs[0]

    def gradient(self, node, upstreams, needs):
        (upstream,) = upstreams
        return [apply(self, [upstream], rate=node.attributes["rate"], stream=node.attributes["stream"])]

    def lower(self, item, low):
        node, x = item.node, item.node.inputs[0]
        cols, rate = x.shape[-1], node.attributes["rate"]
        low.call(
            self.name, y=item.output, x=x, state=low.state, workspace=low.scratch(0), batch=low.batch, share=cols,
            pixels=low.count(x) // (low.batch * cols), cols=cols, index=low.stream(node.attributes["stream"]),
            rate=rate, scale=1 / (1 - rate), work=low.count(x),
        )  # fmt: skip


_MAX = _Pool("max")
_AVERAGE = _Pool("average")
_MAX_GRADIENT = _MaxGradient()
_AVERAGE_GRADIENT = _AverageGradient()
_PLACE = _Place()
_CHANNEL_DROPOUT = _ChannelDropout()


def max_pool(x: Tensor, window: Window) -> Tensor:
    """The largest of each window; places outside the image do not count."""
    return apply(_MAX, [x], window=window)


def average_pool(x: Tensor, window: Window) -> Tensor:
    """The mean of each window's places inside the image."""
    return apply(_AVERAGE, [x], window=window, scale=0.0)


def place(x: Tensor, before: Pair, after: Pair) -> Tensor:
    """Zeros around each image: ``before`` and ``after`` (rows, columns); negative numbers crop it."""
    return apply(_PLACE, [x], before=tuple(before), after=tuple(after))


def repeat_pixels(x: Tensor, times: Pair) -> Tensor:
    """Each pixel ``times`` (down, across): nearest-neighbour enlargement."""
    image = (x.shape[1] * times[0], x.shape[2] * times[1])  # type: ignore[operator]
    return apply(_AVERAGE_GRADIENT, [x], window=Window(times, times), scale=1.0, image=image)


def channel_dropout(x: Tensor, rate: float, always: bool = False, seed: int | None = None) -> Tensor:
    """While training, whole channels of x (batch, ..., channels) are zero with probability ``rate``, in [0, 1).
    ``seed``: as in dropout."""
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"channel_dropout: expected a rate in [0, 1), got {rate}")
    return apply(_CHANNEL_DROPOUT, [x], rate=float(rate), stream=Stream(seed), always=bool(always)) if rate else x
