# The lane type: a GCC/Clang vector of NN_BYTES bytes, and the math on it. One definition for all ISAs and both dtypes.
#
# Cython takes `vf` for a float and emits plain C operators on it: a * b + c is vector code. What C cannot say with
# operators (load, splat, compare, select) are the macros below; all else is Cython.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef extern from *:
    """
    #ifndef NN_VECTOR
    #define NN_VECTOR
    #include <stdint.h>
    #ifdef NN_f32
    typedef float real;
    typedef int32_t ireal;
    typedef uint32_t ureal;
    #define NN_F32 1
    #define NN_MANTISSA 23
    #define NN_BIAS 127
    #else
    typedef double real;
    typedef int64_t ireal;
    typedef uint64_t ureal;
    #define NN_F32 0
    #define NN_MANTISSA 52
    #define NN_BIAS 1023
    #endif
    typedef real vf __attribute__((vector_size(NN_BYTES)));
    typedef ireal vi __attribute__((vector_size(NN_BYTES)));
    typedef ureal vu __attribute__((vector_size(NN_BYTES)));
    typedef real vf_loose __attribute__((vector_size(NN_BYTES), aligned(sizeof(real)), may_alias));
    #define LANES ((int)(NN_BYTES / sizeof(real)))
    #define vload(p) ((vf)*(const vf_loose*)(p))
    #define vstore(p, v) (*(vf_loose*)(p) = (v))
    #define vsplat(x) ((real)(x) - (vf){0})     /* not 0 + x: that loses the sign of -0 */
    #define visplat(x) ((ireal)(x) - (vi){0})
    #define vdiv(a, b) ((vf)((a) / (b)))
    #define vgt(a, b) ((vi)((a) > (b)))
    #define vge(a, b) ((vi)((a) >= (b)))
    #define veq(a, b) ((vi)((a) == (b)))
    #define vselect(m, a, b) ((vf)(((m) & (vi)(a)) | (~(m) & (vi)(b))))
    #define vand(m, a) ((vf)((m) & (vi)(a)))
    #define vandnot(m, a) ((vf)(~(m) & (vi)(a)))
    #define vbits(a) ((vi)(a))
    #define vfrombits(a) ((vf)(a))
    #define vtoint(a) __builtin_convertvector(a, vi)
    #define vtoreal(a) __builtin_convertvector(a, vf)
    #define viadd(a, b) ((vi)((vu)(a) + (vu)(b)))   /* wraps: lanes of NaN or beyond the end hold any bits */
    #define visub(a, b) ((vi)((vu)(a) - (vu)(b)))
    #define vshl(a, n) ((vi)((vu)(a) << (n)))
    #define vshr(a, n) ((vi)((vu)(a) >> (n)))
    #define real_sqrt(x) ((real)(sizeof(real) == 4 ? __builtin_sqrtf(x) : __builtin_sqrt(x)))
    #define real_floor(x) ((real)(sizeof(real) == 4 ? __builtin_floorf(x) : __builtin_floor(x)))
    #define real_round(x) ((real)(sizeof(real) == 4 ? __builtin_rintf(x) : __builtin_rint(x)))
    #define real_sin(x) ((real)(sizeof(real) == 4 ? __builtin_sinf(x) : __builtin_sin(x)))
    #define real_cos(x) ((real)(sizeof(real) == 4 ? __builtin_cosf(x) : __builtin_cos(x)))
    /* A function of a number on every lane: one instruction where the CPU has it, else calls. */
    #define nn_lanes(f, x) ({ vf y_ = (x); for (int i_ = 0; i_ < LANES; ++i_) y_[i_] = f(y_[i_]); y_; })
    #define vsqrt(x) nn_lanes(real_sqrt, x)
    #define vfloor(x) nn_lanes(real_floor, x)
    #define vround(x) nn_lanes(real_round, x)
    #define vsin_exact(x) nn_lanes(real_sin, x)
    #define vcos_exact(x) nn_lanes(real_cos, x)
    static inline int vany(vi m) {
        ireal any = 0;
        for (int i = 0; i < LANES; ++i)
            any |= m[i];
        return __builtin_expect(any != 0, 0); }
    #define NN_ROUND ((real)(3ll << (NN_MANTISSA - 1)))
    #define NN_TWO ((real)(1ll << NN_MANTISSA))
    #define NN_FAR ((real)(sizeof(real) == 4 ? 12800 : 1600000))
    #define NN_MIN ((real)(sizeof(real) == 4 ? __FLT_MIN__ : __DBL_MIN__))
    #define NN_INFINITY ((real)__builtin_inff())
    #define NN_NAN ((real)__builtin_nanf(""))
    #endif
    """
    ctypedef float real
    ctypedef int32_t ireal
    ctypedef float vf
    ctypedef int32_t vi
    const int LANES
    vf vload(const real* p) noexcept nogil
    void vstore(real* p, vf v) noexcept nogil
    vf vsplat(real x) noexcept nogil
    vi visplat(ireal x) noexcept nogil
    vf vdiv(vf a, vf b) noexcept nogil       # for Cython turns the operator's operands to double
    vi vgt(vf a, vf b) noexcept nogil        # all bits of a lane set where true
    vi vge(vf a, vf b) noexcept nogil
    vi veq(vf a, vf b) noexcept nogil
    vi vigt "vgt"(vi a, vi b) noexcept nogil
    vf vselect(vi mask, vf a, vf b) noexcept nogil
    vf vand(vi mask, vf a) noexcept nogil    # a where the mask is set, else 0
    vf vandnot(vi mask, vf a) noexcept nogil # a where the mask is not set, else 0
    vi vbits(vf a) noexcept nogil            # reinterpret
    vf vfrombits(vi a) noexcept nogil
    vi vtoint(vf a) noexcept nogil           # convert, toward zero
    vf vtoreal(vi a) noexcept nogil
    vi viadd(vi a, vi b) noexcept nogil
    vi visub(vi a, vi b) noexcept nogil
    vi vshl(vi a, int n) noexcept nogil      # shift, zeros come in
    vi vshr(vi a, int n) noexcept nogil
    real real_sqrt(real x) noexcept nogil
    vf vsqrt(vf x) noexcept nogil            # correctly rounded; NaN below 0
    vf vfloor(vf x) noexcept nogil
    vf vround(vf x) noexcept nogil           # the nearest integer, half to even
    vf vsin_exact(vf x) noexcept nogil       # the C library's, a lane at a time: precise, not fast
    vf vcos_exact(vf x) noexcept nogil
    bint vany(vi mask) noexcept nogil        # is there a lane whose bits are set? The compiler takes it for unlikely
    const bint F32 "NN_F32"                  # a constant to the compiler: the branch not taken leaves no code
    const int MANTISSA "NN_MANTISSA"         # bits of it
    const int BIAS "NN_BIAS"                 # of the exponent
    const real ROUND "NN_ROUND"              # 1.5 * 2**MANTISSA: x + ROUND has the nearest integer to x in its low bits
    const real TWO_MANTISSA "NN_TWO"         # 2**MANTISSA
    const real FAR "NN_FAR"                  # of sines: n = x / (pi / 2) has at most 13 (20) bits
    const real MIN_NORMAL "NN_MIN"
    const real INFINITY "NN_INFINITY"
    const real NAN "NN_NAN"


