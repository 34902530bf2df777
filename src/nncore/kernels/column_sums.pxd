# Sums over the pixels of an image, channel by channel (of a matrix: over rows, column by column), of what a convolution or
# a product has just written and is still in cache: the moments that batch normalization needs forward, the two sums of its
# gradient, plain sums. Inlined into conv.pyx, winograd.pyx, gemm.pyx, and into moments.pyx, for rows that come from elsewhere.
from libc.stdint cimport int64_t
from nncore.kernels.lanes cimport load_part, store_part
from nncore.vector cimport LANES, real, vf, vload, vmax, vsplat, vstore

cdef enum:
    CHANNELS = 32           # summed at a time, at most: a panel of a convolution

cdef struct Sums:           # of the pixels of one panel so far
    real shift[CHANNELS]    # moments are those of y - shift: the mean of the first row, so that little cancels
    real first[CHANNELS]    # sums of y - shift, or of dy
    real second[CHANNELS]   # and of their squares, or of dy * (x - mean)


cdef inline vf pixel(const real* y, int64_t r, int64_t count, int64_t ld, int64_t c, int64_t wide) noexcept nogil:
    """Channels c to wide, one vector at most, of pixel r of ``count``."""
    return load_part(y + r * ld + c, wide - c, (count - 1 - r) * ld + wide - c, 0)


cdef inline void add_moments(Sums* sums, const real* y, int64_t count, int64_t ld, int64_t wide, bint is_first) noexcept nogil:
    """Add a row of ``count`` pixels, ld apart, of ``wide`` channels."""
    cdef vf a, b, p, q, d, shift
    cdef int64_t c = 0, r
    while c < wide:
        a = b = p = q = vsplat(0)
        if is_first:
            for r in range(count):
                a = a + pixel(y, r, count, ld, c, wide)
            vstore(sums.shift + c, a * vsplat(<real>(1.0 / count)))
            vstore(sums.first + c, b)
            vstore(sums.second + c, b)
            a = b
        shift = vload(sums.shift + c)
        for r in range(0, count - 1, 2):
            d = pixel(y, r, count, ld, c, wide) - shift
            a = a + d
            p = p + d * d
            d = pixel(y, r + 1, count, ld, c, wide) - shift
            b = b + d
            q = q + d * d
        if count % 2:
            d = pixel(y, count - 1, count, ld, c, wide) - shift
            a = a + d
            p = p + d * d
        vstore(sums.first + c, vload(sums.first + c) + (a + b))
        vstore(sums.second + c, vload(sums.second + c) + (p + q))
        c += LANES


cdef inline void store_moments(const Sums* sums, int64_t pixels, int64_t wide, real* mean, real* squares) noexcept nogil:
    """The mean of all pixels added, and the sum of squares of the distances from it."""
    cdef vf inverse = vsplat(<real>(1.0 / pixels)), s
    cdef int64_t c = 0
    while c < wide:
        s = vload(sums.first + c)
        store_part(mean + c, vload(sums.shift + c) + s * inverse, wide - c)
        store_part(squares + c, vmax(vsplat(0), vload(sums.second + c) - s * s * inverse), wide - c)
        c += LANES


cdef inline void add_slopes(Sums* sums, const real* dy, const real* x, const real* mean, int64_t count, int64_t ld,
                            int64_t wide, bint is_first) noexcept nogil:
    """Add a row of ``count`` pixels of dy, and of dy * (x - mean)."""
    cdef vf a, b, p, q, g, centre
    cdef int64_t c = 0, r
    while c < wide:
        a = b = p = q = vsplat(0)
        centre = load_part(mean + c, wide - c, wide - c, 0)
        for r in range(0, count - 1, 2):
            g = pixel(dy, r, count, ld, c, wide)
            a = a + g
            p = p + g * (pixel(x, r, count, ld, c, wide) - centre)
            g = pixel(dy, r + 1, count, ld, c, wide)
            b = b + g
            q = q + g * (pixel(x, r + 1, count, ld, c, wide) - centre)
        if count % 2:
            g = pixel(dy, count - 1, count, ld, c, wide)
            a = a + g
            p = p + g * (pixel(x, count - 1, count, ld, c, wide) - centre)
        if not is_first:
            a = a + vload(sums.first + c)
            p = p + vload(sums.second + c)
        vstore(sums.first + c, a + b)
        vstore(sums.second + c, p + q)
        c += LANES


