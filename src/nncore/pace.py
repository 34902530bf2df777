"""Pace: whether a Program is faster on its whole team or on one thread, found while it runs.

Bits do not depend on the number of threads, so it may change at any time. One thread wins for small networks, the work
of which is not worth the meetings of a team, and on a machine whose cores are busy, where each meeting waits for a time
slice.
"""

from __future__ import annotations

TRIAL = 1e-3  # seconds that a trial lasts, or one step
SHARE = 50  # a trial of the slower way may cost one part in so many of the time
GAIN = 0.95  # the other way must take less than this much of the time


class Pace:
    """Seconds a step of the two ways, as last seen."""

    __slots__ = ("_due", "_last", "alone", "seconds")

    def __init__(self):
        self.seconds: dict[bool, float] = {}  # alone? -> seconds a step
        self.alone = False  # the way that is faster
        self._due = 0.0  # when to look at the other way again
        self._last = 0.0

    def choose(self, now: float) -> tuple[bool, float]:
        """(on one thread?, for how many seconds) the next stretch is to run; now: a clock in seconds."""
        if len(self.seconds) == 0:
            return False, TRIAL
        if now >= self._due:
            return not self.alone, TRIAL
        return self.alone, self._due - now

    def saw(self, alone: bool, steps: int, start: float, end: float) -> None:
        """``steps`` steps took from ``start`` to ``end``."""
        took = (end - start) / steps
        first = not self.seconds
        before = self.seconds.get(alone)
        self.seconds[alone] = took if before is None else 0.5 * (before + took)
        if first:
            # A long step is worth a team, unless the machine is busy: that is looked at later.
            self._due = end if took < TRIAL else end + 2 * SHARE * took
            return
        if alone != self.alone:
            # How the other way did just now counts, not what it did long ago.
            self.seconds[alone] = took
            self._due = end + SHARE * (end - start)
        if len(self.seconds) == 2:
            better = not self.alone
            if self.seconds[better] < GAIN * self.seconds[self.alone]:
                self.alone = better
