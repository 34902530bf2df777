"""The loss table: each loss with its formula in NumPy, the targets that it takes and the predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnpy import losses

EPSILON = 1e-7


def mean(x):
    return x.mean(-1)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


def safe_log(p):
    return np.log(np.maximum(p, EPSILON))


def logit(p):
    return safe_log(p) - safe_log(1 - p)


def normed(x):
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def signs(t):
    return np.where(t == 0, -1, t)


def binary(t, z):
    return t * np.logaddexp(0, -z) + (1 - t) * np.logaddexp(0, z)


def focal(t, z, gamma=2.0, alpha=None, smoothing=0.0):
    t = t * (1 - smoothing) + smoothing / 2
    missing = t * sigmoid(-z) + (1 - t) * sigmoid(z)
    return mean(missing**gamma * binary(t, z) * (1 if alpha is None else t * alpha + (1 - t) * (1 - alpha)))


def categorical_focal(t, log, gamma=2.0, alpha=0.25, smoothing=0.0):
    t = t * (1 - smoothing) + smoothing / t.shape[-1]
    return -(np.array(alpha) * t * (-np.expm1(log)) ** gamma * log).sum(-1)


def dice(t, p, axis):
    return 1 - 2 * (t * p).sum(axis) / (t.sum(axis) + p.sum(axis) + EPSILON)


def tversky(t, p, alpha, beta, axis):
    both = (t * p).sum(axis)
    return 1 - both / (both + alpha * (t * (1 - p)).sum(axis) + beta * ((1 - t) * p).sum(axis) + EPSILON)


# What targets and predictions are drawn of: (random, perfect prediction of a target, the most wrong one).
KINDS: dict[str, tuple[Callable, Callable, Callable, Callable]] = {}


def kind(name, targets, predictions, perfect, wrong):
    KINDS[name] = targets, predictions, perfect, wrong


def one_hot(rng, shape):
    return np.eye(shape[-1])[rng.integers(shape[-1], size=shape[:-1])]


def normal(rng, shape):
    return 2 * rng.standard_normal(shape)


def shares(rng, shape):
    return rng.uniform(0.02, 0.98, shape)


def bits(rng, shape):
    return (rng.random(shape) < 0.5) * 1.0


def simplex(rng, shape):
    return softmax(normal(rng, shape))


kind("numbers", normal, normal, lambda t: t, lambda t: -1e4 * t)
kind("positive", lambda rng, shape: rng.uniform(0, 5, shape), lambda rng, shape: rng.uniform(0.1, 5, shape),
     lambda t: t, lambda t: 1e4 * (6 - t))  # fmt: skip
kind("counts", lambda rng, shape: rng.poisson(2.0, shape) * 1.0, lambda rng, shape: rng.uniform(0.1, 5, shape),
     lambda t: t, lambda t: 1e4 * (t == 0))  # fmt: skip
kind("bits", bits, normal, lambda t: 2 * t - 1, lambda t: 1e3 * (1 - 2 * t))
kind("signs", lambda rng, shape: 2 * bits(rng, shape) - 1, normal, lambda t: t, lambda t: -1e3 * t)
kind("bit shares", bits, shares, lambda t: t, lambda t: 1 - t)
kind("bit logits", bits, normal, lambda t: 1e3 * (2 * t - 1), lambda t: 1e3 * (1 - 2 * t))
kind("hot scores", one_hot, normal, lambda t: t, lambda t: 1e3 * (1 - t))
kind("hot shares", one_hot, simplex, lambda t: t, lambda t: np.roll(t, 1, -1))
kind("hot logits", one_hot, normal, lambda t: 1e3 * t, lambda t: -1e3 * t)
kind("distributions", simplex, simplex, lambda t: t, lambda t: np.roll(np.round(t), 1, -1))


@dataclass(frozen=True)
class Row:
    """``function`` and ``options``: the loss as Keras calls it; ``rows``: of (targets, predictions), the losses."""

    function: str
    kind: str
    rows: Callable[[np.ndarray, np.ndarray], np.ndarray]
    options: dict[str, Any] = field(default_factory=dict)
    keras: bool = True  # whether Keras has it

    @property
    def loss(self) -> losses.Loss:
        return losses.CLASSES[getattr(losses, self.function)](**self.options)

    @property
    def classes(self) -> bool:
        """Whether the last axis is that of classes."""
        return self.kind.startswith(("hot", "distributions"))

    def shapes(self):
        whole = [(6, 3), (3, 2, 4), (2, 3, 2, 3)]
        axis = self.options.get("axis")
        if axis not in (None, -1):
            return [shape for shape in whole if np.max(axis) < len(shape)]
        return whole if self.classes else [(5,), (4, 1), *whole]

    def data(self, shape, case="random"):
        """(targets, predictions): random, perfect, wrong as can be, or zeros."""
        targets, predictions, perfect, wrong = KINDS[self.kind]
        rng = np.random.default_rng(len(shape) + shape[-1])
        t = targets(rng, shape)
        made = {"perfect": perfect, "wrong": wrong, "zeros": np.zeros_like}
        p = predictions(rng, shape) if case == "random" else np.array(made[case](t), float)
        return (np.zeros_like(t) if case == "zeros" and not self.classes else t), p

    def __str__(self):
        return "-".join([self.function, self.kind, *map(str, self.options)])


def huber(t, p, delta):
    e = np.abs(t - p)
    return mean(np.where(e <= delta, e**2 / 2, delta * (e - delta / 2)))


def log_cosh(t, p):
    e = np.abs(t - p)
    return mean(e + np.log1p(np.exp(-2 * e)) - np.log(2))


def kl_divergence(t, p):
    t, p = np.clip(t, EPSILON, 1), np.clip(p, EPSILON, 1)
    return (t * np.log(t / p)).sum(-1)


def logarithms(t, p):
    return np.log1p(np.maximum(t, EPSILON)), np.log1p(np.maximum(p, EPSILON))


TABLE = [
    Row("mean_squared_error", "numbers", lambda t, p: mean((t - p) ** 2)),
    Row("mean_absolute_error", "numbers", lambda t, p: mean(np.abs(t - p))),
    Row("mean_absolute_percentage_error", "numbers",
        lambda t, p: 100 * mean(np.abs(t - p) / np.maximum(np.abs(t), EPSILON))),
    Row("mean_squared_logarithmic_error", "positive", lambda t, p: mean(np.subtract(*logarithms(t, p)) ** 2)),
    Row("huber", "numbers", lambda t, p: huber(t, p, 1)),
    Row("huber", "numbers", lambda t, p: huber(t, p, 0.3), {"delta": 0.3}),
    Row("log_cosh", "numbers", log_cosh),
    Row("quantile", "numbers", lambda t, p: mean(np.maximum(0.5 * (t - p), 0.5 * (p - t))), keras=False),
    Row("quantile", "numbers", lambda t, p: mean(np.maximum(0.9 * (t - p), 0.1 * (p - t))), {"q": 0.9}, keras=False),
    Row("poisson", "counts", lambda t, p: mean(p - t * np.log(p + EPSILON))),
    Row("cosine_similarity", "numbers", lambda t, p: -(normed(t) * normed(p)).sum(-1)),
    Row("cosine_similarity", "numbers",
        lambda t, p: -(normed(np.moveaxis(t, 1, -1)) * normed(np.moveaxis(p, 1, -1))).sum(-1), {"axis": 1}),
    Row("hinge", "signs", lambda t, p: mean(np.maximum(1 - t * p, 0))),
    Row("hinge", "bits", lambda t, p: mean(np.maximum(1 - signs(t) * p, 0))),
    Row("squared_hinge", "signs", lambda t, p: mean(np.maximum(1 - t * p, 0) ** 2)),
    Row("squared_hinge", "bits", lambda t, p: mean(np.maximum(1 - signs(t) * p, 0) ** 2)),
    Row("categorical_hinge", "hot scores",
        lambda t, p: np.maximum(1 + ((1 - t) * p).max(-1) - (t * p).sum(-1), 0)),
    Row("kl_divergence", "distributions", kl_divergence),
    Row("kl_divergence", "hot shares", kl_divergence),
    Row("dice", "bit shares", lambda t, p: dice(t, p, None)),
    Row("dice", "bit shares", lambda t, p: dice(t, p, (1, 2)), {"axis": (1, 2)}),
    Row("tversky", "bit shares", lambda t, p: tversky(t, p, 0.5, 0.5, None)),
    Row("tversky", "bit shares", lambda t, p: tversky(t, p, 0.7, 0.2, -1), {"alpha": 0.7, "beta": 0.2, "axis": -1}),
    Row("tversky", "bit shares", lambda t, p: tversky(t, p, 0.7, 1.5, (0, 1)),
        {"alpha": 0.7, "beta": 1.5, "axis": (0, 1)}),
    Row("binary_crossentropy", "bit shares", lambda t, p: mean(binary(t, logit(p)))),
    Row("binary_crossentropy", "bit logits", lambda t, z: mean(binary(t * 0.8 + 0.1, z)),
        {"from_logits": True, "label_smoothing": 0.2}),
    Row("binary_focal_crossentropy", "bit shares", lambda t, p: focal(t, logit(p))),
    Row("binary_focal_crossentropy", "bit logits", focal, {"from_logits": True}),
    Row("binary_focal_crossentropy", "bit logits", lambda t, z: focal(t, z, 0.5, 0.3, 0.1),
        {"apply_class_balancing": True, "alpha": 0.3, "gamma": 0.5, "from_logits": True, "label_smoothing": 0.1}),
    Row("binary_focal_crossentropy", "bit logits", lambda t, z: focal(t, z, 0.5), {"gamma": 0.5, "from_logits": True}),
    Row("binary_focal_crossentropy", "bit logits", lambda t, z: focal(t, z, 0.0), {"gamma": 0.0, "from_logits": True}),
    Row("categorical_crossentropy", "hot shares", lambda t, p: -(t * log_softmax(safe_log(p))).sum(-1)),
    Row("categorical_crossentropy", "hot logits",
        lambda t, z: -((t * 0.9 + 0.1 / t.shape[-1]) * log_softmax(z)).sum(-1),
        {"from_logits": True, "label_smoothing": 0.1}),
    Row("categorical_focal_crossentropy", "hot shares", lambda t, p: categorical_focal(t, log_softmax(safe_log(p)))),
    Row("categorical_focal_crossentropy", "hot logits", lambda t, z: categorical_focal(t, log_softmax(z)),
        {"from_logits": True}),
    Row("categorical_focal_crossentropy", "hot logits",
        lambda t, z: categorical_focal(t, log_softmax(z), 0.5, 0.6, 0.2),
        {"alpha": 0.6, "gamma": 0.5, "from_logits": True, "label_smoothing": 0.2}),
]  # fmt: skip
