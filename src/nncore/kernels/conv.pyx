"""Convolution of images in NHWC: forward and input gradient (conv), weights into panels (conv_pack), weight gradient.

How it works. A convolution is a sum, over the places of a window, of products of pixels x channels and channels x channels.
The micro-kernel keeps a tile of pixels x (2 vectors of) output channels in registers and runs through the window: one
broadcast of the input feeds two FMAs. It reads the image itself: no matrix of windows is ever made, and no zeros are put
around the image. Windows that reach over the edge have lists of their own of what they sum (nncore.windows), and go
through the micro-kernel together with those above and below them, which reach over the same edge.

An input gradient is the convolution of the output's gradient with the weights turned round; with strides it is one
convolution for each phase of the pixels, which writes every stride-th pixel: nnpy.ops.conv knows of this. What batch
normalization needs to know of a result (column_sums.pxd) is summed while it is in L1.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset
from nncore.kernels.chain cimport StepRecord, apply_steps, fetch_operands, step_layout
from nncore.kernels.column_sums cimport Sums, add_moments, add_slopes, store_moments, store_slopes
from nncore.kernels.conv_micro cimport PIXELS, Pairs, Run, TALL, any_pixels, any_products
from nncore.kernels.gemm_micro cimport nn_outlined
from nncore.kernels.lanes cimport fetch
from nncore.op cimport Op, layout, signature, split
from nncore.vector cimport LANES, real

cdef enum:
    MOST_NR = 32            # channels of a panel


cdef nn_outlined tile(int mr, int nv, int64_t times, const real* x, int64_t sx, const Run* runs, int64_t n_runs, const real* w, real* y,
                      int64_t sy) noexcept nogil:
    """One copy of all the micro-kernels."""
    any_pixels(mr, nv, times, x, 0, sx, runs, n_runs, w, 0, y, 0, sy)


cdef inline void any_tile(int mr, int wide, const real* x, int64_t sx, const Run* runs, int64_t n_runs, const real* w,
                          real* y, int64_t sy) noexcept nogil:
    """A tile that may end inside a vector: then it is computed beside y, so that nothing right of it is touched."""
    cdef real beside[TALL * MOST_NR]
    cdef int i, nv = 1 if wide <= LANES else 2
    if wide == nv * LANES:
        tile(mr, nv, 1, x, sx, runs, n_runs, w, y, sy)
        return
    tile(mr, nv, 1, x, sx, runs, n_runs, w, beside, nv * LANES)
    for i in range(mr):
        memcpy(y + i * sy, beside + i * nv * LANES, wide * sizeof(real))


# p: y, x, w, rows, columns, runs, starts (int64), steps, partial, normal, mean, rstd.
# n: batch, height, width, c; oi, oj, k; yh, yw, osh, osw, oph, opw; sh, sw, pt, pl; stretches, kinds, depth, groups, bands, block, n_steps
cdef void conv(const Op* op, int thread, int threads) noexcept nogil:
    """y[n, i * osh + oph, j * osw + opw, k] = steps(sum of runs of x times w), i < oi, j < oj; y is [batch, yh, yw, k].

    The window of (i, j) begins at row i * sh - pt and column j * sw - pl of x [batch, height, width, c]; what it sums
    depends on its kind. nncore.windows says what ``rows``, ``columns`` (so many ``stretches``), ``runs`` and ``starts`` are;
    ``kinds``: of columns. ``w``: as conv_pack leaves it, ``depth`` rows in a panel. Threads share images, each in ``bands``
    <= oi of rows. So many bands as a ``block`` has go through one panel of w after the other.

    partial[image, band, 2, k], if not NULL: of the pixels of a band the mean and the sum of squared distances from it; or,
    with ``normal``, the sums of y and of y * (normal - mean) * rstd. y is then whole rows of [batch, oi, oj, k].
    """
    cdef const int64_t* n = <const int64_t*>op.n
    cdef real* y = <real*>op.p[0]
    cdef const real* x = <const real*>op.p[1]
    cdef const real* w = <const real*>op.p[2]
    cdef const int64_t* rows = <const int64_t*>op.p[3]
    cdef const int64_t* columns = <const int64_t*>op.p[4]
    cdef const Run* runs = <const Run*>op.p[5]
    cdef const int64_t* starts = <const int64_t*>op.p[6]
    cdef const StepRecord* steps = <const StepRecord*>op.p[7]
    cdef real* partial = <real*>op.p[8]
    cdef const real* normal = <const real*>op.p[9]
    cdef const real* mean = <const real*>op.p[10]
    cdef const real* rstd = <const real*>op.p[11]
    cdef int64_t batch = n[0], h = n[1], width = n[2], c = n[3], oi = n[4], oj = n[5], k = n[6], yh = n[7], yw = n[8]
    cdef int64_t osh = n[9], osw = n[10], sh = n[13], sw = n[14], stretches = n[17], kinds = n[18], depth = n[19]
    cdef int64_t groups = n[20], bands = n[21], block = n[22], n_steps = n[23], cg = c // groups, kg = k // groups, row_x = width * c
    cdef int64_t unit0, unit1, unit, first = 0, last = 0, i0 = 0, i1 = 0, image, g, col, i, end, r, s, j, j0 = 0, j1 = 0
    cdef int64_t t, tiles, count, most, panels = groups * ((kg + 2 * LANES - 1) // (2 * LANES)), ahead_row
    cdef int wide
    cdef Sums sums
    cdef const real* ahead
    cdef const real* from_x
    cdef const real* panel
    cdef const int64_t* stretch
    cdef const int64_t* start
    cdef real* out
    if batch == 0 or oi == 0 or oj == 0:
        return
    split(batch * bands, thread, threads, &first, &last)
    unit0 = first
    while unit0 < last:
        unit1 = min(last, unit0 + block)
        # While this block is computed the next one comes into L2, a part with each row.
        split(oi, unit1 % bands, bands, &i0, &i1)
        ahead = x + (unit1 // bands * h + i0 * sh) * row_x
        ahead_row = sh * row_x // panels if unit1 < last else 0
        panel = w
        for g in range(groups):
            col = 0
            while col < kg:
                wide = <int>min(<int64_t>(2 * LANES), kg - col)
                most = TALL if wide <= LANES else PIXELS
                for unit in range(unit0, unit1):
                    image = unit // bands
                    split(oi, unit - image * bands, bands, &i0, &i1)
                    i = i0
                    while i < i1:
                        end = i + 1         # rows of one kind
                        while end < i1 and end - i < most and rows[end] == rows[i]:
                            end += 1
                        start = starts + rows[i] * kinds
                        from_x = x + ((image * h + i * sh - n[15]) * width - n[16]) * c + g * cg
                        out = y + ((image * yh + i * osh + n[11]) * yw + n[12]) * k + g * kg + col
                        # Stretches with fewer pixels than there are rows: tiles of pixels below each other.
                        for s in range(stretches):
                            stretch = columns + 3 * s
                            t = stretch[2]
                            if stretch[1] - stretch[0] < end - i:
                                for j in range(stretch[0], stretch[1]):
                                    any_tile(<int>(end - i), wide, from_x + j * sw * c, sh * row_x, runs + start[t],
                                             start[t + 1] - start[t], panel, out + j * osw * k, osh * yw * k)
                        for r in range(i, end):
                            fetch(ahead, 1, 0, ahead_row)
                            ahead += ahead_row
                            if r + 1 < i1:
                                fetch(out + osh * yw * k, oj, osw * k, wide)
                                fetch_operands(steps, n_steps, (image * yh + r + 1) * yw, oj, g * kg + col, wide)
                                if normal != NULL:
                                    fetch(normal + (out - y) + yw * k, oj, k, wide)
                            for s in range(stretches):
                                stretch = columns + 3 * s
                                count = stretch[1] - stretch[0]
                                if count < end - i:
                                    continue
                                tiles = (count + most - 1) // most
                                for t in range(tiles):
                                    split(count, t, tiles, &j0, &j1)
                                    j = stretch[0] + j0
                                    any_tile(<int>(j1 - j0), wide, from_x + j * sw * c, sw * c, runs + start[stretch[2]],
                                             start[stretch[2] + 1] - start[stretch[2]], panel, out + j * osw * k, osw * k)
                            if n_steps > 0:
                                apply_steps(steps, n_steps, out, k, (image * yh + r) * yw, oj, g * kg + col, wide)
                            if normal != NULL:
                                add_slopes(&sums, out, normal + (out - y), mean + g * kg + col, oj, k, wide, r == i0)
                            elif partial != NULL:
                                add_moments(&sums, out, oj, k, wide, r == i0)
                            from_x += sh * row_x
                            out += osh * yw * k
                        i = end
                    if normal != NULL:
                        store_slopes(&sums, rstd + g * kg + col, wide, partial + 2 * unit * k + g * kg + col,
                                     partial + (2 * unit + 1) * k + g * kg + col)
                    elif partial != NULL:
                        store_moments(&sums, (i1 - i0) * oj, wide, partial + 2 * unit * k + g * kg + col,
                                      partial + (2 * unit + 1) * k + g * kg + col)
                panel += depth * (LANES if wide <= LANES else 2 * LANES)
                col += 2 * LANES
        unit0 = unit1


# p: out, w, order (int64). n: places, cin, cout, groups, turned
cdef void conv_pack(const Op* op, int thread, int threads) noexcept nogil:
    """out: for each group and panel of output channels (2 vectors, the last perhaps 1, padded with zeros), for each place
    of the window in ``order``, a row for each input channel, of w[place, cin / groups, cout].

    ``turned``: for the gradient by the input, whose output channels are cin and whose input channels are cout.
    Threads share the places.
    """
    cdef real* out = <real*>op.p[0]
    cdef const real* w = <const real*>op.p[1]
    cdef const int64_t* order = <const int64_t*>op.p[2]
    cdef int64_t places = op.n[0], groups = op.n[3], cg = op.n[1] // groups, cout = op.n[2], kg = cout // groups
    cdef int64_t first = 0, last = 0, place, g, col, rows, cols, r, j, wide, vectors, step_r, step_j
    cdef const real* source
    cdef real* to
    split(places, thread, threads, &first, &last)
    rows, cols, step_r, step_j = cg, kg, cout, 1
    if op.n[4]:
        rows, cols, step_r, step_j = kg, cg, 1, cout
    for g in range(groups):
        col = 0
        while col < cols:
            vectors = 2 if cols - col > LANES else 1
            wide = min(vectors * LANES, cols - col)
            for place in range(first, last):
                source = w + order[place] * cg * cout + g * kg + col * step_j
                to = out + place * rows * vectors * LANES
                for r in range(rows):
                    for j in range(wide):
                        to[j] = source[r * step_r + j * step_j]
                    for j in range(wide, vectors * LANES):
                        to[j] = 0
                    to += vectors * LANES
            out += places * rows * vectors * LANES
            col += 2 * LANES


cdef nn_outlined product(int mr, int nv, const Pairs* p, const real* x, const real* dy, real* dw, int64_t ldw,
                         int add) noexcept nogil:
    """One copy of all the micro-kernels."""
    any_products(mr, nv, p, x, dy, dw, ldw, add)


cdef inline void pad_rows(real* out, const real* image, int64_t h, int64_t w, int64_t c, int64_t top, int64_t rows,
                          int64_t left, int64_t width) noexcept nogil:
    """out[rows, width, c] = the image from row ``top`` (which may be above it) and column -left on, zeros outside."""
    cdef int64_t r, low = max(<int64_t>0, left), high = min(width, w + left)
    for r in range(rows):
        if top + r < 0 or top + r >= h or high <= low:
            memset(out, 0, width * c * sizeof(real))
        else:
            if low > 0:
                memset(out, 0, low * c * sizeof(real))
            memcpy(out + low * c, image + ((top + r) * w + low - left) * c, (high - low) * c * sizeof(real))
            if high < width:
                memset(out + high * c, 0, (width - high) * c * sizeof(real))
        out += width * c


cdef inline void within(int64_t place, int64_t stride, int64_t size, int64_t low, int64_t high, int64_t* first,
                        int64_t* last) noexcept nogil:
    """Those of the windows [low, high) that have this place, i * stride + place, on the image."""
    first[0] = low if place + low * stride >= 0 else min(high, (-place + stride - 1) // stride)
    last[0] = max(first[0], min(high, (size - 1 - place) // stride + 1 if size > place else <int64_t>0))


cdef inline void any_product(int mr, int wide, const Pairs* p, const real* x, const real* dy, real* dw, int64_t ldw,
                             int add) noexcept nogil:
    """A tile of dw that may end inside a vector (dy has whole vectors): then it is computed beside dw."""
    cdef real beside[TALL * MOST_NR]
    cdef int i, j, nv = 1 if wide <= LANES else 2
    if wide == nv * LANES:
        product(mr, nv, p, x, dy, dw, ldw, add)
        return
    product(mr, nv, p, x, dy, beside, nv * LANES, 0)
    for i in range(mr):
        for j in range(wide):
            dw[j] = dw[j] + beside[i * nv * LANES + j] if add else beside[i * nv * LANES + j]
        dw += ldw


# p: dw, x, dy, workspace.
# n: batch, height, width, c; oh, ow, k; kh, kw, sh, sw, dilation_h, dilation_w, pt, pl; chunks, group, band, merged, groups, share
cdef void conv_weight_grad(const Op* op, int thread, int threads) noexcept nogil:
    """dw[chunk, kh, kw, c / groups, k] = the sum, over the images of a chunk and their output pixels, of x times dy.

    ``chunks``: how many parts the batch is cut into, each with a sum of its own: the order of additions depends on these
    sizes alone. ``group`` images (if there is one band), or a ``band`` of output rows of one, go through the micro-kernel
    at a time. Each place of the window by itself sums over those windows alone that have it on the image; ``merged``: the
    places of a row of the window together, of an image that is copied with zeros left and right of it, which pays for few
    channels (dilation_w and groups are 1). Where k is no whole number of vectors, dy is copied. ``share`` elements of
    ``workspace`` for each thread. Threads share chunks x tiles of dw.
    """
    cdef const int64_t* n = <const int64_t*>op.n
    cdef const real* x = <const real*>op.p[1]
    cdef const real* dy = <const real*>op.p[2]
    cdef int64_t batch = n[0], h = n[1], width = n[2], c = n[3], oh = n[4], ow = n[5], k = n[6], kh = n[7], kw = n[8]
    cdef int64_t sh = n[9], sw = n[10], dh = n[11], dw = n[12], pt = n[13], pl = n[14], chunks = n[15], group = n[16]
    cdef int64_t band = n[17], merged = n[18], groups = n[19], share = n[20], pw = (ow - 1) * sw + kw
    cdef int64_t cg = c // groups, kg = k // groups
    cdef int64_t length = kw * c if merged else cg, n_runs = kh if merged else kh * kw
    cdef int64_t most = TALL if kg <= LANES else PIXELS, row_tiles = (length + most - 1) // most
    cdef int64_t panels = (kg + 2 * LANES - 1) // (2 * LANES)
    cdef int64_t each = n_runs * row_tiles * groups * panels, kp = (kg + LANES - 1) // LANES * LANES
    cdef int64_t first = 0, last = 0, chunk, u0, u1, u, n0 = 0, n1 = 0, image, images, i0, i1, rows_x, g, run, t, q, m0 = 0, m1 = 0
    cdef int64_t image_x, row_x, image_dy, row_dy, sdy, i, r, j, r0 = 0, r1 = 0, j0 = 0, j1 = 0, top, left
    cdef Pairs pairs
    cdef bint add, copies = kg % LANES != 0 and k > 0
    cdef int wide
    cdef real* workspace = <real*>op.p[3] + thread * share
    cdef real* workspace_dy
    cdef const real* ahead_x
    cdef const real* ahead_dy
    cdef int64_t each_x, each_dy
    cdef const real* from_dy
    cdef const real* a
    cdef const real* b
    cdef real* dw_chunk
    split(chunks * each, thread, threads, &first, &last)
    if first == last:
        return
    pairs.times, pairs.next_x, pairs.next_dy, pairs.next_dw = 1, 0, 0, 0
    rows_x = (band - 1) * sh + (kh - 1) * dh + 1
    workspace_dy = workspace + (group * rows_x * pw * c if merged else 0)
    for chunk in range(first // each, (last - 1) // each + 1):
        u0 = max(<int64_t>0, first - chunk * each)
        u1 = min(each, last - chunk * each)
        split(batch, chunk, chunks, &n0, &n1)
        dw_chunk = <real*>op.p[0] + chunk * kh * kw * cg * k
        add = False
        image = n0
        while image < n1:
            images = min(group, n1 - image)
            i0 = 0
            while i0 < oh:
                i1 = min(oh, i0 + band)
                image_x, row_x = h * width * c, width * c
                if merged:
                    row_x = pw * c
                    image_x = rows_x * row_x
                    for i in range(images):
                        pad_rows(workspace + i * image_x, x + (image + i) * h * width * c, h, width, c, i0 * sh - pt,
                                 (i1 - 1 - i0) * sh + (kh - 1) * dh + 1, pl, pw)
                from_dy = dy + (image * oh + i0) * ow * k
                sdy = k
                if copies:
                    sdy = groups * kp
                    for i in range(images):
                        for r in range((i1 - i0) * ow):
                            for g in range(groups):
                                b = dy + ((image + i) * oh * ow + i0 * ow + r) * k + g * kg
                                for j in range(kp):
                                    workspace_dy[(i * (i1 - i0) * ow + r) * sdy + g * kp + j] = b[j] if j < kg else <real>0
                    from_dy = workspace_dy
                # While these images are summed the next ones come into L2, a part with each tile.
                ahead_x = x + (image * h + i1 * sh if i1 < oh else (image + images) * h) * width * c
                ahead_dy = dy + (image * oh + i1 if i1 < oh else (image + images) * oh) * ow * k
                each_x = each_dy = 0
                if i1 < oh or image + images < n1:
                    each_x = images * (i1 - i0) * sh * width * c // (u1 - u0)
                    each_dy = images * (i1 - i0) * ow * k // (u1 - u0)
                row_dy = ow * sdy
                image_dy = (i1 - i0 if copies else oh) * row_dy
                for u in range(u0, u1):
                    fetch(ahead_x, 1, 0, each_x)
                    fetch(ahead_dy, 1, 0, each_dy)
                    ahead_x += each_x
                    ahead_dy += each_dy
                    q = u % panels
                    g = u // panels % groups
                    t = u // (panels * groups) % row_tiles
                    run = u // (panels * groups * row_tiles)
                    split(length, t, row_tiles, &m0, &m1)
                    r0, r1, j0, j1 = i0, i1, 0, ow
                    if merged:
                        a = workspace + run * dh * row_x + m0
                    else:
                        top, left = run // kw * dh - pt, run % kw * dw - pl
                        within(top, sh, h, i0, i1, &r0, &r1)
                        within(left, sw, width, 0, ow, &j0, &j1)
                        a = x + (image * image_x + (r0 * sh + top) * row_x + (j0 * sw + left) * c) + g * cg + m0
                    pairs.images, pairs.rows, pairs.count = images, r1 - r0, j1 - j0
                    pairs.image_x, pairs.row_x, pairs.sx = image_x, sh * row_x, sw * c
                    pairs.image_dy, pairs.row_dy, pairs.sdy = image_dy, row_dy, sdy
                    if pairs.count == ow and ow * sw * c == sh * row_x:     # rows lie together: one long one
                        pairs.count, pairs.rows = ow * pairs.rows, 1
                    b = from_dy + (r0 - i0) * row_dy + j0 * sdy + g * (kp if copies else kg) + q * 2 * LANES
                    wide = <int>min(<int64_t>(2 * LANES), kg - q * 2 * LANES)
                    any_product(<int>(m1 - m0), wide, &pairs, a, b,
                                dw_chunk + (run * length + m0) * k + g * kg + q * 2 * LANES, k, add)
                add = True
                i0 = i1
            image += images


TABLE = {"conv": <size_t>&conv, "conv_pack": <size_t>&conv_pack, "conv_weight_grad": <size_t>&conv_weight_grad}
LAYOUT = layout()
SIGNATURE = signature()
STEP_LAYOUT = step_layout()
globals().update(LANES=LANES, PIXELS=PIXELS, TALL=TALL)
