"""Batch normalization of many rows (the pixels of images): moments of parts of them, put together in a fixed order.

The rows are cut into ``parts`` by sizes alone, small enough to stay in L1 between a part's mean and its squares; where a
convolution makes the rows, it gathers the moments itself. What follows is a scale and a shift by column, steps of a chain.
"""
from libc.math cimport sqrt
from libc.stdint cimport int64_t
from nncore.kernels.lanes cimport load_part, store_part
from nncore.op cimport Op, layout, signature, split
from nncore.vector cimport LANES, real, vf, vload, vsplat

cdef enum:
    COLUMNS = 32            # whose totals, in double, are found at a time


cdef inline void part_moments(const real* x, int64_t rows, int64_t cols, int64_t c, real* mean, real* squares) noexcept nogil:
    """The mean of a vector of columns, and the sum of the squares of what is left."""
    cdef int64_t r, width = cols - c
    cdef vf a = vsplat(0), b = vsplat(0), centre, d, inverse = vsplat(<real>(1.0 / rows if rows else 0.0))
    x += c
    if width >= LANES:
        for r in range(0, rows - 1, 2):
            a = a + vload(x + r * cols)
            b = b + vload(x + (r + 1) * cols)
        if rows % 2:
            a = a + vload(x + (rows - 1) * cols)
        centre = (a + b) * inverse
        a = vsplat(0)
        b = vsplat(0)
        for r in range(0, rows - 1, 2):
            d = vload(x + r * cols) - centre
            a = a + d * d
            d = vload(x + (r + 1) * cols) - centre
            b = b + d * d
        if rows % 2:
            d = vload(x + (rows - 1) * cols) - centre
            a = a + d * d
    else:
        for r in range(rows):
            a = a + load_part(x + r * cols, width, width, 0)
        centre = a * inverse
        a = vsplat(0)
        for r in range(rows):
            d = load_part(x + r * cols, width, width, 0) - centre
            a = a + d * d
    store_part(mean + c, centre, width)
    store_part(squares + c, a + b, width)


# p: partial, x. n: rows, cols, parts
cdef void moments(const Op* op, int thread, int threads) noexcept nogil:
    """partial[part, 2, cols]: for each part of the rows their mean, and the sum of squares of their distances from it."""
    cdef real* partial = <real*>op.p[0]
    cdef const real* x = <const real*>op.p[1]
    cdef int64_t rows = op.n[0], cols = op.n[1], parts = op.n[2], first = 0, last = 0, part, r0 = 0, r1 = 0, c
    split(parts, thread, threads, &first, &last)
    for part in range(first, last):
        split(rows, part, parts, &r0, &r1)
        c = 0
        while c < cols:
            part_moments(x + r0 * cols, r1 - r0, cols, c, partial + 2 * part * cols, partial + (2 * part + 1) * cols)
            c += LANES


