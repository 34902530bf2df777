# ruff: noqa: E501 (a table of cases with the message expected)
"""Mistakes of a new user: each is refused before work starts, by an error that says what was expected and what came."""


import numpy as np
import pytest
from running import value

import nnpy as nn


def trained():
    net = nn.Sequential([nn.Input((4,)), nn.Dense(3, name="out")], name="net")
    net.compile("adam", nn.losses.SparseCategoricalCrossentropy(from_logits=True))
    net.fit(np.zeros((6, 4)), np.arange(6) % 3, verbose=0)
    return net


def flat():
    return nn.Input((4,), name="x")


def classes():
    return nn.Input((4,), dtype="int32", name="classes")


X, Y = np.zeros((6, 4)), np.arange(6) % 3


def weighted(y, weights):
    net = nn.Sequential([nn.Input((4,)), nn.Dense(1)], name="net")
    net.compile("sgd", "mse")
    net.fit(X, y, class_weight=weights, verbose=0)


def of_function(f):
    net = nn.Sequential([nn.Input((4,)), nn.Activation(nn.activations.custom(f, lambda x: 1.0), name="mine")])
    net.predict(X)


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: flat() + "one", TypeError, "a Tensor or a finite number"),
        (lambda: flat() * True, TypeError, "a Tensor or a finite number"),
        (lambda: flat() + np.array(["a"] * 4), TypeError, "constant: expected real numbers, got"),
        (lambda: flat() + np.ones(3), ValueError, r"add: expected shapes that broadcast together, got \(None, 4\) and \(3,\)"),
        (lambda: nn.BatchNormalization(name="hidden")(classes()), TypeError, "hidden: expected real numbers, got the indices"),
        (lambda: nn.activations.get("leaky_relu")(negative_slope=-1.0), ValueError, "leaky_relu: expected negative_slope >= 0"),
        (lambda: nn.Sequential(nn.Dense(3)), TypeError, "Sequential: expected a list of layers, as .a, b., got Dense"),
        (lambda: nn.Sequential(nn.Dense(3), nn.Dense(2)), TypeError, "Sequential: expected a list of layers"),
        (lambda: nn.Concatenate(name="c")(flat()), ValueError, "c': expected a list of tensors, as .a, b., got one tensor"),
        (lambda: trained()(X), TypeError, r"Sequential 'net': expected a Tensor .*, got ndarray array.*; for numbers call predict\(x\)"),
        (lambda: nn.Dense(3, name="d")(X), TypeError, r"Dense 'd': expected a Tensor .*; for numbers make a Model of it"),
        (lambda: trained()(flat(), training=1), TypeError, "Sequential 'net': expected training to be True or False, got 1"),
        (lambda: nn.Dropout(0.5)(flat(), rate=1), TypeError, r"Dropout .*: got an unexpected keyword argument 'rate'; it is"),
        (lambda: nn.losses.SparseCategoricalCrossentropy()([0, 3], X[:2, :3]), ValueError, "expected y_true in 0 ... 2, the output has 3 classes, got 3 in row 1"),
        (lambda: nn.losses.MeanSquaredError()(flat(), X), TypeError, "MeanSquaredError: expected Tensors, got ndarray"),
        (lambda: nn.losses.MeanSquaredError("avg"), ValueError, "expected reduction to be one of .sum_over_batch_size., .*, got .avg."),
        (lambda: nn.losses.mean_squared_error(X[:2], X[:3]), ValueError, "expected as many y_true as y_pred, 3, got 2"),
        (lambda: nn.losses.CategoricalCrossentropy(axis=3)(X, X), ValueError, "axis 3"),
        (lambda: nn.metrics.Accuracy()(flat(), X), TypeError, "Accuracy 'accuracy': expected Tensors, got ndarray"),
        (lambda: nn.Sequential(7), TypeError, "expected a list of layers"),
        (lambda: trained().set_weights(3), TypeError, "expected a list of 2 arrays"),
        (lambda: trained().set_weights([np.zeros((4, 3)), np.array(["a", "b", "c"])]), TypeError, "out/bias: expected real"),
        (lambda: trained().fit(X, Y, shuffle="yes", verbose=0), TypeError, "shuffle"),
        (lambda: trained().fit(X, Y, callbacks="early", verbose=0), TypeError, "callbacks: expected a Callback or a list"),
        (lambda: weighted([0, 1, 2, 1, 0, 1], {0: 1, 1: 2}), ValueError, "class numbers 0 ... 1, got 2.* in row 2"),
        (lambda: weighted([0, 1, 0.5, 1, 0, 1], {0: 1, 1: 2}), ValueError, "got 0.5 in row 2; use sample_weight"),
        (lambda: weighted([0, 1, -1, 1, 0, 1], {0: 1, 1: 2}), ValueError, "got -1.* in row 2"),
        (lambda: of_function(lambda x: x.upper()), TypeError, "^mine"),
    ],
)  # fmt: skip
def test_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


