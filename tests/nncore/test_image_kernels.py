"""The kernels of images but for convolutions against reference_images.py: values, untouched memory, the same bits for
any number of threads."""

import numpy as np
import pytest
from guards import GUARD, guarded

from nncore import Op, Program, Step, new_state, reference_images, reference_steps, set_num_threads
from nncore.memory import DRAW

# batch, height, width, channels, size, strides, before, after
POOLS = {
    "2x2": (3, 6, 8, 17, (2, 2), (2, 2), (0, 0), (0, 0)),
    "2x2 with a rest": (2, 7, 5, 3, (2, 2), (2, 2), (0, 0), (0, 0)),
    "2x2 with half a window": (2, 7, 5, 16, (2, 2), (2, 2), (0, 0), (1, 1)),
    "overlapping": (2, 7, 9, 33, (3, 3), (2, 1), (1, 1), (1, 1)),
    "apart": (1, 9, 9, 4, (2, 2), (3, 3), (0, 0), (0, 0)),
    "whole": (2, 4, 3, 20, (4, 3), (1, 1), (0, 0), (0, 0)),
    "one": (1, 1, 1, 1, (1, 1), (1, 1), (0, 0), (0, 0)),
}


@pytest.mark.parametrize("case", POOLS)
def test_pools(case, isa, dtype, rng, every_thread_count, run, close):
    batch, height, width, c, size, strides, before, after = POOLS[case]
    places = tuple(
        (n + b + a - s) // t + 1 for n, b, a, s, t in zip((height, width), before, after, size, strides, strict=True)
    )
    x = rng.integers(0, 9, (batch, height, width, c)).astype(dtype)  # with equal numbers in a window
    dy = rng.normal(size=(batch, *places, c)).astype(dtype)
    sizes = dict(
        batch=batch, height=height, width=width, c=c, oh=places[0], ow=places[1], kh=size[0], kw=size[1], sh=strides[0],
        sw=strides[1], pt=before[0], pl=before[1],
    )  # fmt: skip
    window = dict(size=size, strides=strides, before=before)
    largest = reference_images.max_pool(x, places=places, **window)
    bias, other = rng.normal(size=c).astype(dtype), rng.normal(size=x.shape).astype(dtype)

    def compute(threads):
        kind = dict(dtype=dtype, isa=isa, threads=threads, **sizes)
        made, checks = zip(
            *(guarded(s, dtype) for s in (dy.shape, x.shape, dy.shape, x.shape, dy.shape, x.shape)), strict=True
        )
        run("max_pool", y=made[0], x=x, steps=[Step("add", p=bias)], **kind)
        run("max_pool_grad", dx=made[1], dy=dy, x=x, y=largest, steps=[Step("mul", p=other)], **kind)
        run("average_pool", y=made[2], x=x, **kind)
        run("average_pool_grad", dx=made[3], dy=dy, **kind)
        run("average_pool", y=made[4], x=x, scale=0.5, **kind)
        run("average_pool_grad", dx=made[5], dy=dy, scale=0.5, **kind)
        for check in checks:
            check()
        return made

    made = every_thread_count(compute)
    image = (height, width)
    close(made[0], largest + bias)
    close(made[1], reference_images.max_pool_grad(dy, x, largest, **window) * other, 9)
    close(made[2], reference_images.average_pool(x, places=places, **window), 9)
    close(made[3], reference_images.average_pool_grad(dy, image, **window), 9)
    close(made[4], reference_images.average_pool(x, places=places, scale=0.5, **window), 99)
    close(made[5], reference_images.average_pool_grad(dy, image, scale=0.5, **window), 9)


@pytest.mark.parametrize("case", ("2x2 with half a window", "overlapping", "whole"))
def test_max_pool_keeps_nan(case, isa, dtype, rng, every_thread_count, run):
    """A window with NaN gives NaN, whose gradient goes to it; infinities are numbers."""
    batch, height, width, c, size, strides, before, after = POOLS[case]
    places = tuple(
        (n + b + a - s) // t + 1 for n, b, a, s, t in zip((height, width), before, after, size, strides, strict=True)
    )
    x = rng.integers(0, 9, (batch, height, width, c)).astype(dtype)
    for value in (np.nan, np.inf, -np.inf):
        x[rng.random(x.shape) < 0.03] = value
    assert np.isnan(x).any()
    dy = rng.normal(size=(batch, *places, c)).astype(dtype)
    window = dict(size=size, strides=strides, before=before)
    largest = reference_images.max_pool(x, places=places, **window)
    sizes = dict(
        batch=batch, height=height, width=width, c=c, oh=places[0], ow=places[1], kh=size[0], kw=size[1], sh=strides[0],
        sw=strides[1], pt=before[0], pl=before[1], dtype=dtype, isa=isa,
    )  # fmt: skip

    def compute(threads):
        y, dx = np.empty_like(dy), np.empty_like(x)
        run("max_pool", y=y, x=x, threads=threads, **sizes)
        run("max_pool_grad", dx=dx, dy=dy, x=x, y=largest, threads=threads, **sizes)
        return y, dx

    y, dx = every_thread_count(compute)
    np.testing.assert_array_equal(y, largest)
    np.testing.assert_allclose(dx, reference_images.max_pool_grad(dy, x, largest, **window), rtol=1e-5, atol=1e-5)


