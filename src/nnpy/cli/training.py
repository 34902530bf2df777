"""``nnpy train``."""

from __future__ import annotations

import math
import time
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np

import nnpy as nn
from nnpy.callbacks.base import say
from nnpy.cli import classifiers
from nnpy.cli.console import INTERRUPTED, check_core, complain, terminations
from nnpy.files import make_folder

Pair = tuple[Any, np.ndarray]
EPOCHS = {"mlp": 25, "cnn": 10}


@click.command(
    short_help="Train a classifier of images.",
    epilog="Ctrl-C, or SIGTERM, stops the training and saves the model as it is then.",
)
@click.argument("dataset", metavar="DATASET")
@click.option(
    "--model",
    "kind",
    type=click.Choice(["mlp", "cnn"]),
    help="Dense layers, or convolutions. [default: mlp for mnist, cnn for a folder]",
    show_default=False,
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="Passes over the training images. [default: 25, cnn 10]",
    show_default=False,
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Images in one step. [default: 128, or all if there are fewer]",
    show_default=False,
)
@click.option(
    "--learning-rate",
    default=2e-3,
    type=click.FloatRange(min=0, min_open=True),
    help="Of Adam at the start; it falls to 0 along a cosine.",
)
@click.option(
    "--dropout",
    default=0.3,
    type=click.FloatRange(min=0, max=1, max_open=True),
    help="Share of the hidden units left out.",
)
@click.option(
    "--augment/--no-augment",
    default=None,
    help="Move images at random and, but for mnist, mirror them (cnn). [default: for a folder]",
    show_default=False,
)
@click.option(
    "--image-size",
    type=click.IntRange(min=1, max=1024),
    help="Pixels a side that a folder's images are resized to. [default: as the first, at most 96]",
    show_default=False,
)
@click.option(
    "--validation-split",
    default=0.1,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of the training images kept for validation.",
)
@click.option("--seed", default=0, type=click.IntRange(min=0, max=2**63 - 1), help="Of weights, order and dropout.")
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="Threads of the team. [default: one for each core]",
    show_default=False,
)
@click.option(
    "--output",
    default=".",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where model.safetensors and history.json go; made if missing.",
)
def train(
    dataset: str,
    kind: str | None,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float,
    dropout: float,
    augment: bool | None,
    image_size: int | None,
    validation_split: float,
    seed: int,
    threads: int | None,
    output: Path,
) -> int:
    """Train a classifier of images, test it and save it.

    DATASET: mnist, the handwritten digits that come with nnpy; or a folder (or a zip file) of images by class,
    DATASET/CLASS/NAME.jpg, perhaps in the parts DATASET/train and DATASET/test (or val).
    """
    # Training is the user's time: whatever can be refused is refused before it.
    for name, value in (("learning-rate", learning_rate), ("dropout", dropout), ("validation-split", validation_split)):
        if not math.isfinite(value):
            raise click.BadParameter(f"{value} is not a finite number.", param_hint=f"'--{name}'")
    digits = dataset == "mnist"
    if not digits and not _exists(Path(dataset)):
        raise click.BadParameter(
            f"{dataset!r} is neither 'mnist' nor a folder or zip file of images.", param_hint="'DATASET'"
        )
    if digits and image_size is not None:
        raise click.BadParameter("mnist has images of 28 pixels a side.", param_hint="'--image-size'")
    kind = kind or ("mlp" if digits else "cnn")
    if kind == "mlp" and augment:
        raise click.BadParameter("only --model cnn moves images.", param_hint="'--augment'")
    epochs = epochs or EPOCHS[kind]
    prepare_output(output)
    check_core()
    if digits:
        data = classifiers.embedded(validation_split)
    else:
        data = classifiers.folder(Path(dataset), image_size, validation_split, seed)
    (x, y), held_out, (x_test, y_test) = data.train, data.validation, data.test
    if batch_size is not None and batch_size > len(x):
        raise click.BadParameter(
            f"{batch_size} is more than the {len(x)} training images.", param_hint="'--batch-size'"
        )
    batch_size = batch_size or min(128, len(x))
    if threads:
        nn.set_num_threads(threads)
    nn.set_seed(seed)

    shown: list[Any] = [x, held_out[0], x_test]
    if kind == "cnn":
        moved = not digits if augment is None else augment
        options = dict(padding=max(1, min(x.shape[1:3]) // 8), flip=not digits) if moved else {}
        shown = [nn.data.Images(images, std=255, **(options if images is x else {})) for images in shown]
    else:
        shown = [(images[..., 0] if digits else images).astype("float32") / 255 for images in shown]
    model = getattr(classifiers, kind)(shown[0].shape[1:], len(data.classes), dropout)
    rate = nn.schedules.CosineDecay(learning_rate, epochs * math.ceil(len(x) / batch_size))
    model.compile(
        optimizer=nn.Adam(rate), loss=nn.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    say(
        f"{data.name}: {len(x)} images to train on, {len(held_out[0])} to validate, {len(x_test)} to test; "
        f"{nn.get_num_threads()} threads, seed {seed}"
    )
    if not digits:
        say(f"{len(data.classes)} classes, {kind} for images of {' x '.join(map(str, x.shape[1:]))}, divided by 255")
    try:
        with terminations():
            held, test = (shown[1], held_out[1]), (shown[2], y_test)
            history = fit_and_test(model, (shown[0], y), held, test, data.classes, batch_size, epochs)
    except KeyboardInterrupt as stop:
        if model.history is None:  # not a step was made
            raise
        refuse_diverged(model)
        save(model, model.history, output, data.classes)
        complain("interrupted; the model is saved as it was then")
        return getattr(stop, "code", INTERRUPTED)
    save(model, history, output, data.classes)
    return 0


def fit_and_test(
    model: nn.Sequential, data: Pair, held: Pair, test: Pair, classes: list[str], batch_size: int, epochs: int
) -> nn.History:
    """Train on (images, labels), and say how good the model is then."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: complain(str(message))
        history = model.fit(
            *data, batch_size=batch_size, epochs=epochs, validation_data=held, callbacks=stop_if_diverged(model)
        )
    refuse_diverged(model)
    seconds, trained = time.perf_counter() - start, epochs * len(data[1])
    say(f"trained for {seconds:.2f} s, {trained / seconds:,.0f} samples/s with validation")
    scores: Any = model.evaluate(*test, verbose=0, return_dict=True)
    say(f"\ntest loss {scores['loss']:.4f}, test accuracy {scores['accuracy']:.2%}\n")
    predicted = model.predict(test[0], verbose=0).argmax(axis=1)
    say(report_table(nn.metrics.classification_report(test[1], predicted, len(classes)), classes))
    return history


def _exists(path: Path) -> bool:
    """Whether it is there, perhaps inside of a zip file: ImageFolder looks further."""
    return path.exists() or any(parent.is_file() for parent in path.parents)


def stop_if_diverged(model: nn.Sequential) -> nn.Callback:
    """A callback that ends the training as soon as the loss is not finite."""

    def look(batch: int, logs: dict[str, float]) -> None:
        if not math.isfinite(logs["loss"]):
            model.stop_training = True

    return nn.LambdaCallback(on_progress=look)


def refuse_diverged(model: nn.Sequential) -> None:
    """Raises ClickException for a model that is of no use: nothing is written over an earlier one."""
    losses = model.history.history.get("loss", []) if model.history is not None else []
    weights = all(np.isfinite(weight).all() for weight in model.get_weights())
    if not weights or not all(map(math.isfinite, losses)):
        raise click.ClickException(
            "the training diverged: the loss is not finite; nothing is saved; try a smaller --learning-rate"
        )


def report_table(report: dict[str, Any], classes: list[str]) -> str:
    """The lines of a classification report: a class each, then their mean, weighted by samples."""
    width = max(8, *(len(name) + 1 for name in classes))
    lines = [f"{'class':>{width}}{'precision':>11}{'recall':>9}{'F1':>9}{'samples':>9}"]
    total = sum(row["support"] for row in report["classes"])
    rows = [row | {"class": classes[row["class"]]} for row in report["classes"]]
    for row in [*rows, {"class": "all", **report["weighted"], "support": total}]:
        lines.append(
            f"{row['class']:>{width}}{row['precision']:>11.4f}{row['recall']:>9.4f}{row['f1']:>9.4f}{row['support']:>9}"
        )
    return "\n".join(lines)


def prepare_output(folder: Path) -> None:
    """Make the folder and write to it once: who trains must be able to save."""
    what = f"cannot write to {folder}"
    try:
        make_folder(folder, what)
    except OSError as error:
        raise click.BadParameter(str(error), param_hint="'--output'") from error


def save(model: nn.Sequential, history: nn.History, folder: Path, classes: list[str]) -> None:
    """Write the model and its history, with what the model's inputs and outputs are, and say where they are."""
    history.params |= {"classes": classes, "pixels_divided_by": 255}
    try:
        model.save(folder / "model.safetensors")
        history.save(folder / "history.json")
    except OSError as error:
        raise click.ClickException(f"cannot save to {folder}: {error}") from error
    say(f"\nwrote {folder / 'model.safetensors'} and {folder / 'history.json'}")
