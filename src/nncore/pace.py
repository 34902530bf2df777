"""Pace: whether a Program is faster on its whole team or on one thread, found while it runs.

Bits do not depend on the number of threads, so it may change at any time. One thread wins for small networks, the work
of which is not worth the meetings of a team, and on a machine whose cores are busy, where each meeting waits for a time
slice.
"""

from __future__ import annotations

TRIAL = 1e-3  # seconds that a trial lasts, or one step
LONGEST = 0.05  # a step that may take longer on one thread is not tried: Ctrl-C waits for it
SHARE = 50  # after its first trial, the slower way takes at most one part in so many of the time
GAIN = 0.95  # the other way must take less than this much of the time


class Pace:
    """Seconds a step of the two ways, as last seen. Used by one thread at a time."""

    __slots__ = ("_best", "_due", "alone", "seconds")

    def __init__(self):
        self.seconds: dict[bool, float] = {}  # alone? -> seconds a step
        self.alone = False  # the way that is faster
        self._due = 0.0  # when to look at the other way again
        self._best = float("inf")  # of the team, ever

    def choose(self, now: float, threads: int) -> tuple[bool, float]:
        """(on one thread?, for how many seconds) the next stretch is to run; ``now``: a clock in seconds."""
        if not self.seconds:
            return False, TRIAL
        if now < self._due:
            return self.alone, self._due - now
        # One thread takes at most ``threads`` times as long as the team at its best.
        if not self.alone and self._best * threads > LONGEST:
            return False, LONGEST
        return not self.alone, TRIAL

    def saw(self, alone: bool, steps: int, start: float, end: float) -> None:
        """``steps`` steps took from ``start`` to ``end``."""
        took = (end - start) / steps
        if not alone:
            self._best = min(self._best, took)
        if not self.seconds:
            self.seconds[alone] = took
            # A long step is worth a team, unless the machine is busy: that is looked at later.
            self._due = end if took < TRIAL else end + 2 * SHARE * took
            return
        if alone != self.alone:  # a trial: how it went just now counts, not long ago
            self.seconds[alone] = took
            self._due = end + SHARE * (end - start)
        else:
            self.seconds[alone] = 0.5 * (self.seconds[alone] + took)
        if len(self.seconds) == 2 and self.seconds[not self.alone] < GAIN * self.seconds[self.alone]:
            self.alone = not self.alone
