# The inner loops of the convolutions: tiles of pixels x channels in registers. Inlined into conv.pyx and winograd.pyx.
from libc.stdint cimport int64_t
from nncore.kernels.gemm_micro cimport nn_inlined
from nncore.vector cimport LANES, real, vf, vload, vsplat, vstore

cdef extern from *:
    """
    #if NN_BYTES == 64 || defined(__aarch64__)
    #define NN_PIXELS 14        /* x 2 vectors: 28 accumulators of 32 registers */
    #define NN_TALL 16          /* x 1 vector */
    #else
    #define NN_PIXELS 6         /* 12 of 16 */
    #define NN_TALL 12
    #endif
    /* A pointer that GCC takes for a new one: pixels are addressed from every third one's pointer with offsets 0, 1 and 2
       strides, which are addressing modes; left alone, it makes a pointer for each pixel and spills them. */
    static inline const real *nn_apart(const real *p) { __asm__ volatile("" : "+r"(p)); return p; }
    """
    enum:
        PIXELS "NN_PIXELS"
        TALL "NN_TALL"
    const real* nn_apart(const real* p) noexcept nogil

cdef struct Run:            # of input that lies together: made by nncore.windows
    int64_t offset          # from the first element of a window
    int64_t length
    int64_t row             # of the packed weights, for the first


