"""Rows of the op table for images (batch, height, width, channels)."""

import itertools

import numpy as np
from optable import Row, batch_norm, normalized

from nncore import reference_images
from nnpy import ops
from nnpy.ops import Window


def expected_conv(x, w, window: Window):
    return reference_images.conv(
        x, w, window.places(x.shape[1:3]), window.groups, strides=window.strides, before=window.before,
        dilation=window.dilation,
    )  # fmt: skip


def _pool(kind, x, window):
    function = getattr(reference_images, kind)
    return function(x, window.size, window.places(x.shape[1:3]), window.strides, window.before)


def _group_norm(x, gamma, beta):
    flat = x.reshape(len(x), -1, x.shape[-1])
    return reference_images.group_norm(flat, 3, gamma, beta, 1e-3)[0].reshape(x.shape)


def _conv_block(x, w, b, other):
    """What a residual block ends in."""
    y = ops.activation(ops.add(ops.add(ops.conv(x, w, SAME), b), other), "relu")
    return ops.max_pool(y, Window((2, 2), (2, 2)))


def _expected_block(x, w, b, other):
    y = np.maximum(expected_conv(x, w, SAME) + b + other, 0)
    return _pool("max_pool", y, Window((2, 2), (2, 2)))


def _normalized_block(x, w, gamma, beta, w2, gamma2, beta2):
    """Both convolutions gather the moments, and the second one's gradient the sums for the first normalization's."""
    y = ops.activation(batch_norm(ops.conv(x, w, SAME), gamma, beta), "tanh")
    y = batch_norm(ops.conv(y, w2, SAME), gamma2, beta2)
    return ops.activation(ops.add(y, x), "tanh")


def _expected_normalized_block(x, w, gamma, beta, w2, gamma2, beta2):
    y = np.tanh(normalized(expected_conv(x, w, SAME), (0, 1, 2), gamma, beta))
    return np.tanh(normalized(expected_conv(y, w2, SAME), (0, 1, 2), gamma2, beta2) + x)


SAME = Window((3, 3), before=(1, 1), after=(1, 1))
WINDOWS = {
    "": SAME,
    " strides": Window((3, 2), (2, 3), before=(1, 0), after=(1, 1)),
    " dilated": Window((2, 3), dilation=(2, 1), before=(1, 1), after=(0, 1)),
    " of a point": Window((1, 1)),
}
_GROUPED = Window((3, 3), (2, 1), before=(1, 1), after=(1, 1), groups=3)
_IMAGES = dict(rtol=1e-4, atol=2e-5)
_ONE = (((2, 5, 6, 3),), ((1, 3, 3, 1),), ((2, 4, 4, 17),))
_POOLS = {"": Window((2, 2), (2, 2)), " overlapping": Window((3, 2), (2, 1), before=(1, 1), after=(1, 0))}
_RANK = ((((2, 3),), "batch, height, width, channels"),)


def _by_input(image):
    window = Window((3, 3), (2, 2), before=(0, 1), after=(1, 0))

    def expected(dy, w):
        return reference_images.conv_input_grad(dy, w, image, strides=window.strides, before=window.before)

    return lambda dy, w: ops.conv_by_input(dy, w, image, window), expected


TABLE = [
    *(
        Row(
            f"conv{name}", lambda x, w, window=window: ops.conv(x, w, window),
            lambda x, w, window=window: expected_conv(x, w, window),
            tuple(
                ((2, *image, c), (*window.size, c, k))
                for image, c, k in (((5, 6), 3, 4), ((3, 4), 1, 17), ((7, 19), 4, 33))
            ),
            **_IMAGES,
            bad=(
                (((2, 3), (*window.size, 3, 4)), "rank 4"),
                (((2, 5, 6, 3), (*window.size, 2, 4)), "expected 2 channels, got 3"),
            ),
        )
        for name, window in WINDOWS.items()
    ),
    Row(
        "conv groups", lambda x, w: ops.conv(x, w, _GROUPED), lambda x, w: expected_conv(x, w, _GROUPED),
        (((2, 5, 6, 6), (3, 3, 2, 9)), ((1, 4, 3, 3), (3, 3, 1, 3)), ((2, 4, 5, 9), (3, 3, 3, 51))), **_IMAGES,
        bad=((((2, 5, 6, 6), (3, 3, 2, 4)), "that 3 divides"),),
    ),
    Row(
        "conv depthwise", lambda x, w: ops.conv(x, w, Window((3, 3), before=(1, 1), after=(1, 1), groups=x.shape[-1])),
        lambda x, w: expected_conv(x, w, Window((3, 3), before=(1, 1), after=(1, 1), groups=x.shape[-1])),
        (((2, 5, 6, 4), (3, 3, 1, 4)), ((1, 4, 3, 17), (3, 3, 1, 17))), **_IMAGES,
    ),
    Row(
        "conv too small", lambda x, w: ops.conv(x, w, Window((3, 3))),
        lambda x, w: expected_conv(x, w, Window((3, 3))), (((2, 3, 3, 2), (3, 3, 2, 2)),), **_IMAGES,
        bad=((((2, 2, 5, 2), (3, 3, 2, 2)), "does not fit"),),
    ),
    Row(
        "conv_by_input", *_by_input((6, 7)), (((2, 3, 3, 4), (3, 3, 3, 4)), ((1, 3, 3, 17), (3, 3, 18, 17))),
        **_IMAGES, bad=((((2, 4, 3, 4), (3, 3, 3, 4)), "expected samples of shape"),),
    ),
    Row(
        "residual block with batch norm", _normalized_block, _expected_normalized_block,
        tuple(
            ((n, 5, 4, c), (3, 3, c, k), (k,), (k,), (3, 3, k, c), (c,), (c,))
            for n, c, k in ((3, 2, 3), (1, 5, 17), (2, 33, 2))
        ),
        rtol=1e-3, atol=1e-4,
    ),
    Row(
        "convolution, bias, residual, relu, pool", _conv_block, _expected_block,
        (((2, 4, 4, 3), (3, 3, 3, 5), (5,), (2, 4, 4, 5)),), **_IMAGES,
    ),
    *(
        Row(
            kind + name, lambda x, kind=kind, window=window: getattr(ops, kind)(x, window),
            lambda x, kind=kind, window=window: _pool(kind, x, window), _ONE, bad=_RANK,
        )
        for kind, (name, window) in itertools.product(("max_pool", "average_pool"), _POOLS.items())
    ),
    Row(
        "place", lambda x: ops.place(x, (1, 2), (0, 1)), lambda x: reference_images.place(x, 1, 2, *_grown(x, 1, 3)),
        _ONE, bad=_RANK,
    ),
    Row(
        "place less", lambda x: ops.place(x, (-1, 0), (0, -2)),
        lambda x: reference_images.place(x, -1, 0, *_grown(x, -1, -2)), _ONE,
        bad=((((2, 1, 5, 2),), "nothing is left"),),
    ),
    Row("repeat", lambda x: ops.repeat(x, (2, 3)), lambda x: x.repeat(2, 1).repeat(3, 2), _ONE),
    Row(
        "group_norm", lambda x, g, b: ops.group_norm(x, 3, g, b), _group_norm,
        (((2, 3, 4, 6), (6,), (6,)), ((3, 5, 21), (21,), (21,))), rtol=1e-3, atol=1e-4,
        bad=((((2, 3, 3, 4), (4,), (4,)), "that groups"), (((2, 3, 3, 6), (4,), (6,)), "expected x of shape")),
    ),
]  # fmt: skip


def _grown(x, rows, columns):
    return x.shape[1] + rows, x.shape[2] + columns
