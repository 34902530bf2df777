"""python -m bench.initializers: how the first weights decide what a network learns, on tables and sets of images.

Each choice trains the same networks on the same rows in the same order, 20 seeds each; printed are the mean scores (R2
or accuracy on rows that were held out), and where a choice is significantly worse than the best of Glorot and He: a
paired t-test over the seeds at 1 %. Tables of scikit-learn are taken where it is installed, others from ../shared/data
or $NNPY_DATA. ``docs/initialization.md`` has the table.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import nnpy as nn
from bench.table import table

DATA = Path(os.environ.get("NNPY_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
_T_OF_ONE_PERCENT = 2.86  # two-sided, 19 degrees of freedom


class Problem(NamedTuple):
    """``kind``: "regression" or "classes"; rows of numbers or images."""

    name: str
    x: np.ndarray
    y: np.ndarray
    kind: str


# What is compared: the kernels of hidden layers, of the last one, and biases.


class Choice(NamedTuple):
    hidden: Any
    last: Any = "glorot_uniform"
    bias: Any = "zeros"


class _Torch(nn.initializers.Initializer):
    """torch's default of Linear and Conv: uniform within 1 / sqrt(fan_in)."""

    def values(self, shape, generator):
        limit = 1 / math.sqrt(nn.initializers.fans(shape)[0])
        return generator.uniform(-limit, limit, shape)


def scaling(scale: float, mode: str = "fan_in") -> nn.initializers.Initializer:
    return nn.initializers.VarianceScaling(scale, mode)


CHOICES: dict[str, Choice] = {
    "auto": Choice("auto", "auto"),
    "Glorot": Choice("glorot_uniform"),
    "He": Choice("he_normal"),
    "Lecun": Choice("lecun_normal"),
    "torch": Choice(_Torch(), _Torch()),
    "He, fan_out": Choice(scaling(2.0, "fan_out")),
    "He, fan_avg": Choice(scaling(2.0, "fan_avg")),
    "orthogonal": Choice(nn.initializers.Orthogonal(math.sqrt(2.0))),
    "He, last / 10": Choice("he_normal", scaling(0.01, "fan_avg")),
    "Glorot, last / 10": Choice("glorot_uniform", scaling(0.01, "fan_avg")),
    "He, last 0": Choice("he_normal", "zeros"),
    "He, bias": Choice("he_normal", bias=nn.initializers.RandomUniform(-0.1, 0.1)),
    "LSUV": Choice("orthogonal"),
}


def read(name: str, header: bool) -> list[np.ndarray]:
    with open(DATA / name, newline="") as file:
        rows = [row for row in csv.reader(file) if row][header:]
    return [np.array(values) for values in zip(*rows, strict=True)]


def numbers(columns: list[np.ndarray]) -> np.ndarray:
    """Columns as numbers: text as a column for each value, gaps as the median."""
    parts = []
    for values in columns:
        try:
            found = np.array([float(value or "nan") for value in values])
            parts.append(np.where(np.isnan(found), np.nanmedian(found), found))
        except ValueError:
            kinds, counts = np.unique(values, return_counts=True)
            parts += [(values == kind).astype(float) for kind in kinds[counts > 10]]
    return np.column_stack(parts)


def some(problem: Problem, count: int) -> Problem:
    """Rows at random, always the same ones."""
    rows = np.random.default_rng(0).permutation(len(problem.x))[:count]
    return problem._replace(x=problem.x[rows], y=problem.y[rows])


def problems() -> list[Problem]:
    found = []
    *columns, y = read("winequality-red.csv", False)
    found.append(Problem("winequality-red", numbers(columns), y.astype(float), "regression"))
    columns = read("california-housing.csv", True)
    y = columns.pop(8).astype(float)
    found.append(some(Problem("california-housing", numbers(columns), y, "regression"), 4000))
    series = read("daily-min-temperatures.csv", True)[1].astype(float)
    windows = np.lib.stride_tricks.sliding_window_view(series, 31)
    found.append(Problem("temperatures", windows[:, :30], windows[:, 30], "regression"))
    *columns, y = read("sonar.csv", False)
    found.append(Problem("sonar", numbers(columns), (y == "M").astype(int), "classes"))
    *columns, y = read("adult-train.csv", True)
    found.append(some(Problem("adult", numbers(columns), (y == ">50K").astype(int), "classes"), 4000))
    (x, y), _ = nn.data.load_mnist()
    found.append(some(Problem("mnist", x.reshape(len(x), -1) / 255.0, y, "classes"), 2000))
    found.append(some(Problem("mnist, images", x[..., None] / 255.0, y, "classes"), 1000))
    try:
        from sklearn import datasets
    except ImportError:
        print("scikit-learn is not installed: its tables are left out")
        return found
    for name in ("diabetes", "breast_cancer", "iris", "wine"):
        bunch = getattr(datasets, f"load_{name}")()
        kind = "regression" if name == "diabetes" else "classes"
        found.append(Problem(name, bunch.data, bunch.target, kind))
    bunch = datasets.load_digits()
    found.append(Problem("digits, images", bunch.images[..., None] / 16.0, bunch.target, "classes"))
    x, y = datasets.make_friedman1(500, noise=1.0, random_state=0)
    found.append(Problem("friedman1", x, y, "regression"))
    return found


