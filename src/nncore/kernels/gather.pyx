# The batch: rows of the user's arrays, converted to the training type, and results copied back.
#
# A source is state[STATE_SLOTS + slot]; its rows may be any number of bytes apart (negative too) and need no alignment;
# the elements of a row are contiguous. Work is split by elements, so that one wide row occupies all threads, or (by_rows)
# by whole rows.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from nncore.kernels.philox cimport BLOCK, philox, word
from nncore.op cimport (Op, STATE_EPOCH, STATE_INDICES, STATE_NUMBERS, STATE_ROW, STATE_SEED, STATE_SLOTS, layout,
                        signature, split, split_rows)
from nncore.vector cimport real

cdef extern from *:
    """
    #define NN_USER __attribute__((aligned(1), may_alias))
    typedef float user_f32 NN_USER;
    typedef double user_f64 NN_USER;
    typedef uint8_t user_u8 NN_USER;
    typedef int8_t user_i8 NN_USER;
    typedef uint16_t user_u16 NN_USER;
    typedef int16_t user_i16 NN_USER;
    typedef uint32_t user_u32 NN_USER;
    typedef int32_t user_i32 NN_USER;
    typedef uint64_t user_u64 NN_USER;
    typedef int64_t user_i64 NN_USER;
    #define nn_prefetch(p) __builtin_prefetch((const void*)(p))
    typedef uint32_t __attribute__((may_alias)) quarter;
    #define nn_float_of(word) (((union { uint32_t u; float f; }){word}).f)
    """
    ctypedef uint32_t quarter
    ctypedef float user_f32
    ctypedef double user_f64
    ctypedef unsigned char user_u8
    ctypedef signed char user_i8
    ctypedef unsigned short user_u16
    ctypedef short user_i16
    ctypedef unsigned int user_u32
    ctypedef int user_i32
    ctypedef unsigned long long user_u64
    ctypedef long long user_i64
    void nn_prefetch(const char* p) noexcept nogil
    float nn_float_of(uint32_t word) noexcept nogil

ctypedef fused source:
    user_f32
    user_f64
    user_u8
    user_i8
    user_u16
    user_i16
    user_u32
    user_i32
    user_u64
    user_i64

ctypedef fused target:
    real
    int32_t

ctypedef void (*Convert)(void* out, const char* row, int64_t count) noexcept nogil

cdef enum:
    LINE = 64           # bytes in a cache line
    AHEAD = 4096        # bytes of the next row that are asked for while this one is converted
    CHUNK = 64          # values of a sparse row that are converted at once
    IMAGES = -1         # the random stream of images: those of layers count from 0


cdef void convert(target* out, const source* row, int64_t count) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        out[i] = <target>row[i]


cdef void convert_half(target* out, const user_u16* row, int64_t count) noexcept nogil:
    """IEEE half precision by its bits: no CPU instruction that x86-64-v2 lacks, and subnormals survive flushing."""
    cdef int64_t i
    cdef uint32_t half, exponent, mantissa, sign, word
    cdef float value
    for i in range(count):
        half = row[i]
        sign = (half & 0x8000) << 16
        exponent = (half >> 10) & 31
        mantissa = half & 0x3ff
        word = ((exponent + 112) << 23) | (mantissa << 13)
        word = word if exponent != 31 else 0x7f800000 | (mantissa << 13)
        value = nn_float_of(word) if exponent != 0 else <float>(<int32_t>mantissa) * <float>(1.0 / 16777216.0)
        out[i] = <target>(value if sign == 0 else -value)


cdef Convert converter(target* which, int64_t code) noexcept nogil:
    if code == 0: return <Convert>convert[target, user_f32]
    if code == 1: return <Convert>convert[target, user_f64]
    if code == 2: return <Convert>convert[target, user_u8]
    if code == 3: return <Convert>convert[target, user_i8]
    if code == 4: return <Convert>convert[target, user_u16]
    if code == 5: return <Convert>convert[target, user_i16]
    if code == 6: return <Convert>convert[target, user_u32]
    if code == 7: return <Convert>convert[target, user_i32]
    if code == 8: return <Convert>convert[target, user_u64]
    if code == 9: return <Convert>convert[target, user_i64]
    return <Convert>convert_half[target]


cdef inline int64_t item_bytes(int64_t code) noexcept nogil:
    if code == 2 or code == 3:
        return 1
    if code == 4 or code == 5 or code == 10:
        return 2
    return 8 if code == 1 or code >= 8 else 4


