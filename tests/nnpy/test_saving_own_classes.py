"""Files of models with classes of users' own: what comes back, and what is refused when it is saved."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from own import OwnBlock, OwnCareless, OwnCoded, OwnStack, OwnWired, plain
from saved import bits, small

import nnpy as nn


class Scale(nn.Layer):
    """A layer of the user's own."""

    def __init__(self, power, name=None):
        super().__init__(name=name)
        self.power = power

    def build(self, input_shape):
        self.offset = self.add_weight((input_shape[-1],), "zeros", "offset")

    def call(self, x):
        for _ in range(self.power):
            x = nn.ops.square(x)
        return nn.ops.add(x, self.offset)


def test_own_layers_and_activations(rng, tmp_path):
    path = tmp_path / "net.safetensors"
    bent = nn.activations.custom(lambda x: x * x * 0.5, lambda x: x, name="bent_for_saving")
    net = nn.Sequential([nn.Input((3,)), Scale(2, name="scale"), nn.Dense(2, activation=bent)])
    x = rng.normal(size=(4, 3))
    net.save(path)
    assert np.array_equal(nn.load_model(path).predict(x), net.predict(x))
    nameless = nn.activations.custom(lambda x: x, lambda x: 1.0)
    net = nn.Sequential([nn.Input((3,)), nn.Dense(2, activation=nameless, name="odd")])
    with pytest.raises(TypeError, match=r"cannot be saved: .*Dense 'odd'.*needs a name of its own.*save_weights"):
        net.save(path)
    net.save_weights(path)


def test_what_json_cannot_hold(tmp_path):
    net = small()
    net.compile(nn.SGD(lambda step: 0.1), "mse")
    with pytest.raises(TypeError, match="cannot be saved"):
        net.save(tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"ends in .safetensors, got '.*net.h5'"):
        small().save(tmp_path / "net.h5")
    assert list(tmp_path.iterdir()) == []


OWN = {
    "layers in a layer": lambda: nn.Sequential([nn.Input((5,)), nn.Dense(4), OwnBlock(4), OwnBlock(4), nn.Dense(2)]),
    "made when called": lambda: nn.Sequential([OwnCareless(), OwnCareless(), nn.Dense(2)]),
    "code": lambda: OwnCoded(3),
    "code in a model": lambda: nn.Sequential([nn.Input((5,)), OwnCoded(3, seed=3), nn.Dense(2)]),
    "a stack": lambda: OwnStack(3),
    "wired": lambda: OwnWired(3),
    "plain": plain,
}
OTHER_PROCESS = """
import sys
sys.path.insert(0, {folder!r})
import numpy as np, nnpy as nn, own
x = np.load("x.npy")
net = nn.load_model("net.safetensors")
net.fit(x, x[:, :2], batch_size=16, verbose=0)
print(b"".join(w.tobytes() for w in net.get_weights()).hex())
"""


@pytest.mark.parametrize("kind", OWN)
def test_own_classes_come_back_whatever_was_made_before(kind, rng, tmp_path):
    """Here, where many models were made, and in a process where none was."""
    x = rng.normal(size=(50, 5)).astype("f4")
    np.save(tmp_path / "x.npy", x)
    nn.set_seed(3)
    net = OWN[kind]()
    net.compile("adam", "mse")
    net.fit(x, x[:, :2], batch_size=16, verbose=0)
    path = net.save(tmp_path / "net.safetensors")
    nn.set_seed(0)
    copies = [nn.load_model(path), copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    net.fit(x, x[:, :2], batch_size=16, verbose=0)
    for again in copies:
        assert type(again) is type(net) and again.seed == net.seed
        again.fit(x, x[:, :2], batch_size=16, verbose=0)
        assert bits(again) == bits(net)
    code = OTHER_PROCESS.format(folder=str(Path(__file__).parents[1] / "support"))
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert bytes.fromhex(found.stdout) == b"".join(bits(net))


def test_arguments_of_own_classes_keep_their_types(tmp_path):
    table = {1: np.arange(3, dtype="int16"), "a": (1, [2.5, (None,)])}
    net = nn.Sequential([nn.Input((5,)), OwnBlock(4, (1.0, 3.0), table), nn.Dense(2)])
    again = nn.load_model(net.save(tmp_path / "net.safetensors")).layers[0]
    assert again.sizes == (1.0, 3.0) and again.table["a"] == (1, [2.5, (None,)])
    assert again.table[1].dtype == np.int16 and np.array_equal(again.table[1], np.arange(3))
    assert OwnBlock.from_config(net.layers[0].get_config()).sizes == (1.0, 3.0)


class OwnGrows(nn.Layer):
    """Made of its configuration it is another one."""

    def __init__(self, units):
        super().__init__()
        self.units = units + 1
        self.inside = nn.Dense(self.units)

    def call(self, x):
        return self.inside(x)


class OwnWants(nn.Layer):
    def __init__(self, units, other):
        super().__init__()
        self.units = units

    def call(self, x):
        return x * float(self.units)

    def get_config(self):
        return {"units": self.units}


class OwnRate(nn.Layer):
    def __init__(self, kept):
        super().__init__()
        self.kept = kept

    def call(self, x):
        return x


@pytest.mark.parametrize(
    "layer, text",
    [
        (lambda: OwnGrows(3), "it has other weights|is not in the file"),
        (lambda: OwnWants(3, 4), "of its configuration again: OwnWants: expected a configuration with other"),
        (lambda: OwnRate({1, 2}), "OwnRate.kept: cannot be written as JSON: set"),
    ],
)
def test_what_cannot_be_made_again_is_refused_when_saved(layer, text, tmp_path):
    """Before training too, where a checkpoint would fail; and the error says what can be done."""
    path = tmp_path / "net.safetensors"
    net = nn.Sequential([nn.Input((5,)), layer(), nn.Dense(2)])
    with pytest.raises(TypeError, match=rf"cannot be saved: .*({text}).*load_weights\(\) once the model is built"):
        net.save(path)
    net.compile("adam", "mse")
    x = np.zeros((4, 5))
    with pytest.raises(TypeError, match=r"ModelCheckpoint: .*save_weights_only"):
        net.fit(x, x[:, :2], callbacks=nn.ModelCheckpoint(path), verbose=0)
    net.save_weights(path)
    net.load_weights(path)


def test_what_is_frozen_inside_of_own_layers(rng, tmp_path):
    x = rng.normal(size=(40, 5)).astype("f4")
    net = nn.Sequential([nn.Input((5,)), OwnBlock(4), nn.Dense(2)])
    block = net.layers[0]
    block.first.trainable = False
    net.compile("adam", "mse")
    net.fit(x, x[:, :2], verbose=0)
    block.many[1]["norm"].trainable = False
    block.first.trainable = True
    block.scale.trainable = False
    again = nn.load_model(net.save(tmp_path / "net.safetensors"))
    for model in (again, copy.deepcopy(net)):
        inside = model.layers[0]
        found = [inside.trainable, inside.first.trainable, inside.many[1]["norm"].trainable, inside.scale.trainable]
        assert found == [True, True, False, False]
    for model in (net, again):
        model.fit(x, x[:, :2], verbose=0)
    assert bits(again) == bits(net)
    for model in (net, again):
        model.compile(model.optimizer, "mse")
        model.fit(x, x[:, :2], verbose=0)
    assert bits(again) == bits(net)
