"""Every loss, as one row of ``losstable``: its values, gradients, weights and reductions, in a model, in a file."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
from losscase import Case
from losstable import TABLE, Row

import nnpy as nn
from nnpy import losses
from nnpy.registry import to_json

CASES = ["random", "perfect", "wrong", "zeros"]


@pytest.fixture(params=TABLE, ids=str)
def row(request) -> Row:
    return request.param


def test_every_loss_is_in_the_table():
    assert {losses.CLASSES[getattr(losses, row.function)] for row in TABLE} >= set(losses.CLASSES.values()) - {
        losses.SparseCategoricalCrossentropy,
        losses.CTC,  # of their own, in test_losses.py and test_sequences.py
    }


@pytest.mark.parametrize("dtype, rtol, atol", [("float32", 2e-5, 2e-5), ("float64", 1e-9, 1e-9)])
@pytest.mark.parametrize("case", CASES)
def test_values(row, case, dtype, rtol, atol):
    for shape in row.shapes():
        targets, predictions = row.data(shape, case)
        given = predictions.astype(dtype)
        kept = given.copy()
        got = getattr(losses, row.function)(targets, given, **row.options)
        expected = row.rows(targets, given.astype(np.float64))
        assert got.dtype == dtype and got.shape == np.shape(expected) and np.array_equal(given, kept)
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol, err_msg=f"{shape} {case}")


def test_gradients(row):
    """Against differences; where a prediction is as right or as wrong as can be, it is finite."""
    for shape in row.shapes():
        case = Case(row.loss, *row.data(shape))
        np.testing.assert_allclose(case.gradient(), case.differences(), rtol=1e-5, atol=1e-7, err_msg=str(shape))
        for extreme in CASES[1:]:
            for dtype in ("float32", "float64"):
                assert np.isfinite(Case(row.loss, *row.data(shape, extreme), dtype=dtype).gradient()).all(), extreme


@pytest.mark.parametrize("reduction", ["mean", "sum", "mean_with_sample_weight"])
def test_weights_and_reductions(row, reduction):
    """On arrays, and in a model, where rows are what they are on arrays."""
    shape = row.shapes()[-1]
    targets, predictions = row.data(shape)
    weights = np.random.default_rng(1).uniform(0, 2, len(targets))
    weights[0] = 0
    loss = losses.CLASSES[getattr(losses, row.function)](**row.options, reduction=reduction)
    rows = row.rows(targets, predictions)
    if loss.of_batch:
        rows = np.full(len(targets), np.mean(rows))
    weighted = rows * weights.reshape(-1, *[1] * (rows.ndim - 1))
    count = {"mean": rows.size, "sum": 1, "mean_with_sample_weight": weights.sum() * rows.size / len(rows)}[reduction]
    assert loss(targets, predictions, weights) == pytest.approx(weighted.sum() / count, rel=1e-9)
    assert loss(targets, predictions, np.zeros(len(targets))) == 0
    model = nn.Sequential([nn.Input(shape[1:]), nn.layers.Identity()])
    model.compile("sgd", loss)
    got = model.evaluate(predictions, targets, sample_weight=weights, verbose=0)
    assert got == pytest.approx(weighted.sum() / count, rel=2e-5)


def test_training_makes_it_smaller_and_a_file_holds_it(row, tmp_path):
    shape = (32, 4) if row.shapes()[-1] == (4, 1) else (32, *row.shapes()[-1][1:])
    targets, _ = row.data(shape)
    bounded = "softmax" if row.classes else "sigmoid"
    ends = {"positive": "softplus", "counts": "softplus"}.get(row.kind)
    end = bounded if "shares" in row.kind or row.kind == "distributions" else ends
    model = nn.Sequential([nn.Input(shape[1:]), nn.Dense(16, activation="tanh"), nn.Dense(shape[-1], activation=end)])
    model.compile(nn.Adam(0.02), row.loss)
    history = model.fit(targets, targets, epochs=12, batch_size=8, verbose=0).history["loss"]
    assert np.isfinite(history).all() and history[-1] < history[0]
    model.save(tmp_path / "model.safetensors")
    again = nn.load_model(tmp_path / "model.safetensors")
    assert to_json(again.loss) == to_json(row.loss) and type(again.loss) is type(row.loss)
    assert again.evaluate(targets, targets, verbose=0) == model.evaluate(targets, targets, verbose=0)


def test_keras_says_the_same(row, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    if not row.keras:
        pytest.skip("of our own")
    theirs = getattr(keras.losses, row.function)
    for shape in row.shapes():
        targets, predictions = row.data(shape)
        expected = np.asarray(theirs(targets.astype("float32"), predictions.astype("float32"), **row.options))
        got = getattr(losses, row.function)(targets, predictions, **row.options)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5, err_msg=str(shape))
    name = type(row.loss).__name__
    assert getattr(keras.losses, name)(**row.options).name == row.loss.name


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: losses.Huber(0), "Huber: expected delta to be a finite number > 0, got 0"),
        (lambda: losses.Quantile(1), "Quantile: expected q to be a finite number > 0 and < 1, got 1"),
        (lambda: losses.Tversky(alpha=-1), "Tversky: expected alpha to be a finite number >= 0, got -1"),
        (lambda: losses.BinaryFocalCrossentropy(gamma=-1), "expected gamma to be a finite number >= 0, got -1"),
        (lambda: losses.BinaryFocalCrossentropy(alpha=2), "expected alpha to be a finite number >= 0 and <= 1, got 2"),
        (lambda: losses.CategoricalFocalCrossentropy([1, -1]), r"expected alpha\[1\] to be a finite number >= 0"),
        (lambda: losses.categorical_focal_crossentropy([[0, 1]], [[1, 0]], alpha=[1, 1, 1]), "alpha of 2 classes, got"),
        (lambda: losses.hinge([[2.0]], [[1.0]]), "Hinge: expected y_true to be -1 and 1, or 0 and 1, got 2.0 in row 0"),
        (lambda: losses.hinge([[-1], [0]], [[1], [1]]), "not 0 beside -1, got 0 in row 1"),
        (lambda: losses.poisson([[-1]], [[1]]), "Poisson: expected y_true to be counts of 0 or more, got -1 in row 0"),
        (lambda: losses.dice([[3]], [[1]]), r"Dice: expected y_true to be in \[0, 1\], got 3 in row 0"),
        (lambda: losses.kl_divergence([[1.5]], [[1]]), r"KLDivergence: expected y_true to be in \[0, 1\], got 1.5"),
        (lambda: losses.cosine_similarity([[1.0]], [[1.0]], axis=0), "an axis of .*, and not the batch, got 0"),
        (lambda: losses.huber([[1.0, 2.0]], [[1.0]]), r"Huber: expected y_true of shape \(n, 1\), like the output"),
        (lambda: losses.huber([], []), "Huber: expected y_pred to have at least one row"),
    ],
)
def test_refusals(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_alpha_for_each_class():
    t, p = np.eye(3), np.full((3, 3), 1 / 3)
    got = losses.categorical_focal_crossentropy(t, p, alpha=[1, 2, 3], gamma=0)
    np.testing.assert_allclose(got, np.log(3) * np.array([1, 2, 3]), rtol=1e-6)
    model = nn.Sequential([nn.Input((3,)), nn.Softmax()])
    model.compile("sgd", losses.CategoricalFocalCrossentropy(np.array([1, 2, 3])))
    assert losses.get(to_json(model.loss)).alpha == [1, 2, 3]


@pytest.mark.parametrize("loss", [losses.KLDivergence(), losses.CategoricalFocalCrossentropy(1.0)], ids=str)
def test_behind_a_softmax_logits_are_used(loss):
    """Where float32 has no probability left, loss and gradient are those of the logits."""
    case = Case(loss, np.array([[0.0, 1.0]]), np.array([[200.0, -200.0]]), "softmax", "float32")
    assert case.run()[0] == pytest.approx(400, rel=1e-4)
    np.testing.assert_allclose(case.gradient(), [[1, -1]], rtol=1e-4)


def test_focal_behind_a_sigmoid():
    case = Case(losses.BinaryFocalCrossentropy(), np.array([[1.0]]), np.array([[-200.0]]), "sigmoid", "float32")
    assert case.run()[0] == pytest.approx(200) and case.gradient()[0] == pytest.approx(-1)


def test_losses_of_pixels_and_of_samples_add_up():
    """A list of losses of one output: what one of them says of a sample counts in each of its pixels."""
    rng = np.random.default_rng(0)
    t, p = (rng.random((3, 4, 4, 2)) < 0.5) * 1.0, rng.uniform(0.1, 0.9, (3, 4, 4, 2))
    model = nn.Sequential([nn.Input((4, 4, 2)), nn.layers.Identity()])
    for dice in (losses.Dice(), losses.Dice(axis=(1, 2, 3)), losses.Dice(axis=(0, 1, 2))):
        model.compile("sgd", [[losses.BinaryCrossentropy(), dice]])
        expected = losses.BinaryCrossentropy()(t, p) + dice(t, p)
        assert model.evaluate(p, t, verbose=0) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", [name for _, name, _ in pkgutil.iter_modules(losses.__path__)])
def test_examples(name):
    found = doctest.testmod(importlib.import_module(f"nnpy.losses.{name}"), optionflags=doctest.ELLIPSIS)
    assert found.failed == 0


def test_every_class_and_function_has_an_example():
    for kind in losses.CLASSES.values():
        assert ">>> " in (kind.__doc__ or ""), kind


class Marked(nn.layers.Layer):
    """Masks the steps whose first number is 0."""

    supports_masking = True

    def compute_mask(self, inputs, previous_mask):
        return nn.ops.not_equal(inputs[..., 0], 0.0)

    def call(self, x):
        return x * 1.0


def test_masks():
    """Steps that are masked count nowhere; a loss that has no steps says so."""
    x, t = np.ones((2, 3, 2)), np.zeros((2, 3, 2))
    x[0, 1:] = 0
    source = nn.Input((3, 2))
    model = nn.Model(source, Marked()(source))
    model.compile("sgd", losses.Huber(1.0, "sum"))
    assert model.evaluate(x, t, verbose=0) == pytest.approx(4 * 0.5)
    for loss in (losses.Dice(), losses.Dice(axis=(1, 2)), losses.CTC()):
        with pytest.raises(ValueError, match=r"expected losses of the rows that the output's mask \(None, 3\) chooses"):
            model.compile("sgd", loss)
            model.evaluate(x, t, verbose=0)
