# Activations on lanes, and their derivatives by the argument x or from the result y, as nncore.steps.SAVES says.
# Clamps keep infinity times zero away: every function has its limit at +-inf, and NaN gives NaN.
from nncore.vector cimport (F32, vabs, vdiv, vexp_bounded, vexpm1, vf, vgauss, vgt, vmax, vmin, vselect, vsigmoid,
                            vsplat, vtail, vtail_ratio)


cdef inline vf bottom(vf x) noexcept nogil:
    """x, or where it is less a number whose exp is 0 (and stays 0 times that number)."""
    return vmax(vsplat(-110.0 if F32 else -760.0), x)


cdef inline vf within(vf x, vf limit) noexcept nogil:
    return vmax(-limit, vmin(limit, x))


cdef inline vf vrelu(vf x) noexcept nogil:
    return vselect(vgt(vsplat(0), x), vsplat(0), x)


cdef inline vf vleaky_relu(vf x, vf slope) noexcept nogil:
    return vselect(vgt(vsplat(0), x), x * slope, x)


cdef inline vf velu(vf x, vf alpha) noexcept nogil:
    """alpha * (exp(x) - 1) below 0; 2 ULP."""
    return vselect(vgt(x, vsplat(0)), x, alpha * vexpm1(vmin(vsplat(0), x)))


cdef inline vf vd_elu(vf y, vf alpha) noexcept nogil:
    return vselect(vgt(y, vsplat(0)), vsplat(1.0), y + alpha)


cdef inline vf vselu(vf x) noexcept nogil:
    return vselect(vgt(x, vsplat(0)), x * 1.0507009873554805, 1.7580993408473766 * vexpm1(vmin(vsplat(0), x)))


cdef inline vf vd_selu(vf y) noexcept nogil:
    return vselect(vgt(y, vsplat(0)), vsplat(1.0507009873554805), y + 1.7580993408473766)


cdef inline vf vgelu(vf x) noexcept nogil:
    """x * Phi(x), Phi the normal distribution function; 9 ULP, also far below 0."""
    cdef vf tail = vtail(vabs(x))
    return vmax(vsplat(-40.0), x) * vselect(vgt(vsplat(0), x), tail, 1.0 - tail)


cdef inline vf vd_gelu(vf x) noexcept nogil:
    """Phi(x) + x * Phi'(x)."""
    cdef vf a = vmin(vsplat(13.266 if F32 else 37.656), vabs(x))
    cdef vf gauss = vgauss(a)
    cdef vf tail = gauss * vtail_ratio(a)
    cdef vf slope = a * gauss * 0.39894228040143268
    return vselect(vgt(vsplat(0), x), tail - slope, 1.0 - tail + slope)


cdef inline vf vgelu_tanh(vf x) noexcept nogil:
    """x * (1 + tanh(u)) / 2 = x * sigmoid(2 u), u = sqrt(2 / pi) * (x + 0.044715 * x**3).

    4 + 6 |u| ULP: the rounding of u counts that often far below 0.
    """
    cdef vf c = vmax(vsplat(-25.0), x)
    return c * vsigmoid(c * (c * c * 0.071354816272600248 + 1.5957691216057308))


cdef inline vf vd_gelu_tanh(vf x) noexcept nogil:
    cdef vf c = within(x, vsplat(25.0)), z = c * c
    cdef vf s = vsigmoid(c * (z * 0.071354816272600248 + 1.5957691216057308))
    return s + c * s * (1.0 - s) * (z * 0.21406444881780074 + 1.5957691216057308)


cdef inline vf vsilu(vf x) noexcept nogil:
    """x * sigmoid(x), 4 ULP."""
    cdef vf c = bottom(x)
    return c * vsigmoid(c)


cdef inline vf vd_silu(vf x) noexcept nogil:
    cdef vf c = within(x, vsplat(110.0 if F32 else 760.0))
    cdef vf s = vsigmoid(c)
    return s + c * s * (1.0 - s)


cdef inline vf vd_sigmoid(vf y) noexcept nogil:
    return y * (1.0 - y)


cdef inline vf vhard_sigmoid(vf x) noexcept nogil:
    """x / 6 + 1/2 between 0 and 1."""
    return vmax(vsplat(0), vmin(vsplat(1.0), x * 0.16666666666666667 + 0.5))


cdef inline vf vd_hard_sigmoid(vf y) noexcept nogil:
    return vselect(vgt(y, vsplat(0)) & vgt(vsplat(1.0), y), vsplat(0.16666666666666667), vsplat(0))


cdef inline vf vd_tanh(vf y) noexcept nogil:
    return (1.0 - y) * (1.0 + y)        # unlike 1 - y * y without cancellation


cdef inline vf vsoftsign(vf x) noexcept nogil:
    """x / (1 + |x|)."""
    cdef vf c = within(x, vsplat(1e20))         # far where the result is 1
    return vdiv(c, vabs(c) + 1.0)


cdef inline vf vd_softsign(vf y) noexcept nogil:
    cdef vf d = 1.0 - vabs(y)
    return d * d


cdef inline vf vmish(vf x) noexcept nogil:
    """x * tanh(softplus(x)), 5 ULP: with e = exp(x) and n = e * (e + 2) the tanh is n / (n + 2)."""
    cdef vf e = vexp_bounded(vmin(vsplat(30.0), x))
    cdef vf n = e * (e + 2.0)
    return bottom(x) * vdiv(n, n + 2.0)


cdef inline vf vd_mish(vf x) noexcept nogil:
    cdef vf c = vmin(vsplat(20.0 if F32 else 40.0), bottom(x))
    cdef vf e = vexp_bounded(c)
    cdef vf n = e * (e + 2.0)
    cdef vf d = vdiv(vsplat(1.0), n + 2.0)
    return d * (n + d * c * e * (e + 1.0) * 4.0)
