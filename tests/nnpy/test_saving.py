"""Files: what is saved comes back bit for bit, training goes on as if it had not stopped, damage is told."""

import copy
import errno
import json
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from own import OwnBlock, OwnCareless, OwnCoded, OwnStack, OwnWired, plain
from safetensors import safe_open
from safetensors.numpy import save_file

import nnpy as nn
from nnpy.graph import Node


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


@pytest.mark.parametrize(
    "optimizer", [None, "sgd", nn.SGD(0.01, momentum=0.9, nesterov=True), nn.Adam(0.01, clipvalue=0.5)]
)
def test_training_goes_on_as_if_it_had_not_stopped(rng, tmp_path, optimizer):
    x, y = data(rng)
    nn.set_seed(9)
    net = compiled(optimizer)
    net.fit(x, y, batch_size=16, epochs=2, verbose=0)
    assert net.save(tmp_path / "net.safetensors") == tmp_path / "net.safetensors"
    nn.set_seed(0)
    again = nn.load_model(tmp_path / "net.safetensors")
    for a, b in zip(net.predict(x), again.predict(x), strict=True):
        assert np.array_equal(a, b)
    assert net.evaluate(x, y, verbose=0, return_dict=True) == again.evaluate(x, y, verbose=0, return_dict=True)
    assert again.settings.seed == 9 and again.name == "net"
    for model in (net, again):
        model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    for a, b in zip(net.get_weights(), again.get_weights(), strict=True):
        assert np.isfinite(a).all() and np.array_equal(a, b)
    assert net.history.history == again.history.history and again.history.params["seed"] == 9
    text, second = [], []
    net.summary(print_fn=text.append)
    again.summary(print_fn=second.append)
    assert text == second


def test_structure_alone(rng, tmp_path):
    """A model that was not compiled, lazily built, in float64, with a frozen layer."""
    nn.set_floatx("float64")
    try:
        norm = nn.BatchNormalization(name="bn")
        net = nn.Sequential([nn.Dense(5, name="d"), norm, nn.Dense(2, name="e")], name="deep")
        with pytest.raises(ValueError, match="not built"):
            net.save(tmp_path / "net.safetensors")
        net.build((None, 3))
    finally:
        nn.set_floatx("float32")
    net.get_layer("d").trainable = False
    net.set_weights([rng.normal(size=w.shape) ** 2 for w in net.get_weights()])
    net.save(tmp_path / "net.safetensors")
    again = nn.load_model(str(tmp_path / "net.safetensors"))
    x = rng.normal(size=(7, 3))
    assert np.array_equal(net.predict(x), again.predict(x)) and again.predict(x).dtype == np.float64
    assert [w.name for w in again.trainable_weights] == [w.name for w in net.trainable_weights]
    assert not again.compiled


def test_permissions(tmp_path):
    """As for any file that is written: a new one follows the umask, one that is replaced keeps its own."""
    path, history = tmp_path / "net.safetensors", tmp_path / "history.json"
    before = os.umask(0o027)
    try:
        network().save(path)
        nn.History().save(history)
    finally:
        os.umask(before)
    assert [file.stat().st_mode & 0o777 for file in (path, history)] == [0o640, 0o640]
    path.chmod(0o444)
    network().save(path)
    assert path.stat().st_mode & 0o777 == 0o444


def test_weights_alone(rng, tmp_path):
    path = tmp_path / "w.safetensors"
    net, other = compiled(), compiled()
    x, y = data(rng)
    net.fit(x, y, verbose=0)
    net.save_weights(path)
    other.load_weights(path)
    assert all(np.array_equal(a, b) for a, b in zip(net.get_weights(), other.get_weights(), strict=True))
    with pytest.raises(ValueError, match="holds weights alone, no model"):
        nn.load_model(path)
    net.save(tmp_path / "net.safetensors")
    net.set_weights([w * 0 for w in net.get_weights()])
    net.load_weights(tmp_path / "net.safetensors")
    assert all(np.array_equal(a, b) for a, b in zip(net.get_weights(), other.get_weights(), strict=True))


def test_weights_of_layers_with_other_automatic_names(rng, tmp_path):
    nets = [nn.Sequential([nn.Input((3,)), nn.Dense(4), nn.Dense(2)]) for _ in range(2)]
    assert nets[0].weights[0].name != nets[1].weights[0].name
    nets[0].save_weights(tmp_path / "w.safetensors")
    nets[1].load_weights(tmp_path / "w.safetensors")
    assert all(np.array_equal(a, b) for a, b in zip(nets[0].get_weights(), nets[1].get_weights(), strict=True))


