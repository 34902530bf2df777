# Connectionist temporal classification (Graves et al., 2006): minus the logarithm of the probability that the steps of a
# sequence, each a label or blank, read as its labels; repeats become one, blanks are left out.
#
# A thread owns whole samples. The states of a sample are its labels with blanks between and around them, 2 * labels + 1.
# alpha[t][s] sums the paths that are in state s at step t, beta[t][s] what follows it, as logarithms; each row is shifted
# so that its largest is 0, which keeps the precision of short sequences in long ones, and the shifts are summed in double.
#
# Workspace: log sums of the steps, then rows of ``ld`` elements: which states may be come to from two before, emissions of a
# step, two of beta, those of alpha (of all steps, or two). A row has two elements in front of state 0, and room behind the
# last state for a vector and two: states that do not exist, where NEVER stands.
from libc.stdint cimport int32_t, int64_t
from nncore.op cimport Op, layout, report, signature, split
from nncore.vector cimport INFINITY, LANES, NAN, real, vexp, vexp_bounded, vf, vload, vlog, vmax, vsplat, vstore
from nncore.kernels.lanes cimport load_part, store_part, vfirst
from nncore.kernels.rows cimport exponentials, largest, log_of


cdef extern from *:
    """
    #define NN_NEVER ((real)-1e30)      /* the logarithm of what cannot be: finite, for there are differences of two */
    """
    const real NEVER "NN_NEVER"


cdef struct Sample:
    const real* x           # [times, cols]
    const int32_t* labels
    int64_t times
    int64_t cols
    int64_t states
    real* log_sums          # of exp(x), [times]
    real* skip              # 0 where a state may be come to from two before, else NEVER
    real* emitted
    real* beta
    real* next
    real* alpha
    int64_t ld
    int64_t kept            # rows of alpha


cdef inline vf log_sum(vf a, vf b, vf c) noexcept nogil:
    """log(exp(a) + exp(b) + exp(c))."""
    cdef vf top = vmax(vmax(a, b), c)
    return top + vlog(vexp_bounded(a - top) + vexp_bounded(b - top) + vexp_bounded(c - top))


cdef inline double settle(real* row, int64_t states) noexcept nogil:
    """Shift a row so that its largest is 0, unless none can be; by how much."""
    cdef real top = largest(row, states, states + LANES)
    cdef int64_t s = 0
    if not top > NEVER / 2:
        return 0
    while s < states:
        vstore(row + s, vload(row + s) - vsplat(top))
        s += LANES
    return top


cdef inline void clear(real* row, int64_t first, int64_t last) noexcept nogil:
    cdef int64_t s
    for s in range(first, last):
        row[s] = NEVER


