# Batch and layer normalization, forward and backward.
#
# Batch normalization over rows: a thread owns a block of columns, small enough that all its rows stay in cache between
# the passes (mean, variance, result), so memory is read once and written once. Sums run over rows in one order.
from libc.stdint cimport int64_t
from nncore.op cimport Op, layout, signature, split
from nncore.vector cimport LANES, real, real_sqrt, vf, vload, vsplat, vstore
from nncore.kernels.chain cimport StepRecord, apply_steps, step_layout
from nncore.kernels.lanes cimport lanes_sum, load_part, store_part

cdef enum:
    BLOCK = 256         # rows summed before they are added to the total: rounding grows with BLOCK + rows / BLOCK


cdef inline int64_t room(int64_t rows, int64_t r, int64_t cols, int64_t c) noexcept nogil:
    """Elements from (r, c) to the end of a matrix."""
    return (rows - r) * cols - c


cdef inline vf column(const real* x, int64_t rows, int64_t cols, int64_t r, int64_t c, int64_t width) noexcept nogil:
    return load_part(x + r * cols + c, width, room(rows, r, cols, c), 0)


# p: y, x, gamma, beta, mean, rstd, moving_mean, moving_variance, steps. n: rows, cols, n_steps. s: epsilon, momentum
cdef void batch_norm(const Op* op, int thread, int threads) noexcept nogil:
    """y = steps((x - mean) * rstd * gamma + beta) with the batch's own mean and (biased) variance, which are kept for the
    backward pass and move the running ones: moving = momentum * moving + (1 - momentum) * batch (Ioffe and Szegedy, 2015)."""
    cdef real* y = <real*>op.p[0]
    cdef const real* x = <const real*>op.p[1]
    cdef const real* gamma = <const real*>op.p[2]
    cdef const real* beta = <const real*>op.p[3]
    cdef real* mean = <real*>op.p[4]
    cdef real* rstd = <real*>op.p[5]
    cdef real* moving_mean = <real*>op.p[6]
    cdef real* moving_variance = <real*>op.p[7]
    cdef int64_t rows = op.n[0], cols = op.n[1], first = 0, last = 0, block, c, r, start, end, width, j
    cdef vf total, part, centre, scale, shift, d, inverse = vsplat(<real>(1.0 / rows if rows else 0.0))
    cdef real variance[16]
    cdef real deviation[16]
    cdef real keep = <real>op.s[1], take = <real>(1.0 - op.s[1])
    split((cols + LANES - 1) // LANES, thread, threads, &first, &last)
    for block in range(first, last):
        c = block * LANES
        width = min(<int64_t>LANES, cols - c)
        total = vsplat(0)
        start = 0
        while start < rows:
            end = min(rows, start + BLOCK)
            part = vsplat(0)
            for r in range(start, end):
                part = part + column(x, rows, cols, r, c, width)
            total = total + part
            start = end
        centre = total * inverse
        total = vsplat(0)
        start = 0
        while start < rows:
            end = min(rows, start + BLOCK)
            part = vsplat(0)
            for r in range(start, end):
                d = column(x, rows, cols, r, c, width) - centre
                part = part + d * d
            total = total + part
            start = end
        vstore(variance, total * inverse)
        for j in range(LANES):
            deviation[j] = <real>1.0 / real_sqrt(variance[j] + <real>op.s[0])
        scale = vload(deviation)
        store_part(mean + c, centre, width)
        store_part(rstd + c, scale, width)
        for j in range(width):
            moving_mean[c + j] = keep * moving_mean[c + j] + take * mean[c + j]
            moving_variance[c + j] = keep * moving_variance[c + j] + take * variance[j]
        if gamma != NULL:
            scale = scale * load_part(gamma + c, width, cols - c, 0)
        shift = vsplat(0) - centre * scale
        if beta != NULL:
            shift = shift + load_part(beta + c, width, cols - c, 0)
        for r in range(rows):
            store_part(y + r * cols + c, column(x, rows, cols, r, c, width) * scale + shift, width)
        if op.n[2]:
            apply_steps(<const StepRecord*>op.p[8], op.n[2], y + c, cols, 0, rows, c, width)


# p: dx, dgamma, dbeta, dy, x, gamma, mean, rstd. n: rows, cols
cdef void batch_norm_grad(const Op* op, int thread, int threads) noexcept nogil:
    """dgamma = sum(dy * xhat), dbeta = sum(dy), dx = gamma * rstd * (dy - dbeta / rows - xhat * dgamma / rows)."""
    cdef real* dx = <real*>op.p[0]
    cdef real* dgamma = <real*>op.p[1]
    cdef real* dbeta = <real*>op.p[2]
    cdef const real* dy = <const real*>op.p[3]
    cdef const real* x = <const real*>op.p[4]
    cdef const real* gamma = <const real*>op.p[5]
    cdef int64_t rows = op.n[0], cols = op.n[1], first = 0, last = 0, block, c, r, start, end, width
    cdef vf centre, deviation, scale, sums, products, part, part_products, g, a, b, inverse
    inverse = vsplat(<real>(1.0 / rows if rows else 0.0))
    split((cols + LANES - 1) // LANES, thread, threads, &first, &last)
    for block in range(first, last):
        c = block * LANES
        width = min(<int64_t>LANES, cols - c)
        centre = load_part(<const real*>op.p[6] + c, width, cols - c, 0)
        deviation = load_part(<const real*>op.p[7] + c, width, cols - c, 0)
        sums = vsplat(0)
        products = vsplat(0)
        start = 0
        while start < rows:
            end = min(rows, start + BLOCK)
            part = vsplat(0)
            part_products = vsplat(0)
            for r in range(start, end):
                g = column(dy, rows, cols, r, c, width)
                part = part + g
                part_products = part_products + g * (column(x, rows, cols, r, c, width) - centre)
            sums = sums + part
            products = products + part_products
            start = end
        products = products * deviation
        if dgamma != NULL:
            store_part(dgamma + c, products, width)
        if dbeta != NULL:
            store_part(dbeta + c, sums, width)
        if dx == NULL:
            continue
        scale = deviation
        if gamma != NULL:
            scale = scale * load_part(gamma + c, width, cols - c, 0)
        a = vsplat(0) - scale * deviation * products * inverse     # dx = scale * dy + a * x + b
        b = vsplat(0) - scale * sums * inverse - a * centre
        for r in range(rows):
            store_part(dx + r * cols + c, column(dy, rows, cols, r, c, width) * scale
                       + (column(x, rows, cols, r, c, width) * a + b), width)


# p: scale, shift, gamma, beta, moving_mean, moving_variance. n: cols. s: epsilon
cdef void batch_norm_fold(const Op* op, int thread, int threads) noexcept nogil:
    """Inference: normalization with the running statistics is x * scale + shift. Thread 0 only."""
    cdef real* scale = <real*>op.p[0]
    cdef real* shift = <real*>op.p[1]
    cdef const real* gamma = <const real*>op.p[2]
    cdef const real* beta = <const real*>op.p[3]
    cdef const real* moving_mean = <const real*>op.p[4]
    cdef const real* moving_variance = <const real*>op.p[5]
    cdef int64_t c
    if thread:
        return
    for c in range(op.n[0]):
        scale[c] = (gamma[c] if gamma != NULL else <real>1.0) / real_sqrt(moving_variance[c] + <real>op.s[0])
        shift[c] = (beta[c] if beta != NULL else <real>0.0) - moving_mean[c] * scale[c]


cdef inline real sum_of_row(const real* x, int64_t cols, real centre, bint squares) noexcept nogil:
    """The sum of x - centre over a row, or of its square: BLOCK vectors at a time."""
    cdef vf total = vsplat(0), part, d
    cdef int64_t c = 0, end
    while c < cols:
        end = min(cols, c + BLOCK * LANES)
        part = vsplat(0)
        while c < end:
            d = load_part(x + c, cols - c, cols - c, centre) - vsplat(centre)
            part = part + (d * d if squares else d)
            c += LANES
        total = total + part
    return lanes_sum(total)


# p: y, x, gamma, beta, mean, rstd, steps. n: rows, cols, n_steps. s: epsilon
cdef void layer_norm(const Op* op, int thread, int threads) noexcept nogil:
    """y = steps((x - mean) * rstd * gamma + beta) with the mean and (biased) variance of each row (Ba et al., 2016)."""
    cdef const real* gamma = <const real*>op.p[2]
    cdef const real* beta = <const real*>op.p[3]
    cdef const real* x
    cdef real* y
    cdef int64_t rows = op.n[0], cols = op.n[1], first = 0, last = 0, block, r, c, width
    cdef vf d
    cdef real centre, deviation
    split(rows, thread, threads, &first, &last)
    for r in range(first, last):
        x = <const real*>op.p[1] + r * cols
        y = <real*>op.p[0] + r * cols
        centre = sum_of_row(x, cols, 0, 0) / cols
        deviation = <real>1.0 / real_sqrt(sum_of_row(x, cols, centre, 1) / cols + <real>op.s[0])
        (<real*>op.p[4])[r] = centre
        (<real*>op.p[5])[r] = deviation
        for block in range((cols + LANES - 1) // LANES):
            c = block * LANES
            width = cols - c
            d = (load_part(x + c, width, width, 0) - vsplat(centre)) * vsplat(deviation)
            if gamma != NULL:
                d = d * load_part(gamma + c, width, width, 0)
            if beta != NULL:
                d = d + load_part(beta + c, width, width, 0)
            store_part(y + c, d, width)
    if op.n[2] and first < last:
        apply_steps(<const StepRecord*>op.p[6], op.n[2], <real*>op.p[0] + first * cols, cols, first, last - first, 0, cols)


# p: dx, dy, x, gamma, mean, rstd. n: rows, cols
cdef void layer_norm_grad(const Op* op, int thread, int threads) noexcept nogil:
    """dx = rstd * (g - mean(g) - xhat * mean(g * xhat)) with g = dy * gamma, row by row."""
    cdef const real* gamma = <const real*>op.p[3]
    cdef const real* dy
    cdef const real* x
    cdef real* dx
    cdef int64_t rows = op.n[0], cols = op.n[1], first = 0, last = 0, block, r, c, width
    cdef vf sums, products, part, part_products, g, centre, deviation
    cdef int64_t end
    cdef real mean_g, mean_product
    split(rows, thread, threads, &first, &last)
    for r in range(first, last):
        dx = <real*>op.p[0] + r * cols
        dy = <const real*>op.p[1] + r * cols
        x = <const real*>op.p[2] + r * cols
        centre = vsplat((<const real*>op.p[4])[r])
        deviation = vsplat((<const real*>op.p[5])[r])
        sums = vsplat(0)
        products = vsplat(0)
        c = 0
        while c < cols:
            end = min(cols, c + BLOCK * LANES)
            part = vsplat(0)
            part_products = vsplat(0)
            while c < end:
                width = cols - c
                g = load_part(dy + c, width, width, 0)
                if gamma != NULL:
                    g = g * load_part(gamma + c, width, width, 0)
                part = part + g
                part_products = part_products + g * ((load_part(x + c, width, width, 0) - centre) * deviation)
                c += LANES
            sums = sums + part
            products = products + part_products
        mean_g = lanes_sum(sums) / cols
        mean_product = lanes_sum(products) / cols
        for block in range((cols + LANES - 1) // LANES):
            c = block * LANES
            width = cols - c
            g = load_part(dy + c, width, width, 0)
            if gamma != NULL:
                g = g * load_part(gamma + c, width, width, 0)
            store_part(dx + c, deviation * (g - vsplat(mean_g) - (load_part(x + c, width, width, 0) - centre)
                       * deviation * vsplat(mean_product)), width)


# p: dgamma, dbeta, dy, x, mean, rstd. n: rows, cols
cdef void layer_norm_parameter_grad(const Op* op, int thread, int threads) noexcept nogil:
    """dgamma = sum over rows of dy * xhat, dbeta = sum of dy. Threads share the columns."""
    cdef real* dgamma = <real*>op.p[0]
    cdef real* dbeta = <real*>op.p[1]
    cdef const real* dy = <const real*>op.p[2]
    cdef const real* x = <const real*>op.p[3]
    cdef const real* mean = <const real*>op.p[4]
    cdef const real* rstd = <const real*>op.p[5]
    cdef int64_t rows = op.n[0], cols = op.n[1], first = 0, last = 0, block, c, r, start, end, width
    cdef vf sums, products, part, part_products, g
    split((cols + LANES - 1) // LANES, thread, threads, &first, &last)
    for block in range(first, last):
        c = block * LANES
        width = min(<int64_t>LANES, cols - c)
        sums = vsplat(0)
        products = vsplat(0)
        start = 0
        while start < rows:
            end = min(rows, start + BLOCK)
            part = vsplat(0)
            part_products = vsplat(0)
            for r in range(start, end):
                g = column(dy, rows, cols, r, c, width)
                part = part + g
                part_products = part_products + g * ((column(x, rows, cols, r, c, width) - vsplat(mean[r])) * vsplat(rstd[r]))
            sums = sums + part
            products = products + part_products
            start = end
        if dgamma != NULL:
            store_part(dgamma + c, products, width)
        if dbeta != NULL:
            store_part(dbeta + c, sums, width)


TABLE = {"batch_norm": <size_t>&batch_norm, "batch_norm_grad": <size_t>&batch_norm_grad,
         "batch_norm_fold": <size_t>&batch_norm_fold, "layer_norm": <size_t>&layer_norm,
         "layer_norm_grad": <size_t>&layer_norm_grad, "layer_norm_parameter_grad": <size_t>&layer_norm_parameter_grad}
LAYOUT = layout()
SIGNATURE = signature()
STEP_LAYOUT = step_layout()
