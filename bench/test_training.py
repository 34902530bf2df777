"""Whole training steps of PERFORMANCE.md's multi-layer perceptrons, through fit(), against a training step in NumPy."""

from itertools import cycle

import numpy as np
import pytest

from bench.numpy_mlp import NumpyMLP
from bench.peers import with_nnpy
from bench.workloads import WORKLOADS

MLPS = [name for name, workload in WORKLOADS.items() if workload.family == "mlp"]
BATCHES = 8


@pytest.mark.benchmark(group="training steps")
@pytest.mark.parametrize("name", MLPS)
def test_step(name, guard):
    workload = WORKLOADS[name]
    train, _ = with_nnpy.trainer(workload, 1, "nnpy")
    x, y = workload.data()
    starts = range(0, BATCHES * workload.batch, workload.batch)
    batches = cycle([(np.ascontiguousarray(x[i : i + workload.batch]), y[i : i + workload.batch]) for i in starts])
    peer = NumpyMLP(workload)
    guard(train, lambda: peer.step(*next(batches)), workload.flops)
