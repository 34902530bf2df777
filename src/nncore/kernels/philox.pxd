# Philox4x32-10 (Salmon and others, "Parallel random numbers: as easy as 1, 2, 3", SC 2011): random bits of a counter
# and a key, and dropout with them. nncore/reference_steps.py says the same in NumPy.
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from nncore.op cimport STATE_DRAW, STATE_SEED
from nncore.vector cimport real

cdef extern from *:
    """
    typedef uint16_t __attribute__((may_alias)) halfword;
    #ifdef __AVX512DQ__     /* multiplies 64-bit lanes: a word for each number, not widened and narrowed */
    typedef uint64_t word;
    #define philox_store(bits, i, a, b, c, d) do { \\
        (bits)[2 * (i)] = (a) | (b) << 32; (bits)[2 * (i) + 1] = (c) | (d) << 32; } while (0)
    #else
    typedef uint32_t word;
    #define philox_store(bits, i, a, b, c, d) do { \\
        (bits)[4 * (i)] = (a); (bits)[4 * (i) + 1] = (b); \\
        (bits)[4 * (i) + 2] = (c); (bits)[4 * (i) + 3] = (d); } while (0)
    #endif
    """
    ctypedef uint16_t halfword
    ctypedef uint64_t word
    void philox_store(word* bits, int64_t i, word a, word b, word c, word d) noexcept nogil

cdef enum:
    GROUP = 8               # elements of a counter: 128 bits, 16 for each element
    GROUPS = 64             # counters that are worked on at once
    CHAINS = 4              # of them side by side, so that a multiplication need not wait for the one before
    BLOCK = 8 * CHAINS
    RARE = 64               # 16 bits are within 1 / 2048 of a share of 1 / RARE


cdef inline void philox_round(word* a, word* b, word* c, word* d, uint32_t k0, uint32_t k1) noexcept nogil:
    """One of the ten rounds on CHAINS counters; a..d hold 32 bits each."""
    cdef uint64_t x, y
    cdef int i
    for i in range(CHAINS):
        x = <uint64_t>a[i] * <uint32_t>0xD2511F53
        y = <uint64_t>c[i] * <uint32_t>0xCD9E8D57
        a[i] = <word>(y >> 32) ^ b[i] ^ k0
        b[i] = <word>(y & <uint32_t>0xFFFFFFFF)
        c[i] = <word>(x >> 32) ^ d[i] ^ k1
        d[i] = <word>(x & <uint32_t>0xFFFFFFFF)


cdef inline void philox(word* bits, const uint64_t* group, uint32_t step, uint32_t stream, int64_t seed,
                        int64_t blocks) noexcept nogil:
    """The 16 bytes at i of bits = Philox of the counter (group[i] in two words, step, stream), BLOCK * blocks of them.

    No inner loop is left when GCC comes to make lanes of i, and no rest: 8 is a multiple of the lanes.
    """
    cdef int64_t i, j, n = 8 * blocks
    cdef word[CHAINS] a, b, c, d
    cdef uint32_t k0 = <uint32_t>seed, k1 = <uint32_t>(seed >> 32)
    cdef uint32_t w0 = <uint32_t>0x9E3779B9, w1 = <uint32_t>0xBB67AE85
    for i in range(n):
        for j in range(CHAINS):
            a[j] = <word>(group[i + j * n] & <uint32_t>0xFFFFFFFF)
            b[j] = <word>(group[i + j * n] >> 32)
            c[j] = step
            d[j] = stream
        philox_round(a, b, c, d, k0, k1)
        philox_round(a, b, c, d, k0 + w0, k1 + w1)
        philox_round(a, b, c, d, k0 + 2 * w0, k1 + 2 * w1)
        philox_round(a, b, c, d, k0 + 3 * w0, k1 + 3 * w1)
        philox_round(a, b, c, d, k0 + 4 * w0, k1 + 4 * w1)
        philox_round(a, b, c, d, k0 + 5 * w0, k1 + 5 * w1)
        philox_round(a, b, c, d, k0 + 6 * w0, k1 + 6 * w1)
        philox_round(a, b, c, d, k0 + 7 * w0, k1 + 7 * w1)
        philox_round(a, b, c, d, k0 + 8 * w0, k1 + 8 * w1)
        philox_round(a, b, c, d, k0 + 9 * w0, k1 + 9 * w1)
        for j in range(CHAINS):
            philox_store(bits, i + j * n, a[j], b[j], c[j], d[j])


