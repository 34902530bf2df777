"""Batch normalization of many rows (the pixels of images): moments of parts of them, put together in a fixed order.

The rows are cut into ``parts`` by sizes alone, small enough to stay in L1 between a part's mean and its squares; where a
convolution makes the rows, it gathers the moments itself. What follows is a scale and a shift by column, steps of a chain.
"""
from libc.math cimport sqrt
from libc.stdint cimport int64_t
from nncore.kernels.column_sums cimport CHANNELS, Sums, add_moments, add_slopes, store_moments, store_slopes
from nncore.op cimport Op, layout, signature, split
from nncore.vector cimport real

cdef enum:
    COLUMNS = 32            # whose totals, in double, are found at a time


# p: partial, x. n: rows, cols, parts (at most as many as rows)
cdef void moments(const Op* op, int thread, int threads) noexcept nogil:
    """partial[part, 2, cols]: for each part of the rows their mean, and the sum of squares of their distances from it."""
    cdef real* partial = <real*>op.p[0]
    cdef const real* x = <const real*>op.p[1]
    cdef int64_t rows = op.n[0], cols = op.n[1], parts = op.n[2], first = 0, last = 0, part, r0 = 0, r1 = 0, c, wide
    cdef Sums sums
    split(parts, thread, threads, &first, &last)
    for part in range(first, last):
        split(rows, part, parts, &r0, &r1)
        c = 0
        while c < cols:
            wide = min(cols - c, <int64_t>CHANNELS)
            add_moments(&sums, x + r0 * cols + c, r1 - r0, cols, wide, True)
            store_moments(&sums, r1 - r0, wide, partial + 2 * part * cols + c, partial + (2 * part + 1) * cols + c)
            c += CHANNELS


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
    cdef const real* dy = <const real*>op.p[1]
    cdef const real* x = <const real*>op.p[2]
    cdef const real* mean = <const real*>op.p[3]
    cdef const real* rstd = <const real*>op.p[4]
    cdef int64_t rows = op.n[0], cols = op.n[1], parts = op.n[2], first = 0, last = 0, part, r0 = 0, r1 = 0, c, wide
    cdef Sums sums
    split(parts, thread, threads, &first, &last)
    for part in range(first, last):
        split(rows, part, parts, &r0, &r1)
        c = 0
        while c < cols:
            wide = min(cols - c, <int64_t>CHANNELS)
            add_slopes(&sums, dy + r0 * cols + c, x + r0 * cols + c, mean + c, r1 - r0, cols, wide, True)
            store_slopes(&sums, rstd + c, wide, partial + 2 * part * cols + c, partial + (2 * part + 1) * cols + c)
            c += CHANNELS


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
