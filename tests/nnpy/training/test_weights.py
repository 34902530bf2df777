# ruff: noqa: E501 (a table of cases with the message expected)
"""Weights of samples and classes: of each row of the loss, for outputs and targets of any rank, or refused."""

import numpy as np
import pytest

import nnpy as nn

WEIGHTS = {0: 1.0, 1: 1000.0}
IMAGES = np.linspace(-1, 1, 16).reshape(4, 2, 2, 1)


@pytest.fixture
def double():
    nn.set_floatx("float64")
    yield
    nn.set_floatx("float32")


def pixels():
    """4 images of 2 x 2, of which one pixel is positive."""
    labels = np.zeros((4, 2, 2), "int64")
    labels[1, 0, 1] = 1
    return labels


def compiled(layers, loss, **options):
    net = nn.Sequential(layers, name="net")
    net.compile(nn.SGD(0.1), loss, **options)
    return net


def segmenting(channels, loss):
    last = nn.Conv2D(channels, 1, activation="sigmoid" if channels == 1 else "softmax")
    return compiled([nn.Input((2, 2, 1)), last], loss)


def rows(loss, p, y):
    """The losses of rows, in NumPy."""
    if loss == "mse":
        return np.square(p - y).mean(-1)
    if loss == "binary_crossentropy":
        return -np.log(np.where(y == 1, p, 1 - p)).mean(-1)
    return -np.log(p[y == 1] if y.ndim == p.ndim else np.take_along_axis(p, y[..., None], -1)).reshape(p.shape[:-1])


PIXELS = {
    "binary": (1, "binary_crossentropy", pixels()[..., None]),
    "mse": (1, "mse", pixels()[..., None].astype("f4")),
    "labels": (2, "sparse_categorical_crossentropy", pixels()),
    "labels with an axis": (2, "sparse_categorical_crossentropy", pixels()[..., None]),
    "one-hot": (2, "categorical_crossentropy", np.eye(2)[pixels()]),
}


@pytest.mark.parametrize("channels, loss, y", PIXELS.values(), ids=PIXELS)
def test_class_weights_of_pixels(double, channels, loss, y):
    net = segmenting(channels, loss)
    same = y[..., 0] if y.shape[-1] == 1 and channels == 2 else y
    weights = np.where(pixels() == 1, 1000.0, 1.0)
    expected = (weights * rows(loss, net.predict(IMAGES), same)).mean()
    assert net.evaluate(IMAGES, y, sample_weight=weights, verbose=0) == pytest.approx(expected, rel=1e-9)
    assert net.evaluate(IMAGES, y, sample_weight=weights[..., None], verbose=0) == pytest.approx(expected, rel=1e-9)
    start = net.get_weights()
    for train in (
        lambda: net.train_on_batch(IMAGES, y, class_weight=WEIGHTS),
        lambda: net.fit(IMAGES, y, class_weight=WEIGHTS, verbose=0).history["loss"][0],
        lambda: net.fit(iter([(IMAGES, y)]), class_weight=WEIGHTS, verbose=0).history["loss"][0],
        lambda: net.fit(IMAGES, y, sample_weight=weights, verbose=0).history["loss"][0],
    ):
        net.set_weights(start)
        assert train() == pytest.approx(expected, rel=1e-9)
        trained = net.get_weights()
        assert not np.array_equal(trained[0], start[0])
    for weight, other in zip(trained, net.get_weights(), strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-9)


def test_class_weights_of_steps(double, rng):
    net = compiled([nn.Input((6, 3)), nn.Conv1D(4, 3, padding="same", activation="softmax")], "categorical_crossentropy")
    x, labels = rng.normal(size=(5, 6, 3)), rng.integers(0, 4, (5, 6))
    table = np.array([1.0, 0.0, 2.5, 1.0])
    expected = (table[labels] * rows("categorical", net.predict(x), np.eye(4)[labels])).mean()
    value = net.train_on_batch(x, np.eye(4)[labels], class_weight={1: 0, 2: 2.5})
    assert value == pytest.approx(expected, rel=1e-9)


