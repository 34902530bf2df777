"""python -m bench.epoch: what an epoch costs beside its steps, on the 60,000 images of MNIST.

An epoch shuffles, gathers rows in random order, trains and reports. fit() is measured against as many steps of the same
Program on rows in order, in turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import nnpy as nn
from bench.peers.keras_models import build
from bench.table import number, table
from bench.workloads import WORKLOADS
from nncore.memory import BATCH, INDICES, LOCAL, RATES, ROW
from nnpy.training.binding import address, bind
from nnpy.training.samples import prepare

DATA = Path(os.environ.get("NNPY_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


class Clock(nn.Callback):
    """Seconds from each epoch's begin to its end."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.epoch", description="An epoch against its steps.")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"no data: expected {DATA}, or the folder that $NNPY_DATA names")
    w = WORKLOADS["mlp_mnist"]
    x = nn.data.read_idx(DATA / "mnist-train-images-idx3-ubyte.gz").reshape(-1, 784).astype("float32") / 255
    y = nn.data.read_idx(DATA / "mnist-train-labels-idx1-ubyte.gz")
    rows = len(x) // w.batch * w.batch
    x, y = x[:rows], y[:rows]
    model = build(w, nn)
    optimizer = nn.Adam(1e-3)
    model.compile(optimizer, nn.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(x, y, w.batch, epochs=1, verbose=0)
    samples, state, steps = prepare(model, x, y), model.engine.train_state, rows // w.batch
    program = model.engine.training(w.batch, samples).program
    rates, epochs, alone = optimizer.columns(0, steps), [], []
    for _ in range(args.rounds):
        clock = Clock()
        model.fit(x, y, w.batch, epochs=1, verbose=0, callbacks=clock)
        epochs += clock.seconds
        bind(state, samples.arrays, {BATCH: w.batch, INDICES: 0, RATES: address(rates), LOCAL: 0, ROW: 0})
        start = time.perf_counter()
        program.run(steps)
        alone.append(time.perf_counter() - start)
    epoch, step = statistics.median(epochs), statistics.median(alone) / steps
    print(f"mlp_mnist on {rows} images of MNIST, {nn.get_num_threads()} threads, {args.rounds} rounds, medians:")
    ratio = statistics.median(a / b for a, b in zip(epochs, alone, strict=True))
    row = [number(1e3 * epoch), steps, number(1e6 * step), number(1e3 * steps * step), f"{ratio:.3f}"]
    print(table(["epoch, ms", "steps", "step, us", "steps x step, ms", "epoch / (steps x step)"], [row]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