def test_two_nested_models_with_equal_names(rng, tmp_path):
    def part(name):
        return nn.Sequential([nn.Input((3,)), nn.Dense(3, name="dense")], name=name)

    source = nn.Input((3,))
    net = nn.Model(source, part("one")(source) + part("two")(source))
    net.save(tmp_path / "net.safetensors")
    x = rng.normal(size=(4, 3))
    assert np.array_equal(nn.load_model(tmp_path / "net.safetensors").predict(x), net.predict(x))


def small(units=4):
    return nn.Sequential([nn.Input((3,)), nn.Dense(units, name="hidden"), nn.Dense(2, name="out")], name="small")


def test_what_does_not_fit_is_told_and_changes_nothing(tmp_path):
    path = tmp_path / "w.safetensors"
    small().save_weights(path)
    net = small(5)
    before = net.get_weights()
    with pytest.raises(
        ValueError, match=r"w.safetensors: Dense 'hidden': expected hidden/kernel of shape \(3, 5\), got \(3, 4\)"
    ):
        net.load_weights(path)
    last = nn.Dense(2, name="out", use_bias=False)
    net = nn.Sequential([nn.Input((3,)), nn.Dense(4, name="hidden"), last], name="small")
    with pytest.raises(ValueError, match=r"does not fit Sequential 'small': the file has also out/bias"):
        net.load_weights(path)
    net = nn.Sequential(
        [nn.Input((3,)), nn.Dense(4, name="hidden"), nn.Dense(2, name="out"), nn.Dense(2, name="more")], name="small"
    )
    with pytest.raises(ValueError, match=r"the file lacks more/kernel, more/bias"):
        net.load_weights(path)
    net = small(5)
    net.set_weights(before)
    with pytest.raises(ValueError):
        net.load_weights(path)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))


def test_damaged_and_foreign_files(tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match="no file"):
        nn.load_model(path)
    path.write_bytes(b"this is not one")
    with pytest.raises(ValueError, match=r"net.safetensors: not a safetensors file, or a damaged one"):
        nn.load_model(path)
    small().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="damaged"):
        nn.load_model(path)
    save_file({"hidden/kernel": np.zeros((3, 4), "f4")}, path)
    with pytest.raises(ValueError, match="holds weights alone"):
        nn.load_model(path)
    with pytest.raises(ValueError, match="the file lacks hidden/bias, out/kernel, out/bias"):
        small().load_weights(path)


def edited(path, change):
    """Rewrite the JSON of a saved model."""
    with safe_open(path, framework="np") as file:
        value = json.loads(file.metadata()["nnpy"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(value)
    save_file(tensors, path, {"nnpy": json.dumps(value)})


def test_files_of_other_versions_and_unknown_layers(tmp_path):
    path = tmp_path / "net.safetensors"
    small().save(path)
    edited(path, lambda value: value.update(format=99))
    with pytest.raises(ValueError, match="expected format 4, got 99"):
        nn.load_model(path)
    small().save(path)
    edited(path, lambda value: value["layers"][2].update({"class": "layer/Nowhere"}))
    with pytest.raises(ValueError, match=r"cannot make its model: unknown layer 'Nowhere'"):
        nn.load_model(path)


def _drop(*names):
    def change(value):
        for name in names[:-1]:
            value = value[name]
        del value[names[-1]]

    return change


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda value: value.update(dtype="int8"), "expected dtype 'float32' or 'float64', got 'int8'"),
        (lambda value: value.update(layers=value["layers"][2:3]), "expected a model, got Dense"),
        (lambda value: value.update(layers=[]), "make its model: expected a list of 1 to 20000 layers, got 0 of them"),
        (lambda value: value.update(layers=[3] * 30_000), "expected a list of 1 to 20000 layers, got 30000 of them"),
        (_drop("layers", 0, "config", "name"), "Sequential: expected its configuration to have .* got no 'name'"),
        (_drop("position", "seed"), "cannot compile its model: 'seed' is missing"),
        (lambda value: value["position"].update(update=-1), "cannot compile its model: position: expected update"),
        (_drop("settings", "optimizer"), "cannot compile its model"),
    ],
)
def test_damaged_metadata(change, text, tmp_path):
    path = tmp_path / "net.safetensors"
    net = small()
    net.compile("adam", "mse")
    net.fit(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0)
    net.save(path)
    edited(path, change)
    with pytest.raises(ValueError, match=text) as caught:
        nn.load_model(path)
    assert str(path) in str(caught.value)