cdef inline vf vabs(vf x) noexcept nogil:
    return vandnot(vbits(vsplat(-0.0)), x)


cdef inline vf vcopysign(vf x, vf sign) noexcept nogil:
    """|x| with the sign of ``sign``."""
    return vselect(vbits(vsplat(-0.0)), sign, x)


cdef inline vf vmax(vf a, vf b) noexcept nogil:
    """a > b ? a : b, so b where either is NaN. Not a loop over lanes: GCC unrolls it into scalars in larger functions."""
    return vselect(vgt(a, b), a, b)


cdef inline vf vmin(vf a, vf b) noexcept nogil:
    """a < b ? a : b, so b where either is NaN."""
    return vselect(vgt(b, a), a, b)


cdef inline vf vsign(vf x) noexcept nogil:
    """1, -1, or x where it is 0 or NaN."""
    return vselect(vgt(x, vsplat(0)), vsplat(1.0), vselect(vgt(vsplat(0), x), vsplat(-1.0), x))


cdef inline vf vceil(vf x) noexcept nogil:
    return -vfloor(-x)


# Math. The errors stated are the largest seen over the whole range on every ISA (v2 has no fused multiply-add), in
# units in the last place of the result; tests/nncore/test_math.py holds the functions to them. NaN gives NaN. What is
# below the normal range may be 0, as a Program flushes denormals anyway. Polynomials: minimax fits of what is named.

