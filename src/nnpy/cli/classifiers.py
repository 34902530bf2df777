"""What ``nnpy train`` trains: images by class, and networks for them."""

from __future__ import annotations

import zipfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

import nnpy as nn
from nnpy.data.archives import Archive

LARGEST = 96  # pixels a side that a folder's images are made smaller to, where nothing else is asked for
_SHARE = 0.2  # of a folder without a part to test with
_TRAIN, _TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")


@dataclass(frozen=True)
class Classified:
    """Images (samples, height, width, channels) of uint8, with their classes: to train on, to validate, to test."""

    name: str
    classes: list[str]
    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def embedded(validation_split: float) -> Classified:
    """The handwritten digits that ship inside the package."""
    (x, y), test = nn.data.load_mnist()
    x, x_test = x[..., None], test[0][..., None]
    kept = _held_out(len(x), validation_split)
    return Classified(
        "mnist", [str(digit) for digit in range(10)], (x[:-kept], y[:-kept]), (x[-kept:], y[-kept:]), (x_test, test[1])
    )


def folder(path: Path, image_size: int | None, validation_split: float, seed: int) -> Classified:
    """Images in folders by class, or a zip file of them. Where there are folders ``train`` and ``test`` they are the
    two parts; else every fifth image of each class is tested with."""
    try:
        train, test = _parts(path)
        size = None if image_size is None else (image_size, image_size)
        images = nn.data.ImageFolder(train, size)
        if size is None:
            size = tuple(min(n, LARGEST) for n in images.image_size)
            images = nn.data.ImageFolder(train, size)
        if len(images.classes) < 2:
            within = f"; if the classes are in there: {train / images.classes[0]}"
            raise ValueError(f"{train}: expected images of at least two classes, got {images.classes}{within}")
        x, y = images.load()
        order = np.random.default_rng(seed).permutation(len(x))
        x, y = x[order], y[order]
        if test is not None:
            tested = nn.data.ImageFolder(test, size, classes=images.classes).load()
        else:
            rest, chosen = _stratified(y, _SHARE)
            tested = x[chosen], y[chosen]
            x, y = x[rest], y[rest]
        rest, chosen = _stratified(y, validation_split)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        raise click.BadParameter(str(error), param_hint="'DATASET'") from error
    if few := sorted(set(range(len(images.classes))) - set(y[rest].tolist())):
        names = ", ".join(repr(images.classes[number]) for number in few)
        raise click.BadParameter(
            f"{path}: too few images of {names} to train on, validate and test with.", param_hint="'DATASET'"
        )
    return Classified(path.name, images.classes, (x[rest], y[rest]), (x[chosen], y[chosen]), tested)


def _parts(path: Path) -> tuple[Path, Path | None]:
    """(the images to train on, those to test with where they are apart)"""
    if path.is_dir():
        names = {child.name.lower(): child for child in path.iterdir() if child.is_dir()}
    elif path.is_file() and zipfile.is_zipfile(path):
        with closing(Archive(path, "ImageFolder")) as archive:
            tops = {name.split("/")[0] for name in archive.names if "/" in name}
        names = {name.lower(): path / name for name in tops}
    else:
        return path, None
    first, second = (next((names[name] for name in of if name in names), None) for of in (_TRAIN, _TEST))
    return (first, second) if first is not None and second is not None else (path, None)


def _stratified(y: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Places of the rest and of a share of every class, at least one sample of each."""
    chosen = np.zeros(len(y), bool)
    for number in np.unique(y):
        places = np.flatnonzero(y == number)
        chosen[places[: max(1, round(share * len(places)))]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _held_out(samples: int, share: float) -> int:
    kept = round(samples * share)
    if not 0 < kept < samples:
        raise click.BadParameter(f"{share} leaves no images on one side.", param_hint="'--validation-split'")
    return kept


def mlp(shape: tuple[int, ...], classes: int, dropout: float) -> nn.Sequential:
    """Two hidden layers for images of any shape; it ends in logits."""
    return nn.Sequential(
        [
            nn.Input(shape),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Dense(512, activation="relu"),
            nn.Dropout(dropout),
            nn.Dense(256, activation="relu"),
            nn.Dropout(dropout),
            nn.Dense(classes),
        ]
    )


def cnn(shape: tuple[int, ...], classes: int, dropout: float) -> nn.Sequential:
    """Convolutions until seven pixels or fewer are left a side, then two dense layers; it ends in logits."""
    layers: list = [nn.Input(shape)]
    side, filters = min(shape[:2]), 32
    while True:
        layers.append(nn.Conv2D(filters, 3, padding="same", activation="relu"))
        if side > 1:
            layers.append(nn.MaxPooling2D())
        side, filters = side // 2, min(2 * filters, 256)
        if side <= 7:
            break
    layers += [nn.Flatten(), nn.Dropout(dropout), nn.Dense(128, activation="relu"), nn.Dropout(dropout)]
    return nn.Sequential([*layers, nn.Dense(classes)])