def test_class_weights_and_sample_weights_multiply(double):
    net = segmenting(1, "mse")
    y, samples = pixels()[..., None], np.array([1.0, 2, 3, 4])
    weights = np.where(pixels() == 1, 1000.0, 1.0)
    expected = (weights * samples[:, None, None] * rows("mse", net.predict(IMAGES), y)).mean()
    start = net.get_weights()
    for given in (samples, np.broadcast_to(samples[:, None], (4, 2)), np.broadcast_to(samples[:, None, None], (4, 2, 2))):
        net.set_weights(start)
        assert net.train_on_batch(IMAGES, y, given, WEIGHTS) == pytest.approx(expected, rel=1e-9)


def test_ignored_labels_need_no_weight(double):
    labels = pixels()
    labels[3] = -1
    net = segmenting(2, nn.losses.SparseCategoricalCrossentropy(ignore_class=-1))
    counted = labels >= 0
    losses = rows("sparse", net.predict(IMAGES), np.where(counted, labels, 0)) * np.where(labels == 1, 1000, 1)
    value = net.train_on_batch(IMAGES, labels, class_weight=WEIGHTS)
    assert value == pytest.approx(losses[counted].mean(), rel=1e-9)


def test_class_weights_of_an_output_of_rank_1(double):
    x = np.arange(4.0).reshape(4, 1)
    inputs = nn.Input((1,))
    net = nn.Model(inputs, nn.layers.Reshape(())(nn.Dense(1)(inputs)))
    net.compile("sgd", lambda y_true, y_pred: nn.ops.square(y_true - y_pred))
    errors = np.square(net.predict(x) - [0, 1, 0, 0])
    value = net.train_on_batch(x, [0, 1, 0, 0], class_weight={1: 3.0})
    assert value == pytest.approx((errors * [1, 3, 1, 1]).mean(), rel=1e-9)


def dense(units, loss, **options):
    last = "sigmoid" if loss == "binary_crossentropy" else "softmax" if "categorical" in str(loss) else None
    return compiled([nn.Input((3,)), nn.Dense(units, activation=last)], loss, **options)


def test_soft_labels_count_as_their_largest(double, rng):
    net, x = dense(3, "categorical_crossentropy"), rng.normal(size=(2, 3))
    y = np.array([[0.2, 0.7, 0.1], [0.5, 0.2, 0.3]])
    expected = (np.array([4.0, 1.0]) * -(y * np.log(net.predict(x))).sum(-1)).mean()
    assert net.train_on_batch(x, y, class_weight={1: 4.0}) == pytest.approx(expected, rel=1e-9)


X = np.zeros((2, 3))


class OfSamples(nn.losses.Loss):
    def call(self, y_true, y_pred):
        return nn.ops.mean(nn.ops.square(y_true - y_pred), axis=(1, 2, 3))