def test_place(isa, dtype, rng, run):
    x = rng.normal(size=(2, 4, 5, 3)).astype(dtype)
    for top, left, high, wide in (
        (0, 0, 4, 5),
        (1, 2, 7, 9),
        (-1, -2, 2, 3),
        (2, -1, 9, 2),
        (-9, 0, 3, 3),
        (5, 6, 4, 4),
    ):
        y, check = guarded((2, high, wide, 3), dtype)
        sizes = dict(batch=2, height=4, width=5, c=3, oh=high, ow=wide, top=top, left=left)
        run("place", y=y, x=x, dtype=dtype, isa=isa, threads=3, **sizes)
        check()
        np.testing.assert_array_equal(y, reference_images.place(x, top, left, high, wide))


# batch, height, width, channels, size, strides, dilation, before, after
DEPTHWISE = {
    "3x3": (2, 7, 13, 20, (3, 3), (1, 1), (1, 1), (1, 1), (1, 1)),
    "strides": (2, 9, 14, 16, (3, 3), (2, 2), (1, 1), (0, 0), (1, 1)),
    "dilated": (1, 9, 9, 5, (3, 2), (1, 1), (2, 3), (2, 1), (2, 2)),
    "valid": (2, 6, 12, 33, (2, 5), (1, 2), (1, 1), (0, 0), (0, 0)),
    "tall": (1, 3, 1, 2, (3, 1), (1, 1), (1, 1), (1, 0), (1, 0)),
}


@pytest.mark.parametrize("case", DEPTHWISE)
def test_depthwise(case, isa, dtype, rng, every_thread_count, run, close):
    batch, height, width, c, size, strides, dilation, before, after = DEPTHWISE[case]
    places = tuple(
        (n + b + a - (s - 1) * d - 1) // t + 1
        for n, b, a, s, d, t in zip((height, width), before, after, size, dilation, strides, strict=True)
    )
    x, w = rng.normal(size=(batch, height, width, c)).astype(dtype), rng.normal(size=(*size, c)).astype(dtype)
    dy, bias = rng.normal(size=(batch, *places, c)).astype(dtype), rng.normal(size=c).astype(dtype)
    sizes = dict(
        batch=batch, height=height, width=width, c=c, oh=places[0], ow=places[1], kh=size[0], kw=size[1], sh=strides[0],
        sw=strides[1], dilation_h=dilation[0], dilation_w=dilation[1], pt=before[0], pl=before[1],
    )  # fmt: skip

    def compute(threads):
        kind = dict(dtype=dtype, isa=isa, threads=threads, **sizes)
        made, checks = zip(*(guarded(shape, dtype) for shape in (dy.shape, x.shape, w.shape, dy.shape)), strict=True)
        run("depthwise", y=made[0], x=x, w=w, steps=[Step("add", p=bias)], **kind)
        run("depthwise_input_grad", dx=made[1], dy=dy, w=w, **kind)
        run("depthwise_weight_grad", dw=made[2], x=x, dy=dy, **kind)
        run("depthwise", y=made[3], x=x, w=w, flipped=1, **kind)
        for check in checks:
            check()
        return made

    made = every_thread_count(compute)
    grouped, window = w.reshape(*size, 1, c), dict(strides=strides, before=before, dilation=dilation)
    close(made[0], reference_images.conv(x, grouped, places, c, **window) + bias, w[..., 0].size)
    close(made[1], reference_images.conv_input_grad(dy, grouped, (height, width), groups=c, **window), w[..., 0].size)
    expected = reference_images.conv_weight_grad(x, dy, size, c, **window).reshape(w.shape)
    close(made[2], expected, batch * np.prod(places))
    close(made[3], reference_images.conv(x, grouped[::-1, ::-1], places, c, **window), w[..., 0].size)


