# ruff: noqa: E501 (a table of cases with the message expected)
"""Callbacks: when they are called, what they do, what is refused, and how progress is shown."""

import csv
import io
import math
import re
import warnings

import numpy as np
import pytest

import nnpy as nn
from nnpy.training.values import fitting, layout, shown_values


def regression(optimizer="sgd", **options):
    net = nn.Sequential([nn.Input((5,)), nn.Dense(8, activation="tanh", name="h"), nn.Dense(2, name="o")])
    net.compile(optimizer, "mse", **options)
    return net


@pytest.fixture
def data(rng):
    return rng.normal(size=(20, 5)), rng.normal(size=(20, 2))


class Recorder(nn.Callback):
    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append("train begin")

    def on_train_end(self, logs=None):
        self.calls.append("train end")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(f"epoch {epoch}")

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(f"batch {batch}")
        assert math.isfinite(logs["loss"])

    def on_test_begin(self, logs=None):
        self.calls.append("test")

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(f"end {epoch} {sorted(logs)}")


def test_callbacks_are_called_in_order(rng):
    recorder = Recorder()
    x, y = rng.normal(size=(20, 5)), np.zeros((20, 2))
    net = regression()
    net.fit(x, y, batch_size=8, epochs=2, validation_data=(x, y), callbacks=recorder, verbose=0)
    epoch = ["batch 0", "batch 1", "batch 2", "test"]
    end = "end {} ['loss', 'val_loss']"
    assert recorder.calls == [
        "train begin",
        "epoch 0",
        *epoch,
        end.format(0),
        "epoch 1",
        *epoch,
        end.format(1),
        "train end",
    ]
    assert recorder.model is net and recorder.params["steps"] == 3 and recorder.params["seed"] == nn.get_seed()


def test_batch_callbacks_do_not_change_the_result(rng):
    x, y = rng.normal(size=(50, 5)), rng.normal(size=(50, 2))
    results = []
    for callbacks in ([], [Recorder()]):
        nn.set_seed(5)
        net = regression("adam")
        net.fit(x, y, batch_size=8, epochs=3, callbacks=callbacks, verbose=0)
        results.append([*net.get_weights(), np.array(net.history.history["loss"])])
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


def test_stop_training_and_lambda(rng):
    net = regression()
    seen = []

    def stop(epoch, logs):
        seen.append(epoch)
        net.stop_training = epoch == 2

    net.fit(
        rng.normal(size=(9, 5)), np.zeros((9, 2)), epochs=9, callbacks=nn.LambdaCallback(on_epoch_end=stop), verbose=0
    )
    assert seen == [0, 1, 2]
    with pytest.raises(TypeError, match="LambdaCallback: unknown hook 'on_epoch'; did you mean 'on_epoch_"):
        nn.LambdaCallback(on_epoch=stop)


def drive(callback, values, net=None):
    """Feed a callback a series of val_loss; the epochs that ran."""
    net = net or regression(metrics=["accuracy"])
    callback.set_model(net)
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        net.stop_training = False
        callback.on_epoch_end(epoch, {"val_loss": value, "val_accuracy": -value})
        if net.stop_training:
            break
    callback.on_train_end()
    return epoch


@pytest.mark.parametrize(
    ("options", "values", "last"),
    [
        ({"patience": 2}, [3, 2, 2, 2, 1], 3),
        ({"patience": 2}, [3, 2, 2.5, 1, 2, 2, 2], 5),
        ({"patience": 0}, [3, 2, 2.5, 1], 2),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.8, 1], 1),
        ({"patience": 2, "start_from_epoch": 3}, [1, 1, 1, 1, 1, 1, 1], 5),
        ({"patience": 2, "baseline": 0.5}, [3, 2, 2.5, 2.4], 2),
        ({"patience": 1, "mode": "max"}, [1, 2, 1, 5], 2),
        ({"patience": 1, "monitor": "val_accuracy"}, [3, 2, 2.5, 1], 2),
    ],
)
def test_early_stopping(options, values, last):
    assert drive(nn.EarlyStopping(**options), values) == last


