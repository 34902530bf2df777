"""Clocks that all benchmarks share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

Run = Callable[[int], object]  # run(times) does something so often; a float that it returns is the seconds that count


def clock(run: Run, times: int) -> float:
    """Seconds of ``run(times)``."""
    start = time.perf_counter()
    result = run(times)
    return result if isinstance(result, float) else time.perf_counter() - start


def best_time(run: Run, seconds: float, call: float = 2e-3) -> float:
    """Seconds a time, the best of many calls of at least ``call`` seconds, which last about ``seconds`` together."""
    times = 1
    while min(clock(run, times) for _ in range(3)) < call:
        times *= 2
    best, calls, until = clock(run, times), 1, time.perf_counter() + seconds
    while calls < 10 or time.perf_counter() < until:
        best, calls = min(best, clock(run, times)), calls + 1
    return best / times


def load_warning() -> str:
    """What to say where something else runs on the machine; empty where nothing does."""
    load = os.getloadavg()[0]
    return f"warning: something else runs here (load {load:.2f}): these times will be noisy" if load > 0.5 else ""