cdef inline void gather_share(const Op* op, Convert convert_row, int64_t out_bytes, int thread,
                              int threads) noexcept nogil:
    cdef char* out = <char*>op.p[0]
    cdef const int64_t* state = <const int64_t*>op.p[1]
    cdef int64_t rows = op.n[1], cols = op.n[2], stride = op.n[3], item = item_bytes(op.n[4])
    cdef const char* data = <const char*>state[STATE_SLOTS + op.n[0]]
    cdef const int64_t* indices = <const int64_t*>state[STATE_INDICES]
    cdef int64_t position = state[STATE_ROW], first = 0, last = 0, row, col, count, ahead
    cdef int64_t wanted = min(cols * item, <int64_t>AHEAD)
    cdef const char* now
    cdef const char* after
    split_rows(rows, cols, op.n[5], thread, threads, &first, &last)
    if first >= last:
        return
    row = first // cols
    col = first - row * cols
    now = data + (indices[position + row] if indices != NULL else position + row) * stride
    while first < last:
        count = min(cols - col, last - first)
        after = now
        if first + count < last:
            after = data + (indices[position + row + 1] if indices != NULL else position + row + 1) * stride
            # Rows in random order defeat the hardware's prefetcher.
            if indices != NULL:
                ahead = 0
                while ahead < wanted:
                    nn_prefetch(after + ahead)
                    ahead += LINE
        convert_row(out + first * out_bytes, now + col * item, count)
        now = after
        first += count
        row += 1
        col = 0


# p: out, state. n: slot, rows, cols, row_stride (bytes), source, by_rows
cdef void gather(const Op* op, int thread, int threads) noexcept nogil:
    """out[rows, cols] = the batch's rows of the array at ``slot``, converted."""
    gather_share(op, converter(<real*>NULL, op.n[4]), sizeof(real), thread, threads)


cdef void gather_index(const Op* op, int thread, int threads) noexcept nogil:
    """The same to int32: class labels."""
    gather_share(op, converter(<int32_t*>NULL, op.n[4]), sizeof(int32_t), thread, threads)


# p: out, state. n: slot, rows, cols, source
cdef void gather_csr(const Op* op, int thread, int threads) noexcept nogil:
    """out[rows, cols] = the batch's rows of a sparse matrix, converted. At ``slot`` is the address of three: of where
    each row begins and the last ends (int64), of the columns (int32), of the values. Of columns that a row has twice the
    sum; of those that are not there, none."""
    cdef const int64_t* state = <const int64_t*>op.p[1]
    cdef const int64_t* parts = <const int64_t*>state[STATE_SLOTS + op.n[0]]
    cdef const int64_t* indices = <const int64_t*>state[STATE_INDICES]
    cdef int64_t position = state[STATE_ROW], cols = op.n[2], item = item_bytes(op.n[3])
    cdef int64_t first = 0, last = 0, r, i, at, end, count
    cdef const int64_t* starts
    cdef const user_i32* columns
    cdef const char* values
    cdef Convert convert_some = converter(<real*>NULL, op.n[3])
    cdef real[CHUNK] some
    cdef uint64_t column
    cdef real* y
    split(op.n[1], thread, threads, &first, &last)
    if first >= last:
        return
    starts = <const int64_t*>parts[0]
    columns = <const user_i32*>parts[1]
    values = <const char*>parts[2]
    for r in range(first, last):
        y = <real*>op.p[0] + r * cols
        memset(y, 0, cols * sizeof(real))
        i = indices[position + r] if indices != NULL else position + r
        at = starts[i]
        end = starts[i + 1]
        while at < end:
            count = min(<int64_t>CHUNK, end - at)
            convert_some(some, values + at * item, count)
            for i in range(count):
                column = <uint64_t><int64_t>columns[at + i]
                if column < <uint64_t>cols:  # the user may write to the columns meanwhile
                    y[column] += some[i]
            at += count