cdef inline void emit(const Sample* a, int64_t t) noexcept nogil:
    """The log-probabilities of what the states are, at step t."""
    cdef const real* x = a.x + t * a.cols
    cdef real z = a.log_sums[t], blank = x[0] - z, v
    cdef int64_t s
    blank = NEVER if blank < NEVER else blank
    for s in range(a.states):
        v = x[a.labels[s // 2]] - z if s % 2 else blank
        a.emitted[s] = NEVER if v < NEVER else v


cdef inline double forward(const Sample* a) noexcept nogil:
    """alpha of all steps; the log-probability of the labels, or NEVER."""
    cdef real* row
    cdef real* before = a.alpha
    cdef real last, other
    cdef double total = 0
    cdef int64_t t, s
    for t in range(a.times):
        a.log_sums[t] = largest(a.x + t * a.cols, a.cols, a.cols)
        a.log_sums[t] += log_of(exponentials(NULL, a.x + t * a.cols, a.cols, a.cols, 0, a.log_sums[t]))
        emit(a, t)
        row = a.alpha + (t % a.kept) * a.ld
        clear(row, -2, 0)
        if t == 0:
            clear(row, 0, a.states + LANES)
            row[0] = a.emitted[0]
            if a.states > 1:
                row[1] = a.emitted[1]
        else:
            s = 0
            while s < a.states:
                vstore(row + s, vload(a.emitted + s) + log_sum(
                    vload(before + s), vload(before + s - 1), vload(before + s - 2) + vload(a.skip + s)))
                s += LANES
        total += settle(row, a.states)
        before = row
    # all labels, with a blank behind them or without
    last, other = before[a.states - 1], before[a.states - 2]
    if last <= NEVER / 2 and other <= NEVER / 2:
        return NEVER
    return total + vfirst(log_sum(vsplat(last), vsplat(other), vsplat(NEVER)))


cdef inline void backward(Sample* a, real* dx, real factor) noexcept nogil:
    """dx = factor * (the softmax of each step - how often the paths that read as the labels emit each class there)."""
    cdef real* row
    cdef real* swap
    cdef const real* x
    cdef real top, total
    cdef int64_t t, s, c
    clear(a.beta, -2, a.ld - 2)
    a.beta[a.states - 1] = 0
    if a.states > 1:
        a.beta[a.states - 2] = 0
    for t in range(a.times - 1, -1, -1):
        row = a.alpha + t * a.ld
        x = a.x + t * a.cols
        emit(a, t)
        # the share of the paths that are in each state, in the place of alpha
        s = 0
        while s < a.states:
            vstore(row + s, vload(row + s) + vload(a.beta + s))
            s += LANES
        top = largest(row, a.states, a.states + LANES)
        total = exponentials(row, row, a.states, a.states + LANES, 0, top)
        c = 0
        while c < a.cols:
            store_part(dx + t * a.cols + c, vexp(load_part(x + c, a.cols - c, 0, -INFINITY)
                       - vsplat(a.log_sums[t])) * vsplat(factor), a.cols - c)
            c += LANES
        for s in range(a.states):
            dx[t * a.cols + (a.labels[s // 2] if s % 2 else 0)] -= factor * row[s] / total
        # what follows the step before
        s = 0
        while s < a.states:
            vstore(a.beta + s, vload(a.beta + s) + vload(a.emitted + s))
            s += LANES
        clear(a.beta, a.states, a.states + LANES + 2)
        s = 0
        while s < a.states:
            vstore(a.next + s, log_sum(vload(a.beta + s), vload(a.beta + s + 1),
                                       vload(a.beta + s + 2) + vload(a.skip + s + 2)))
            s += LANES
        settle(a.next, a.states)
        swap = a.beta
        a.beta = a.next
        a.next = swap


# p: loss, dx, x, labels, upstream, state, workspace. n: rows, times, cols, length, ld, share. s: scale
cdef void ctc(const Op* op, int thread, int threads) noexcept nogil:
    """loss[b] of x[b, times, cols], logits of classes, 0 being blank, against labels[b, length], as many as are not 0;
    INFINITY where they do not fit into the times, with dx 0. dx: the gradient times scale, and upstream[b]. ld: 2 * length
    + 21, for vectors of at most 16; share: times + (times + 4) * ld, or without dx times + 6 * ld."""
    cdef int64_t rows = op.n[0], times = op.n[1], cols = op.n[2], length = op.n[3], ld = op.n[4]
    cdef int64_t b, c, i, count, first = 0, last = 0
    cdef real* loss = <real*>op.p[0]
    cdef real* dx = <real*>op.p[1]
    cdef const real* upstream = <const real*>op.p[4]
    cdef real* workspace = <real*>op.p[6] + thread * op.n[5]
    cdef real* of_rows = workspace + times + 2
    cdef double found
    cdef bint known
    cdef Sample a
    a.states = 1
    a.times, a.cols, a.ld, a.kept = times, cols, ld, times if dx != NULL else 2
    a.log_sums = workspace
    a.skip, a.emitted = of_rows, of_rows + ld
    a.beta, a.next, a.alpha = of_rows + 2 * ld, of_rows + 3 * ld, of_rows + 4 * ld
    split(rows, thread, threads, &first, &last)
    for b in range(first, last):
        a.x = <const real*>op.p[2] + b * times * cols
        a.labels = <const int32_t*>op.p[3] + b * length
        count, known = 0, True
        for i in range(length):
            count += a.labels[i] != 0
            if not 0 <= a.labels[i] < cols and known:
                known = False
                if op.p[5] != NULL:
                    report(<int64_t*>op.p[5], op.id, b, a.labels[i])
        found = NEVER
        if times == 0 and count == 0:
            found = 0
        elif known and times > 0 and cols > 0:
            a.states = 2 * count + 1
            clear(a.skip, -2, ld - 2)
            clear(a.emitted, -2, ld - 2)
            for i in range(1, count):
                if a.labels[i] != a.labels[i - 1]:
                    a.skip[2 * i + 1] = 0
            found = forward(&a)
        loss[b] = NAN if not known else INFINITY if found == NEVER else <real>(-found)
        if dx != NULL:
            if found == NEVER:
                for c in range(times * cols):
                    dx[b * times * cols + c] = 0
            else:
                backward(&a, dx + b * times * cols, <real>(op.s[0] * (1 if upstream == NULL else upstream[b])))


TABLE = {"ctc": <size_t>&ctc}
LAYOUT = layout()
SIGNATURE = signature()
