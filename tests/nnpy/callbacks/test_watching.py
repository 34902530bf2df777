"""What is seen of a training: curves, TensorBoard's files, displays; and Timer."""

import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import nnpy as nn
from nnpy.callbacks import BackupAndRestore, ProgbarLogger, TensorBoard, Timer
from nnpy.training.displays import Notebook
from nnpy.training.values import step_time

X, Y = np.random.default_rng(0).normal(size=(64, 5)), np.random.default_rng(1).normal(size=(64, 2))


def network(rate=0.01):
    nn.set_seed(1)
    net = nn.Sequential([nn.Input((5,)), nn.Dense(8, activation="relu"), nn.Dense(2)])
    net.compile(nn.SGD(rate), "mse", metrics=["mae"])
    return net


# curves


def test_history_plots_every_value(tmp_path):
    pytest.importorskip("matplotlib")
    net = network()
    history = net.fit(
        X, Y, epochs=6, validation_data=(X, Y), validation_freq=2, verbose=0,
        callbacks=nn.LearningRateScheduler(lambda epoch, rate: rate / 2),
    )  # fmt: skip
    picture = history.plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG") and picture._repr_png_().startswith(b"\x89PNG")
    panels = {axis.get_title(): axis for axis in picture.axes}
    assert list(panels) == ["loss", "mae", "learning_rate"]
    training, validation, best = panels["loss"].lines
    assert list(training.get_xdata()) == [1, 2, 3, 4, 5, 6] and list(training.get_ydata()) == history.history["loss"]
    assert list(validation.get_xdata()) == [2, 4, 6] and list(validation.get_ydata()) == history.history["val_loss"]
    assert best.get_label() == "best loss" and best.get_xdata()[0] == 1 + int(np.argmin(history.history["loss"]))
    assert panels["learning_rate"].get_yscale() == "log"


def test_plots_that_cannot_be(monkeypatch):
    with pytest.raises(ValueError, match="expected at least one epoch"):
        nn.History().plot()
    from nnpy import plots

    plots._picture.cache_clear()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r'plot: needs matplotlib; pip install "nnpy-cpu\[plot\]"'):
        network().fit(X, Y, verbose=0).plot()


# TensorBoard


