# Random numbers by their place: what element e of a draw is depends on (seed, draw, stream, e) alone.
#
# Word e % 4 of the Philox counter (e // 4 in two words, draw, stream) is the element's 32 bits. A node has a stream of its
# own, so that these are no counters of dropout's. nncore/reference_steps.py says the same in NumPy.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy
from nncore.kernels.philox cimport BLOCK, GROUPS, philox, word
from nncore.op cimport Op, STATE_DRAW, STATE_SEED, layout, signature, split
from nncore.vector cimport F32, LANES, real, vf, vgt, vlog, vload, vselect, vsplat, vsqrt, vstore

cdef enum:
    CHUNK = 4 * GROUPS      # elements that are made at once, of a counter four


cdef inline vf normal_of(vf x) noexcept nogil:
    """sqrt(2) * the inverse of erf, of x in (-1, 1), within 1e-6 of it (Giles, GPU Computing Gems, 2011)."""
    cdef vf w = vsplat(0) - vlog((vsplat(1) - x) * (vsplat(1) + x)), a = w - vsplat(2.5), b = vsqrt(w) - vsplat(3), p, q
    p = vsplat(2.81022636e-08)
    p = vsplat(3.43273939e-07) + p * a
    p = vsplat(-3.5233877e-06) + p * a
    p = vsplat(-4.39150654e-06) + p * a
    p = vsplat(0.00021858087) + p * a
    p = vsplat(-0.00125372503) + p * a
    p = vsplat(-0.00417768164) + p * a
    p = vsplat(0.246640727) + p * a
    p = vsplat(1.50140941) + p * a
    q = vsplat(-0.000200214257)
    q = vsplat(0.000100950558) + q * b
    q = vsplat(0.00134934322) + q * b
    q = vsplat(-0.00367342844) + q * b
    q = vsplat(0.00573950773) + q * b
    q = vsplat(-0.0076224613) + q * b
    q = vsplat(0.00943887047) + q * b
    q = vsplat(1.00167406) + q * b
    q = vsplat(2.83297682) + q * b
    return vselect(vgt(vsplat(5), w), p, q) * x * vsplat(1.41421356237309515)


# p: out, state. n: count, index
cdef void normal(const Op* op, int thread, int threads) noexcept nogil:
    """out[count]: numbers of the normal distribution, of mean 0 and deviation 1, of the stream ``index``."""
    cdef const int64_t* state = <const int64_t*>op.p[1]
    cdef real* out = <real*>op.p[0]
    cdef int64_t count = op.n[0], first = 0, last = 0, chunk, i, rest
    cdef uint64_t[GROUPS] group
    cdef word[4 * GROUPS] bits
    cdef real[CHUNK] values
    cdef const uint32_t* mine = <const uint32_t*>bits
    split((count + CHUNK - 1) // CHUNK, thread, threads, &first, &last)
    for chunk in range(first, last):
        for i in range(GROUPS):
            group[i] = <uint64_t>(chunk * GROUPS + i)
        philox(bits, group, <uint32_t>state[STATE_DRAW], <uint32_t>op.n[1], state[STATE_SEED], GROUPS // BLOCK)
        if F32:     # odd numbers of 24 bits and a sign, so that neither 1 nor -1 is among them
            for i in range(CHUNK):
                values[i] = <real>(<int32_t>(mine[i] >> 8) * 2 + 1 - (1 << 24)) * <real>(1.0 / (1 << 24))
        else:
            for i in range(CHUNK):
                values[i] = <real>(<int64_t>mine[i] * 2 + 1 - (<int64_t>1 << 32)) * <real>(1.0 / (<int64_t>1 << 32))
        i = 0
        while i < CHUNK:
            vstore(values + i, normal_of(vload(values + i)))
            i += LANES
        rest = count - chunk * CHUNK
        memcpy(out + chunk * CHUNK, values, (rest if rest < CHUNK else CHUNK) * sizeof(real))


TABLE = {"normal": <size_t>&normal}
LAYOUT = layout()
SIGNATURE = signature()