def test_early_stopping_restores_the_best(rng):
    net = regression(nn.SGD(0.1))
    x, y = rng.normal(size=(30, 5)), rng.normal(size=(30, 2))
    stop = nn.EarlyStopping(patience=2, restore_best_weights=True)
    rate = nn.LearningRateScheduler(lambda epoch, rate: 0.05 if epoch < 3 else 5.0)
    net.fit(x, y, epochs=20, validation_data=(x, y), callbacks=[rate, stop], verbose=0)
    values = net.history.history["val_loss"]
    assert len(values) < 20 and net.evaluate(x, y, verbose=0) == pytest.approx(min(values), rel=1e-6)
    assert net.history.history["learning_rate"][:4] == [0.05, 0.05, 0.05, 5.0]


def test_model_checkpoint(rng, tmp_path):
    net = regression()
    best = nn.ModelCheckpoint(tmp_path / "best.safetensors", save_best_only=True)
    every = nn.ModelCheckpoint(tmp_path / "at-{epoch:02d}-{val_loss:.1f}.safetensors", save_weights_only=True)
    for number, value in enumerate([3.0, 1.0, 2.0]):
        for weight in net.weights:
            weight.assign(np.full(weight.shape, float(number)))
        for callback in (best, every):
            callback.set_model(net)
            callback.on_epoch_end(number, {"val_loss": value})
    assert nn.load_model(tmp_path / "best.safetensors").get_weights()[0][0, 0] == 1.0
    assert sorted(p.name for p in tmp_path.glob("at*")) == [
        f"at-0{n}-{v}.safetensors" for n, v in ((1, 3.0), (2, 1.0), (3, 2.0))
    ]
    with pytest.raises(ValueError, match=r"ends in .safetensors"):
        nn.ModelCheckpoint("net.h5")


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
    with pytest.raises(ValueError, match=r"CSVLogger: cannot append to .*log\.csv: expected a (CSV file in|first line)"):
        appended(tmp_path / "log.csv", content)
    assert (tmp_path / "log.csv").read_bytes() == content


class Failing(io.StringIO):
    """A stdout whose disk is full, or whose pipe is closed, after some lines."""

    def __init__(self, error, lines):
        super().__init__()
        self.error, self.left = error, lines

    def flush(self):
        self.left -= 1
        if self.left < 0:
            raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left"), ValueError("closed")])
def test_a_stdout_that_fails_ends_no_training(error, rng, monkeypatch):
    net, x = regression(), rng.normal(size=(9, 5))
    monkeypatch.setattr("sys.stdout", Failing(error, 1))
    with pytest.warns(nn.AdviceWarning, match="stdout cannot be written to .*: the work goes on") as told:
        net.fit(x, np.zeros((9, 2)), epochs=4, verbose=2)
    assert len(net.history.epoch) == 4 and len(told) == 1
    net.evaluate(x, np.zeros((9, 2)), verbose=2)
    net.predict(x, verbose=2)


def test_a_terminal_that_goes_away_ends_no_training(rng, monkeypatch):
    """As when its window is closed: rich cannot write to it any more."""
    rich = pytest.importorskip("rich.console")

    class Gone(io.StringIO):
        writes = 0

        def write(self, text):
            Gone.writes += 1
            if Gone.writes > 20:
                raise OSError(5, "Input/output error")
            return super().write(text)

    net, x = regression(), rng.normal(size=(9, 5))
    console = rich.Console(file=Gone(), force_terminal=True, width=100)
    monkeypatch.setattr("nnpy.training.displays.live_console", lambda: console)
    monkeypatch.setattr("nnpy.training.progress.REFRESH", 0)
    with pytest.warns(nn.AdviceWarning, match="cannot be written to .*Input/output error"):
        net.fit(x, np.zeros((9, 2)), epochs=40, verbose=1)
    assert len(net.history.epoch) == 40 and Gone.writes > 20


def test_letters_that_stdout_has_not_are_written_in_ascii(rng, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stdout)
    nn.callbacks.base.say("präzision 0.5")
    assert stdout.buffer.getvalue().decode().strip() == r"pr\xe4zision 0.5"


