"""Four tables by small networks. Run: python examples/tables.py [adult|california|sonar|wine ...] [--data FOLDER]

FOLDER holds adult-train.csv, adult-test.csv, california-housing.csv, sonar.csv and winequality-red.csv. Numbers are
standardized, and given by their ranks too, categories become columns; overfitting is held down by dropout, weight
decay, early stopping on a part of the training rows, and the mean of a few networks.
"""

import argparse
import csv
import math
import time
from pathlib import Path

import numpy as np

import nnpy as nn


def read(path, header=True):
    """Columns by name (or number): floats where all are numbers, NaN for an empty one, else strings."""
    with open(path, newline="") as file:
        rows = [[value.strip() for value in row] for row in csv.reader(file) if row]
    names = rows.pop(0) if header else range(len(rows[0]))
    return {name: column(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}


def column(values):
    try:
        return np.array([float(value or "nan") for value in values])
    except ValueError:
        return np.array(values)


class Encoder:
    """Features of a table, all that is learnt taken from the training rows: quantiles of numbers, known categories."""

    def __init__(self, table):
        self.plans = {}
        for name, values in table.items():
            if values.dtype.kind == "f":
                known = values[np.isfinite(values)]
                grid = np.unique(np.quantile(known, np.linspace(0, 1, 201)))
                self.plans[name] = (np.nanmedian(values), known.mean(), known.std() + 1e-9, grid)
            else:
                kinds, counts = np.unique(values, return_counts=True)
                self.plans[name] = kinds[counts >= 10]

    def __call__(self, table):
        parts = []
        for name, plan in self.plans.items():
            values = table[name]
            if isinstance(plan, tuple):
                median, mean, deviation, grid = plan
                missing = ~np.isfinite(values)
                filled = np.where(missing, median, values)
                parts.append((filled - mean) / deviation)
                parts.append(np.interp(filled, grid, np.linspace(-1.7, 1.7, len(grid))))
                if missing.any():
                    parts.append(missing)
            else:
                parts += list((values[:, None] == plan).T)
        return np.clip(np.column_stack(parts).astype("float32"), -8, 8)


def network(units, dropout):
    layers = []
    for size in units:
        layers += [nn.Dense(size, activation="relu"), nn.Dropout(dropout)]
    return nn.Sequential([*layers, nn.Dense(1)])


def train(x, y, *, loss, units, seeds, epochs, batch, rate=3e-3, dropout=0.2, decay=1e-2, held=0.15):
    """Networks of several seeds; the mean of their outputs is the prediction. ``held``: the part of the rows that says
    when to stop; 0 where there are too few to know: then it is the last epoch, at a rate of nearly 0."""
    models = []
    for seed in range(seeds):
        nn.set_seed(seed)
        model = network(units, dropout)
        steps = epochs * math.ceil(len(x) * (1 - held) / batch)
        schedule = nn.schedules.CosineDecay(0.0, steps, warmup_target=rate, warmup_steps=steps // 10)
        model.compile(nn.AdamW(schedule, weight_decay=decay), loss)
        options = {"batch_size": batch, "epochs": epochs, "verbose": 0}
        if held:
            x_part, x_held, y_part, y_held = nn.data.split(x, y, fraction=held, seed=seed)
            stop = nn.EarlyStopping(patience=10, restore_best_weights=True)
            model.fit(x_part, y_part, validation_data=(x_held, y_held), callbacks=stop, **options)
        else:
            model.fit(x, y, **options)
        models.append(model)
    return lambda x: np.mean([model.predict(x, batch_size=1024) for model in models], axis=0)[:, 0]


def folds(count, k, seed=0):
    """k times the rows of training and of test, at random."""
    parts = np.array_split(np.random.default_rng(seed).permutation(count), k)
    return [(np.concatenate(parts[:i] + parts[i + 1 :]), parts[i]) for i in range(k)]


def r2(y, predicted):
    return 1 - np.square(y - predicted).sum() / np.square(y - y.mean()).sum()


def adult(folder):
    table, test = read(folder / "adult-train.csv"), read(folder / "adult-test.csv")
    y, y_test = (t.pop("income") == ">50K" for t in (table, test))
    encode = Encoder(table)
    predict = train(
        encode(table), y.astype("float32"), loss=nn.losses.BinaryCrossentropy(from_logits=True), units=(128, 64),
        seeds=3, epochs=12, batch=256,
    )  # fmt: skip
    return "accuracy", np.mean((predict(encode(test)) > 0) == y_test), 0.853


def california(folder):
    table = read(folder / "california-housing.csv")
    y = table.pop("median_house_value") / 1e5
    for a, b in (("total_rooms", "households"), ("total_bedrooms", "total_rooms"), ("population", "households")):
        table[f"{a} per {b}"] = table[a] / table[b]
    order = np.random.default_rng(0).permutation(len(y))
    rows, held = order[len(y) // 5 :], order[: len(y) // 5]
    x = Encoder({name: values[rows] for name, values in table.items()})(table)
    mean, deviation = y[rows].mean(), y[rows].std()
    predict = train(
        x[rows], (y[rows] - mean) / deviation, loss="mse", units=(256, 128, 64), seeds=2, epochs=40, batch=128,
        dropout=0.05,
    )  # fmt: skip
    return "R2", r2(y[held], predict(x[held]) * deviation + mean), 0.81


def sonar(folder):
    table = read(folder / "sonar.csv", header=False)
    y = table.pop(60) == "M"
    right, repeats = 0, 3  # of the folds: 208 rows alone say little
    for rows, held in [pair for seed in range(repeats) for pair in folds(len(y), 5, seed)]:
        x = Encoder({name: values[rows] for name, values in table.items()})(table)
        predict = train(
            x[rows], y[rows].astype("float32"), loss=nn.losses.BinaryCrossentropy(from_logits=True), units=(256,),
            seeds=5, epochs=120, batch=16, rate=5e-3, dropout=0.5, decay=0.1, held=0,
        )  # fmt: skip
        right += np.sum((predict(x[held]) > 0) == y[held])
    return f"accuracy, 5 folds, {repeats} times", right / len(y) / repeats, 0.85


def wine(folder):
    table = read(folder / "winequality-red.csv", header=False)
    y = table.pop(11)
    scores = []
    for rows, held in folds(len(y), 5):
        x = Encoder({name: values[rows] for name, values in table.items()})(table)
        mean = y[rows].mean()
        predict = train(x[rows], y[rows] - mean, loss="mse", units=(64, 32), seeds=5, epochs=60, batch=32, dropout=0.3)
        scores.append(r2(y[held], predict(x[held]) + mean))
    return "R2, 5 folds", np.mean(scores), 0.36


TABLES = {"adult": adult, "california": california, "sonar": sonar, "wine": wine}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", help=f"{', '.join(TABLES)}: all of them if none is named")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), metavar="FOLDER")
    options = parser.parse_args()
    for name in options.tables or TABLES:
        start = time.perf_counter()
        what, score, least = TABLES[name](options.data)
        print(f"{name}: {what} {score:.4f}, {time.perf_counter() - start:.1f} s")
        assert score >= least, f"expected at least {least}"