@pytest.mark.parametrize(
    "train, text",
    [
        (
            lambda: dense(3, "binary_crossentropy").fit(X, [[1, 0, 0], [1, 0, 1]], class_weight={0: 2.0}, verbose=0),
            r"class_weight: expected rows of y with one 1 and zeros, the class, got \[1, 0, 1\] in row 1; .*sample_weight",
        ),
        (
            lambda: dense(3, "binary_crossentropy").train_on_batch(X, [[0, 0, 0], [1, 0, 0]], class_weight={0: 2.0}),
            r"got \[0, 0, 0\] in row 0",
        ),
        (
            lambda: dense(2, "mse").fit(iter([(X, [[0.1, 0.7], [1, 0]])]), class_weight={0: 2.0}, verbose=0),
            r"got \[0.1, 0.7\] in row 0",
        ),
        (
            lambda: dense(2, "categorical_crossentropy").train_on_batch(X, [[0.5, 0.5], [1, 0]], class_weight={0: 2.0}),
            r"expected rows of y with one largest, the class, got \[0.5, 0.5\] in row 0",
        ),
        (
            lambda: segmenting(1, "mse").train_on_batch(IMAGES, pixels()[..., None] * 0.5, class_weight=WEIGHTS),
            r"class_weight: expected y to be class numbers 0 ... 1, got 0.5 in row 1, position \(0, 1\)",
        ),
        (
            lambda: segmenting(1, OfSamples()).train_on_batch(IMAGES, pixels()[..., None], class_weight=WEIGHTS),
            r"class_weight: expected losses of shape \(2, 2\) for the classes of a sample, OfSamples gives \(\); use sample",
        ),
        (
            lambda: segmenting(1, OfSamples()).train_on_batch(IMAGES, pixels()[..., None], np.ones((4, 2))),
            r"sample_weight: expected shape \(4,\), one weight a sample, got \(4, 2\)",
        ),
        (
            lambda: segmenting(1, "mse").train_on_batch(IMAGES, pixels()[..., None], np.ones((4, 3))),
            r"sample_weight: expected shape \(4,\), one weight a sample, or \(4, 2\) or \(4, 2, 2\), of the rows of the "
            r"loss, got \(4, 3\)",
        ),
        (
            lambda: segmenting(1, "mse").train_on_batch(IMAGES, pixels()[..., None], pixels() - 0.5),
            r"sample_weight: expected weights >= 0, got -0.5 in row 0, position \(0, 0\)",
        ),
    ],
)  # fmt: skip
def test_refused(train, text):
    with pytest.raises(ValueError, match=text):
        train()


def test_weights_of_open_sizes_fit_the_targets():
    net = compiled([nn.Input((None, 3)), nn.Dense(1)], "mse")
    x, y = np.ones((2, 5, 3)), np.ones((2, 5, 1))
    net.fit(x, y, sample_weight=np.ones((2, 5)), verbose=0)
    with pytest.raises(ValueError, match=r"sample_weight: expected shape \(2,\), .* or \(2, 5\), .* got \(2, 4\)"):
        net.fit(x, y, sample_weight=np.ones((2, 4)), verbose=0)


def test_each_output_has_weights_of_its_own_rows(double, rng):
    inputs = nn.Input((4, 3))
    whole, each = nn.Dense(1, name="whole")(nn.Flatten()(inputs)), nn.Dense(1, name="each")(inputs)
    net = nn.Model(inputs, [whole, each])
    net.compile("sgd", "mse")
    x, y = rng.normal(size=(5, 4, 3)), [np.zeros((5, 1)), np.zeros((5, 4, 1))]
    weights = [rng.uniform(size=5), rng.uniform(size=(5, 4))]
    expected = sum((w * np.square(p)[..., 0]).mean() for w, p in zip(weights, net.predict(x), strict=True))
    value = net.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)["loss"]
    assert value == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match=r"sample_weight\['whole'\]: expected shape \(5,\), one weight a sample, got"):
        net.evaluate(x, y, sample_weight=weights[::-1], verbose=0)


# several outputs, labels, "balanced"

LABELS = np.array([[0, 1, 1], [0, 0, 1], [1, 0, 1], [0, 0, 0], [0, 1, 1], [0, 0, 1]], "f4")
PER_LABEL = [{0: 1.0, 1: 5.0}, None, {0: 3.0}]


def counted(y):
    """scikit-learn's n / (k * count), written out for each label of a column."""
    found, place, counts = np.unique(y, return_inverse=True, return_counts=True)
    return (len(y) / (len(found) * counts))[place]


