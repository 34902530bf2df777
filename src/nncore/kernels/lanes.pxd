# Rows that are not a whole number of vectors: partial loads and stores, sums and maxima across lanes; rows to be read soon.
from libc.stdint cimport int64_t
from libc.string cimport memcpy
from nncore.vector cimport LANES, real, vf, vge, vload, vselect, vsplat, vstore

cdef extern from *:
    """
    #define NN_MOST_LANES 16
    static const real nn_number[NN_MOST_LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    #define vfirst(v) ((v)[0])
    #define NN_LINE ((int64_t)(64 / sizeof(real)))
    #define nn_soon(p) __builtin_prefetch((p), 0, 2)
    """
    enum:
        MOST_LANES "NN_MOST_LANES"
    const int64_t LINE "NN_LINE"            # elements of a cache line
    void nn_soon(const real* p) noexcept nogil
    const real* LANE_NUMBER "nn_number"
    real vfirst(vf v) noexcept nogil         # lane 0


cdef inline vf load_part(const real* x, int64_t count, int64_t room, real pad) noexcept nogil:
    """The next ``count`` elements at ``x``, then ``pad``. ``room``: elements that may be read there (the rest of the
    array): a whole vector is read and masked where there is room, because that costs no store-to-load stall."""
    cdef real lane[MOST_LANES]
    cdef vf number
    if count >= LANES:
        return vload(x)
    if room >= LANES:
        number = vload(LANE_NUMBER)
        return vselect(vge(number, vsplat(<real>count)), vsplat(pad), vload(x))
    vstore(lane, vsplat(pad))
    memcpy(lane, x, count * sizeof(real))
    return vload(lane)


cdef inline void store_part(real* out, vf v, int64_t count) noexcept nogil:
    """The first ``count`` lanes of ``v``, at most all of them."""
    cdef real lane[MOST_LANES]
    if count >= LANES:
        vstore(out, v)
        return
    vstore(lane, v)
    memcpy(out, lane, count * sizeof(real))


cdef inline void store_ahead(real* out, vf v, int64_t count, int64_t ahead) noexcept nogil:
    """The same where ``ahead`` elements at ``out`` may be overwritten, because this thread writes those after ``count``
    later: one whole store is faster than pieces."""
    store_part(out, v, count if ahead < LANES else LANES)


cdef inline real lanes_sum(vf v) noexcept nogil:
    """The sum over lanes, halves onto halves: one order for every caller."""
    cdef real lane[MOST_LANES]
    cdef int width = LANES // 2, i
    vstore(lane, v)
    while width > 0:
        for i in range(width):
            lane[i] += lane[i + width]
        width //= 2
    return lane[0]


cdef inline real lanes_max(vf v) noexcept nogil:
    """The maximum over lanes."""
    cdef real lane[MOST_LANES]
    cdef int width = LANES // 2, i
    vstore(lane, v)
    while width > 0:
        for i in range(width):
            lane[i] = lane[i] if lane[i] > lane[i + width] else lane[i + width]
        width //= 2
    return lane[0]


cdef inline void fetch(const real* x, int64_t rows, int64_t ld, int64_t cols) noexcept nogil:
    """Let rows of ``cols`` elements, ld apart, be in L2 soon. They need not exist."""
    cdef int64_t r, c
    for r in range(rows):
        c = 0
        while c < cols:
            nn_soon(x + r * ld + c)
            c += LINE
