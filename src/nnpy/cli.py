"""The ``nnpy`` command: train on the embedded data, tell about the installation. An error is one line, no traceback."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

import nncore
import nnpy as nn
from nnpy.files import told, try_folder

INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended
CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 (it failed), 2 (it was asked wrongly), 130 (Ctrl-C)."""
    try:
        code = cli.main(args=arguments, prog_name="nnpy", standalone_mode=False)
    except click.ClickException as error:
        complain(error.format_message())
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # `nnpy info | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains when it flushes stdout at exit
        return 1
    return code if isinstance(code, int) else 0


def complain(message: str) -> None:
    click.echo("nnpy: " + " ".join(message.split()), err=True)


@click.group(context_settings=CONTEXT, invoke_without_command=True)
@click.version_option(nn.__version__, prog_name="nnpy")
@click.pass_context
def cli(context: click.Context) -> None:
    """Neural networks on multicore CPUs."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command(short_help="Versions, instruction sets, threads, caches.")
def info() -> None:
    """Versions, the instruction sets compiled and chosen, threads, caches."""
    check_core()
    facts = nncore.info()
    caches = ", ".join(f"{level} {binary_size(size)}" for level, size in facts["caches"].items())
    rows = {
        "nnpy": facts["nnpy"],
        "Python": f"{facts['python']} on {facts['machine']}",
        "NumPy": facts["numpy"],
        "Numba": facts["numba"],
        "ISA": f"{facts['isa']} ({facts['isa_reason']})",
        "compiled": ", ".join(facts["isa_compiled"]),
        "threads": f"{facts['threads']} on {facts['cores']} cores",
        "caches": caches,
    }
    for name, value in rows.items():
        click.echo(f"{name:<9}{value}")


@cli.command(
    short_help="Train a classifier on embedded images.",
    epilog="Ctrl-C stops the training and saves the model as it is then.",
)
@click.argument("dataset", type=click.Choice(["mnist"]), metavar="DATASET")
@click.option("--epochs", default=25, type=click.IntRange(min=1), help="Passes over the training images.")
@click.option("--batch-size", default=128, type=click.IntRange(min=1), help="Images in one step.")
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
    epochs: int,
    batch_size: int,
    learning_rate: float,
    dropout: float,
    validation_split: float,
    seed: int,
    threads: int | None,
    output: Path,
) -> int:
    """Train a classifier on the embedded images of DATASET (mnist: handwritten digits), test it and save it."""
    # Training is the user's time: whatever can be refused is refused before it.
    for name, value in (("learning-rate", learning_rate), ("dropout", dropout), ("validation-split", validation_split)):
        if not math.isfinite(value):
            raise click.BadParameter(f"{value} is not a finite number.", param_hint=f"'--{name}'")
    prepare_output(output)
    check_core()
    (x, y), (x_test, y_test) = nn.data.load_mnist()
    if batch_size > len(x):
        raise click.BadParameter(
            f"{batch_size} is more than the {len(x)} training images.", param_hint="'--batch-size'"
        )
    if threads:
        nn.set_num_threads(threads)
    nn.set_seed(seed)
    x, x_test = (images.astype("float32") / 255 for images in (x, x_test))
    kept = round(len(x) * validation_split)
    if not 0 < kept < len(x):
        raise click.BadParameter(f"{validation_split} leaves no images on one side.", param_hint="'--validation-split'")

    x, y, held_out = x[:-kept], y[:-kept], (x[-kept:], y[-kept:])
    model = mnist_model(dropout)
    rate = nn.schedules.CosineDecay(learning_rate, epochs * math.ceil(len(x) / batch_size))
    model.compile(
        optimizer=nn.Adam(rate), loss=nn.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    click.echo(
        f"{dataset}: {len(x)} images to train on, {kept} to validate, {len(x_test)} to test; "
        f"{nn.get_num_threads()} threads, seed {seed}"
    )
    start = time.perf_counter()
    try:
        history = model.fit(
            x, y, batch_size=batch_size, epochs=epochs, validation_data=held_out, callbacks=stop_if_diverged(model)
        )
    except KeyboardInterrupt:
        if model.history is None:  # not a step was made
            raise
        refuse_diverged(model)
        save(model, model.history, output)
        complain("interrupted; the model is saved as it was then")
        return INTERRUPTED
    refuse_diverged(model)
    seconds = time.perf_counter() - start
    trained = epochs * len(x)
    click.echo(f"trained for {seconds:.2f} s, {trained / seconds:,.0f} samples/s with validation")

    scores: Any = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
    click.echo(f"\ntest loss {scores['loss']:.4f}, test accuracy {scores['accuracy']:.2%}\n")
    predicted = model.predict(x_test, verbose=0).argmax(axis=1)
    click.echo(report_table(nn.metrics.classification_report(y_test, predicted)))
    save(model, history, output)
    return 0


def mnist_model(dropout: float) -> nn.Sequential:
    """The default network for 28x28 grey images in ten classes; it ends in logits."""
    return nn.Sequential(
        [
            nn.Input((28, 28)),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Dense(512, activation="relu"),
            nn.Dropout(dropout),
            nn.Dense(256, activation="relu"),
            nn.Dropout(dropout),
            nn.Dense(10),
        ]
    )


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


def report_table(report: dict[str, Any]) -> str:
    """The lines of a classification report: a class each, then their mean, weighted by samples."""
    lines = [f"{'class':>8}{'precision':>11}{'recall':>9}{'F1':>9}{'samples':>9}"]
    total = sum(row["support"] for row in report["classes"])
    for row in [*report["classes"], {"class": "all", **report["weighted"], "support": total}]:
        lines.append(
            f"{row['class']:>8}{row['precision']:>11.4f}{row['recall']:>9.4f}{row['f1']:>9.4f}{row['support']:>9}"
        )
    return "\n".join(lines)


def check_core() -> None:
    """Raises ClickException with the reason if no kernels run here (NNCORE_ISA, a CPU too old)."""
    try:
        nncore.kernels.chosen()
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error


def prepare_output(folder: Path) -> None:
    """Make the folder and write to it once: who trains must be able to save."""
    what = f"cannot write to {folder}"
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise told(error, what) from error
        try_folder(folder, what)
    except OSError as error:
        raise click.BadParameter(str(error), param_hint="'--output'") from error


def save(model: nn.Sequential, history: nn.History, folder: Path) -> None:
    """Write the model and its history, and say where they are."""
    try:
        model.save(folder / "model.safetensors")
        history.save(folder / "history.json")
    except OSError as error:
        raise click.ClickException(f"cannot save to {folder}: {error}") from error
    click.echo(f"\nwrote {folder / 'model.safetensors'} and {folder / 'history.json'}")


def binary_size(size: int) -> str:
    """Bytes with a binary unit: 49152 is "48 KiB"."""
    if size <= 0:
        return "unknown"
    power = min((size.bit_length() - 1) // 10, 3)
    return f"{size / 1024**power:g} {('B', 'KiB', 'MiB', 'GiB')[power]}"
