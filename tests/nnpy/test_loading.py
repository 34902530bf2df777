"""Loading: what a file says is checked before it is believed; weights find their layers; what is missing stops no more
than it must."""

import json
import tracemalloc

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import nnpy as nn
from nnpy import seeds


def bits(net):
    return [w.tobytes() for w in net.get_weights()]


@pytest.fixture
def said(recwarn):
    """The advice that was given since this was asked the last time."""

    def texts():
        found = [str(warning.message) for warning in recwarn if warning.category is nn.AdviceWarning]
        recwarn.clear()
        return found

    return texts


def edited(path, change):
    """Rewrite the JSON of a saved model."""
    with safe_open(path, framework="np") as file:
        value = json.loads(file.metadata()["nnpy"])
    change(value)
    save_file(load_file(path), path, {"nnpy": json.dumps(value)})


def small():
    net = nn.Sequential([nn.Input((3,)), nn.Dense(4), nn.Dense(2)])
    net.compile("adam", "mse")
    return net


# Weights and their layers


def branches(join, *parts):
    """Dense layers side by side, of these activations, in the order in which they are joined."""
    source = nn.Input((5,))
    made = {kind: nn.Dense(4, activation=kind)(source) for kind in sorted(parts)}
    return nn.Model(source, nn.Dense(2)(join()([made[kind] for kind in parts])))


def test_branches_made_in_another_order(rng, tmp_path, said):
    """The graph is the same, and so are the functions."""
    x = rng.normal(size=(7, 5))
    source = nn.Input((5,))
    right, left = nn.Dense(4)(source), nn.Dense(4)(source)
    first = nn.Model(source, nn.Dense(2)(nn.Concatenate()([left, right])))
    source = nn.Input((5,))
    left, right = nn.Dense(4)(source), nn.Dense(4)(source)
    second = nn.Model(source, nn.Dense(2)(nn.Concatenate()([left, right])))
    second.load_weights(first.save_weights(tmp_path / "w.safetensors"))
    assert np.array_equal(first.predict(x), second.predict(x)) and not said()


def test_branches_that_commute_are_told_apart_by_what_they_are(rng, tmp_path, said):
    x = rng.normal(size=(7, 5))
    first, second = branches(nn.Add, "tanh", "relu"), branches(nn.Add, "relu", "tanh")
    second.load_weights(first.save(tmp_path / "w.safetensors"))
    np.testing.assert_allclose(first.predict(x), second.predict(x), rtol=1e-6)
    assert not said()


def test_branches_that_cannot_be_told_apart_are_refused(tmp_path):
    """Joined in another order: each has the place of the other."""
    first, second = branches(nn.Concatenate, "tanh", "relu"), branches(nn.Concatenate, "relu", "tanh")
    before = bits(second)
    with pytest.raises(ValueError, match=r"w.safetensors: does not fit Model .*has the place of.*name="):
        second.load_weights(first.save_weights(tmp_path / "w.safetensors"))
    assert bits(second) == before


def stack(*layers):
    return nn.Sequential([nn.Input((8,)), *layers])


def test_layers_without_weights_may_differ(rng, tmp_path, said):
    first = stack(nn.Dense(8), nn.Dropout(0.5), nn.Dense(8, activation="relu"), nn.Dense(8))
    second = stack(
        nn.Dense(8, kernel_regularizer="l2"), nn.Dense(8), nn.Activation("relu"), nn.Dropout(0.1), nn.Dense(8)
    )
    second.load_weights(first.save_weights(tmp_path / "w.safetensors"))
    assert bits(second) == bits(first) and not said()


def skipping(*layers):
    """The layers one after the other, and around the second a way past it."""
    source = nn.Input((8,))
    first = layers[0](source)
    y = nn.Add()([first, layers[1](first)])
    for layer in layers[2:]:
        y = layer(y)
    return nn.Model(source, y)


