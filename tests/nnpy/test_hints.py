# ruff: noqa: E501 (a table of cases with the message expected)
"""Hints in errors: what was meant, what takes its place, how data is put right."""

import json
import sys

import numpy as np
import pytest

import nnpy as nn
from nnpy.training.values import WIDTH, epoch_line

X, Y = np.ones((60, 4), "f4"), np.ones((60, 2), "f4")


def net(shape=(4,)):
    model = nn.Sequential([nn.Input(shape, name="input"), nn.Flatten(), nn.Dense(2)])
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize(
    "call, error, text",
    [
        (lambda: nn.LSTM, AttributeError, "nnpy has no 'LSTM' in this version"),
        (lambda: nn.Dens, AttributeError, "nnpy has no 'Dens'; did you mean 'Dense'?"),
        (lambda: nn.layers.Dropuot, AttributeError, "nnpy.layers has no 'Dropuot'; did you mean 'Dropout'?"),
        (lambda: nn.layers.Attention, AttributeError, "nnpy.layers has no 'Attention' in this version"),
        (lambda: nn.losses.MeanSquareError, AttributeError, "did you mean 'MeanSquaredError'?"),
        (lambda: nn.ops.matmull, AttributeError, "nnpy.ops has no 'matmull'; did you mean 'matmul'?"),
        (lambda: nn.xyzzy, AttributeError, "nnpy has no 'xyzzy'"),
        (lambda: nn.Dense(3, activaton="relu"), TypeError, "Dense: unexpected argument 'activaton'; did you mean 'activation'?"),
        (lambda: nn.Dense(3, input_shape=(4,)), TypeError, "'input_shape'; begin the model with nn.Input(shape)"),
        (lambda: nn.Dense(3, input_dim=4), TypeError, "'input_dim'; begin the model with nn.Input((n,))"),
        (lambda: nn.Adam(lr=0.1), TypeError, "Adam: unexpected argument 'lr'; did you mean 'learning_rate'?"),
        (lambda: nn.Dropout(p=0.1), TypeError, "Dropout: unexpected argument 'p'; did you mean 'rate'?"),
        (lambda: nn.EarlyStopping(patiense=3), TypeError, "EarlyStopping: unexpected argument 'patiense'; did you mean 'patience'?"),
        (lambda: nn.initializers.RandomNormal(std=1), TypeError, "RandomNormal: unexpected argument 'std'; did you mean 'stddev'?"),
        (lambda: net().fit(X, Y, epoch=3), TypeError, "fit: unexpected argument 'epoch'; did you mean 'epochs'?"),
        (lambda: net().compile("adam", "mse", metric=["mse"]), TypeError, "compile: unexpected argument 'metric'; did you mean 'metrics'?"),
        (lambda: nn.load_model("x", compiled=True), TypeError, "load_model: unexpected argument 'compiled'"),
        (lambda: nn.Input(None, 4), TypeError, "Input: expected one shape, without the batch, as Input((None, 4)), got None, 4"),
        (lambda: nn.Input(28, 28), TypeError, "as Input((28, 28))"),
        (lambda: net().fit("data.csv"), TypeError, "Input 'input': expected an array, got 'data.csv'; read the file first, as with pandas.read_csv"),
        (lambda: net().fit(X, np.array(["a", "b"] * 30)), TypeError, "y: expected real numbers, got dtype <U1; make numbers of the text: names, numbers = np.unique(y, return_inverse=True)"),
        (lambda: net().predict(X[0]), ValueError, "for one sample add the batch axis: x[None]"),
        (lambda: net().predict(np.ones(9)), ValueError, "expected samples of shape (4,), got (); if it is one sample, x[None]; numbers alone are samples of 1: Input((1,))"),
        (lambda: net((8, 9, 3)).predict(np.ones((5, 3, 8, 9))), ValueError, "if the channels come first, x.transpose(0, 2, 3, 1)"),
        (lambda: net((9, 3)).predict(np.ones((5, 3, 9))), ValueError, "if the channels come first, x.transpose(0, 2, 1)"),
        (lambda: net((60, 4)).fit(X, Y), ValueError, "for 60 samples leave it out of Input: Input((4,))"),
        (lambda: nn.Sequential([nn.Input((None, 4)), nn.Dense(2)]).predict(X), ValueError, "for 60 samples leave it out of Input: Input((4,))"),
        (lambda: net().predict(np.where(np.arange(240).reshape(60, 4) == 5, np.nan, X)), ValueError, "got nan in row 1, column 1; fill such values or leave the rows out"),
    ],
)  # fmt: skip
def test_hints(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert text in str(caught.value)


def test_hints_of_what_is_right_do_not_come():
    with pytest.raises(AttributeError, match=r"^nnpy.layers has no '__wrapped__'$"):
        nn.layers.__wrapped__  # noqa: B018
    with pytest.raises(TypeError, match="unhashable"):  # an error inside a call is left as it is
        net().fit(X, Y, callbacks=[nn.LambdaCallback(on_epoch_end=lambda epoch, logs: {[]: 1})], verbose=0)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        nn.Model.predict(net())


def test_a_frame_of_several_kinds_needs_narwhals(monkeypatch):
    pandas = pytest.importorskip("pandas")
    monkeypatch.setitem(sys.modules, "narwhals", None)
    frame = pandas.DataFrame({"a": [True, False], "b": [1, 2], "c": [1.5, 2], "d": [0, 1]}).astype({"a": object})
    with pytest.raises(ModuleNotFoundError, match=r"read by narwhals: pip install \"nnpy-cpu\[frames\]\"$"):
        net().predict(frame)
    assert net().predict(frame.drop(columns="a").assign(e=1.0)).shape == (2, 2)


def test_text_columns_are_told_what_to_do():
    pandas, _ = pytest.importorskip("pandas"), pytest.importorskip("narwhals")
    frame = pandas.DataFrame({"a": ["u", "v"], "b": [1, 2], "c": [1, 2], "d": [0, 1]})
    with pytest.raises(TypeError, match=r"column 'a' of \w+; make numbers of it, as with pandas.get_dummies, or leave"):
        net().predict(frame)


class Talker(nn.Callback):
    """Writes to the logs what is no number."""

    def on_epoch_end(self, epoch, logs=None):
        logs.update(who="text", count=np.int64(3), one=np.float32(0.5), flag=True, many=np.arange(2))


def test_logs_may_hold_what_is_no_number(tmp_path, capsys):
    history = net().fit(X, Y, epochs=2, callbacks=[Talker()])
    assert "who text" in capsys.readouterr().out
    saved = json.loads(history.save(tmp_path / "history.json").read_text())["history"]
    assert saved["count"] == [3, 3] and saved["one"] == [0.5, 0.5] and saved["many"] == [[0, 1]] * 2
    history.history["what"] = [object()]
    with pytest.raises(TypeError, match="History: cannot be written as JSON: object"):
        history.save(tmp_path / "other.json")
    assert not (tmp_path / "other.json").exists()


@pytest.mark.parametrize("metrics", [0, 1, 2, 3, 7])
def test_the_line_of_an_epoch_fits_eighty_columns(metrics):
    names = ["loss", "accuracy", *(f"metric_{number}" for number in range(5))][:metrics]
    logs = {f"{before}{name}": 0.123456 for before in ("", "val_") for name in names}
    text = epoch_line(24, 25, logs, 1.23, 45000, 1400)
    assert text.startswith("epoch 25/25  ") and all(len(line) <= WIDTH for line in text.split("\n"))
    assert all(f" {name} 0.1235" in text for name in logs)
    assert (len(text.split("\n")) == 1) == (metrics <= 2)
    assert ("samples/s" in text) == (metrics <= 1) and (" 1.2 s" in text) == (metrics <= 1)


def test_nothing_names_the_wrong_distribution():
    """``pip install nnpy[...]`` would fetch another project."""
    from pathlib import Path

    for path in (Path(nn.__file__).parent).rglob("*.py"):
        assert "nnpy[" not in path.read_text(), path


def test_what_new_users_type():
    import numpy as np

    model = nn.Sequential([nn.Dense(1)])
    model.compile("adam", "mse")
    x, y = np.ones((8, 3)), np.ones(8)
    for call, error, text in (
        (lambda: nn.data.split(x, y, test_size=0.2), TypeError, "unexpected argument 'test_size'; did you mean 'fraction'"),
        (lambda: nn.data.split(x, stratify=np.arange(8.0)), ValueError, "labels that come twice or more in stratify"),
        (lambda: model.fit(x[:, 0], y, verbose=0), ValueError, r"make x\[:, None\]"),
        (
            lambda: model.fit(x, y, validation_split=0.5, callbacks=nn.EarlyStopping("val_los"), verbose=0),
            ValueError, "the model has loss, and val_ of them; did you mean 'loss'",
        ),
        (lambda: nn.optimizers.get("nosuch"), ValueError, "adafactor.*muon"),
    ):  # fmt: skip
        with pytest.raises(error, match=text):
            call()
    for group in (nn.optimizers, nn.losses, nn.metrics):
        with pytest.raises(ValueError, match="expected one of") as told:
            group.get("nosuch")
        assert not any(word in str(told.value) for word in ("composed", "custom_", "function_"))
