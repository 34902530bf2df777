"""PERFORMANCE.md's workloads: their data, and the least work that a step of each has to do.

The networks themselves are in bench/peers, once for each framework's way of saying them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

DATA_BYTES = 16 << 20  # enough batches to leave the second-level cache, as in a real epoch


@dataclass(frozen=True)
class Workload:
    """One training workload.

    ``shape``: of one sample. ``outputs``: classes a prediction. ``steps``: predictions a sample (0: one, without an
    axis of its own). ``parameters``: trainable numbers. ``first``, ``others``: multiply-adds a sample of the forward
    pass in layers whose input needs no gradient, and in all others. ``sizes``: widths of a dense network, the input's
    first.
    """

    name: str
    family: str
    batch: int
    optimizer: str
    shape: tuple[int, ...]
    outputs: int
    parameters: int
    first: int
    others: int
    steps: int = 0
    sizes: tuple[int, ...] = ()
    batch_norm: bool = False

    @property
    def learning_rate(self) -> float:
        return {"adam": 1e-3, "momentum": 1e-2}[self.optimizer]

    @property
    def flops(self) -> int:
        """Floating-point operations of a step: the forward product, its two gradients, 2 for each multiply-add."""
        return 2 * self.batch * (2 * self.first + 3 * self.others)

    @property
    def optimizer_bytes(self) -> int:
        """Bytes the update moves. Adam reads w, m, v, g and writes w, m, v; momentum reads w, v, g, writes w, v."""
        return {"adam": 28, "momentum": 20}[self.optimizer] * self.parameters

    @property
    def optimizer_memory(self) -> int:
        """Bytes that the update touches: which cache level they come from depends on it."""
        return {"adam": 16, "momentum": 12}[self.optimizer] * self.parameters

    def bound(self, gflops: float, gbytes: float) -> float:
        """Seconds that no step can beat by much: its arithmetic at the peak, its optimizer's bytes at the bandwidth.

        Convolutions count as direct sums with the zeros around the image: Winograd's filtering needs fewer products,
        so that a step can be quicker.
        """
        return self.flops / (1e9 * gflops) + self.optimizer_bytes / (1e9 * gbytes)

    @property
    def token_input(self) -> bool:
        """Samples are sequences of token numbers below ``outputs``."""
        return self.steps > 0

    def batches(self) -> int:
        """How many different batches the data have."""
        per_batch = self.batch * int(np.prod(self.shape)) * 4
        return int(np.clip(DATA_BYTES // per_batch, 8, 1024))

    def data(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(x, y): float32 samples of unit variance or int32 tokens, and int32 labels, which depend on the samples."""
        rng = np.random.default_rng(seed)
        samples = self.batch * self.batches()
        if self.token_input:
            tokens = rng.integers(0, self.outputs, (samples, self.steps + 1), dtype=np.int32)
            return np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:])
        x = rng.standard_normal((samples, *self.shape), dtype=np.float32)
        flat = x.reshape(samples, -1)[:, :64]
        y = (flat @ rng.standard_normal((flat.shape[1], self.outputs), dtype=np.float32)).argmax(axis=1)
        return x, y.astype(np.int32)


def _mlp(name: str, batch: int, optimizer: str, sizes: tuple[int, ...], batch_norm: bool = False) -> Workload:
    products = [a * b for a, b in pairwise(sizes)]
    parameters = sum(products) + sum(sizes[1:]) + (2 * sum(sizes[1:-1]) if batch_norm else 0)
    return Workload(name, "mlp", batch, optimizer, sizes[:1], sizes[-1], parameters, products[0], sum(products[1:]),
                    sizes=sizes, batch_norm=batch_norm)  # fmt: skip


def _cnn_mnist() -> Workload:
    first, second, dense = 28 * 28 * 9 * 32, 14 * 14 * 9 * 32 * 64, 7 * 7 * 64 * 128
    parameters = 9 * 32 + 32 + 9 * 32 * 64 + 64 + dense + 128 + 128 * 10 + 10
    return Workload("cnn_mnist", "cnn", 64, "adam", (28, 28, 1), 10, parameters, first, second + dense + 128 * 10)


def _resnet20() -> Workload:
    first = 32 * 32 * 9 * 3 * 16
    parameters, others, channels = 9 * 3 * 16 + 2 * 16, 0, 16
    for stage, width in enumerate((16, 32, 64)):
        pixels = (32 >> stage) ** 2
        for block in range(3):
            kernels = [9 * channels * width, 9 * width * width]
            if block == 0 and stage > 0:
                kernels.append(channels * width)
            parameters += sum(kernels) + 2 * width * len(kernels)
            others += pixels * sum(kernels)
            channels = width
    return Workload("resnet20", "resnet", 64, "momentum", (32, 32, 3), 10, parameters + 650, first, others + 640)


def _lstm_char() -> Workload:
    vocabulary, embedding, units, steps = 65, 64, 256, 64
    gates = 4 * units * (embedding + units)
    parameters = vocabulary * embedding + gates + 4 * units + units * vocabulary + vocabulary
    return Workload("lstm_char", "lstm", 64, "adam", (steps,), vocabulary, parameters, 0,
                    steps * (gates + units * vocabulary), steps=steps)  # fmt: skip


def _gpt_tiny() -> Workload:
    vocabulary, width, blocks, steps = 65, 128, 4, 128
    dense = 4 * width * width + 2 * width * 4 * width
    attention = width * (steps + 1)  # causal: half of the two products with the T x T matrix
    parameters = (vocabulary + steps) * width + blocks * (dense + 9 * width + 4 * width) + 2 * width
    parameters += width * vocabulary + vocabulary
    return Workload("gpt_tiny", "gpt", 16, "adam", (steps,), vocabulary, parameters, 0,
                    steps * (blocks * (dense + attention) + width * vocabulary), steps=steps)  # fmt: skip


WORKLOADS = {
    w.name: w
    for w in (
        _mlp("mlp_tiny", 32, "adam", (20, 64, 64, 2)),
        _mlp("mlp_mnist", 128, "adam", (784, 512, 256, 10)),
        _mlp("mlp_wide", 256, "momentum", (1024, 2048, 2048, 2048, 10)),
        _mlp("mlp_deep_bn", 128, "adam", (*[256] * 9, 10), batch_norm=True),
        _cnn_mnist(),
        _resnet20(),
        _lstm_char(),
        _gpt_tiny(),
    )
}
