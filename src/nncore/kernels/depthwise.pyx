"""Depthwise convolution: each channel by itself, so lanes are channels and there is no sum over them.

Work is memory more than arithmetic: four neighbouring pixels share each load of a weight.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset
from nncore.kernels.chain cimport StepRecord, apply_steps, step_layout
from nncore.kernels.lanes cimport load_part, store_part
from nncore.op cimport Op, layout, signature, split
from nncore.vector cimport LANES, real, vf, vload, vsplat, vstore

cdef struct Sizes:          # of the kernels, in their order; these work with copies, which no store can change
    int64_t batch, height, width, c, oh, ow, kh, kw, sh, sw, dh, dw, pt, pl


cdef inline void inside(int64_t place, int64_t size, int64_t taps, int64_t dilation, int64_t* first, int64_t* last) noexcept nogil:
    """The taps [first, last) of a window that begins at ``place`` which lie on an image of this size."""
    first[0] = 0 if place >= 0 else min(taps, (-place + dilation - 1) // dilation)
    last[0] = 0 if place >= size else min(taps, (size - 1 - place) // dilation + 1)


cdef inline vf one(const Sizes* p, const real* x, const real* w, int64_t h, int64_t v, int64_t step, int64_t flip,
                   int64_t width) noexcept nogil:
    """The result at one pixel, whose window begins at row h and column v of the image."""
    cdef int64_t a0 = 0, a1 = 0, b0 = 0, b1 = 0, a, b
    cdef vf total = vsplat(0)
    inside(h, p.height, p.kh, p.dh, &a0, &a1)
    inside(v, p.width, p.kw, p.dw, &b0, &b1)
    for a in range(a0, a1):
        for b in range(b0, b1):
            total = total + (load_part(x + ((h + a * p.dh) * p.width + v + b * p.dw) * p.c, width, width, 0)
                             * load_part(w + (flip + (a * p.kw + b) * step) * p.c, width, width, 0))
    return total


# p: y, x, w, steps. n: batch, height, width, c, oh, ow, kh, kw, sh, sw, dilation_h, dilation_w, pt, pl, flipped, n_steps
cdef void depthwise(const Op* op, int thread, int threads) noexcept nogil:
    """y[n, i, j, c] = steps(sum over the window of x times w[kh, kw, c]), or (``flipped``) of w turned round by half: the
    gradient by the input, where strides are 1. Threads share rows of images."""
    cdef Sizes sizes = (<const Sizes*>op.n)[0]
    cdef const Sizes* p = &sizes
    cdef const real* w = <const real*>op.p[2]
    cdef const real* image
    cdef const real* x
    cdef real* y
    cdef int64_t first = 0, last = 0, unit, n, h, j, j0, j1, c, a, b, a0 = 0, a1 = 0, width
    cdef int64_t step = -1 if op.n[14] else 1, flip = p.kh * p.kw - 1 if op.n[14] else 0
    cdef vf t0, t1, t2, t3, k
    split(p.batch * p.oh, thread, threads, &first, &last)
    # Columns whose windows lie on the image altogether
    j0 = min(p.ow, (p.pl + p.sw - 1) // p.sw)
    j1 = (p.width + p.pl - (p.kw - 1) * p.dw - 1) // p.sw + 1 if p.width + p.pl > (p.kw - 1) * p.dw else 0
    j1 = max(j0, min(p.ow, j1))
    for unit in range(first, last):
        n = unit // p.oh
        h = (unit - n * p.oh) * p.sh - p.pt
        image = <const real*>op.p[1] + n * p.height * p.width * p.c
        y = <real*>op.p[0] + unit * p.ow * p.c
        inside(h, p.height, p.kh, p.dh, &a0, &a1)
        c = 0
        while c < p.c:
            width = p.c - c
            for j in range(j0):
                store_part(y + j * p.c + c, one(p, image + c, w + c, h, j * p.sw - p.pl, step, flip, width), width)
            j = j0
            while width >= LANES and j + 4 <= j1:
                t0 = t1 = t2 = t3 = vsplat(0)
                for a in range(a0, a1):
                    x = image + ((h + a * p.dh) * p.width + j * p.sw - p.pl) * p.c + c
                    for b in range(p.kw):
                        k = vload(w + (flip + (a * p.kw + b) * step) * p.c + c)
                        t0 = t0 + vload(x) * k
                        t1 = t1 + vload(x + p.sw * p.c) * k
                        t2 = t2 + vload(x + 2 * p.sw * p.c) * k
                        t3 = t3 + vload(x + 3 * p.sw * p.c) * k
                        x += p.dw * p.c
                vstore(y + j * p.c + c, t0)
                vstore(y + (j + 1) * p.c + c, t1)
                vstore(y + (j + 2) * p.c + c, t2)
                vstore(y + (j + 3) * p.c + c, t3)
                j += 4
            while j < p.ow:
                store_part(y + j * p.c + c, one(p, image + c, w + c, h, j * p.sw - p.pl, step, flip, width), width)
                j += 1
            c += LANES
        if op.n[15]:
            apply_steps(<const StepRecord*>op.p[3], op.n[15], y, p.c, unit * p.ow, p.ow, 0, p.c)


# p: dx, dy, w. n: as depthwise, to pl
cdef void depthwise_input_grad(const Op* op, int thread, int threads) noexcept nogil:
    """dx: each pixel of dy times the window's weights, added up where windows overlap. Threads share images."""
    cdef Sizes sizes = (<const Sizes*>op.n)[0]
    cdef const Sizes* p = &sizes
    cdef const real* w = <const real*>op.p[2]
    cdef const real* dy
    cdef real* dx
    cdef int64_t first = 0, last = 0, n, i, j, h, v, a, b, a0 = 0, a1 = 0, b0 = 0, b1 = 0, c, width, at
    cdef vf g
    split(p.batch, thread, threads, &first, &last)
    for n in range(first, last):
        dx = <real*>op.p[0] + n * p.height * p.width * p.c
        memset(dx, 0, p.height * p.width * p.c * sizeof(real))
        for i in range(p.oh):
            h = i * p.sh - p.pt
            inside(h, p.height, p.kh, p.dh, &a0, &a1)
            for j in range(p.ow):
                v = j * p.sw - p.pl
                inside(v, p.width, p.kw, p.dw, &b0, &b1)
                dy = <const real*>op.p[1] + ((n * p.oh + i) * p.ow + j) * p.c
                c = 0
                while c < p.c:
                    width = p.c - c
                    g = load_part(dy + c, width, width, 0)
                    for a in range(a0, a1):
                        for b in range(b0, b1):
                            at = ((h + a * p.dh) * p.width + v + b * p.dw) * p.c + c
                            store_part(dx + at, load_part(dx + at, width, width, 0)
                                       + g * load_part(w + (a * p.kw + b) * p.c + c, width, width, 0), width)
                    c += LANES