def test_what_is_matched_by_position_is_told(tmp_path, said):
    """A way past a layer changes the place of all; where no two have one shape it cannot be mistaken."""
    path = tmp_path / "w.safetensors"
    first = stack(nn.Dense(4), nn.Activation("tanh"), nn.Dense(3), nn.Dense(2, name="named"))
    second = skipping(nn.Dense(4), nn.Activation("tanh"), nn.Dense(3), nn.Dense(2, name="named"))
    second.load_weights(first.save_weights(path))
    assert bits(second) == bits(first)
    text = "by position alone, as the layers have no names of their own: dense/kernel, dense/bias, dense_1/kernel"
    (line,) = said()
    assert text in line and "named/kernel" not in line
    first = stack(nn.Dense(8), nn.Dense(8), nn.Dense(3))
    second = skipping(nn.Dense(8), nn.Dense(8), nn.Dense(3))
    before = bits(second)
    with pytest.raises(ValueError, match=r"another structure: dense/kernel, dense_1/kernel have one shape and another"):
        second.load_weights(first.save_weights(path))
    assert bits(second) == before


def test_named_layers_are_found_wherever_they_are(tmp_path, said):
    first = stack(nn.Dense(8, name="a"), nn.Dense(8, name="b"))
    second = stack(nn.Dense(8, name="b"), nn.Dropout(0.5), nn.Dense(8, name="a"))
    second.load_weights(first.save_weights(tmp_path / "w.safetensors"))
    assert bits(second) == [*bits(first)[2:], *bits(first)[:2]] and not said()


def test_files_from_elsewhere_are_matched_by_position(tmp_path, said):
    path = tmp_path / "w.safetensors"
    arrays = {"dense/kernel": np.ones((8, 4), "f4"), "dense/bias": np.ones(4, "f4"), "b/kernel": np.ones((4, 2), "f4")}
    save_file(arrays | {"b/bias": np.ones(2, "f4")}, path)
    net = stack(nn.Dense(4), nn.Dense(2, name="b"))
    net.load_weights(path)
    assert all(np.all(w == 1) for w in net.get_weights())
    assert "by position alone, as the layers have no names of their own: dense/kernel, dense/bias" in "".join(said())


def test_all_weights_change_or_none(tmp_path):
    """The seventh of eight has a type that NumPy lacks; bfloat16 is read."""
    path = tmp_path / "w.safetensors"
    net = nn.Sequential([nn.Input((3,)), *[nn.Dense(3, name=f"d{i}") for i in range(4)]])
    net.save_weights(path)
    length = int.from_bytes(path.read_bytes()[:8], "little")
    header, data = json.loads(path.read_bytes()[8 : 8 + length]), path.read_bytes()[8 + length :]
    kernel = header["d3/kernel"]
    start, end = kernel["data_offsets"]

    def rewrite(kind, content):
        header["d3/kernel"] = {**kernel, "dtype": kind, "data_offsets": [start, start + len(content)]}
        for entry in header.values():
            if "data_offsets" in entry and entry["data_offsets"][0] >= end:
                entry["data_offsets"] = [offset + len(content) - (end - start) for offset in entry["data_offsets"]]
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[:start] + content + data[end:])

    original = bits(net)
    net.set_weights([w + 1 for w in net.get_weights()])
    before = bits(net)
    saved = path.read_bytes()
    rewrite("F8_E5M2", bytes(9))
    with pytest.raises(ValueError, match=r"w.safetensors: d3/kernel: expected one of F64.*got F8_E5M2"):
        net.load_weights(path)
    assert bits(net) == before
    path.write_bytes(saved)
    header = json.loads(saved[8 : 8 + length])
    rewrite("BF16", (np.frombuffer(data[start:end], "u4") >> 16).astype("u2").tobytes())
    net.load_weights(path)
    assert bits(net)[:6] == original[:6]
    np.testing.assert_allclose(net.layers[3].kernel.numpy(), np.frombuffer(original[6], "f4").reshape(3, 3), rtol=0.01)


# Names


