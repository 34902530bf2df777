"""Random models of all layers, trained, saved, loaded in a fresh and in a used process, trained on: the same bits.

In a process that made other models before, automatic names are others, and so are the numbers drawn so far.
"""

import copy
import hashlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from own import OwnBlock, OwnCareless, OwnCoded

import nnpy as nn
from nnpy import layers

SUPPORT = Path(__file__).parents[1] / "support"
# What needs arguments, by the ranks that it takes; other layers are tried without.
MADE = {
    "Activation": lambda n: layers.Activation(["relu", "tanh", "softmax", "elu"][n % 4]),
    "AveragePooling1D": lambda n: layers.AveragePooling1D(2, padding="same"),
    "AveragePooling2D": lambda n: layers.AveragePooling2D(2, padding="same"),
    "Conv1D": lambda n: layers.Conv1D(3 + n % 2, 3, padding="same", activation="tanh"),
    "Conv2D": lambda n: layers.Conv2D(3 + n % 2, (3, 1 + n % 3), padding="same", strides=1 + n % 2),
    "Conv2DTranspose": lambda n: layers.Conv2DTranspose(3, 2, strides=1 + n % 2),
    "Cropping1D": lambda n: layers.Cropping1D((1, 0)),
    "Cropping2D": lambda n: layers.Cropping2D(((1, 0), (0, 1))),
    "Dense": lambda n: layers.Dense(2 + n % 4, ["tanh", None][n % 2], kernel_regularizer=["l2", None][n % 2]),
    "DepthwiseConv2D": lambda n: layers.DepthwiseConv2D(2, padding="same", depth_multiplier=1 + n % 2),
    "Dropout": lambda n: layers.Dropout(0.3),
    "GroupNormalization": lambda n: layers.GroupNormalization(1),
    "MaxPooling1D": lambda n: layers.MaxPooling1D(2, padding="same"),
    "MaxPooling2D": lambda n: layers.MaxPooling2D(2, padding="same"),
    "Reshape": lambda n: layers.Reshape((-1,)),
    "Residual": lambda n: layers.Residual([layers.LayerNormalization(), layers.Activation("tanh")]),
    "SeparableConv2D": lambda n: layers.SeparableConv2D(3, 2, padding="same"),
    "SpatialDropout1D": lambda n: layers.SpatialDropout1D(0.3),
    "SpatialDropout2D": lambda n: layers.SpatialDropout2D(0.3),
    "OwnBlock": lambda n: OwnBlock(4),
    "OwnCareless": lambda n: OwnCareless(),
    "OwnCoded": lambda n: OwnCoded(3),
    "Sequential": lambda n: nn.Sequential([layers.Dense(3), layers.Dropout(0.2), layers.Dense(2 + n % 3)]),
}
JOINS = ["Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"]
NAMES = [None, None, None, "optimizer", "dense", "kernel", "a.b", "call.0", "momentum", "\N{SNOWMAN} x"]


def _unary():
    found = dict(MADE)
    for name in layers.__all__:
        cls = getattr(layers, name)
        if not inspect.isclass(cls) or not issubclass(cls, nn.Layer) or name in found or name in JOINS:
            continue
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        if not needed and name != "Layer":
            found[name] = lambda n, cls=cls: cls()
    return found


UNARY = _unary()
OPTIMIZERS = [
    lambda: "adam",
    lambda: nn.SGD(0.01, momentum=0.9, nesterov=True),
    lambda: nn.AdamW(nn.schedules.CosineDecay(0.01, 30), weight_decay=0.01, global_clipnorm=1.0),
    lambda: nn.Adagrad(0.01),
]


