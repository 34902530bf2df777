"""JAX with one jit-compiled step (parameters donated) and optax."""

from __future__ import annotations

from itertools import cycle

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from bench.workloads import Workload

relu = jax.nn.relu


class Maker:
    """Makes parameters: `p` is a pytree of arrays, BatchNorm's running statistics are apart in `state`."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def normal(self, *shape, scale=None):
        scale = np.sqrt(2 / np.prod(shape[:-1])) if scale is None else scale
        return jnp.asarray(scale * self.rng.standard_normal(shape, dtype=np.float32), jnp.float32)

    def dense(self, inputs, outputs):
        return {"w": self.normal(inputs, outputs), "b": jnp.zeros(outputs)}

    def conv(self, size, channels, filters, bias=False):
        p = {"w": self.normal(size, size, channels, filters)}
        return {**p, "b": jnp.zeros(filters)} if bias else p

    def norm(self, width):
        return {"gamma": jnp.ones(width), "beta": jnp.zeros(width)}

    def statistics(self, width):
        return {"mean": jnp.zeros(width), "var": jnp.ones(width)}


def dense(p, x):
    return x @ p["w"] + p["b"]


def conv(p, x, stride=1):
    y = lax.conv_general_dilated(x, p["w"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y + p["b"] if "b" in p else y


def pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def batch_norm(p, s, x):
    axes = tuple(range(x.ndim - 1))
    mean, square = x.mean(axes), (x * x).mean(axes)
    var = square - mean * mean
    new = {"mean": 0.99 * s["mean"] + 0.01 * mean, "var": 0.99 * s["var"] + 0.01 * var}
    return (x - mean) * (lax.rsqrt(var + 1e-3) * p["gamma"]) + p["beta"], new


def layer_norm(p, x):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(var + 1e-3) * p["gamma"] + p["beta"]


def mlp(w: Workload, make: Maker):
    pairs = list(zip(w.sizes[:-1], w.sizes[1:], strict=True))
    p = {"dense": [make.dense(*pair) for pair in pairs]}
    state: list = []
    if w.batch_norm:
        p["norm"] = [make.norm(width) for width in w.sizes[1:-1]]
        state = [make.statistics(width) for width in w.sizes[1:-1]]

    def apply(p, state, x):
        new: list = []
        for i, layer in enumerate(p["dense"][:-1]):
            x = dense(layer, x)
            if w.batch_norm:
                x, s = batch_norm(p["norm"][i], state[i], x)
                new.append(s)
            x = relu(x)
        return dense(p["dense"][-1], x), new

    return p, state, apply


def cnn(w: Workload, make: Maker):
    p = {"c1": make.conv(3, 1, 32, True), "c2": make.conv(3, 32, 64, True),
         "d1": make.dense(7 * 7 * 64, 128), "d2": make.dense(128, w.outputs)}  # fmt: skip

    def apply(p, state, x):
        x = pool(relu(conv(p["c1"], x)))
        x = pool(relu(conv(p["c2"], x)))
        return dense(p["d2"], relu(dense(p["d1"], x.reshape(x.shape[0], -1)))), state

    return p, [], apply


def resnet(w: Workload, make: Maker):
    p = {"stem": make.conv(3, 3, 16), "stem_norm": make.norm(16), "blocks": [], "head": make.dense(64, w.outputs)}
    state = {"stem": make.statistics(16), "blocks": []}
    channels = 16
    for width in (16, 32, 64):
        for _ in range(3):
            block = {"c1": make.conv(3, channels, width), "n1": make.norm(width),
                     "c2": make.conv(3, width, width), "n2": make.norm(width)}  # fmt: skip
            statistics = {"n1": make.statistics(width), "n2": make.statistics(width)}
            if channels != width:
                block |= {"c3": make.conv(1, channels, width), "n3": make.norm(width)}
                statistics["n3"] = make.statistics(width)
            p["blocks"].append(block)
            state["blocks"].append(statistics)
            channels = width

    def apply(p, state, x):
        new: dict = {"blocks": []}
        x, new["stem"] = batch_norm(p["stem_norm"], state["stem"], conv(p["stem"], x))
        x = relu(x)
        for b, s in zip(p["blocks"], state["blocks"], strict=True):
            stride, t = (2 if "c3" in b else 1), {}
            y, t["n1"] = batch_norm(b["n1"], s["n1"], conv(b["c1"], x, stride))
            y, t["n2"] = batch_norm(b["n2"], s["n2"], conv(b["c2"], relu(y)))
            if "c3" in b:
                x, t["n3"] = batch_norm(b["n3"], s["n3"], conv(b["c3"], x, stride))
            x = relu(x + y)
            new["blocks"].append(t)
        return dense(p["head"], x.mean((1, 2))), new

    return p, state, apply


def lstm(w: Workload, make: Maker):
    units = 256
    p = {"embedding": make.normal(w.outputs, 64, scale=0.05), "wx": make.dense(64, 4 * units),
         "wh": make.normal(units, 4 * units, scale=0.05), "head": make.dense(units, w.outputs)}  # fmt: skip

    def apply(p, state, x):
        gates = dense(p["wx"], p["embedding"][x.T])  # all time steps in one product

        def step(carry, z):
            h, c = carry
            i, f, g, o = jnp.split(z + h @ p["wh"], 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((x.shape[0], units))
        _, h = lax.scan(step, (zero, zero), gates)
        return dense(p["head"], h.transpose(1, 0, 2)), state

    return p, [], apply


def gpt(w: Workload, make: Maker, width: int = 128, heads: int = 4):
    p = {"tokens": make.normal(w.outputs, width, scale=0.02), "positions": make.normal(w.steps, width, scale=0.02),
         "norm": make.norm(width), "head": make.dense(width, w.outputs),
         "blocks": [{"n1": make.norm(width), "qkv": make.dense(width, 3 * width), "out": make.dense(width, width),
                     "n2": make.norm(width), "up": make.dense(width, 4 * width),
                     "down": make.dense(4 * width, width)} for _ in range(4)]}  # fmt: skip

    def apply(p, state, x):
        batch, steps = x.shape
        x = p["tokens"][x] + p["positions"]
        for b in p["blocks"]:
            qkv = dense(b["qkv"], layer_norm(b["n1"], x)).reshape(batch, steps, 3, heads, width // heads)
            y = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], is_causal=True)
            x = x + dense(b["out"], y.reshape(batch, steps, width))
            x = x + dense(b["down"], jax.nn.gelu(dense(b["up"], layer_norm(b["n2"], x)), approximate=True))
        return dense(p["head"], layer_norm(p["norm"], x)), state

    return p, [], apply


BUILDERS = {"mlp": mlp, "cnn": cnn, "resnet": resnet, "lstm": lstm, "gpt": gpt}


def trainer(w: Workload, threads: int, framework: str):
    p, state, apply = BUILDERS[w.family](w, Maker())
    count = sum(leaf.size for leaf in jax.tree.leaves(p))
    assert count == w.parameters, f"{w.name}: {count} parameters"
    optimizer = optax.adam(w.learning_rate) if w.optimizer == "adam" else optax.sgd(w.learning_rate, momentum=0.9)

    def loss_of(p, state, x, y):
        logits, state = apply(p, state, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), state

    def step(carry, x, y):
        p, state, memory = carry
        (loss, state), gradients = jax.value_and_grad(loss_of, has_aux=True)(p, state, x, y)
        updates, memory = optimizer.update(gradients, memory, p)
        return (optax.apply_updates(p, updates), state, memory), loss

    step = jax.jit(step, donate_argnums=0)
    carry = (p, state, optimizer.init(p))
    x, y = w.data()
    slices = [slice(i, i + w.batch) for i in range(0, len(x), w.batch)]
    batches = cycle([(jnp.asarray(x[rows]), jnp.asarray(y[rows])) for rows in slices])

    def train(steps: int) -> None:
        nonlocal carry
        loss = None
        for _ in range(steps):
            carry, loss = step(carry, *next(batches))
        jax.block_until_ready((carry, loss))

    return train, jax.__version__