def test_metadata_that_are_no_object(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file({"hidden/kernel": np.zeros((3, 4), "f4")}, path, {"nnpy": "[]"})
    with pytest.raises(ValueError, match="its metadata are no JSON object"):
        nn.load_model(path)


def test_plain_safetensors_from_elsewhere(tmp_path):
    path = tmp_path / "w.safetensors"
    net = small()
    arrays = {p.name: np.full(p.shape, 0.5, "f4") for p in net.weights}
    save_file(arrays, path)
    net.load_weights(path)
    assert all(np.all(w == 0.5) for w in net.get_weights())


def test_layers_named_as_what_is_in_files(rng, tmp_path):
    """As the optimizer and its slots."""
    path = tmp_path / "net.safetensors"
    net = nn.Sequential([nn.Input((3,)), nn.Dense(4, name="optimizer"), nn.Dense(2, name="momentum")])
    net.compile("adam", "mse")
    x = rng.normal(size=(8, 3))
    net.fit(x, x[:, :2], verbose=0)
    net.save(path)
    again = nn.load_model(path)
    for model in (net, again):
        model.fit(x, x[:, :2], verbose=0)
    assert bits(again) == bits(net)


def bits(net):
    return [w.tobytes() for w in net.get_weights()]


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


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_and_pickles_go_on_as_the_original(rng, copied):
    x, y = data(rng)
    nn.set_seed(9)
    net = compiled()
    nn.set_seed(0)
    net.fit(x, y, batch_size=16, verbose=0)
    other = copied(net)
    assert other.name == net.name and other.history is None and other.settings.seed == 9
    before = net.get_weights()
    other.fit(x, y, batch_size=16, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))
    net.fit(x, y, batch_size=16, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(other.get_weights(), net.get_weights(), strict=True))
    history = pickle.loads(pickle.dumps(net.history))
    assert history.to_dict() == net.history.to_dict() and history.model is None and net.history.model is net


def test_copies_of_what_was_not_trained_or_built(rng):
    x = rng.normal(size=(4, 3))
    lazy = nn.Sequential([nn.Dense(2)], name="lazy")
    lazy.compile("sgd", "mse")
    other = copy.deepcopy(lazy)
    assert not other.built and other.compiled and other.predict(x).shape == (4, 2) and not lazy.built
    net = nn.Sequential([nn.Input((3,)), nn.Dense(2)])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(net)).predict(x), net.predict(x))
    layer = copy.deepcopy(net.layers[0])
    layer.kernel.value[:] = 0
    assert np.abs(net.layers[0].kernel.value).max() > 0 and not hasattr(layer, "output")


def test_copying_draws_no_random_numbers():
    weights = []
    for copies in (0, 2):
        nn.set_seed(5)
        net = network()
        for _ in range(copies):
            copy.deepcopy(net)
        weights.append(network().get_weights())
    nn.set_seed(0)
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