cdef inline void store_slopes(const Sums* sums, const real* rstd, int64_t wide, real* first, real* second) noexcept nogil:
    """The sums of dy and of dy * (x - mean) * rstd."""
    cdef int64_t c = 0
    while c < wide:
        store_part(first + c, vload(sums.first + c), wide - c)
        store_part(second + c, vload(sums.second + c) * load_part(rstd + c, wide - c, wide - c, 0), wide - c)
        c += LANES


# The same with totals in memory, for kernels that come back to a column when the others of a row are done: ``count`` rows
# join ``before`` others. They are few enough to be in L1.
cdef inline void join_sums(real* sums, int64_t before, const real* y, int64_t count, int64_t ld, int64_t wide) noexcept nogil:
    """The sums of columns."""
    cdef vf a, b
    cdef int64_t c = 0, r
    while c < wide:
        a = b = vsplat(0)
        for r in range(0, count - 1, 2):
            a = a + pixel(y, r, count, ld, c, wide)
            b = b + pixel(y, r + 1, count, ld, c, wide)
        if count % 2:
            a = a + pixel(y, count - 1, count, ld, c, wide)
        if before:
            b = b + load_part(sums + c, wide - c, wide - c, 0)
        store_part(sums + c, a + b, wide - c)
        c += LANES


cdef inline void join_moments(real* mean, real* squares, int64_t before, const real* y, int64_t count, int64_t ld,
                              int64_t wide) noexcept nogil:
    """The mean of columns, and the sum of squares of the distances from it (Chan, Golub and LeVeque, 1979)."""
    cdef vf a, b, p, q, d, centre, inverse = vsplat(<real>(1.0 / count))
    cdef vf share = vsplat(<real>(<double>count / (before + count)))
    cdef int64_t c = 0, r
    while c < wide:
        a = b = p = q = vsplat(0)
        for r in range(0, count - 1, 2):
            a = a + pixel(y, r, count, ld, c, wide)
            b = b + pixel(y, r + 1, count, ld, c, wide)
        if count % 2:
            a = a + pixel(y, count - 1, count, ld, c, wide)
        centre = (a + b) * inverse
        for r in range(0, count - 1, 2):
            d = pixel(y, r, count, ld, c, wide) - centre
            p = p + d * d
            d = pixel(y, r + 1, count, ld, c, wide) - centre
            q = q + d * d
        if count % 2:
            d = pixel(y, count - 1, count, ld, c, wide) - centre
            p = p + d * d
        p = p + q
        if before:
            q = load_part(mean + c, wide - c, wide - c, 0)
            d = centre - q
            centre = q + d * share
            p = p + load_part(squares + c, wide - c, wide - c, 0) + d * d * (share * vsplat(<real>before))
        store_part(mean + c, centre, wide - c)
        store_part(squares + c, p, wide - c)
        c += LANES


cdef inline void join_slopes(real* first, real* second, int64_t before, const real* dy, const real* x, const real* mean,
                             const real* rstd, int64_t count, int64_t ld, int64_t wide) noexcept nogil:
    """The sums of dy and of dy * (x - mean) * rstd."""
    cdef vf a, b, p, q, g, centre
    cdef int64_t c = 0, r
    while c < wide:
        a = b = p = q = vsplat(0)
        centre = load_part(mean + c, wide - c, wide - c, 0)
        for r in range(0, count - 1, 2):
            g = pixel(dy, r, count, ld, c, wide)
            a = a + g
            p = p + g * (pixel(x, r, count, ld, c, wide) - centre)
            g = pixel(dy, r + 1, count, ld, c, wide)
            b = b + g
            q = q + g * (pixel(x, r + 1, count, ld, c, wide) - centre)
        if count % 2:
            g = pixel(dy, count - 1, count, ld, c, wide)
            a = a + g
            p = p + g * (pixel(x, count - 1, count, ld, c, wide) - centre)
        p = (p + q) * load_part(rstd + c, wide - c, wide - c, 0)
        if before:
            b = b + load_part(first + c, wide - c, wide - c, 0)
            p = p + load_part(second + c, wide - c, wide - c, 0)
        store_part(first + c, a + b, wide - c)
        store_part(second + c, p, wide - c)
        c += LANES
