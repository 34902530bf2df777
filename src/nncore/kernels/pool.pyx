"""Pooling over windows of images in NHWC, and moving images about: padding, cropping.

Lanes are channels. Places of a window outside the image do not count. Threads share images and rows of them; in the
gradients, which add up where windows overlap, whole images.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset
from nncore.kernels.chain cimport StepRecord, apply_steps, step_layout
from nncore.kernels.gemm_micro cimport nn_inlined
from nncore.kernels.lanes cimport lanes_sum, load_part, store_part
from nncore.op cimport Op, layout, signature, split
from nncore.vector cimport INFINITY, LANES, NAN, real, vand, veq, vf, vi, visplat, vmax, vselect, vsplat

cdef struct Pool:           # sizes of the kernels, in their order; these work with copies, which no store can change
    int64_t batch, height, width, c, oh, ow, kh, kw, sh, sw, pt, pl

cdef struct Span:           # of an image's pixels: those that a window covers
    int64_t h0, h1, w0, w1


cdef inline Span window(const Pool* p, int64_t i, int64_t j) noexcept nogil:
    cdef Span s
    s.h0 = max(<int64_t>0, i * p.sh - p.pt)
    s.h1 = min(p.height, i * p.sh - p.pt + p.kh)
    s.w0 = max(<int64_t>0, j * p.sw - p.pl)
    s.w1 = min(p.width, j * p.sw - p.pl + p.kw)
    return s


cdef inline nn_inlined max_row(bint numbers, const Pool* p, real* y, const real* x, int64_t i, vf* strange) noexcept nogil:
    """One row of an image's largest. ``numbers``: NaN is not looked for; ``strange`` is added up, so that it is no number
    if there is one (or an infinity, or a sum out of range)."""
    cdef int64_t j, c, h, w, at
    cdef Span s
    cdef vf top, v, sums
    cdef vi good
    for j in range(p.ow):
        s = window(p, i, j)
        c = 0
        while c < p.c:
            top = vsplat(-INFINITY)
            good = visplat(-1)
            sums = vsplat(0)
            for h in range(s.h0, s.h1):
                for w in range(s.w0, s.w1):
                    at = (h * p.width + w) * p.c + c
                    v = load_part(x + at, p.c - c, p.c - c, 0)
                    if numbers:
                        sums = sums + v
                    else:
                        good = good & veq(v, v)
                    top = vmax(v, top)
            strange[0] = strange[0] + sums
            store_part(y + j * p.c + c, top if numbers else vselect(good, top, vsplat(NAN)), p.c - c)
            c += LANES


# p: y, x, steps. n: batch, height, width, c, oh, ow, kh, kw, sh, sw, pt, pl, n_steps
cdef void max_pool(const Op* op, int thread, int threads) noexcept nogil:
    """y = steps(the largest x of each window; NaN if there is one)."""
    cdef Pool sizes = (<const Pool*>op.n)[0]
    cdef const Pool* p = &sizes
    cdef real* y
    cdef const real* x
    cdef int64_t first = 0, last = 0, unit, n, i
    cdef vf strange
    split(p.batch * p.oh, thread, threads, &first, &last)
    for unit in range(first, last):
        n = unit // p.oh
        i = unit - n * p.oh
        x = <const real*>op.p[1] + n * p.height * p.width * p.c
        y = <real*>op.p[0] + unit * p.ow * p.c
        strange = vsplat(0)
        max_row(True, p, y, x, i, &strange)
        if lanes_sum(strange - strange) != 0:
            max_row(False, p, y, x, i, &strange)
        if op.n[12]:
            apply_steps(<const StepRecord*>op.p[2], op.n[12], y, p.c, unit * p.ow, p.ow, 0, p.c)


cdef inline nn_inlined max_grad_image(bint numbers, const Pool* p, real* dx, const real* dy, const real* x, const real* y,
                                      bint apart, vf* strange) noexcept nogil:
    """One image's gradient. ``numbers``: NaN is not looked for; ``strange``: as max_row, of y."""
    cdef int64_t i, j, c, h, w, at, left, out
    cdef Span s
    cdef vf value, top, v
    cdef vi found, here
    for i in range(p.oh):
        for j in range(p.ow):
            s = window(p, i, j)
            out = (i * p.ow + j) * p.c
            c = 0
            while c < p.c:
                left = p.c - c
                value = load_part(dy + out + c, left, left, 0)
                top = load_part(y + out + c, left, left, 0)
                if numbers:
                    strange[0] = strange[0] + top
                found = visplat(0)
                for h in range(s.h0, s.h1):
                    for w in range(s.w0, s.w1):
                        at = (h * p.width + w) * p.c + c
                        v = load_part(x + at, left, left, 0)
                        here = veq(v, top)
                        if not numbers:
                            here = here | ~veq(v, v)
                        here = here & ~found
                        found = found | here
                        v = vand(here, value)
                        if not apart:
                            v = v + load_part(dx + at, left, left, 0)
                        store_part(dx + at, v, left)
                c += LANES


