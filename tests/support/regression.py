"""A small regression, and a callback that writes down when it is called."""

import math

import nnpy as nn


def regression(optimizer="sgd", **options):
    net = nn.Sequential([nn.Input((5,)), nn.Dense(8, activation="tanh", name="h"), nn.Dense(2, name="o")])
    net.compile(optimizer, "mse", **options)
    return net


class Recorder(nn.Callback):
    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append("train begin")

    def on_train_end(self, logs=None):
        self.calls.append("train end")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(f"epoch {epoch}")

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(f"batch {batch}")
        assert math.isfinite(logs["loss"])

    def on_test_begin(self, logs=None):
        self.calls.append("test")

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(f"end {epoch} {sorted(logs)}")


def drive(callback, values, net=None):
    """Feed a callback a series of val_loss; the epochs that ran."""
    net = net or regression(metrics=["accuracy"])
    callback.set_model(net)
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        net.stop_training = False
        callback.on_epoch_end(epoch, {"val_loss": value, "val_accuracy": -value})
        if net.stop_training:
            break
    callback.on_train_end()
    return epoch
