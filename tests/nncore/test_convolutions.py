"""The kernels of convolutions against reference_images.py: values, untouched memory, the same bits for any number of
threads."""

import numpy as np
import pytest
from guards import GUARD, guarded

from nncore import Step, kernels, reference_images
from nncore.windows import clipped

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
        workspace = np.full(share * self.kind["threads"], np.nan, self.x.dtype)
        run(
            "conv_weight_grad", dw=dw, x=self.x, dy=self.dy, workspace=workspace, oh=self.places[0], ow=self.places[1],
            k=k, kh=self.size[0], kw=self.size[1], sh=self.strides[0], sw=self.strides[1], dilation_h=1, dilation_w=1,
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
    steps = [Step("add", p=bias), Step("relu"), Step("add", p=other)]
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
            steps = [Step("add", p=rng.uniform(20, 30, k).astype(dtype))]
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


# images, height, width, vectors of channels and of filters, before, bands
SQUARES = {
    "same": (2, 6, 8, 1, 2, (1, 1), 2),
    "odd, of the whole batch": (3, 7, 9, 2, 3, (1, 1), 1),
    "valid": (2, 8, 5, 1, 1, (0, 0), 3),
    "one pixel": (1, 1, 1, 1, 1, (1, 1), 1),
    "more zeros than image": (2, 3, 2, 3, 5, (2, 2), 2),
    "many in a row": (1, 4, 70, 1, 2, (1, 1), 1),
}


class Squares:
    """Arguments of the kernels of Winograd's filtering for one of the above."""

    def __init__(self, case, dtype, isa, rng, threads=1):
        self.core = kernels.family("winograd", dtype, isa)
        images, height, width, inputs, filters, self.before, self.bands = SQUARES[case]
        self.c, self.k = inputs * self.core.LANES, filters * self.core.LANES
        self.x = rng.normal(size=(images, height, width, self.c)).astype(dtype)
        self.w = rng.normal(size=(3, 3, self.c, self.k)).astype(dtype)
        self.places = tuple(n + 2 * b - 2 for n, b in zip((height, width), self.before, strict=True))
        self.kind = dict(dtype=dtype, isa=isa, threads=threads)

    def packed(self, run):
        out, check = guarded(16 * self.c * self.k, self.x.dtype)
        run("winograd_pack", out=out, w=self.w, order=np.arange(9), cin=self.c, cout=self.k, turned=0, **self.kind)
        check()
        return out

    def forward(self, run, steps=(), **sums):
        images, height, width, _ = self.x.shape
        rows, columns = self.places
        y, check = guarded((images, *self.places, self.k), self.x.dtype)
        high, wide = (rows + 1) // 2, (columns + 1) // 2
        squares = -(-high // self.bands) * wide
        share = 16 * (squares * (self.c + 2 * self.core.LANES) + 2 * self.core.LINE)
        workspace, check_workspace = guarded(share * self.kind["threads"], self.x.dtype)
        run(
            "winograd", y=y, x=self.x, w=self.packed(run), workspace=workspace, batch=images, height=height,
            width=width, c=self.c, oi=rows, oj=columns, k=self.k, pt=self.before[0], pl=self.before[1],
            bands=self.bands, share=share, steps=steps, **self.kind, **sums,
        )  # fmt: skip
        check()
        check_workspace()
        return y

    def weight_grad(self, run, dy, chunks=1):
        images, height, width, _ = self.x.shape
        rows, columns = self.places
        sums, check_sums = guarded((chunks, 16, self.c, self.k), self.x.dtype)
        squares = -(-((rows + 1) // 2) // self.bands) * ((columns + 1) // 2)
        share = 16 * (squares * (self.c + self.k) + 2 * self.core.LINE)
        workspace, check_workspace = guarded(share * self.kind["threads"], self.x.dtype)
        run(
            "winograd_weight_sums", sums=sums, x=self.x, dy=dy, workspace=workspace, batch=images, height=height,
            width=width, c=self.c, oi=rows, oj=columns, k=self.k, pt=self.before[0], pl=self.before[1], chunks=chunks,
            bands=self.bands, share=share, **self.kind,
        )  # fmt: skip
        dw, check = guarded(self.w.shape, self.x.dtype)
        run("winograd_weight_grad", dw=dw, sums=sums, cin=self.c, cout=self.k, chunks=chunks, **self.kind)
        for checked in (check_sums, check_workspace, check):
            checked()
        return dw

    def expected(self):
        x, w = self.x.astype(np.float64), self.w.astype(np.float64)
        return reference_images.conv(x, w, self.places, before=self.before)


@pytest.mark.parametrize("case", SQUARES)
def test_winograd(case, isa, dtype, rng, run, close):
    s = Squares(case, dtype, isa, rng)
    expected = s.expected()
    close(s.forward(run), expected, 36 * s.c)
    bias, other = rng.normal(size=s.k).astype(dtype), rng.normal(size=expected.shape).astype(dtype)
    steps = [Step("add", p=bias), Step("relu"), Step("add", p=other)]
    close(s.forward(run, steps), np.maximum(expected + bias, 0) + other, 36 * s.c)


@pytest.mark.parametrize("case", SQUARES)
def test_winograd_sums_the_columns_of_its_result(case, isa, dtype, run, close):
    results = []
    for threads in (1, 3):
        rng = np.random.default_rng(3)
        s = Squares(case, dtype, isa, rng, threads)
        normal, (mean, rstd) = (
            rng.normal(size=s.expected().shape).astype(dtype),
            rng.uniform(1, 2, (2, s.k)).astype(dtype),
        )
        moments, slopes = np.full((2, len(s.x) * s.bands, 2, s.k), GUARD, dtype)
        y = s.forward(run, partial=moments).astype(np.float64)
        again = s.forward(run, partial=slopes, normal=normal, mean=mean, rstd=rstd)
        np.testing.assert_array_equal(y, again)
        results.append(moments.tobytes() + slopes.tobytes())
        wide = [a.astype(np.float64) for a in (normal, mean, rstd)]
        for image in range(len(s.x)):
            for band, pairs in enumerate(np.array_split(np.arange(-(-s.places[0] // 2)), s.bands)):
                rows = slice(2 * pairs[0], 2 * pairs[-1] + 2)
                pixels, others = (a[image, rows].reshape(-1, s.k) for a in (y, wide[0]))
                part = image * s.bands + band
                close(moments[part], reference_images.moments(pixels, 1)[0], 60 * pixels.size)
                expected = reference_images.gradient_moments(pixels, others, wide[1], wide[2], 1)[0]
                close(slopes[part], expected, 60 * pixels.size)
    assert len(set(results)) == 1


@pytest.mark.parametrize("case", SQUARES)
def test_threads_do_not_change_the_bits_of_winograd(case, run):
    results = set()
    for threads in (1, 2, 3, 7):
        results.add(Squares(case, "float32", None, np.random.default_rng(1), threads).forward(run).tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("case", SQUARES)
def test_winograd_weight_grad(case, isa, dtype, rng, run, close):
    s = Squares(case, dtype, isa, rng)
    dy = rng.normal(size=(len(s.x), *s.places, s.k)).astype(dtype)
    wide = [a.astype(np.float64) for a in (s.x, dy)]
    expected = reference_images.conv_weight_grad(*wide, (3, 3), before=s.before)
    for chunks in {1, len(s.x)}:
        close(s.weight_grad(run, dy, chunks), expected, 36 * len(s.x) * np.prod(s.places))


@pytest.mark.parametrize("case", SQUARES)
def test_threads_do_not_change_the_bits_of_winograd_weight_grad(case, run):
    results = set()
    for threads in (1, 2, 3, 7):
        rng = np.random.default_rng(1)
        s = Squares(case, "float32", None, rng, threads)
        dy = rng.normal(size=(len(s.x), *s.places, s.k)).astype("f")
        results.add(s.weight_grad(run, dy, len(s.x)).tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("turned", [False, True])
def test_winograd_pack(turned, isa, dtype, rng, run, close):
    lanes = kernels.family("winograd", dtype, isa).LANES
    for inputs, filters in ((lanes, lanes), (2 * lanes, 5 * lanes), (3 * lanes, 2 * lanes)):
        w = rng.normal(size=(3, 3, inputs, filters)).astype(dtype)
        order = rng.permutation(9)
        expected = reference_images.winograd_pack(w.astype(np.float64), order, lanes, turned)
        for threads in (1, 3):
            out, check = guarded(expected.shape, dtype)
            sizes = dict(cin=inputs, cout=filters, turned=int(turned))
            run("winograd_pack", out=out, w=w, order=order, dtype=dtype, isa=isa, threads=threads, **sizes)
            check()
            close(out, expected, 9)
