"""python -m bench.record: measures the shares that test_shares.py compares with, and writes them to bench/shares.json.

For the instruction set that is chosen here; NNCORE_ISA chooses another one. Run it on an idle machine, after a change
that makes benchmarks faster or that is worth what it costs.
"""

from __future__ import annotations

import argparse
import sys

from bench import shares
from bench.share_cases import SHARED
from bench.timing import load_warning


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.record", description="Record shares of the machine's limit.")
    parser.add_argument("--only", metavar="TEXT", default="", help="benchmarks whose name has TEXT in it")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each, whose median counts (5)")
    parser.add_argument("--dry", action="store_true", help="show them, write nothing")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {args.rounds}")
    some = [bounded for bounded in SHARED if args.only in bounded.name]
    if not some:
        parser.error(f"--only: no benchmark has {args.only!r} in its name")
    if said := load_warning():
        print(said, file=sys.stderr)
    records, machine, rows = shares.load(), shares.machine(), []
    for bounded in some:
        run = bounded.make()
        measured = [shares.measure(bounded, run) for _ in range(args.rounds)]
        middle = sorted(measured, key=lambda one: one.share)[args.rounds // 2]
        rows.append((bounded.name, middle, shares.recorded(records, machine, bounded.name)))
    print(shares.text(rows))
    if not args.dry:
        new = {name: middle.share for name, middle, _ in rows}
        shares.save(shares.updated(records, machine, new, {bounded.name for bounded in SHARED}))
        print(f"shares of {machine} written to {shares.FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
