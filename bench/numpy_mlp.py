"""A training step of a multi-layer perceptron in plain NumPy: what the benchmarks of whole steps are held against."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from bench.workloads import Workload
from nncore import reference


class NumpyMLP:
    """Dense layers with relu between them (and BatchNorm before it), softmax cross-entropy, Adam or momentum."""

    def __init__(self, w: Workload):
        rng = np.random.default_rng(0)
        self.workload, self.steps = w, 0
        self.parameters = []  # kernel, bias, gamma, beta
        for fan_in, units in pairwise(w.sizes):
            kernel = rng.standard_normal((fan_in, units), dtype=np.float32) * np.float32(np.sqrt(2 / fan_in))
            self.parameters.append([kernel, np.zeros(units, "f"), np.ones(units, "f"), np.zeros(units, "f")])
        self.moments = [[(np.zeros_like(p), np.zeros_like(p)) for p in layer] for layer in self.parameters]
        self.moving = [(np.zeros(units, "f"), np.ones(units, "f")) for units in w.sizes[1:]]

    def step(self, x: np.ndarray, labels: np.ndarray) -> float:
        """Forward, loss, backward, update; returns the mean loss."""
        w, last, kept = self.workload, len(self.parameters) - 1, []
        for i, (kernel, bias, gamma, beta) in enumerate(self.parameters):
            z, norm = x @ kernel + bias, None
            if i < last:
                if w.batch_norm:
                    y, mean, rstd, *self.moving[i] = reference.batch_norm(z, gamma, beta, *self.moving[i], 1e-3, 0.99)
                    norm = (z, gamma, mean, rstd)
                    z = y
                z = np.maximum(z, 0)
            kept.append((x, z, norm))
            x = z
        loss, dy, _ = reference.softmax_crossentropy(x, labels, scale=1 / len(x))
        gradients = []
        for i in range(last, -1, -1):
            x, y, norm = kept[i]
            dgamma = dbeta = None
            if i < last:
                dy = dy * (y > 0)
                if norm:
                    dy, dgamma, dbeta = reference.batch_norm_grad(dy, *norm)
            gradients.append((x.T @ dy, dy.sum(0), dgamma, dbeta))
            if i:
                dy = dy @ self.parameters[i][0].T
        self._update(gradients[::-1])
        return float(loss.mean())

    def _update(self, gradients) -> None:
        rate = self.workload.learning_rate
        for layer, moments, slopes in zip(self.parameters, self.moments, gradients, strict=True):
            for j, g in enumerate(slopes):
                if g is None:
                    continue
                m, v = moments[j]
                if self.workload.optimizer == "adam":
                    alpha = rate * (1 - 0.999 ** (self.steps + 1)) ** 0.5 / (1 - 0.9 ** (self.steps + 1))
                    layer[j], m, v = reference.update("adam", (alpha, 0, 0.1, 0.001, 1e-7), g, layer[j], m, v)
                else:
                    layer[j], m = reference.update("momentum", (rate, 0, 0.9), g, layer[j], m)
                moments[j] = (m, v)
        self.steps += 1