cdef inline vf exp_fraction(vf r) noexcept nogil:
    """exp(r) - 1 for |r| <= log(2) / 2."""
    cdef vf p
    # (exp(r) - 1 - r) / r**2
    if F32:
        p = vsplat(0.00139411214)
        p = ((p * r + 0.00836318404) * r + 0.0416663752) * r + 0.166665769
        p = p * r + 0.500000003
    else:
        p = vsplat(2.51100498958587163e-8)
        p = (p * r + 2.76200905184994294e-7) * r + 2.75572423366803571e-6
        p = (p * r + 0.000024801521290973346) * r + 0.000198412698865909993
        p = (p * r + 0.00138888889172174569) * r + 0.0083333333333222073
        p = (p * r + 0.0416666666666241189) * r + 0.166666666666666745
        p = p * r + 0.500000000000000102
    return r * r * p + r


cdef inline vf exp_round(vf x) noexcept nogil:
    """The nearest integer to x / log(2), in the low bits of what is returned: it is that integer + ROUND."""
    cdef vf t = x * 1.44269504088896341
    return t + ROUND


cdef inline vf exp_reduce(vf x, vf t) noexcept nogil:
    """x - (t - ROUND) * log(2), log(2) in two parts, the first with enough zeros for an exact product."""
    cdef vf n = t - ROUND
    if F32:
        x = x - n * 0.693359375
        x = x + n * 2.12194440e-4
    else:
        x = x - n * 0.693145751953125
        x = x - n * 1.42860682030941723e-6
    return x


cdef inline vf exp_scale(vf p, vf t) noexcept nogil:
    """p * 2**(t - ROUND), in two factors: the power may be out of range where the product is not."""
    cdef vi k = viadd(visub(vbits(t), vbits(vsplat(ROUND))), visplat(2 * BIAS))
    cdef vi half = vshr(k, 1)
    p = p * vfrombits(vshl(half, MANTISSA))
    return p * vfrombits(vshl(visub(k, half), MANTISSA))


cdef inline vf vexp(vf x) noexcept nogil:
    """1.5 ULP; inf above 88.7 (709.8), 0 below -103.9 (-745.1)."""
    cdef vf t, p
    if F32:
        x = vmax(vsplat(-104.0), vmin(vsplat(89.0), x))
    else:
        x = vmax(vsplat(-746.0), vmin(vsplat(710.0), x))
    t = exp_round(x)
    p = exp_fraction(exp_reduce(x, t)) + 1.0
    return exp_scale(p, t)


cdef inline vf power(vf t) noexcept nogil:
    """2**(t - ROUND) for exponents from -BIAS, where it is 0, to BIAS."""
    return vfrombits(vshl(viadd(visub(vbits(t), vbits(vsplat(ROUND))), visplat(BIAS)), MANTISSA))


cdef inline vf vexp_bounded(vf x) noexcept nogil:
    """exp(x) for x <= 88 (709): cheaper, 1.5 ULP, and 0 where the result is below the normal range."""
    cdef vf t
    x = vmax(vsplat(-88.0 if F32 else -709.0), x)
    t = exp_round(x)
    return (exp_fraction(exp_reduce(x, t)) + 1.0) * power(t)


cdef inline vf vexpm1_bounded(vf x) noexcept nogil:
    """exp(x) - 1 for x <= 88 (709), without cancellation near 0. 1.5 ULP."""
    cdef vf t, s
    x = vmax(vsplat(-40.0), x)
    t = exp_round(x)
    s = power(t)
    return s * exp_fraction(exp_reduce(x, t)) + (s - 1.0)