cdef inline void mirror(real* y, int64_t width, int64_t c) noexcept nogil:
    """The pixels of a row from right to left."""
    cdef int64_t i, j, last = width - 1
    cdef real kept
    for i in range(width // 2):
        for j in range(c):
            kept = y[i * c + j]
            y[i * c + j] = y[(last - i) * c + j]
            y[(last - i) * c + j] = kept


# p: out, state, scale, shift. n: slot, rows, height, width, c, oh, ow, row_stride (bytes), source, pad_h, pad_w, augment, flip
cdef void gather_image(const Op* op, int thread, int threads) noexcept nogil:
    """out[rows, oh, ow, c] = a part of each of the batch's images [height, width, c], times ``scale`` plus ``shift``
    ([ow * c]: one row of a result).

    The part is taken from the image with pad_h rows of zeros above and below and pad_w columns beside it; its middle, or
    with ``augment`` any part, with ``flip`` mirrored every second time. What is taken depends on the seed, the epoch and
    the number of the sample: Philox of the counter (number in two words, epoch, IMAGES) gives the row, the column (each
    word * places / 2**32) and whether it is mirrored (the third word is even).
    """
    cdef const int64_t* n = <const int64_t*>op.n
    cdef const int64_t* state = <const int64_t*>op.p[1]
    cdef const real* scale = <const real*>op.p[2]
    cdef const real* shift = <const real*>op.p[3]
    cdef int64_t height = n[2], width = n[3], c = n[4], oh = n[5], ow = n[6], item = item_bytes(n[8]), pad_h = n[9]
    cdef int64_t pad_w = n[10], high = height + 2 * pad_h - oh + 1, wide = width + 2 * pad_w - ow + 1
    cdef const char* data = <const char*>state[STATE_SLOTS + n[0]]
    cdef const int64_t* indices = <const int64_t*>state[STATE_INDICES]
    cdef const int64_t* numbers = <const int64_t*>state[STATE_NUMBERS]
    cdef int64_t first = 0, last = 0, r, i, j, k, at, top, left, low, end, position = state[STATE_ROW]
    cdef Convert convert_row = converter(<real*>NULL, n[8])
    cdef uint64_t[BLOCK] group
    cdef word[4 * BLOCK] bits
    cdef const quarter* random = <const quarter*>bits
    cdef bint flipped
    cdef const char* image
    cdef real* y
    split(n[1], thread, threads, &first, &last)
    for r in range(first, last):
        k = (r - first) % BLOCK
        if n[11] and k == 0:
            for j in range(BLOCK):
                at = min(r + j, last - 1)
                at = indices[position + at] if indices != NULL else position + at
                group[j] = <uint64_t>(numbers[at] if numbers != NULL else at)
            philox(bits, group, <uint32_t>state[STATE_EPOCH], <uint32_t>IMAGES, state[STATE_SEED], 1)
        top = (high - 1) // 2
        left = (wide - 1) // 2
        flipped = 0
        if n[11]:
            top = <int64_t>((<uint64_t>random[4 * k] * <uint64_t>high) >> 32)
            left = <int64_t>((<uint64_t>random[4 * k + 1] * <uint64_t>wide) >> 32)
            flipped = n[12] and random[4 * k + 2] % 2 == 0
        image = data + (indices[position + r] if indices != NULL else position + r) * n[7]
        low = min(max(<int64_t>0, pad_w - left), ow)          # columns of the result that come from the image
        end = max(low, min(ow, width + pad_w - left))
        for i in range(oh):
            y = <real*>op.p[0] + (r * oh + i) * ow * c
            at = top + i - pad_h
            if at < 0 or at >= height or low == end:
                memset(y, 0, ow * c * sizeof(real))
            else:
                memset(y, 0, low * c * sizeof(real))
                convert_row(y + low * c, image + (at * width + low + left - pad_w) * c * item, (end - low) * c)
                memset(y + end * c, 0, (ow - end) * c * sizeof(real))
                if flipped:
                    mirror(y, ow, c)
            for j in range(ow * c):
                y[j] = y[j] * scale[j] + shift[j]


cdef inline void scatter_share(const Op* op, int64_t item, int thread, int threads) noexcept nogil:
    cdef const int64_t* state = <const int64_t*>op.p[1]
    cdef int64_t row = op.n[2] * item, first = 0, last = 0
    split(op.n[1] * op.n[2], thread, threads, &first, &last)
    if first < last:
        memcpy(<char*>state[STATE_SLOTS + op.n[0]] + state[STATE_ROW] * row + first * item,
               <const char*>op.p[0] + first * item, (last - first) * item)


# p: x, state. n: slot, rows, cols
cdef void scatter(const Op* op, int thread, int threads) noexcept nogil:
    """Copy x[rows, cols] to the array at ``slot`` (same dtype, rows contiguous), from row state[STATE_ROW] on."""
    scatter_share(op, sizeof(real), thread, threads)


# p: x (int32), state. n: slot, rows, cols
cdef void scatter_index(const Op* op, int thread, int threads) noexcept nogil:
    """The same of int32."""
    scatter_share(op, sizeof(int32_t), thread, threads)


# p: x, state. n: slot, rows, cols
cdef void scatter_truth(const Op* op, int thread, int threads) noexcept nogil:
    """The same of truth values, which become bytes: whether x is not 0."""
    cdef const real* x = <const real*>op.p[0]
    cdef const int64_t* state = <const int64_t*>op.p[1]
    cdef int64_t cols = op.n[2], first = 0, last = 0, i
    cdef uint8_t* out = <uint8_t*>state[STATE_SLOTS + op.n[0]] + state[STATE_ROW] * cols
    split(op.n[1] * cols, thread, threads, &first, &last)
    for i in range(first, last):
        out[i] = x[i] != 0


# p: out, x. n: rows, cols
cdef void transpose(const Op* op, int thread, int threads) noexcept nogil:
    """out[cols, rows] = x[rows, cols] transposed, for few rows: a strip of x at a time is read along all its rows."""
    cdef real* out = <real*>op.p[0]
    cdef const real* x = <const real*>op.p[1]
    cdef int64_t rows = op.n[0], cols = op.n[1], first = 0, last = 0, r, c
    split(cols, thread, threads, &first, &last)
    for c in range(first, last):
        for r in range(rows):
            out[c * rows + r] = x[r * cols + c]


TABLE = {"gather": <size_t>&gather, "gather_index": <size_t>&gather_index, "gather_image": <size_t>&gather_image,
         "gather_csr": <size_t>&gather_csr,
         "scatter": <size_t>&scatter, "scatter_index": <size_t>&scatter_index, "scatter_truth": <size_t>&scatter_truth,
         "transpose": <size_t>&transpose}
LAYOUT = layout()
SIGNATURE = signature()