def test_terminate_on_nan(rng):
    net = regression(nn.SGD(1e18))
    x, y = rng.normal(size=(64, 5)), rng.normal(size=(64, 2))
    with pytest.warns(nn.AdviceWarning, match="training stops"):
        net.fit(x, y, epochs=50, batch_size=8, callbacks=nn.TerminateOnNaN(), verbose=0)
    assert len(net.history.epoch) < 5


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: nn.EarlyStopping(3), TypeError, "EarlyStopping: expected monitor to be a name"),
        (lambda: nn.EarlyStopping(patience=-1), ValueError, "EarlyStopping: expected patience to be an integer >= 0, got -1"),
        (lambda: nn.EarlyStopping(patience=2.5), TypeError, "EarlyStopping: expected patience"),
        (lambda: nn.EarlyStopping(min_delta="small"), TypeError, "EarlyStopping: expected min_delta to be a finite number"),
        (lambda: nn.EarlyStopping(baseline="low"), TypeError, "EarlyStopping: expected baseline"),
        (lambda: nn.EarlyStopping(mode="up"), ValueError, "EarlyStopping: expected mode to be 'auto', 'min' or 'max', got 'up'"),
        (lambda: nn.EarlyStopping(restore_best_weights="yes"), TypeError, "EarlyStopping: expected restore_best_weights"),
        (lambda: nn.EarlyStopping(start_from_epoch=-1), ValueError, "EarlyStopping: expected start_from_epoch"),
        (lambda: nn.CSVLogger(3), TypeError, "CSVLogger: expected filename to be a path, got 3"),
        (lambda: nn.CSVLogger("a.csv", separator=3), TypeError, "CSVLogger: expected separator to be a character, got 3"),
        (lambda: nn.CSVLogger("a.csv", separator="::"), ValueError, "CSVLogger: expected separator to be one character"),
        (lambda: nn.CSVLogger("a.csv", append="no"), TypeError, "CSVLogger: expected append"),
        (lambda: nn.LambdaCallback(on_epoch_end=3), TypeError, "LambdaCallback: expected on_epoch_end to be a function, got 3"),
        (lambda: nn.LearningRateScheduler(0.1), TypeError, r"LearningRateScheduler: expected schedule to be a function of \(epoch, learning_rate\) or \(epoch\), got 0.1"),
        (lambda: nn.LearningRateScheduler(lambda: 0.1), TypeError, r"got one of \(\)"),
        (lambda: nn.LearningRateScheduler(lambda a, b, c: 0.1), TypeError, r"got one of \(a, b, c\)"),
        (lambda: nn.ModelCheckpoint(3), TypeError, "ModelCheckpoint: expected filepath to be a path, got 3"),
        (lambda: nn.ModelCheckpoint("{epoch.safetensors"), ValueError, "ModelCheckpoint: expected a path in which .*: expected '}'"),
        (lambda: nn.ModelCheckpoint("{}.safetensors"), ValueError, "ModelCheckpoint: .*'{}' is no name"),
        (lambda: nn.ModelCheckpoint("{0}.safetensors"), ValueError, "ModelCheckpoint: .*'{0}' is no name"),
        (lambda: nn.ModelCheckpoint("{val_loss:d}.safetensors"), ValueError, "ModelCheckpoint: .*format code 'd'"),
        (lambda: nn.ModelCheckpoint("a.safetensors", mode="best"), ValueError, "ModelCheckpoint: expected mode"),
        (lambda: nn.ModelCheckpoint("a.safetensors", save_best_only=1), TypeError, "ModelCheckpoint: expected save_best_only"),
        (lambda: nn.ModelCheckpoint("a.safetensors", initial_value_threshold="x"), TypeError, "initial_value_threshold"),
        (lambda: regression().fit(np.zeros((2, 5)), np.zeros((2, 2)), callbacks=[nn.EarlyStopping]), TypeError, r"got .*EarlyStopping.*; make one: EarlyStopping\(\)"),
    ],
)  # fmt: skip
def test_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_hook_that_nobody_would_call_is_refused():
    with pytest.raises(TypeError, match="Mine: unknown hook 'on_epoch_ends'; did you mean 'on_epoch_end'"):

        class Mine(nn.Callback):
            def on_epoch_ends(self, epoch, logs=None):
                pass

    class Mixin:
        def on_train_batches_begin(self, batch, logs=None):
            pass

    with pytest.raises(TypeError, match="unknown hook 'on_train_batches_begin'; did you mean 'on_train_batch_begin'"):

        class Mixed(Mixin, nn.Callback):
            pass

    class Fine(nn.Callback):
        on_cpu = True  # no method

        def once(self):
            pass

    assert Fine().on_cpu


