"""python -m bench.roofline: what this machine can do at most, measured with nncore's own kernels.

Floating-point peak (independent fused multiply-adds out of registers), bandwidth at each cache level (triad: 3 numbers
moved an element, copy: 2), and the share of the peak that the GEMM reaches. The best of several measurements counts:
whatever else runs on the machine can only make it look slower than it is.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

import numpy as np

import nncore
from bench.table import number, table
from bench.timing import best_time, load_warning
from nncore import Op, Program, aligned, kernels, new_state

SHAPES = [
    (128, 784, 512), (784, 128, 512), (128, 512, 256), (256, 1024, 2048), (256, 256, 256), (512, 512, 512),
    (1024, 1024, 1024), (2048, 2048, 2048), (32, 784, 128), (64, 64, 64), (128, 256, 10), (10, 128, 256), (256, 1, 64),
    (1, 1024, 1024),
]  # fmt: skip


def fma_peak(threads: int, dtype="float32", isa: str | None = None, seconds: float = 0.2) -> float:
    """GFLOP/s of independent fused multiply-adds."""
    nncore.set_num_threads(threads)
    work = kernels.family("roofline", dtype, isa).WORK
    iterations = 1_000_000  # milliseconds in one step: a barrier more or less does not show
    sink = np.zeros((threads, work["lanes"]), dtype)
    op = Op("fma_peak", dtype=dtype, isa=isa, sink=sink, chains=threads, iterations=iterations)
    program = Program([op], new_state())
    return 2e-9 * threads * iterations * work["sums"] * work["lanes"] / best_time(program.run, seconds)


def bandwidth(
    nbytes: int, threads: int, kernel: str = "triad", seconds: float = 0.2, volume: int = 256 << 20
) -> float:
    """GB/s of ``kernel`` ("triad" or "copy_peak") over arrays of ``nbytes`` together, ``volume`` bytes in a step."""
    nncore.set_num_threads(threads)
    arrays = ("a", "b", "c") if kernel == "triad" else ("a", "b")
    count = max(64 * threads, nbytes // (4 * len(arrays)))
    operands = {name: aligned(count) for name in arrays}
    for number_, array in enumerate(operands.values()):
        array[:] = number_  # pages that nobody has written are all one page of zeros
    passes = max(1, volume // (4 * count * len(arrays)))  # as long, for the same reason
    scalars = {"s": 3.0} if kernel == "triad" else {}
    program = Program([Op(kernel, **operands, count=count, passes=passes, **scalars)], new_state())
    return 4e-9 * len(arrays) * count * passes / best_time(program.run, seconds)


def gemm(m: int, k: int, n: int, threads: int, dtype="float32", packed: bool = False, seconds: float = 0.1) -> float:
    """GFLOP/s of one product; ``packed``: B is packed beforehand, as weights are, and packing does not count."""
    nncore.set_num_threads(threads)
    rng = np.random.default_rng(0)
    a, b, c = aligned((m, k), dtype), aligned((k, n), dtype), aligned((m, n), dtype)
    a[:], b[:] = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    operand = b
    if packed:
        panel = kernels.family("gemm", dtype).NR
        operand = aligned(-(-n // panel) * panel * k, dtype)
        Program([Op("pack_b", dtype=dtype, out=operand, b=b, k=k, n=n, rs=n, cs=1)], new_state()).run()
    op = Op("gemm", dtype=dtype, c=c, a=a, b=operand, m=m, n=n, k=k, rs_a=k, cs_a=1, ldb=n, packed=int(packed), ldc=n)
    program = Program([op], new_state())
    program.run()
    np.testing.assert_allclose(c, a @ b, rtol=1e-3, atol=1e-3 * k**0.5)  # a wrong result has no speed
    return 2e-9 * m * n * k / best_time(program.run, seconds)


def level_sizes() -> list[tuple[str, int]]:
    """(level, bytes of all arrays together) that fit well inside each level of cache, and far outside all."""
    caches = nncore.cache_sizes()
    l1, l2 = caches.get("L1d") or 32 << 10, caches.get("L2") or 1 << 20
    l3 = caches.get("L3") or 8 << 20
    # Virtual machines report the whole L3 of a host they share: 16 MiB is what a core can count on.
    return [("L1", l1 * 3 // 4), ("L2", l2 // 2), ("L3", max(2 * l2, min(l3 // 4, 16 << 20))), ("memory", 384 << 20)]


def size(nbytes: int) -> str:
    return f"{nbytes >> 20} MiB" if nbytes >= 1 << 20 else f"{nbytes >> 10} KiB"


def measure(threads_list: list[int], seconds: float, with_gemm: bool) -> dict:
    report: dict = {"isa": kernels.chosen()[0], "peak": [], "bandwidth": [], "gemm": []}
    for threads in threads_list:
        for dtype in ("float32", "float64"):
            peak = fma_peak(threads, dtype, seconds=seconds)
            report["peak"].append({"dtype": dtype, "threads": threads, "gflops": peak})
        for level, nbytes in level_sizes():
            total = nbytes * threads if level in ("L1", "L2") else nbytes
            rates = {kernel: bandwidth(total, threads, f"{kernel}{suffix}", seconds)
                     for kernel, suffix in (("triad", ""), ("copy", "_peak"))}  # fmt: skip
            report["bandwidth"].append({"level": level, "bytes": total, "threads": threads, **rates})
    if with_gemm:
        try:
            kernels.family("gemm")
        except ImportError as error:
            report["gemm_reason"] = str(error)
            return report
        for threads in threads_list:
            for m, k, n in SHAPES:
                peak = fma_peak(threads, seconds=min(seconds, 0.03))  # the clock drifts: measure it beside
                rates = {name: gemm(m, k, n, threads, packed=name == "packed", seconds=seconds / 2)
                         for name in ("plain", "packed")}  # fmt: skip
                report["gemm"].append({"m": m, "k": k, "n": n, "threads": threads, "peak": peak, **rates})
    return report


def text(report: dict) -> str:
    peaks = [[p["dtype"], p["threads"], number(p["gflops"])] for p in report["peak"]]
    levels = [
        [b["level"], size(b["bytes"]), b["threads"], number(b["triad"]), number(b["copy"])] for b in report["bandwidth"]
    ]
    parts = [
        f"FMA peak, {report['isa']}:\n" + table(["dtype", "threads", "GFLOP/s"], peaks),
        "Bandwidth, GB/s (bytes are those of all arrays together):\n"
        + table(["level", "bytes", "threads", "triad", "copy"], levels),
    ]
    if "gemm_reason" in report:
        parts.append(f"GEMM not measured: {report['gemm_reason']}")
    elif report["gemm"]:
        rows = []
        for g in report["gemm"]:
            shares = [
                cell for way in ("plain", "packed") for cell in (number(g[way]), f"{100 * g[way] / g['peak']:.0f} %")
            ]
            rows.append([f"{g['m']} x {g['k']} x {g['n']}", g["threads"], *shares])
        head = ["m x k x n", "threads", "GFLOP/s", "of peak", "B packed before", "of peak"]
        parts.append("GEMM, float32:\n" + table(head, rows))
    return "\n\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.roofline", description="What this machine can do at most.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, cores}), metavar="N",
                        help="numbers of threads (1 and all cores)")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=0.2, help="length of one measurement (0.2)")
    parser.add_argument("--no-gemm", action="store_true", help="only the machine's limits")
    parser.add_argument("--bound", type=int, metavar="BYTES", help="only the float32 peak and the bandwidth over BYTES")
    parser.add_argument("--json", metavar="FILE", help="write every number there (-: instead of the tables)")
    args = parser.parse_args()
    if args.bound is not None:
        report = {"bound": [{"threads": threads, "gflops": fma_peak(threads, seconds=args.seconds),
                             "bandwidth": bandwidth(args.bound, threads, seconds=args.seconds)}
                            for threads in args.threads]}  # fmt: skip
        print(json.dumps(report))
        return 0
    if said := load_warning():
        print(said, file=sys.stderr)
    report = measure(args.threads, args.seconds, not args.no_gemm)
    if args.json != "-":
        print(text(report))
    if args.json:
        with sys.stdout if args.json == "-" else open(args.json, "w") as file:
            json.dump(report, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
