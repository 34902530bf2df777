"""Models that tests of files save, and their bits."""

import nnpy as nn


def network():
    a, b = nn.Input((4,), name="a"), nn.Input((4,), name="b")
    shared = nn.Dense(6, activation=nn.activations.leaky_relu(negative_slope=0.1), name="shared")
    inner = nn.Sequential(
        [nn.Dense(6, kernel_initializer="he_normal", name="i1"), nn.Dropout(0.2, name="i2")], name="inner"
    )
    one, two = shared(a), inner(shared(b))
    joined = nn.Concatenate(name="joined")([one + 2.0 * two, nn.Activation("gelu", name="act")(one)])
    return nn.Model(
        [a, b], [nn.Dense(1, name="x")(joined), nn.Dense(3, activation="softmax", name="y")(joined)], name="net"
    )


def compiled(optimizer=None):
    net = network()
    net.compile(
        optimizer or nn.AdamW(nn.schedules.CosineDecay(0.01, 50), weight_decay=0.01, global_clipnorm=1.0),
        {"x": "mse", "y": nn.losses.SparseCategoricalCrossentropy()},
        loss_weights={"x": 0.5},
        metrics={"y": ["accuracy"]},
    )
    return net


def data(rng, n=50):
    x = [rng.normal(size=(n, 4)).astype("f4"), rng.normal(size=(n, 4)).astype("f4")]
    return x, [x[0][:, :1], rng.integers(0, 3, n)]


def small(units=4):
    return nn.Sequential([nn.Input((3,)), nn.Dense(units, name="hidden"), nn.Dense(2, name="out")], name="small")


def bits(net):
    return [w.tobytes() for w in net.get_weights()]
