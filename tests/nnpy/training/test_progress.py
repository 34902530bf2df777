"""How progress is shown: on terminals of any width, and where stdout is closed, fails, or is none."""

import io
import re

import numpy as np
import pytest
from regression import Recorder, regression

import nnpy as nn
from nnpy.training.values import fitting, layout, shown_values


@pytest.fixture
def data(rng):
    return rng.normal(size=(20, 5)), rng.normal(size=(20, 2))


class Failing(io.StringIO):
    """A stdout whose disk is full, or whose pipe is closed, after some lines."""

    def __init__(self, error, lines):
        super().__init__()
        self.error, self.left = error, lines

    def flush(self):
        self.left -= 1
        if self.left < 0:
            raise self.error


@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left"), ValueError("closed")]
)
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
