"""nnpy through its public API: fit() on arrays in memory. Gathering the batches is inside, as it is for users."""

from __future__ import annotations

import nnpy as nn
from bench.peers import Unavailable
from bench.peers.keras_models import build, missing
from bench.workloads import Workload


def trainer(w: Workload, threads: int, framework: str):
    lacking = missing(w, nn)
    if lacking:
        raise Unavailable(f"layers not there yet: {', '.join(lacking)}")
    nn.set_num_threads(threads)
    nn.set_seed(0)
    model = build(w, nn)
    optimizer = nn.Adam(w.learning_rate) if w.optimizer == "adam" else nn.SGD(w.learning_rate, momentum=0.9)
    model.compile(optimizer=optimizer, loss=nn.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = w.data()
    batches = len(x) // w.batch

    def fit(epochs: int, steps: int) -> None:
        if epochs and steps:
            rows = slice(0, steps * w.batch)
            model.fit(x[rows], y[rows], w.batch, epochs, steps_per_epoch=steps, shuffle=False, verbose=0)

    def train(steps: int) -> None:
        fit(steps // batches, batches)
        fit(1, steps % batches)

    return train, getattr(nn, "__version__", "?")
