"""Whole training steps of PERFORMANCE.md's multi-layer perceptrons, through fit(), against a training step in NumPy."""

import numpy as np
import pytest

from bench.numpy_mlp import NumpyMLP
from bench.peers import with_nnpy
from bench.workloads import WORKLOADS

MLPS = [name for name, workload in WORKLOADS.items() if workload.family == "mlp"]


@pytest.mark.benchmark(group="training steps")
@pytest.mark.parametrize("name", MLPS)
def test_step(name, guard):
    workload = WORKLOADS[name]
    steps = 50 if name == "mlp_tiny" else 5
    train, _ = with_nnpy.trainer(workload, 0, "nnpy")
    x, y = workload.data()
    peer = NumpyMLP(workload)
    batches = [(np.ascontiguousarray(x[i : i + workload.batch]), y[i : i + workload.batch]) for i in range(0, steps * workload.batch, workload.batch)]

    def numpy_steps():
        for position in range(steps):
            peer.step(*batches[position % len(batches)])

    train(steps)
    guard(lambda: train(steps), numpy_steps, steps * workload.flops)
