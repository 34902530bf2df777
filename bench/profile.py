"""python -m bench.profile WORKLOAD: where a training step spends its time, op by op.

Each op of the step's Program is run alone, many times in a row, on the threads that the step gives it: what it touches
is then in cache as far as it fits. The whole step is measured beside: what it takes more is barriers and cold caches.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

import nncore
import nnpy as nn
from bench.peers.keras_models import build
from bench.table import number, table
from bench.workloads import WORKLOADS
from nncore import Op, Program
from nncore.kernels.signatures import SIGNATURES
from nncore.memory import BATCH, INDICES, LOCAL, RATES, ROW
from nnpy.training.binding import address, bind
from nnpy.training.samples import prepare

STEPS = 64  # as many batches and learning rates there are
SHOWN = ("m", "n", "k", "rows", "cols", "count")


class Step:
    """A workload's compiled training step, bound to its data."""

    def __init__(self, name: str):
        workload = WORKLOADS[name]
        nn.set_seed(0)
        model = build(workload, nn)
        optimizer = nn.Adam(1e-4) if workload.optimizer == "adam" else nn.SGD(1e-4, momentum=0.9)
        model.compile(optimizer, nn.losses.SparseCategoricalCrossentropy(from_logits=True))
        x, y = workload.data()
        repeats = -(-STEPS * workload.batch // len(x))
        samples = prepare(model, np.concatenate([x] * repeats), np.concatenate([y] * repeats))
        self.program = model.engine.training(workload.batch, samples).program
        self.state = model.engine.train_state
        self.rates = optimizer.columns(0, STEPS)
        self.setup = {BATCH: workload.batch, INDICES: 0, RATES: address(self.rates), LOCAL: 0, ROW: 0}
        self.samples = samples

    def time(self, program: Program, seconds: float) -> float:
        """Seconds a run, the best of many."""

        def took(steps: int) -> float:
            bind(self.state, self.samples.arrays, self.setup)
            start = time.perf_counter()
            program.run(steps)
            return (time.perf_counter() - start) / steps

        steps = max(1, min(STEPS, int(1e-3 / max(took(1), 1e-7))))
        result, until = took(steps), time.perf_counter() + seconds
        while time.perf_counter() < until:
            result = min(result, took(steps))
        return result


def describe(op: Op) -> str:
    names = SIGNATURES[op.name].sizes if op.name in SIGNATURES else ()
    return " ".join(f"{n} {v}" for n, v in zip(names, op.sizes, strict=False) if n in SHOWN)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description="A training step, op by op.")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.05, help="length of one measurement (0.05)")
    args = parser.parse_args()
    nncore.set_num_threads(args.threads)
    step = Step(args.workload)
    whole = step.time(step.program, 20 * args.seconds)
    rows, total, flops = [], 0.0, 0
    for op in step.program.records:
        seconds = step.time(Program([op], step.state), args.seconds)
        total += seconds
        sizes = dict(zip(SIGNATURES[op.name].sizes, op.sizes, strict=True)) if op.name in SIGNATURES else {}
        work = 2 * sizes["m"] * sizes["n"] * sizes["k"] if op.name.startswith("gemm") else 0
        flops += work
        rate = number(1e-9 * work / seconds) if work else "-"
        rows.append([op.name, describe(op), min(op.threads, args.threads), number(1e6 * seconds), rate])
    rows.append(["all ops", "", "", number(1e6 * total), number(1e-9 * flops / total)])
    rows.append(["the step", f"{len(rows) - 1} ops", args.threads, number(1e6 * whole), number(1e-9 * flops / whole)])
    print(table(["op", "sizes", "threads", "us", "GFLOP/s"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
