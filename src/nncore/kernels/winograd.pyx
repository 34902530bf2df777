"""Convolutions with windows of 3 x 3, every pixel, by Winograd's minimal filtering F(2 x 2, 3 x 3): 4 products for each
pixel and pair of channels instead of 9 (Lavin and Gray, Fast algorithms for convolutional neural networks, CVPR 2016).

An image is cut into squares of 4 x 4 pixels, two apart. Squares and weights are transformed to 16 numbers each; for each of
the 16 a matrix product, squares x channels and channels x channels, goes through the micro-kernel of the convolutions; 2 x 2
pixels of the result come from each square of 16 sums. The gradient by the weights is the same backwards: gradients of 2 x 2
pixels become 16 numbers, products with those of the squares are summed over all squares, and 16 sums become 9 weights. A band
of squares at a time, which stays in L2 from the image to the result. Rounding errors are not larger than those of direct
sums, which are longer.
"""
from libc.stdint cimport int64_t
from nncore.kernels.chain cimport StepRecord, apply_steps, fetch_operands, step_layout
from nncore.kernels.column_sums cimport Sums, add_moments, add_slopes, store_moments, store_slopes
from nncore.kernels.conv_micro cimport PIXELS, Pairs, Run, TALL, any_pixels, any_products
from nncore.kernels.gemm_micro cimport nn_inlined, nn_outlined
from nncore.kernels.lanes cimport LINE, fetch
from nncore.op cimport Op, layout, signature, split
from nncore.vector cimport LANES, real, vf, vload, vsplat, vstore


cdef nn_outlined tiles(int mr, int nv, const real* x, int64_t next_x, int64_t sx, const Run* run, const real* w,
                       int64_t next_w, real* y, int64_t next_y, int64_t sy) noexcept nogil:
    """A tile of each of the 16 products. One copy of all the micro-kernels."""
    any_pixels(mr, nv, 16, x, next_x, sx, run, 1, w, next_w, y, next_y, sy)


cdef nn_outlined sums_of(int mr, int nv, const Pairs* p, const real* v, const real* m, real* sums, int64_t ld, int add) noexcept nogil:
    """A tile of each of the 16 products that make the weight gradient."""
    any_products(mr, nv, p, v, m, sums, ld, add)


cdef inline nn_inlined square(bint whole, const real* x, int64_t top, int64_t left, int64_t h, int64_t width, int64_t c, real* v,
                              int64_t apart) noexcept nogil:
    """v[16, c], ``apart`` from one row to the next: the transform of the 4 x 4 pixels from (top, left) on; ``whole``: all of
    them are on the image x[h, width, c], else there are zeros."""
    cdef vf d[4][4]
    cdef vf a, b
    cdef int i, j
    cdef int64_t col = 0
    x += (top * width + left) * c
    while col < c:
        for i in range(4):
            for j in range(4):
                if whole or (0 <= top + i < h and 0 <= left + j < width):
                    d[i][j] = vload(x + (i * width + j) * c + col)
                else:
                    d[i][j] = vsplat(0)
        for j in range(4):
            a, b = d[1][j], d[2][j]
            d[0][j] = d[0][j] - b
            d[3][j] = a - d[3][j]
            d[1][j] = a + b
            d[2][j] = b - a
        for i in range(4):
            vstore(v + (4 * i) * apart + col, d[i][0] - d[i][2])
            vstore(v + (4 * i + 1) * apart + col, d[i][1] + d[i][2])
            vstore(v + (4 * i + 2) * apart + col, d[i][2] - d[i][1])
            vstore(v + (4 * i + 3) * apart + col, d[i][1] - d[i][3])
        col += LANES


