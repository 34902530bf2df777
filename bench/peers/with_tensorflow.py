"""TensorFlow: a Keras network and optimizer in one tf.function step."""

from __future__ import annotations

import os
from itertools import cycle
from types import SimpleNamespace

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from bench.peers.keras_models import build
from bench.workloads import Workload


class PositionalEmbedding(keras.layers.Layer):
    """Adds one learned vector to each position, as nnpy's does."""

    def __init__(self, length: int):
        super().__init__()
        self.length = length

    def build(self, shape):
        self.vectors = self.add_weight(shape=(self.length, shape[-1]), initializer="random_normal")

    def call(self, x):
        return x + self.vectors


NAMES = SimpleNamespace(
    **{name: value for name, value in vars(keras.layers).items() if isinstance(value, type)},
    Input=keras.Input, Sequential=keras.Sequential, Model=keras.Model, PositionalEmbedding=PositionalEmbedding,
    activations=SimpleNamespace(gelu_tanh=lambda x: keras.activations.gelu(x, approximate=True)),
)  # fmt: skip


def trainer(w: Workload, threads: int, framework: str):
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    keras.utils.set_random_seed(0)
    model = build(w, NAMES)
    if w.optimizer == "adam":
        optimizer = keras.optimizers.Adam(w.learning_rate)
    else:
        optimizer = keras.optimizers.SGD(w.learning_rate, momentum=0.9)
    variables = model.trainable_variables
    optimizer.build(variables)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    x, y = w.data()
    slices = [slice(i, i + w.batch) for i in range(0, len(x), w.batch)]
    batches = cycle([(tf.constant(x[rows]), tf.constant(y[rows])) for rows in slices])

    def train(steps: int) -> None:
        loss = None
        for _ in range(steps):
            loss = step(*next(batches))
        if loss is not None:
            loss.numpy()

    return train, tf.__version__