# p: scale, shift, mean, rstd, moving_mean, moving_variance, partial, counts (int64), gamma, beta. n: rows, cols, parts.
# s: epsilon, momentum
cdef void batch_norm_scale(const Op* op, int thread, int threads) noexcept nogil:
    """Of the moments of parts with so many rows each (``counts``): the mean and 1 / sqrt(variance + epsilon) of all rows,
    which move the running ones, and what makes x normal: x * scale + shift (Chan, Golub and LeVeque, 1979)."""
    cdef real* scale = <real*>op.p[0]
    cdef real* shift = <real*>op.p[1]
    cdef real* mean = <real*>op.p[2]
    cdef real* rstd = <real*>op.p[3]
    cdef real* moving_mean = <real*>op.p[4]
    cdef real* moving_variance = <real*>op.p[5]
    cdef const real* partial = <const real*>op.p[6]
    cdef const int64_t* counts = <const int64_t*>op.p[7]
    cdef const real* gamma = <const real*>op.p[8]
    cdef const real* beta = <const real*>op.p[9]
    cdef const real* row
    cdef int64_t rows = op.n[0], cols = op.n[1], parts = op.n[2], first = 0, last = 0, block, c, j, part, width
    cdef double centre[COLUMNS]
    cdef double squares[COLUMNS]
    cdef double d, n, deviation, factor, keep = op.s[1]
    split((cols + COLUMNS - 1) // COLUMNS, thread, threads, &first, &last)
    for block in range(first, last):
        c = block * COLUMNS
        width = min(<int64_t>COLUMNS, cols - c)
        for j in range(COLUMNS):
            centre[j] = squares[j] = 0
        for part in range(parts):
            row = partial + 2 * part * cols + c
            n = <double>counts[part] / rows
            for j in range(width):
                centre[j] += n * row[j]
        for part in range(parts):
            row = partial + 2 * part * cols + c
            n = <double>counts[part]
            for j in range(width):
                d = row[j] - centre[j]
                squares[j] += row[cols + j] + n * d * d
        for j in range(width):
            squares[j] /= rows
            deviation = 1 / sqrt(squares[j] + op.s[0])
            mean[c + j] = <real>centre[j]
            rstd[c + j] = <real>deviation
            moving_mean[c + j] = <real>(keep * moving_mean[c + j] + (1 - keep) * centre[j])
            moving_variance[c + j] = <real>(keep * moving_variance[c + j] + (1 - keep) * squares[j])
            factor = deviation * gamma[c + j] if gamma != NULL else deviation
            scale[c + j] = <real>factor
            shift[c + j] = <real>((beta[c + j] if beta != NULL else <real>0.0) - centre[j] * factor)


# p: partial, dy, x, mean, rstd. n: rows, cols, parts
cdef void gradient_moments(const Op* op, int thread, int threads) noexcept nogil:
    """partial[part, 2, cols]: the sums over the rows of each part of dy, and of dy * (x - mean) * rstd."""
    cdef real* partial = <real*>op.p[0]
    cdef const real* dy
    cdef const real* x
    cdef const real* mean = <const real*>op.p[3]
    cdef const real* rstd = <const real*>op.p[4]
    cdef int64_t rows = op.n[0], cols = op.n[1], parts = op.n[2], first = 0, last = 0, part, r0 = 0, r1 = 0, c, r, width
    cdef vf a, b, p, q, g, centre
    split(parts, thread, threads, &first, &last)
    for part in range(first, last):
        split(rows, part, parts, &r0, &r1)
        c = 0
        while c < cols:
            width = cols - c
            dy = <const real*>op.p[1] + r0 * cols + c
            x = <const real*>op.p[2] + r0 * cols + c
            centre = load_part(mean + c, width, width, 0)
            a = vsplat(0)
            b = vsplat(0)
            p = vsplat(0)
            q = vsplat(0)
            if width >= LANES:
                for r in range(0, r1 - r0 - 1, 2):
                    g = vload(dy + r * cols)
                    a = a + g
                    p = p + g * (vload(x + r * cols) - centre)
                    g = vload(dy + (r + 1) * cols)
                    b = b + g
                    q = q + g * (vload(x + (r + 1) * cols) - centre)
                if (r1 - r0) % 2:
                    g = vload(dy + (r1 - r0 - 1) * cols)
                    a = a + g
                    p = p + g * (vload(x + (r1 - r0 - 1) * cols) - centre)
            else:
                for r in range(r1 - r0):
                    g = load_part(dy + r * cols, width, width, 0)
                    a = a + g
                    p = p + g * (load_part(x + r * cols, width, width, 0) - centre)
            store_part(partial + 2 * part * cols + c, a + b, width)
            store_part(partial + (2 * part + 1) * cols + c, (p + q) * load_part(rstd + c, width, width, 0), width)
            c += LANES


# p: factors, dgamma, dbeta, partial, gamma, mean, rstd. n: rows, cols, parts
cdef void batch_norm_grad_scale(const Op* op, int thread, int threads) noexcept nogil:
    """Of ``gradient_moments``: dgamma and dbeta, and factors[3, cols], of which dx = dy * f0 + x * f1 + f2."""
    cdef real* factors = <real*>op.p[0]
    cdef real* dgamma = <real*>op.p[1]
    cdef real* dbeta = <real*>op.p[2]
    cdef const real* partial = <const real*>op.p[3]
    cdef const real* gamma = <const real*>op.p[4]
    cdef const real* mean = <const real*>op.p[5]
    cdef const real* rstd = <const real*>op.p[6]
    cdef const real* row
    cdef int64_t rows = op.n[0], cols = op.n[1], parts = op.n[2], first = 0, last = 0, block, c, j, part, width
    cdef double sums[COLUMNS]
    cdef double products[COLUMNS]
    cdef double scale, slope
    split((cols + COLUMNS - 1) // COLUMNS, thread, threads, &first, &last)
    for block in range(first, last):
        c = block * COLUMNS
        width = min(<int64_t>COLUMNS, cols - c)
        for j in range(COLUMNS):
            sums[j] = products[j] = 0
        for part in range(parts):
            row = partial + 2 * part * cols + c
            for j in range(width):
                sums[j] += row[j]
                products[j] += row[cols + j]
        for j in range(width):
            if dgamma != NULL:
                dgamma[c + j] = <real>products[j]
            if dbeta != NULL:
                dbeta[c + j] = <real>sums[j]
            scale = rstd[c + j] * <double>(gamma[c + j] if gamma != NULL else <real>1.0)
            slope = -scale * rstd[c + j] * products[j] / rows
            factors[c + j] = <real>scale
            factors[cols + c + j] = <real>slope
            factors[2 * cols + c + j] = <real>(-scale * sums[j] / rows - slope * mean[c + j])


TABLE = {"moments": <size_t>&moments, "batch_norm_scale": <size_t>&batch_norm_scale,
         "gradient_moments": <size_t>&gradient_moments, "batch_norm_grad_scale": <size_t>&batch_norm_grad_scale}
LAYOUT = layout()
SIGNATURE = signature()