cdef inline nn_inlined pixels(int mr, int nv, int64_t times, const real* x, int64_t next_x, int64_t sx, const Run* runs,
                              int64_t n_runs, const real* w, int64_t next_w, real* y, int64_t next_y, int64_t sy) noexcept nogil:
    """y[mr pixels, nv vectors of channels] = the sums, over the runs of each pixel's window, of x times rows of ``w``.

    Pixels are sx apart in x and sy in y; rows of w are nv vectors, one after the other. So many ``times``, with everything
    that much further on. (That all is in a loop lets GCC unroll what is in it before it decides where to keep acc.)
    """
    cdef vf acc[TALL][2]
    cdef const real* at[6]
    cdef const real* end
    cdef const real* row
    cdef vf w0, w1, a
    cdef int i, j
    cdef int64_t r, _
    for _ in range(times):
        for i in range(mr):
            for j in range(nv):
                acc[i][j] = vsplat(0)
        for r in range(n_runs):
            for j in range((mr + 2) // 3):
                at[j] = nn_apart(x + runs[r].offset + 3 * j * sx)
            end = at[0] + runs[r].length
            row = w + runs[r].row * nv * LANES
            while at[0] < end:
                w0 = vload(row)
                w1 = vload(row + LANES) if nv > 1 else w0
                for i in range(mr):
                    a = vsplat(at[i // 3][i % 3 * sx])
                    acc[i][0] = acc[i][0] + a * w0
                    if nv > 1:
                        acc[i][1] = acc[i][1] + a * w1
                for j in range((mr + 2) // 3):
                    at[j] += 1
                row += nv * LANES
        for i in range(mr):
            for j in range(nv):
                vstore(y + i * sy + j * LANES, acc[i][j])
        x += next_x
        w += next_w
        y += next_y


cdef inline nn_inlined any_pixels(int mr, int nv, int64_t times, const real* x, int64_t next_x, int64_t sx, const Run* runs,
                                  int64_t n_runs, const real* w, int64_t next_w, real* y, int64_t next_y, int64_t sy) noexcept nogil:
    """pixels, with mr and nv as literals."""
    if nv == 2:
        if mr == 1: pixels(1, 2, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
        elif mr == 2: pixels(2, 2, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
        elif mr == 3: pixels(3, 2, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
        elif mr == 4: pixels(4, 2, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
        elif mr == 5: pixels(5, 2, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
        elif mr == 6: pixels(6, 2, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
        elif PIXELS > 6:
            if mr == 7: pixels(7, 2, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
            elif mr == 8: pixels(8, 2, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
            elif mr == 9: pixels(9, 2, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
            elif mr == 10: pixels(10, 2, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
            elif mr == 11: pixels(11, 2, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
            elif mr == 12: pixels(12, 2, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
            elif mr == 13: pixels(13, 2, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
            else: pixels(14, 2, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
    elif mr == 1: pixels(1, 1, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
    elif mr == 2: pixels(2, 1, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
    elif mr == 3: pixels(3, 1, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
    elif mr == 4: pixels(4, 1, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
    elif mr == 5: pixels(5, 1, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
    elif mr == 6: pixels(6, 1, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
    elif mr == 7: pixels(7, 1, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
    elif mr == 8: pixels(8, 1, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
    elif mr == 9: pixels(9, 1, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
    elif mr == 10: pixels(10, 1, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
    elif mr == 11: pixels(11, 1, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
    elif mr == 12: pixels(12, 1, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
    elif TALL > 12:
        if mr == 13: pixels(13, 1, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
        elif mr == 14: pixels(14, 1, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
        elif mr == 15: pixels(15, 1, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)
        else: pixels(16, 1, times, x, next_x, sx, runs, n_runs, w, next_w, y, next_y, sy)


cdef struct Pairs:          # of pixels of x and of dy, that a weight gradient sums
    int64_t images, rows, count     # so many images of so many rows of so many pixels
    int64_t image_x, row_x, sx      # elements from one image, row and pixel of x to the next
    int64_t image_dy, row_dy, sdy
    int64_t times, next_x, next_dy, next_dw     # so often, with everything that much further on


cdef inline nn_inlined products(int mr, int nv, const Pairs* p, const real* x, const real* dy, real* dw, int64_t ldw,
                                int add) noexcept nogil:
    """dw[mr, nv vectors] (+)= the sum over pairs of pixels of x[mr numbers] times dy[nv vectors]."""
    cdef vf acc[TALL][2]
    cdef const real* a
    cdef const real* b
    cdef const real* end
    cdef vf b0, b1, z
    cdef int i, j
    cdef int64_t n, r, _, sx = p.sx, sdy = p.sdy
    for _ in range(p.times):
        for i in range(mr):
            for j in range(nv):
                acc[i][j] = vsplat(0)
        for n in range(p.images):
            for r in range(p.rows):
                a = x + n * p.image_x + r * p.row_x
                b = dy + n * p.image_dy + r * p.row_dy
                end = b + p.count * sdy
                while b < end:
                    b0 = vload(b)
                    b1 = vload(b + LANES) if nv > 1 else b0
                    for i in range(mr):
                        z = vsplat(a[i])
                        acc[i][0] = acc[i][0] + z * b0
                        if nv > 1:
                            acc[i][1] = acc[i][1] + z * b1
                    a += sx
                    b += sdy
        for i in range(mr):
            for j in range(nv):
                if add:
                    acc[i][j] = acc[i][j] + vload(dw + i * ldw + j * LANES)
                vstore(dw + i * ldw + j * LANES, acc[i][j])
        x += p.next_x
        dy += p.next_dy
        dw += p.next_dw


cdef inline nn_inlined any_products(int mr, int nv, const Pairs* p, const real* x, const real* dy, real* dw, int64_t ldw,
                                    int add) noexcept nogil:
    """products, with mr and nv as literals."""
    if nv == 2:
        if mr == 1: products(1, 2, p, x, dy, dw, ldw, add)
        elif mr == 2: products(2, 2, p, x, dy, dw, ldw, add)
        elif mr == 3: products(3, 2, p, x, dy, dw, ldw, add)
        elif mr == 4: products(4, 2, p, x, dy, dw, ldw, add)
        elif mr == 5: products(5, 2, p, x, dy, dw, ldw, add)
        elif mr == 6: products(6, 2, p, x, dy, dw, ldw, add)
        elif PIXELS > 6:
            if mr == 7: products(7, 2, p, x, dy, dw, ldw, add)
            elif mr == 8: products(8, 2, p, x, dy, dw, ldw, add)
            elif mr == 9: products(9, 2, p, x, dy, dw, ldw, add)
            elif mr == 10: products(10, 2, p, x, dy, dw, ldw, add)
            elif mr == 11: products(11, 2, p, x, dy, dw, ldw, add)
            elif mr == 12: products(12, 2, p, x, dy, dw, ldw, add)
            elif mr == 13: products(13, 2, p, x, dy, dw, ldw, add)
            else: products(14, 2, p, x, dy, dw, ldw, add)
    elif mr == 1: products(1, 1, p, x, dy, dw, ldw, add)
    elif mr == 2: products(2, 1, p, x, dy, dw, ldw, add)
    elif mr == 3: products(3, 1, p, x, dy, dw, ldw, add)
    elif mr == 4: products(4, 1, p, x, dy, dw, ldw, add)
    elif mr == 5: products(5, 1, p, x, dy, dw, ldw, add)
    elif mr == 6: products(6, 1, p, x, dy, dw, ldw, add)
    elif mr == 7: products(7, 1, p, x, dy, dw, ldw, add)
    elif mr == 8: products(8, 1, p, x, dy, dw, ldw, add)
    elif mr == 9: products(9, 1, p, x, dy, dw, ldw, add)
    elif mr == 10: products(10, 1, p, x, dy, dw, ldw, add)
    elif mr == 11: products(11, 1, p, x, dy, dw, ldw, add)
    elif mr == 12: products(12, 1, p, x, dy, dw, ldw, add)
    elif TALL > 12:
        if mr == 13: products(13, 1, p, x, dy, dw, ldw, add)
        elif mr == 14: products(14, 1, p, x, dy, dw, ldw, add)
        elif mr == 15: products(15, 1, p, x, dy, dw, ldw, add)
        else: products(16, 1, p, x, dy, dw, ldw, add)
