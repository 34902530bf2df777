"""Training against the same steps in NumPy; metrics, weights, callbacks, history; things learned to a score."""

import json
import math

import numpy as np
import pytest

import nnpy as nn


@pytest.fixture
def double():
    nn.set_floatx("float64")
    yield
    nn.set_floatx("float32")


def regression(optimizer="sgd", **options):
    net = nn.Sequential([nn.Input((5,)), nn.Dense(8, activation="tanh", name="h"), nn.Dense(2, name="o")])
    net.compile(optimizer, "mse", **options)
    return net


def by_hand(weights, x, y, batch, order, rate, sample_weight=None, l2=0.0):
    """SGD on the regression net; (weights, mean loss as fit reports it)."""
    k, b, o, c = (w.astype(np.float64).copy() for w in weights)
    total = 0.0
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        xs, ys = x[rows], y[rows]
        w = np.ones(len(rows)) if sample_weight is None else sample_weight[rows]
        h = np.tanh(xs @ k + b)
        error = h @ o + c - ys
        total += (w * (error**2).mean(axis=1)).sum()
        up = 2 * error / 2 * w[:, None] / len(rows)
        down = (up @ o.T) * (1 - h * h)
        k, o = k - rate * (xs.T @ down + 2 * l2 * k), o - rate * (h.T @ up)
        b, c = b - rate * down.sum(0), c - rate * up.sum(0)
    return [k, b, o, c], total / len(order)