class Halved(nn.losses.Loss):
    def call(self, y_true, y_pred):
        return 0.5 * nn.ops.mean_squared_error(y_pred, y_true)


class OfSquares(nn.losses.Loss):
    def call(self, y_true, y_pred):
        return nn.ops.mean_squared_error(nn.ops.square(y_pred), y_true)


class Number(nn.losses.Loss):
    def call(self, y_true, y_pred):
        return 1.0


class Scalar(nn.losses.Loss):
    def call(self, y_true, y_pred):
        return nn.ops.mean(y_true - y_pred)


class Mean(nn.metrics.MeanMetric):
    def call(self, y_true, y_pred):
        return nn.ops.mean(y_pred)


class Unfinished(nn.metrics.Metric):
    pass


def compiled_with(loss, **options):
    net = nn.Sequential([nn.Input((4,)), nn.Dense(2, name="out")], name="net")
    net.compile("sgd", loss, **options)
    return net


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: compiled_with(Number()), TypeError, r"Sequential 'net': output 'out': loss Number: expected call\(y_true, y_pred\) to return a Tensor, got 1.0"),
        (lambda: compiled_with(lambda a, b: None), TypeError, r"loss <lambda>: expected call\(y_true, y_pred\) to return a Tensor, got None"),
        (lambda: compiled_with({"out": Scalar()}), ValueError, r"output 'out': loss Scalar: expected call\(y_true, y_pred\) to return the losses of rows, of shape \(batch, ...\), got \(\)"),
        (lambda: compiled_with(nn.losses.Loss()), NotImplementedError, r"output 'out': Loss: a loss must define call\(y_true, y_pred\)"),
        (lambda: compiled_with("mse", metrics=[Mean()]), TypeError, r"output 'out': metric Mean 'mean': expected call\(\) to return a Tensor of a value a row, got"),
        (lambda: compiled_with("mse", metrics=[lambda a, b: 3]), TypeError, r"output 'out': metric FunctionMetric '<lambda>': expected call\(\) to return a Tensor of a value a row, got 3"),
        (lambda: compiled_with("mse", metrics=[Unfinished()]), NotImplementedError, r"output 'out': Unfinished 'unfinished': a metric must define accumulators\(output_shape\)"),
        (lambda: compiled_with(print), TypeError, r"expected loss to be a name or a Loss, got builtin_function_or_method .*derive a class from nnpy.losses.Loss and write call\(self, y_true, y_pred\) with nnpy.ops"),
        (lambda: compiled_with("mse", metrics=[print]), TypeError, r"expected metric to be a name or a Metric, .* derive a class from nnpy.metrics.Metric"),
        (lambda: compiled_with("mse", metrics=["sparse_categorical_accuracy"]), ValueError, r"output 'out': .*expected targets that are class numbers, the loss takes numbers"),
    ],
)  # fmt: skip
def test_losses_and_metrics_of_ones_own(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_loss_of_ones_own_trains():
    net = compiled_with(OfSquares())
    net.fit(X, X[:, :2], verbose=0)
    assert net.evaluate(X, X[:, :2], verbose=0) == 0


@pytest.mark.parametrize("weights", [None, np.arange(6.0)], ids=["", "weighted"])
def test_a_loss_may_end_in_anything_and_is_weighted_by_the_objective(rng, weights):
    x, y = rng.normal(size=(6, 4)), rng.normal(size=(6, 2))
    nets = [compiled_with(loss) for loss in ("mse", Halved(), lambda t, p: nn.ops.mean(nn.ops.square(t - p), -1) / 2)]
    for net in nets:
        net.set_weights(nets[0].get_weights())
    values = [net.evaluate(x, y, sample_weight=weights, verbose=0) for net in nets]
    np.testing.assert_allclose(values, [values[0], values[0] / 2, values[0] / 2], rtol=1e-5)
    nets[0].optimizer.learning_rate = 0.005  # half of sgd's
    for net in nets:
        net.fit(x, y, sample_weight=weights, verbose=0)
    for net in nets[1:]:
        for a, b in zip(net.get_weights(), nets[0].get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "name, get, hint",
    [
        ("circle", nn.losses.get, "unknown loss 'circle'; this version does not have it; expected one of bce"),
        ("CategoricalGeneralizedCrossEntropy", nn.losses.get, "; this version does not have it;"),
        ("sparsemax", nn.activations.get, "unknown activation 'sparsemax'; this version does not have it;"),
        ("mde", nn.losses.get, "unknown loss 'mde'; expected one of"),
        ("xse", nn.losses.get, "unknown loss 'xse'; expected one of"),
        ("sdg", nn.optimizers.get, "did you mean 'sgd'[?] expected one of"),
        ("adm", nn.optimizers.get, "did you mean 'adam'"),
        ("adamww", nn.optimizers.get, "did you mean 'adamw'"),
        ("sofmax", nn.activations.get, "did you mean 'softmax'"),
        ("mean_square_error", nn.losses.get, "did you mean 'mean_squared_error'"),
    ],
)  # fmt: skip
def test_names_that_are_not_known(name, get, hint):
    with pytest.raises(ValueError, match=hint):
        get(name)


CE, SPARSE, BINARY = (
    nn.losses.CategoricalCrossentropy,
    nn.losses.SparseCategoricalCrossentropy,
    nn.losses.BinaryCrossentropy,
)


def ends_in(function, units=3):
    source = nn.Input((4,))
    return source, nn.Dense(units, activation=function, name="out")(source)


def mean_of_two():
    source = nn.Input((4,))
    return source, nn.Average()([nn.Dense(3, activation="softmax")(source) for _ in range(2)])


def custom_end():
    return ends_in(nn.activations.custom(lambda x: x * x, lambda x: 2 * x))


def transitions():
    """Probabilities times a matrix of transitions: noisy labels."""
    source, p = ends_in("softmax")
    return source, nn.Dense(3, use_bias=False)(p)


def behind(layer, function):
    source, y = ends_in(function)
    return source, layer(y)


@pytest.mark.parametrize(
    "make, loss, text",
    [
        (lambda: ends_in("softmax"), SPARSE(from_logits=True), r"SparseCategoricalCrossentropy\(from_logits=True\) after softmax"),
        (lambda: ends_in("softmax"), CE(from_logits=True), "after softmax"),
        (lambda: ends_in("sigmoid", 1), BINARY(from_logits=True), "after sigmoid"),
        (lambda: behind(nn.Dropout(0.5), "softmax"), SPARSE(from_logits=True), "after softmax"),
        (lambda: ends_in(None), SPARSE(), "expects probabilities, got an output without activation: end in softmax, or"),
        (lambda: ends_in("relu"), CE(), "expects probabilities, got an output of relu"),
        (lambda: ends_in("log_softmax"), SPARSE(), "got an output of log_softmax"),
        (lambda: behind(nn.BatchNormalization(), None), SPARSE(), "without activation"),
        (lambda: ends_in(None, 1), BINARY(), "without activation: end in sigmoid"),
        (lambda: ends_in("softplus", 1), BINARY(), "got an output of softplus"),
        (lambda: ends_in("softmax", 1), BINARY(), "softmax over one unit is always 1"),
        (lambda: ends_in("softmax", 1), nn.losses.MeanSquaredError(), "softmax over one unit"),
        (lambda: behind(nn.Reshape((1, 3)), "softmax"), nn.losses.CTC(), "CTC takes logits: leave out softmax"),
        (lambda: ends_in(None, 1), nn.losses.Dice(), "Dice expects probabilities, .*: end in sigmoid$"),
        (lambda: ends_in("relu"), nn.losses.KLDivergence(), "KLDivergence expects probabilities, .*: end in softmax$"),
        (lambda: ends_in(None, 1), nn.losses.BinaryFocalCrossentropy(), "end in sigmoid, or give the loss from_logits"),
        (lambda: ends_in("softmax"), nn.losses.CategoricalFocalCrossentropy(from_logits=True), "after softmax"),
    ],
)  # fmt: skip
def test_losses_that_cannot_be_meant_are_told(make, loss, text):
    net = nn.Model(*make(), name="net")
    with pytest.warns(nn.AdviceWarning, match=rf"^Model 'net': output '\w+': .*{text}") as told:
        net.compile("sgd", loss)
    assert len(told) == 1 and told[0].filename == __file__  # the user's line


@pytest.mark.parametrize(
    "make, loss",
    [
        *((lambda f=f: ends_in(f), loss) for f in ("softmax", "sigmoid", "hard_sigmoid", "exponential", "softplus") for loss in (SPARSE(), CE())),
        *((lambda f=f: ends_in(f), BINARY()) for f in ("sigmoid", "hard_sigmoid", "softmax")),
        *((lambda f=f: ends_in(f), loss) for f in (None, "tanh", "log_softmax") for loss in (SPARSE(True), CE(True), BINARY(True))),
        *((lambda f=f: ends_in(f), nn.losses.MeanSquaredError()) for f in (None, "softmax", "sigmoid", "relu")),
        *((make, loss) for make in (mean_of_two, custom_end, transitions) for loss in (SPARSE(), CE(), BINARY())),
        (lambda: behind(nn.Dropout(0.5), "softmax"), SPARSE()),
        (lambda: behind(nn.Activation("softmax"), None), SPARSE()),
        (lambda: ends_in("softmax"), OfSquares()),
    ],
)  # fmt: skip
def test_losses_that_may_be_meant_are_not(make, loss, recwarn):
    nn.Model(*make()).compile("sgd", loss)
    assert not recwarn.list


@pytest.mark.parametrize(
    "make, loss, metric, text",
    [
        (lambda: ends_in("sigmoid", 1), BINARY(), "categorical_accuracy", "CategoricalAccuracy .* of one unit is always 1"),
        (lambda: ends_in(None, 1), BINARY(True), nn.metrics.CategoricalAccuracy(), "'accuracy' or BinaryAccuracy is for one"),
        (lambda: ends_in(None, 1), "mse", "accuracy", "counts classes, got an output without activation under MeanSquaredError"),
        (lambda: ends_in(None, 3), "mae", "acc", "without activation under MeanAbsoluteError, which are numbers"),
        (lambda: ends_in(None, 1), "huber", "accuracy", "without activation under Huber, which are numbers"),
        (lambda: ends_in("relu", 1), "mse", "accuracy", "got an output of relu under MeanSquaredError"),
        (lambda: ends_in(None, 3), CE(True), "categorical_crossentropy", "the metric 'categorical_crossentropy': Cat.* expects"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["metrics", "weighted_metrics"])
def test_metrics_that_cannot_be_meant_are_told(make, loss, metric, text, where):
    net = nn.Model(*make(), name="net")
    with pytest.warns(nn.AdviceWarning, match=rf"^Model 'net': output '\w+': .*{text}") as told:
        net.compile("sgd", loss, **{where: [metric]})
    assert len(told) == 1


@pytest.mark.parametrize(
    "make, loss, metric",
    [
        *((lambda f=f, n=n: ends_in(f, n), "mse", "accuracy") for f, n in (("sigmoid", 1), ("sigmoid", 3), ("softmax", 3))),
        (lambda: ends_in("sigmoid", 1), BINARY(), "accuracy"),
        (lambda: ends_in(None, 3), CE(True), "categorical_accuracy"),
        (lambda: ends_in(None, 1), "mse", "mse"),
        (lambda: ends_in(None, 3), CE(True), nn.metrics.CategoricalCrossentropy(from_logits=True)),
        (mean_of_two, "mse", "accuracy"),
    ],
)  # fmt: skip
def test_metrics_that_may_be_meant_are_not(make, loss, metric, recwarn):
    nn.Model(*make()).compile("sgd", loss, metrics=[metric])
    assert not recwarn.list


def test_the_warning_of_a_lazy_model_comes_with_the_data(recwarn):
    net = nn.Sequential([nn.Dense(3)])
    net.compile("sgd", "sparse_categorical_crossentropy")
    assert not recwarn.list
    net.fit(X, Y, epochs=2, verbose=0)
    net.fit(X, Y, verbose=0)
    assert [warning.category for warning in recwarn.list] == [nn.AdviceWarning]


@pytest.mark.parametrize("layer", [nn.BatchNormalization, nn.LayerNormalization])
def test_axis_of_normalization(layer):
    flat_, image = nn.Input((4,)), nn.Input((3, 4))
    assert layer(axis=1)(flat_).shape == (None, 4) and layer(axis=2)(image).shape == (None, 3, 4)
    assert layer(axis=1)(image).shape == layer(axis=-2)(image).shape == (None, 3, 4)
    for axis, source, text in (
        (2, flat_, "expected different axes of an input of rank 2, not the batch, got .2."),
        (0, flat_, "expected axis to be of features, not the batch, got 0"),
        (-3, image, "rank 3, not the batch, got .-3."),
    ):
        with pytest.raises(ValueError, match=text):
            layer(axis=axis)(source)
    with pytest.raises(TypeError, match="expected axis to be an integer"):
        layer(axis="last")


def test_tensors_and_numbers(rng):
    x = nn.Input((3,))
    data = rng.normal(size=(5, 3))
    for y, expected in ((2 - x, 2 - data), (x - 2, data - 2), (x / 4, data / 4), (x / x, data / data), (-x, -data)):
        np.testing.assert_allclose(value(y, {x: data.astype("float32")}), expected, rtol=1e-5)


def test_tensors_and_arrays(rng):
    """Arrays are constants, on either side; integers are computed with as reals."""
    x, row = nn.Input((4,)), np.array([1.0, 2.0, 4.0, 8.0])
    data = rng.normal(size=(5, 4))
    for y, expected in ((x + row, data + row), (row - x, row - data), (x / row, data / row), (row.astype(int) * x, row * data)):
        np.testing.assert_allclose(value(y, {x: data.astype("float32")}), expected, rtol=1e-5)
    given, numbers = classes(), rng.integers(0, 9, (5, 4)).astype("int32")
    layer = nn.Dense(2)
    y = layer(given)
    kernel, bias = layer.get_weights()
    np.testing.assert_allclose(value(y, {given: numbers}), numbers @ kernel + bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("function", [np.mean, np.argmax, np.zeros_like, np.sum, np.square, np.exp, np.stack, np.dot, np.asarray])
def test_functions_of_numpy_take_no_tensors(function):
    """They gave an array of one object, 0, or Python's own words."""
    x = nn.Input((4,))
    arguments = {np.stack: ([x, x],), np.dot: (x, np.ones(4))}.get(function, (x,))
    with pytest.raises(TypeError, match=r"has no numbers while the graph is made; nnpy.ops has the functions"):
        function(*arguments)
    net = nn.Sequential([nn.Input((4,)), nn.Dense(1)])
    with pytest.raises(TypeError, match=r"output 'dense.*': numpy.mean: expected arrays, got a Tensor, .* nnpy.ops has"):
        net.compile("sgd", "mse", metrics=[lambda y_true, y_pred: np.mean(y_true - y_pred)])
    with pytest.raises(TypeError, match="has no numbers"):
        net.predict(x)


def test_functions_of_numpy_take_weights():
    layer = nn.Dense(2, kernel_initializer="ones")
    layer.build((None, 3))
    assert np.mean(layer.kernel) == 1 and np.zeros_like(layer.kernel).shape == (3, 2)
    assert np.concatenate([layer.kernel, np.zeros((1, 2))]).sum() == 6 and np.linalg.norm(layer.kernel) > 2


def test_checkpoint_in_what_cannot_be_a_folder_is_refused_before_training(tmp_path):
    net = trained()
    before = net.get_weights()
    (tmp_path / "missing").write_text("a file")
    with pytest.raises(OSError, match=r"ModelCheckpoint: cannot write .*a.safetensors"):
        net.fit(X, Y, callbacks=nn.ModelCheckpoint(tmp_path / "missing" / "a.safetensors"), verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))


def test_checkpoint_with_an_unknown_name(tmp_path):
    with pytest.raises(ValueError, match="expected names among epoch, loss"):
        trained().fit(X, Y, callbacks=nn.ModelCheckpoint(str(tmp_path / "{val_los}.safetensors")), verbose=0)


def test_accuracy_of_many_rows_of_scores_is_their_share(rng):
    net = nn.Sequential([nn.Input((4,)), nn.Dense(12), nn.Reshape((3, 4))])
    net.compile("sgd", "mse", metrics=["categorical_accuracy"])
    x, y = rng.normal(size=(6, 4)), np.eye(4)[rng.integers(4, size=(6, 3))]
    logs = net.evaluate(x, y, return_dict=True, verbose=0)
    assert logs["categorical_accuracy"] == pytest.approx((net.predict(x).argmax(-1) == y.argmax(-1)).mean())


def test_targets_beyond_the_models_numbers():
    net = nn.Sequential([nn.Input((4,)), nn.Dense(2)])
    net.compile("sgd", "mse")
    y = np.zeros((6, 2))
    y[4, 1] = 1e39
    with pytest.raises(ValueError, match=r"y: expected finite numbers \(in float32\), got 1e\+39 in row 4, column 1"):
        net.fit(X, y, verbose=0)