cdef inline nn_inlined pixels_of(int nv, const real* m, int64_t apart, real* y, int64_t down, int64_t right, bint both_rows,
                                 bint both_columns) noexcept nogil:
    """2 x 2 pixels (or fewer, at the end of the image) of nv vectors of channels, of m[16, nv vectors]."""
    cdef vf s[2][4]
    cdef vf a, b
    cdef int j, v
    for v in range(nv):
        for j in range(4):
            a = vload(m + (4 + j) * apart + v * LANES)
            b = vload(m + (8 + j) * apart + v * LANES)
            s[0][j] = vload(m + j * apart + v * LANES) + (a + b)
            s[1][j] = (a - b) - vload(m + (12 + j) * apart + v * LANES)
        vstore(y + v * LANES, s[0][0] + (s[0][1] + s[0][2]))
        if both_columns:
            vstore(y + right + v * LANES, (s[0][1] - s[0][2]) - s[0][3])
        if both_rows:
            vstore(y + down + v * LANES, s[1][0] + (s[1][1] + s[1][2]))
            if both_columns:
                vstore(y + down + right + v * LANES, (s[1][1] - s[1][2]) - s[1][3])


cdef inline void squares_of(const real* image, int64_t a0, int64_t a1, int64_t wide, int64_t pt, int64_t pl, int64_t h,
                            int64_t width, int64_t c, real* v, int64_t apart) noexcept nogil:
    """v[16, squares, c]: the transforms of rows [a0, a1) of squares."""
    cdef int64_t a, b, top, left
    for a in range(a0, a1):
        top = 2 * a - pt
        for b in range(wide):
            left = 2 * b - pl
            if top >= 0 and top + 4 <= h and left >= 0 and left + 4 <= width:
                square(True, image, top, left, h, width, c, v, apart)
            else:
                square(False, image, top, left, h, width, c, v, apart)
            v += c


cdef inline void gradient_square(const real* dy, int64_t down, bint both_rows, bint both_columns, int64_t k, real* m,
                                 int64_t apart) noexcept nogil:
    """m[16, k]: what the gradients of 2 x 2 pixels (or fewer, at the end of the image) are to the 16 sums behind them."""
    cdef vf d[2][2]
    cdef vf t[4][2]
    cdef int i, j
    cdef int64_t col = 0
    while col < k:
        d[0][0] = vload(dy + col)
        d[0][1] = vload(dy + k + col) if both_columns else vsplat(0)
        d[1][0] = vload(dy + down + col) if both_rows else vsplat(0)
        d[1][1] = vload(dy + down + k + col) if both_rows and both_columns else vsplat(0)
        for j in range(2):
            t[0][j] = d[0][j]
            t[1][j] = d[0][j] + d[1][j]
            t[2][j] = d[0][j] - d[1][j]
            t[3][j] = vsplat(0) - d[1][j]
        for i in range(4):
            vstore(m + 4 * i * apart + col, t[i][0])
            vstore(m + (4 * i + 1) * apart + col, t[i][0] + t[i][1])
            vstore(m + (4 * i + 2) * apart + col, t[i][0] - t[i][1])
            vstore(m + (4 * i + 3) * apart + col, vsplat(0) - t[i][1])
        col += LANES


