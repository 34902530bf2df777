"""Cases of the kernels of images, at sizes of real layers."""

import numpy as np

import nncore
from bench.case import Case, empty, normal
from nncore import kernels, reference_images, reference_steps
from nncore.kernels.signatures import SOURCES
from nncore.memory import INDICES, SLOTS
from nncore.windows import clipped

BATCH, SIDE, CHANNELS, FILTERS = 16, 16, 32, 64
_IMAGE = dict(batch=BATCH, height=SIDE, width=SIDE, c=CHANNELS)
_SAME = dict(oh=SIDE, ow=SIDE, kh=3, kw=3, sh=1, sw=1, pt=1, pl=1)  # windows of 3 x 3 on every pixel
_HALVES = dict(oh=SIDE // 2, ow=SIDE // 2, kh=2, kw=2, sh=2, sw=2)  # windows of 2 x 2 beside each other


def image_cases():
    yield _gather()
    yield from _convolutions()
    yield from _depthwise()
    yield from _pools()
    yield from _normalizations()


def _gather():
    """A batch of CIFAR's images, cut out, mirrored and normalized."""
    numbers = np.random.default_rng(0)
    x, order = numbers.integers(0, 256, (2000, 32, 32, 3), dtype=np.uint8), numbers.permutation(2000)
    out, state, shift = empty((BATCH, 32, 32, 3)), nncore.new_state(0), 2.0
    state[SLOTS], state[INDICES] = x.ctypes.data, order.ctypes.data
    rows = [np.full((32, 3), value, np.float32) for value in (1 / 60, -shift)]
    arguments = dict(
        out=out, state=state, scale=rows[0], shift=rows[1], rows=BATCH, height=32, width=32, c=3, oh=32, ow=32,
        row_stride=x.strides[0], source=SOURCES.index("uint8"), pad_h=4, pad_w=4, augment=1, flip=1,
    )  # fmt: skip

    def same():
        places = reference_images.image_places(order[:BATCH], 0, 0, (9, 9))
        return reference_images.gather_image(x[order[:BATCH]], (32, 32), (4, 4), 1 / 60, -shift, np.float32, places)

    return Case("gather_image", arguments, same, keep=(x, order))


def _convolutions():
    core = kernels.family("conv")
    places, before = (SIDE, SIDE), dict(before=(1, 1))
    x, dy = normal(BATCH, SIDE, SIDE, CHANNELS), normal(BATCH, SIDE, SIDE, FILTERS)
    w, y, dw = normal(3, 3, CHANNELS, FILTERS), empty(dy.shape), empty((3, 3, CHANNELS, FILTERS))
    order = np.arange(9)
    packed = reference_images.conv_pack(w, order, core.LANES)
    taps = [(i, j, 3 * i + j) for i in range(3) for j in range(3)]
    plan = clipped(taps, places, CHANNELS, places, before=(1, 1))
    work = 2 * w.size * BATCH * SIDE * SIDE
    yield Case(
        "conv_pack", dict(out=empty(packed.shape), w=w, order=order, places=9, cin=CHANNELS, cout=FILTERS, groups=1),
        lambda: reference_images.conv_pack(w, order, core.LANES),
    )  # fmt: skip
    yield Case(
        "conv",
        dict(
            y=y, x=x, w=packed, oi=SIDE, oj=SIDE, k=FILTERS, yh=SIDE, yw=SIDE, osh=1, osw=1, sh=1, sw=1, pt=1, pl=1,
            stretches=3, kinds=3, depth=9 * CHANNELS, groups=1, bands=1, block=4, **plan, **_IMAGE,
        ),
        lambda: reference_images.conv(x, w, places, **before), work=work,
    )  # fmt: skip
    numbers = reference_images.winograd_pack(w, order, core.LANES)
    square = CHANNELS + 2 * core.LANES
    share = 16 * (SIDE // 2 * SIDE // 2 * square + 32)
    yield Case(
        "winograd_pack", dict(out=empty(numbers.shape), w=w, order=order, cin=CHANNELS, cout=FILTERS),
        lambda: reference_images.winograd_pack(w, order, core.LANES),
    )  # fmt: skip
    yield Case(
        "winograd",
        dict(
            y=y, x=x, w=numbers, workspace=empty(share), share=share, oi=SIDE, oj=SIDE, k=FILTERS, pt=1, pl=1, bands=1,
            **_IMAGE,
        ),
        lambda: reference_images.conv(x, w, places, **before), work=work,
    )  # fmt: skip
    sums = empty((2, 16, CHANNELS, FILTERS))
    share = 16 * (SIDE // 2 * SIDE // 2 * (CHANNELS + FILTERS) + 32)
    yield Case(
        "winograd_weight_sums",
        dict(
            sums=sums, x=x, dy=dy, workspace=empty(share), share=share, oi=SIDE, oj=SIDE, k=FILTERS, pt=1, pl=1,
            chunks=2, bands=1, **_IMAGE,
        ),
        lambda: reference_images.conv_weight_grad(x, dy, (3, 3), **before), work=work,
    )  # fmt: skip
    numbers_of = normal(2, 16, CHANNELS, FILTERS)
    yield Case(
        "winograd_weight_grad", dict(dw=dw, sums=numbers_of, cin=CHANNELS, cout=FILTERS, chunks=2),
        lambda: reference_images.winograd_weights(numbers_of.sum(0)),
    )  # fmt: skip
    yield Case(
        "conv_weight_grad",
        dict(
            dw=dw, x=x, dy=dy, k=FILTERS, dilation_h=1, dilation_w=1, chunks=1, group=1, band=SIDE, groups=1, **_IMAGE,
            **_SAME,
        ),
        lambda: reference_images.conv_weight_grad(x, dy, (3, 3), **before), work=work,
    )  # fmt: skip


def _depthwise():
    places, before = (SIDE, SIDE), dict(before=(1, 1))
    x, dy, w = normal(BATCH, SIDE, SIDE, CHANNELS), normal(BATCH, SIDE, SIDE, CHANNELS), normal(3, 3, CHANNELS)
    y, dw, of_groups = empty(x.shape), empty(w.shape), w.reshape(3, 3, 1, CHANNELS)
    sizes = dict(dilation_h=1, dilation_w=1, **_IMAGE, **_SAME)

    def taps(image, weights):
        """By products of whole images, which NumPy does faster than a matrix product for each channel."""
        parts = reference_images.views(image, (3, 3), places, **before)
        return sum(pixels * weights[i, j] for i, j, pixels in parts)

    def weight_taps():
        parts = reference_images.views(x, (3, 3), places, **before)
        return np.array([np.einsum("nhwc,nhwc->c", pixels, dy) for _, _, pixels in parts])

    np.testing.assert_allclose(taps(x, w), reference_images.conv(x, of_groups, places, CHANNELS, **before), atol=1e-4)
    yield Case("depthwise", dict(y=y, x=x, w=w, **sizes), lambda: taps(x, w), work=2 * x.size * 9)
    yield Case("depthwise_input_grad", dict(dx=y, dy=dy, w=w, **sizes), lambda: taps(dy, w[::-1, ::-1]))
    yield Case("depthwise_weight_grad", dict(dw=dw, x=x, dy=dy, **sizes), weight_taps)


def _pools():
    """Against NumPy on windows beside each other, where a reshaped image has them all."""
    half = SIDE // 2
    x, dy = normal(BATCH, SIDE, SIDE, CHANNELS), normal(BATCH, half, half, CHANNELS)
    y, dx, windows = empty(dy.shape), empty(x.shape), x.reshape(BATCH, half, 2, half, 2, CHANNELS)
    largest = windows.max((2, 4))
    spread = lambda a: np.broadcast_to(a[:, :, None, :, None], windows.shape)  # noqa: E731
    sizes = _IMAGE | _HALVES
    yield Case("max_pool", dict(y=y, x=x, **sizes), lambda: windows.max((2, 4)))
    yield Case(
        "max_pool_grad", dict(dx=dx, dy=dy, x=x, y=largest, **sizes),
        lambda: np.where(windows == spread(largest), spread(dy), np.float32(0)),
    )  # fmt: skip
    yield Case("average_pool", dict(y=y, x=x, **sizes), lambda: windows.mean((2, 4)))
    yield Case("average_pool_grad", dict(dx=dx, dy=dy, **sizes), lambda: np.ascontiguousarray(spread(dy / 4)))
    padded = empty((BATCH, SIDE + 2, SIDE + 2, CHANNELS))
    yield Case(
        "place", dict(y=padded, x=x, oh=SIDE + 2, ow=SIDE + 2, top=1, left=1, **_IMAGE),
        lambda: reference_images.place(x, 1, 1, SIDE + 2, SIDE + 2),
    )  # fmt: skip


def _normalizations():
    rows, parts, groups = BATCH * SIDE * SIDE, 32, 8
    x, dy, z = normal(rows, CHANNELS), normal(rows, CHANNELS), empty((rows, CHANNELS))
    gamma, beta, mean, variance = normal(CHANNELS), normal(CHANNELS), normal(CHANNELS), np.abs(normal(CHANNELS)) + 0.1
    partial, of_columns = empty((parts, 2, CHANNELS)), [empty(CHANNELS) for _ in range(4)]
    some, slopes = reference_images.moments(x, parts), reference_images.gradient_moments(dy, x, mean, variance, parts)
    counts = np.full(parts, rows // parts)
    moving, size = (mean.copy(), variance.copy()), dict(rows=rows, cols=CHANNELS, parts=parts)
    yield Case("moments", dict(partial=partial, x=x, **size), lambda: reference_images.moments(x, parts))
    yield Case(
        "batch_norm_scale",
        dict(
            scale=of_columns[0], shift=of_columns[1], mean=of_columns[2], rstd=of_columns[3], moving_mean=moving[0],
            moving_variance=moving[1], partial=some, counts=counts, gamma=gamma, beta=beta, epsilon=1e-3, momentum=0.99,
            **size,
        ),
        lambda: reference_images.batch_norm_scale(some, counts, gamma, beta, mean, variance, 1e-3, 0.99),
    )  # fmt: skip
    yield Case(
        "gradient_moments", dict(partial=partial, dy=dy, x=x, mean=mean, rstd=variance, **size),
        lambda: reference_images.gradient_moments(dy, x, mean, variance, parts),
    )  # fmt: skip
    yield Case(
        "batch_norm_grad_scale",
        dict(
            factors=empty((3, CHANNELS)), dgamma=of_columns[0], dbeta=of_columns[1], partial=slopes, gamma=gamma,
            mean=mean, rstd=variance, **size,
        ),
        lambda: reference_images.batch_norm_grad_scale(slopes, rows, gamma, mean, variance),
    )  # fmt: skip
    images, gradients = (a.reshape(BATCH, SIDE * SIDE, CHANNELS) for a in (x, dy))
    of_groups = [normal(BATCH, groups) for _ in range(2)]
    norm = dict(batch=BATCH, pixels=SIDE * SIDE, cols=CHANNELS, groups=groups, gamma=gamma)
    kept = dict(mean=of_groups[0].copy(), rstd=of_groups[1].copy(), workspace=empty(3 * CHANNELS))
    yield Case(
        "group_norm", dict(y=z, x=x, beta=beta, share=2 * CHANNELS, epsilon=1e-3, **kept, **norm),
        lambda: reference_images.group_norm(images, groups, gamma, beta, 1e-3),
    )  # fmt: skip
    yield Case(
        "group_norm_grad",
        dict(dx=z, partial=empty((BATCH, 2, CHANNELS)), dy=dy, x=x, share=3 * CHANNELS, **kept, **norm),
        lambda: reference_images.group_norm_grad(gradients, images, groups, gamma, *of_groups),
    )  # fmt: skip
    state = nncore.new_state(5)
    yield Case(
        "channel_dropout",
        dict(
            y=z, x=x, state=state, workspace=empty(CHANNELS), batch=BATCH, pixels=SIDE * SIDE, cols=CHANNELS, index=1,
            share=CHANNELS, rate=0.2, scale=1.25,
        ),
        lambda: reference_images.channel_dropout(
            images, reference_steps.dropout_mask(BATCH, CHANNELS, CHANNELS, 1, 0.2, state), 1.25
        ),
    )  # fmt: skip
