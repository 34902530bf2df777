"""python -m bench.versions OLD NEW: two versions of nnpy, turn about in one run.

OLD and NEW are checkouts (or their folders src) with extension modules beside the sources. Each version has a process
of its own for each measurement, which is stopped while the other one works: old, new, old, new, ... What a process
does once (import, the first fit of a deep network) is measured in new processes, turn about as well. Ratios are medians
over the rounds: new / old of adjacent turns, above 1 where the new version is slower.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.peers.run import ROOT, Worker, environment
from bench.table import number, table
from bench.timing import load_warning
from bench.workloads import WORKLOADS

SIDES = ("old", "new")
PREDICTED, ROWS = ("mlp_mnist", "resnet20"), (1, 256)
DEPTHS = (300, 1000)


@dataclass
class Row:
    """Seconds of one measurement: the medians of the turns, side by side, and why a side has none."""

    name: str
    threads: int
    turns: dict[str, list[float]] = field(default_factory=lambda: {side: [] for side in SIDES})
    missing: dict[str, str] = field(default_factory=dict)

    def median(self, side: str) -> float | None:
        return statistics.median(self.turns[side]) if self.turns[side] else None

    @property
    def ratio(self) -> float | None:
        """new / old; None where a side is missing."""
        pairs = list(zip(*(self.turns[side] for side in SIDES), strict=False))
        return statistics.median(new / old for old, new in pairs) if pairs and not self.missing else None


def repeated(row: Row, open_worker: Callable[[str], Worker], rounds: int, seconds: float) -> Row:
    """Fills the row: each side's worker warms up, then they take turns."""
    workers: dict[str, Worker] = {}
    try:
        for side in SIDES:
            workers[side] = open_worker(side)
            if reason := workers[side].about.get("unavailable"):
                row.missing[side] = reason
        for _ in range(rounds):
            for side in SIDES:
                if side in row.missing:
                    continue
                reply = workers[side].time(seconds)
                if reason := reply.get("unavailable"):
                    row.missing[side] = reason
                else:
                    row.turns[side].append(statistics.median(reply["times"]))
    finally:
        for worker in workers.values():
            worker.close()
    return row


def once(names: list[str], threads: int, options: list[str], sources: dict[str, Path], rounds: int) -> list[Row]:
    """A row for each of the numbers that bench.once prints."""
    rows = [Row(name, threads) for name in names]
    command = [sys.executable, "-m", "bench.once", "--threads", str(threads), *options]
    for turn in range(rounds + 1):
        for side in SIDES:
            if side in rows[0].missing:
                continue
            env = environment(threads, sources[side])
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
            if done.returncode:
                said = (done.stderr.strip().splitlines() or ["no output"])[-1][:150]
                for row in rows:
                    row.missing[side] = said
            elif turn:  # before that, files came into memory
                for row, seconds in zip(rows, json.loads(done.stdout).values(), strict=True):
                    row.turns[side].append(seconds)
    return rows


Rows = Callable[[], list[Row]]


def measurements(sources: dict[str, Path], threads: int, rounds: int, seconds: float) -> dict[str, Rows]:
    """name -> its rows, measured when called."""

    def turns(name: str, workload: str, rows: int = 0) -> Rows:
        def worker(side: str) -> Worker:
            return Worker("nnpy", workload, threads, rows, sources[side])

        return lambda: [repeated(Row(name, threads), worker, rounds, seconds)]

    def first(layers: int) -> Rows:
        names = [f"build {layers} layers", f"first fit of {layers} layers"]
        return lambda: once(names, threads, ["--layers", str(layers)], sources, rounds)

    made = {f"step of {name}": turns(f"step of {name}", name) for name in WORKLOADS}
    for workload in PREDICTED:
        for rows in ROWS:
            name = f"predict {rows} rows, {workload}"
            made[name] = turns(name, workload, rows)
    made |= {f"first fit of {layers} layers": first(layers) for layers in DEPTHS}
    made["import"] = lambda: once(["import", "import of a first model's names"], threads, [], sources, rounds)
    return made