def test_every_hook_of_batches_is_called(data):
    calls = []

    class Every(nn.Callback):
        def on_batch_begin(self, batch, logs=None):
            calls.append(("begin", batch))

        def on_batch_end(self, batch, logs=None):
            calls.append(("end", batch))

        def on_test_batch_begin(self, batch, logs=None):
            calls.append(("test begin", batch))

        def on_test_batch_end(self, batch, logs=None):
            assert math.isfinite(logs["loss"])
            calls.append(("test end", batch))

        def on_predict_batch_begin(self, batch, logs=None):
            calls.append(("predict begin", batch))

        def on_predict_batch_end(self, batch, logs=None):
            calls.append(("predict end", batch, len(logs["outputs"])))

    x, y = data
    net = regression()
    steps = [(name, batch) for batch in range(3) for name in ("begin", "end")]
    tests = [(f"test {name}", batch) for name, batch in steps]
    net.fit(x, y, batch_size=8, validation_data=(x, y), callbacks=Every(), verbose=0)
    assert calls == steps + tests
    calls.clear()
    logs = net.evaluate(x, y, batch_size=8, callbacks=Every(), verbose=0)
    assert calls == tests and logs == net.evaluate(x, y, batch_size=8, verbose=0)
    calls.clear()
    batches = [(x[i : i + 8], y[i : i + 8]) for i in (0, 8, 16)]
    assert net.evaluate(iter(batches), callbacks=Every(), verbose=0) == pytest.approx(logs, rel=1e-6) and calls == tests
    for given in (x, (some for some, _ in batches)):
        calls.clear()
        result = net.predict(given, batch_size=8 if given is x else None, callbacks=Every())
        assert np.array_equal(result, net.predict(x, batch_size=8))
        assert [call for call in calls if call[0] == "predict end"] == [
            ("predict end", i, n) for i, n in enumerate((8, 8, 4))
        ]


def test_an_evaluation_inside_another_leaves_it_as_it_is(data):
    x, y = data
    net = regression()
    inside = nn.LambdaCallback(on_test_batch_end=lambda batch, logs: net.evaluate(x[:3], y[:3], verbose=0))
    assert net.evaluate(x, y, batch_size=8, callbacks=inside, verbose=0) == net.evaluate(x, y, batch_size=8, verbose=0)


def test_schedules_of_the_epoch_alone(data):
    seen = []

    def halved(epoch):
        seen.append(epoch)
        return 0.1 / 2**epoch

    def kept(epoch, rate=None):
        return rate

    for schedule, expected in (
        (halved, [0.1, 0.05]),
        (kept, [0.1, 0.1]),
        (nn.schedules.ExponentialDecay(0.4, 1, 0.5), [0.4, 0.2]),
    ):
        net = regression(nn.SGD(0.1))
        net.fit(*data, epochs=2, callbacks=nn.LearningRateScheduler(schedule), verbose=0)
        assert net.history.history["learning_rate"] == pytest.approx(expected)
    assert seen == [0, 1]


def test_a_checkpoint_of_code_is_refused_before_training(data, tmp_path):
    class Coded(nn.Model):
        def __init__(self, units):
            super().__init__(name="coded")
            self.out = nn.Dense(units)

        def call(self, x):
            return self.out(x)

    net = Coded(2)
    net.compile("sgd", "mse")
    with pytest.raises(TypeError, match=r"ModelCheckpoint: .*coded.* no configuration.*\['units'\].*save_weights_only=True"):
        net.fit(*data, callbacks=nn.ModelCheckpoint(tmp_path / "a.safetensors"), verbose=0)
    assert net.training.update == 0
    weights = nn.ModelCheckpoint(tmp_path / "{epoch}.safetensors", save_weights_only=True)
    net.fit(*data, callbacks=weights, verbose=0)
    assert [path.name for path in tmp_path.iterdir()] == ["1.safetensors"]