def network(problem: Problem, choice: Choice, depth: int, outputs: int) -> nn.Sequential:
    options = {"kernel_initializer": choice.hidden, "bias_initializer": choice.bias, "activation": "relu"}
    layers: list[Any] = [nn.Input(problem.x.shape[1:])]
    if problem.x.ndim == 4:
        for filters in (16, 32)[:depth]:
            layers += [nn.Conv2D(filters, 3, padding="same", **options), nn.MaxPooling2D()]
        layers.append(nn.Flatten())
    layers += [nn.Dense(64, **options) for _ in range(depth)]
    return nn.Sequential([*layers, nn.Dense(outputs, kernel_initializer=choice.last, bias_initializer=choice.bias)])


def unit_variance(model: nn.Sequential, x: np.ndarray) -> None:
    """Layer-sequential unit variance (Mishkin & Matas, ICLR 2016), of what comes before the activation."""
    for layer in model.layers:
        if not layer.get_weights():
            continue
        inputs = nn.Model(model.inputs, layer.input).predict(x) if layer is not model.layers[0] else x
        kernel, bias = layer.get_weights()
        rows = inputs if kernel.ndim == 2 else np.lib.stride_tricks.sliding_window_view(inputs, (3, 3), (1, 2))
        result = rows @ kernel if kernel.ndim == 2 else np.einsum("nhwcij,ijcf->nhwf", rows, kernel)
        layer.set_weights([kernel / (result.std() + 1e-8), bias])


def score(problem: Problem, choice: Choice, seed: int, depth: int, epochs: int, lsuv: bool) -> float:
    order = np.random.default_rng(seed).permutation(len(problem.x))
    held, rows = order[: len(order) // 5], order[len(order) // 5 :]
    axes = tuple(range(problem.x.ndim - 1)) if problem.x.ndim == 4 else 0
    mean, deviation = problem.x[rows].mean(axes), problem.x[rows].std(axes) + 1e-7
    x = np.clip((problem.x - mean) / deviation, -10, 10).astype("f4")
    y, outputs, loss = problem.y, 1, "mse"
    if problem.kind == "regression":
        y = ((y - y[rows].mean()) / y[rows].std()).astype("f4")
    else:
        outputs, loss = int(y.max()) + 1, nn.losses.SparseCategoricalCrossentropy(from_logits=True)
    nn.set_seed(seed)
    model = network(problem, choice, depth, outputs)
    if lsuv:
        unit_variance(model, x[rows[:256]])
    model.compile("adam", loss)
    model.fit(x[rows], y[rows], epochs=epochs, verbose=0)
    predicted = model.predict(x[held], batch_size=256)
    if problem.kind == "regression":
        return float(1 - np.square(y[held] - predicted[:, 0]).sum() / np.square(y[held] - y[held].mean()).sum())
    return float((predicted.argmax(1) == y[held]).mean())


def worse(scores: np.ndarray, best: np.ndarray) -> bool:
    """Whether a choice is significantly worse than another one, over the seeds."""
    difference = scores - best
    error = difference.std(ddof=1) / math.sqrt(len(difference))
    return bool(difference.mean() < -_T_OF_ONE_PERCENT * error) if error else bool(difference.mean() < 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--depth", type=int, default=2, help="hidden layers")
    parser.add_argument("--only", default="", help="problems whose name has this in it")
    parser.add_argument("--choices", nargs="*", default=list(CHOICES))
    options = parser.parse_args()
    nn.set_num_threads(1)
    lines, bad = [], dict.fromkeys(options.choices, 0)
    for problem in problems():
        if options.only not in problem.name:
            continue
        start = time.perf_counter()
        scores = {
            name: np.array([
                score(problem, CHOICES[name], seed, options.depth, options.epochs, name == "LSUV")
                for seed in range(options.seeds)
            ])
            for name in options.choices
        }  # fmt: skip
        best = max((scores[name] for name in ("Glorot", "He")), key=np.mean)
        cells = []
        for name, values in scores.items():
            bad[name] += worse(values, best)
            cells.append(f"{values.mean():.3f}{' *' if worse(values, best) else ''}")
        measure = "R2" if problem.kind == "regression" else "accuracy"
        lines.append([f"{problem.name} ({measure}, {len(problem.x)})", *cells])
        print(f"{problem.name}, {time.perf_counter() - start:.0f} s:", ", ".join(cells), flush=True)
    lines.append(["significantly worse (*)", *(str(bad[name]) for name in options.choices)])
    print(table(["", *options.choices], lines))


if __name__ == "__main__":
    main()
