"""Probes against NumPy: activations, their gradients, the parameters' gradients."""

import numpy as np
import pytest

import nnpy as nn


@pytest.fixture
def net():
    nn.set_floatx("float64")
    source = nn.Input((3,), name="source")
    h = nn.Dense(5, activation="tanh", name="h")(source)
    d = nn.Dropout(0.5, name="drop")(h)
    net = nn.Model(source, nn.Dense(2, name="o", kernel_regularizer=nn.regularizers.L2(0.1))(d + h))
    nn.set_floatx("float32")
    return net


def test_activations(net, rng):
    x = rng.normal(size=(6, 3))
    k, b, o, c = net.get_weights()
    probe = net.probe(x)
    h = np.tanh(x @ k + b)
    assert list(probe) == ["h", "drop", "add", "o"] and len(probe) == 4
    for name, value in {"h": h, "drop": h, "add": 2 * h, "o": 2 * h @ o + c}.items():
        np.testing.assert_allclose(probe[name], value, rtol=1e-10, atol=1e-12)
        assert probe.activations[name] is probe[name]
    assert probe.loss is None and probe.gradients == {} and probe.parameter_gradients == {}
    np.testing.assert_array_equal(probe["o"], net.predict(x))
    with pytest.raises(KeyError, match="no activation 'x'; there are h, drop, add, o"):
        probe["x"]


def test_gradients(net, rng):
    x, y = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    with pytest.raises(RuntimeError, match="call compile"):
        net.probe(x, y)
    net.compile("sgd", "mse")
    k, b, o, c = net.get_weights()
    probe = net.probe(x, y)
    h = np.tanh(x @ k + b)
    up = (2 * h @ o + c - y) / 6
    down = 2 * up @ o.T
    expected = {"o": up, "add": up @ o.T, "h": down, "drop": down}  # in inference drop is h
    assert set(probe.gradients) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(probe.gradients[name], value, rtol=1e-9, atol=1e-12)
    z = down * (1 - h * h)
    parameters = {"h/kernel": x.T @ z, "h/bias": z.sum(0), "o/kernel": 2 * h.T @ up + 0.2 * o, "o/bias": up.sum(0)}
    assert set(probe.parameter_gradients) == set(parameters)
    for name, value in parameters.items():
        np.testing.assert_allclose(probe.parameter_gradients[name], value, rtol=1e-9, atol=1e-12)
    assert probe.loss == pytest.approx(net.evaluate(x, y, verbose=0), rel=1e-12)


def test_what_is_missing_is_explained(rng):
    source = nn.Input((3,))
    net = nn.Model(source, nn.Dense(2, activation="softmax", name="o")(nn.Dense(4, name="h", trainable=False)(source)))
    net.compile("sgd", "sparse_categorical_crossentropy")
    x, y = rng.normal(size=(6, 3)), rng.integers(0, 2, 6)
    probe = net.probe(x)
    for missing, text in (
        (lambda: probe.gradients["h"], r"no gradient 'h': neither y nor upstream was given: .*there are none"),
        (lambda: probe.parameter_gradients["o/kernel"], "no parameter gradient 'o/kernel': neither y nor upstream"),
        (lambda: probe.activations["x"], "no activation 'x'; there are h, o"),
    ):
        with pytest.raises(KeyError, match=text):
            missing()
    assert repr(probe).splitlines()[0] == "Probe" and "gradient" not in repr(probe)
    probe = net.probe(x, y)
    for missing, text in (
        (lambda: probe.gradients["o"], "no gradient 'o': it is inside of the loss's kernel.*; there are h"),
        (lambda: probe.gradients["x"], "no gradient 'x'; there are h"),
        (lambda: probe.parameter_gradients["h/kernel"], "'h/kernel': it is not trainable; there are o/kernel, o/bias"),
    ):
        with pytest.raises(KeyError, match=text):
            missing()
    lines = repr(probe).splitlines()
    assert lines[0] == f"Probe, loss {probe.loss:.4g}" and "gradient norm" in lines[1] and "gradient" not in lines[2]
    assert lines[3].startswith("o/kernel: (4, 2) gradient norm ")


