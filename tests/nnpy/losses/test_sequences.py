"""CTC: values and gradients against the sum over paths, torch and Keras; in a model; the check of labels."""

import numpy as np
import pytest
from losscase import Case

import nnpy as nn
from nncore import reference
from nnpy import losses

RNG = np.random.default_rng(0)
LABELS = np.array([[1, 2, 2, 3, 0], [4, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 0, 0], [3, 1, 4, 1, 3]])
LOGITS = 2 * RNG.standard_normal((5, 9, 6))


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-10)])
def test_values(dtype, tolerance):
    expected, _ = reference.ctc(LOGITS, LABELS)
    got = losses.ctc(LABELS, LOGITS.astype(dtype))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=tolerance)
    weights = np.array([0, 1, 2, 0.5, 1])
    assert losses.CTC()(LABELS, LOGITS) == pytest.approx(expected.mean())
    assert losses.CTC("sum")(LABELS, LOGITS, weights) == pytest.approx((expected * weights).sum())


@pytest.mark.parametrize("weights", [None, np.array([0, 1, 2, 0.5, 1])], ids=["", "weighted"])
def test_gradients(weights):
    case = Case(losses.CTC(), LABELS, LOGITS, weighted=weights)
    np.testing.assert_allclose(case.gradient(), case.differences(), rtol=1e-5, atol=1e-8)
    behind = Case(losses.CTC(), LABELS, LOGITS, "tanh", weighted=weights)
    np.testing.assert_allclose(behind.gradient(), behind.differences(), rtol=1e-5, atol=1e-8)


def test_labels_that_do_not_fit_are_infinite_and_move_nothing():
    """Of tensors, whose values are not known before."""
    case = Case(losses.CTC(), LABELS, LOGITS[:, :5])
    got = case.run()
    np.testing.assert_array_equal(np.isinf(got), [False, False, False, False, False])
    case = Case(losses.CTC(), LABELS, LOGITS[:, :4])
    np.testing.assert_array_equal(np.isinf(case.run()), [True, False, False, True, True])
    assert not case.gradient()[[0, 3, 4]].any() and np.isfinite(case.gradient()).all()


def test_torch_says_the_same():
    torch = pytest.importorskip("torch")
    x = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    found = torch.nn.functional.ctc_loss(
        x.log_softmax(-1).transpose(0, 1), torch.tensor(LABELS), torch.full((5,), 9),
        torch.tensor((LABELS != 0).sum(1)), reduction="none",
    )  # fmt: skip
    found.mean().backward()
    case = Case(losses.CTC(), LABELS, LOGITS)
    np.testing.assert_allclose(case.run(), found.detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(case.gradient(), x.grad.numpy(), rtol=1e-7, atol=1e-10)


def test_keras_says_the_same(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    expected = np.asarray(keras.losses.ctc(LABELS, LOGITS.astype("float32")))
    np.testing.assert_allclose(losses.ctc(LABELS, LOGITS), expected, rtol=1e-4)
    assert keras.losses.CTC().name == losses.CTC().name


def test_a_model_learns_to_read(tmp_path):
    """Labels in noise: where they are is not told."""
    labels = np.array([RNG.permutation(4)[:2] + 1 for _ in range(64)])
    x = np.repeat(np.eye(5)[labels][:, :, None], 3, 2).reshape(64, 6, 5) + 0.1 * RNG.standard_normal((64, 6, 5))
    model = nn.Sequential([nn.Input((6, 5)), nn.Dense(16, activation="tanh"), nn.Dense(5)])
    model.compile(nn.Adam(0.02), "ctc")
    model.fit(x, labels, epochs=60, batch_size=16, verbose=0)
    model.save(tmp_path / "model.safetensors")
    again = nn.load_model(tmp_path / "model.safetensors")
    assert type(again.loss) is losses.CTC
    assert again.evaluate(x, labels, verbose=0) == model.evaluate(x, labels, verbose=0) < 0.3
    read = [[k for i, k in enumerate(row) if k and (i == 0 or k != row[i - 1])] for row in model.predict(x).argmax(-1)]
    assert np.mean([found == list(row) for found, row in zip(read, labels, strict=True)]) > 0.9


def test_open_sizes():
    """As many columns as steps; labels of another number of columns are refused."""
    model = nn.Sequential([nn.Input((None, 6)), nn.Dense(6, kernel_initializer="identity")])
    model.compile("sgd", "ctc")
    padded = np.pad(LABELS, [(0, 0), (0, 4)])
    assert model.evaluate(LOGITS, padded, verbose=0) == pytest.approx(reference.ctc(LOGITS, LABELS)[0].mean(), rel=1e-5)
    with pytest.raises(ValueError, match=r"target: expected samples of shape \(9,\) for these inputs, got \(5,\)"):
        model.evaluate(LOGITS, LABELS, verbose=0)


@pytest.mark.parametrize(
    "y, x, text",
    [
        (
            [[1, 6]],
            LOGITS[:1],
            r"CTC: expected y_true in 0 \.\.\. 5, the output has 6 classes, got 6 in row 0, column 1",
        ),
        ([[1, 0, 2]], LOGITS[:1], "CTC: expected y_true to have zeros behind, got 2 in row 0, column 2"),
        ([[0, 1]], LOGITS[:1], "CTC: expected y_true to have zeros behind, got 1 in row 0, column 1"),
        ([[1.5]], LOGITS[:1], "CTC: expected y_true to be whole class numbers, got 1.5"),
        ([1, 2], LOGITS[:2], r"CTC: expected y_true of shape \(n, length\), labels with zeros behind, got \(2,\)"),
        ([[1, 2, 0], [1, 1, 1]], LOGITS[:2, :4], "of labels that fit into 4 steps, those of row 1 need 5"),
        ([[1, 2]], LOGITS[0], r"an output of shape \(batch, steps, classes\), 2 classes or more, got \(9, 6\)"),
    ],
)
def test_refusals(y, x, text):
    with pytest.raises(ValueError, match=text):
        losses.ctc(y, x)


def test_of_tensors():
    x, y = nn.Input((9, 6)), nn.Input((5,), dtype="int32")
    assert losses.ctc(y, x).shape == (None,)
    with pytest.raises(ValueError, match=r"expected logits of shape \(batch, steps, classes\), got \(None, 6\)"):
        nn.ops.ctc(nn.Input((6,)), y)
    with pytest.raises(TypeError, match="expected labels that are int32"):
        nn.ops.ctc(x, nn.Input((5,)))
    with pytest.raises(ValueError, match=r"expected labels of shape \(batch, length\), got \(None, 5, 2\)"):
        nn.ops.ctc(x, nn.Input((5, 2), dtype="int32"))


def test_accuracy_is_not_meant():
    model = nn.Sequential([nn.Input((9, 6)), nn.Dense(6)])
    with pytest.warns(nn.AdviceWarning, match="compares each step with the label in its place, which CTC does not ask"):
        model.compile("sgd", "ctc", metrics=["accuracy"])
        model.evaluate(LOGITS, LABELS, verbose=0)