JOINED = {
    "a new head on its layers": lambda nets: nn.Sequential([nn.Input((5,)), *nets[0].layers[:-1], nn.Dense(2)]),
    "without an Input": lambda nets: nn.Sequential([*nets[0].layers[:-1], nn.Dense(2)]),
    "from the middle": lambda nets: nn.Model(nets[0].input, nn.Dense(2)(nets[0].layers[-2].output)),
    "a second head": lambda nets: nn.Model(
        nets[0].input, nn.Add()([nets[0].output, nn.Dense(2)(nets[0].layers[-2].output)])
    ),
    "the average of three": lambda nets: averaged(nets),
    "graphs side by side": lambda nets: nn.Model(
        [net.input for net in nets], nn.Average()([net.output for net in nets])
    ),
    "one after the other": lambda nets: nn.Sequential([nn.Input((5,)), nets[0], nn.Dense(5), nets[1]]),
    "layers of two in one": lambda nets: nn.Sequential([nn.Input((5,)), *nets[0].layers, nn.Dense(5), *nets[1].layers]),
}


def averaged(nets):
    source = nn.Input((5,))
    return nn.Model(source, nn.Average()([net(source) for net in nets]))


@pytest.mark.parametrize("kind", JOINED)
def test_loaded_models_become_parts_of_others(kind, rng, tmp_path):
    """As in processes of their own, where all of them have the same automatic names."""
    x = rng.normal(size=(30, 5)).astype("f4")
    paths = []
    for number in range(3):
        nn.layers.module.reset_names()
        net = nn.Sequential([nn.Input((5,)), nn.Dense(4, activation="relu"), nn.Dense(4), nn.Dense(2)])
        paths.append(net.save(tmp_path / f"{number}.safetensors"))
    nn.layers.module.reset_names()
    net = JOINED[kind]([nn.load_model(path) for path in paths])
    net.compile("adam", "mse")
    data = [x] * 3 if kind == "graphs side by side" else x
    net.fit(data, x[:, :2], verbose=0)
    again = nn.load_model(net.save(tmp_path / "joined.safetensors"))
    for model in (net, again):
        model.fit(data, x[:, :2], verbose=0)
    assert bits(again) == bits(net)


# What is missing


@pytest.fixture
def forgotten():
    """Classes that nobody has defined any more when a file is loaded."""
    from nnpy import registry

    class Halved(nn.Layer):
        def __init__(self, factor=0.5):
            super().__init__()
            self.factor = factor

        def call(self, x):
            return x * self.factor

    class Cubed(nn.losses.Loss):
        def call(self, y_true, y_pred):
            return nn.ops.mean(nn.ops.abs(y_true - y_pred) ** 3, axis=-1)

    class Off(nn.metrics.MeanMetric):
        def call(self, y_true, y_pred):
            return nn.ops.mean(y_true - y_pred, axis=-1)

    classes = {"Halved": Halved, "Cubed": Cubed, "Off": Off}

    def forget():
        for name, found in classes.items():
            registry._classes[found.group].pop(name, None)
            registry._modules.pop((found.group, name), None)

    yield classes, forget
    forget()


def test_missing_losses_do_not_stop_predictions(forgotten, rng, tmp_path, said):
    classes, forget = forgotten
    x = rng.normal(size=(20, 3)).astype("f4")
    path = tmp_path / "net.safetensors"
    net = small()
    net.compile("adam", classes["Cubed"](), metrics=[classes["Off"]()])
    net.fit(x, x[:, :2], verbose=0)
    net.save(path)
    forget()
    again = nn.load_model(path)
    assert not again.compiled and np.array_equal(again.predict(x), net.predict(x))
    (line,) = said()
    assert "the model is not compiled: unknown loss 'Cubed' of the module 'test_loading'" in line
    assert "custom_objects={'Cubed': Cubed}" in line
    assert not nn.load_model(path, compile=False).compiled and not said()
    again = nn.load_model(path, custom_objects=classes)
    for model in (net, again):
        model.fit(x, x[:, :2], verbose=0)
    assert bits(again) == bits(net)
    other = small()
    other.load_weights(path)


