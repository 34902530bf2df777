"""CSVLogger and TerminateOnNaN; the names of logs."""

import csv

import numpy as np
import pytest
from regression import regression

import nnpy as nn


def test_csv_logger(rng, tmp_path):
    net, path = regression(), tmp_path / "log.csv"
    for append in (False, True):
        net.fit(
            rng.normal(size=(9, 5)), np.zeros((9, 2)), epochs=2, callbacks=nn.CSVLogger(path, append=append), verbose=0
        )
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "0", "1"]
    assert [float(row["loss"]) for row in rows[2:]] == net.history.history["loss"]


def test_csv_logger_gives_later_values_columns(rng, tmp_path):
    path, net, data = tmp_path / "log.csv", regression(), (rng.normal(size=(9, 5)), np.zeros((9, 2)))
    logged = []

    class Extra(nn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                logs["a; b"] = 0.5
            logged.append(dict(logs))

    options = {"callbacks": [Extra(), nn.CSVLogger(path, ";")], "verbose": 0}
    net.fit(*data, epochs=4, validation_data=data, validation_freq=2, **options)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    assert list(rows[0]) == ["epoch", "loss", "val_loss", "a; b"]
    for number, (row, logs) in enumerate(zip(rows, logged, strict=True)):
        assert row == {"epoch": str(number), **{name: str(logs.get(name, "NA")) for name in list(row)[1:]}}
    assert [row["val_loss"] == "NA" for row in rows] == [True, False, True, False]
    net.fit(*data, callbacks=nn.CSVLogger(path, ";", append=True), validation_split=0.5, verbose=0)
    with path.open(newline="") as file:
        assert [row["a; b"] for row in csv.DictReader(file, delimiter=";")] == ["NA", "NA", "0.5", "NA", "NA"]
    assert [file.name for file in tmp_path.iterdir()] == ["log.csv"]


def appended(path, content):
    """The file, as bytes, after an epoch whose loss is 0.5 was appended."""
    path.write_bytes(content)
    callback = nn.CSVLogger(path, append=True)
    callback.on_train_begin()
    callback.on_epoch_end(7, {"loss": 0.5})
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return path.read_bytes()


def test_csv_logger_appends_behind_a_crash(tmp_path, recwarn):
    """What a process that died while it wrote has left: whole lines stay, and a line is never glued to a torn one."""
    path, whole, line = tmp_path / "log.csv", b"epoch,loss\r\n0,1.5\r\n", b"7,0.5\r\n"
    assert appended(path, whole) == whole + line
    for nothing in (b"", b"\r\n", b"e", b"epoch", b"epoch,lo"):
        assert appended(path, nothing) == b"epoch,loss\r\n" + line
    assert not recwarn.list
    for torn in (b"1", b"1,", b"1,0.2"):
        with pytest.warns(nn.AdviceWarning, match="ended in a torn line, which is taken off: '1"):
            assert appended(path, whole + torn) == whole + line
    assert appended(path, b"\xef\xbb\xbf" + whole) == whole + line  # a mark of UTF-8, as spreadsheets write it
    assert appended(path, b'epoch,"a, b"\r\n0,1\r\n') == b'epoch,"a, b",loss\r\n0,1,NA\r\n7,NA,0.5\r\n'


@pytest.mark.parametrize(
    "content",
    [
        "epoch,loss\n0,1\n".encode("utf-16"), "epoch,präzision\n".encode("latin-1"), b"epoch;loss\n0;1\n", b"loss\n1\n",
        b"a text of somebody", b"\n\nepoch,loss\n", b"epoch," + b"x" * 200_000 + b"\n",
    ],
)  # fmt: skip
def test_csv_logger_appends_to_no_other_files(content, tmp_path):
    with pytest.raises(ValueError, match=r"CSVLogger: cannot append to .*log\.csv: expected a (CSV file|first line)"):
        appended(tmp_path / "log.csv", content)
    assert (tmp_path / "log.csv").read_bytes() == content


def test_terminate_on_nan(rng):
    net = regression(nn.SGD(1e18))
    x, y = rng.normal(size=(64, 5)), rng.normal(size=(64, 2))
    with pytest.warns(nn.AdviceWarning, match="training stops"):
        net.fit(x, y, epochs=50, batch_size=8, callbacks=nn.TerminateOnNaN(), verbose=0)
    assert len(net.history.epoch) < 5


def test_names_of_metrics_are_told_apart_as_in_keras(data, rng):
    x, y = data
    mse = nn.metrics.MeanSquaredError
    net = regression(metrics=["mse", mse("mse"), mse("mse")], weighted_metrics=["mse", "mse", mse("other")])
    expected = ["loss", "mse", "mse_1", "mse_2", "weighted_mse", "weighted_mse_1", "other"]
    assert net.metrics_names == expected
    logs = net.evaluate(x, y, sample_weight=rng.uniform(0, 1, 20), return_dict=True, verbose=0)
    assert list(logs) == expected and logs["mse"] == logs["mse_2"] != logs["weighted_mse"]
    source = nn.Input((5,))
    two = nn.Model(source, {"a": nn.Dense(2)(source), "b": nn.Dense(2)(source)})
    two.compile("sgd", {"a": "mse", "b": "mse"}, metrics={"a": ["mse"]}, weighted_metrics={"a": ["mse"], "b": ["mse"]})
    assert two.metrics_names == ["loss", "a_loss", "b_loss", "a_mse", "a_weighted_mse", "b_mse"]
