"""Group normalization of images in NHWC, and dropout of whole channels. Threads share samples, each of which is read while
it is in cache."""
from libc.stdint cimport int64_t
from libc.string cimport memset
from nncore.kernels.chain cimport StepRecord, apply_steps, step_layout
from nncore.kernels.lanes cimport load_part, store_part
from nncore.kernels.philox cimport dropout
from nncore.op cimport Op, layout, signature, split
from nncore.vector cimport LANES, real, real_sqrt, vf, vload, vsplat


cdef enum:
    BLOCK = 256         # pixels summed before they are added to the total: rounding grows with BLOCK + pixels / BLOCK


# p: y, x, gamma, beta, mean, rstd, workspace, steps. n: batch, pixels, cols, groups, n_steps, share. s: epsilon
cdef void group_norm(const Op* op, int thread, int threads) noexcept nogil:
    """y = steps((x - mean) * rstd * gamma + beta), with the mean and (biased) variance of each sample's groups of channels
    (Wu and He, 2018). mean, rstd: [batch, groups]. ``workspace``: 2 * cols elements for each thread."""
    cdef const real* gamma = <const real*>op.p[2]
    cdef const real* beta = <const real*>op.p[3]
    cdef int64_t pixels = op.n[1], cols = op.n[2], groups = op.n[3], each = cols // groups, first = 0, last = 0, n, c, r, g
    cdef int64_t width, start
    cdef real* workspace = <real*>op.p[6] + thread * op.n[5]
    cdef real* second = workspace + cols
    cdef const real* x
    cdef real* y
    cdef vf total, part, d, centre
    cdef double sums
    cdef real mean, rstd
    split(op.n[0], thread, threads, &first, &last)
    for n in range(first, last):
        x = <const real*>op.p[1] + n * pixels * cols
        y = <real*>op.p[0] + n * pixels * cols
        c = 0
        while c < cols:
            width = cols - c
            total = vsplat(0)
            start = 0
            while start < pixels:
                part = vsplat(0)
                for r in range(start, min(pixels, start + BLOCK)):
                    part = part + load_part(x + r * cols + c, width, width, 0)
                total = total + part
                start += BLOCK
            store_part(workspace + c, total, width)
            c += LANES
        for g in range(groups):
            sums = 0
            for c in range(g * each, (g + 1) * each):
                sums += workspace[c]
            mean = <real>(sums / (each * pixels))
            (<real*>op.p[4])[n * groups + g] = mean
            for c in range(g * each, (g + 1) * each):
                second[c] = mean
        c = 0
        while c < cols:
            width = cols - c
            centre = load_part(second + c, width, width, 0)
            total = vsplat(0)
            start = 0
            while start < pixels:
                part = vsplat(0)
                for r in range(start, min(pixels, start + BLOCK)):
                    d = load_part(x + r * cols + c, width, width, 0) - centre
                    part = part + d * d
                total = total + part
                start += BLOCK
            store_part(workspace + c, total, width)
            c += LANES
        for g in range(groups):
            sums = 0
            for c in range(g * each, (g + 1) * each):
                sums += workspace[c]
            rstd = <real>1.0 / real_sqrt(<real>(sums / (each * pixels)) + <real>op.s[0])
            (<real*>op.p[5])[n * groups + g] = rstd
            for c in range(g * each, (g + 1) * each):     # y = x * workspace + second
                workspace[c] = rstd * (gamma[c] if gamma != NULL else <real>1.0)
                second[c] = (beta[c] if beta != NULL else <real>0.0) - second[c] * workspace[c]
        c = 0
        while c < cols:
            width = cols - c
            d = load_part(workspace + c, width, width, 0)
            centre = load_part(second + c, width, width, 0)
            for r in range(pixels):
                store_part(y + r * cols + c, load_part(x + r * cols + c, width, width, 0) * d + centre, width)
            c += LANES
        if op.n[4]:
            apply_steps(<const StepRecord*>op.p[7], op.n[4], y, cols, n * pixels, pixels, 0, cols)


