# Optimizers: one pass over the flat buffers of all parameters, at the speed of memory.
#
# Every element goes through the same vector code whatever the number of threads: shares are whole vectors, and the last
# elements, fewer than a vector, pass through padded copies.
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset
from nncore.op cimport Op, layout, signature, split
from nncore.vector cimport LANES, real, vf, vload, vsplat, vstore
from nncore.kernels.lanes cimport MOST_LANES
from nncore.kernels.update cimport Rule, adam_rule, adam_step, momentum_step, sgd_rule, sgd_step

cdef enum:
    CHUNK = 1024        # elements: a share is a multiple of it, so that no cache line has two writers


ctypedef void (*Update)(real* w, real* m, real* v, const real* g, int64_t count, real clip,
                       const Rule* rule) noexcept nogil


cdef extern from *:
    """
    /* Hides which function it is: inlined twice, its multiplications and additions might be contracted differently. */
    #define nn_opaque(function) __asm__ volatile("" : "+r"(function))
    """
    void nn_opaque(Update function) noexcept nogil


cdef inline void exchange(real* array, real* padded, int64_t count, bint back) noexcept nogil:
    """Copy ``count`` elements to the padded copy, or back."""
    if array != NULL:
        memcpy(array if back else padded, padded if back else array, count * sizeof(real))


cdef inline void apply(Update update, real* w, real* m, real* v, const real* g, int64_t count, real clip,
                       const Rule* rule, int thread, int threads) noexcept nogil:
    """``update`` on this thread's share; m and v may be NULL."""
    cdef int64_t first = 0, last = 0, whole, rest
    cdef real padded[4][MOST_LANES]
    split((count + CHUNK - 1) // CHUNK, thread, threads, &first, &last)
    first *= CHUNK
    last = min(last * CHUNK, count)
    if first >= last:
        return
    whole = (last - first) // LANES * LANES
    rest = last - first - whole
    nn_opaque(update)
    update(w + first, m + first if m != NULL else NULL, v + first if v != NULL else NULL, g + first, whole, clip, rule)
    if rest == 0:
        return
    first += whole
    w = w + first
    m = m + first if m != NULL else NULL
    v = v + first if v != NULL else NULL
    memset(padded, 0, sizeof(padded))
    exchange(w, padded[0], rest, False)
    exchange(m, padded[1], rest, False)
    exchange(v, padded[2], rest, False)
    memcpy(padded[3], g + first, rest * sizeof(real))
    update(padded[0], padded[1], padded[2], padded[3], LANES, clip, rule)
    exchange(w, padded[0], rest, True)
    exchange(m, padded[1], rest, True)
    exchange(v, padded[2], rest, True)


cdef void sgd_plain(real* w, real* m, real* v, const real* g, int64_t count, real clip, const Rule* rule) noexcept nogil:
    cdef Rule r = rule[0]
    cdef int64_t i = 0
    while i < count:
        vstore(w + i, sgd_step(&r, vload(w + i), vload(g + i) * vsplat(clip)))
        i += LANES


cdef void sgd_momentum(real* w, real* m, real* v, const real* g, int64_t count, real clip, const Rule* rule) noexcept nogil:
    cdef Rule r = rule[0]
    cdef vf vi
    cdef int64_t i = 0
    while i < count:
        vi = vload(v + i)
        vstore(w + i, momentum_step(&r, vload(w + i), &vi, vload(g + i) * vsplat(clip)))
        vstore(v + i, vi)
        i += LANES


cdef void adam_update(real* w, real* m, real* v, const real* g, int64_t count, real clip, const Rule* rule) noexcept nogil:
    cdef Rule r = rule[0]
    cdef vf mi, vi
    cdef int64_t i = 0
    while i < count:
        mi = vload(m + i)
        vi = vload(v + i)
        vstore(w + i, adam_step(&r, vload(w + i), &mi, &vi, vload(g + i) * vsplat(clip)))
        vstore(m + i, mi)
        vstore(v + i, vi)
        i += LANES


# p: w, v, g, state, scale. n: count, nesterov. s: momentum, weight_decay
cdef void sgd(const Op* op, int thread, int threads) noexcept nogil:
    """SGD as Keras 3 has it; g *= scale[0] if given, w -= lr * weight_decay * w, then
    momentum > 0: v = momentum * v - lr * g; w += nesterov ? momentum * v - lr * g : v. Else w -= lr * g."""
    cdef const real* scale = <const real*>op.p[4]
    cdef real clip = scale[0] if scale != NULL else <real>1
    cdef Rule rule
    sgd_rule(&rule, <const int64_t*>op.p[3], op.s[0], op.s[1], op.n[1] != 0)
    if op.s[0] > 0:
        apply(sgd_momentum, <real*>op.p[0], NULL, <real*>op.p[1], <const real*>op.p[2], op.n[0], clip, &rule, thread, threads)
    else:
        apply(sgd_plain, <real*>op.p[0], NULL, NULL, <const real*>op.p[2], op.n[0], clip, &rule, thread, threads)


# p: w, m, v, g, state, scale. n: count. s: beta_1, beta_2, epsilon, weight_decay
cdef void adam(const Op* op, int thread, int threads) noexcept nogil:
    """Adam and, with weight_decay > 0, AdamW (Kingma and Ba, 2015; Loshchilov and Hutter, 2019), as Keras 3 has them:
    alpha = lr * sqrt(1 - beta_2^t) / (1 - beta_1^t), t = step + 1;
    m += (g - m)(1 - beta_1); v += (g^2 - v)(1 - beta_2);
    w -= lr * weight_decay * w, then w -= m * alpha / (sqrt(v) + epsilon)."""
    cdef const real* scale = <const real*>op.p[5]
    cdef real clip = scale[0] if scale != NULL else <real>1
    cdef Rule rule
    adam_rule(&rule, <const int64_t*>op.p[4], op.s[0], op.s[1], op.s[2], op.s[3])
    apply(adam_update, <real*>op.p[0], <real*>op.p[1], <real*>op.p[2], <const real*>op.p[3], op.n[0], clip, &rule, thread,
          threads)


# p: rule, state. n: nesterov. s: momentum, weight_decay
cdef void sgd_prepare(const Op* op, int thread, int threads) noexcept nogil:
    """The numbers of this step that the gemm step "sgd" works with. Thread 0 only."""
    if thread == 0:
        sgd_rule(<Rule*>op.p[0], <const int64_t*>op.p[1], op.s[0], op.s[1], op.n[0] != 0)


# p: rule, state. s: beta_1, beta_2, epsilon, weight_decay
cdef void adam_prepare(const Op* op, int thread, int threads) noexcept nogil:
    """The numbers of this step that the gemm step "adam" works with. Thread 0 only."""
    if thread == 0:
        adam_rule(<Rule*>op.p[0], <const int64_t*>op.p[1], op.s[0], op.s[1], op.s[2], op.s[3])


TABLE = {"sgd": <size_t>&sgd, "adam": <size_t>&adam, "sgd_prepare": <size_t>&sgd_prepare,
         "adam_prepare": <size_t>&adam_prepare}
LAYOUT = layout()
SIGNATURE = signature()
