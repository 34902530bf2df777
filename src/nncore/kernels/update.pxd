# What an optimizer does to a vector of weights: used by the optimizer kernels, over flat buffers, and as the last step of
# a weight-gradient GEMM, while the gradient is in cache.
from libc.math cimport pow, sqrt
from libc.stdint cimport int64_t
from nncore.op cimport STATE_LOCAL, STATE_RATES, STATE_DRAW
from nncore.vector cimport real, vbits, vdiv, vf, vfrombits, vi, visplat, vmin, vsplat, vsqrt

cdef extern from *:
    """
    #ifdef NN_f32
    #define NN_FAST_ROOTS 1
    #else
    #define NN_FAST_ROOTS 0
    #endif
    """
    enum:
        FAST_ROOTS "NN_FAST_ROOTS"

cdef struct Rule:           # nncore.steps.RULE_REALS reals
    real lr
    real decay              # lr * weight_decay
    real momentum           # sgd
    real nesterov           # 1: look ahead
    real alpha              # adam: the bias-corrected learning rate
    real new_1              # 1 - beta_1
    real new_2              # 1 - beta_2
    real epsilon


cdef inline double rate(const int64_t* state) noexcept nogil:
    """This step's learning rate."""
    return (<const double*>state[STATE_RATES])[state[STATE_LOCAL]]


cdef inline void sgd_rule(Rule* rule, const int64_t* state, double momentum, double weight_decay, bint nesterov) noexcept nogil:
    rule.lr = <real>rate(state)
    rule.decay = <real>(rate(state) * weight_decay)
    rule.momentum = <real>momentum
    rule.nesterov = <real>nesterov
    rule.alpha = rule.new_1 = rule.new_2 = rule.epsilon = 0


cdef inline void adam_rule(Rule* rule, const int64_t* state, double beta_1, double beta_2, double epsilon,
                           double weight_decay) noexcept nogil:
    """alpha = lr * sqrt(1 - beta_2^t) / (1 - beta_1^t), t = step + 1."""
    cdef double lr = rate(state), t = <double>(state[STATE_DRAW] + 1)
    rule.lr = <real>lr
    rule.decay = <real>(lr * weight_decay)
    rule.momentum = rule.nesterov = 0
    rule.alpha = <real>(lr * sqrt(1 - pow(beta_2, t)) / (1 - pow(beta_1, t)))
    rule.new_1 = <real>(1 - beta_1)
    rule.new_2 = <real>(1 - beta_2)
    rule.epsilon = <real>epsilon


cdef inline vf over_root(vf m, vf v, vf epsilon) noexcept nogil:
    """m / (sqrt(v) + epsilon).

    Division and square root of 16 floats take some 35 cycles, more than memory does; in float32 Newton's method from
    the classic integer guesses takes a third, with an error below 4 ULP. v = 0 gives m / epsilon exactly as the root does.
    """
    cdef vf y, d, half
    if FAST_ROOTS:
        v = vmin(vsplat(3.0e38), v)     # of infinity the guess knows nothing
        half = v * vsplat(0.5)
        y = vfrombits(visplat(0x5f3759df) - (vbits(v) >> 1))
        y = y * (vsplat(1.5) - half * y * y)
        y = y * (vsplat(1.5) - half * y * y)
        y = y * (vsplat(1.5) - half * y * y)
        d = v * y + epsilon
        y = vfrombits(visplat(0x7ef311c7) - vbits(d))
        y = y * (vsplat(2.0) - d * y)
        y = y * (vsplat(2.0) - d * y)
        y = y * (vsplat(2.0) - d * y)
        return m * y
    return vdiv(m, vsqrt(v) + epsilon)


cdef inline vf sgd_step(const Rule* rule, vf w, vf g) noexcept nogil:
    return w - w * vsplat(rule.decay) - g * vsplat(rule.lr)


cdef inline vf momentum_step(const Rule* rule, vf w, vf* v, vf g) noexcept nogil:
    cdef vf move = g * vsplat(rule.lr), step
    v[0] = v[0] * vsplat(rule.momentum) - move
    step = v[0]
    if rule.nesterov != 0:
        step = v[0] * vsplat(rule.momentum) - move
    return w - w * vsplat(rule.decay) + step


cdef inline vf adam_step(const Rule* rule, vf w, vf* m, vf* v, vf g) noexcept nogil:
    m[0] = m[0] + (g - m[0]) * vsplat(rule.new_1)
    v[0] = v[0] + (g * g - v[0]) * vsplat(rule.new_2)
    return w - w * vsplat(rule.decay) - over_root(m[0] * vsplat(rule.alpha), v[0], vsplat(rule.epsilon))
