"""The guard: a benchmark fails where NumPy is faster than the kernel it measures. And the table of all of them.

Both sides work on ONE thread: NumPy's OpenBLAS has its own pool of threads, which goes on spinning on the cores for a
while after each product. A team of ours that starts then waits for it, and the other way round: two pools measure
each other. How the kernels scale over threads, `python -m bench.roofline` and `python -m bench.peers` tell, where
nothing else runs.
"""

import statistics
import time

import pytest
from threadpoolctl import threadpool_limits

import nncore
from bench.table import number, table

MOST = 4096  # repetitions in a sample
SAMPLE = 2e-3  # seconds that a sample lasts at least, if that takes no more than MOST repetitions
SECONDS = 0.25  # of samples, of both sides together
ROUNDS = (3, 25)  # samples of each side, at least and at most
ATTEMPTS = 3  # measurements before a kernel counts as slower: the machine is shared
_RESULTS = pytest.StashKey[list]()


def _seconds(f, times: int) -> float:
    start = time.perf_counter()
    f(times)
    return (time.perf_counter() - start) / times


def _repetitions(f) -> int:
    f(1)
    return min(MOST, max(1, round(SAMPLE / max(_seconds(f, 1), 1e-7))))


@pytest.fixture
def guard(benchmark, request):
    """guard(ours, numpy, work=0): measures both in turn (ours, NumPy, ours, ...), records the ratio, fails below 1.

    A ratio below 1 is measured again, and fails if it is below 1 every time.

    ``ours(times)`` does the work so many times in one call, as a training step does it without Python in between;
    ``numpy()`` does it once. ``work``: floating-point operations in it.
    """

    def check(ours, numpy, work: float = 0.0):
        def theirs(times):
            for _ in range(times):
                numpy()

        with threadpool_limits(1, user_api="blas"):
            nncore.set_num_threads(1)
            try:
                sides = [(f, _repetitions(f)) for f in (ours, theirs)]
                pair = sum(_seconds(*side) * side[1] for side in sides)
                rounds = max(ROUNDS[0], min(ROUNDS[1], int(SECONDS / pair)))
                for _ in range(ATTEMPTS):
                    samples = [[_seconds(*side) for side in sides] for _ in range(rounds)]
                    mine, other = (statistics.median(side) for side in zip(*samples, strict=True))
                    if mine <= other:
                        break
                benchmark.pedantic(ours, args=(sides[0][1],), rounds=3)
            finally:
                nncore.set_num_threads(0)
        result = {"us": 1e6 * mine, "numpy_us": 1e6 * other, "ratio": other / mine}
        if work:
            result["gflops"] = 1e-9 * work / mine
        benchmark.extra_info.update({name: round(value, 3) for name, value in result.items()}, calls=sides[0][1])
        name = request.node.name.removeprefix("test_")
        request.config.stash.setdefault(_RESULTS, []).append((benchmark.group or "", name, result))
        if other < mine:
            pytest.fail(f"slower than NumPy: {1e6 * mine:.2f} us, NumPy {1e6 * other:.2f} us")

    return check


def pytest_terminal_summary(terminalreporter, config):
    """A table for each group, in place of pytest-benchmark's, which cannot show the ratio."""
    results = config.stash.get(_RESULTS, [])
    for group in dict.fromkeys(group for group, _, _ in results):
        rows = [
            (name, *(number(result.get(column)) for column in ("us", "numpy_us", "ratio", "gflops")))
            for of, name, result in results
            if of == group
        ]
        terminalreporter.write_sep("-", f"{group}: medians on one thread")
        terminalreporter.write_line(table(("benchmark", "us", "NumPy us", "ratio", "GFLOP/s"), rows))
