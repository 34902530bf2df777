"""The guard: a benchmark fails where NumPy is faster than the kernel it measures."""

import statistics
import time

import pytest

ROUNDS = 15
LEAST_SECONDS = 2e-3  # a sample lasts at least this long


def _per_call(f, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        f()
    return (time.perf_counter() - start) / repeats


@pytest.fixture
def guard(benchmark):
    """guard(ours, numpy): measures both in turn (ours, NumPy, ours, ...), records the ratio, fails below 1."""

    def check(ours, numpy, work: float = 0.0):
        repeats = [max(1, int(LEAST_SECONDS / max(_per_call(f, 3), 1e-7))) for f in (ours, numpy)]
        samples = [(_per_call(ours, repeats[0]), _per_call(numpy, repeats[1])) for _ in range(ROUNDS)]
        mine, theirs = (statistics.median(s) for s in zip(*samples, strict=True))
        benchmark.extra_info.update(us=round(1e6 * mine, 2), numpy_us=round(1e6 * theirs, 2), ratio=round(theirs / mine, 2))
        if work:
            benchmark.extra_info["gflops"] = round(work / mine / 1e9, 1)
        benchmark.pedantic(ours, rounds=10, iterations=repeats[0], warmup_rounds=1)
        if theirs < mine:
            pytest.fail(f"slower than NumPy: {1e6 * mine:.1f} us, NumPy {1e6 * theirs:.1f} us")

    return check
