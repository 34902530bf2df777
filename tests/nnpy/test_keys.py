"""Models whose inputs and outputs are dicts: the keys are their names."""

import numpy as np
import pytest

import nnpy as nn


def keyed():
    """A model of dicts, whose keys are not the layers' names, in another order than the layers."""
    a, b = nn.Input((3,), name="first"), nn.Input((2,), name="second")
    hidden = nn.Dense(4, activation="tanh", name="hidden")(nn.Concatenate()([a, b]))
    outputs = {"price": nn.Dense(1, name="o1")(hidden), "kind": nn.Dense(3, activation="softmax", name="o2")(hidden)}
    return nn.Model({"size": a, "place": b}, outputs, name="keyed")


def keyed_data(rng, n=20):
    x = {"place": rng.normal(size=(n, 2)), "size": rng.normal(size=(n, 3))}
    return x, {"kind": rng.integers(0, 3, n), "price": rng.normal(size=(n, 1))}


def test_keys_of_dicts_are_the_names_of_inputs_and_outputs(rng, tmp_path):
    nn.set_seed(4)
    net = keyed()
    nn.set_seed(0)
    assert net.input_names == ["size", "place"] and net.output_names == ["price", "kind"]
    assert list(net.input) == ["size", "place"] and net.output["kind"].shape == (None, 3)
    x, y = keyed_data(rng)
    for given in (x, [x["size"], x["place"]], (b for b in [x])):
        result = net.predict(given)
        assert list(result) == ["price", "kind"] and result["kind"].shape == (20, 3)
    assert list(net.predict_on_batch(x)) == ["price", "kind"]
    with pytest.raises(ValueError, match=r"x: expected keys \['place', 'size'\], got \['first', 'second'\]"):
        net.predict({"first": x["size"], "second": x["place"]})
    with pytest.raises(ValueError, match=r"Input 'place': expected samples of shape \(2,\), got \(3,\)"):
        net.predict({"size": x["size"], "place": x["size"]})
    net.compile(
        "adam", {"kind": "sparse_categorical_crossentropy", "price": "mse"}, loss_weights={"kind": 2.0},
        metrics={"kind": ["accuracy"]},
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"loss: expected names of outputs \(price, kind\), got 'o1'"):
        net.compile("adam", {"o1": "mse"})
    assert net.metrics_names == ["loss", "price_loss", "kind_loss", "kind_accuracy"]
    net.fit(x, y, epochs=2, validation_data=(x, y), sample_weight={k: np.ones(20) for k in y}, verbose=0)
    logs = net.evaluate(x, y, verbose=0, return_dict=True)
    assert list(logs) == net.metrics_names and logs == net.test_on_batch(x, y, return_dict=True)
    assert logs["loss"] == pytest.approx(logs["price_loss"] + 2 * logs["kind_loss"], rel=1e-6)
    with pytest.raises(ValueError, match=r"y: expected keys \['kind', 'price'\], got \['o1'\]"):
        net.fit(x, {"o1": y["price"]}, verbose=0)
    net.save(tmp_path / "keyed.safetensors")
    again = nn.load_model(tmp_path / "keyed.safetensors")
    assert again.evaluate(x, y, verbose=0, return_dict=True) == logs
    assert all(np.array_equal(net.predict(x)[key], value) for key, value in again.predict(x).items())


def test_one_output_with_a_key_is_a_dict_too(rng):
    source = nn.Input((3,))
    net = nn.Model(source, {"only": nn.Dense(1, name="d")(source)})
    x = rng.normal(size=(5, 3))
    for _ in range(2):  # the second time there could be a shorter way
        assert list(net.predict(x)) == ["only"]
    net.compile("sgd", {"only": "mse"})
    net.fit(x, {"only": np.ones(5)}, verbose=0)
    net.fit(x, np.ones(5), verbose=0)
    with pytest.raises(TypeError, match="outputs: expected strings as keys, got 1"):
        nn.Model(source, {1: net.outputs[0]})


def test_a_model_of_dicts_is_a_layer(rng, tmp_path):
    inner = keyed()
    a, b = nn.Input((3,), name="a"), nn.Input((2,), name="b")
    given = inner({"place": b, "size": a})
    assert list(given) == ["price", "kind"]
    with pytest.raises(ValueError, match=r"Model 'keyed': expected inputs \['size', 'place'\], got \['a', 'b'\]"):
        inner({"a": a, "b": b})
    outer = nn.Model([a, b], nn.Concatenate()([given["price"], given["kind"]]))
    x, _ = keyed_data(rng)
    both = [x["size"], x["place"]]
    np.testing.assert_array_equal(outer.predict(both)[:, :1], inner.predict(x)["price"])
    outer.save(tmp_path / "outer.safetensors")
    np.testing.assert_array_equal(nn.load_model(tmp_path / "outer.safetensors").predict(both), outer.predict(both))


def test_a_subclass_takes_and_gives_dicts(rng):
    class Both(nn.Model):
        def __init__(self):
            super().__init__(name="both")
            self.left, self.right = nn.Dense(4), nn.Dense(4)

        def call(self, x):
            total = self.left(x["size"]) + self.right(x["place"])
            return {"total": total, "twice": 2 * total}

    net = Both()
    x, _ = keyed_data(rng)
    result = net.predict(x)
    np.testing.assert_allclose(2 * result["total"], result["twice"], rtol=1e-6)
    again = Both()
    assert list(again({"size": nn.Input((3,), name="s"), "place": nn.Input((2,), name="p")})) == ["total", "twice"]
    assert list(net({"size": nn.Input((3,)), "place": nn.Input((2,))})) == ["total", "twice"]