# p: y, x, w, steps, workspace, partial, normal, mean, rstd.
# n: batch, height, width, c; oi, oj, k; pt, pl; bands, n_steps, share
cdef void winograd(const Op* op, int thread, int threads) noexcept nogil:
    """y[n, i, j, k] = steps(sum over the window, from row i - pt and column j - pl of x [batch, height, width, c] on, of x times
    the weights), i < oi, j < oj. c and k are whole numbers of vectors; ``w``: as winograd_pack leaves it.

    Threads share images, each in ``bands`` of pairs of rows. A thread has ``share`` elements of ``workspace``: for the squares of
    a band 16 * (squares * c + LINE), then 16 * (squares * 2 * LANES + LINE). partial, normal, mean and rstd: as of conv.
    """
    cdef const int64_t* n = <const int64_t*>op.n
    cdef real* y = <real*>op.p[0]
    cdef const real* x = <const real*>op.p[1]
    cdef const real* w
    cdef const StepRecord* steps = <const StepRecord*>op.p[3]
    cdef real* partial = <real*>op.p[5]
    cdef const real* normal = <const real*>op.p[6]
    cdef int64_t batch = n[0], h = n[1], width = n[2], c = n[3], oi = n[4], oj = n[5], k = n[6], pt = n[7], pl = n[8], bands = n[9]
    cdef int64_t n_steps = n[10], high = (oi + 1) // 2, wide = (oj + 1) // 2, first = 0, last = 0, unit, image, a0 = 0, a1 = 0
    cdef int64_t a, b, i, j, t, squares, apart, apart_m, col, g, groups, t0 = 0, t1 = 0, ahead_row
    cdef int nv
    cdef real* v = <real*>op.p[4] + thread * n[11]
    cdef real* m
    cdef real* out
    cdef const real* from_x
    cdef const real* ahead
    cdef Run run
    cdef Sums sums
    if batch == 0 or oi == 0 or oj == 0:
        return
    run.offset, run.length, run.row = 0, c, 0
    split(batch * bands, thread, threads, &first, &last)
    for unit in range(first, last):
        image = unit // bands
        split(high, unit - image * bands, bands, &a0, &a1)
        squares = (a1 - a0) * wide
        apart = squares * c + LINE      # not a power of two, so that the 16 do not share a set of the cache
        m = v + 16 * apart
        from_x = x + image * h * width * c
        # While this band is computed the next one comes into L2, a part with each row.
        ahead = from_x + (2 * a1 * width * c if a1 < high else h * width * c)
        ahead_row = 2 * width * c if unit + 1 < last else 0
        squares_of(from_x, a0, a1, wide, pt, pl, h, width, c, v, apart)
        w = <const real*>op.p[2]
        col = 0
        while col < k:
            nv = 1 if k - col == LANES else 2
            groups = (squares + (TALL if nv == 1 else PIXELS) - 1) // (TALL if nv == 1 else PIXELS)
            apart_m = squares * nv * LANES + LINE
            for g in range(groups):
                split(squares, g, groups, &t0, &t1)
                tiles(<int>(t1 - t0), nv, v + t0 * c, apart, c, &run, w, c * nv * LANES, m + t0 * nv * LANES, apart_m, nv * LANES)
            w += 16 * c * nv * LANES
            for a in range(a0, a1):
                if col == 0:
                    fetch(ahead, 1, 0, ahead_row)
                    ahead += ahead_row
                i = 2 * a
                out = y + ((image * oi + i) * oj) * k + col
                fetch_operands(steps, n_steps, (image * oi + i) * oj, 2 * oj if i + 1 < oi else oj, col, nv * LANES)
                for b in range(wide):
                    j = 2 * b
                    t = (a - a0) * wide + b
                    if nv == 2:
                        pixels_of(2, m + t * 2 * LANES, apart_m, out + j * k, oj * k, k, i + 1 < oi, j + 1 < oj)
                    else:
                        pixels_of(1, m + t * LANES, apart_m, out + j * k, oj * k, k, i + 1 < oi, j + 1 < oj)
                for i in range(2 * a, min(oi, 2 * a + 2)):
                    if n_steps > 0:
                        apply_steps(steps, n_steps, out, k, (image * oi + i) * oj, oj, col, nv * LANES)
                    if normal != NULL:
                        add_slopes(&sums, out, normal + (out - y), <const real*>op.p[7] + col, oj, k, nv * LANES, i == 2 * a0)
                    elif partial != NULL:
                        add_moments(&sums, out, oj, k, nv * LANES, i == 2 * a0)
                    out += oj * k
            if normal != NULL:
                store_slopes(&sums, <const real*>op.p[8] + col, nv * LANES, partial + 2 * unit * k + col,
                             partial + (2 * unit + 1) * k + col)
            elif partial != NULL:
                store_moments(&sums, (min(oi, 2 * a1) - 2 * a0) * oj, nv * LANES, partial + 2 * unit * k + col,
                              partial + (2 * unit + 1) * k + col)
            col += nv * LANES