def made_in(module, factor):
    """A layer class of one name, as another module defines it."""

    def call(self, x):
        return x * factor

    return type("Clashing", (nn.Layer,), {"__module__": module, "call": call})


def test_classes_of_one_name_in_two_modules(rng, tmp_path):
    """Each file goes on with its own; one of a third module is told to choose."""
    x = rng.normal(size=(4, 3)).astype("f4")
    one, other = made_in("first", 2.0), made_in("second", 3.0)
    paths = []
    for number, cls in enumerate((one, other)):
        net = nn.Sequential([nn.Input((3,)), cls()])
        paths.append(net.save(tmp_path / f"{number}.safetensors"))
        assert np.array_equal(nn.models.clone_model(net).predict(x), x * [2, 3][number])
    for path, cls, factor in zip(paths, (one, other), (2, 3), strict=True):
        again = nn.load_model(path)
        assert type(again.layers[0]) is cls and np.array_equal(again.predict(x), x * factor)
    again = made_in("first", 5.0)  # defined again, as in a notebook
    assert type(nn.load_model(paths[0]).layers[0]) is again
    edited(paths[0], lambda value: next(e for e in value["layers"] if "module" in e).update(module="third"))
    with pytest.raises(ValueError, match=r"of the module 'third': 'first' and 'second' have one each; .*custom_obj"):
        nn.load_model(paths[0])
    assert type(nn.load_model(paths[0], custom_objects={"Clashing": other}).layers[0]) is other


def test_missing_layers_are_told(forgotten, rng, tmp_path):
    classes, forget = forgotten
    x = rng.normal(size=(20, 3)).astype("f4")
    path = tmp_path / "net.safetensors"
    net = nn.Sequential([nn.Input((3,)), nn.Dense(4), classes["Halved"](0.25), nn.Dense(2)])
    net.save(path)
    forget()
    with pytest.raises(
        ValueError,
        match=r"net.safetensors: cannot make its model: unknown layer 'Halved' of the module 'test_loading': .*"
        r"imported.*custom_objects=\{'Halved': Halved\}",
    ):
        nn.load_model(path)
    with pytest.raises(TypeError, match=r"custom_objects: expected 'Halved' to be a class .* got "):
        nn.load_model(path, custom_objects={"Halved": 3})
    with pytest.raises(ValueError, match="unknown layer 'Halved'"):  # a loss is no layer
        nn.load_model(path, custom_objects={"Halved": classes["Cubed"]})
    again = nn.load_model(path, {"Halved": classes["Halved"]})
    assert again.layers[1].factor == 0.25 and np.array_equal(again.predict(x), net.predict(x))
    other = nn.Sequential([nn.Input((3,)), nn.Dense(4), nn.Dense(2)])
    other.load_weights(path)
    assert bits(other) == bits(net)


@pytest.mark.parametrize("name", ["layer/os.system", "layer/Popen", "builtins/eval", "/eval", "optimizer/SGD"])
def test_files_name_classes_and_run_nothing(name, tmp_path):
    path = small().save(tmp_path / "net.safetensors")
    before = set(__import__("sys").modules)

    def change(value):
        value["layers"][2] = {**value["layers"][2], "class": name, "module": "antigravity"}

    edited(path, change)
    with pytest.raises(ValueError, match=r"net.safetensors: cannot make its model: "):
        nn.load_model(path)
    assert set(__import__("sys").modules) == before


# What a file asks for