# p: dx, dy, x, y, steps. n: as max_pool
cdef void max_pool_grad(const Op* op, int thread, int threads) noexcept nogil:
    """dx = steps(dy where x is the first place of its window that equals y, or the first NaN, added up over windows; else
    0)."""
    cdef Pool sizes = (<const Pool*>op.n)[0]
    cdef const Pool* p = &sizes
    cdef real* dx
    cdef const real* dy
    cdef const real* x
    cdef const real* y
    cdef int64_t first = 0, last = 0, n, pixels = p.height * p.width, out
    cdef bint apart = p.sh >= p.kh and p.sw >= p.kw
    cdef bint covers = apart and p.sh == p.kh and p.sw == p.kw and p.oh * p.sh >= p.height + p.pt and p.ow * p.sw >= p.width + p.pl
    cdef vf strange
    split(p.batch, thread, threads, &first, &last)
    for n in range(first, last):
        out = n * p.oh * p.ow * p.c
        dx = <real*>op.p[0] + n * pixels * p.c
        dy = <const real*>op.p[1] + out
        x = <const real*>op.p[2] + n * pixels * p.c
        y = <const real*>op.p[3] + out
        if not covers:
            memset(dx, 0, pixels * p.c * sizeof(real))
        strange = vsplat(0)
        max_grad_image(True, p, dx, dy, x, y, apart, &strange)
        if lanes_sum(strange - strange) != 0:
            if not covers:
                memset(dx, 0, pixels * p.c * sizeof(real))
            max_grad_image(False, p, dx, dy, x, y, apart, &strange)
        if op.n[12]:
            apply_steps(<const StepRecord*>op.p[4], op.n[12], dx, p.c, n * pixels, pixels, 0, p.c)


# p: y, x, steps. n: as max_pool. s: scale
cdef void average_pool(const Op* op, int thread, int threads) noexcept nogil:
    """y = steps(the mean of x over each window's places inside the image; with ``scale`` not 0, their sum times that)."""
    cdef Pool sizes = (<const Pool*>op.n)[0]
    cdef const Pool* p = &sizes
    cdef real* y
    cdef const real* x
    cdef int64_t first = 0, last = 0, unit, n, i, j, c, h, w, at, count
    cdef Span s
    cdef vf total, row
    split(p.batch * p.oh, thread, threads, &first, &last)
    for unit in range(first, last):
        n = unit // p.oh
        i = unit - n * p.oh
        x = <const real*>op.p[1] + n * p.height * p.width * p.c
        y = <real*>op.p[0] + unit * p.ow * p.c
        for j in range(p.ow):
            s = window(p, i, j)
            count = (s.h1 - s.h0) * (s.w1 - s.w0)
            c = 0
            while c < p.c:
                total = vsplat(0)
                for h in range(s.h0, s.h1):
                    row = vsplat(0)
                    for w in range(s.w0, s.w1):
                        at = (h * p.width + w) * p.c + c
                        row = row + load_part(x + at, p.c - c, p.c - c, 0)
                    total = total + row
                total = total * vsplat(<real>(op.s[0] if op.s[0] != 0 else 1.0 / count if count > 0 else 0.0))
                store_part(y + j * p.c + c, total, p.c - c)
                c += LANES
        if op.n[12]:
            apply_steps(<const StepRecord*>op.p[2], op.n[12], y, p.c, unit * p.ow, p.ow, 0, p.c)


