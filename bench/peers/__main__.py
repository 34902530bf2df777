"""python -m bench.peers: nnpy and the other frameworks on PERFORMANCE.md's workloads, in one run."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from dataclasses import asdict

from bench.blas import forced
from bench.peers import FRAMEWORKS
from bench.peers.run import OURS, Result, run
from bench.table import number, table
from bench.timing import load_warning
from bench.workloads import WORKLOADS


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="NAME",
                        help=f"of {', '.join(WORKLOADS)} (all)")  # fmt: skip
    parser.add_argument("--frameworks", nargs="+", choices=FRAMEWORKS, default=list(FRAMEWORKS), metavar="NAME",
                        help=f"of {', '.join(FRAMEWORKS)} (all)")  # fmt: skip
    parser.add_argument("--threads", nargs="+", type=int, default=[2], metavar="N", help="numbers of threads (2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each peer, ours before each (5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a turn (0.5)")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 0.15 s: does it run, not how fast")
    parser.add_argument("--json", metavar="FILE", help="write every number there")
    args = parser.parse_args(argv)
    if args.quick:
        args.rounds, args.seconds = 2, 0.15
    for name in ("rounds", "seconds"):
        if getattr(args, name) <= 0:
            parser.error(f"--{name} must be above 0, got {getattr(args, name)}")
    if min(args.threads) < 1:
        parser.error(f"--threads must be at least 1, got {min(args.threads)}")
    return args


def mean(values: list[float]) -> float | None:
    """The geometric mean, None of nothing."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def microseconds(seconds: float | None) -> str:
    return number(seconds * 1e6 if seconds is not None else None)


def ratio(value: float | None) -> str:
    return f"{value:.2f}" if value else "-"


def team_name(threads: int) -> str:
    return f"{threads} thread{'s' * (threads != 1)}"


def shares(results: list[Result]) -> dict[str, float]:
    """How much of each workload's bound we reach: 1 is the machine's limit."""
    return {r.workload: r.bound / r.median[OURS] for r in results if r.bound and OURS in r.median}


def step_table(some: list[Result], frameworks: list[str]) -> str:
    reached, rows = shares(some), []
    for r in some:
        share = f"{100 * reached[r.workload]:.0f} %" if r.workload in reached else "-"
        times = [microseconds(r.median.get(name)) for name in frameworks]
        rows.append([r.workload, *times, r.fastest_peer or "-", ratio(r.ratio), microseconds(r.bound), share])
    overall = mean(list(reached.values()))
    share = f"{100 * overall:.0f} %" if overall else "-"
    ratios = mean([r.ratio for r in some if r.ratio])
    rows.append(["geometric mean", *("" for _ in frameworks), "", ratio(ratios), "", share])
    return table(["workload", *frameworks, "fastest peer", f"peer / {OURS}", "bound", "of the bound"], rows)


def ratio_table(some: list[Result], peers: list[str]) -> str:
    rows = [[r.workload, *(ratio(r.ratios.get(name)) for name in peers)] for r in some if r.ratios]
    rows.append(["geometric mean", *(ratio(mean([r.ratios[n] for r in some if n in r.ratios])) for n in peers)])
    return table(["workload", *peers], rows)


def memory_table(some: list[Result], frameworks: list[str]) -> str:
    rows = []
    for r in some:
        peaks = [r.peak_bytes.get(name) for name in frameworks]
        rows.append([r.workload, *(number(peak / 1e6 if peak else None) for peak in peaks)])
    return table(["workload", *frameworks], rows)


def limit_table(some: list[Result]) -> str:
    rows = [[r.workload, number(r.gflops), number(r.bandwidth), r.bound_reason] for r in some]
    return table(["workload", "GFLOP/s", "GB/s at the optimizer's size", "not measured because"], rows)


def tables(results: list[Result], frameworks: list[str]) -> str:
    """Steps, ratios, memory, limits, and what was not measured, as text."""
    texts = []
    for threads in dict.fromkeys(r.threads for r in results):
        some = [r for r in results if r.threads == threads]
        team = team_name(threads)
        texts.append(f"Microseconds a step, {team}:\n{step_table(some, frameworks)}")
        if peers := [name for name in frameworks if any(name in r.ratios for r in some)]:
            texts.append(f"A peer's time / {OURS}'s, {team}:\n{ratio_table(some, peers)}")
        texts.append(f"Peak memory of the process, MB, {team}:\n{memory_table(some, frameworks)}")
        texts.append(f"Measured limits, {team}:\n{limit_table(some)}")
    gone = [f"- {name}, {r.workload}, {team_name(r.threads)}: {reason}"
            for r in results for name, reason in r.unavailable.items()]  # fmt: skip
    if gone:
        texts.append("\n".join(["Not measured:", *gone]))
    return "\n\n".join(texts)


def main() -> int:
    args = arguments()
    frameworks = list(dict.fromkeys(args.frameworks))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    results: list[Result] = []
    load = os.getloadavg()[0]
    if said := load_warning():
        print(said, file=sys.stderr)

    def say(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    try:
        for threads in dict.fromkeys(args.threads):
            if threads > cores:
                print(f"warning: {threads} threads on {cores} cores", file=sys.stderr)
            for name in dict.fromkeys(args.workloads):
                results.append(run(name, frameworks, threads, args.rounds, args.seconds, say))
                say("")
    except KeyboardInterrupt:
        print("\nstopped; what there is so far:", file=sys.stderr)
    versions = {name: version for r in results for name, version in r.versions.items()}
    print("Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"{args.rounds} rounds of {args.seconds} s, {cores} cores; load of the machine before: {load:.2f}\n")
    if names := forced(os.environ):
        print(f"warning: {names}: what uses NumPy's BLAS is not as fast here as it can be\n")
    print(tables(results, frameworks))
    if args.json:
        measured = [{**asdict(r), "fastest_peer": r.fastest_peer, "ratio": r.ratio} for r in results]
        report = {"versions": versions, "rounds": args.rounds, "seconds": args.seconds, "cores": cores, "load": load,
                  "results": measured}  # fmt: skip
        with open(args.json, "w") as file:
            json.dump(report, file, indent=1)
    return 0 if len(results) > 0 else 130


if __name__ == "__main__":
    sys.exit(main())
