"""steps: the element-wise functions of fused steps, one for each row of nncore.functions, as loops over a tile.

They are no kernels: a step's record holds the address of its function (``FUNCTIONS``), and every family that applies
steps calls it there. ``CODES`` numbers the kinds that kernels.chain does itself.
"""
from libc.stdint cimport int64_t
from nncore.kernels.chain cimport DROPOUT, MAP, NORM_GRAD, SAVE, STORE, UPDATE, Tile, step_layout
from nncore.op cimport layout, signature
from nncore.powers cimport vpow
from nncore.vector cimport (F32, INFINITY, vabs, vand, vandnot, vceil, vcos, vdiv, veq, verf, vexp, vexp_bounded, vexpm1,
                            vexpm1_bounded, vf, vfloor, vgauss, vge, vgt, vlog, vlog1p, vmax, vmin, vround, vselect,
                            vsigmoid, vsign, vsin, vsoftplus, vsplat, vsqrt, vtail, vtail_ratio, vtanh)

cdef extern from *:
    """
    /* Macros, so that f is called directly, and inlined. P, Q: what an operand is: 0 not there, 1 read vector by vector,
       2 one number for a row. */
    #define nn_operand(KIND, x, splat) ((KIND) == 1 ? vload((x) + c_) : (splat))
    #define nn_loop(tile, f, P, Q) do { \\
        const int64_t rows_ = (tile)->rows, cols_ = (tile)->cols; \\
        const vf a_ = vsplat((tile)->s0), b_ = vsplat((tile)->s1); \\
        for (int64_t r_ = 0; r_ < rows_; ++r_) { \\
            real *t_ = (tile)->t + r_ * (tile)->ld; \\
            const real *v_ = (tile)->v + r_ * (tile)->ldv; \\
            const real *p_ = (tile)->p + r_ * (tile)->ldp, *q_ = (tile)->q + r_ * (tile)->ldq; \\
            const vf sp_ = (P) == 2 ? vsplat(*p_) : (vf){0}, sq_ = (Q) == 2 ? vsplat(*q_) : (vf){0}; \\
            for (int64_t c_ = 0; c_ < cols_; c_ += LANES) \\
                vstore(t_ + c_, f(vload(v_ + c_), nn_operand(P, p_, sp_), nn_operand(Q, q_, sq_), a_, b_)); } } while (0)
    #define each(tile, f) nn_loop(tile, f, 0, 0)
    #define each_p(tile, f) do { if ((tile)->csp) nn_loop(tile, f, 1, 0); else nn_loop(tile, f, 2, 0); } while (0)
    #define each_pq(tile, f) do { \\
        if ((tile)->csp && (tile)->csq) nn_loop(tile, f, 1, 1); \\
        else if ((tile)->csp) nn_loop(tile, f, 1, 2); \\
        else if ((tile)->csq) nn_loop(tile, f, 2, 1); \\
        else nn_loop(tile, f, 2, 2); } while (0)
    """
    ctypedef vf (*Function)(vf v, vf p, vf q, vf s0, vf s1) noexcept nogil
    void each(const Tile* tile, Function f) noexcept nogil          # v = f(v)
    void each_p(const Tile* tile, Function f) noexcept nogil        # v = f(v, p)
    void each_pq(const Tile* tile, Function f) noexcept nogil       # v = f(v, p, q)

include "functions.pxi"

CODES = {"function": MAP, "store": STORE, "save": SAVE, "dropout": DROPOUT, "norm_grad": NORM_GRAD,
         "update": UPDATE}
LAYOUT = layout()
SIGNATURE = signature()
STEP_LAYOUT = step_layout()