def events(folder):
    """(tag, step, value) in TFRecords: length, its check sum, an Event, its check sum."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = Path(folder).glob("events.out.tfevents.*")
    content, place, found = path.read_bytes(), 0, []
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        event = Event.FromString(content[place + 12 : place + 12 + length])
        found += [(value.tag, event.step, value) for value in event.summary.value]
        place += length + 16
    return found


def test_event_files(tmp_path):
    pytest.importorskip("tensorboardX")
    net = network()
    board = TensorBoard(tmp_path, histogram_freq=2, write_steps_per_second=True, update_freq=3)
    history = net.fit(X, Y, batch_size=16, epochs=3, validation_split=0.25, callbacks=board, verbose=0).history
    train = events(tmp_path / "train")
    for name in ("loss", "mae"):
        values = [value.simple_value for tag, _, value in train if tag == f"epoch_{name}"]
        np.testing.assert_allclose(values, history[name], rtol=1e-6)
    np.testing.assert_allclose(
        [v.simple_value for tag, _, v in events(tmp_path / "validation") if tag == "epoch_loss"], history["val_loss"]
    )
    rates = [(step, value.simple_value) for tag, step, value in train if tag == "epoch_learning_rate"]
    assert [step for step, _ in rates] == [0, 1, 2] and np.allclose([rate for _, rate in rates], 0.01)
    weights = [(tag, step) for tag, step, value in train if value.HasField("histo")]
    assert [step for tag, step in weights if tag.endswith("kernel")] == [0, 0, 2, 2] and len(weights) == 8
    assert sum(tag == "epoch_steps_per_second" for tag, _, _ in train) == 3
    assert [step for tag, step, _ in train if tag == "batch_loss"] and board._writers == {}
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(tmp_path / "train")).Reload()
    np.testing.assert_allclose([event.value for event in read.Scalars("epoch_loss")], history["loss"], rtol=1e-6)


def test_tensorboard_refuses(tmp_path, monkeypatch):
    for wrong in ({"update_freq": "step"}, {"histogram_freq": -1}, {"write_steps_per_second": 1}):
        with pytest.raises((TypeError, ValueError), match=f"TensorBoard: expected {next(iter(wrong))}"):
            TensorBoard(tmp_path, **wrong)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="TensorBoard: cannot write to"):
        network().fit(X, Y, callbacks=TensorBoard(tmp_path / "file"), verbose=0)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ModuleNotFoundError, match=r'needs tensorboardX; pip install "nnpy-cpu\[tensorboard\]"'):
        TensorBoard(tmp_path)


# time


def test_timer_stops_in_mid_epoch_and_validates(monkeypatch):
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr("nnpy.callbacks.timer.time", types.SimpleNamespace(perf_counter=lambda: clock.now))

    def tick(batch, logs):
        clock.now += 1.0

    net, timer = network(), Timer(10)
    ticking = nn.LambdaCallback(on_train_batch_end=tick)
    history = net.fit(
        X, Y, batch_size=8, epochs=5, validation_split=0.25, callbacks=[ticking, timer], verbose=0
    )
    assert net.training.update == 10 and len(history.history["val_loss"]) == 2 and timer.seconds == 10


def test_a_run_that_goes_on_has_the_time_that_is_left(tmp_path, monkeypatch):
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr("nnpy.callbacks.timer.time", types.SimpleNamespace(perf_counter=lambda: clock.now))

    def tick(batch, logs):
        clock.now += 1.0

    def fail(epoch, logs):
        if epoch == 1:
            raise RuntimeError

    backup = BackupAndRestore(tmp_path)
    calls = [nn.LambdaCallback(on_train_batch_end=tick), Timer(12), backup]
    failing = nn.LambdaCallback(on_epoch_begin=fail)
    with pytest.raises(RuntimeError):
        network().fit(X, Y, batch_size=8, epochs=5, callbacks=[*calls, failing], verbose=0)
    net, clock.now = network(), 1000.0
    net.fit(X, Y, batch_size=8, epochs=5, callbacks=calls, verbose=0)
    assert net.training.update == 12


@pytest.mark.parametrize("wrong", [0, -1, "1:00", float("nan")])
def test_timer_refuses(wrong):
    with pytest.raises((TypeError, ValueError), match="Timer: expected max_time"):
        Timer(wrong)


# displays


def test_the_time_of_a_step():
    times = [step_time(seconds) for seconds in (2.0, 0.5, 1.234e-3, 7.1e-6)]
    assert times == ["2 s/step", "500 ms/step", "1.23 ms/step", "7.1 us/step"]


class Shown:
    """In the place of IPython: what is displayed, and each change of it."""

    def __init__(self):
        self.texts = []

    def module(self):
        def display(made, display_id):
            assert display_id is True
            return types.SimpleNamespace(update=self.texts.append)

        class ZMQInteractiveShell:
            pass

        shell = types.ModuleType("IPython")
        shell.get_ipython = ZMQInteractiveShell
        shell.display = types.ModuleType("IPython.display")
        shell.display.HTML, shell.display.display = str, display
        return shell


def test_a_notebook_shows_a_bar_and_lines(monkeypatch, capsys):
    shown = Shown()
    shell = shown.module()
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", shell.display)
    monkeypatch.setattr("nnpy.training.progress.REFRESH", -1.0)
    net = network()
    net.fit(X, Y, batch_size=16, epochs=2, callbacks=nn.LambdaCallback(on_train_batch_end=lambda batch, logs: None))
    bars = [text for text in shown.texts if "<progress" in text]
    assert any("value=3 max=4" in text and "epoch 2/2 3/4" in text and "loss " in text for text in bars)
    assert "/step" in bars[-1] and " left" in bars[-1] and shown.texts[-1] == ""
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["1/2", "2/2"]
    shown.texts.clear()
    display = Notebook(None)
    display.start()
    display.begin("epoch 1/1")
    display.update(5, {"<b>": 1.0}, "2 ms/step")
    assert shown.texts[-1] == "<progress></progress> <code>epoch 1/1 5/?  &lt;b&gt; 1.0000  2 ms/step</code>"


def test_a_logger_that_is_given_takes_the_place_of_fits_own(capsys):
    network().fit(X, Y, epochs=2, verbose=0, callbacks=ProgbarLogger(2))
    assert len(capsys.readouterr().out.splitlines()) == 2
    network().fit(X, Y, epochs=2, verbose=2, callbacks=ProgbarLogger(0))
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="verbose: expected"):
        ProgbarLogger(3)
