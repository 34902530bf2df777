# x**y on lanes: of float32 as 2**(y * log2(x)) in double, half of the lanes at a time, then what infinities, zeros and signs
# make of it. Where that is two doubles, and for float64, it is the C library's.
from nncore.vector cimport vf

cdef extern from *:
    """
    #ifndef NN_POWERS
    #define NN_POWERS
    #if defined(NN_f32) && NN_BYTES > 16
    /* A literal that -fsingle-precision-constant does not round. */
    #define NN_D(x) ((double)x##L)
    typedef float vf_half __attribute__((vector_size(NN_BYTES / 2)));
    typedef double vd __attribute__((vector_size(NN_BYTES)));
    typedef int64_t vl __attribute__((vector_size(NN_BYTES)));
    typedef uint64_t vul __attribute__((vector_size(NN_BYTES)));
    #define nn_choose(m, a, b) ((vd)(((m) & (vl)(a)) | (~(m) & (vl)(b))))
    static inline vd nn_log2(vd x) {            /* of normal numbers */
        const vl root = (vl)(NN_D(0.70710678118654752440) - (vd){0}), one = (vl)(NN_D(1.0) - (vd){0});
        const double two = (double)(1ll << 52);
        /* x = (1 + f) * 2**e with 1 + f in [sqrt(1/2), sqrt(2)), as in vlog; wraps where x is no such number */
        vl bits = (vl)((vul)x - (vul)root + (vul)one);
        vd e = (vd)((vl)((vul)bits >> 52) | (vl)(two - (vd){0})) - (two + NN_D(1023.0));
        vd f = (vd)((bits & ((1ll << 52) - 1)) + root) - NN_D(1.0);
        vd t = f / (f + NN_D(2.0)), z = t * t;
        vd p = NN_D(0.340729404143528591) * z + NN_D(0.411672760041015717);     /* of log2(1 + f) / t */
        p = (p * z + NN_D(0.577083584180358766)) * z + NN_D(0.961796673347229403);
        return t * (p * z + NN_D(2.88539008179007617)) + e;
    }
    static inline vd nn_exp2(vd x) {            /* beyond 200 as there: more than float32 holds */
        const double round = (double)(3ll << 51);
        x = nn_choose(x > NN_D(200.0), NN_D(200.0) - (vd){0}, nn_choose(x < NN_D(-200.0), NN_D(-200.0) - (vd){0}, x));
        vd t = x + round, f = x - (t - round);
        vd p = NN_D(0.000153457875532612194) * f + NN_D(0.00133999576170762435);
        p = (p * f + NN_D(0.00961848924968260882)) * f + NN_D(0.055503287118367807);
        p = (p * f + NN_D(0.240226468860310072)) * f + NN_D(0.693147205767120411);
        p = p * f + NN_D(1.000000000555056);
        return (vd)((vul)p + ((vul)t << 52));
    }
    static inline vf vpow(vf x, vf y) {
        const vf none = vsplat(0), one = vsplat(1), inf = vsplat(__builtin_inff());
        const vi sign = vbits(-none);
        union { vf whole; vf_half half[2]; } a = {vfrombits(~sign & vbits(x))}, b = {y}, r;
        for (int i = 0; i < 2; ++i)
            r.half[i] = __builtin_convertvector(nn_exp2(__builtin_convertvector(b.half[i], vd)
                * nn_log2(__builtin_convertvector(a.half[i], vd))), vf_half);
        vf z = r.whole, half = y * vsplat(0.5);
        vi whole = vround(y) == y, odd = whole & (vround(half) != half);
        z = vselect((a.whole == none) | (a.whole == inf), vand((a.whole == inf) ^ (y < none), inf), z);
        z = vselect(a.whole == one, one, z);    /* to the power of infinity, too */
        z = vselect((x < none) & (a.whole < inf) & ~whole, vsplat(__builtin_nanf("")), z);
        z = vfrombits(vbits(z) ^ (vbits(x) & odd & sign));
        z = vselect((x != x) | (y != y), x + y, z);
        return vselect((y == none) | (x == one), one, z);
    }
    #else
    static inline vf vpow(vf x, vf y) {
        for (int i = 0; i < LANES; ++i)
            x[i] = (real)(sizeof(real) == 4 ? __builtin_powf(x[i], y[i]) : __builtin_pow(x[i], y[i]));
        return x;
    }
    #endif
    #endif
    """
    vf vpow(vf x, vf y) noexcept nogil      # 1 ULP, and as C's pow for all special numbers