cdef inline vf vexpm1(vf x) noexcept nogil:
    """exp(x) - 1, 4 ULP; with e = exp(x / 2) - 1 it is e * (e + 2), which overflows where it must."""
    cdef vf e = vexpm1_bounded(vmin(vsplat(60.0 if F32 else 400.0), x * 0.5))
    return e * (e + 2.0)


cdef inline vf vlog(vf x) noexcept nogil:
    """1 ULP; -inf at 0, NaN below."""
    cdef vf y, e, f, s, z, p, half
    cdef vi denormal = vgt(vsplat(MIN_NORMAL), x)
    cdef vi root = vbits(vsplat(0.70710678118654752))
    cdef vi bits = viadd(visub(vbits(vselect(denormal, x * TWO_MANTISSA, x)), root), vbits(vsplat(1.0)))
    # x = (1 + f) * 2**e with 1 + f in [sqrt(1/2), sqrt(2)); the integer e becomes a real in TWO_MANTISSA's low bits
    e = vfrombits(vshr(bits, MANTISSA) | vbits(vsplat(TWO_MANTISSA))) - (vsplat(TWO_MANTISSA) + <real>BIAS)
    e = e - vand(denormal, vsplat(<real>MANTISSA))
    f = vfrombits((bits & visplat((<ireal>1 << MANTISSA) - 1)) + root) - 1.0
    half = f * f * 0.5
    if F32:
        # (log(1 + f) - f + f**2 / 2) / f**3
        p = vsplat(-0.0763142344)
        p = ((p * f + 0.128550297) * f - 0.13207844) * f + 0.141899845
        p = ((p * f - 0.166165264) * f + 0.200016175) * f - 0.250010594
        p = p * f + 0.333333282
        y = f * f * f * p - e * 2.12194440e-4
        y = (y - half + f) + e * 0.693359375
    else:
        # log(1 + f) = 2 atanh(s) = 2 s + s * (z p), of which f - half + s * half is the first term
        s = vdiv(f, f + 2.0)
        z = s * s
        p = vsplat(0.146168756835473142)
        p = (p * z + 0.15331684010120874) * z + 0.181828903689184662
        p = (p * z + 0.222222111158354783) * z + 0.28571428626106088
        p = (p * z + 0.399999999998991756) * z + 0.66666666666666697
        y = s * (half + z * p) + e * 1.42860682030941723e-6
        y = (y - half + f) + e * 0.693145751953125
    y = vselect(vgt(vsplat(INFINITY), x), y, x)
    return vselect(vge(vsplat(0), x), vselect(veq(x, vsplat(0)), vsplat(-INFINITY), vsplat(NAN)), y)


cdef inline vf vlog1p(vf x) noexcept nogil:
    """log(1 + x), 3 ULP: what the sum's rounding took away is in the proportion of x to it."""
    cdef vf u = x + 1.0
    cdef vf d = u - 1.0
    cdef vf y = vlog(u) * vselect(vgt(vsplat(INFINITY), u), vdiv(x, d), vsplat(1.0))
    return vselect(veq(d, vsplat(0)), x, y)


cdef inline vf vlog1p_unit(vf x) noexcept nogil:
    """log(1 + x) for x in [0, 1], as 2 atanh(x / (2 + x))."""
    cdef vf s = vdiv(x, x + 2.0)
    cdef vf z = s * s, p
    # (2 atanh(s) - 2 s) / s**3
    if F32:
        p = vsplat(0.232335642)
        p = ((p * z + 0.217045331) * z + 0.285924989) * z + 0.399997032
        p = p * z + 0.666666673
    else:
        p = vsplat(0.161723725225790585)
        p = (p * z + 0.0879658400644356278) * z + 0.120019362149061459
        p = (p * z + 0.133140474797058653) * z + 0.153855763781784329
        p = (p * z + 0.181817891942217074) * z + 0.222222227226313949
        p = (p * z + 0.285714285670527373) * z + 0.400000000000148146
        p = p * z + 0.666666666666666584
    return s * z * p + (s + s)


