"""The guards: a benchmark fails where NumPy is faster than the kernel it measures, or where too little is left of what
shares.json says the kernel reaches of the machine's limit. And the tables of all of them.

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
from bench import blas, shares
from bench.table import number, table

MOST = 4096  # repetitions in a sample
SAMPLE = 2e-3  # seconds that a sample lasts at least, if that takes no more than MOST repetitions
SECONDS = 0.25  # of samples, of both sides together
ROUNDS = (3, 25)  # samples of each side, at least and at most
ATTEMPTS = 3  # measurements before a kernel counts as slower: the machine is shared
_RESULTS, _SHARES = pytest.StashKey[list](), pytest.StashKey[list]()


def _seconds(f, times: int) -> float:
    start = time.perf_counter()
    f(times)
    return (time.perf_counter() - start) / times


def _repetitions(f) -> int:
    f(1)
    return min(MOST, max(1, round(SAMPLE / max(_seconds(f, 1), 1e-7))))


@pytest.fixture
def guard(benchmark, request):
    """guard(ours, numpy, work=0, least=1): measures both in turn (ours, NumPy, ours, ...), records the ratio.

    A ratio below ``least`` is measured again, and fails if it is below every time.

    ``ours(times)`` does the work so many times in one call, as a training step does it without Python in between;
    ``numpy()`` does it once. ``work``: floating-point operations in it.
    """

    def check(ours, numpy, work: float = 0.0, least: float = 1.0):
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
                    if other >= least * mine:
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
        if other < least * mine:
            pytest.fail(f"slower than NumPy: {1e6 * mine:.2f} us, NumPy {1e6 * other:.2f} us")

    return check


@pytest.fixture
def share_guard(benchmark, request):
    """share_guard(bounded): fails where less than TOLERANCE of the recorded share is left, ATTEMPTS times in a row.

    Each attempt takes four times as long as the one before.
    """

    def check(bounded: shares.Bounded):
        before = shares.recorded(shares.load(), shares.machine(), bounded.name)
        nncore.set_num_threads(1)
        try:
            run = bounded.make()
            for attempt in range(ATTEMPTS):
                measured = shares.measure(bounded, run, seconds=0.1 * 4**attempt)
                if not shares.lost(measured.share, before):
                    break
            benchmark.pedantic(run, args=(1,), rounds=3)
        finally:
            nncore.set_num_threads(0)
        benchmark.extra_info.update(share=round(measured.share, 3), recorded=before)
        request.config.stash.setdefault(_SHARES, []).append((bounded.name, measured, before))
        if shares.lost(measured.share, before):
            pytest.fail(f"{measured.share:.3g} of the bound, {before:.3g} when it was recorded")

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
    if results:
        for line in blas.lines():
            terminalreporter.write_line(line, yellow=line.startswith("warning"))
    if measured := config.stash.get(_SHARES, []):
        terminalreporter.write_sep("-", "shares of the machine's limit on one thread")
        terminalreporter.write_line(shares.text(measured))
        known = "are recorded" if shares.machine() in shares.load() else "were never recorded: they guard nothing here"
        terminalreporter.write_line(f"shares of {shares.machine()} {known}")
