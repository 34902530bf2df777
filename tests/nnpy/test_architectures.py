"""Networks of many forms train, are saved and come back: what a structure must be able to say."""

import numpy as np
import pytest

import nnpy as nn
from nnpy import ops


def autoencoder():
    encoder = nn.Sequential([nn.Dense(6, "relu"), nn.Dense(2)], name="encoder")
    decoder = nn.Sequential([nn.Dense(6, "relu"), nn.Dense(8)], name="decoder")
    source = nn.Input((8,))
    return nn.Model(source, decoder(encoder(source))), lambda x: (x, x)


class Distance(nn.Layer):
    """(a - b) squared; b may be left out."""

    def call(self, a, b=None):
        return ops.square(a if b is None else a - b)


def siamese():
    tower = nn.Sequential([nn.Dense(6, "tanh"), nn.Dense(4)], name="tower")
    left, right = nn.Input((8,), name="left"), nn.Input((8,), name="right")
    score = nn.Dense(1, name="score")(Distance()(tower(left), b=tower(right)))
    return nn.Model([left, right], score), lambda x: ([x, x[::-1].copy()], x[:, :1])


def two_in_two_out():
    a, b = nn.Input((8,), name="a"), nn.Input((8,), name="b")
    hidden = nn.Dense(6, "relu")(nn.Concatenate()([a, b]))
    outputs = {"value": nn.Dense(1)(hidden), "rest": nn.Dense(8)(hidden + nn.Dense(6)(a))}
    return nn.Model({"a": a, "b": b}, outputs), lambda x: ({"a": x, "b": x}, {"value": x[:, :1], "rest": x})


def u_net():
    source = nn.Input((8, 8, 1))
    down = nn.Conv2D(4, 3, padding="same", activation="relu")(source)
    low = nn.Conv2D(4, 3, padding="same", activation="relu")(nn.MaxPooling2D()(down))
    up = nn.Concatenate()([down, nn.UpSampling2D()(low)])
    out = nn.Conv2D(1, 1)(up)
    return nn.Model(source, nn.Flatten()(out)), lambda x: (x[:, :, None, None] * np.ones((1, 1, 8, 1)), np.tile(x, 8))


def wide_and_deep():
    source = nn.Input((8,))
    deep = nn.Dense(4, "relu")(nn.BatchNormalization()(nn.Dense(8, "relu")(source)))
    return nn.Model(source, nn.Dense(1)(nn.Concatenate()([source, nn.Dropout(0.1)(deep)]))), lambda x: (x, x[:, :1])


class TiedAutoencoder(nn.Model):
    """A decoder that is the encoder, transposed by hand: the weight is one."""

    def __init__(self, units=8, name=None):
        super().__init__(name=name)
        self.units = units
        self.encoder = nn.Dense(units, "tanh", use_bias=False)

    def call(self, x, training=False):
        hidden = self.encoder(x)
        return ops.matmul(hidden if training else hidden * 1.0, self.encoder.kernel)

    def get_config(self):
        return {"units": self.units, "name": self.name}


def tied():
    return TiedAutoencoder(), lambda x: (x, x)


@pytest.mark.parametrize("make", [autoencoder, siamese, two_in_two_out, u_net, wide_and_deep, tied])
def test_it_trains_and_comes_back(make, tmp_path, rng):
    nn.set_seed(1)
    net, data = make()
    x, y = data(rng.normal(size=(40, 8)))
    net.compile(nn.Adam(0.02), {name: "mse" for name in y} if isinstance(y, dict) else "mse")
    history = net.fit(x, y, epochs=12, batch_size=10, verbose=0).history["loss"]
    assert history[-1] < 0.9 * history[0]
    net.save(tmp_path / "net.safetensors")
    again = nn.load_model(tmp_path / "net.safetensors")
    for model in (net, again):
        model.fit(x, y, epochs=1, batch_size=10, verbose=0)
    for a, b in zip(net.get_weights(), again.get_weights(), strict=True):
        assert np.array_equal(a, b)
    nn.set_seed(0)