def test_weights_that_the_file_does_not_have_are_not_made(tmp_path):
    """A few hundred bytes that ask for 6 GB."""
    path = small().save(tmp_path / "net.safetensors")

    def change(value):
        value["layers"][2]["config"]["units"] = 500_000_000

    edited(path, change)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"Dense 'dense.*: kernel of shape \(3, 500000000\) is not in the file"):
        nn.load_model(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000_000


def test_a_shape_of_the_file_many_times(tmp_path):
    """Each layer asks for a weight that the file has, once."""
    net = nn.Sequential([nn.Input((300,)), nn.Dense(300, use_bias=False)])
    path = net.save(tmp_path / "net.safetensors")

    def change(value):
        dense = value["layers"][2]
        value["layers"] += [{**dense, "name": f"more_{i}"} for i in range(2000)]
        value["layers"][0]["config"]["layers"] += [{"class": "layer", "config": 3 + i} for i in range(2000)]

    edited(path, change)
    with pytest.raises(ValueError, match=r"kernel of shape \(300, 300\) is not in the file"):
        nn.load_model(path)


def test_models_within_models_without_bound(tmp_path):
    """Each calls the one before twice: thirty of them are a billion calls."""
    net = nn.Sequential([nn.Input((3,)), nn.Activation("tanh")])
    for _ in range(3):
        source = nn.Input((3,))
        net = nn.Model(source, net(net(source)))
    path = net.save(tmp_path / "net.safetensors")
    assert nn.load_model(path).predict(np.ones((1, 3))).shape == (1, 3)

    def change(value):
        layers = value["layers"]
        for _ in range(30):
            outer, source = json.loads(json.dumps(layers[0])), json.loads(json.dumps(layers[1]))
            moved = json.loads(json.dumps(layers[0]))
            layers += [moved, source]
            graph = outer["config"]["graph"]
            graph["layers"] = [{"class": "layer", "config": len(layers) - back} for back in (1, 2)]
            layers[0] = outer

    edited(path, change)
    with pytest.raises(ValueError, match=r"net.safetensors: cannot make its model: expected models with at most"):
        nn.load_model(path)


def contained(value):
    value["layers"][0]["config"]["layers"][0]["config"] = 0


def deep(value):
    nested = []
    for _ in range(800):
        nested = [nested]
    value["layers"][2]["config"]["units"] = nested


@pytest.mark.parametrize(
    "change",
    [
        contained, deep,
        lambda value: value["layers"].append(3),
        lambda value: value["layers"][0]["config"]["layers"].append({"class": "layer", "config": 99}),
        lambda value: value["layers"][0]["config"]["layers"].append({"class": "layer", "config": -1}),
        lambda value: value["layers"][2].update({"class": 3}),
        lambda value: value["layers"][2].update(config=None),
        lambda value: value["layers"][2]["config"].update(units=10**400),
        lambda value: value["layers"][2]["config"].update(units=1e308),
        lambda value: value["layers"][2]["config"].update(activation={"class": "array", "config": ["O", [1], [0]]}),
        lambda value: value["layers"][2]["config"].update(activation={"class": "array", "config": ["f4", [-2], [0]]}),
        lambda value: value.update(frozen=None),
        lambda value: value.update(dtype=["float32"]),
        lambda value: value.update(settings=[]),
        lambda value: value["settings"]["optimizer"].update(config={"learning_rate": "fast"}),
        lambda value: value.update(known=3),
        lambda value: value["position"].update(update=2**70),
        lambda value: value["position"].update(seed=None),
    ],
)  # fmt: skip
def test_whatever_is_wrong_is_one_error_that_names_the_file(change, tmp_path):
    net = small()
    net.fit(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0)
    path = net.save(tmp_path / "net.safetensors")
    edited(path, change)
    with pytest.raises(ValueError, match=r"net.safetensors: cannot (make|compile) its model: .") as caught:
        nn.load_model(path)
    assert type(caught.value) is ValueError


@pytest.mark.filterwarnings("ignore::nnpy.AdviceWarning")  # of a damaged loss: the model can predict
def test_random_damage_of_the_metadata(rng, tmp_path):
    """One error, or a model; never another exception."""
    net = nn.Sequential([nn.Input((3,)), nn.Residual(nn.Dense(3)), nn.BatchNormalization(), nn.Dense(2)])
    net.compile("adam", "mse", metrics=["accuracy"])
    net.fit(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0)
    path = net.save(tmp_path / "net.safetensors")
    with safe_open(path, framework="np") as file:
        text = file.metadata()["nnpy"]
    arrays = load_file(path)
    refused = 0
    values = ["", "a", -1, 0, 2**40, 1e300, None, True, [], {}, [[1]], {"class": "layer", "config": 1}, "layer/Dense"]
    for _ in range(150):
        value = json.loads(text)
        place = value
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            key = keys[rng.integers(len(keys))]
            if isinstance(place[key], dict | list) and len(place[key]) and rng.random() < 0.8:
                place = place[key]
                continue
            if rng.random() < 0.3:
                del place[key]
            else:
                place[key] = values[rng.integers(len(values))]
            break
        save_file(arrays, path, {"nnpy": json.dumps(value)})
        try:
            nn.load_model(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 50


def test_nothing_is_drawn_for_weights_that_the_file_has(rng, tmp_path, monkeypatch):
    nn.set_seed(3)
    net = nn.Sequential([nn.Dense(4), nn.Dropout(0.5), nn.Dense(2, kernel_initializer="he_normal")])
    net.build((None, 3))
    path = tmp_path / "net.safetensors"
    net.save(path)
    monkeypatch.setattr(seeds, "stream", lambda *arguments: pytest.fail("a draw"))
    again = nn.load_model(path)
    monkeypatch.undo()
    assert bits(again) == bits(net)


def test_loading_takes_the_memory_of_the_weights_once(rng, tmp_path):
    net = nn.Sequential([nn.Input((1000,)), nn.Dense(1000), nn.Dense(1000)])
    path = net.save(tmp_path / "net.safetensors")
    size = path.stat().st_size
    nn.load_model(path)
    tracemalloc.start()
    again = nn.load_model(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bits(again) == bits(net) and peak < 2.5 * size  # NumPy counts the untouched zeros that they replace


# Where training goes on


def test_a_checkpoint_knows_its_epoch(rng, tmp_path, said):
    """Bit for bit as without a break, with a schedule and a callback that looks at the epoch's number."""
    x = rng.normal(size=(50, 3)).astype("f4")
    schedule = lambda: nn.Adam(nn.schedules.CosineDecay(0.05, 24))  # noqa: E731

    def fit(net, **options):
        net.fit(x, x[:, :2], batch_size=16, epochs=6, verbose=0, **options)

    nn.set_seed(5)
    whole, broken = small(), small()
    broken.set_weights(whole.get_weights())
    for net in (whole, broken):
        net.compile(schedule(), "mse", seed=1)
    fit(whole)
    seen = []

    def stop(epoch, logs):
        broken.stop_training = epoch == 3

    checkpoint = nn.ModelCheckpoint(tmp_path / "{epoch}.safetensors")
    fit(broken, callbacks=[checkpoint, nn.LambdaCallback(on_epoch_end=stop)])
    again = nn.load_model(tmp_path / "4.safetensors")
    assert again.training.number == 4
    watch = nn.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch))
    fit(again, initial_epoch=again.training.number, callbacks=watch)
    assert seen == [4, 5] and bits(again) == bits(whole) and not said()


def test_a_schedule_that_is_not_where_initial_epoch_says_is_told(rng, tmp_path, said):
    x = rng.normal(size=(50, 3)).astype("f4")
    net = small()
    net.compile(nn.SGD(nn.schedules.CosineDecay(0.05, 24)), "mse")
    net.fit(x, x[:, :2], epochs=3, initial_epoch=2, verbose=0)
    (line,) = said()
    assert "initial_epoch=2, and the learning rate's schedule goes on from step 0, not 4: a model loaded" in line
    net.fit(x, x[:, :2], epochs=2, initial_epoch=1, verbose=0)  # 2 steps an epoch: it stands there
    assert not said()
    net.compile(nn.SGD(0.05), "mse")
    net.fit(x, x[:, :2], epochs=3, initial_epoch=2, verbose=0)  # a rate that is a number starts anywhere
    assert not said()
