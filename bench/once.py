"""What a process does once, for bench.versions: import, and the first fit of a deep network. Prints seconds as JSON."""

from __future__ import annotations

import argparse
import json
import os
import time

WIDTH, BATCH = 16, 32


def importing() -> dict[str, float]:
    """The import alone, and with what a first model takes, which is loaded when it is first named."""
    start = time.perf_counter()
    import nnpy  # noqa: F401

    alone = time.perf_counter() - start
    from nnpy import Adam, Dense, Input, Sequential, losses  # noqa: F401

    return {"import": alone, "first names": time.perf_counter() - start}


def first_fit(layers: int, threads: int) -> dict[str, float]:
    """A network of so many Dense layers is built, then makes its first step."""
    import numpy as np

    import nnpy as nn
    from nnpy import Adam, Dense, Input, Sequential, losses  # loaded here, not while the clock runs

    nn.set_num_threads(threads)
    nn.set_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((BATCH, WIDTH), np.float32), rng.integers(0, 10, BATCH)
    start = time.perf_counter()
    hidden = [Dense(WIDTH, activation="relu") for _ in range(layers - 1)]
    model = Sequential([Input(shape=(WIDTH,)), *hidden, Dense(10)])
    model.compile(Adam(1e-3), losses.SparseCategoricalCrossentropy(from_logits=True))
    built = time.perf_counter()
    model.fit(x, y, BATCH, 1, 0)
    return {"build": built - start, "fit": time.perf_counter() - built}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.once")
    parser.add_argument("--layers", type=int, help="the first fit of a network that deep (import alone)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    print(json.dumps(first_fit(args.layers, args.threads) if args.layers else importing()))


if __name__ == "__main__":
    main()
