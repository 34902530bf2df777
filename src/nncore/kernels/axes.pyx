# The places of the largest and smallest, and running sums, along the middle axis of x[outer, mid, inner].
#
# Element (o, m, i) is at x[o * stride_outer + m * stride_mid + i]. Each output has one owner, and the order of additions is
# fixed by the sizes alone. Where inner is 1 and mid contiguous, lanes run along mid; else along inner.
from libc.stdint cimport int32_t, int64_t
from nncore.kernels.gemm_micro cimport nn_inlined, transpose
from nncore.kernels.lanes cimport LANE_NUMBER, lanes_max, load_part
from nncore.op cimport Op, layout, signature, split_rows
from nncore.vector cimport (INFINITY, LANES, ireal, real, vandnot, vbits, veq, vf, vfrombits, vgt, vi, viadd, vigt, visplat,
                            vload, vselect, vsplat, vstore, vtoint)

cdef enum:
    WIDE = 4            # vectors of a row that are looked through at once
    COLUMNS = 64        # running sums side by side
    SHORT = 4           # vectors of a row up to which argmax takes a lane for it: at least WIDE


cdef inline vi beyond(bint largest, vf x, vf best) noexcept nogil:
    return vgt(x, best) if largest else vgt(best, x)


cdef inline void keep(vi better, vf* best, vi* at, vf x, vi index) noexcept nogil:
    """x and its index in the lanes where it is better than the best so far."""
    best[0] = vselect(better, x, best[0])
    at[0] = vbits(vselect(better, vfrombits(index), vfrombits(at[0])))


cdef inline void find(bint largest, vf* best, vi* at, vf x, vi index) noexcept nogil:
    """Keep x where it is larger (or smaller) than the best so far, or the first NaN."""
    keep((beyond(largest, x, best[0]) | (veq(x, x) ^ visplat(-1))) & veq(best[0], best[0]), best, at, x, index)


cdef inline void find_in_lanes(bint largest, const real* x, int64_t count, int64_t room, vf* best, vi* at,
                               vf* total) noexcept nogil:
    """What is best in each lane of a row of at least WIDE vectors, if there is no NaN, and in which vector it is first: at
    its first element. ``total`` += the row: that is NaN where there is one."""
    cdef vf top[WIDE]
    cdef vi place[WIDE]
    cdef vf sums[2]
    cdef vi index = visplat(0)
    cdef vf v
    cdef int64_t piece = count // (WIDE * LANES) * LANES, c = 0
    cdef int j
    for j in range(WIDE):       # a piece of the row each: what is found in one comes before what is in the next
        top[j] = vload(x + j * piece)
        place[j] = index
        sums[j % 2] = vsplat(0)
    while c < piece:
        for j in range(WIDE):
            v = vload(x + j * piece + c)
            sums[j % 2] = sums[j % 2] + v
            keep(beyond(largest, v, top[j]), &top[j], &place[j], v, index)
        index = viadd(index, visplat(LANES))
        c += LANES
    for j in range(1, WIDE):
        keep(beyond(largest, top[j], top[0]), top, place, top[j], viadd(place[j], visplat(<ireal>(j * piece))))
    c = WIDE * piece
    while c < count:
        v = load_part(x + c, count - c, room - c, -INFINITY if largest else INFINITY)
        sums[0] = sums[0] + v
        keep(beyond(largest, v, top[0]), top, place, v, visplat(<ireal>c))
        c += LANES
    total[0] = total[0] + (sums[0] + sums[1])
    best[0] = top[0]
    at[0] = place[0]


cdef inline nn_inlined find_in_long_rows(bint largest, const real* x, int64_t rows, int64_t ld, int64_t cols, int64_t room,
                                         int32_t* out) noexcept nogil:
    """The elements of up to LANES rows that argmax or argmin are."""
    cdef vf best[16]
    cdef vf places[16]
    cdef vi at = visplat(0), better
    cdef vf top, total = vsplat(0)
    cdef ireal place[16]
    cdef int i
    for i in range(rows):
        find_in_lanes(largest, x + i * ld, cols, room - i * ld, &best[i], &at, &total)
        places[i] = vfrombits(at)
    if lanes_max(vandnot(veq(total, total), vsplat(1))) > 0:    # NaN, or infinities of both signs
        for i in range(rows):
            out[i] = find_beside_nan(largest, x + i * ld, cols)
        return
    for i in range(rows, LANES):
        best[i] = vsplat(0)
        places[i] = vsplat(0)
    transpose(best)
    transpose(places)
    top = best[0]
    at = vbits(places[0])
    for i in range(1, LANES):
        places[i] = vfrombits(viadd(vbits(places[i]), visplat(i)))
        better = beyond(largest, best[i], top) | (veq(best[i], top) & vigt(at, vbits(places[i])))
        keep(better, &top, &at, best[i], vbits(places[i]))
    vstore(<real*>place, vfrombits(at))
    for i in range(rows):
        out[i] = <int32_t>place[i]


cdef int32_t find_beside_nan(bint largest, const real* x, int64_t count) noexcept nogil:
    """The element of a row, which may have NaN, that argmax or argmin is."""
    cdef real pad = -INFINITY if largest else INFINITY
    cdef vf best = load_part(x, count, count, pad)
    cdef vi index = vtoint(vload(LANE_NUMBER)), at = index
    cdef real lane[16]
    cdef ireal place[16]
    cdef int64_t c = LANES
    cdef int i, found = 0
    cdef bint better
    while c < count:
        index = viadd(index, visplat(LANES))
        find(largest, &best, &at, load_part(x + c, count - c, count - c, pad), index)
        c += LANES
    vstore(lane, best)
    vstore(<real*>place, vfrombits(at))
    for i in range(1, LANES):       # of equal ones the first; pads come last
        better = lane[i] > lane[found] if largest else lane[i] < lane[found]
        if lane[found] != lane[found]:
            better = lane[i] != lane[i] and place[i] < place[found]
        elif lane[i] != lane[i]:
            better = 1
        elif lane[i] == lane[found]:
            better = place[i] < place[found]
        if better:
            found = i
    return <int32_t>place[found]