def test_files_that_cannot_be_written_are_told_before_training(data, tmp_path):
    net = regression()
    for make, who in ((nn.ModelCheckpoint, "ModelCheckpoint"), (nn.CSVLogger, "CSVLogger")):
        for folder in ("/proc/none", "/proc"):
            with pytest.raises(OSError, match=f"^{who}: cannot write {folder}/a.safetensors: ") as error:
                net.fit(*data, callbacks=make(f"{folder}/a.safetensors"), verbose=0)
            assert isinstance(error.value, FileNotFoundError)
    assert net.training.update == 0


def batches(data, count):
    x, y = data
    return ((x[:4], y[:4]) for _ in range(count))


def test_an_iterator_that_runs_out(data, recwarn):
    net = regression()

    def told():
        texts = [str(warning.message) for warning in recwarn.list]
        recwarn.clear()
        return texts

    history = net.fit(batches(data, 7), epochs=3, steps_per_epoch=5, verbose=0)
    assert told() == ["x ran out after 7 batches, 15 were expected; training stops"]
    assert net.training.update == 7 and len(history.history["loss"]) == 2 and not net.training.thread
    history = net.fit(batches(data, 10), epochs=3, steps_per_epoch=5, validation_data=data, verbose=0)
    assert told() == ["x ran out after 10 batches, 15 were expected; training stops"]
    assert [len(values) for values in history.history.values()] == [2, 2]
    net.fit(batches(data, 15), epochs=3, steps_per_epoch=5, verbose=0)
    net.fit(list(batches(data, 2)).__iter__(), verbose=0)
    assert told() == []
    with pytest.raises(ValueError, match="expected at least one batch, got none"):
        net.fit(batches(data, 0), epochs=3, steps_per_epoch=5, verbose=0)
    net.evaluate(batches(data, 2), steps=3, verbose=0)
    net.predict(batches(data, 2), steps=3)
    assert told() == ["x ran out after 2 batches, 3 were expected"] * 2
    stop = nn.LambdaCallback(on_train_batch_end=lambda batch, logs: setattr(net, "stop_training", True))
    net.fit(batches(data, 7), epochs=3, steps_per_epoch=5, callbacks=stop, verbose=0)
    assert told() == []