cdef inline vf vtanh(vf x) noexcept nogil:
    """3 ULP."""
    cdef vf e = vmin(vsplat(9.5 if F32 else 19.5), vabs(x))     # beyond it is 1
    e = vexpm1_bounded(e + e)
    return vcopysign(vdiv(e, e + 2.0), x)


cdef inline vf vsigmoid(vf x) noexcept nogil:
    """1 / (1 + exp(-x)), 3 ULP; 0 where it is below the normal range."""
    cdef vf e = vexp_bounded(-vabs(x))
    return vdiv(vselect(vgt(vsplat(0), x), e, vsplat(1.0)), e + 1.0)


cdef inline vf vsoftplus(vf x) noexcept nogil:
    """log(1 + exp(x)), 3 ULP; 0 where it is below the normal range."""
    return vlog1p_unit(vexp_bounded(-vabs(x))) + vselect(vgt(vsplat(0), x), vsplat(0), x)


cdef inline vf pi_reduce(vf x, vi* quadrant) noexcept nogil:
    """x - n * pi / 2 for the nearest integer n, which is in the low bits of ``quadrant``; |x| <= FAR."""
    cdef vf t = x * 0.636619772367581343 + ROUND
    cdef vf n = t - ROUND
    quadrant[0] = vbits(t)
    # pi / 2 in parts with so few bits that products with n are exact, and all differences where much cancels
    if F32:
        x = x - n * 1.5703125
        x = x - n * 0.0004837512969970703
        x = x - n * 7.549533620476723e-8
        x = x - n * 2.5633440682570896e-12
    else:
        x = x - n * 1.5707963267341256
        x = x - n * 6.077100506303966e-11
        x = x - n * 2.0222662487111665e-21
        x = x - n * 8.4784276603689e-32
    return x


cdef inline vf sine_by_quadrant(vf r, vi quadrant) noexcept nogil:
    """sin(r + quadrant * pi / 2) for |r| <= pi / 4 and a bit."""
    cdef vf z = r * r, p, s, c
    # (sin(r) - r) / r**3 and (cos(r) - 1 + r**2 / 2) / r**4
    if F32:
        p = vsplat(-0.000195134557750566265)
        p = (p * z + 0.00833214752798304252) * z - 0.166666544042061882
        c = vsplat(0.0000244310691123184246)
        c = (c * z - 0.00138872982966034043) * z + 0.0416666453210329246
    else:
        p = vsplat(1.58953430730670614e-10)
        p = (p * z - 2.50507329046077696e-8) * z + 2.755731352950412e-6
        p = (p * z - 0.000198412698293339029) * z + 0.00833333333332181118
        p = p * z - 0.166666666666666297
        c = vsplat(-1.13577046473072975e-11)
        c = (c * z + 2.08756842560249269e-9) * z - 2.75573140519343356e-7
        c = (c * z + 0.0000248015872883847007) * z - 0.00138888888888722491
        c = c * z + 0.041666666666666588
    s = vcopysign(r * z * p + r, r)     # of -0 too
    c = z * z * c - (z * 0.5 - 1.0)
    s = vselect(visub(visplat(0), quadrant & visplat(1)), c, s)
    return vfrombits(vbits(s) ^ vshl(quadrant & visplat(2), 30 if F32 else 62))


cdef inline vf vsin(vf x) noexcept nogil:
    """2.5 ULP; the C library's where a lane is beyond FAR."""
    cdef vi quadrant = visplat(0)
    cdef vf r
    if vany(vgt(vabs(x), vsplat(FAR))):
        return vsin_exact(x)
    r = pi_reduce(x, &quadrant)
    return sine_by_quadrant(r, quadrant)


cdef inline vf vcos(vf x) noexcept nogil:
    """2.5 ULP; the C library's where a lane is beyond FAR."""
    cdef vi quadrant = visplat(0)
    cdef vf r
    if vany(vgt(vabs(x), vsplat(FAR))):
        return vcos_exact(x)
    r = pi_reduce(x, &quadrant)
    return sine_by_quadrant(r, viadd(quadrant, visplat(1)))