cdef inline uint32_t late(uint64_t element, uint32_t draw, uint32_t stream, int64_t seed) noexcept nogil:
    """32 more bits of an element: word element % 4 of the counter (element // 4 and the highest bit of two words, draw,
    stream)."""
    cdef uint32_t[4] w
    cdef uint32_t k0 = <uint32_t>seed, k1 = <uint32_t>(seed >> 32)
    cdef uint64_t x, y
    cdef int _
    w[0] = <uint32_t>(element // 4)
    w[1] = <uint32_t>(element // 4 >> 32) | <uint32_t>0x80000000
    w[2] = draw
    w[3] = stream
    for _ in range(10):
        x = <uint64_t>w[0] * <uint32_t>0xD2511F53
        y = <uint64_t>w[2] * <uint32_t>0xCD9E8D57
        w[0] = <uint32_t>(y >> 32) ^ w[1] ^ k0
        w[1] = <uint32_t>y
        w[2] = <uint32_t>(x >> 32) ^ w[3] ^ k1
        w[3] = <uint32_t>x
        k0 += <uint32_t>0x9E3779B9
        k1 += <uint32_t>0xBB67AE85
    return w[element % 4]


cdef inline bint any_is(const halfword* bits, uint16_t value, int64_t blocks) noexcept nogil:
    """Whether a half-word of the groups of ``blocks`` is ``value``."""
    cdef uint16_t least = 0xFFFF, apart
    cdef int64_t i, b
    for b in range(blocks):
        for i in range(GROUP * BLOCK):      # no rest
            apart = bits[b * GROUP * BLOCK + i] ^ value
            least = apart if apart < least else least
    return least == 0


cdef inline void drop(real* x, const halfword* bits, uint32_t threshold, real scale, int64_t count) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        x[i] = x[i] * scale if bits[i] >= threshold else <real>0


cdef inline void dropout(real* x, int64_t ld, int64_t first, int64_t width, int64_t rows, int64_t cols,
                         const int64_t* state, int64_t stream, double rate, double scale) noexcept nogil:
    """x[r, c] = x[r, c] * scale with probability 1 - rate, else 0, for rows x cols elements (row stride ``ld``).

    The number of element (r, c) is e = first + r * width + c; its 16 bits are half-word e % 8 (the low half of a word
    first) of counter (e // 8 in two words, draw, stream) with the seed as key; it stays where they are at least
    rate * 65536, rounded. Where less than one in RARE is dropped, or kept, 16 bits are too few: they are then the first of 48
    that must be at least rate * 2**48, rounded; the others (``late``) are looked at where these 16 do not decide.
    """
    cdef uint64_t[GROUPS] group
    cdef word[4 * GROUPS] bits      # in half of it, if a word is 64 bits
    cdef uint32_t threshold = <uint32_t>(rate * 65536 + 0.5), rest = 0, draw = <uint32_t>state[STATE_DRAW]
    cdef uint64_t wanted
    cdef const halfword* mine
    cdef bint tied
    cdef real* y
    cdef int64_t most = GROUP * (GROUPS - 1)            # elements of a row at once: they may begin inside a group
    cdef int64_t col = 0, row, w, h, groups, height, r, i, element
    if rate * RARE < 1 or (1 - rate) * RARE < 1:
        wanted = <uint64_t>(rate * <double>(<int64_t>1 << 48) + 0.5)
        threshold = <uint32_t>(wanted >> 32)
        rest = <uint32_t>wanted
    for i in range(GROUPS):
        group[i] = 0
    while col < cols:
        w = cols - col if cols - col < most else most
        groups = (w + 2 * GROUP - 2) // GROUP
        if width % GROUP == 0 or rows == 1:             # all rows begin at the same place in a group
            groups = (w + (first + col) % GROUP + GROUP - 1) // GROUP
        height = GROUPS // groups
        row = 0
        while row < rows:
            h = rows - row if rows - row < height else height
            for r in range(h):
                element = first + (row + r) * width + col
                for i in range(groups):
                    group[r * groups + i] = element // GROUP + i
            philox(bits, group, draw, <uint32_t>stream, state[STATE_SEED],
                   (h * groups + BLOCK - 1) // BLOCK)
            tied = rest != 0 and any_is(<halfword*>bits, <uint16_t>threshold, (h * groups + BLOCK - 1) // BLOCK)
            for r in range(h):
                element = first + (row + r) * width + col
                mine = <halfword*>bits + r * groups * GROUP + element % GROUP
                y = x + (row + r) * ld + col
                drop(y, mine, threshold, <real>scale, w)
                if tied:
                    for i in range(w):
                        if mine[i] == threshold and late(element + i, draw, <uint32_t>stream, state[STATE_SEED]) < rest:
                            y[i] = 0
            row += height
        col += most