# p: dx, dy, steps. n: as max_pool. s: scale
cdef void average_pool_grad(const Op* op, int thread, int threads) noexcept nogil:
    """dx = steps(dy over the places of its window, or with ``scale`` not 0 dy times that, added up over windows)."""
    cdef Pool sizes = (<const Pool*>op.n)[0]
    cdef const Pool* p = &sizes
    cdef real* dx
    cdef const real* dy
    cdef int64_t first = 0, last = 0, n, i, j, c, h, w, at, pixels = p.height * p.width, count, left
    cdef bint apart = p.sh >= p.kh and p.sw >= p.kw
    cdef Span s
    cdef vf value
    split(p.batch, thread, threads, &first, &last)
    for n in range(first, last):
        dx = <real*>op.p[0] + n * pixels * p.c
        memset(dx, 0, pixels * p.c * sizeof(real))
        for i in range(p.oh):
            for j in range(p.ow):
                s = window(p, i, j)
                count = (s.h1 - s.h0) * (s.w1 - s.w0)
                dy = <const real*>op.p[1] + ((n * p.oh + i) * p.ow + j) * p.c
                c = 0
                while c < p.c:
                    left = p.c - c
                    value = load_part(dy + c, left, left, 0)
                    value = value * vsplat(<real>(op.s[0] if op.s[0] != 0 else 1.0 / count if count > 0 else 0.0))
                    for h in range(s.h0, s.h1):
                        for w in range(s.w0, s.w1):
                            at = (h * p.width + w) * p.c + c
                            store_part(dx + at, value if apart else value + load_part(dx + at, left, left, 0), left)
                    c += LANES
        if op.n[12]:
            apply_steps(<const StepRecord*>op.p[2], op.n[12], dx, p.c, n * pixels, pixels, 0, p.c)


# p: y, x. n: batch, height, width, c, oh, ow, top, left
cdef void place(const Op* op, int thread, int threads) noexcept nogil:
    """y[n, i, j] = x[n, i - top, j - left], zeros outside: padding, or with negative numbers cropping."""
    cdef const int64_t* n = <const int64_t*>op.n
    cdef int64_t height = n[1], width = n[2], c = n[3], oh = n[4], ow = n[5], top = n[6], left = n[7]
    cdef int64_t first = 0, last = 0, unit, image, i, low = max(<int64_t>0, left), high = min(ow, width + left)
    cdef real* y
    split(n[0] * oh, thread, threads, &first, &last)
    for unit in range(first, last):
        image = unit // oh
        i = unit - image * oh - top
        y = <real*>op.p[0] + unit * ow * c
        if i < 0 or i >= height or high <= low:
            memset(y, 0, ow * c * sizeof(real))
            continue
        memset(y, 0, low * c * sizeof(real))
        memcpy(y + low * c, <const real*>op.p[1] + ((image * height + i) * width + low - left) * c,
               (high - low) * c * sizeof(real))
        memset(y + high * c, 0, (ow - high) * c * sizeof(real))


TABLE = {"max_pool": <size_t>&max_pool, "max_pool_grad": <size_t>&max_pool_grad, "average_pool": <size_t>&average_pool,
         "average_pool_grad": <size_t>&average_pool_grad, "place": <size_t>&place}
LAYOUT = layout()
SIGNATURE = signature()
STEP_LAYOUT = step_layout()
