"""Depth: 56 layers with residual connections learn; the same 56 layers without them hardly do.

    python examples/depth.py [--epochs 3] [--short]

The plain network is no smaller and no weaker: with the right weights it could do what the residual one does. It is
harder to train: on its way back the gradient of the loss is multiplied by a matrix at each layer. Behind batch
normalization it grows a little at each of them, so that after fifty layers it is hundreds of times as long as at the
last, and no learning rate suits both ends. With a connection around every two layers the gradient also comes straight
through, and all layers get about the same (He and others, Deep residual learning, CVPR 2016; Yang and others, A mean
field theory of batch normalization, ICLR 2019).
"""

import argparse
import math

import numpy as np

import nnpy as nn

BLOCKS = 9  # of two layers, in each of three stages; with the first and the last layer: 56
WIDTHS = (8, 16, 32)


def network(residual: bool) -> nn.Model:
    """Three stages of images half as high, half as wide and twice as deep as those of the one before."""

    def conv(x, filters, size, strides, name):
        x = nn.Conv2D(filters, size, strides, "same", use_bias=False, kernel_initializer="he_normal", name=name)(x)
        return nn.BatchNormalization(momentum=0.9)(x)

    relu = nn.Activation("relu")
    inputs = nn.Input((14, 14, 1))
    x, number = relu(conv(inputs, WIDTHS[0], 3, 1, "layer_01")), 2
    for stage, filters in enumerate(WIDTHS):
        for block in range(BLOCKS):
            strides = 2 if stage and not block else 1
            y = relu(conv(x, filters, 3, strides, f"layer_{number:02}"))
            y = conv(y, filters, 3, 1, f"layer_{number + 1:02}")
            if residual:
                y = y + (x if strides == 1 else conv(x, filters, 1, strides, f"shortcut_{stage}"))
            x, number = relu(y), number + 2
    return nn.Model(inputs, nn.Dense(10, name=f"layer_{number}")(nn.GlobalAveragePooling2D()(x)))


def gradient_norms(model: nn.Model, x, y) -> dict[str, float]:
    """How long the gradient of the loss by the weights of each layer is, as a step of training sees it."""
    gradients = model.probe(x, y, training=True).parameter_gradients
    names = [name for name in gradients if name.startswith("layer_") and name.endswith("kernel")]
    return {name.removesuffix("/kernel"): float(np.linalg.norm(gradients[name])) for name in sorted(names)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="fewer images, one epoch")
    options = parser.parse_args()
    epochs = 1 if options.short else options.epochs

    (x, y), (x_test, y_test) = nn.data.load_mnist()
    x, x_test = (images[:, ::2, ::2, None] / np.float32(255) for images in (x, x_test))
    if options.short:
        x, y = x[:4000], y[:4000]

    results, norms = {}, {}
    for kind in ("plain", "residual"):
        nn.set_seed(0)
        model = network(kind == "residual")
        rate = nn.schedules.OneCycle(0.05, total_steps=epochs * math.ceil(len(x) / 64))
        loss = nn.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(nn.SGD(rate, momentum=0.9), loss, metrics=["accuracy"])
        norms[kind] = gradient_norms(model, x[:64], y[:64])
        print(f"{kind}, {model.count_params():,} parameters")
        model.fit(x, y, batch_size=64, epochs=epochs)
        results[kind] = model.evaluate(x_test, y_test, verbose=0)

    print("\nlength of the gradient by the weights of a layer, before training")
    print(f"{'':10}{'plain':>12}{'residual':>12}")
    for name in [*list(norms["plain"])[::9], list(norms["plain"])[-1]]:
        print(f"{name:10}{norms['plain'][name]:12.4f}{norms['residual'][name]:12.4f}")
    for kind, (loss, accuracy) in results.items():
        print(f"{kind}: test loss {loss:.3f}, test accuracy {accuracy:.1%}")
    assert len(norms["plain"]) == 56
    spread = {kind: max(of.values()) / min(of.values()) for kind, of in norms.items()}
    assert spread["residual"] < 100 < spread["plain"], spread
    assert results["residual"][1] > results["plain"][1] + 0.1, results


if __name__ == "__main__":
    main()