cdef inline vf vgauss(vf x) noexcept nogil:
    """exp(-x**2 / 2), |x| <= 13.266 (37.656), 0 there. 2 ULP: the square is split in an exact part and a small one."""
    cdef vf head, t, r
    head = vfrombits(vbits(x) & visplat(-(<ireal>1 << (12 if F32 else 27))))
    cdef vf square = head * head * -0.5
    t = exp_round(square)
    r = exp_reduce(square, t) + (x - head) * (x + head) * -0.5
    return (exp_fraction(r) + 1.0) * power(t)


cdef inline vf vtail_ratio(vf x) noexcept nogil:
    """(1 - Phi(x)) / exp(-x**2 / 2) for x in [0, 14] ([0, 39]); Phi: the normal distribution function."""
    cdef vf t, p, d
    # p = that * (x + K) is smooth in t = (x - K) / (x + K)
    if F32:
        d = vdiv(vsplat(1.0), x + 4.0)
        t = (x - 4.0) * d
        p = vsplat(-0.000131967438)
        p = ((p * t + 0.000179359964) * t + 0.0015699178) * t - 0.0035125633
        p = ((p * t - 0.00752527029) * t + 0.0604038351) * t - 0.186523441
        p = ((p * t + 0.387136901) * t - 0.607896588) * t + 0.755285135
    else:
        d = vdiv(vsplat(1.0), x + 5.0)
        t = (x - 5.0) * d
        p = vsplat(2.01396517982491217e-9)
        p = (p * t + 7.1820723173688962e-9) * t - 1.02110016090632705e-8
        p = (p * t - 6.53201673832620667e-8) * t + 4.36123885318750101e-8
        p = (p * t + 4.32686900494357773e-7) * t - 3.37743062804496759e-7
        p = (p * t - 2.76905556631718723e-6) * t + 3.98149114477830558e-6
        p = (p * t + 0.0000166811449987989851) * t - 0.0000497630101885299147
        p = (p * t - 0.0000593757113259465906) * t + 0.000544899105854909721
        p = (p * t - 0.000797869401473410552) * t - 0.00299337677569405885
        p = (p * t + 0.0207950668002419578) * t - 0.0691186387059520905
        p = (p * t + 0.165020366170361542) * t - 0.313533156671315731
        p = (p * t + 0.495305615969977) * t - 0.6653825028900566
        p = p * t + 0.769193049750062956
    return p * d


cdef inline vf vtail(vf x) noexcept nogil:
    """1 - Phi(x) for x >= 0, 4 ULP: half of erfc(x / sqrt(2))."""
    x = vmin(vsplat(13.266 if F32 else 37.656), x)      # there, and beyond, it is below the normal range: 0
    return vgauss(x) * vtail_ratio(x)


cdef inline vf verf(vf x) noexcept nogil:
    """2 ULP."""
    cdef vf a = vabs(x), z = x * x, p
    # erf(x) / x - 1, good for |x| <= 1
    if F32:
        p = vsplat(7.85384983e-5)
        p = ((p * z - 0.00080102027) * z + 0.00518833048) * z - 0.0268538146
        p = ((p * z + 0.112835852) * z - 0.376126258) * z + 0.128379166
    else:
        p = vsplat(-7.77946297176159689e-10)
        p = (p * z + 1.37109887041905231e-8) * z - 1.6206318752969209e-7
        p = (p * z + 1.6447132699786621e-6) * z - 0.0000149247124395348141
        p = (p * z + 0.0001205529358693695) * z - 0.00085483259297662443
        p = (p * z + 0.00522397760613084217) * z - 0.0268661706431134137
        p = (p * z + 0.112837916709442003) * z - 0.3761263890318352
        p = p * z + 0.128379167095512566
    return vselect(vgt(a, vsplat(1.0)), vcopysign(1.0 - 2.0 * vtail(a * 1.41421356237309505), x), x * p + x)
