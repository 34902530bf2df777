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
    #else
    typedef double real;
    typedef int64_t ireal;
    #endif
    typedef real vf __attribute__((vector_size(NN_BYTES)));
    typedef ireal vi __attribute__((vector_size(NN_BYTES)));
    typedef real vf_loose __attribute__((vector_size(NN_BYTES), aligned(sizeof(real)), may_alias));
    #define LANES ((int)(NN_BYTES / sizeof(real)))
    #define vload(p) ((vf)*(const vf_loose*)(p))
    #define vstore(p, v) (*(vf_loose*)(p) = (v))
    #define vsplat(x) ((real)(x) - (vf){0})       /* x - 0 is x, -0 included: a plain broadcast */
    #define visplat(x) ((vi){0} + (ireal)(x))
    #define real_sqrt(x) ((real)(sizeof(real) == 4 ? __builtin_sqrtf(x) : __builtin_sqrt(x)))
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
    real real_sqrt(real x) noexcept nogil
    vi vgt(vf a, vf b) noexcept nogil        # all bits of a lane set where true
    vi vge(vf a, vf b) noexcept nogil
    vi veq(vf a, vf b) noexcept nogil
    vf vselect(vi mask, vf a, vf b) noexcept nogil
    vf vand(vi mask, vf a) noexcept nogil    # a where the mask is set, else 0
    vf vandnot(vi mask, vf a) noexcept nogil # a where the mask is not set, else 0
    vi vbits(vf a) noexcept nogil            # reinterpret
    vf vfrombits(vi a) noexcept nogil
    vi vtoint(vf a) noexcept nogil           # convert, toward zero
    vf vtoreal(vi a) noexcept nogil


cdef inline vf vabs(vf x) noexcept nogil:
    return vandnot(vbits(vsplat(-0.0)), x)


cdef inline vf vsqrt(vf x) noexcept nogil:
    cdef real[16] lanes
    cdef int i
    cdef vf y
    vstore(lanes, x)
    for i in range(LANES):
        lanes[i] = real_sqrt(lanes[i])
    y = vload(lanes)
    return y