def test_code_is_not_copied(rng):
    class Coded(nn.Model):
        def __init__(self, factor):
            super().__init__()
            self.times = factor

        def call(self, x):
            return x * self.times

    net = network()
    net.compile(nn.SGD(lambda step: 0.1), {"x": "mse"})
    for made in (Coded(2.0), net):
        for copied in (copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot be copied or pickled: "):
                copied(made)


@pytest.fixture
def small_files():
    """As on a full disk: files cannot grow beyond 1,000,000 bytes, which what pytest writes is far from."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path, small_files):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"earlier")
    net = nn.Sequential([nn.Input((600,)), nn.Dense(600)])
    for save in (net.save, net.save_weights):
        with pytest.raises(OSError, match=r"^cannot write .*net.safetensors: File too large$") as error:
            save(path)
        assert error.value.errno == errno.EFBIG
    history = nn.History()
    history.history["loss"] = [0.125] * 200_000
    with pytest.raises(OSError, match=r"^History: cannot write .*h.json: File too large$"):
        history.save(tmp_path / "h.json")
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"] and path.read_bytes() == b"earlier"


def test_what_json_cannot_hold(tmp_path):
    net = small()
    net.compile(nn.SGD(lambda step: 0.1), "mse")
    with pytest.raises(TypeError, match="cannot be saved"):
        net.save(tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"ends in .safetensors, got '.*net.h5'"):
        small().save(tmp_path / "net.h5")
    assert list(tmp_path.iterdir()) == []


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    net = small()
    net.save(path)
    before = path.read_bytes()
    net.set_weights([w * 0 for w in net.get_weights()])

    def full(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        net.save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]
    net.save(path)
    assert not nn.load_model(path).get_weights()[0].any()


def test_the_name_of_the_input_is_kept(tmp_path):
    net = nn.Sequential([nn.Input((4,), name="pixels"), nn.Dense(2)])
    net.save(tmp_path / "net.safetensors")
    again = nn.load_model(tmp_path / "net.safetensors")
    x = np.ones((3, 4))
    assert again.input_names == ["pixels"]
    np.testing.assert_array_equal(again.predict({"pixels": x}), net.predict({"pixels": x}))


def test_a_part_of_the_optimizers_state_is_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    net = small()
    net.compile("adam", "mse", loss_weights=[np.float32(0.5)])
    net.fit(np.ones((4, 3)), np.zeros((4, 2)), verbose=0)
    net.save(path)
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys() if "velocity" not in name}  # noqa: SIM118
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match="the file lacks /optimizer/velocity/hidden/bias, /optimizer/"):
        nn.load_model(path)


def test_operations_outside_of_layers(tmp_path, rng):
    """Slices, joins, reductions, comparisons, constants, what depends on the batch's size, and random numbers."""
    x = nn.Input((6,))
    h = nn.Dense(6)(x)
    parts = nn.ops.split(nn.ops.reshape(h, (-1, 3, 2)), 3, axis=1)
    y = nn.ops.squeeze(nn.ops.transpose(nn.ops.concatenate(parts[::-1], 2), (0, 2, 1)), 2)[:, ::-1]
    y = nn.ops.where(y > 0, y, np.arange(6) / 7) - nn.ops.mean(h, axis=0, keepdims=True)
    y = nn.ops.dropout(nn.ops.clip(y, -1, 1) / nn.ops.norm(y, axis=-1, keepdims=True), 0.25)
    y = y * nn.ops.cast(nn.ops.not_equal(nn.ops.argmax(y, -1, keepdims=True), 2), "float32") + nn.ops.full((6,), 0.5)
    net = nn.Model(x, y)
    net.save(tmp_path / "net.safetensors")
    again = nn.load_model(tmp_path / "net.safetensors")
    data = rng.normal(size=(8, 6)).astype("float32")
    np.testing.assert_array_equal(again.predict(data), net.predict(data))
    assert [call.operation.name for call in again.structure.calls if isinstance(call, Node)] == [
        call.operation.name for call in net.structure.calls if isinstance(call, Node)
    ]
    for model in (net, again):
        model.compile("sgd", "mse")
    assert again.train_on_batch(data, data) == pytest.approx(net.train_on_batch(data, data))


def test_operations_that_no_file_holds(tmp_path):
    x = nn.Input((6,))
    net = nn.Model(x, nn.ops.custom(x, lambda x: x * x, lambda x: 2 * x))
    with pytest.raises(TypeError, match="cannot store the operation 'custom' outside of a layer: make it a Layer"):
        net.save(tmp_path / "net.safetensors")


# What a user's own classes hold


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


def test_a_name_that_no_path_can_have(tmp_path):
    net = small()
    net.layers[0].name = "a/b"  # which the constructor refuses
    with pytest.raises(TypeError, match=r"Dense 'a/b': .*expected a name that has no '/'"):
        net.save(tmp_path / "net.safetensors")


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


@pytest.mark.parametrize("trained", [False, True])
def test_frozen_compiled_unfrozen_and_saved(trained, rng, tmp_path):
    x = rng.normal(size=(40, 3)).astype("f4")
    net = small()
    net.layers[0].trainable = False
    net.compile("adam", "mse")
    if trained:
        net.fit(x, x[:, :2], verbose=0)
    net.layers[0].trainable = True
    again = nn.load_model(net.save(tmp_path / "net.safetensors"))
    assert again.layers[0].trainable
    for model in (net, again):
        model.fit(x, x[:, :2], verbose=0)
    assert bits(again) == bits(net)


def test_compiled_again_and_saved_before_training(rng, tmp_path):
    """With the same optimizer, which goes on with what it knows."""
    x = rng.normal(size=(40, 3)).astype("f4")
    net = small()
    net.compile("adam", "mse")
    net.fit(x, x[:, :2], verbose=0)
    net.layers[0].trainable = False
    net.compile(net.optimizer, "mse")
    again = nn.load_model(net.save(tmp_path / "net.safetensors"))
    for model in (net, again):
        model.fit(x, x[:, :2], verbose=0)
    assert bits(again) == bits(net)


@pytest.mark.parametrize("layer", [nn.ZeroPadding1D(1), nn.ZeroPadding1D((1, 2)), nn.Cropping1D((0, 1))])
def test_sides_of_sequences(layer, rng, tmp_path):
    """Which are kept as a pair for each of one axis."""
    x = rng.normal(size=(2, 5, 3))
    net = nn.Sequential([nn.Input((5, 3)), layer])
    again = nn.load_model(net.save(tmp_path / "net.safetensors"))
    assert np.array_equal(again.predict(x), net.predict(x))
