"""The workloads' networks in the words of Keras 3, which are nnpy's words too: ``nn`` is either of the two."""

from __future__ import annotations

from bench.workloads import Workload

# The layers beyond Dense that a family of networks needs.
NEEDS = {
    "mlp": ("Dense", "Activation"),
    "cnn": ("Conv2D", "MaxPooling2D", "Flatten"),
    "resnet": ("Conv2D", "BatchNormalization", "GlobalAveragePooling2D", "Add"),
    "lstm": ("Embedding", "LSTM"),
    "gpt": ("Embedding", "PositionalEmbedding", "LayerNormalization", "MultiHeadAttention", "Add"),
}


def missing(w: Workload, nn) -> list[str]:
    """The layers that ``nn`` lacks for a workload."""
    needs = [*NEEDS[w.family], *(["BatchNormalization"] if w.batch_norm else [])]
    return [name for name in needs if not hasattr(nn, name)]


def mlp(w: Workload, nn):
    layers = [nn.Input(shape=w.shape)]
    for units in w.sizes[1:-1]:
        if w.batch_norm:
            layers += [nn.Dense(units), nn.BatchNormalization(), nn.Activation("relu")]
        else:
            layers.append(nn.Dense(units, activation="relu"))
    return nn.Sequential([*layers, nn.Dense(w.outputs)])


def cnn(w: Workload, nn):
    return nn.Sequential([
        nn.Input(shape=w.shape),
        nn.Conv2D(32, 3, padding="same", activation="relu"), nn.MaxPooling2D(),
        nn.Conv2D(64, 3, padding="same", activation="relu"), nn.MaxPooling2D(),
        nn.Flatten(), nn.Dense(128, activation="relu"), nn.Dense(w.outputs),
    ])  # fmt: skip


def resnet(w: Workload, nn):
    def conv_norm(x, width, size=3, strides=1):
        x = nn.Conv2D(width, size, strides=strides, padding="same", use_bias=False)(x)
        return nn.BatchNormalization()(x)

    inputs = nn.Input(shape=w.shape)
    x = nn.Activation("relu")(conv_norm(inputs, 16))
    channels = 16
    for width in (16, 32, 64):
        for _ in range(3):
            strides = 1 if channels == width else 2
            y = nn.Activation("relu")(conv_norm(x, width, strides=strides))
            y = conv_norm(y, width)
            if channels != width:
                x = conv_norm(x, width, size=1, strides=strides)
            x = nn.Activation("relu")(nn.Add()([x, y]))
            channels = width
    return nn.Model(inputs, nn.Dense(w.outputs)(nn.GlobalAveragePooling2D()(x)))


def lstm(w: Workload, nn):
    return nn.Sequential([
        nn.Input(shape=w.shape, dtype="int32"),
        nn.Embedding(w.outputs, 64), nn.LSTM(256, return_sequences=True), nn.Dense(w.outputs),
    ])  # fmt: skip


def gpt(w: Workload, nn, width: int = 128, heads: int = 4):
    inputs = nn.Input(shape=w.shape, dtype="int32")
    x = nn.PositionalEmbedding(w.steps)(nn.Embedding(w.outputs, width)(inputs))
    for _ in range(4):
        y = nn.LayerNormalization()(x)
        y = nn.MultiHeadAttention(num_heads=heads, key_dim=width // heads)(y, y, use_causal_mask=True)
        x = nn.Add()([x, y])
        y = nn.Dense(4 * width, activation=nn.activations.gelu_tanh)(nn.LayerNormalization()(x))
        x = nn.Add()([x, nn.Dense(width)(y)])
    return nn.Model(inputs, nn.Dense(w.outputs)(nn.LayerNormalization()(x)))


BUILDERS = {"mlp": mlp, "cnn": cnn, "resnet": resnet, "lstm": lstm, "gpt": gpt}


def build(w: Workload, nn):
    """The network, its parameters counted against the workload's."""
    model = BUILDERS[w.family](w, nn)
    weights = getattr(model, "trainable_weights", None)
    if weights is not None:
        count = 0
        for weight in weights:
            size = 1
            for axis in weight.shape:
                size *= int(axis)
            count += size
        assert count == w.parameters, f"{w.name}: {count} parameters, expected {w.parameters}"
    return model