# p: dx, partial, dy, x, gamma, mean, rstd, workspace. n: batch, pixels, cols, groups, share
cdef void group_norm_grad(const Op* op, int thread, int threads) noexcept nogil:
    """dx, and partial[batch, 2, cols]: each sample's sums of dy and of dy * xhat, which add up to dbeta and dgamma.
    ``workspace``: 3 * cols elements for each thread."""
    cdef const real* gamma = <const real*>op.p[4]
    cdef int64_t pixels = op.n[1], cols = op.n[2], groups = op.n[3], each = cols // groups, first = 0, last = 0, n, c, r, g
    cdef int64_t width, start
    cdef real* workspace = <real*>op.p[7] + thread * op.n[4]
    cdef real* partial
    cdef real* dx
    cdef const real* x
    cdef const real* dy
    cdef vf sums, products, part, part_products, v, f0, f1, f2
    cdef double a, b
    cdef real mean, rstd
    split(op.n[0], thread, threads, &first, &last)
    for n in range(first, last):
        dx = <real*>op.p[0] + n * pixels * cols
        partial = <real*>op.p[1] + n * 2 * cols
        dy = <const real*>op.p[2] + n * pixels * cols
        x = <const real*>op.p[3] + n * pixels * cols
        for g in range(groups):
            for c in range(g * each, (g + 1) * each):
                workspace[c] = (<const real*>op.p[5])[n * groups + g]
        c = 0
        while c < cols:
            width = cols - c
            f0 = load_part(workspace + c, width, width, 0)
            sums = vsplat(0)
            products = vsplat(0)
            start = 0
            while start < pixels:
                part = vsplat(0)
                part_products = vsplat(0)
                for r in range(start, min(pixels, start + BLOCK)):
                    v = load_part(dy + r * cols + c, width, width, 0)
                    part = part + v
                    part_products = part_products + v * (load_part(x + r * cols + c, width, width, 0) - f0)
                sums = sums + part
                products = products + part_products
                start += BLOCK
            store_part(partial + c, sums, width)
            store_part(partial + cols + c, products, width)
            c += LANES
        for g in range(groups):
            mean = (<const real*>op.p[5])[n * groups + g]
            rstd = (<const real*>op.p[6])[n * groups + g]
            a = 0
            b = 0
            for c in range(g * each, (g + 1) * each):
                partial[cols + c] *= rstd
                a += partial[c] * (gamma[c] if gamma != NULL else <real>1.0)
                b += partial[cols + c] * (gamma[c] if gamma != NULL else <real>1.0)
            a /= each * pixels
            b /= each * pixels
            for c in range(g * each, (g + 1) * each):     # dx = dy * f0 + x * f1 + f2
                workspace[c] = rstd * (gamma[c] if gamma != NULL else <real>1.0)
                workspace[cols + c] = <real>(-rstd * rstd * b)
                workspace[2 * cols + c] = <real>(rstd * (mean * rstd * b - a))
        c = 0
        while c < cols:
            width = cols - c
            f0 = load_part(workspace + c, width, width, 0)
            f1 = load_part(workspace + cols + c, width, width, 0)
            f2 = load_part(workspace + 2 * cols + c, width, width, 0)
            for r in range(pixels):
                store_part(dx + r * cols + c, load_part(dy + r * cols + c, width, width, 0) * f0
                           + (load_part(x + r * cols + c, width, width, 0) * f1 + f2), width)
            c += LANES


# p: y, x, state, workspace. n: batch, pixels, cols, index, share. s: rate, scale
cdef void channel_dropout(const Op* op, int thread, int threads) noexcept nogil:
    """y = x * scale, or 0 for each channel of each sample with probability ``rate``; the random numbers are those of a
    dropout of a matrix [batch, cols]. ``workspace``: cols elements for each thread."""
    cdef int64_t pixels = op.n[1], cols = op.n[2], first = 0, last = 0, n, c, r, width
    cdef real* workspace = <real*>op.p[3] + thread * op.n[4]
    cdef const real* x
    cdef real* y
    cdef vf factor
    split(op.n[0], thread, threads, &first, &last)
    for n in range(first, last):
        for c in range(cols):
            workspace[c] = 1
        dropout(workspace, cols, n * cols, cols, 1, cols, <const int64_t*>op.p[2], op.n[3], op.s[0], op.s[1])
        x = <const real*>op.p[1] + n * pixels * cols
        y = <real*>op.p[0] + n * pixels * cols
        c = 0
        while c < cols:
            width = cols - c
            factor = load_part(workspace + c, width, width, 0)
            for r in range(pixels):
                store_part(y + r * cols + c, load_part(x + r * cols + c, width, width, 0) * factor, width)
            c += LANES


TABLE = {"group_norm": <size_t>&group_norm, "group_norm_grad": <size_t>&group_norm_grad,
         "channel_dropout": <size_t>&channel_dropout}
LAYOUT = layout()
SIGNATURE = signature()
STEP_LAYOUT = step_layout()
