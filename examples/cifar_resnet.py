"""ResNet-20 sorts the photographs of CIFAR-10 into ten classes: over 85 % of the test images right after 17 epochs.

    python examples/cifar_resnet.py [--data ZIP] [--epochs 17] [--short]

One cycle of the learning rate, label smoothing, and the average of the last weights.

ZIP holds the images as train/CLASS/NAME.jpg and test/CLASS/NAME.jpg; a folder of that form will do too. Reading them
needs Pillow: pip install "nnpy-cpu[images]". --short trains on 2,560 images for one epoch, to see that it runs.
"""

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np

import nnpy as nn

DATA = Path(os.environ.get("NNPY_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "cifar10-jpeg.zip"


def network(depth: int = 20) -> nn.Model:
    """He and others, Deep residual learning for image recognition, CVPR 2016, section 4.2.

    A convolution, three stages of (depth - 2) / 6 blocks, and a dense layer on the means of the channels. The
    penalty on the weights keeps them small: the network fits the images less closely, and new ones better.
    """

    def conv(x, filters, size, strides=1):
        layer = nn.Conv2D(
            filters, size, strides, padding="same", use_bias=False, kernel_initializer="he_normal",
            kernel_regularizer=nn.regularizers.L2(1e-4),
        )  # fmt: skip
        return nn.BatchNormalization(momentum=0.9)(layer(x))

    inputs = nn.Input((32, 32, 3))
    x = nn.Activation("relu")(conv(inputs, 16, 3))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range((depth - 2) // 6):
            strides = 2 if stage and not block else 1
            y = nn.Activation("relu")(conv(x, filters, 3, strides))
            y = conv(y, filters, 3)
            shortcut = x if strides == 1 else conv(x, filters, 1, strides)
            x = nn.Activation("relu")(y + shortcut)
    return nn.Model(inputs, nn.Dense(10)(nn.GlobalAveragePooling2D()(x)), name="resnet20")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="zip file or folder of the images")
    parser.add_argument("--epochs", type=int, default=17)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=0.2, help="at the top of the cycle")
    parser.add_argument("--short", action="store_true", help="little data, one epoch")
    options = parser.parse_args()
    nn.set_seed(0)

    start = time.perf_counter()
    (x, y), (x_test, y_test) = (nn.data.ImageFolder(options.data / part).load() for part in ("train", "test"))
    print(f"read {len(x) + len(x_test)} images in {time.perf_counter() - start:.1f} s")
    order = np.random.default_rng(0).permutation(len(x))[: 2560 if options.short else None]
    x, y, epochs = x[order], y[order], 1 if options.short else options.epochs
    if options.short:
        x_test, y_test = x_test[::20], y_test[::20]

    # Each epoch shows every image moved by up to four pixels and mirrored half of the time: ten times as many images
    # would do better still, but these cost nothing.
    mean, std = nn.data.channel_statistics(x)
    images = nn.data.Images(x, padding=4, flip=True, mean=mean, std=std)
    test = nn.data.Images(x_test, mean=mean, std=std)

    batch, held_out = options.batch_size, 0.02
    steps = math.ceil(len(x) * (1 - held_out) / batch)
    highest = 0.05 if options.short else options.learning_rate  # few steps are no time to find the way back
    rate = nn.schedules.OneCycle(highest, total_steps=epochs * steps)
    model = network()
    loss = nn.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    keep = 0.5 if options.short else 0.99
    optimizer = nn.SGD(rate, momentum=0.9, nesterov=True, use_ema=True, ema_momentum=keep)
    model.compile(optimizer, loss, metrics=["accuracy"])
    classes, average = np.eye(10, dtype="float32"), nn.SwapEMAWeights()
    start = time.perf_counter()
    model.fit(
        images, classes[y], batch_size=batch, epochs=epochs, validation_split=held_out, validation_batch_size=100,
        callbacks=average,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    _, accuracy = model.evaluate(test, classes[y_test], batch_size=100, callbacks=average, verbose=0)
    print(
        f"test accuracy {accuracy:.2%} after {seconds:.0f} s: {seconds / epochs:.1f} s an epoch, "
        f"{1e3 * seconds / epochs / steps:.0f} ms a step of {batch} images, {nn.get_num_threads()} threads"
    )
    assert accuracy > (0.12 if options.short else 0.85)


if __name__ == "__main__":
    main()