def test_a_probe_changes_nothing_and_is_not_changed(net, rng):
    x, y = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    net.compile("adam", "mse")
    net.fit(x, y, verbose=0)
    weights, position = net.get_weights(), net.training.position()
    probe = net.probe(x, y)
    copies = {name: value.copy() for name, value in {**probe.activations, **probe.parameter_gradients}.items()}
    assert net.training.position() == position
    assert all(np.array_equal(a, b) for a, b in zip(weights, net.get_weights(), strict=True))
    net.fit(x, y, epochs=3, verbose=0)
    for name, value in {**probe.activations, **probe.parameter_gradients}.items():
        assert np.array_equal(value, copies[name])


def test_shared_layers_are_numbered(rng):
    a, b = nn.Input((2,), name="a"), nn.Input((2,), name="b")
    shared = nn.Dense(2, name="s")
    net = nn.Model([a, b], shared(a) + shared(b))
    one, two = rng.normal(size=(3, 2)), rng.normal(size=(3, 2))
    probe = net.probe([one, two])
    assert set(probe) == {"s", "s_1", "add"}
    np.testing.assert_allclose(probe["add"], probe["s"] + probe["s_1"], rtol=1e-6)


def test_bad_data_is_refused(net):
    net.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"Input 'source': expected samples of shape \(3,\), got \(4,\)"):
        net.probe(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="y: expected as many samples as x, 2, got 3"):
        net.probe(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="got nan in row 1"):
        net.probe(np.array([[0, 0, 0], [0, np.nan, 0]]))


def test_as_a_training_step_sees_it():
    """Batch statistics and dropout, the gradients of the step that would come next, and nothing moves."""
    nn.set_seed(4)
    net = nn.Sequential(
        [
            nn.Input((5,)),
            nn.Dense(6, name="first"),
            nn.BatchNormalization(name="normal"),
            nn.Dropout(0.5, name="dropout"),
            nn.Dense(2),
        ]
    )
    net.compile(nn.SGD(0.01), "mse")
    x, y = np.random.default_rng(1).normal(3, 2, (40, 5)), np.ones((40, 2))
    net.fit(x, y, batch_size=8, epochs=1, verbose=0)
    before = net.get_weights()
    probe = net.probe(x, y, training=True)
    for mine, other in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, other)
    normal = probe["normal"]
    gamma, beta = before[2], before[3]
    np.testing.assert_allclose(normal.mean(0), beta, atol=1e-5)
    np.testing.assert_allclose(normal.std(0), np.abs(gamma), rtol=1e-3)
    kept = probe["dropout"] != 0
    assert 0.3 < kept.mean() < 0.7
    np.testing.assert_allclose(probe["dropout"][kept], 2 * normal[kept], rtol=1e-5)
    assert (net.probe(x)["dropout"] != 0).all()
    net.optimizer.learning_rate = 1.0
    net.fit(x, y, batch_size=40, epochs=1, shuffle=False, verbose=0)
    moved = before[0] - net.get_weights()[0]
    np.testing.assert_allclose(probe.parameter_gradients["first/kernel"], moved, rtol=1e-3, atol=1e-5)
    with pytest.raises(TypeError, match="probe: expected training to be True or False"):
        net.probe(x, y, training=1)


def test_gradients_of_what_the_user_gives(net, rng):
    x, upstream = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    k, b, o, _ = net.get_weights()
    probe = net.probe(x, upstream=upstream)  # it is not compiled
    h = np.tanh(x @ k + b)
    np.testing.assert_allclose(probe.gradients["o"], upstream, rtol=1e-12)
    np.testing.assert_allclose(probe.gradients["h"], 2 * upstream @ o.T, rtol=1e-10)
    np.testing.assert_allclose(probe.parameter_gradients["o/kernel"], 2 * h.T @ upstream, rtol=1e-9)
    assert probe.loss == pytest.approx((upstream * net.predict(x)).sum())
    with pytest.raises(ValueError, match=r"expected upstream of shape \(6, 2\) for output 'o', got \(6, 3\)"):
        net.probe(x, upstream=x)
    with pytest.raises(ValueError, match="expected either y or upstream"):
        net.probe(x, upstream, upstream=upstream)