@st.composite
def models(draw):
    """A graph of up to eight layers of any kind, called on what there is so far."""
    number = st.integers(0, 11)
    shape = draw(st.sampled_from([(6,), (6, 4), (6, 6, 3)]))
    source = nn.Input(shape)
    tensors, made, names = [source], [], set()
    for _ in range(draw(st.integers(1, 8))):
        kind, n = draw(st.sampled_from([*sorted(UNARY), *JOINS, "again", "bare"])), draw(number)
        x = tensors[draw(number) % len(tensors)]
        try:
            if kind == "bare":
                y = nn.ops.tanh(x * 1.5 + nn.ops.square(x))
            elif kind == "again" and made:
                y = made[n % len(made)](x)
            elif kind in JOINS:
                alike = [t for t in tensors if t.shape == x.shape]
                y = getattr(layers, kind)()([x, alike[n % len(alike)]])
            else:
                layer = UNARY[kind if kind in UNARY else "Dense"](n)
                name = draw(st.sampled_from(NAMES))
                if name is not None and name not in names:
                    layer.name, layer._named = name, True
                y = layer(x)
                names.add(name)
                made.append(layer)
        except (TypeError, ValueError):  # a layer of another rank, or a size that is used up
            continue
        if len(y.shape) >= 2 and all(size is None or size <= 40 for size in y.shape):
            tensors.append(y)
    if len(tensors) == 1:
        tensors.append(layers.Dense(3)(source))
    ends = [layers.Dense(2)(layers.Flatten()(t)) for t in tensors[-2:] if t is not source]
    model = nn.Model(source, ends[0] if len(ends) == 1 else layers.Add()(ends))
    frozen = draw(st.sets(st.integers(0, 20), max_size=3))
    return model, shape, draw(st.sampled_from(OPTIMIZERS)), frozen, draw(st.booleans())


def digest(net):
    return hashlib.sha256(b"".join(w.tobytes() for w in net.get_weights())).hexdigest()


FRESH = """
import hashlib, os, sys
sys.path.insert(0, sys.argv[1])
import numpy as np, nnpy as nn, own
for path in sys.stdin:
    read, write = os.pipe()
    if os.fork() == 0:                      # in a process that has made no model
        net = nn.load_model(path.strip() + ".safetensors")
        x, y = (np.load(f"{path.strip()}.{name}.npy") for name in "xy")
        net.fit(x, y, batch_size=8, epochs=2, verbose=0)
        text = hashlib.sha256(b"".join(w.tobytes() for w in net.get_weights())).hexdigest()
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    os.wait()
    print(os.read(read, 100).decode() or "died", flush=True)
    os.close(read)
"""


@pytest.fixture(scope="module")
def fresh():
    """A process that imports nnpy once, and forks for each model."""
    process = subprocess.Popen(
        [sys.executable, "-c", FRESH, str(SUPPORT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "NNCORE_CACHE_DIR": ""},
    )  # fmt: skip

    def ask(path):
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    yield ask
    process.stdin.close()
    process.wait()


@pytest.mark.filterwarnings("ignore::nnpy.AdviceWarning")  # of layers that were frozen when it was compiled
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=models(), seed=st.integers(0, 9))
def test_random_models_go_on_with_the_same_bits(made, seed, fresh, tmp_path_factory):
    net, shape, optimizer, frozen, thaw = made
    path = tmp_path_factory.getbasetemp() / "random"
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(20, *shape)).astype("f4")
    y = rng.normal(size=(20, 2)).astype("f4")
    for name, array in (("x", x), ("y", y)):
        np.save(f"{path}.{name}.npy", array)
    inside = net.walk()[1:]
    for number in frozen:
        inside[number % len(inside)].trainable = False
    net.compile(optimizer(), "mse", seed=seed)
    net.fit(x, y, batch_size=8, epochs=2, verbose=0)
    if thaw:
        for number in frozen:
            inside[number % len(inside)].trainable = True
    net.save(f"{path}.safetensors")
    copies = [nn.load_model(f"{path}.safetensors"), copy.deepcopy(net)]
    for again in copies:
        assert digest(again) == digest(net)
        assert [layer.trainable for layer in again.walk()] == [layer.trainable for layer in net.walk()]
        assert again.predict(x).tobytes() == net.predict(x).tobytes()
    for model in (net, *copies):
        model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert [digest(again) for again in copies] == [digest(net)] * 2
    assert fresh(path) == digest(net)
    assert json.dumps(copies[0].history.history) == json.dumps(net.history.history)
