"""Layers and models as a user writes them: what they hold, and how they are made."""

import numpy as np

import nnpy as nn


class OwnBlock(nn.Layer):
    """Holds layers in each way there is, some with names that are made of its own."""

    def __init__(self, units, sizes=(1.0, 2.0), table=None, **options):
        super().__init__(**options)
        self.units, self.sizes, self.table = units, sizes, table
        self.first = nn.Dense(units, name=self.name + "_first")
        self.many = [nn.Dense(units), {"norm": nn.BatchNormalization()}]

    def build(self, input_shape):
        self.late = nn.Dense(self.units)
        self.scale = self.add_weight((self.units,), "ones", self.name + "_scale")

    def call(self, x):
        x = self.many[1]["norm"](self.many[0](self.first(x))) * (self.scale * self.sizes[1])
        if not hasattr(self, "made"):
            self.made = nn.Dense(self.units, activation="tanh")
        return self.made(self.late(x))


class OwnCareless(nn.Layer):
    def call(self, x):
        return nn.Dense(4, activation="tanh")(x)


class OwnCoded(nn.Model):
    """Code, with a configuration of its own."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.width = units
        self.inside, self.last = OwnBlock(units), nn.Dense(2)

    def call(self, x, training=None):
        x = self.inside(x)
        return self.last(nn.ops.dropout(x, 0.2) if training else x)

    def get_config(self):
        return {"units": np.int64(self.width), "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(config["units"], name=config["name"])


class OwnStack(nn.Sequential):
    def __init__(self, units=4, **options):
        super().__init__([nn.Dense(units, activation="relu"), OwnBlock(units), nn.Dense(2)], **options)
        self.units = units


class OwnWired(nn.Model):
    """Made of a graph by its constructor."""

    def __init__(self, units):
        source = nn.Input((5,))
        super().__init__(source, nn.Dense(2)(OwnBlock(units)(source)))
        self.units = units


class OwnPlain(nn.Model):
    """Made of a graph from outside."""


def plain():
    source = nn.Input((5,))
    return OwnPlain(source, nn.Dense(2)(nn.Dropout(0.3)(nn.Dense(3)(source))), seed=4)