class Plain:
    """What can write, and no more."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


@pytest.mark.parametrize("make", [Plain, lambda: None, io.StringIO])
def test_any_stdout_will_do(data, monkeypatch, make):
    net, out = regression(), make()
    monkeypatch.setattr("sys.stdout", out)
    rate = nn.LearningRateScheduler(lambda epoch: 0.1, verbose=1)
    net.fit(*data, epochs=2, callbacks=rate)
    net.evaluate(*data)
    net.predict(data[0], verbose=1)
    text = out.text if isinstance(out, Plain) else out.getvalue() if out else ""
    assert text.count("epoch 1") == text.count("epoch 2") == (0 if out is None else 2)


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 200])
def test_narrow_terminals_show_the_epoch_and_the_count(data, monkeypatch, capsys, width):
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("nnpy.training.progress.REFRESH", -1.0)
    net = regression(metrics=["mse", "mean_squared_error"])
    net.fit(*data, batch_size=10, epochs=2, callbacks=Recorder())
    out = capsys.readouterr().out
    bars = [line for line in out.replace("\r", "\n").splitlines() if re.search("[012]/2 .*2/2", line)]
    assert bars and all("epoch" in line for line in bars)
    assert ("mean_squared_error" in "".join(bars)) == (width >= 200)


def test_layout_of_the_bar():
    assert layout(200, 25, 1875)[0] == 40
    for width in range(1, 200):
        for epochs, steps in ((1, 5), (25, 1875), (100, None)):
            bar, time_left, room = layout(width, epochs, steps)
            used = len(f"epoch {epochs}/{epochs} ") + len(f"{steps}/{steps}" if steps else "10000/?")
            used += (bar + 1 if bar else 0) + (8 if time_left else 0) + (room + 1 if room else 0)
            assert used <= width or not (bar or time_left or room)
    assert layout(80, 25, 1875)[2] >= len("loss 0.1234")
    logs = {"loss": 0.1234, "accuracy": 0.5}
    assert [fitting(shown_values(logs), room) for room in (0, 11, 27, 28)] == [
        "",
        "loss 0.1234",
        "loss 0.1234",
        "loss 0.1234  accuracy 0.5000",
    ]


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


class Undecided(nn.metrics.MeanSquaredError):
    direction = None


def two_heads():
    source = nn.Input((5,))
    net = nn.Model(source, {"a": nn.Dense(2)(source), "val_b": nn.Dense(2)(source)})
    net.compile("sgd", "mse", metrics={"a": [Undecided("score"), nn.metrics.MeanSquaredError("accuracy_error")],
                                       "val_b": ["accuracy"]})  # fmt: skip
    return net


@pytest.mark.parametrize(
    "monitor, direction",
    [
        ("loss", "min"), ("val_loss", "min"), ("a_loss", "min"), ("val_a_loss", "min"), ("val_b_loss", "min"),
        ("val_val_b_loss", "min"), ("val_b_accuracy", "max"), ("val_val_b_accuracy", "max"),
        ("a_accuracy_error", "min"), ("val_a_accuracy_error", "min"),
    ],
)  # fmt: skip
def test_which_direction_is_better_is_the_metrics_word(monitor, direction):
    stop = nn.EarlyStopping(monitor, patience=1)
    stop.set_model(two_heads())
    stop.on_train_begin()
    for epoch, value in enumerate([1.0, 2.0, 3.0]):
        stop.on_epoch_end(epoch, {monitor: value})
    assert stop.best == (3.0 if direction == "max" else 1.0)


@pytest.mark.parametrize(
    "monitor, why", [("val_a_score", "its metric does not say"), ("accuracy", "the model has loss, a_loss, val_b_loss")]
)
@pytest.mark.parametrize(
    "make", [nn.EarlyStopping, lambda **o: nn.ModelCheckpoint("a.safetensors", save_best_only=True, **o)]
)
def test_a_direction_that_is_not_known_is_refused_before_training(rng, make, monitor, why):
    net = two_heads()
    x, y = rng.normal(size=(8, 5)), rng.normal(size=(8, 2))
    with pytest.raises(ValueError, match=f"whether a larger '{monitor}' is better is not known .{why}.*give mode="):
        net.fit(x, {"a": y, "val_b": y}, callbacks=make(monitor=monitor), verbose=0)
    assert net.history.epoch == []
    callback = make(monitor=monitor, mode="max")
    callback.set_model(net)
    callback.on_train_begin()


def test_hooks_may_be_set_on_an_object_or_be_static(data):
    seen = []

    class Static(nn.Callback):
        @staticmethod
        def on_train_batch_end(batch, logs=None):
            seen.append(("static", batch))

    own = nn.Callback()
    own.on_epoch_end = lambda epoch, logs=None: seen.append(("epoch", epoch))
    own.on_train_batch_begin = lambda batch, logs=None: seen.append(("own", batch))
    regression().fit(*data, batch_size=10, callbacks=[Static(), own], verbose=0)
    assert seen == [("own", 0), ("static", 0), ("own", 1), ("static", 1), ("epoch", 0)]
    seen.clear()
    regression().fit(*data, batch_size=10, callbacks=[Static()], verbose=0)
    assert seen == [("static", 0), ("static", 1)]


def test_states_of_callbacks_go_on_where_they_were(data):
    values = [3.0, 2.0, 2.5, 2.2, 2.1, 2.0]
    net = regression(nn.SGD(0.1))
    whole = nn.EarlyStopping(patience=4, restore_best_weights=True)
    drive(whole, values, net)
    first, second = (nn.EarlyStopping(patience=4, restore_best_weights=True) for _ in range(2))
    drive(first, values[:3], net)
    second.set_model(net)
    second.on_train_begin()
    second.set_state(first.get_state())
    for epoch, value in enumerate(values[3:], 3):
        second.on_epoch_end(epoch, {"val_loss": value})
    assert (second.wait, second.best, second.best_epoch, second.stopped_epoch) == (
        whole.wait, whole.best, whole.best_epoch, whole.stopped_epoch,
    ) and whole.stopped_epoch == 5  # fmt: skip
    assert all(np.array_equal(a, b) for a, b in zip(first.best_weights, second.best_weights, strict=True))
    keep, again = (nn.ModelCheckpoint("a.safetensors", save_best_only=True) for _ in range(2))
    keep.best = 0.5
    again.set_state(keep.get_state())
    assert again.best == 0.5
    rate = nn.LearningRateScheduler(lambda epoch, rate: rate / 2)
    rate.set_model(net)
    rate.on_epoch_begin(0)
    state = rate.get_state()
    rate.on_epoch_begin(1)
    rate.set_state(state)
    assert net.optimizer.learning_rate == 0.05
    history = nn.History()
    history.set_state(net.fit(*data, epochs=2, verbose=0).get_state())
    assert history.history == net.history.history and history.epoch == [0, 1]
    assert history.history["loss"] is not net.history.history["loss"] and nn.TerminateOnNaN().get_state() == {}


def test_the_room_of_callbacks_shows_callbacks_alone():
    assert set(dir(nn.callbacks)) == set(nn.callbacks.__all__)
    found = [getattr(nn.callbacks, name) for name in nn.callbacks.__all__]
    assert all(issubclass(thing, nn.Callback) for thing in found)
    assert nn.callbacks.EarlyStopping is nn.EarlyStopping


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("name", ["best.safetensors", "[a]-{epoch}-{loss:.2f}.safetensors"])
def test_a_checkpoint_of_a_training_that_goes_on_keeps_its_best(rng, tmp_path, name, weights):
    x, path = rng.normal(size=(40, 5)), tmp_path / name
    y = x[:, :2]

    def checkpoint(**options):
        return nn.ModelCheckpoint(path, "loss", save_best_only=True, save_weights_only=weights, **options)

    def files():
        return {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    net = regression(nn.SGD(0.1))
    first = checkpoint()
    net.fit(x, y, epochs=4, callbacks=first, verbose=0)
    before = files()

    def again(epochs=1):
        if weights:
            made = regression(nn.SGD(0.1))
            made.load_weights(max(tmp_path.iterdir(), key=lambda file: file.stat().st_mtime_ns))
            return made, {"initial_epoch": 4, "epochs": 4 + epochs}
        return nn.load_model(max(tmp_path.iterdir(), key=lambda file: file.stat().st_mtime_ns)), {"epochs": epochs}

    worse, options = again()
    worse.optimizer.learning_rate = 0.0
    with pytest.warns(nn.AdviceWarning, match="^ModelCheckpoint: training goes on; the best loss so far is ") as told:
        worse.fit(x, y + 9, callbacks=checkpoint(), verbose=0, **options)
    assert f"{first.best:g}" in str(told[0].message) and files() == before
    better, options = again(30)
    with pytest.warns(nn.AdviceWarning, match="training goes on"):
        better.fit(x, y, callbacks=checkpoint(), verbose=0, **options)
    assert files() != before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        anew = regression(nn.SGD(0.0))  # another training, which does not go on
        last = checkpoint()
        anew.fit(x, y + 9, callbacks=last, verbose=0)
        worse.fit(x, y + 9, callbacks=checkpoint(initial_value_threshold=1e9), verbose=0, **options)
    assert last.best == anew.history.history["loss"][0]


def test_foreign_and_other_files_hold_no_best(rng, tmp_path):
    x, net = rng.normal(size=(8, 5)), regression()
    net.fit(x, x[:, :2], verbose=0)
    (tmp_path / "a.safetensors").write_bytes(b"no tensors")
    net.save(tmp_path / "b.safetensors")
    net.fit(x, x[:, :2], callbacks=nn.ModelCheckpoint(tmp_path / "c.safetensors", "loss", save_best_only=True), verbose=0)
    for name, monitor in (("a", "loss"), ("b", "loss"), ("c", "val_loss")):
        best = nn.ModelCheckpoint(tmp_path / f"{name}.safetensors", monitor, save_best_only=True)
        net.fit(x, x[:, :2], callbacks=best, validation_data=(x, x[:, :2] + 99), verbose=0)
        assert best.best == net.history.history[monitor][0]