cdef inline nn_inlined find_in_columns(bint largest, const real* x, int64_t rows, int64_t ld, int64_t width,
                                       int32_t* out) noexcept nogil:
    cdef vf best = load_part(x, width, (rows - 1) * ld + width, 0)
    cdef vi at = visplat(0), index = at
    cdef ireal place[16]
    cdef int64_t r
    cdef int i
    for r in range(1, rows):
        index = viadd(index, visplat(1))
        find(largest, &best, &at, load_part(x + r * ld, width, (rows - 1 - r) * ld + width, 0), index)
    vstore(<real*>place, vfrombits(at))
    for i in range(width):
        out[i] = <int32_t>place[i]


cdef inline nn_inlined find_in_rows(bint largest, const real* x, int64_t rows, int64_t ld, int64_t cols, int64_t room,
                                    int32_t* out) noexcept nogil:
    """The same of short rows, a lane each."""
    cdef vf v[16]
    cdef vf best = vsplat(0)
    cdef vi at = visplat(0), index = at
    cdef ireal place[16]
    cdef int64_t c = 0, j, width
    cdef int i
    while c < cols:
        width = min(<int64_t>LANES, cols - c)
        for i in range(LANES):
            v[i] = load_part(x + i * ld + c, cols - c, room - i * ld - c, 0) if i < rows else vsplat(0)
        transpose(v)
        if c == 0:
            best = v[0]
        for j in range(width):
            find(largest, &best, &at, v[j], index)
            index = viadd(index, visplat(1))
        c += LANES
    vstore(<real*>place, vfrombits(at))
    for i in range(rows):
        out[i] = <int32_t>place[i]


cdef inline nn_inlined find_share(bint largest, const Op* op, int thread, int threads) noexcept nogil:
    cdef int32_t* out = <int32_t*>op.p[0]
    cdef const real* x = <const real*>op.p[1]
    cdef const real* y
    cdef int64_t outer = op.n[0], mid = op.n[1], inner = op.n[2], first = 0, last = 0, item, c, i
    cdef int64_t extent = (outer - 1) * op.n[3] + (mid - 1) * op.n[4] + inner
    cdef int64_t blocks = (inner + LANES - 1) // LANES
    split_rows(outer, blocks, op.n[5], thread, threads, &first, &last)
    if inner == 1 and op.n[4] == 1 and mid > 0:
        item = first
        while item < last:
            c = item * op.n[3]
            i = min(<int64_t>LANES, last - item)
            if mid <= SHORT * LANES:
                find_in_rows(largest, x + c, i, op.n[3], mid, extent - c, out + item)
            else:
                find_in_long_rows(largest, x + c, i, op.n[3], mid, extent - c, out + item)
            item += LANES
        return
    for item in range(first, last):
        c = item % blocks * LANES
        y = x + item // blocks * op.n[3] + c
        if mid == 0:
            for i in range(min(<int64_t>LANES, inner - c)):
                out[item // blocks * inner + c + i] = 0
        else:
            find_in_columns(largest, y, mid, op.n[4], min(<int64_t>LANES, inner - c), out + item // blocks * inner + c)


# p: out (int32), x. n: outer, mid, inner, stride_outer, stride_mid, by_rows
cdef void argmax(const Op* op, int thread, int threads) noexcept nogil:
    """out[outer, inner] = the first index along the middle axis of the largest element, or of NaN."""
    find_share(1, op, thread, threads)


# p: out (int32), x. n: outer, mid, inner, stride_outer, stride_mid, by_rows
cdef void argmin(const Op* op, int thread, int threads) noexcept nogil:
    """The same of the smallest element, or of NaN."""
    find_share(0, op, thread, threads)


# p: out, x. n: outer, mid, inner, stride_outer, reverse, exclusive, by_rows
cdef void cumsum(const Op* op, int thread, int threads) noexcept nogil:
    """out = the sums of x[outer, mid, inner] along the middle axis up to each element (``reverse``: from it on), itself left
    out where ``exclusive``. Sums are double. out may be x; both have strides stride_outer and inner."""
    cdef int64_t outer = op.n[0], mid = op.n[1], inner = op.n[2], first = 0, last = 0, item, c, width, at, j, step, _
    cdef int64_t blocks = (inner + COLUMNS - 1) // COLUMNS
    cdef bint exclusive = op.n[5]
    cdef double total[COLUMNS]
    cdef double before
    cdef real* out
    cdef const real* x
    split_rows(outer, blocks, op.n[6], thread, threads, &first, &last)
    for item in range(first, last):
        c = item % blocks * COLUMNS
        width = min(<int64_t>COLUMNS, inner - c)
        at = item // blocks * op.n[3] + c + ((mid - 1) * inner if op.n[4] else 0)
        step = -inner if op.n[4] else inner
        for j in range(width):
            total[j] = 0
        for _ in range(mid):
            out = <real*>op.p[0] + at
            x = <const real*>op.p[1] + at
            for j in range(width):
                before = total[j]
                total[j] = before + x[j]
                out[j] = <real>(before if exclusive else total[j])
            at += step


TABLE = {"argmax": <size_t>&argmax, "argmin": <size_t>&argmin, "cumsum": <size_t>&cumsum}
LAYOUT = layout()
SIGNATURE = signature()