@pytest.mark.parametrize("rows, cols, parts", [(1, 1, 1), (7, 3, 2), (64, 16, 5), (65, 17, 64), (300, 40, 9)])
def test_moments(rows, cols, parts, isa, dtype, rng, every_thread_count, run, close):
    x, dy = rng.normal(3, 2, (rows, cols)).astype(dtype), rng.normal(size=(rows, cols)).astype(dtype)
    gamma, beta, moving_mean, moving_variance = rng.uniform(0.5, 2, (4, cols)).astype(dtype)
    size = dict(rows=rows, cols=cols, parts=parts)
    counts = np.array([len(part) for part in np.array_split(np.arange(rows), parts)])

    def compute(threads):
        kind = dict(dtype=dtype, isa=isa, threads=threads, **size)
        partial, slopes = (np.full((parts, 2, cols), GUARD, dtype) for _ in range(2))
        scale, shift, mean, rstd, dgamma, dbeta = np.full((6, cols), GUARD, dtype)
        moved = [moving_mean.copy(), moving_variance.copy()]
        factors = np.full((3, cols), GUARD, dtype)
        run("moments", partial=partial, x=x, **kind)
        run(
            "batch_norm_scale", scale=scale, shift=shift, mean=mean, rstd=rstd, moving_mean=moved[0],
            moving_variance=moved[1], partial=partial, counts=counts, gamma=gamma, beta=beta, epsilon=1e-3,
            momentum=0.9, **kind,
        )  # fmt: skip
        run("gradient_moments", partial=slopes, dy=dy, x=x, mean=mean, rstd=rstd, **kind)
        run(
            "batch_norm_grad_scale", factors=factors, dgamma=dgamma, dbeta=dbeta, partial=slopes, gamma=gamma,
            mean=mean, rstd=rstd, **kind,
        )  # fmt: skip
        return [partial, scale, shift, mean, rstd, *moved, slopes, factors, dgamma, dbeta]

    got = every_thread_count(compute)
    wide = [a.astype(np.float64) for a in (x, dy, gamma, beta, moving_mean, moving_variance)]
    partial = reference_images.moments(wide[0], parts)
    scaled = reference_images.batch_norm_scale(partial, counts, *wide[2:], 1e-3, 0.9)
    slopes = reference_images.gradient_moments(wide[1], wide[0], scaled[2], scaled[3], parts)
    graded = reference_images.batch_norm_grad_scale(slopes, rows, wide[2], scaled[2], scaled[3])
    for a, b in zip(got, [partial, *scaled, slopes, *graded], strict=True):
        scale = max(1.0, np.abs(b).max())
        close(a / scale, b / scale, 40 * rows)


@pytest.mark.parametrize("pixels, cols, groups", [(1, 4, 2), (9, 6, 3), (5, 17, 17), (12, 40, 1)])
def test_group_norm(pixels, cols, groups, isa, dtype, rng, every_thread_count, run, close):
    x, dy = rng.normal(1, 2, (3, pixels, cols)).astype(dtype), rng.normal(size=(3, pixels, cols)).astype(dtype)
    gamma, beta = rng.uniform(0.5, 2, (2, cols)).astype(dtype)

    def compute(threads):
        kind = dict(batch=3, pixels=pixels, cols=cols, groups=groups, dtype=dtype, isa=isa, threads=threads)
        workspace = np.full(3 * cols * threads, np.nan, dtype)
        (y, check), (dx, check_dx) = guarded(x.shape, dtype), guarded(x.shape, dtype)
        mean, rstd = np.full((2, 3, groups), GUARD, dtype)
        partial = np.full((3, 2, cols), GUARD, dtype)
        run(
            "group_norm", y=y, x=x, gamma=gamma, beta=beta, mean=mean, rstd=rstd, workspace=workspace, share=2 * cols,
            epsilon=1e-3, steps=[Step("relu")], **kind,
        )  # fmt: skip
        run(
            "group_norm_grad", dx=dx, partial=partial, dy=dy, x=x, gamma=gamma, mean=mean, rstd=rstd,
            workspace=workspace, share=3 * cols, **kind,
        )  # fmt: skip
        check()
        check_dx()
        return [y, mean, rstd, dx, partial]

    y, mean, rstd, dx, partial = every_thread_count(compute)
    x64, dy64, gamma64, beta64 = (a.astype(np.float64) for a in (x, dy, gamma, beta))
    expected = reference_images.group_norm(x64, groups, gamma64, beta64, 1e-3)
    close(y, np.maximum(expected[0], 0), 2000)
    close(mean, expected[1], 100)
    close(rstd, expected[2], 2000)
    for a, b in zip(
        (dx, partial), reference_images.group_norm_grad(dy64, x64, groups, gamma64, *expected[1:]), strict=True
    ):
        close(a, b, 5000)


def test_channel_dropout(isa, dtype, rng, every_thread_count):
    x = rng.normal(size=(5, 7, 21)).astype(dtype)
    state = new_state(seed=9)
    state[DRAW] = 4

    def compute(threads):
        y, check = guarded(x.shape, dtype)
        workspace = np.full(21 * threads, np.nan, dtype)
        sizes = dict(batch=5, pixels=7, cols=21, index=2, share=21)
        kind = dict(rate=0.4, scale=1 / 0.6, dtype=dtype, isa=isa, threads=threads)
        set_num_threads(threads)
        op = Op("channel_dropout", y=y, x=x, state=state, workspace=workspace, **sizes, **kind)
        Program([op], state.copy()).run()
        check()
        return [y]

    (y,) = every_thread_count(compute)
    keep = reference_steps.dropout_mask(5, 21, 21, 2, 0.4, state)
    assert 0 < keep.mean() < 1
    np.testing.assert_allclose(y, reference_images.channel_dropout(x, keep, 1 / 0.6), rtol=1e-6)
