"""A convolutional network reads handwritten digits: over 99 % of MNIST's test images right, in about half a minute.

    python examples/mnist_cnn.py [--data FOLDER] [--epochs 3] [--short]

FOLDER holds the four files of MNIST, gzip-compressed IDX as its mirrors have them; --short trains for one epoch on
2,000 of the images that ship with nnpy, to see that it runs.
"""

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np

import nnpy as nn

DATA = os.environ.get("NNPY_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")


def mnist(folder: Path):
    """(x, y) to train on, (x, y) to test with: images (n, 28, 28) of uint8."""
    names = {"train": "train", "test": "t10k"}
    x, x_test = (nn.data.read_idx(folder / f"mnist-{names[part]}-images-idx3-ubyte.gz") for part in names)
    y, y_test = (nn.data.read_idx(folder / f"mnist-{names[part]}-labels-idx1-ubyte.gz") for part in names)
    return (x, y), (x_test, y_test)


def network() -> nn.Sequential:
    """Two convolutions find strokes and their meetings, each pooling halves the image, two dense layers decide."""
    return nn.Sequential(
        [
            nn.Input((28, 28, 1)),
            nn.Conv2D(32, 3, padding="same", activation="relu"),
            nn.MaxPooling2D(),
            nn.Conv2D(64, 3, padding="same", activation="relu"),
            nn.MaxPooling2D(),
            nn.Flatten(),
            nn.Dense(128, activation="relu"),
            nn.Dropout(0.3),
            nn.Dense(10),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the MNIST files")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="little data, one epoch")
    options = parser.parse_args()
    nn.set_seed(0)

    (x, y), (x_test, y_test) = nn.data.load_mnist() if options.short else mnist(options.data)
    # The files are sorted by class; what is held out for validation must not be all nines.
    order = np.random.default_rng(0).permutation(len(x))[: 2000 if options.short else None]
    x, y, epochs = x[order], y[order], 1 if options.short else options.epochs

    # Pixels become 0 to 1 inside the training step: the images stay what they are, a byte for each pixel. No pixel of a
    # digit lies at the edge, so that each may be moved by two pixels: every epoch shows other images.
    images = nn.data.Images(x[..., None], padding=2, std=255)
    test = nn.data.Images(x_test[..., None], std=255)

    # The learning rate goes up and down once: large steps in the middle go far, small ones at the end settle.
    batch = 64
    held_out = 0.05
    rate = nn.schedules.OneCycle(3e-3, total_steps=epochs * math.ceil(len(x) * (1 - held_out) / batch))
    model = network()
    model.compile(nn.Adam(rate), nn.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.summary()
    start = time.perf_counter()
    model.fit(images, y, batch_size=batch, epochs=epochs, validation_split=held_out)
    seconds = time.perf_counter() - start
    _, accuracy = model.evaluate(test, y_test, verbose=0)
    print(f"test accuracy {accuracy:.2%} after {seconds:.1f} s of training on {nn.get_num_threads()} threads")
    assert accuracy > (0.7 if options.short else 0.99)


if __name__ == "__main__":
    main()
