"""nnpy through its public API: fit() on arrays in memory.

Gathering the batches and what an epoch costs beside its steps are inside, as for users. What fit() does once however
many epochs follow (checking all of x and y) is not, as the peers' making tensors of them is not.
"""

from __future__ import annotations

import time

import nnpy as nn
from bench.peers import Unavailable
from bench.peers.keras_models import build, missing
from bench.workloads import Workload


class Stopwatch(nn.Callback):
    """Adds up the time from the first epoch's begin to the last one's end."""

    seconds = 0.0

    def on_train_begin(self, logs=None):
        self.start = time.perf_counter()

    def on_train_end(self, logs=None):
        self.seconds += time.perf_counter() - self.start


def network(w: Workload, threads: int):
    """The workload's model, new; raises Unavailable where layers are missing."""
    lacking = missing(w, nn)
    if lacking:
        raise Unavailable(f"layers not there yet: {', '.join(lacking)}")
    if nn.get_num_threads() != threads:  # where OMP_NUM_THREADS says so, a step takes fewer if that is faster
        nn.set_num_threads(threads)
    nn.set_seed(0)
    return build(w, nn)


def version() -> str:
    return getattr(nn, "__version__", "?")


def trainer(w: Workload, threads: int, framework: str):
    model = network(w, threads)
    optimizer = nn.Adam(w.learning_rate) if w.optimizer == "adam" else nn.SGD(w.learning_rate, momentum=0.9)
    model.compile(optimizer=optimizer, loss=nn.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = w.data()
    batches = len(x) // w.batch

    def fit(epochs: int, steps: int, watch: Stopwatch) -> None:
        if epochs and steps:
            rows = slice(0, steps * w.batch)
            model.fit(x[rows], y[rows], w.batch, epochs, 0, watch, steps_per_epoch=steps, shuffle=False)

    def train(steps: int) -> float:
        watch = Stopwatch()
        fit(steps // batches, batches, watch)
        fit(1, steps % batches, watch)
        return watch.seconds

    return train, version()


def predictor(w: Workload, threads: int, rows: int):
    """As ``trainer``: predict(times) calls predict() on that many rows, so many times."""
    model, x = network(w, threads), w.data()[0][:rows]

    def predict(times: int) -> None:
        for _ in range(times):
            model.predict(x, verbose=0)

    return predict, version()