def of_labels(y, weights):
    return np.stack([[(w or {}).get(int(v), 1.0) for v in y[:, j]] for j, w in enumerate(weights)], 1)


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("reduction, total", [("sum_over_batch_size", np.mean), ("sum", np.sum)])
@pytest.mark.parametrize(
    "class_weight, weights",
    [
        (PER_LABEL, of_labels(LABELS, PER_LABEL)),
        ({0: {0: 1.0, 1: 5.0}, 2: {0: 3.0}}, of_labels(LABELS, PER_LABEL)),
        ("balanced", np.stack([counted(column) for column in LABELS.T], 1)),
        ({1: "balanced"}, np.stack([np.ones(6), counted(LABELS[:, 1]), np.ones(6)], 1)),
    ],
    ids=["list", "dict", "balanced", "balanced one"],
)
def test_weights_of_each_label(double, rng, from_logits, reduction, total, class_weight, weights):
    """The loss and the step: of a row the mean of its labels' weighted losses."""
    x, given = rng.standard_normal((6, 4)), np.arange(1.0, 7.0)
    loss = nn.losses.BinaryCrossentropy(from_logits=from_logits, reduction=reduction)
    net = compiled([nn.Input((4,)), nn.Dense(3, activation=None if from_logits else "sigmoid")], loss)
    kernel, bias = net.get_weights()
    p = 1 / (1 + np.exp(-(x @ kernel + bias)))
    weights = weights * given[:, None]
    history = net.fit(x, LABELS, batch_size=6, class_weight=class_weight, sample_weight=given, verbose=0)
    values = -np.log(np.where(LABELS == 1, p, 1 - p)) * weights
    assert history.history["loss"][0] == pytest.approx(total(values.mean(1)), rel=1e-9)
    slope = (p - LABELS) * weights / 3 / (6 if total is np.mean else 1)
    np.testing.assert_allclose(net.get_weights()[0], kernel - 0.1 * (x.T @ slope), rtol=1e-7, atol=1e-9)


BALANCED = {
    "labels": (3, "sparse_categorical_crossentropy", np.array([0, 0, 2, 0, 1, 0])),
    "one-hot": (3, "categorical_crossentropy", np.eye(3)[[0, 0, 2, 0, 1, 0]]),
    "binary": (1, "binary_crossentropy", np.array([0, 0, 1, 0, 0, 0])),
    "a class that is absent": (3, "sparse_categorical_crossentropy", np.array([0, 0, 2, 0, 2, 0])),
}


@pytest.mark.parametrize("units, loss, y", BALANCED.values(), ids=BALANCED)
def test_balanced_weights_are_those_of_scikit_learn(double, rng, units, loss, y):
    x, classes = rng.standard_normal((6, 4)), y.argmax(1) if y.ndim > 1 else y
    nets = [compiled([nn.Input((4,)), nn.Dense(units, activation="sigmoid" if units == 1 else "softmax")], loss) for _ in "ab"]
    nets[1].set_weights(nets[0].get_weights())
    nets[0].fit(x, y, class_weight="balanced", verbose=0)
    nets[1].fit(x, y, sample_weight=counted(classes), verbose=0)
    for one, other in zip(*(net.get_weights() for net in nets), strict=True):
        np.testing.assert_array_equal(one, other)


def test_balanced_counts_what_is_trained_on_alone(double, rng):
    x, y = rng.standard_normal((8, 4)), np.array([0, 0, 1, 0, 1, 1, 1, 1])
    nets = [compiled([nn.Input((4,)), nn.Dense(1, activation="sigmoid")], "binary_crossentropy") for _ in "ab"]
    nets[1].set_weights(nets[0].get_weights())
    nets[0].fit(x, y, class_weight="balanced", validation_split=0.5, shuffle=False, verbose=0)
    nets[1].fit(x[:4], y[:4], sample_weight=counted(y[:4]), shuffle=False, verbose=0)
    for one, other in zip(*(net.get_weights() for net in nets), strict=True):
        np.testing.assert_array_equal(one, other)


def two_outputs():
    source = nn.Input((4,))
    outputs = [nn.Dense(3, activation="softmax", name="kind")(source), nn.Dense(1, activation="sigmoid", name="rare")(source)]
    net = nn.Model(source, outputs, seed=0)
    net.compile(nn.SGD(0.1), ["sparse_categorical_crossentropy", "binary_crossentropy"])
    return net


KIND, RARE = np.array([0, 1, 2, 0, 0, 0]), np.array([0, 0, 0, 0, 1, 0])
OF_KIND, OF_RARE = np.where(KIND == 0, 0.5, 1.0), np.where(RARE == 1, 9.0, 1.0)


