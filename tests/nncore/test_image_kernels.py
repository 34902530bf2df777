"""The kernels of images against reference_images.py: values, untouched memory, the same bits for any number of
threads."""

import numpy as np
import pytest

from nncore import Op, Program, Step, kernels, new_state, reference_images, reference_steps, set_num_threads
from nncore.memory import STEP
from nncore.windows import clipped

GUARD = 77.0


def guarded(shape, dtype):
    """An array with guards before and behind it, and a check that they are untouched."""
    whole = np.full(int(np.prod(shape)) + 64, GUARD, dtype)

    def check():
        assert (whole[:32] == GUARD).all() and (whole[-32:] == GUARD).all(), "memory around the result was written"

    return whole[32:-32].reshape(shape), check


@pytest.fixture
def close(dtype):
    def check(actual, expected, terms=1):
        """Within a few units in the last place of a sum of so many products of about 1."""
        assert actual.shape == expected.shape
        tolerance = (8 + np.sqrt(terms)) * np.finfo(dtype).eps
        np.testing.assert_allclose(actual, expected, rtol=4 * tolerance, atol=4 * tolerance * np.sqrt(terms))

    return check


# name: batch, height, width, channels, filters, size, strides, before, after, groups
CONVOLUTIONS = {
    "same 3x3": (3, 9, 8, 5, 7, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "valid, no zeros": (2, 9, 11, 3, 33, (3, 2), (1, 1), (0, 0), (0, 0), 1),
    "strides": (2, 10, 9, 4, 16, (3, 3), (2, 3), (0, 1), (1, 1), 1),
    "one pixel": (1, 1, 1, 1, 1, (1, 1), (1, 1), (0, 0), (0, 0), 1),
    "groups": (2, 6, 5, 6, 9, (3, 3), (1, 1), (1, 1), (1, 1), 3),
    "more zeros than image": (2, 2, 2, 3, 17, (5, 5), (1, 1), (2, 2), (2, 2), 1),
    "wide row": (1, 2, 61, 2, 65, (2, 3), (1, 1), (0, 1), (1, 1), 1),
}


class Convolution:
    """The arguments of the kernels for one of the above."""

    def __init__(self, case, dtype, isa, rng, threads=1):
        (
            self.batch, self.height, self.width, c, k, self.size, self.strides, self.before, after, self.groups
        ) = CONVOLUTIONS[case]  # fmt: skip
        self.x = rng.normal(size=(self.batch, self.height, self.width, c)).astype(dtype)
        self.w = rng.normal(size=(*self.size, c // self.groups, k)).astype(dtype)
        self.places = tuple(
            (n + b + a - s) // t + 1
            for n, b, a, s, t in zip(
                (self.height, self.width), self.before, after, self.size, self.strides, strict=True
            )
        )
        self.wide = (self.places[1] - 1) * self.strides[1] + self.size[1]
        self.dy = rng.normal(size=(self.batch, *self.places, k)).astype(dtype)
        self.window = dict(strides=self.strides, before=self.before)
        self.kind = dict(dtype=dtype, isa=isa, threads=threads)
        self.core = kernels.family("conv", dtype, isa)

    def sizes(self):
        return dict(batch=self.batch, height=self.height, width=self.width, c=self.x.shape[3])

    def forward(self, run, steps=(), bands=1, block=1, **sums):
        """``sums``: the arguments that ask for sums of the result's columns."""
        places, k = np.arange(np.prod(self.size)), self.w.shape[3]
        packed = reference_images.conv_pack(self.w, places, self.core.LANES, self.groups)
        out = np.full_like(packed, np.nan)
        cin = self.x.shape[3]
        sizes = dict(places=len(places), cin=cin, cout=k, groups=self.groups)
        run("conv_pack", out=out, w=self.w, order=places, **sizes, **self.kind)
        np.testing.assert_array_equal(out, packed)
        y, check = guarded(self.dy.shape, self.x.dtype)
        taps = [(i, j, place) for place, (i, j) in enumerate(np.ndindex(*self.size))]
        plan = clipped(taps, (self.height, self.width), cin, self.places, self.strides, self.before, self.groups)
        run(
            "conv", y=y, x=self.x, w=out, oi=self.places[0], oj=self.places[1], k=k, yh=self.places[0],
            yw=self.places[1], osh=1, osw=1, sh=self.strides[0], sw=self.strides[1], pt=self.before[0],
            pl=self.before[1], stretches=len(plan["columns"]), kinds=plan["columns"][:, 2].max() + 1,
            depth=len(places) * cin // self.groups, groups=self.groups, bands=min(bands, self.places[0]), block=block,
            steps=steps, **plan, **self.sizes(), **self.kind, **sums,
        )  # fmt: skip
        check()
        return y

    def weight_grad(self, run, chunks=1, group=1, band=None, merged=0):
        band, k = band or self.places[0], self.w.shape[3]
        rows = (band - 1) * self.strides[0] + self.size[0]
        each = -(-(k // self.groups) // self.core.LANES) * self.core.LANES * self.groups
        share = group * (rows * self.wide * self.x.shape[3] * merged + band * self.places[1] * each)
        dw, check = guarded((chunks, *self.w.shape), self.x.dtype)
        room = np.full(share * self.kind["threads"], np.nan, self.x.dtype)
        run(
            "conv_weight_grad", dw=dw, x=self.x, dy=self.dy, room=room, oh=self.places[0], ow=self.places[1], k=k,
            kh=self.size[0], kw=self.size[1], sh=self.strides[0], sw=self.strides[1], dilation_h=1, dilation_w=1,
            pt=self.before[0], pl=self.before[1], chunks=chunks, group=group, band=band,
            merged=merged, groups=self.groups, share=share, **self.sizes(), **self.kind,
        )  # fmt: skip
        check()
        return dw


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv(case, isa, dtype, rng, run, close):
    c = Convolution(case, dtype, isa, rng)
    expected = reference_images.conv(c.x, c.w, c.places, c.groups, **c.window)
    terms = np.prod(c.w.shape[:3])
    close(c.forward(run), expected, terms)
    bias, other = rng.normal(size=c.w.shape[3]).astype(dtype), rng.normal(size=c.dy.shape).astype(dtype)
    steps = [Step("add_row", p=bias), Step("relu"), Step("add", p=other, ld=c.w.shape[3])]
    close(c.forward(run, steps), np.maximum(expected + bias, 0) + other, terms)


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_bands_and_threads_do_not_change_the_bits_of_conv(case, run):
    results = set()
    for bands, block in ((1, 1), (2, 3), (5, 1), (1000, 7)):
        for threads in (1, 2, 3, 7):
            y = Convolution(case, "float32", None, np.random.default_rng(1), threads).forward(run, (), bands, block)
            results.add(y.tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv_sums_the_columns_of_its_result(case, isa, dtype, run, close):
    for bands in (1, 2, 3):
        results = []
        for threads in (1, 3):
            rng = np.random.default_rng(3)
            c = Convolution(case, dtype, isa, rng, threads=threads)
            if bands > c.places[0]:
                continue
            k = c.w.shape[3]
            steps = [Step("add_row", p=rng.uniform(20, 30, k).astype(dtype))]
            normal, mean, rstd = c.dy, *rng.uniform(1, 2, (2, k)).astype(dtype)
            moments, slopes = np.full((2, c.batch * bands, 2, k), GUARD, dtype)
            y = c.forward(run, steps, partial=moments, bands=bands).astype(np.float64)
            again = c.forward(run, steps, partial=slopes, bands=bands, normal=normal, mean=mean, rstd=rstd)
            np.testing.assert_array_equal(y, again)
            results.append(moments.tobytes() + slopes.tobytes())
            wide = [a.astype(np.float64) for a in (normal, mean, rstd)]
            for image in range(c.batch):
                for band, rows in enumerate(np.array_split(np.arange(c.places[0]), bands)):
                    pixels, others = (a[image, rows].reshape(-1, k) for a in (y, wide[0]))
                    part = image * bands + band
                    close(moments[part], reference_images.moments(pixels, 1)[0], 60 * len(pixels))
                    expected = reference_images.gradient_moments(pixels, others, wide[1], wide[2], 1)[0]
                    close(slopes[part], expected, 60 * len(pixels))
        assert len(set(results)) <= 1


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv_weight_grad(case, isa, dtype, rng, run, close):
    c = Convolution(case, dtype, isa, rng)
    expected = reference_images.conv_weight_grad(c.x, c.dy, c.size, c.groups, **c.window)
    terms = c.batch * np.prod(c.places)
    for chunks in {1, c.batch}:
        for group, band in ((1, None), (2, None), (1, 1), (1, 2)):
            for merged in (0, 1) if c.groups == 1 else (0,):
                dw = c.weight_grad(run, chunks, group, min(band or c.places[0], c.places[0]), merged)
                close(dw.sum(0), expected, terms)


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_threads_do_not_change_the_bits_of_conv_weight_grad(case, run):
    for chunks, group in ((1, 1), (1, 2), (2, 1)):
        results = set()
        for threads in (1, 2, 3, 7):
            c = Convolution(case, "float32", None, np.random.default_rng(1), threads=threads)
            results.add(c.weight_grad(run, min(chunks, c.batch), group).tobytes())
        assert len(results) == 1, f"chunks={chunks} group={group}"


def test_a_phase_writes_its_pixels_alone(run, dtype, isa):
    """As the gradient by the input does with strides: every second row, every third column."""
    x = np.ones((2, 3, 2, 4), dtype)
    packed = reference_images.conv_pack(np.ones((1, 1, 4, 5), dtype), [0], kernels.family("conv", dtype, isa).LANES)
    y, check = guarded((2, 7, 6, 5), dtype)
    y[:] = GUARD
    run(
        "conv", y=y, x=x, w=packed, batch=2, height=3, width=2, c=4, oi=3, oj=2, k=5, yh=7, yw=6, osh=2, osw=3, oph=1,
        opw=2, sh=1, sw=1, stretches=1, kinds=1, depth=4, groups=1, bands=1, block=1, dtype=dtype, isa=isa,
        **clipped([(0, 0, 0)], (3, 2), 4, (3, 2)),
    )  # fmt: skip
    check()
    assert (y[:, 1::2, 2::3] == 4).all()
    y[:, 1::2, 2::3] = GUARD
    assert (y == GUARD).all()


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("groups", [1, 3])
def test_conv_pack(groups, turned, isa, dtype, rng, run):
    lanes = kernels.family("conv", dtype, isa).LANES
    for inputs, filters in ((1, 3), (5, 3 * lanes), (lanes + 1, 6 * lanes + 3), (2 * lanes, 3)):
        w = rng.normal(size=(2, 3, inputs, filters)).astype(dtype)
        order = rng.permutation(6)[:5]
        expected = reference_images.conv_pack(w, order, lanes, groups, turned)
        for threads in (1, 3):
            out, check = guarded(expected.shape, dtype)
            sizes = dict(places=5, cin=inputs * groups, cout=filters, groups=groups, turned=int(turned))
            run("conv_pack", out=out, w=w, order=order, dtype=dtype, isa=isa, threads=threads, **sizes)
            check()
            np.testing.assert_array_equal(out, expected)


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
        run("max_pool", y=made[0], x=x, steps=[Step("add_row", p=bias)], **kind)
        run("max_pool_grad", dx=made[1], dy=dy, x=x, y=largest, steps=[Step("mul", p=other, ld=c)], **kind)
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
        run("depthwise", y=made[0], x=x, w=w, steps=[Step("add_row", p=bias)], **kind)
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
        room = np.full(3 * cols * threads, np.nan, dtype)
        (y, check), (dx, check_dx) = guarded(x.shape, dtype), guarded(x.shape, dtype)
        mean, rstd = np.full((2, 3, groups), GUARD, dtype)
        partial = np.full((3, 2, cols), GUARD, dtype)
        run(
            "group_norm", y=y, x=x, gamma=gamma, beta=beta, mean=mean, rstd=rstd, room=room, share=2 * cols,
            epsilon=1e-3, steps=[Step("relu")], **kind,
        )  # fmt: skip
        run(
            "group_norm_grad", dx=dx, partial=partial, dy=dy, x=x, gamma=gamma, mean=mean, rstd=rstd, room=room,
            share=3 * cols, **kind,
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
    state[STEP] = 4

    def compute(threads):
        y, check = guarded(x.shape, dtype)
        room = np.full(21 * threads, np.nan, dtype)
        sizes = dict(batch=5, pixels=7, cols=21, index=2, share=21)
        kind = dict(rate=0.4, scale=1 / 0.6, dtype=dtype, isa=isa, threads=threads)
        set_num_threads(threads)
        Program([Op("channel_dropout", y=y, x=x, state=state, room=room, **sizes, **kind)], state.copy()).run()
        check()
        return [y]

    (y,) = every_thread_count(compute)
    keep = reference_steps.dropout_mask(5, 21, 21, 2, 0.4, state)
    assert 0 < keep.mean() < 1
    np.testing.assert_allclose(y, reference_images.channel_dropout(x, keep, 1 / 0.6), rtol=1e-6)