# p: out, w, order (int64). n: cin, cout, turned
cdef void winograd_pack(const Op* op, int thread, int threads) noexcept nogil:
    """out: for each panel of output channels (2 vectors, the last perhaps 1) and each of 16 numbers, a row for each input
    channel, of the transforms of w[place, cin, cout]. The window's nine places are ``order``; ``turned``: for the gradient by
    the input, whose output channels are cin and whose input channels are cout. Threads share the input channels."""
    cdef real* out = <real*>op.p[0]
    cdef const real* w = <const real*>op.p[1]
    cdef const int64_t* order = <const int64_t*>op.p[2]
    cdef int64_t cin = op.n[0], cout = op.n[1], rows = cin, cols = cout, step_r = cout, step_j = 1
    cdef int64_t first = 0, last = 0, col, r, v, j, wide, size = cin * cout
    cdef vf g[3][3]
    cdef vf t[4][3]
    cdef vf half = vsplat(<real>0.5)
    cdef real lanes[16]
    cdef int i, s
    cdef const real* from_w
    cdef real* to
    if op.n[2]:
        rows, cols, step_r, step_j = cout, cin, 1, cout
    split(rows, thread, threads, &first, &last)
    col = 0
    while col < cols:
        wide = min(<int64_t>(2 * LANES), cols - col)
        for r in range(first, last):
            for v in range(0, 2 if wide > LANES else 1):
                for i in range(3):
                    for s in range(3):
                        from_w = w + order[3 * i + s] * size + r * step_r + (col + v * LANES) * step_j
                        if step_j == 1:
                            g[i][s] = vload(from_w)
                        else:
                            for j in range(LANES):
                                lanes[j] = from_w[j * step_j]
                            g[i][s] = vload(lanes)
                for s in range(3):
                    t[0][s] = g[0][s]
                    t[1][s] = half * ((g[0][s] + g[2][s]) + g[1][s])
                    t[2][s] = half * ((g[0][s] + g[2][s]) - g[1][s])
                    t[3][s] = g[2][s]
                to = out + col * 16 * rows + r * wide + v * LANES
                for i in range(4):
                    vstore(to, t[i][0])
                    vstore(to + rows * wide, half * ((t[i][0] + t[i][2]) + t[i][1]))
                    vstore(to + 2 * rows * wide, half * ((t[i][0] + t[i][2]) - t[i][1]))
                    vstore(to + 3 * rows * wide, t[i][2])
                    to += 4 * rows * wide
        col += wide