@pytest.mark.parametrize(
    "class_weight, weights",
    [
        ({"kind": {0: 0.5}, "rare": {1: 9.0}}, [OF_KIND, OF_RARE]),
        ({"rare": {1: 9.0}}, [None, OF_RARE]),
        ([{0: 0.5}, {1: 9.0}], [OF_KIND, OF_RARE]),
        ([None, "balanced"], [None, counted(RARE)]),
        ("balanced", [counted(KIND), counted(RARE)]),
    ],
)
def test_class_weights_of_several_outputs(double, rng, class_weight, weights):
    x, nets = rng.standard_normal((6, 4)), [two_outputs(), two_outputs()]
    nets[1].set_weights(nets[0].get_weights())
    one = nets[0].fit(x, [KIND, RARE], class_weight=class_weight, shuffle=False, verbose=0).history
    other = nets[1].fit(x, [KIND, RARE], sample_weight=weights, shuffle=False, verbose=0).history
    assert one == other
    for a, b in zip(*(net.get_weights() for net in nets), strict=True):
        np.testing.assert_array_equal(a, b)
    if "balanced" not in str(class_weight):
        nets[0].fit(iter([(x, [KIND, RARE])]), class_weight=class_weight, verbose=0)


def labels_net(loss="binary_crossentropy", **options):
    return compiled([nn.Input((4,)), nn.Dense(3, activation="sigmoid")], loss, **options)


def fit_labels(class_weight, loss="binary_crossentropy", **options):
    return lambda: labels_net(loss, **options).fit(np.ones((6, 4)), LABELS, class_weight=class_weight, verbose=0)


def fit_two(class_weight):
    return lambda: two_outputs().fit(np.ones((6, 4)), [KIND, RARE], class_weight=class_weight, verbose=0)


@pytest.mark.parametrize(
    "run, text",
    [
        (fit_two({0: 1.0}), r"class_weight: expected a dict by the names of outputs \(kind, rare\), or a list in their order"),
        (fit_two([{0: 1.0}]), r"class_weight: expected a dict by the names of outputs"),
        (fit_two({"kin": {0: 1.0}}), r"expected classes \(numbers\) or names of outputs \(kind, rare\) as keys, got 'kin'"),
        (fit_two({"kind": {7: 1.0}}), r"output 'kind': class_weight: expected classes 0 to 2 as keys, got 7"),
        (fit_two({"kind": 3}), r"output 'kind': class_weight: expected a dict {class: weight} or 'balanced', got 3"),
        (fit_labels([{0: 1.0}]), r"class_weight: expected 3 items, one for each label, got 1"),
        (fit_labels({3: {0: 1.0}}), r"class_weight: expected labels 0 to 2 as keys, got 3"),
        (fit_labels({1: {2: 1.0}}), r"label 1: class_weight: expected classes 0 to 1 as keys, got 2"),
        (fit_labels("balance"), r"class_weight: expected a dict {class: weight} or 'balanced', got 'balance'"),
        (fit_labels({1: {1: 2.0}}, "mse"), r"weights of each label of 'dense.*' expect a loss of labels, as BinaryCrossentropy.* got Mean"),
        (fit_labels("balanced", weighted_metrics=["binary_accuracy"]), r"weights of each label .* in the place of weighted_metrics"),
        (fit_labels("balanced", nn.losses.BinaryCrossentropy(reduction="mean_with_sample_weight")), r"got 'mean_with_sample_weight'"),
        (lambda: labels_net().train_on_batch(np.ones((6, 4)), LABELS, class_weight="balanced"), r"weights of classes of a batch, got 'balanced', which counts all"),
        (lambda: labels_net().fit(iter([(np.ones((6, 4)), LABELS)]), class_weight=["balanced"] * 3), r"where x is an iterable of batches, got 'balanced'"),
    ],
)  # fmt: skip
def test_class_weights_that_do_not_fit_are_refused(run, text):
    with pytest.raises((TypeError, ValueError), match=text):
        run()
