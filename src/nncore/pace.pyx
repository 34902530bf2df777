"""Pace: whether a Program is faster on its whole team or on one thread, found while it runs.

Bits do not depend on the number of threads, so it may change at any time. One thread wins for small networks, the work
of which is not worth the meetings of a team, and on a machine whose cores are busy, where each meeting waits for a time
slice.
"""
from libc.math cimport INFINITY
from libc.stdint cimport int64_t

TRIAL = 1e-3        # seconds that a trial lasts, or one step
LONGEST = 0.05      # a step that may take longer on one thread is not tried: Ctrl-C waits for it
SHARE = 50          # after its first trial, the slower way takes at most one part in so many of the time
GAIN = 0.95         # the other way must take less than this much of the time

cdef double trial = TRIAL, longest = LONGEST, gain = GAIN
cdef int share = SHARE


cdef class Pace:
    """Seconds a step of the two ways, as last seen. Used by one thread at a time.

    Compiled, and no objects: while a Program runs, the interpreter runs nothing, a signal's handler least of all.
    """

    def __cinit__(self):
        self.best = INFINITY

    @property
    def seconds(self):
        """alone? -> seconds a step, of the ways that have been seen."""
        return {bool(alone): self.took[alone] for alone in range(2) if self.took[alone] > 0}

    def choose(self, double now, int threads):
        """(on one thread?, for how many seconds) the next stretch is to run; ``now``: a clock in seconds."""
        return self.next(now, threads)

    def saw(self, bint alone, int64_t steps, double start, double end):
        """``steps`` steps took from ``start`` to ``end``."""
        self.note(alone, steps, start, end)

    cdef (bint, double) next(self, double now, int threads) noexcept nogil:
        if self.took[0] == 0 and self.took[1] == 0:
            return False, trial
        if now < self.due:
            return self.alone, self.due - now
        # One thread takes at most ``threads`` times as long as the team at its best.
        if not self.alone and self.best * threads > longest:
            return False, longest
        return not self.alone, trial

    cdef void note(self, bint alone, int64_t steps, double start, double end) noexcept nogil:
        cdef double took = max((end - start) / steps, 1e-12)        # a clock may stand still
        if not alone:
            self.best = min(self.best, took)
        if self.took[0] == 0 and self.took[1] == 0:
            self.took[alone] = took
            # A long step is worth a team, unless the machine is busy: that is looked at later.
            self.due = end if took < trial else end + 2 * share * took
            return
        if alone != self.alone:     # a trial: how it went just now counts, not long ago
            self.took[alone] = took
            self.due = end + share * (end - start)
        else:
            self.took[alone] = 0.5 * (self.took[alone] + took)
        if self.took[not self.alone] > 0 and self.took[not self.alone] < gain * self.took[self.alone]:
            self.alone = not self.alone