# p: dw, x, dy. n: as depthwise, to pl
cdef void depthwise_weight_grad(const Op* op, int thread, int threads) noexcept nogil:
    """dw[kh, kw, c] = the sum over images and pixels of x times dy. Threads share places of the window x vectors of
    channels."""
    cdef Sizes sizes = (<const Sizes*>op.n)[0]
    cdef const Sizes* p = &sizes
    cdef const real* x
    cdef const real* dy
    cdef int64_t vectors = (p.c + LANES - 1) // LANES, first = 0, last = 0, unit, a, b, c, n, i, j, h, width
    cdef int64_t i0, i1, j0, j1, from_w
    cdef vf total, t0, t1, t2, t3
    split(p.kh * p.kw * vectors, thread, threads, &first, &last)
    for unit in range(first, last):
        a = unit // vectors // p.kw
        b = unit // vectors % p.kw
        c = unit % vectors * LANES
        width = p.c - c
        # Pixels of dy for which this place lies on the image
        i0 = max(<int64_t>0, p.pt - a * p.dh + p.sh - 1) // p.sh
        j0 = max(<int64_t>0, p.pl - b * p.dw + p.sw - 1) // p.sw
        i1 = min(p.oh, max(<int64_t>0, p.height - 1 + p.pt - a * p.dh + p.sh) // p.sh)
        j1 = min(p.ow, max(<int64_t>0, p.width - 1 + p.pl - b * p.dw + p.sw) // p.sw)
        total = vsplat(0)
        for n in range(p.batch):
            t0 = t1 = t2 = t3 = vsplat(0)
            for i in range(i0, i1):
                h = i * p.sh - p.pt + a * p.dh
                from_w = j0 * p.sw - p.pl + b * p.dw
                x = <const real*>op.p[1] + ((n * p.height + h) * p.width + from_w) * p.c + c
                dy = <const real*>op.p[2] + ((n * p.oh + i) * p.ow + j0) * p.c + c
                j = j0
                while width >= LANES and j + 4 <= j1:
                    t0 = t0 + vload(x) * vload(dy)
                    t1 = t1 + vload(x + p.sw * p.c) * vload(dy + p.c)
                    t2 = t2 + vload(x + 2 * p.sw * p.c) * vload(dy + 2 * p.c)
                    t3 = t3 + vload(x + 3 * p.sw * p.c) * vload(dy + 3 * p.c)
                    x += 4 * p.sw * p.c
                    dy += 4 * p.c
                    j += 4
                while j < j1:
                    t0 = t0 + load_part(x, width, width, 0) * load_part(dy, width, width, 0)
                    x += p.sw * p.c
                    dy += p.c
                    j += 1
            total = total + ((t0 + t1) + (t2 + t3))
        store_part(<real*>op.p[0] + (a * p.kw + b) * p.c + c, total, width)


TABLE = {"depthwise": <size_t>&depthwise, "depthwise_input_grad": <size_t>&depthwise_input_grad,
         "depthwise_weight_grad": <size_t>&depthwise_weight_grad}
LAYOUT = layout()
SIGNATURE = signature()
STEP_LAYOUT = step_layout()
