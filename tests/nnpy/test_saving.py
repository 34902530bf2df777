"""Files: what is saved comes back bit for bit, and training goes on as if it had not stopped."""

import os

import numpy as np
import pytest
from saved import bits, compiled, data, network, small

import nnpy as nn
from nnpy.graph import Node


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


def test_the_name_of_the_input_is_kept(tmp_path):
    net = nn.Sequential([nn.Input((4,), name="pixels"), nn.Dense(2)])
    net.save(tmp_path / "net.safetensors")
    again = nn.load_model(tmp_path / "net.safetensors")
    x = np.ones((3, 4))
    assert again.input_names == ["pixels"]
    np.testing.assert_array_equal(again.predict({"pixels": x}), net.predict({"pixels": x}))


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


def test_a_name_that_no_path_can_have(tmp_path):
    net = small()
    net.layers[0].name = "a/b"  # which the constructor refuses
    with pytest.raises(TypeError, match=r"Dense 'a/b': .*expected a name that has no '/'"):
        net.save(tmp_path / "net.safetensors")


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