def source(given: str) -> Path:
    """The folder to import nnpy from, in a checkout or given itself; what is imported must come from there."""
    path = Path(given).resolve()
    path = path / "src" if (path / "src" / "nnpy").is_dir() else path
    code = "import nnpy, nncore; print(nnpy.__file__); print(nncore.__file__)"
    command, env = [sys.executable, "-c", code], environment(1, path)
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{given}: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    if strange := [file for file in done.stdout.split() if not Path(file).resolve().is_relative_to(path)]:
        sys.exit(f"{given}: {strange[0]} was imported, which is not in {path}")
    return path


def mean(ratios: list[float]) -> float:
    """The geometric mean."""
    return math.exp(statistics.fmean(map(math.log, ratios)))


def text(rows: list[Row]) -> str:
    """A table for each number of threads, and what is missing."""
    parts = []
    for threads in dict.fromkeys(row.threads for row in rows):
        some = [row for row in rows if row.threads == threads and any(row.turns.values())]
        times = [[number(1e6 * t) if (t := row.median(side)) is not None else "-" for side in SIDES] for row in some]
        lines = [
            [row.name, *both, f"{row.ratio:.3f}" if row.ratio else "-"] for row, both in zip(some, times, strict=True)
        ]
        if ratios := [row.ratio for row in some if row.ratio]:
            lines.append(["geometric mean", "", "", f"{mean(ratios):.3f}"])
        parts.append(f"Medians, {threads} thread(s):\n" + table(["", "old, us", "new, us", "new / old"], lines))
    gone = [(row, *reason) for row in rows for reason in row.missing.items()]
    if gone:
        lines = [f"- {side}, {row.name}, {row.threads} thread(s): {why}" for row, side, why in gone]
        parts.append("\n".join(["Not measured:", *lines]))
    return "\n\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.versions", description="Two versions of nnpy, turn about.")
    parser.add_argument("old", help="a checkout with modules built, or its folder src")
    parser.add_argument("new", help="another one")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="numbers of threads (1 2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each version (5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a turn (0.5)")
    parser.add_argument("--only", metavar="TEXT", default="", help="measurements whose name has TEXT in it")
    parser.add_argument("--json", metavar="FILE", help="write every number there")
    args = parser.parse_args()
    for name in ("rounds", "seconds"):
        if getattr(args, name) <= 0:
            parser.error(f"--{name} must be above 0, got {getattr(args, name)}")
    if min(args.threads) < 1:
        parser.error(f"--threads must be at least 1, got {min(args.threads)}")
    sources = {side: source(getattr(args, side)) for side in SIDES}
    chosen = {
        threads: [run for name, run in measurements(sources, threads, args.rounds, args.seconds).items()
                  if args.only in name]
        for threads in dict.fromkeys(args.threads)
    }  # fmt: skip
    if not any(chosen.values()):
        parser.error(f"--only: no measurement has {args.only!r} in its name")
    load = os.getloadavg()[0]
    if said := load_warning():
        print(said, file=sys.stderr)
    rows: list[Row] = []
    try:
        for runs in chosen.values():
            for run in runs:
                rows += run()
                if sys.stderr.isatty():
                    print(f"\r\033[K{rows[-1].name}", end="", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("\nstopped; what there is so far:", file=sys.stderr)
    print(", ".join(f"{side}: {path}" for side, path in sources.items()))
    print(f"{args.rounds} rounds of {args.seconds} s; load of the machine before: {load:.2f}\n")
    print(text(rows))
    if args.json:
        folders = {side: str(path) for side, path in sources.items()}
        report = {"sources": folders, "rounds": args.rounds, "seconds": args.seconds, "load": load,
                  "rows": [{**asdict(row), "ratio": row.ratio} for row in rows]}  # fmt: skip
        with open(args.json, "w") as file:
            json.dump(report, file, indent=1)
    return 0 if rows else 130


if __name__ == "__main__":
    sys.exit(main())