@pytest.mark.parametrize(("samples", "batch"), [(70, 32), (64, 32), (5, 32), (33, 32), (1, 1), (7, 1)])
def test_an_epoch_is_the_same_as_by_hand(double, rng, samples, batch):
    x, y = rng.normal(size=(samples, 5)), rng.normal(size=(samples, 2))
    net = regression(nn.SGD(0.1))
    expected, loss = by_hand(net.get_weights(), x, y, batch, np.arange(samples), 0.1)
    history = net.fit(x, y, batch_size=batch, shuffle=False, verbose=0)
    for got, want in zip(net.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
    assert history.history["loss"] == pytest.approx([loss], rel=1e-10)
    steps = math.ceil(samples / batch)
    position = {"number": 1, "epoch": 1, "update": steps, "draw": steps, "seed": nn.get_seed()}
    assert net.training.position() == position


def test_shuffled_epochs_use_the_documented_order(double, rng):
    """A permutation for each epoch from the seed and the number of the epoch."""
    x, y = rng.normal(size=(50, 5)), rng.normal(size=(50, 2))
    nn.set_seed(11)
    net = regression(nn.SGD(0.1))
    nn.set_seed(0)
    expected = net.get_weights()
    for epoch in range(3):
        order = nn.seeds.stream("shuffle", epoch, 11).permutation(50)
        expected, _ = by_hand(expected, x, y, 16, order, 0.1)
    net.fit(x, y, batch_size=16, epochs=2, verbose=0)
    net.fit(x, y, batch_size=16, epochs=1, verbose=0)
    for got, want in zip(net.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def test_sample_weights_and_regularization(double, rng):
    x, y, w = rng.normal(size=(40, 5)), rng.normal(size=(40, 2)), rng.uniform(0, 3, 40)
    w[3] = 0
    net = nn.Sequential(
        [nn.Input((5,)), nn.Dense(8, activation="tanh", kernel_regularizer=nn.regularizers.L2(0.01)), nn.Dense(2)]
    )
    net.compile(nn.SGD(0.1), "mse", metrics=["mse"], weighted_metrics=[nn.metrics.MeanSquaredError("weighted")])
    before = net.get_weights()
    expected, loss = by_hand(before, x, y, 40, np.arange(40), 0.1, w, 0.01)
    error = np.square(net.predict(x, batch_size=40) - y).mean(axis=1)
    logs = net.evaluate(x, y, sample_weight=w, batch_size=16, return_dict=True, verbose=0)
    penalty = 0.01 * np.square(before[0]).sum()
    assert logs["loss"] == pytest.approx((w * error).mean() + penalty, rel=1e-10)
    assert logs["mse"] == pytest.approx(error.mean(), rel=1e-10)
    assert logs["weighted"] == pytest.approx((w * error).sum() / w.sum(), rel=1e-10)
    step = net.train_on_batch(x, y, sample_weight=w, return_dict=True)
    assert step["loss"] == pytest.approx(loss + penalty, rel=1e-10)
    for got, want in zip(net.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def classifier(**options):
    net = nn.Sequential([nn.Input((5,)), nn.Dense(3)])
    net.compile(nn.SGD(0.1), nn.losses.SparseCategoricalCrossentropy(from_logits=True), **options)
    return net


def test_class_weights_are_sample_weights(rng):
    x, y = rng.normal(size=(30, 5)), rng.integers(0, 3, 30)
    nets = [classifier(metrics=["accuracy"]) for _ in range(2)]
    nets[1].set_weights(nets[0].get_weights())
    nets[0].fit(x, y, class_weight={0: 0.5, 2: 3.0}, verbose=0)
    nets[1].fit(x, y, sample_weight=np.array([0.5, 1.0, 3.0])[y], verbose=0)
    for a, b in zip(nets[0].get_weights(), nets[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert nets[0].history.history == nets[1].history.history


@pytest.mark.parametrize("batch", [7, 16, 30])
def test_accuracy_counts_every_sample_once(rng, batch):
    x, y = rng.normal(size=(30, 5)).astype("f4"), rng.integers(0, 3, 30)
    net = classifier(metrics=["accuracy"], weighted_metrics=[nn.metrics.SparseCategoricalAccuracy("weighted")])
    scores = net.predict(x)
    right = scores.argmax(1) == y
    logs = net.evaluate(x, y, batch_size=batch, return_dict=True, verbose=0)
    assert logs["accuracy"] == right.mean() == logs["weighted"]
    w = rng.uniform(0, 2, 30).astype("f4")
    logs = net.evaluate(x, y, batch_size=batch, sample_weight=w, return_dict=True, verbose=0)
    assert logs["accuracy"] == right.mean()
    assert logs["weighted"] == pytest.approx((w * right).sum() / w.sum(), rel=1e-6)
    z = scores.astype("f8") - scores.max(1, keepdims=True)
    loss = np.log(np.exp(z).sum(1)) - z[np.arange(30), y]
    assert logs["loss"] == pytest.approx((w * loss).mean(), rel=1e-5)


def test_several_outputs(double, rng):
    source = nn.Input((4,))
    a, b = nn.Dense(1, name="a")(source), nn.Dense(2, name="b")(source)
    net = nn.Model(source, [a, b])
    net.compile(nn.SGD(0.1), {"a": "mse", "b": "mse"}, loss_weights={"b": 0.25}, metrics={"a": ["mse"]})
    x, ya, yb = rng.normal(size=(20, 4)), rng.normal(size=(20, 1)), rng.normal(size=(20, 2))
    pa, pb = net.predict(x)
    logs = net.evaluate(x, {"b": yb, "a": ya}, return_dict=True, verbose=0)
    la, lb = np.square(pa - ya).mean(), np.square(pb - yb).mean()
    assert list(logs) == ["loss", "a_loss", "b_loss", "a_mse"]
    np.testing.assert_allclose(list(logs.values()), [la + 0.25 * lb, la, lb, la], rtol=1e-10)
    ka, _, kb, _ = net.get_weights()
    net.train_on_batch(x, [ya, yb])
    np.testing.assert_allclose(net.get_weights()[0], ka - 0.1 * x.T @ (2 * (pa - ya) / 20), rtol=1e-9)
    np.testing.assert_allclose(net.get_weights()[2], kb - 0.1 * x.T @ (0.25 * (pb - yb) / 20), rtol=1e-9)
    only = nn.Model(source, [a, b])
    only.compile("sgd", [None, "mse"])
    assert list(only.fit(x, yb, verbose=0).history) == ["loss"]


def test_results_have_keras_forms(rng):
    x, y = rng.normal(size=(9, 5)), rng.normal(size=(9, 2))
    net = regression()
    assert isinstance(net.evaluate(x, y, verbose=0), float) and isinstance(net.train_on_batch(x, y), float)
    assert isinstance(net.test_on_batch(x, y), float)
    net = regression(metrics=["mse"])
    loss, mse = net.evaluate(x, y, verbose=0)
    assert loss == mse == net.test_on_batch(x, y)[0] == net.train_on_batch(x, y)[1]
    np.testing.assert_array_equal(net.predict_on_batch(x), net.predict(x))


def test_validation_split_holds_out_the_last(rng):
    x, y = rng.normal(size=(20, 5)), rng.normal(size=(20, 2))
    nets = [regression(), regression()]
    nets[1].set_weights(nets[0].get_weights())
    nets[0].fit(x, y, validation_split=0.25, epochs=3, verbose=0)
    nets[1].fit(x[:15], y[:15], validation_data=(x[15:], y[15:]), epochs=3, verbose=0)
    assert nets[0].history.history == nets[1].history.history
    assert list(nets[0].history.history) == ["loss", "val_loss"]
    nets[0].fit(x, y, validation_split=0.25, epochs=6, validation_freq=2, verbose=0)
    assert len(nets[0].history.history["val_loss"]) == 3
    nets[0].fit(x, y, validation_split=0.25, epochs=6, validation_freq=[1, 6], verbose=0)
    assert len(nets[0].history.history["val_loss"]) == 2


def test_steps_per_epoch_and_initial_epoch(rng):
    net = regression()
    history = net.fit(
        rng.normal(size=(100, 5)),
        np.zeros((100, 2)),
        batch_size=10,
        steps_per_epoch=3,
        initial_epoch=2,
        epochs=6,
        verbose=0,
    )
    assert net.training.update == 12 and history.epoch == [2, 3, 4, 5]


def test_learning_rate_schedules_are_exact(double, rng):
    x, y = rng.normal(size=(50, 5)), rng.normal(size=(50, 2))
    rates = []

    def rate(step):
        rates.append(step)
        return 0.1 / (1 + step)

    net = regression(nn.SGD(rate))
    k, b, o, c = net.get_weights()
    for epoch in range(2):
        for number, start in enumerate((0, 20, 40)):
            (k, b, o, c), _ = by_hand(
                (k, b, o, c), x, y, 20, np.arange(50)[start : start + 20], 0.1 / (1 + 3 * epoch + number)
            )
    net.fit(x, y, batch_size=20, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(net.get_weights()[0], k, rtol=1e-10)
    assert rates == list(range(6))


def test_changing_the_learning_rate_takes_effect(rng):
    net = regression(nn.SGD(0.1))
    x, y = rng.normal(size=(8, 5)), np.ones((8, 2))
    net.fit(x, y, verbose=0)
    before = net.get_weights()
    net.optimizer.learning_rate = 0.0
    net.fit(x, y, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))


def test_history(rng, tmp_path):
    nn.set_seed(77)
    net = regression()
    history = net.fit(rng.normal(size=(40, 5)), np.zeros((40, 2)), epochs=3, batch_size=16, verbose=0)
    assert history is net.history and history.epoch == [0, 1, 2]
    assert history.params == {
        "epochs": 3, "steps": 3, "batch_size": 16, "samples": 40, "seed": 77, "shuffle": True, "verbose": 0
    }  # fmt: skip
    assert history.save(tmp_path / "history.json") == tmp_path / "history.json"
    assert json.loads((tmp_path / "history.json").read_text()) == history.to_dict()
    assert [path.name for path in tmp_path.iterdir()] == ["history.json"]
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        history.save(tmp_path / "none" / "history.json")


def test_progress_is_plain_lines_without_a_terminal(rng, capsys):
    net = regression(metrics=["mse"])
    x, y = rng.normal(size=(40, 5)), np.zeros((40, 2))
    net.fit(x, y, epochs=2, validation_data=(x, y))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["epoch", "1/2"], ["epoch", "2/2"]]
    assert lines[0].split()[2::2][:4] == ["loss", "mse", "val_loss", "val_mse"] and lines[0].endswith(" s")
    net.fit(x, y, verbose=0)
    assert capsys.readouterr().out == ""
    net.evaluate(x, y)
    assert capsys.readouterr().out.startswith("evaluate  loss ")
    net.predict(x)
    assert capsys.readouterr().out == ""


def test_progress_bar_in_a_terminal(rng, monkeypatch, capsys):
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    net = regression()
    net.fit(rng.normal(size=(40, 5)), np.zeros((40, 2)), epochs=2)
    out = capsys.readouterr().out
    assert "epoch 2/2  loss" in out and "\x1b[" in out


def test_the_same_seed_gives_the_same_bits_on_any_number_of_threads(rng):
    x, y = rng.normal(size=(300, 20)), rng.integers(0, 4, 300)

    def train(seed, threads):
        nn.set_seed(seed)
        nn.set_num_threads(threads)
        net = nn.Sequential(
            [nn.Dense(64, activation="relu"), nn.Dropout(0.3), nn.Dense(48, activation="gelu"), nn.Dense(4)]
        )
        net.compile("adam", nn.losses.SparseCategoricalCrossentropy(from_logits=True))
        net.fit(x, y, epochs=3, batch_size=64, verbose=0)
        return b"".join(w.tobytes() for w in net.get_weights())

    reference = train(3, 1)
    assert all(train(3, threads) == reference for threads in (1, 2, 3, 7))
    assert train(4, 1) != reference


def test_compiling_again_keeps_weights_and_the_optimizers_state(rng):
    x, y = rng.normal(size=(40, 5)), rng.normal(size=(40, 2))
    runs = []
    for again in (False, True):
        nn.set_seed(1)
        net = regression(nn.Adam(0.01))
        net.fit(x, y, epochs=2, verbose=0)
        if again:
            net.compile(net.optimizer, "mse", metrics=["mse"])
        net.fit(x, y, epochs=2, verbose=0)
        runs.append(net.get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*runs, strict=True))


def test_xor_is_learned():
    nn.set_seed(0)
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32")
    y = np.array([0, 1, 1, 0])
    net = nn.Sequential([nn.Dense(8, activation="tanh"), nn.Dense(1, activation="sigmoid")])
    net.compile(nn.Adam(0.05), "binary_crossentropy", metrics=["accuracy"])
    net.fit(x, y, epochs=300, verbose=0)
    loss, accuracy = net.evaluate(x, y, verbose=0)
    assert accuracy == 1.0 and loss < 0.05


def test_digits_are_learned():
    """96 % of the embedded test digits, with a small network and few epochs."""
    nn.set_seed(0)
    (x, y), (xt, yt) = nn.data.load_mnist()
    x, xt = (a.astype("float32") / 255 for a in (x, xt))
    net = nn.Sequential(
        [nn.Flatten(), nn.Dense(256, activation="relu"), nn.Dropout(0.3), nn.Dense(10, activation="softmax")]
    )
    net.compile(nn.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    net.fit(x, y, batch_size=64, epochs=12, verbose=0)
    assert net.evaluate(xt, yt, verbose=0)[1] >= 0.96


def test_a_regression_is_learned(rng):
    """R2 of 0.98 on held out samples of a smooth function of four numbers."""
    nn.set_seed(0)
    x = rng.uniform(-1, 1, size=(3000, 4)).astype("float32")
    y = np.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.5 * x[:, 3] ** 2
    net = nn.Sequential([nn.Dense(64, activation="silu"), nn.Dense(64, activation="silu"), nn.Dense(1)])
    net.compile(nn.Adam(5e-3), "mse")
    net.fit(x[:2500], y[:2500], epochs=40, verbose=0)
    error = np.square(net.predict(x[2500:])[:, 0] - y[2500:]).mean()
    assert 1 - error / y[2500:].var() > 0.98


def test_class_weights_do_not_weigh_what_is_held_out(rng):
    x, y = rng.normal(size=(40, 4)), rng.integers(0, 2, 40)
    losses = []
    for held in (dict(validation_split=0.25), dict(validation_data=(x[30:], y[30:]))):
        nn.set_seed(3)
        net = nn.Sequential([nn.Input((4,)), nn.Dense(2)])
        net.compile("sgd", nn.losses.SparseCategoricalCrossentropy(from_logits=True))
        rows = slice(None) if "validation_split" in held else slice(0, 30)
        history = net.fit(x[rows], y[rows], class_weight={0: 1.0, 1: 9.0}, shuffle=False, verbose=0, **held)
        losses.append(history.history)
    assert losses[0] == losses[1]
