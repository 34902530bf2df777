"""A process with one framework and one workload. It warms up, then times steps whenever its parent asks.

One JSON object a line: requests on stdin, replies on the stdout that it was started with. Between requests it blocks
in a read (and the parent stops the process, so that no framework's idle threads spin on the cores of the next).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import signal
import sys
import time

from bench.peers import FRAMEWORKS, Unavailable
from bench.timing import clock
from bench.workloads import WORKLOADS

CHUNK = 0.05  # seconds between two looks at the clock: long enough that waiting for the last step does not count


def warm_up(train, seconds: float) -> tuple[float, float]:
    """(seconds a step, seconds of the first call); trains until two looks in a row agree within a tenth."""
    first = clock(train, 1)
    steps, before, until = 1, 0.0, time.perf_counter() + max(seconds, 0.2)
    while True:
        took = clock(train, steps)
        each = took / steps
        if took > CHUNK / 2 and (abs(each - before) < 0.1 * each or time.perf_counter() > until):
            return each, first
        before = each
        steps = max(1, round(min(4 * steps, CHUNK / each))) if took > CHUNK / 100 else 4 * steps


def measure(train, each: float, seconds: float) -> list[float]:
    """Seconds a step of successive chunks of steps, for about ``seconds`` and at least 3 chunks."""
    steps = max(1, round(CHUNK / each))
    train(max(1, steps // 2))  # what the last framework left in the caches is not ours
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        times.append(clock(train, steps) / steps)
        steps = max(1, round(CHUNK / min(times)))
    return times


def die_with_parent() -> None:
    """A stopped process would outlive a parent that was killed."""
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.peers.worker")
    for name in ("--framework", "--workload"):
        parser.add_argument(name, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--rows", type=int, default=0, help="predict so many, in place of training (0)")
    args = parser.parse_args()
    die_with_parent()
    if hasattr(os, "sched_setaffinity"):
        # Before the framework is imported: some size their thread pools by the CPUs of the process.
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cpus[: args.threads])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what frameworks print must not get among the replies

    def reply(**fields) -> None:
        replies.write(json.dumps(fields) + "\n")
        replies.flush()

    try:
        start = time.perf_counter()
        module = importlib.import_module(FRAMEWORKS[args.framework])
        workload = WORKLOADS[args.workload]
        if args.rows:
            train, version = module.predictor(workload, args.threads, args.rows)
        else:
            train, version = module.trainer(workload, args.threads, args.framework)
        built = time.perf_counter() - start
        each, first = warm_up(train, 1.0)
    except (Unavailable, ImportError) as error:
        return reply(unavailable=str(error))
    except Exception as error:  # whatever a framework raises is a reason to report
        import traceback

        traceback.print_exc()
        said = (str(error).splitlines() or [""])[0][:150]
        return reply(unavailable=f"failed: {type(error).__name__}: {said}")
    reply(ready=True, version=version, seconds_to_build=built, seconds_of_first_step=first)
    for line in sys.stdin:
        times = measure(train, each, json.loads(line)["seconds"])
        each = min(times)
        reply(times=times, peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    main()