# p: sums, x, dy, workspace. n: batch, height, width, c; oi, oj, k; pt, pl; chunks, bands, share
cdef void winograd_weight_sums(const Op* op, int thread, int threads) noexcept nogil:
    """sums[chunk, 16, c, k]: over the squares of a chunk's images, numbers of x [batch, height, width, c] times those of dy
    [batch, oi, oj, k]. c and k are whole numbers of vectors. ``chunks``: how many parts the batch is cut into: the order
    of additions depends on the sizes alone. Threads share them, and take an image in ``bands`` of pairs of rows. ``share``
    elements of ``workspace`` for each thread: for the squares of a band 16 * (squares * (c + k) + 2 * LINE)."""
    cdef const int64_t* n = <const int64_t*>op.n
    cdef const real* x = <const real*>op.p[1]
    cdef const real* dy = <const real*>op.p[2]
    cdef const real* from_dy
    cdef const real* ahead
    cdef int64_t batch = n[0], h = n[1], width = n[2], c = n[3], oi = n[4], oj = n[5], k = n[6], chunks = n[9], bands = n[10]
    cdef int64_t high = (oi + 1) // 2, wide = (oj + 1) // 2, first = 0, last = 0, chunk, n0 = 0, n1 = 0, image, band, a0 = 0
    cdef int64_t a1 = 0, a, b, squares, apart, apart_m, most = TALL if k == LANES else PIXELS, tiles = (c + most - 1) // most, t
    cdef int64_t m0 = 0, m1 = 0, col
    cdef Pairs pairs
    cdef bint add
    cdef real* v = <real*>op.p[3] + thread * n[11]
    cdef real* m
    cdef real* sums
    pairs.images, pairs.rows, pairs.times, pairs.next_dw = 1, 1, 16, c * k
    pairs.image_x, pairs.row_x, pairs.image_dy, pairs.row_dy = 0, 0, 0, 0
    pairs.sx, pairs.sdy = c, k
    split(chunks, thread, threads, &first, &last)
    for chunk in range(first, last):
        sums = <real*>op.p[0] + chunk * 16 * c * k
        split(batch, chunk, chunks, &n0, &n1)
        add = False
        for image in range(n0, n1):
            for band in range(bands):
                split(high, band, bands, &a0, &a1)
                squares = (a1 - a0) * wide
                apart, apart_m = squares * c + LINE, squares * k + LINE
                squares_of(x + image * h * width * c, a0, a1, wide, n[7], n[8], h, width, c, v, apart)
                m = v + 16 * apart
                for a in range(a0, a1):
                    from_dy = dy + (image * oi + 2 * a) * oj * k
                    for b in range(wide):
                        gradient_square(from_dy + 2 * b * k, oj * k, 2 * a + 1 < oi, 2 * b + 1 < oj, k,
                                        m + ((a - a0) * wide + b) * k, apart_m)
                # While these squares are summed the next ones come into L2.
                if a1 < high or image + 1 < n1:
                    ahead = x + (image * h + 2 * a1 if a1 < high else (image + 1) * h) * width * c
                    fetch(ahead, 1, 0, 2 * (a1 - a0) * width * c)
                    ahead = dy + (image * oi + 2 * a1 if a1 < high else (image + 1) * oi) * oj * k
                    fetch(ahead, 1, 0, 2 * (a1 - a0) * oj * k)
                pairs.count, pairs.next_x, pairs.next_dy = squares, apart, apart_m
                for t in range(tiles):
                    split(c, t, tiles, &m0, &m1)
                    col = 0
                    while col < k:
                        sums_of(<int>(m1 - m0), 1 if k - col == LANES else 2, &pairs, v + m0, m + col, sums + m0 * k + col, k, add)
                        col += 2 * LANES
                add = True


# p: dw, sums. n: cin, cout, chunks
cdef void winograd_weight_grad(const Op* op, int thread, int threads) noexcept nogil:
    """dw[3, 3, cin, cout] of sums[chunk, 16, cin, cout]. Threads share the input channels."""
    cdef real* dw = <real*>op.p[0]
    cdef const real* sums = <const real*>op.p[1]
    cdef int64_t c = op.n[0], k = op.n[1], chunks = op.n[2], first = 0, last = 0, place, chunk, size = c * k
    cdef vf s[4][4]
    cdef vf t[3][4]
    cdef vf half = vsplat(<real>0.5)
    cdef int i, j
    split(c, thread, threads, &first, &last)
    place = first * k
    while place < last * k:
        for i in range(4):
            for j in range(4):
                s[i][j] = vload(sums + (4 * i + j) * size + place)
                for chunk in range(1, chunks):
                    s[i][j] = s[i][j] + vload(sums + (16 * chunk + 4 * i + j) * size + place)
        for j in range(4):
            t[0][j] = s[0][j] + half * (s[1][j] + s[2][j])
            t[1][j] = half * (s[1][j] - s[2][j])
            t[2][j] = s[3][j] + half * (s[1][j] + s[2][j])
        for i in range(3):
            vstore(dw + 3 * i * size + place, t[i][0] + half * (t[i][1] + t[i][2]))
            vstore(dw + (3 * i + 1) * size + place, half * (t[i][1] - t[i][2]))
            vstore(dw + (3 * i + 2) * size + place, t[i][3] + half * (t[i][1] + t[i][2]))
        place += LANES


TABLE = {"winograd": <size_t>&winograd, "winograd_pack": <size_t>&winograd_pack,
         "winograd_weight_sums": <size_t>&winograd_weight_sums, "winograd_weight_grad": <size_t>&winograd_weight_grad}
LAYOUT = layout()
SIGNATURE = signature()
STEP_LAYOUT = step_layout()
globals().update(LANES=LANES, LINE=LINE)
