# Philox4x32-10 (Salmon and others, "Parallel random numbers: as easy as 1, 2, 3", SC 2011): random bits of a counter
# and a key, and dropout with them. nncore/reference_steps.py says the same in NumPy.
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from nncore.op cimport STATE_SEED, STATE_STEP
from nncore.vector cimport real

cdef extern from *:
    """
    typedef uint16_t __attribute__((may_alias)) halfword;
    """
    ctypedef uint16_t halfword

cdef enum:
    GROUPS = 64             # counters that are worked on at once
    GROUP = 8               # elements of a counter: 128 bits, 16 for each element


cdef inline void philox_round(uint32_t* a, uint32_t* b, uint32_t* c, uint32_t* d, uint32_t k0, uint32_t k1) noexcept nogil:
    cdef uint64_t x = <uint64_t>a[0] * <uint32_t>0xD2511F53
    cdef uint64_t y = <uint64_t>c[0] * <uint32_t>0xCD9E8D57
    a[0] = <uint32_t>(y >> 32) ^ b[0] ^ k0
    b[0] = <uint32_t>y
    c[0] = <uint32_t>(x >> 32) ^ d[0] ^ k1
    d[0] = <uint32_t>x


cdef inline void philox(uint32_t* bits, const uint32_t* low, const uint32_t* high, uint32_t step, uint32_t stream,
                        uint32_t k0, uint32_t k1, int64_t count) noexcept nogil:
    """bits[i, 0..3] = Philox of the counter (low[i], high[i], step, stream). No inner loop: GCC makes lanes of i."""
    cdef int64_t i
    cdef uint32_t a, b, c, d
    cdef uint32_t w0 = <uint32_t>0x9E3779B9, w1 = <uint32_t>0xBB67AE85
    for i in range(count):
        a = low[i]
        b = high[i]
        c = step
        d = stream
        philox_round(&a, &b, &c, &d, k0, k1)
        philox_round(&a, &b, &c, &d, k0 + w0, k1 + w1)
        philox_round(&a, &b, &c, &d, k0 + 2 * w0, k1 + 2 * w1)
        philox_round(&a, &b, &c, &d, k0 + 3 * w0, k1 + 3 * w1)
        philox_round(&a, &b, &c, &d, k0 + 4 * w0, k1 + 4 * w1)
        philox_round(&a, &b, &c, &d, k0 + 5 * w0, k1 + 5 * w1)
        philox_round(&a, &b, &c, &d, k0 + 6 * w0, k1 + 6 * w1)
        philox_round(&a, &b, &c, &d, k0 + 7 * w0, k1 + 7 * w1)
        philox_round(&a, &b, &c, &d, k0 + 8 * w0, k1 + 8 * w1)
        philox_round(&a, &b, &c, &d, k0 + 9 * w0, k1 + 9 * w1)
        bits[4 * i] = a
        bits[4 * i + 1] = b
        bits[4 * i + 2] = c
        bits[4 * i + 3] = d


cdef inline void drop(real* x, const halfword* bits, uint32_t threshold, real scale, int64_t count) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        x[i] = x[i] * scale if bits[i] >= threshold else <real>0


cdef inline void dropout(real* x, int64_t ld, int64_t first, int64_t width, int64_t rows, int64_t cols,
                         const int64_t* state, int64_t stream, double rate, double scale) noexcept nogil:
    """x[r, c] = x[r, c] * scale with probability 1 - rate, else 0, for rows x cols elements (row stride ``ld``).

    The number of element (r, c) is e = first + r * width + c; its 16 bits are half-word e % 8 (the low half of a word
    first) of counter (e // 8 in two words, step, stream) with the seed as key; it stays where they are at least
    rate * 65536, rounded.
    """
    cdef uint32_t[GROUPS] low, high
    cdef uint32_t[4 * GROUPS] bits
    cdef uint32_t threshold = <uint32_t>(rate * 65536 + 0.5)
    cdef int64_t most = GROUP * (GROUPS - 1)            # elements of a row at once: they may begin inside a group
    cdef int64_t col = 0, row, w, h, groups, height, r, i, element, group
    while col < cols:
        w = cols - col if cols - col < most else most
        groups = (w + GROUP - 1) // GROUP + 1
        height = GROUPS // groups
        row = 0
        while row < rows:
            h = rows - row if rows - row < height else height
            for r in range(h):
                group = (first + (row + r) * width + col) // GROUP
                for i in range(groups):
                    low[r * groups + i] = <uint32_t>(group + i)
                    high[r * groups + i] = <uint32_t>((group + i) >> 32)
            philox(bits, low, high, <uint32_t>state[STATE_STEP], <uint32_t>stream, <uint32_t>state[STATE_SEED],
                   <uint32_t>(state[STATE_SEED] >> 32), h * groups)
            for r in range(h):
                element = first + (row + r) * width + col
                drop(x + (row + r) * ld + col, <halfword*>bits + r * groups * GROUP + element % GROUP, threshold,
                     <real>scale, w)
            row += height
        col += most
