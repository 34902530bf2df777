# Optimizers: one pass over the flat buffers of all parameters, at the speed of memory.
#
# Every element goes through the same vector code whatever the number of threads: shares are whole vectors, and the last
# elements, fewer than a vector, pass through padded copies.
from libc.math cimport pow, sqrt
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset
from nncore.op cimport Op, STATE_LOCAL, STATE_RATES, STATE_STEP, split
from nncore.vector cimport LANES, real, vdiv, vf, vload, vsplat, vsqrt, vstore
from nncore.kernels.lanes cimport MOST_LANES

cdef enum:
    CHUNK = 1024        # elements: a share is a multiple of it, so that no cache line has two writers


cdef struct Rule:
    real lr
    real decay              # lr * weight_decay
    real clip               # the factor on gradients
    real momentum           # sgd
    bint nesterov
    real alpha              # adam: the bias-corrected learning rate
    real new_1              # 1 - beta_1
    real new_2              # 1 - beta_2
    real epsilon


ctypedef void (*Update)(real* w, real* m, real* v, const real* g, int64_t count, const Rule* rule) noexcept nogil


cdef extern from *:
    """
    /* Hides which function it is: inlined twice, its multiplications and additions might be contracted differently. */
    #define nn_opaque(function) __asm__ volatile("" : "+r"(function))
    """
    void nn_opaque(Update function) noexcept nogil


cdef inline double rate(const int64_t* state) noexcept nogil:
    """This step's learning rate."""
    return (<const double*>state[STATE_RATES])[state[STATE_LOCAL]]


cdef inline void exchange(real* array, real* padded, int64_t count, bint back) noexcept nogil:
    """Copy ``count`` elements to the padded copy, or back."""
    if array != NULL:
        memcpy(array if back else padded, padded if back else array, count * sizeof(real))


cdef inline void apply(Update update, real* w, real* m, real* v, const real* g, int64_t count, const Rule* rule,
                       int thread, int threads) noexcept nogil:
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
    update(w + first, m + first if m != NULL else NULL, v + first if v != NULL else NULL, g + first, whole, rule)
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
    update(padded[0], padded[1], padded[2], padded[3], LANES, rule)
    exchange(w, padded[0], rest, True)
    exchange(m, padded[1], rest, True)
    exchange(v, padded[2], rest, True)


cdef void sgd_plain(real* w, real* m, real* v, const real* g, int64_t count, const Rule* rule) noexcept nogil:
    cdef vf lr = vsplat(rule.lr), decay = vsplat(rule.decay), clip = vsplat(rule.clip), wi
    cdef int64_t i = 0
    while i < count:
        wi = vload(w + i)
        wi = wi - wi * decay
        vstore(w + i, wi - vload(g + i) * clip * lr)
        i += LANES


cdef void sgd_momentum(real* w, real* m, real* v, const real* g, int64_t count, const Rule* rule) noexcept nogil:
    cdef vf lr = vsplat(rule.lr), decay = vsplat(rule.decay), clip = vsplat(rule.clip), momentum = vsplat(rule.momentum)
    cdef vf wi, vi, move
    cdef int64_t i = 0
    while i < count:
        wi = vload(w + i)
        wi = wi - wi * decay
        move = vload(g + i) * clip * lr
        vi = vload(v + i) * momentum - move
        vstore(v + i, vi)
        if rule.nesterov:
            vi = vi * momentum - move
        vstore(w + i, wi + vi)
        i += LANES


cdef void adam_update(real* w, real* m, real* v, const real* g, int64_t count, const Rule* rule) noexcept nogil:
    cdef vf alpha = vsplat(rule.alpha), decay = vsplat(rule.decay), clip = vsplat(rule.clip)
    cdef vf new_1 = vsplat(rule.new_1), new_2 = vsplat(rule.new_2), epsilon = vsplat(rule.epsilon), wi, mi, vi, gi
    cdef int64_t i = 0
    while i < count:
        gi = vload(g + i) * clip
        mi = vload(m + i)
        vi = vload(v + i)
        wi = vload(w + i)
        mi = mi + (gi - mi) * new_1
        vi = vi + (gi * gi - vi) * new_2
        wi = wi - wi * decay
        vstore(m + i, mi)
        vstore(v + i, vi)
        vstore(w + i, wi - vdiv(mi * alpha, vsqrt(vi) + epsilon))
        i += LANES


# p: w, v, g, state, scale. n: count, nesterov. s: momentum, weight_decay
cdef void sgd(const Op* op, int thread, int threads) noexcept nogil:
    """SGD as Keras 3 has it; g *= scale[0] if given, w -= lr * weight_decay * w, then
    momentum > 0: v = momentum * v - lr * g; w += nesterov ? momentum * v - lr * g : v. Else w -= lr * g."""
    cdef const int64_t* state = <const int64_t*>op.p[3]
    cdef const real* scale = <const real*>op.p[4]
    cdef Rule rule
    rule.lr = <real>rate(state)
    rule.decay = <real>(rate(state) * op.s[1])
    rule.clip = scale[0] if scale != NULL else 1
    rule.momentum = <real>op.s[0]
    rule.nesterov = op.n[1] != 0
    if op.s[0] > 0:
        apply(sgd_momentum, <real*>op.p[0], NULL, <real*>op.p[1], <const real*>op.p[2], op.n[0], &rule, thread, threads)
    else:
        apply(sgd_plain, <real*>op.p[0], NULL, NULL, <const real*>op.p[2], op.n[0], &rule, thread, threads)


# p: w, m, v, g, state, scale. n: count. s: beta_1, beta_2, epsilon, weight_decay
cdef void adam(const Op* op, int thread, int threads) noexcept nogil:
    """Adam and, with weight_decay > 0, AdamW (Kingma and Ba, 2015; Loshchilov and Hutter, 2019), as Keras 3 has them:
    alpha = lr * sqrt(1 - beta_2^t) / (1 - beta_1^t), t = step + 1;
    m += (g - m)(1 - beta_1); v += (g^2 - v)(1 - beta_2);
    w -= lr * weight_decay * w, then w -= m * alpha / (sqrt(v) + epsilon)."""
    cdef const int64_t* state = <const int64_t*>op.p[4]
    cdef const real* scale = <const real*>op.p[5]
    cdef double lr = rate(state), t = <double>(state[STATE_STEP] + 1)
    cdef Rule rule
    rule.alpha = <real>(lr * sqrt(1 - pow(op.s[1], t)) / (1 - pow(op.s[0], t)))
    rule.decay = <real>(lr * op.s[3])
    rule.clip = scale[0] if scale != NULL else 1
    rule.new_1 = <real>(1 - op.s[0])
    rule.new_2 = <real>(1 - op.s[1])
    rule.epsilon = <real>op.s[2]
    apply(adam_update, <real*>op.p[0], <real*>op.p[1], <real*>op.p[2], <const real*>op.p[3], op.n[0], &rule, thread,
          threads)


TABLE = {"sgd": <size_t>&sgd, "adam": <size_t>&adam}
